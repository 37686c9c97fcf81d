"""A damaged log of a node: what is sound stays, the rest comes from the others (docs/repair.md)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from walstore.errors import CorruptLogError
from walstore.replication.notes import (
    CLAIM_NAME,
    DAMAGE_NAME,
    read_note,
    remove_note,
    write_note,
)
from walstore.wal import files
from walstore.wal.mending import Claim, cut_damage
from walstore.wal.meta import META_NAME
from walstore.wal.opening import access_error, open_meta

__all__ = ["is_mendable", "mend_log", "note_damage", "read_claim", "was_damaged", "with_hint"]

logger = logging.getLogger("walstore.replication")

_NEW_ID = (
    "the terms that this node had voted in are gone, so that it must not come back under its id: "
    "remove it from the cluster, and add a node with another id in a new directory"
)


def read_claim(path: str) -> Claim | None:
    """How far the log had been before it was damaged; None: it has all of that, or never was.

    Raises:
        CorruptLogError: the note of it is damaged.
    """
    found = read_note(path, CLAIM_NAME)
    return Claim(found["term"], found["lsn"]) if found else None


def was_damaged(path: str) -> bool:
    """Whether damage was found while the log was open."""
    return read_note(path, DAMAGE_NAME) is not None


def note_damage(path: str, error: CorruptLogError) -> None:
    """Has the next opening look for damage in all of the log; durable at return."""
    content = {"path": error.path, "offset": error.offset, "lsn": error.lsn, "why": error.reason}
    write_note(path, DAMAGE_NAME, content)
    error.hint = "start the node again: it gets what is damaged from the others"


def is_mendable(error: CorruptLogError) -> bool:
    """Whether others have what is damaged: nobody has this node's terms."""
    return os.path.basename(error.path) != META_NAME


def with_hint(error: CorruptLogError) -> CorruptLogError:
    """The same, and what to do where `meta` is lost."""
    if not is_mendable(error):
        error.hint = _NEW_ID
    return error


def mend_log(path: str, segment_bytes: int, now_ns: int, entropy: Callable[[int], bytes]) -> None:
    """Ends a damaged log before the damage, and notes how far it had been; durable at return.

    Raises:
        CorruptLogError: `meta`, or a note, is damaged. Nothing is changed.
        LogLockedError, LogAccessError, UnsupportedFormatError
    """
    meta_fd = open_meta(path, write=True)
    try:
        mended = cut_damage(
            path, meta_fd, segment_bytes, now_ns, entropy, lambda claim: _note_claim(path, claim)
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


def _note_claim(path: str, claim: Claim) -> None:
    """A log that is damaged again before it was whole claims the more of the two."""
    claim = max(claim, read_claim(path) or claim)
    write_note(path, CLAIM_NAME, {"term": claim.term, "lsn": claim.lsn})
