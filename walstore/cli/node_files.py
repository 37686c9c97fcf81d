"""What lies beside the log of a node, and belongs to it (docs/format.md)."""

from __future__ import annotations

from walstore.raft.ledger import COPY_NAME
from walstore.replication.addressing import ADDRESSES_NAME
from walstore.replication.log import CONFIGURATIONS_NAME
from walstore.replication.notes import (
    CLAIM_COPY_NAME,
    CLAIM_NAME,
    DAMAGE_NAME,
    QUARANTINE_NAME,
)
from walstore.replication.snapshots import INCOMING_NAME
from walstore.wal.keeping import DAMAGED_PREFIX

__all__ = ["meaning_of"]

_MEANINGS = {
    ADDRESSES_NAME: "where the other nodes are reached",
    CONFIGURATIONS_NAME: "who the nodes are",
    COPY_NAME: "the same",
    CLAIM_NAME: "how far the log had been before damage took some of it",
    CLAIM_COPY_NAME: "the same",
    DAMAGE_NAME: "damage that was found: the next start of the node looks for all of it",
    QUARANTINE_NAME: "entries that are not those of the other nodes",
    INCOMING_NAME: "a snapshot of the leader's, on its way",
}


def meaning_of(name: str) -> str | None:
    """What a file is; None: it is not a node's."""
    if name.startswith(DAMAGED_PREFIX):
        return "kept from a damaged log; may be removed when the node is whole"
    return _MEANINGS.get(name)
