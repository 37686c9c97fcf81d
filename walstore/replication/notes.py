"""Small files beside a log in which a node keeps what it must not forget: whole or absent after a
crash, and refused when damaged. They are JSON, sealed (sealed.py).
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

from walstore import durable
from walstore.errors import CorruptLogError
from walstore.replication.sealed import seal, unseal
from walstore.wal import files

__all__ = [
    "CLAIM_COPY_NAME",
    "CLAIM_NAME",
    "DAMAGE_NAME",
    "QUARANTINE_NAME",
    "read_note",
    "remove_note",
    "write_note",
]

CLAIM_NAME = "claim"
"""How far a log had been before it was damaged (docs/repair.md)."""

CLAIM_COPY_NAME = "claim.copy"
"""The same once more: nothing else says that a node lacks what it had."""

DAMAGE_NAME = "damage"
"""A record of a full segment was found damaged: to be cut when the log is next opened."""

QUARANTINE_NAME = "quarantine"
"""The log differs from that of the others."""

_BYTES_MAX = 1 << 20


def write_note(directory: str, name: str, content: dict[str, Any]) -> None:
    """Writes a note in the place of an earlier one; durable at return.

    Raises:
        OSError: the system refused; the earlier one stays.
    """
    path = os.path.join(directory, name)
    data = seal(json.dumps(content).encode())
    durable.write_whole(path, [data], new=path + ".new")


def read_note(directory: str, name: str) -> dict[str, Any] | None:
    """What a note says; None where there is none.

    Raises:
        CorruptLogError: it is damaged.
    """
    path = os.path.join(directory, name)
    if not os.path.exists(path):
        return None
    with files.opened(path) as fd:
        body = unseal(files.read_at(fd, _BYTES_MAX, 0))
    if body is None:
        raise CorruptLogError(path, 0, 0, "its checksum does not match")
    content: dict[str, Any] = json.loads(body)
    return content


def remove_note(directory: str, name: str) -> None:
    """Removes a note, if there is one; durable at return."""
    with contextlib.suppress(FileNotFoundError):
        files.remove(os.path.join(directory, name))
        files.sync_directory(directory)
