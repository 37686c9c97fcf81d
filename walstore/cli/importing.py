"""walstore import: read JSON lines into a collection."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, BinaryIO

import click

from walstore.cli import exits
from walstore.cli.documents import collection_argument
from walstore.cli.extended_json import BadJSONError, from_json
from walstore.cli.options import log_argument
from walstore.cli.output import Screen, complain, count
from walstore.cli.progress import Bar, progress_bar
from walstore.docstore import BulkWriteError, Collection, DocumentStore, InsertOne
from walstore.docstore.store import check_collection_name
from walstore.errors import LogLockedError, ReplicatedLogError, WALStoreError
from walstore.limits import DOCUMENT_BYTES_MAX
from walstore.wal.manager import FileWALManager

__all__ = ["BadLineError", "import_"]

_BATCH_DOCUMENTS = 1000
_BATCH_BYTES = 4 << 20
_LINE_BYTES_MAX = 4 * DOCUMENT_BYTES_MAX
"""JSON takes more than what is stored, up to six bytes for one of them in \\u escapes."""


class BadLineError(WALStoreError):
    """A line that cannot be imported.

    Attributes:
        line: its number, from 1.
        reason: why not.
    """

    def __init__(self, line: int, reason: str, hint: str = "") -> None:
        self.line = line
        self.reason = reason
        self.hint = hint
        super().__init__(f"line {line}: {reason}")


class _Import:
    """One run.

    Attributes:
        documents, lines: how many documents are imported, and up to which line.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self.documents = 0
        self.lines = 0
        self._inserting = 0  # up to which line a batch is being inserted

    def run(self, file: BinaryIO, bar: Bar, total_bytes: int) -> None:
        """Imports a file, batch after batch.

        Raises:
            BadLineError: the batch it is in, and all after it, are not imported.
        """
        batch: list[tuple[int, dict[str, Any]]] = []
        done_bytes = batch_bytes = number = 0
        for number, line in _lines(file):
            done_bytes += len(line)
            batch_bytes += len(line)
            if line.strip():
                batch.append((number, _document(number, line)))
            if len(batch) >= _BATCH_DOCUMENTS or batch_bytes >= _BATCH_BYTES:
                self._insert(batch, number)
                batch, batch_bytes = [], 0
                if total_bytes:
                    bar.update(done_bytes, total_bytes)
        self._insert(batch, number)

    def _insert(self, batch: list[tuple[int, dict[str, Any]]], last_line: int) -> None:
        self._inserting = last_line
        try:
            self._collection.bulk_write([InsertOne(document) for _line, document in batch])
        except BulkWriteError as error:
            self._inserting = 0
            raise BadLineError(batch[error.at][0], str(error.error), error.hint) from None
        self.documents += len(batch)
        self.lines, self._inserting = last_line, 0

    def so_far(self) -> str:
        """What has been imported."""
        done = "nothing was imported"
        if self.lines:
            done = f"lines 1 to {self.lines} were imported, {_count(self.documents)}, nothing after"
        if self._inserting:
            done += f", unless the lines up to {self._inserting} were just then"
        return done


@click.command("import")
@log_argument
@collection_argument
@click.argument("file", metavar="FILE")
def import_(log: str, collection: str, file: str) -> int:
    """Insert JSON lines into a collection.

    FILE may be - for standard input. Each line is a document; one without _id gets one. Documents
    are inserted in batches of up to 1000, each of which is in the log whole, durably, or not at
    all. At the first line that cannot be imported it stops, and says which lines were. The log, and
    the collection, are made where they are not there. The log of a node of a cluster is refused:
    documents reach it through the leader.

    \b
    Examples:
      walstore import LOG orders orders.jsonl
      tail -n +2001 orders.jsonl | walstore import LOG orders -

    \b
    Exit codes:
      0  all lines were imported            2  corruption
      3  not a log                          4  the system refused
      5  a writer has the log open          64 wrong usage, or a node's log
      65 a line that cannot be imported
    """
    check_collection_name(collection)  # before a log is made for it
    with (
        _opened(file) as lines,
        _writing(log) as wal,
        DocumentStore(wal) as store,
        progress_bar("importing", in_bytes=True) as bar,
    ):
        run = _Import(store[collection])
        try:
            run.run(lines, bar, _size(file))
        except BadLineError as error:
            hint = f"{error.hint}; {run.so_far()}" if error.hint else run.so_far()
            raise BadLineError(error.line, error.reason, hint) from None
        except BaseException:
            bar.stop()
            complain(run.so_far())
            raise
    Screen().line(f"imported {_count(run.documents)} into {collection}", "green")
    return exits.OK


def _count(number: int) -> str:
    return "1 document" if number == 1 else f"{count(number)} documents"


def _writing(log: str) -> FileWALManager:
    try:
        return FileWALManager(log)
    except LogLockedError as error:
        error.hint = "stop the writer first, or let it insert the documents itself"
        raise
    except ReplicatedLogError as error:
        error.hint = "insert the documents through the leader: DocumentStore on its node's log"
        raise


def _opened(file: str) -> AbstractContextManager[BinaryIO]:
    if file != "-":
        return open(file, "rb")
    if sys.stdin is None:
        raise click.UsageError("- is standard input, which is closed.")
    return nullcontext(sys.stdin.buffer)


def _size(file: str) -> int:
    """Of a file, in bytes; 0 where that cannot be told."""
    status = os.stat(file) if file != "-" else None
    return status.st_size if status and stat.S_ISREG(status.st_mode) else 0


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers; never much more than one in memory."""
    number = 0
    while line := file.readline(_LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > _LINE_BYTES_MAX:
            raise BadLineError(number, f"takes more than {_LINE_BYTES_MAX} bytes")
        yield number, line


def _document(number: int, line: bytes) -> dict[str, Any]:
    try:
        document = from_json(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        raise BadLineError(number, f"not UTF-8 at byte {error.start + 1}") from None
    except BadJSONError as error:
        raise BadLineError(number, str(error)) from None
    if not isinstance(document, dict):
        raise BadLineError(number, f"is a {type(document).__name__}, not an object")
    return document
