"""Where the tests' stores live: opened, closed, and opened again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from walstore import FileWALManager
from walstore.docstore import Collection, DocumentStore
from walstore.replication import ReplicationWALManager

KINDS = ("file", "replicated")
SEGMENT_BYTES = 1 << 16

Contents = dict[str, dict[str, Any]]


def contents(store: DocumentStore) -> Contents:
    """Every document, by collection and by the text of its _id."""
    return {
        name: {repr(document["_id"]): document for document in store[name].find()}
        for name in store.list_collection_names()
    }


class Site:
    """A store and its log.

    Args:
        path: of the log.
        kind: one of KINDS.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        self.kind = kind
        self.log: FileWALManager | None = None
        self.store: DocumentStore | None = None

    def open(self, *, log_options: Any = None, **options: Any) -> DocumentStore:
        """Opens the log and the store on it."""
        assert self.store is None, "open already"
        given: dict[str, Any] = {"segment_bytes": SEGMENT_BYTES} | (log_options or {})
        if self.kind == "replicated":
            self.log = ReplicationWALManager(self.path, node_id="a", role="leader", **given)
        else:
            self.log = FileWALManager(self.path, **given)
        try:
            self.store = DocumentStore(self.log, **options)
        except BaseException:
            self.close()
            raise
        return self.store

    def things(self, **options: Any) -> Collection:
        """A collection of the store, which is opened where it is not."""
        store = self.store or self.open(**options)
        return store["things"]

    def close(self) -> None:
        """Closes both."""
        if self.store is not None:
            self.store.close()
        if self.log is not None:
            self.log.close()
        self.store = self.log = None

    def reopen(self, **options: Any) -> DocumentStore:
        """Closes and opens again."""
        self.close()
        return self.open(**options)

    def crashed(self, target: Path) -> Site:
        """What would be there if the process died now: a copy, while it goes on here."""
        assert self.store is not None
        target.mkdir()
        with self.store._checkpointing:  # a copy takes time, which a crash does not
            for child in sorted(self.path.iterdir()):
                if child.is_dir():
                    shutil.copytree(child, target / child.name)
                elif not child.name.startswith("spare-"):  # put to use at any time, no part of it
                    shutil.copyfile(child, target / child.name)
        return Site(target, self.kind)
