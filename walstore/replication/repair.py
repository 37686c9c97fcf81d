"""A damaged log of a node: what is sound stays, the rest comes from the others (docs/repair.md)."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable

from walstore.errors import CorruptLogError, LogAccessError
from walstore.limits import LSN_MAX
from walstore.replication.notes import (
    CLAIM_COPY_NAME,
    CLAIM_NAME,
    DAMAGE_NAME,
    read_note,
    remove_note,
    write_note,
)
from walstore.wal import files
from walstore.wal.mending import Claim, cut_damage
from walstore.wal.meta import META_NAME, read_meta
from walstore.wal.opening import access_error, open_meta
from walstore.wal.segment import parse_name

__all__ = [
    "damage_of",
    "drop_claim",
    "is_mendable",
    "mend_log",
    "note_damage",
    "read_claim",
    "was_damaged",
    "with_hint",
]

logger = logging.getLogger("walstore.replication")

_NEW_ID = (
    "the terms that this node had voted in are gone, so that it must not come back under its id: "
    "remove it from the cluster, and add a node with another id in a new directory"
)


def read_claim(path: str, term: int) -> Claim | None:
    """How far a log of this term had been before it was damaged; None: it has all of that, or never
    was. Where the note and its copy are damaged, all that the term may have had."""
    found, there = [], False
    for name in (CLAIM_NAME, CLAIM_COPY_NAME):
        try:
            note = read_note(path, name)
        except (CorruptLogError, OSError) as error:
            logger.warning("%s", error)
            there = True
        else:
            found += [Claim(note["term"], note["lsn"])] if note else []
    return max(found, default=Claim(term, LSN_MAX) if there else None)


def drop_claim(path: str) -> None:
    """The log has all again that it had; durable at return."""
    for name in (CLAIM_COPY_NAME, CLAIM_NAME):
        remove_note(path, name)


def was_damaged(path: str) -> bool:
    """Whether damage was found while the log was open; also where the note of it is damaged."""
    try:
        return read_note(path, DAMAGE_NAME) is not None
    except (CorruptLogError, OSError) as error:
        logger.warning("%s", error)
        return True


def damage_of(error: Exception) -> Exception:
    """Sectors of a segment that the disk cannot read are damage; other errors stay as they are."""
    if not isinstance(error, LogAccessError) or error.errno != errno.EIO:
        return error
    named = parse_name(os.path.basename(error.path))
    return CorruptLogError(error.path, 0, named[0], "the disk cannot read it") if named else error


def note_damage(path: str, error: CorruptLogError) -> None:
    """Has the next opening look for damage in all of the log; durable at return."""
    content = {"path": error.path, "offset": error.offset, "lsn": error.lsn, "why": error.reason}
    write_note(path, DAMAGE_NAME, content)
    error.hint = "start the node again: it gets what is damaged from the others"


def is_mendable(error: CorruptLogError | LogAccessError) -> bool:
    """Whether others have what is damaged, or cannot be read: nobody has this node's terms."""
    if isinstance(error, LogAccessError) and error.errno != errno.EIO:
        return False
    return os.path.basename(error.path) != META_NAME


def with_hint(error: CorruptLogError | LogAccessError) -> CorruptLogError | LogAccessError:
    """The same, and what to do where `meta` is lost."""
    if isinstance(error, CorruptLogError) and not is_mendable(error):
        error.hint = _NEW_ID
    return error


def mend_log(path: str, segment_bytes: int, now_ns: int, entropy: Callable[[int], bytes]) -> None:
    """Ends a damaged log before the damage, and notes how far it had been; durable at return.

    Raises:
        CorruptLogError: `meta` is damaged. Nothing is changed.
        LogLockedError, LogAccessError, UnsupportedFormatError
    """
    meta_fd = open_meta(path, write=True)
    try:
        meta = read_meta(meta_fd, os.path.join(path, META_NAME))
        term = meta.term if meta else 0
        mended = cut_damage(
            path,
            meta_fd,
            segment_bytes,
            now_ns,
            entropy,
            lambda claim: _note_claim(path, claim, term),
        )
        remove_note(path, DAMAGE_NAME)
    except CorruptLogError as error:
        raise with_hint(error) from None
    except OSError as error:
        raise access_error(error, path, "cannot mend") from error
    finally:
        files.close(meta_fd)
    if mended is None:
        return
    logger.error(
        "%s was damaged: it ends at lsn %d now, and had been at %d; what was cut is kept in %s. "
        "Until it is back from the other nodes, this one neither leads nor elects without them.",
        path,
        mended.last_lsn,
        mended.claim.lsn,
        ", ".join(map(os.path.basename, mended.kept)),
    )


def _note_claim(path: str, claim: Claim, term: int) -> None:
    """A log that is damaged again before it was whole claims the more of the two."""
    claim = max(claim, read_claim(path, term) or claim)
    for name in (CLAIM_NAME, CLAIM_COPY_NAME):
        write_note(path, name, {"term": claim.term, "lsn": claim.lsn})
