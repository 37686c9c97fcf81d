"""Snapshots of a machine as files (walstore.snapshot_files; docs/machines.md, "Snapshots"): what
they hold, and MachineSnapshots, which gives them to other nodes.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from walstore import UnsupportedFormatError
from walstore.cluster.machine_errors import MachineStateError
from walstore.replication import TermOf
from walstore.snapshot_files import Kind, Place, SnapshotFiles, UnusableSnapshotError

__all__ = ["MachineSnapshots", "files_of", "parts_of", "pieces_of"]

DIRECTORY_NAME = "machine"
"""Inside of the log's."""

_VERSION = 1
_HEADER = struct.Struct("<II16sQQQ")


def pieces_of(place: Place, sessions: bytes, machine: Iterable[bytes]) -> Iterator[bytes]:
    """The header and content of a snapshot: the bytes of the sessions, and of the machine."""
    log_id = bytes.fromhex(place.log_id)
    yield _HEADER.pack(_VERSION, 0, log_id, place.lsn, place.term, len(sessions))
    yield sessions
    yield from machine


def parts_of(content: memoryview) -> tuple[bytes, bytes]:
    """The bytes of the sessions, and of the machine."""
    *_, sessions_bytes = _HEADER.unpack_from(content)
    rest = content[_HEADER.size :]
    return bytes(rest[:sessions_bytes]), bytes(rest[sessions_bytes:])


def _place_of(path: str, file: BinaryIO) -> Place:
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise UnusableSnapshotError("it does not begin as a snapshot does")
    version, _, log_id, lsn, term, _ = _HEADER.unpack(header)
    if version != _VERSION:
        raise UnsupportedFormatError(path, f"snapshot version {version}")
    return Place(log_id.hex(), lsn, term)


_KIND = Kind(b"WALMACH1", _place_of, MachineStateError, logging.getLogger("walstore.cluster"))


def files_of(path: str) -> SnapshotFiles:
    """The snapshots of the machine on the log in this directory."""
    return SnapshotFiles(os.path.join(path, DIRECTORY_NAME), _KIND)


class MachineSnapshots:
    """For `snapshots` of a ReplicationWALManager that a MachineHost is on. Every node should be
    given one: which of them leads, and which is behind, is not known before.

    Args:
        path: the log's directory, the same as the log's own.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._files = files_of(os.fspath(path))

    def newest(self, term_of: TermOf) -> tuple[int, str] | None:
        """On the leader: lsn and path of its newest snapshot that is whole and of the log whose
        terms these are, or None.

        Raises:
            UnsupportedFormatError: it was written by a newer walstore.
            OSError: the system refused.
        """
        return self._files.newest(term_of)

    def install(self, lsn: int, path: str) -> None:
        """On a follower: takes a snapshot over; durable at return. The host goes on from it once
        the log begins behind it.

        Raises:
            MachineStateError: it is not whole, or not of this entry. Nothing was changed.
            UnsupportedFormatError: it was written by a newer walstore.
            OSError: the system refused.
        """
        self._files.install(lsn, path)
