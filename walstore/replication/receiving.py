"""What a follower makes of the messages that hold records. Sans-IO."""

from __future__ import annotations

from walstore.limits import BATCH_BYTES_MAX
from walstore.replication.entries import Batch, Run
from walstore.replication.errors import MessageError
from walstore.replication.message import MESSAGE_BYTES_MAX, WalEntry
from walstore.wal.records import (
    Records,
    configurations_in,
    parse_records,
    skip_records,
    term_runs,
)

__all__ = ["Joiner", "records_from"]


class Joiner:
    """Joins the parts of large batches, per connection, and says which entries a message holds."""

    def __init__(self) -> None:
        self._parts: dict[str, list[WalEntry]] = {}
        self._terms: dict[str, int] = {}

    def forget(self, node: str) -> None:
        """The connection is gone, and what it left unfinished."""
        self._parts.pop(node, None)
        self._terms.pop(node, None)

    def batch(self, node: str, term: int, message: WalEntry) -> Batch | None:
        """What the core is to see, or None while parts are missing. Parts of another term than the
        message's were of a leadership that ended amid a batch: the rest does not come.

        Raises:
            MessageError: the parts do not belong together.
            RefusedRecordsError: the records are none.
        """
        if self._terms.get(node) != term:
            self.forget(node)
            self._terms[node] = term
        prev_lsn, prev_term = message.prev_lsn, message.prev_term
        if not len(message.records) and not message.more:
            # A leader's sign of life; it may come amid the parts of a batch, and is none of them.
            return Batch(prev_lsn, prev_term, message.committed_lsn, receipt=message.receipt)
        parts = self._parts.get(node, [])
        if parts and _head(parts[0]) != _head(message):
            raise MessageError("a part of a batch amid another's")
        if message.more:
            if sum(len(part.records) for part in parts) > BATCH_BYTES_MAX + MESSAGE_BYTES_MAX:
                raise MessageError("a batch larger than any")
            self._parts.setdefault(node, []).append(message)
            return None
        data: bytes | memoryview = message.records
        if parts:
            data = b"".join([*(part.records for part in parts), message.records])
            del self._parts[node]
        records = parse_records(data, seed=message.seed, prev_lsn=prev_lsn, prev_term=prev_term)
        return Batch(
            prev_lsn,
            prev_term,
            message.committed_lsn,
            tuple(Run(*run) for run in term_runs(records)),
            records.last_lsn,
            records,
            message.receipt,
            configurations_in(records),
        )


def _head(part: WalEntry) -> tuple[int, int, int]:
    return part.prev_lsn, part.prev_term, part.seed


def records_from(batch: Batch, lsn: int) -> Records:
    """The records of a batch from an entry on."""
    assert isinstance(batch.data, Records)
    return skip_records(batch.data, lsn)
