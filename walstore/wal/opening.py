"""Opening a log: making a new one, or finding out what an old one is worth and mending its tail.

Every step may be cut short by a crash or fail; doing it again gives the same log.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from walstore.errors import (
    CorruptLogError,
    LogAccessError,
    LogLockedError,
    NotALogError,
    ReplicatedLogError,
)
from walstore.limits import BLOCK_BYTES, LSN_MAX
from walstore.wal import files
from walstore.wal.layout import CUT_PREFIX, SPARE_PREFIX, Layout, Segment, load_layout
from walstore.wal.meta import (
    COPY_BYTES,
    META_NAME,
    Meta,
    Watermark,
    clear_replicated,
    is_replicated,
    mark_replicated,
    read_meta,
    read_watermark,
    weaker_copy,
    write_meta,
)
from walstore.wal.moving import Moved, move_unproven
from walstore.wal.recovery import Cut, Tail, check_whole, examine_tail
from walstore.wal.segment import SegmentHeader, file_bytes, limit_for, new_salt, parse_name
from walstore.wal.space import activate, make_zeroed
from walstore.wal.stale import refuse_stale

__all__ = [
    "Opened",
    "Start",
    "access_error",
    "create_log",
    "mark_open",
    "open_meta",
    "read_log",
    "recover_tail",
    "refuse_replicated",
]

logger = logging.getLogger("walstore")

_META_IS_NO_FILE = f"its {META_NAME} is not a plain file"
_NAME_ANOTHER = "name the log's directory; one for a new log must be new or empty"
_CUT_NAME = re.compile(re.escape(CUT_PREFIX) + r"([0-9a-f]{8})-(\d{12})-\d+\.bin")
_READ_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Opened:
    """A log that was read: its metadata, its files and its tail."""

    meta: Meta
    layout: Layout
    tail: Tail
    watermark: Watermark | None
    unsealed: tuple[tuple[Segment, bytes], ...] = ()
    """After `recover_tail`: segments that are to be sealed, with their indexes."""

    @property
    def last_lsn(self) -> int:
        """The last good entry."""
        return self.tail.next_lsn - 1


@dataclass(frozen=True, slots=True)
class Start:
    """Where a new log begins: the first lsn it will hold, and the term of the entry before it; and
    whether it is a node's."""

    log_id: bytes
    first_lsn: int = 1
    prev_term: int = 0
    term: int = 1
    replicated: bool = False


def access_error(error: OSError, path: str, what: str) -> LogAccessError:
    """An error of the system's, as one of ours."""
    return LogAccessError(error.errno or 0, str(error.filename or path), what)


def open_meta(path: str, *, write: bool) -> int:
    """Opens the log's `meta` file and, to write, takes the lock. Returns the descriptor.

    Raises:
        NotALogError, CorruptLogError, LogLockedError, LogAccessError
    """
    meta_path = os.path.join(path, META_NAME)
    try:
        if write and not os.path.isdir(path):
            _make_log_directory(path)
        create = write and not os.path.exists(meta_path)
        if create:
            _refuse_foreign(path)
        fd = files.open_file(meta_path, write=write, create=create)
    except FileNotFoundError:
        raise _no_meta(path) from None
    except IsADirectoryError:
        raise NotALogError(path, _META_IS_NO_FILE, _NAME_ANOTHER) from None
    except NotADirectoryError:
        raise NotALogError(path, "it is a file; a log is a directory") from None
    except LogAccessError:
        raise
    except OSError as error:
        raise access_error(error, path, "cannot open") from error
    if not files.is_plain_file(fd):
        files.close(fd)
        raise NotALogError(path, _META_IS_NO_FILE, _NAME_ANOTHER)
    try:
        if write and not files.lock(fd):
            raise LogLockedError(path)
    except OSError as error:
        files.close(fd)
        if isinstance(error, LogLockedError):
            raise
        raise access_error(error, path, "cannot lock") from error
    return fd


def _make_log_directory(path: str) -> None:
    parent = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(parent):
        raise LogAccessError(errno.ENOENT, parent, "cannot make a log where there is no directory")
    try:
        files.make_directory(path)
    except FileNotFoundError as error:  # of a parent that takes none, as /proc
        raise access_error(error, path, "cannot make") from error
    except FileExistsError:
        if not os.path.isdir(path):  # or else another who opens the log was faster
            raise NotADirectoryError(path) from None


def _no_meta(path: str) -> Exception:
    """Why there is no `meta` to read. It is the first file of a log: segments without it are what
    is left of one."""
    if not os.path.isdir(path):
        return NotALogError(path, "there is no such directory")
    try:
        return _gone(path) or NotALogError(path, "the directory holds no log")
    except OSError as error:
        return access_error(error, path, "cannot open")


def _gone(path: str) -> CorruptLogError | None:
    if not any(parse_name(name) for name in files.list_directory(path)) or _has_meta(path):
        return None
    reason = "segments are here, but the log's metadata is gone"
    return CorruptLogError(os.path.join(path, META_NAME), 0, 0, reason)


def _has_meta(path: str) -> bool:
    """Whether there is a `meta`: after a look at the other files, that nobody makes a log here just
    now."""
    return os.path.exists(os.path.join(path, META_NAME))


def _refuse_foreign(path: str) -> None:
    """A new log wants a directory of its own."""
    gone = _gone(path)
    if gone:
        raise gone
    names = files.list_directory(path)
    foreign = [name for name in names if not name.startswith((".", "lost+found", SPARE_PREFIX))]
    if foreign and not _has_meta(path):
        raise NotALogError(
            path, f"the directory holds other files ({foreign[0]})", "name a new or empty directory"
        )


def _holds_records(path: str) -> bool:
    """Whether a segment is more than the empty one that a making cut short leaves behind."""
    with files.opened(path) as fd:
        at = BLOCK_BYTES  # behind the header
        while data := files.read_at(fd, _READ_CHUNK_BYTES, at):
            if data.strip(b"\0"):
                return True
            at += len(data)
        return False


def create_log(
    path: str,
    meta_fd: int,
    segment_bytes: int,
    now_ns: int,
    entropy: Callable[[int], bytes],
    start: Start,
) -> None:
    """Makes an empty log; durable, with its name, at return. Until then there is none."""
    limit_at = limit_for(segment_bytes)
    # What an earlier try left in `meta` must not come to life beside the new segment.
    files.zero_fill(meta_fd, 0, COPY_BYTES, path)
    if start.replicated:
        mark_replicated(meta_fd, path)
    else:
        clear_replicated(meta_fd, path)
    files.sync_data(meta_fd, path)
    # Then the names of `meta` and of the directory: segments without `meta` mean damage.
    files.sync_directory(path)
    files.sync_directory(os.path.dirname(path))
    header = SegmentHeader(
        log_id=start.log_id,
        segment_id=1,
        prev_segment_id=0,
        first_lsn=start.first_lsn,
        term=start.term,
        prev_term=start.prev_term,
        created_ns=now_ns,
        limit_at=limit_at,
        salt=new_salt(entropy),
    )
    spare = os.path.join(path, f"{SPARE_PREFIX}{1:08x}.wal")
    make_zeroed(spare, file_bytes(limit_at))
    _, fd = activate(path, spare, header)
    files.close(fd)
    meta = Meta(
        log_id=start.log_id,
        generation=1,
        epoch=0,
        term=start.term,
        first_lsn=start.first_lsn,
        prev_term=start.prev_term,
        tail_segment_id=1,
        clean=True,
        clean_lsn=start.first_lsn - 1,
    )
    write_meta(meta_fd, meta, os.path.join(path, META_NAME))


def _refuse_without_meta(path: str) -> None:
    """A making that was cut short leaves no more than an empty first segment."""
    for name in files.list_directory(path):
        parsed = parse_name(name)
        if parsed and (parsed != (1, 1) or _holds_records(os.path.join(path, name))):
            raise CorruptLogError(
                os.path.join(path, META_NAME), 0, 0, "segments are here, but the metadata is empty"
            )


def read_log(path: str, meta_fd: int, *, live: bool = False) -> Opened | None:
    """Reads a log without changing it; None when its making was cut short. `live`: a writer other
    than the caller is at work.

    Raises:
        CorruptLogError, NotALogError, UnsupportedFormatError
    """
    meta_path = os.path.join(path, META_NAME)
    meta = read_meta(meta_fd, meta_path)
    if meta is None:
        _refuse_without_meta(path)
        return None
    # Read before the records: a running writer moves it on only behind them.
    watermark = read_watermark(meta_fd, meta.log_id)
    layout = load_layout(path, meta)
    segment = layout.segments[-1]
    with files.opened(segment.path) as fd:
        tail = examine_tail(fd, segment.path, segment.header, meta, watermark, live=live)
    if tail.next_lsn < meta.first_lsn:
        raise CorruptLogError(
            segment.path, tail.end_at, tail.next_lsn, f"the log starts at {meta.first_lsn}"
        )
    if tail.last_term > LSN_MAX:
        raise CorruptLogError(segment.path, 0, tail.next_lsn - 1, "its term makes no sense")
    if not live:
        refuse_stale(path, meta, layout)
    return Opened(meta, layout, tail, watermark)


def refuse_replicated(path: str, meta_fd: int) -> None:
    """Keeps whoever is no node from writing to a node's log. What it appended would be in the term
    that the node is in, where another node's entry may have the same lsn: one (lsn, term) would
    name two entries, and what was acknowledged of the one be lost to the other.

    Raises:
        ReplicatedLogError: it is a node's.
    """
    if is_replicated(meta_fd):
        raise ReplicatedLogError(path)


def _keep_cut(path: str, segment: Segment, cut: Cut, data: bytes) -> str:
    """Writes what is about to be cut away to a file beside the log; durable at return. Returns
    that file's path."""
    kept = _write_cut(path, segment, cut, data)
    logger.warning(
        "%s: torn tail cut at offset %d, before lsn %d: %s; %d bytes kept in %s",
        segment.path,
        cut.at,
        cut.lsn,
        cut.reason,
        len(data),
        kept,
    )
    return kept


def _write_cut(path: str, segment: Segment, cut: Cut, data: bytes) -> str:
    number = 0
    while True:
        name = f"{CUT_PREFIX}{segment.header.segment_id:08x}-{cut.at:012d}-{number}.bin"
        kept = os.path.join(path, name)
        with files.opened(kept, write=True, create=True) as fd:
            size = files.size_of(fd)
            # A file that is a prefix of the data is an earlier try that was cut short.
            if data.startswith(files.read_at(fd, size, 0)) and size <= len(data):
                files.write_at(fd, data, 0, kept)
                files.sync_data(fd, kept)
                files.sync_directory(path)
                return kept
        number += 1


def _find_unsealed(layout: Layout) -> tuple[tuple[Segment, bytes], ...]:
    """The segments that a crash kept from being sealed, checked, with their indexes."""
    unsealed = []
    for segment in layout.segments[:-1]:
        if segment.seal is None:
            assert segment.last_lsn is not None
            with files.opened(segment.path) as fd:
                found = check_whole(fd, segment.path, segment.header, segment.last_lsn)
            unsealed.append((segment, found.index))
    return tuple(unsealed)


def _first_unproven(opened: Opened) -> int | None:
    """The first entry at the end of the log that nothing shows to have been durable."""
    if opened.meta.clean:
        return None
    proven_lsn = max(opened.tail.proven_lsn, opened.layout.segments[-1].first_lsn - 1)
    mark = opened.watermark
    if mark and mark.epoch == opened.meta.epoch:
        proven_lsn = max(proven_lsn, mark.durable_lsn)
    return proven_lsn + 1 if proven_lsn < opened.last_lsn else None


def recover_tail(
    path: str, meta_fd: int, opened: Opened, now_ns: int, entropy: Callable[[int], bytes]
) -> tuple[int, Opened, str | None]:
    """Makes the end of the log fit to be written to: a torn tail kept aside, every good record
    durable. Returns a descriptor of the last segment open for writing, the log as it is now, and
    the file that holds what was cut.

    Raises:
        CorruptLogError: a segment that a crash kept from being sealed is damaged; nothing changed.
    """
    opened = replace(opened, unsealed=_find_unsealed(opened.layout))
    segment, cut = opened.layout.segments[-1], opened.tail.cut
    kept = None
    fd = files.open_file(segment.path, write=True)
    try:
        if cut:
            kept = _keep_cut(path, segment, cut, files.read_at(fd, cut.end_at - cut.at, cut.at))
        unproven_lsn = _first_unproven(opened)
        if unproven_lsn is None:
            _clear_tail(fd, segment, opened.tail, _cut_before(path, opened))
            return fd, opened, kept
    except BaseException:
        files.close(fd)
        raise
    files.close(fd)
    segment_id = opened.layout.segment_id_max + 1
    moved = move_unproven(
        path,
        meta_fd,
        opened.meta,
        segment,
        opened.tail,
        unproven_lsn,
        segment_id,
        opened.layout.spares,
        now_ns,
        entropy,
    )
    return moved.fd, _after_move(opened, moved, segment_id), kept


def _cut_before(path: str, opened: Opened) -> int:
    """Where the bytes end that an earlier opening cut from the last segment. Its sync may have
    failed: the kernel then shows zeros that are not on the disk, and a power loss would bring the
    bytes back, behind a log that was closed."""
    segment = opened.layout.segments[-1]
    end_at = 0
    for name in () if opened.meta.clean else opened.layout.cuts:
        found = _CUT_NAME.fullmatch(name)
        if found and int(found[1], 16) == segment.header.segment_id:
            size = os.stat(os.path.join(path, name)).st_size
            end_at = max(end_at, int(found[2]) + size)
    return min(end_at, segment.header.limit_at)


def _clear_tail(fd: int, segment: Segment, tail: Tail, cut_before: int) -> None:
    """Zeros over a torn tail, and over one that was cut before, and the file at its full size;
    durable."""
    size = files.size_of(fd)
    wanted = file_bytes(segment.header.limit_at)
    clear_at = tail.cut.at if tail.cut else tail.end_at
    clear_to = max(tail.cut.end_at if tail.cut else 0, cut_before)
    if clear_to <= clear_at and size >= wanted:
        return
    if clear_to > clear_at:
        files.zero_fill(fd, clear_at, clear_to, segment.path)
    if size < wanted:
        files.reserve(fd, wanted, segment.path)
        files.zero_fill(fd, max(size, tail.end_at), wanted, segment.path)
    files.sync_data(fd, segment.path)


def _after_move(opened: Opened, moved: Moved, segment_id: int) -> Opened:
    layout = opened.layout
    unsealed = opened.unsealed
    if moved.index is not None:
        unsealed = (*unsealed, (moved.segments[0], moved.index))
    old = os.path.basename(layout.segments[-1].path)
    leftovers = layout.leftovers if len(moved.segments) > 1 else (*layout.leftovers, old)
    return Opened(
        meta=moved.meta,
        layout=replace(
            layout,
            segments=(*layout.segments[:-1], *moved.segments),
            leftovers=leftovers,
            spares=tuple(name for name in layout.spares if name != moved.spare),
            segment_id_max=segment_id,
        ),
        tail=moved.tail,
        watermark=opened.watermark,
        unsealed=unsealed,
    )


def mark_open(meta_fd: int, path: str, opened: Opened, *, replicated: bool) -> Meta:
    """Takes the mark of a clean close away, before anything is appended. `replicated`: has the log
    be a node's from now on, before it votes or acknowledges anything. Durable at return."""
    meta = opened.meta.next(
        term=max(opened.meta.term, opened.tail.last_term),
        clean=False,
        clean_lsn=0,
    )
    meta_path = os.path.join(path, META_NAME)
    if replicated:
        mark_replicated(meta_fd, meta_path)
    return write_meta(meta_fd, meta, meta_path, weaker_copy(meta_fd, meta_path))
