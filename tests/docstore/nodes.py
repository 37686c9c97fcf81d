"""What the tests of several nodes share: stores on them, and what these hold."""

from __future__ import annotations

from typing import Any

import xxhash

from tests.replication.nodes import Cluster
from walstore.docstore import DocumentSnapshots, DocumentStore
from walstore.docstore.values import encode
from walstore.replication import ReplicationOptions

FAST = ReplicationOptions(probe_ms=100, heartbeat_ms=50, retention_s=0.05)


def stores_of(nodes: Cluster) -> dict[str, DocumentStore]:
    return {name: DocumentStore(nodes[name], checkpoint_bytes=None) for name in nodes.names}


def starting(nodes: Cluster, name: str, **options: Any) -> DocumentStore:
    """A node that takes and gives snapshots, and its store."""
    snapshots = DocumentSnapshots(nodes.path(name))
    node = nodes.start(name, snapshots=snapshots, **options)
    return DocumentStore(node, checkpoint_bytes=None)


def close_all(stores: dict[str, DocumentStore]) -> None:
    for store in stores.values():
        store.close()


def digest_of(store: DocumentStore, lsn: int) -> str:
    """Of every document and index after an entry: equal states have equal ones."""
    view = store.at(lsn)
    collections = [
        [name, view[name].list_indexes(), view[name].find(sort="_id").to_list()]
        for name in view.list_collection_names()
    ]
    return xxhash.xxh3_128_hexdigest(encode(collections))


def live_digest_of(store: DocumentStore) -> str:
    """The same, of what the store has now."""
    collections = [
        [name, store[name].list_indexes(), store[name].find(sort="_id").to_list()]
        for name in store.list_collection_names()
    ]
    return xxhash.xxh3_128_hexdigest(encode(collections))
