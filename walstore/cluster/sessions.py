"""Which commands of which clients were applied, and their results (docs/machines.md, "Sessions").

Sans-IO, and the same on every node: what is decided depends on the entries of the log alone.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from walstore.cluster.commands import Command
from walstore.cluster.machine_errors import CommandRefusedError, ResultTooLargeError
from walstore.replication.requests import Ask, Status
from walstore.snapshot_files import UnusableSnapshotError

__all__ = [
    "RESULTS_BYTES_MAX",
    "RESULT_BYTES_MAX",
    "SESSIONS_MAX",
    "WINDOW",
    "Outcome",
    "Sessions",
    "encode_reason",
    "result_of",
]

# All nodes must have the same, or they would decide differently.
SESSIONS_MAX = 4096
"""Open sessions."""

RESULT_BYTES_MAX = 64 << 10
"""Largest result of a command."""

RESULTS_BYTES_MAX = 64 << 20
"""All results that are kept."""

WINDOW = 64
"""Commands of one session that may be under way at the same time."""

_COUNT = struct.Struct("<I")
_SESSION = struct.Struct("<QQI")
_RESULT = struct.Struct("<QBIQ")


class Outcome(NamedTuple):
    """What became of a command.

    Attributes:
        status: one of the first six.
        lsn: the entry that it was applied at; of OPEN the session.
        data: its result, or why there is none.
    """

    status: Status
    lsn: int
    data: bytes = b""


def encode_reason(reason: object, size_max: int = RESULT_BYTES_MAX) -> bytes:
    """Why something is not done, as bytes. What cannot be encoded, as half of a surrogate pair that
    came with a command, is replaced: a refusal must not end the machine."""
    return str(reason).encode(errors="replace")[:size_max]


def result_of(status: Status, data: bytes) -> bytes:
    """The result of a command that was applied.

    Raises:
        CommandRefusedError, ResultTooLargeError
    """
    if status is Status.REFUSED:
        raise CommandRefusedError(data.decode(errors="replace"))
    if status is Status.TOO_LARGE:
        raise ResultTooLargeError(data.decode(errors="replace"))
    assert status is Status.DONE, status
    return data


class _Session:
    """An open one.

    Attributes:
        answered: results below this number are not asked for any more.
        results: of commands from there on, by sequence.
    """

    __slots__ = ("answered", "results", "size_bytes")

    def __init__(self, answered: int = 1) -> None:
        self.answered = answered
        self.results: dict[int, Outcome] = {}
        self.size_bytes = 0

    def forget_below(self, answered: int) -> None:
        if answered <= self.answered:
            return
        self.answered = answered
        for sequence in [known for known in self.results if known < answered]:
            self.size_bytes -= len(self.results.pop(sequence).data)

    def keep(self, sequence: int, outcome: Outcome) -> None:
        self.results[sequence] = outcome
        self.size_bytes += len(outcome.data)


class Sessions:
    """The table, with the session that was used last at its end.

    Args:
        sessions_max, results_bytes_max: as above; tests ask for less.
    """

    def __init__(
        self, sessions_max: int = SESSIONS_MAX, results_bytes_max: int = RESULTS_BYTES_MAX
    ) -> None:
        self._sessions_max = sessions_max
        self._results_bytes_max = results_bytes_max
        self._sessions: dict[int, _Session] = {}
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def size_bytes(self) -> int:
        """Of all results that are kept."""
        return self._size_bytes

    def take(self, lsn: int, command: Command, apply: Callable[[], Outcome]) -> Outcome:
        """The next entry of the log. `apply` is called where the command is to be applied."""
        if command.ask is Ask.OPEN:
            self._sessions[lsn] = _Session()
            self._make_room()
            return Outcome(Status.DONE, lsn)
        if command.ask is Ask.CLOSE:
            self._close(command.session)
            return Outcome(Status.DONE, lsn)
        if command.session == 0:
            return apply()
        session = self._sessions.pop(command.session, None)
        if session is None:
            return Outcome(Status.EXPIRED, lsn)
        self._sessions[command.session] = session  # the one that was used last
        before_bytes = session.size_bytes
        try:
            return self._take(lsn, command, session, apply)
        finally:
            self._size_bytes += session.size_bytes - before_bytes
            self._make_room()

    def _take(
        self, lsn: int, command: Command, session: _Session, apply: Callable[[], Outcome]
    ) -> Outcome:
        session.forget_below(command.answered)
        known = session.results.get(command.sequence)
        if known is not None:
            return known
        if command.sequence < session.answered:
            return Outcome(Status.FORGOTTEN, lsn)
        if command.sequence >= session.answered + WINDOW:
            return Outcome(Status.BEYOND, lsn)
        outcome = apply()
        session.keep(command.sequence, outcome)
        return outcome

    def _make_room(self) -> None:
        """Closes those that were used the longest ago."""
        while len(self._sessions) > self._sessions_max or (
            self._size_bytes > self._results_bytes_max and len(self._sessions) > 1
        ):
            self._close(next(iter(self._sessions)))

    def _close(self, number: int) -> None:
        session = self._sessions.pop(number, None)
        if session is not None:
            self._size_bytes -= session.size_bytes

    # ---- in snapshots ----

    def encode(self) -> bytes:
        """All of it, in the order of use."""
        pieces = [_COUNT.pack(len(self._sessions))]
        for number, session in self._sessions.items():
            pieces.append(_SESSION.pack(number, session.answered, len(session.results)))
            for sequence, outcome in session.results.items():
                status, lsn, result = outcome
                pieces += (_RESULT.pack(sequence, status, len(result), lsn), result)
        return b"".join(pieces)

    def load(self, data: bytes) -> None:
        """Takes what `encode` gave, in the place of what is there.

        Raises:
            UnusableSnapshotError: it is something else. Nothing was changed.
        """
        try:
            loaded = _decoded(data)
        except (struct.error, ValueError) as error:
            raise UnusableSnapshotError(f"these are no sessions: {error}") from None
        self._sessions = loaded
        self._size_bytes = sum(session.size_bytes for session in loaded.values())


def _decoded(data: bytes) -> dict[int, _Session]:
    sessions: dict[int, _Session] = {}
    (count,) = _COUNT.unpack_from(data)
    at = _COUNT.size
    for _ in range(count):
        number, answered, results = _SESSION.unpack_from(data, at)
        at += _SESSION.size
        session = sessions[number] = _Session(answered)
        for _ in range(results):
            sequence, status, size, lsn = _RESULT.unpack_from(data, at)
            at += _RESULT.size
            session.keep(sequence, Outcome(Status(status), lsn, data[at : at + size]))
            at += size
        if len(session.results) != results:
            raise ValueError(f"two results of session {number} have one number")
    if at != len(data) or len(sessions) != count:
        raise ValueError(f"{count} of them in {len(data)} bytes")
    return sessions
