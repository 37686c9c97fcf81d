"""Changes as a stream shows them, and the tokens that name a place between them.

Sans-IO. A token is text: `log_id.lsn.term.position.total`: the position of the change among all of
its transaction (docs/docstore.md, "Change streams").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from walstore.docstore.errors import QueryError
from walstore.docstore.history import Applied
from walstore.docstore.state import Change
from walstore.docstore.values import Document, copy_of

__all__ = ["DocumentChange", "ResumeToken", "shown"]

Operation = Literal["insert", "update", "delete", "drop"]

_NUMBER = re.compile(r"[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class DocumentChange:
    """One change, as the log has it.

    Attributes:
        operation: "insert", "update" (also by a replace), "delete", or "drop": the collection
            went, with all its documents.
        collection: its name.
        document_id: the document's _id; None of a drop.
        before, after: the document; None where there is none.
        lsn: the entry in the log, the last one of a transaction of several.
        position, count: which of the changes of its transaction it is, from 0, and how many there
            are, those of other collections too.
        token: for `resume_after`.
    """

    operation: Operation
    collection: str
    document_id: Any
    before: Document | None
    after: Document | None
    lsn: int
    position: int
    count: int
    token: str


class ResumeToken(NamedTuple):
    """The place right after a change.

    Attributes:
        log_id: of the log.
        lsn, term: the entry in which its transaction ends.
        position, total: which of the transaction's changes it is, and how many there are.
    """

    log_id: str
    lsn: int
    term: int
    position: int
    total: int

    @property
    def ends(self) -> bool:
        """Whether nothing of the transaction is left."""
        return self.position + 1 == self.total

    @classmethod
    def parsed(cls, text: object) -> ResumeToken:
        """A token from its text.

        Raises:
            QueryError: it is none.
        """
        log_id, *rest = text.split(".") if type(text) is str else [""]
        if log_id and len(rest) == 4 and all(map(_NUMBER.fullmatch, rest)):
            lsn, term, position, total = map(int, rest)
            if lsn > 0 and position < total:
                return cls(log_id, lsn, term, position, total)
        raise QueryError("resume_after", f"{text!r} is not the token of a change")

    def __str__(self) -> str:
        return ".".join(map(str, self))


def shown(
    applied: Applied, log_id: str, term: int, begin: int, collection: str | None
) -> Iterator[DocumentChange]:
    """The changes of a transaction, copied one by one as they are asked for.

    Args:
        log_id: of the log.
        term: of the entry in which it ends.
        begin: the first of its changes that is wanted.
        collection: the one whose changes are wanted; None: all.
    """
    changes = [change for change in applied.changes if change.code in "pdc"]
    for position, change in enumerate(changes):
        if position >= begin and collection in (None, change.collection):
            token = ResumeToken(log_id, applied.lsn, term, position, len(changes))
            yield _shown(change, applied.lsn, token)


def _shown(change: Change, lsn: int, token: ResumeToken) -> DocumentChange:
    document = change.new or change.old
    operation: Operation
    if document is None:
        operation = "drop"
    elif change.old is None:
        operation = "insert"
    else:
        operation = "delete" if change.new is None else "update"
    return DocumentChange(
        operation,
        change.collection,
        copy_of(document["_id"]) if document else None,
        copy_of(change.old),
        copy_of(change.new),
        lsn,
        token.position,
        token.total,
        str(token),
    )
