"""What import, export and query share: the collection that is named, and the store that has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from walstore.docstore import Collection, DocumentStore
from walstore.errors import WALStoreError
from walstore.wal.manager import FileWALManager

__all__ = ["NoSuchCollectionError", "collection_argument", "reading"]

F = TypeVar("F", bound=Callable[..., Any])

_NAMES_SHOWN = 20


class NoSuchCollectionError(WALStoreError):
    """The store has no collection of that name."""

    def __init__(self, path: str, name: str, names: list[str]) -> None:
        shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
        self.hint = f"it has {shown}" if names else "it has none"
        super().__init__(f"{path} has no collection {name!r}")


def collection_argument(function: F) -> F:
    """The collection's name."""
    return click.argument("collection", metavar="COLLECTION")(function)


@contextmanager
def reading(log: str, name: str) -> Iterator[Collection]:
    """A collection to read, also while another process writes it.

    Raises:
        NoSuchCollectionError; and as DocumentStore.
    """
    with FileWALManager(log, read_only=True) as wal, DocumentStore(wal) as store:
        names = store.list_collection_names()
        if name not in names:
            raise NoSuchCollectionError(log, name, names)
        yield store[name]
