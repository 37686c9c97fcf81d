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

import msgspec

from walstore.docstore.errors import InvalidDocumentError
from walstore.docstore.index import Index, IndexSpec
from walstore.docstore.state import CollectionState, State
from walstore.docstore.values import UNDECODABLE, Document, decode, encode, key_of, no_extension
from walstore.errors import UnsupportedFormatError
from walstore.limits import DOCUMENT_BYTES_MAX
from walstore.snapshot_files import UnusableSnapshotError

__all__ = ["Copy", "Position", "copy_of_state", "position_of", "read", "write"]

VERSION = 1

BATCH_BYTES = 256 << 10
"""A batch ends with the document that reaches it: a checkpoint needs no more memory than for that
one, whatever came before it."""

_LENGTH = struct.Struct("<I")
assert 2 * BATCH_BYTES + DOCUMENT_BYTES_MAX < 1 << 32

_Collection = tuple[str, list[IndexSpec], int]
_Header = tuple[int, str, int, int, int, list[_Collection]]
_decoder = msgspec.msgpack.Decoder(list[Document], ext_hook=no_extension)
_encode_into = msgspec.msgpack.Encoder().encode_into

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
        yield from _batches(documents)


def _batches(documents: list[Document]) -> Iterator[bytes]:
    """The frames of a collection's documents."""
    batch, count = bytearray(), 0
    for document in documents:
        _encode_into(document, batch, -1)  # behind what is there
        count += 1
        if len(batch) >= BATCH_BYTES:
            yield _frame(_list_head(count), batch)
            batch, count = bytearray(), 0
    if count:
        yield _frame(_list_head(count), batch)


def _list_head(count: int) -> bytes:
    """What comes before so many documents that are one list."""
    return encode([None] * count)[:-count]  # less the byte that each None takes


def _frame(*parts: bytes | bytearray) -> bytes:
    return b"".join((_LENGTH.pack(sum(map(len, parts))), *parts))


def position_of(path: str, file: BinaryIO) -> Position:
    """The position of a snapshot, from its first frame.

    Raises:
        UnusableSnapshotError: there is none.
        UnsupportedFormatError: it is of a newer version; `path` says which file.
    """
    size = file.read(_LENGTH.size)
    frame = file.read(*_LENGTH.unpack(size)) if len(size) == _LENGTH.size else b""
    return _decoded_header(path, frame)[0]


def read(path: str, content: memoryview) -> tuple[Position, State]:
    """The position and state of a snapshot whose checksum is right.

    Raises:
        UnusableSnapshotError: it holds something else.
        UnsupportedFormatError: it is of a newer version; `path` says where.
    """
    frames = _frames(content)
    position, collections = _decoded_header(path, next(frames, b""))
    state = State()
    for name, specs, count in collections:
        documents = _documents(frames, count)
        try:
            state.collections[name] = _collection(name, specs, documents)
        except (KeyError, TypeError, InvalidDocumentError) as error:
            raise UnusableSnapshotError(f"{name!r:.100} is no collection: {error!r}") from error
    return position, state


def _collection(name: str, specs: list[IndexSpec], documents: list[Document]) -> CollectionState:
    collection = CollectionState(name)
    ids = map(key_of, map(itemgetter("_id"), documents))
    collection.documents.update(zip(ids, documents, strict=True))
    for spec in specs:
        collection.indexes[spec.name] = Index(spec)
        collection.indexes[spec.name].fill(collection.documents.items())
    return collection


def _decoded_header(path: str, frame: bytes | memoryview) -> tuple[Position, list[_Collection]]:
    try:
        header = decode(frame)
        if isinstance(header, list) and header and header[0] != VERSION:
            raise UnsupportedFormatError(path, f"snapshot version {header[0]!r:.100}")
        _version, *fields, collections = msgspec.convert(header, _Header)
    except UNDECODABLE as error:
        raise UnusableSnapshotError(f"its header is none: {error}") from None
    return Position(*fields), collections


def _frames(data: memoryview) -> Iterator[memoryview]:
    at = 0
    while at + _LENGTH.size <= len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        yield data[at : at + length]
        at += length


def _documents(frames: Iterator[memoryview], count: int) -> list[Document]:
    documents: list[Document] = []
    while len(documents) < count:
        try:
            batch = _decoder.decode(next(frames, b""))
        except UNDECODABLE as error:
            raise UnusableSnapshotError(f"documents are missing in it: {error}") from None
        documents += batch
    return documents
