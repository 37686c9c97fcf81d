"""Cursor: a query that is answered when it is iterated first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self

from walstore.docstore.errors import QueryError
from walstore.docstore.plan import Found
from walstore.docstore.results import Explanation
from walstore.docstore.shape import Show, Sort, checked_sort
from walstore.docstore.values import Document

__all__ = ["Cursor"]

SHOWN_TOGETHER = 100
"""How many documents are copied at a time, whoever asks for one."""

Run = Callable[[Sort, int, int, str | None], Found]


class Cursor:
    """The documents of a `find`, as they are when the first one is asked for: all of one moment.

    `sort`, `skip`, `limit` and `hint` replace what was given to `find`, until then.
    """

    def __init__(
        self,
        run: Run,
        show: Show,
        sort: Any,
        skip: int,
        limit: int,
        hint: str | None,
    ) -> None:
        self._run = run
        self._show = show
        self._sort = checked_sort(sort)
        self._skip = _checked_count("skip", skip)
        self._limit = _checked_count("limit", limit)
        self._hint = hint
        self._documents: Iterator[Document] | None = None

    def sort(self, key: Any, direction: int = 1) -> Self:
        """Sorts by a field, or by a list of (field, 1 or -1).

        Raises:
            QueryError
        """
        self._check_new("sort")
        self._sort = checked_sort([(key, direction)] if type(key) is str else key)
        return self

    def skip(self, count: int) -> Self:
        """Leaves out the first so many."""
        self._check_new("skip")
        self._skip = _checked_count("skip", count)
        return self

    def limit(self, count: int) -> Self:
        """Ends after so many; 0: no limit."""
        self._check_new("limit")
        self._limit = _checked_count("limit", count)
        return self

    def hint(self, name: str | None) -> Self:
        """Uses this index; None: the planner's choice."""
        self._check_new("hint")
        self._hint = name
        return self

    def explain(self) -> Explanation:
        """Answers the query, and says how.

        Raises:
            As the first iteration.
        """
        found = self._run(self._sort, self._skip, self._limit, self._hint)
        plan = found.plan
        ranges = tuple((keys.low, keys.high) for keys in plan.ranges)
        return Explanation(plan.name, ranges, plan.ordered, found.examined, len(found.documents))

    def to_list(self) -> list[Document]:
        """All that are left.

        Raises:
            NoSuchIndexError: there is no index as hinted.
            ClosedStoreError, StoreLostError; in a transaction ConflictError.
        """
        return list(self._begun())

    def _check_new(self, name: str) -> None:
        if self._documents is not None:
            raise QueryError(name, "the cursor has been iterated already", "call it before that")

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Document:
        return next(self._documents or self._begun())

    def _begun(self) -> Iterator[Document]:
        if self._documents is None:
            found = self._run(self._sort, self._skip, self._limit, self._hint)
            self._documents = self._shown(found.documents)
        return self._documents

    def _shown(self, documents: list[Document]) -> Iterator[Document]:
        for at in range(0, len(documents), SHOWN_TOGETHER):
            yield from self._show(documents[at : at + SHOWN_TOGETHER])


def _checked_count(name: str, count: Any) -> int:
    if type(count) is not int or count < 0:
        raise QueryError(name, f"is a whole number from 0 on, not {count!r}")
    return count
