"""What the entries of a state machine hold (docs/machines.md, "In the log"). Sans-IO."""

from __future__ import annotations

import struct
from typing import NamedTuple

from walstore.errors import UnsupportedFormatError
from walstore.limits import LSN_MAX
from walstore.replication.requests import Ask

__all__ = ["KIND", "Command", "decode_command", "encode_command"]

KIND = 0x0C3D
"""Of their entries."""

VERSION = 1

_FIELDS = struct.Struct("<BB6xQQQ")
_IN_LOG = frozenset((Ask.OPEN, Ask.COMMAND, Ask.CLOSE))


class Command(NamedTuple):
    """An entry.

    Attributes:
        ask: OPEN, COMMAND or CLOSE.
        session: 0 in OPEN, and in a command without one.
        sequence: of a command in its session, from 1; otherwise a random number.
        answered: every command of the session below this number has its answer.
        data: what the machine is to apply.
    """

    ask: Ask
    session: int = 0
    sequence: int = 0
    answered: int = 0
    data: bytes = b""

    @property
    def key(self) -> tuple[int, int, int]:
        """The same for each copy of it in the log, and for nothing else."""
        return self.ask, self.session, self.sequence


def encode_command(command: Command) -> bytes:
    """The entry's payload."""
    ask, session, sequence, answered, data = command
    return _FIELDS.pack(VERSION, ask, session, sequence, answered) + data


def decode_command(path: str, lsn: int, payload: bytes) -> Command:
    """The command of an entry.

    Raises:
        UnsupportedFormatError: it was written by a newer walstore.
    """
    if len(payload) < _FIELDS.size or payload[0] != VERSION or payload[1] not in _IN_LOG:
        raise UnsupportedFormatError(path, f"the command of entry {lsn}")
    _, ask, session, sequence, answered = _FIELDS.unpack_from(payload)
    if max(session, sequence, answered) > LSN_MAX or any(payload[2:8]):
        raise UnsupportedFormatError(path, f"the command of entry {lsn}")
    return Command(Ask(ask), session, sequence, answered, payload[_FIELDS.size :])
