"""Snapshots: the whole state in one file (docs/docstore.md, "Checkpoints").

    "WALDOCS1"
    frames: length (u32), MessagePack
        header   [version, log_id, lsn, term, state_lsn, [[name, [index, ...], count], ...]]
                 index: [name, [[path, 1 or -1], ...], unique]
        batches  [document, ...]: of the first collection, then of the second, ...
    XXH3-128 of all before

Sans-IO: state in, bytes out, and back.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import BinaryIO, NamedTuple

import msgspec
import xxhash

from walstore.docstore.index import Index, IndexSpec
from walstore.docstore.state import CollectionState, State
from walstore.docstore.values import UNDECODABLE, Document, decode, encode, key_of, no_extension
from walstore.errors import UnsupportedFormatError

__all__ = [
    "Copy",
    "Position",
    "SnapshotDamagedError",
    "copy_of_state",
    "is_whole",
    "position_of",
    "read",
    "read_position",
    "write",
]

MAGIC = b"WALDOCS1"
VERSION = 1
BATCH_DOCUMENTS = 256
DIGEST_BYTES = 16

_LENGTH = struct.Struct("<I")

_Collection = tuple[str, list[IndexSpec], int]
_Header = tuple[int, str, int, int, int, list[_Collection]]
_batches = msgspec.msgpack.Decoder(list[Document], ext_hook=no_extension)

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


class SnapshotDamagedError(ValueError):
    """These bytes are not a whole snapshot; its text says why."""


def copy_of_state(state: State) -> Copy:
    """References to everything; quick, to be taken under the lock."""
    copy: Copy = []
    for name in state.names():
        collection = state.collections[name]
        copy.append((name, list(collection.specs), collection.all()))
    return copy


def write(position: Position, copy: Copy) -> Iterator[bytes]:
    """The bytes of a snapshot, in pieces."""
    digest = xxhash.xxh3_128()
    for piece in _pieces(position, copy):
        digest.update(piece)
        yield piece
    yield digest.digest()


def _pieces(position: Position, copy: Copy) -> Iterator[bytes]:
    yield MAGIC
    collections = [(name, specs, len(documents)) for name, specs, documents in copy]
    yield _frame(encode((VERSION, *position, collections)))
    for _name, _specs, documents in copy:
        for at in range(0, len(documents), BATCH_DOCUMENTS):
            yield _frame(encode(documents[at : at + BATCH_DOCUMENTS]))


def _frame(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def is_whole(pieces: Iterable[bytes]) -> bool:
    """Whether these are the bytes of a whole snapshot, by their checksum."""
    digest = xxhash.xxh3_128()
    held = b""
    for piece in pieces:
        held += piece
        digest.update(held[:-DIGEST_BYTES])
        held = held[-DIGEST_BYTES:]
    return held == digest.digest()


def read_position(path: str, data: memoryview) -> Position:
    """A snapshot's position.

    Raises:
        SnapshotDamagedError, UnsupportedFormatError: as `read`.
    """
    return _opened(path, data)[0]


def position_of(path: str, file: BinaryIO) -> Position:
    """The position of a snapshot that is known to be whole, from its beginning.

    Raises:
        UnsupportedFormatError: it is of a newer version.
    """
    (length,) = _LENGTH.unpack_from(file.read(len(MAGIC) + _LENGTH.size), len(MAGIC))
    return _decoded_header(path, file.read(length))[0]


def read(path: str, data: memoryview) -> tuple[Position, State]:
    """A snapshot's position and state.

    Raises:
        SnapshotDamagedError: it is not whole.
        UnsupportedFormatError: it is, and of a newer version; `path` says which file.
    """
    position, collections, frames = _opened(path, data)
    state = State()
    for name, specs, count in collections:
        collection = state.collections[name] = CollectionState(name)
        documents = _documents(frames, count)
        try:
            ids = list(map(key_of, map(itemgetter("_id"), documents)))
        except KeyError:
            raise SnapshotDamagedError("a document without an _id is in it") from None
        collection.documents.update(zip(ids, documents, strict=True))
        for spec in specs:
            collection.indexes[spec.name] = Index(spec)
            collection.indexes[spec.name].fill(collection.documents.items())
    return position, state


def _opened(
    path: str, data: memoryview
) -> tuple[Position, list[_Collection], Iterator[memoryview]]:
    """Position, collections, and the frames after the header."""
    end = len(data) - DIGEST_BYTES
    if end < len(MAGIC) or data[: len(MAGIC)] != MAGIC:
        raise SnapshotDamagedError("it does not begin as a snapshot does")
    if xxhash.xxh3_128_digest(data[:end]) != data[end:]:
        raise SnapshotDamagedError("its checksum is wrong")
    frames = _frames(data[:end])
    position, collections = _decoded_header(path, next(frames, b""))
    return position, collections, frames


def _decoded_header(path: str, frame: bytes | memoryview) -> tuple[Position, list[_Collection]]:
    try:
        header = decode(frame)
        if isinstance(header, list) and header and header[0] != VERSION:
            raise UnsupportedFormatError(path, f"snapshot version {header[0]!r:.100}")
        _version, *fields, collections = msgspec.convert(header, _Header)
    except UNDECODABLE as error:
        raise SnapshotDamagedError(f"its header is none: {error}") from None
    return Position(*fields), collections


def _frames(data: memoryview) -> Iterator[memoryview]:
    at = len(MAGIC)
    while at + _LENGTH.size <= len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        yield data[at : at + length]
        at += length


def _documents(frames: Iterator[memoryview], count: int) -> list[Document]:
    documents: list[Document] = []
    while len(documents) < count:
        try:
            batch = _batches.decode(next(frames, b""))
        except UNDECODABLE as error:
            raise SnapshotDamagedError(f"documents are missing in it: {error}") from None
        documents += batch
    return documents
