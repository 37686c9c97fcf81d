"""What can go wrong with state machines and their clients, as a tree.

WALStoreError
    MachineError
        CommandRefusedError                     the machine refuses the command; nothing was changed
        ResultTooLargeError (ValueError)        the command was applied, its result cannot be kept
        MachineStateError                       no snapshot and log from which to begin
        MachineFailedError                      the machine made a mistake, and applies no more
        AppliedTimeoutError (TimeoutError)      an entry was not applied in time
        ClusterUnavailableError (TimeoutError)  no node took the request: nothing was done
        CommandUnknownError (TimeoutError)      applied once, or never: not known
        SessionExpiredError                     the same, for good
"""

from __future__ import annotations

from walstore.errors import WALStoreError

__all__ = [
    "AppliedTimeoutError",
    "ClusterUnavailableError",
    "CommandRefusedError",
    "CommandUnknownError",
    "MachineError",
    "MachineFailedError",
    "MachineStateError",
    "ResultTooLargeError",
    "SessionExpiredError",
]


class MachineError(WALStoreError):
    """Something about a replicated state machine."""


class CommandRefusedError(MachineError):
    """The machine refuses a command, or a query, and has changed nothing. A machine raises it; who
    called it gets it with the same reason.

    Attributes:
        reason: why.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class ResultTooLargeError(MachineError, ValueError):
    """A command was applied, once, and its result is larger than can be kept; or the answer to a
    query is larger than can be sent.

    Attributes:
        reason: how large.
    """

    hint = "let the command return less, and query the rest in parts"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class MachineStateError(MachineError):
    """The state cannot be had without guessing; nothing was changed.

    Attributes:
        path: where the snapshots are.
        reason: what is missing.
    """

    hint = "remove this node's directory, and let it join again as a new node; or restore a backup"

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class MachineFailedError(MachineError):
    """The machine raised what is no refusal, and applies nothing more here.

    Attributes:
        lsn: the entry that was to be applied.
        reason: what it raised.
    """

    hint = "mend the machine, and start the node again: it goes on with this entry"

    def __init__(self, lsn: int, reason: str) -> None:
        self.lsn = lsn
        self.reason = reason
        super().__init__(f"entry {lsn} cannot be applied: {reason}")


class AppliedTimeoutError(MachineError, TimeoutError):
    """An entry was not applied on this node in time.

    Attributes:
        lsn: the entry.
        applied_lsn: how far this node is.
    """

    hint = "wait again, or ask another node"

    def __init__(self, lsn: int, applied_lsn: int, timeout_s: float) -> None:
        self.lsn = lsn
        self.applied_lsn = applied_lsn
        self.timeout_s = timeout_s
        super().__init__(
            f"entry {lsn} is not applied after {timeout_s:g} s; applied are those to {applied_lsn}"
        )


class ClusterUnavailableError(MachineError, TimeoutError):
    """No node took the request in time, or all refuse to talk to this client: nothing was done.

    Attributes:
        reasons: {node id: what it said, or why it was not reached}.
    """

    hint = "look at the nodes' status, and at the client's urls, secret and certificate; call again"

    def __init__(self, timeout_s: float, reasons: dict[str, str]) -> None:
        self.timeout_s = timeout_s
        self.reasons = reasons
        said = "; ".join(f"{node}: {why}" for node, why in sorted(reasons.items()))
        super().__init__(f"no node took the request: {said or 'none was asked in time'}")


class CommandUnknownError(MachineError, TimeoutError):
    """A node may have taken the command, and no answer came in time. It may be applied once, also
    later, or never. Or it is committed, and what it came to is not known here.

    Attributes:
        session, sequence: of the command.
        reasons: {node id: what it said, or what became of its connection}.
        lsn: of the command's entry, where it is committed.
    """

    hint = "read the state to find out; another command of this client is in no doubt"

    def __init__(
        self,
        session: int,
        sequence: int,
        timeout_s: float,
        reasons: dict[str, str],
        lsn: int | None = None,
    ) -> None:
        self.session = session
        self.sequence = sequence
        self.timeout_s = timeout_s
        self.reasons = reasons
        self.lsn = lsn
        known = (
            f"command {sequence} of session {session} may be applied or not, as far as is known "
            f"after {timeout_s:g} s"
        )
        if lsn is not None:
            known = f"the command is committed, as entry {lsn}, and what it came to is not known"
        said = "; ".join(f"{node}: {why}" for node, why in sorted(reasons.items()))
        super().__init__(f"{known}: {said}")


class SessionExpiredError(MachineError):
    """The session was closed to make room for others, before the answer of a command that was sent
    more than once. It was applied once, or never; it will not be applied any more.

    Attributes:
        session, sequence: of the command.
    """

    hint = "read the state to find out; the next call opens a new session"

    def __init__(self, session: int, sequence: int) -> None:
        self.session = session
        self.sequence = sequence
        super().__init__(
            f"session {session} was closed before the answer of command {sequence} was known"
        )
