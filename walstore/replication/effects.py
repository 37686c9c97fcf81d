"""What the core wants done. Sans-IO: the driver carries effects out, in order.

All effects of one call of the core are carried out before its next call, but for SendEntries,
SendSnapshot and Send, which only have to be begun, in order, per node. Those that change the disk
(PersistTerm, CutDiverged, Reset, TakeSnapshotPart) are durable there when they are done; only
AppendTermEntry and AppendRecords return before the disk has what they wrote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from walstore.replication.entries import Batch
from walstore.replication.message import (
    Ack,
    Confirm,
    Confirmed,
    SnapshotAck,
    SnapshotPart,
    SyncRequest,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
    WalEntry,
)

__all__ = [
    "AppendConfiguration",
    "AppendRecords",
    "AppendTermEntry",
    "ChangeRefused",
    "CutDiverged",
    "Effect",
    "Elected",
    "HoldAppends",
    "PersistTerm",
    "ReadReady",
    "ReadRefused",
    "Refuse",
    "Reset",
    "RoleChanged",
    "Send",
    "SendEntries",
    "SendSnapshot",
    "SetCommitted",
    "StopFollowing",
    "TakeSnapshotPart",
    "TransferFailed",
    "VoteFailed",
]


@dataclass(frozen=True, slots=True)
class PersistTerm:
    """Make the term durable: nothing that depends on it leaves the node before."""

    term: int


@dataclass(frozen=True, slots=True)
class AppendTermEntry:
    """Append the entry that begins a leadership; then call `written`."""

    term: int


@dataclass(frozen=True, slots=True)
class AppendRecords:
    """Append the batch's entries from from_lsn on (the ones before are held already).

    The log's last_lsn has risen when this is done; the core is told of durability by `durable`.
    When the log refuses them (a full disk), nothing else is to be done: the core sees the log's
    end at the next message and asks for them again, and the leader takes its time then.
    """

    batch: Batch
    from_lsn: int


@dataclass(frozen=True, slots=True)
class CutDiverged:
    """Keep the entries after after_lsn as a log of its own, then cut them; adopt the term."""

    after_lsn: int
    term: int


@dataclass(frozen=True, slots=True)
class Reset:
    """Begin the log anew at first_lsn, behind an entry of prev_term; adopt the term."""

    first_lsn: int
    prev_term: int
    term: int


@dataclass(frozen=True, slots=True)
class SetCommitted:
    """Everything up to here is committed. Only rises."""

    lsn: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send a small message; where there is no connection any more, nothing is to be done."""

    node: str
    body: (
        WalEntry
        | Ack
        | SyncRequest
        | SnapshotAck
        | VoteRequest
        | VoteResponse
        | Confirm
        | Confirmed
        | TimeoutNow
    )


@dataclass(frozen=True, slots=True, eq=False)
class SendEntries:
    """Read records from the log and send them as a WAL_ENTRY, then call `sent` with this effect.

    Where that cannot be done for now, because the log no longer holds from_lsn, call `not_sent`.
    One is under way per node at a time. One that is carried out later than in its turn is dropped
    when the core no longer `awaits` it: the connection, or the leadership, may be another.

    Attributes:
        node: to whom.
        prev_lsn, prev_term, committed_lsn, receipt: for the message.
        from_lsn: the first entry; prev_lsn + 1.
        bytes_max: about so much, but at least one batch.
    """

    node: str
    prev_lsn: int
    prev_term: int
    from_lsn: int
    bytes_max: int
    committed_lsn: int
    receipt: bool


@dataclass(frozen=True, slots=True, eq=False)
class SendSnapshot:
    """Send the part of a snapshot from `at` on, then call `snapshot_sent` with this effect.

    Where there is none yet, or that one is gone, call `not_sent`: the core begins again later.

    Attributes:
        node: to whom.
        lsn: of the snapshot under way; 0: any that reaches to first_lsn - 1 at least.
        at: the first byte.
        bytes_max: the most to send.
    """

    node: str
    lsn: int
    at: int
    bytes_max: int


@dataclass(frozen=True, slots=True)
class TakeSnapshotPart:
    """Write the part to the file beside the log (at == 0 begins a new one).

    With `last` the file is whole: check it, sync it, and hand it to the application.
    """

    part: SnapshotPart
    last: bool


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """The node leads, follows, or knows no leader, in this term. What was submitted as a leader
    and is not committed has an unknown fate when it leads no longer."""

    role: Literal["leader", "follower"]
    term: int
    leader_id: str | None


@dataclass(frozen=True, slots=True)
class Elected:
    """The campaign has been won; the effects that make the node lead come with this one."""

    term: int
    granted: frozenset[str]


@dataclass(frozen=True, slots=True)
class VoteFailed:
    """The campaign has been lost; why, by node."""

    term: int
    reasons: dict[str, str]


@dataclass(frozen=True, slots=True)
class Refuse:
    """The node broke the protocol: close its connection and say why. Nothing was changed."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class StopFollowing:
    """This leader lacks entries that are committed here. Nothing was cut; a person must decide.

    In this term nothing more is taken from it.
    """

    leader_id: str
    lsn: int
    reason: str


# ---- of a node that takes part in elections (walstore.raft) ----


@dataclass(frozen=True, slots=True)
class AppendConfiguration:
    """Append an entry of kind CONFIGURATION with this payload; then call `configured`."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class HoldAppends:
    """Let no appends of users in for now, or let them in again. A new leader lets them in."""

    hold: bool


@dataclass(frozen=True, slots=True)
class ReadReady:
    """A reader that waits until this node has applied lsn sees all that was acked before `read`."""

    read_id: int
    lsn: int


@dataclass(frozen=True, slots=True)
class ReadRefused:
    """The read cannot be answered here."""

    read_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class TransferFailed:
    """The leadership stays here, or is transferred to another node."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class ChangeRefused:
    """The membership was not changed."""

    reason: str


Effect = (
    PersistTerm
    | AppendTermEntry
    | AppendRecords
    | CutDiverged
    | Reset
    | SetCommitted
    | Send
    | SendEntries
    | SendSnapshot
    | TakeSnapshotPart
    | RoleChanged
    | Elected
    | VoteFailed
    | Refuse
    | StopFollowing
    | AppendConfiguration
    | HoldAppends
    | ReadReady
    | ReadRefused
    | TransferFailed
    | ChangeRefused
)
