"""Snapshots: the whole state in one file (docs/docstore.md, "Checkpoints"; what surrounds it there
is walstore.snapshot_files').

    frames: length (u32), MessagePack
        header   [version, log_id, lsn, term, state_lsn, [[name, [index, ...], count], ...]]
                 index: [name, [[path, 1 or -1], ...], unique]
        batches  [document, ...]: of the first collection, then of the second, ...

Sans-IO: state in, bytes out, and back.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from operator import itemgetter
from typing import BinaryIO, NamedTuple

from walstore.docstore.index import Index, IndexSpec
from walstore.docstore.state import CollectionState, State
from walstore.docstore.values import Document, decode, encode, key_of
from walstore.errors import UnsupportedFormatError

__all__ = ["Copy", "Position", "copy_of_state", "position_of", "read", "write"]

VERSION = 1
BATCH_DOCUMENTS = 256

_LENGTH = struct.Struct("<I")

Copy = list[tuple[str, list[IndexSpec], list[Document]]]
"""Name, indexes and documents of each collection, at one moment."""


class Position(NamedTuple):
    """Where in which log a snapshot stands.

    Attributes:
        log_id: of the log.
        lsn, term: the last entry that it covers.
        state_lsn: the last one that counted.
    """

    log_id: str
    lsn: int
    term: int
    state_lsn: int


def copy_of_state(state: State) -> Copy:
    """References to everything; quick, to be taken under the lock."""
    copy: Copy = []
    for name in state.names():
        collection = state.collections[name]
        copy.append((name, list(collection.specs), collection.all()))
    return copy


def write(position: Position, copy: Copy) -> Iterator[bytes]:
    """The frames of a snapshot."""
    collections = [(name, specs, len(documents)) for name, specs, documents in copy]
    yield _frame(encode((VERSION, *position, collections)))
    for _name, _specs, documents in copy:
        for at in range(0, len(documents), BATCH_DOCUMENTS):
            yield _frame(encode(documents[at : at + BATCH_DOCUMENTS]))


def _frame(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def position_of(path: str, file: BinaryIO) -> Position:
    """The position of a snapshot, from its first frame.

    Raises:
        UnsupportedFormatError: it is of a newer version; `path` says which file.
    """
    (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
    version, *fields, _collections = decode(file.read(length))
    if version != VERSION:
        raise UnsupportedFormatError(path, f"snapshot version {version}")
    return Position(*fields)


def read(content: memoryview) -> tuple[Position, State]:
    """The position and state of a snapshot that is whole and of this version."""
    frames = _frames(content)
    _version, *fields, collections = decode(next(frames))
    state = State()
    for name, specs, count in collections:
        collection = state.collections[name] = CollectionState(name)
        documents = _documents(frames, count)
        ids = map(key_of, map(itemgetter("_id"), documents))
        collection.documents.update(zip(ids, documents, strict=True))
        for index, keys, unique in specs:
            spec = IndexSpec(index, tuple((path, way) for path, way in keys), unique)
            collection.indexes[index] = Index(spec)
            collection.indexes[index].fill(collection.documents.items())
    return Position(*fields), state


def _frames(data: memoryview) -> Iterator[memoryview]:
    at = 0
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        yield data[at : at + length]
        at += length


def _documents(frames: Iterator[memoryview], count: int) -> list[Document]:
    documents: list[Document] = []
    while len(documents) < count:
        documents += decode(next(frames))
    return documents
