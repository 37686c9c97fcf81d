"""Queries: which index to use, and going through what it gives.

Sans-IO. The planner goes by rule, not by statistics: leading equalities first, then a range, then
an order that is asked for.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from walstore.docstore.errors import NoSuchIndexError, QueryError
from walstore.docstore.index import DESCENDING, TOP, IndexSpec, KeyRange, Reversed
from walstore.docstore.paths import Match
from walstore.docstore.query import Filter, Predicate
from walstore.docstore.shape import Sort, in_order
from walstore.docstore.state import ID_INDEX
from walstore.docstore.values import Document, Key

__all__ = ["Found", "Plan", "View", "find", "plan_for"]

POINTS_MAX = 1000
"""How many equalities of an index a query with $in may ask for, all fields multiplied."""

MATCHED_LOCKED_MIN = 1000
MATCHED_LOCKED_SHARE = 16
"""How many candidates are matched under the lock, while a few that match are wanted: so many, or
one in so many of the collection. Where a match is cheap that takes no longer than a list of all of
them, which is spared when there are enough; others wait longer where it is not."""


class View(Protocol):
    """A collection to query: a CollectionState, or a DraftCollection."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def in_order(self) -> bool: ...
    @property
    def specs(self) -> Iterator[IndexSpec]: ...
    def has_lists(self, name: str) -> bool: ...
    def get(self, id_key: Key) -> Document | None: ...
    def all(self) -> list[Document]: ...
    def search(
        self, name: str, ranges: Sequence[KeyRange], reverse: bool
    ) -> Iterator[Document]: ...


class Plan(NamedTuple):
    """How a query is answered.

    Attributes:
        name: of the index that is searched; None: every document is looked at.
        ranges: where in it.
        reverse: from its end.
        ordered: whether the documents come in the order that is asked for.
        covered: how many of the filter's predicates hold for all that is there, and for nothing
            else.
        score: compares plans; the greatest is taken.
    """

    name: str | None
    ranges: tuple[KeyRange, ...] = ()
    reverse: bool = False
    ordered: bool = False
    covered: int = 0
    score: tuple[int, ...] = ()


class Found(NamedTuple):
    """An answer: references, not to be handed out, and what it took."""

    documents: list[Document]
    plan: Plan
    examined: int


def find(
    view: View,
    lock: AbstractContextManager[Any],
    query: Filter,
    sort: Sort = (),
    skip: int = 0,
    limit: int = 0,
    hint: str | None = None,
) -> Found:
    """Finds documents: what is there at one moment, under the lock; matched and sorted outside of
    it, unless a few can be taken in order.

    Raises:
        NoSuchIndexError: there is no index as hinted.
    """
    stop = min(skip + limit, sys.maxsize) if limit else None  # what islice takes
    taken: list[Document] = []
    examined = 0
    with lock:
        plan = plan_for(view, query.predicates, sort, hint)
        decided = query.is_whole and plan.covered == len(query.predicates)
        match = None if decided else query.match
        first_ones = stop is not None and (plan.ordered or not sort)
        if plan.name is None:
            candidates = view.all()
        else:
            found = view.search(plan.name, plan.ranges, plan.reverse)
            if stop is not None and first_ones:
                most = stop if match is None else _matched_locked_max(view)
                examined = _take(itertools.islice(found, most), match, stop, taken)
                if len(taken) == stop:
                    return Found(taken[skip:], plan, examined)
            candidates = list(found)
    if stop is not None and first_ones:
        examined += _take(candidates, match, stop, taken)
        return Found(taken[skip:], plan, examined)
    matching = candidates if match is None else list(filter(match, candidates))
    if sort and not plan.ordered:
        matching = in_order(matching, sort)
    return Found(matching[skip:stop], plan, len(candidates))


def _matched_locked_max(view: View) -> int:
    return max(MATCHED_LOCKED_MIN, view.size // MATCHED_LOCKED_SHARE)


def _take(
    candidates: Iterable[Document], match: Match | None, stop: int, taken: list[Document]
) -> int:
    """Takes those that match, until there are `stop`. Returns how many were looked at."""
    examined = 0
    for document in candidates:
        examined += 1
        if match is None or match(document):
            taken.append(document)
            if len(taken) == stop:
                break
    return examined


def plan_for(view: View, predicates: Sequence[Predicate], sort: Sort, hint: str | None) -> Plan:
    """Chooses an index.

    Raises:
        NoSuchIndexError: there is none as hinted.
    """
    specs = [ID_INDEX, *view.specs]
    by_path: dict[str, list[Predicate]] = {}
    for predicate in predicates:
        by_path.setdefault(predicate.path, []).append(predicate)
    if hint is not None:
        return _hinted(view, specs, by_path, sort, hint)
    best = Plan(None, score=(0, 0, 0, 0))
    if not predicates and not sort:
        return best
    for spec in specs:
        first = spec.keys[0][0]
        if first in by_path or (sort and sort[0][0] == first):
            plan = _plan(view, spec, by_path, sort)
            if plan.score > best.score:
                best = plan
    return best


def _hinted(
    view: View,
    specs: list[IndexSpec],
    by_path: dict[str, list[Predicate]],
    sort: Sort,
    hint: str,
) -> Plan:
    if type(hint) is not str:
        raise QueryError("hint", f"is the name of an index, not {hint!r}")
    for spec in specs:
        if spec.name == hint:
            return _plan(view, spec, by_path, sort)
    raise NoSuchIndexError(view.name, hint, [spec.name for spec in specs])


def _plan(view: View, spec: IndexSpec, by_path: dict[str, list[Predicate]], sort: Sort) -> Plan:
    has_lists = view.has_lists(spec.name)
    compound = len(spec.keys) > 1
    prefixes: list[Key] = [()]
    equal = 0  # fields with one value each
    fields = covered = 0
    bounds: tuple[Any, Any] | None = None
    for path, direction in spec.keys:
        predicates = by_path.get(path, ())
        reversed_ = compound and direction == DESCENDING
        values = min((p.keys for p in predicates if p.op == "="), key=len, default=None)
        if values is None:
            bounds = _bounds(predicates, has_lists, reversed_)
            if len({predicate.keys[0][0] for predicate in predicates}) == 1:
                covered += len(predicates)
            break
        if len(prefixes) * len(values) > POINTS_MAX:
            break
        parts = [Reversed(key) if reversed_ else key for key in values]
        prefixes = [(*prefix, part) for prefix, part in itertools.product(prefixes, parts)]
        fields += 1
        covered += 1
        equal += equal == fields - 1 and len(values) == 1
    if bounds is not None and bounds[0] == bounds[1]:  # from a value on, and below the same
        prefixes = []
    ranges = tuple(_range(prefix, bounds, fields == len(spec.keys)) for prefix in prefixes)
    ordered, reverse = False, False
    if sort and view.in_order and not has_lists and len(ranges) == 1:
        ordered, reverse = _order(spec, sort, equal)
    whole = spec.unique and fields == len(spec.keys) and len(ranges) == 1
    score = (int(whole), fields, int(bounds is not None), int(ordered))
    return Plan(spec.name, ranges, reverse, ordered, 0 if has_lists else covered, score)


def _range(prefix: Key, bounds: tuple[Any, Any] | None, whole: bool) -> KeyRange:
    if bounds is not None:
        low, high = bounds
        # The other way round `low` is what is not wanted any more, and `high` what still is, each
        # with all behind it.
        behind = (TOP,) if isinstance(high, Reversed) else ()
        return KeyRange((*prefix, low, *behind), (*prefix, high, *behind))
    if whole:
        return KeyRange(prefix, prefix)
    if prefix:
        return KeyRange(prefix, (*prefix, TOP))
    return KeyRange(None, None)


def _bounds(
    predicates: Sequence[Predicate], one_only: bool, reversed_: bool
) -> tuple[Any, Any] | None:
    """The part of a key from and to which a range goes. Values of one type only are compared; and
    a key with a 0 behind it stands right after the key, before any other.

    Args:
        one_only: take one bound: of a list, one element may satisfy one, and another the other.
    """
    lows: list[Key] = []
    highs: list[Key] = []
    ranks = set()
    for predicate in predicates[:1] if one_only else predicates:
        key = predicate.keys[0]
        ranks.add(key[0])
        if predicate.op[0] == ">":
            lows.append(key if predicate.op == ">=" else (*key, 0))
        else:
            highs.append((*key, 0) if predicate.op == "<=" else key)
    if not ranks:
        return None
    rank = ranks.pop()
    low, high = max(lows, default=(rank,)), min(highs, default=(rank + 1,))
    return (Reversed(high), Reversed(low)) if reversed_ else (low, high)


def _order(spec: IndexSpec, sort: Sort, equal: int) -> tuple[bool, bool]:
    """Whether the index gives this order, and whether from its end; the first `equal` fields have
    one value each."""
    fixed = {path for path, _direction in spec.keys[:equal]}
    wanted = [(path, direction) for path, direction in sort if path not in fixed]
    rest = [(path, direction) for path, direction in spec.keys[equal:]]
    if len(spec.keys) == 1:  # kept ascending, whatever its direction
        rest = [(path, 1) for path, _direction in rest]
    if wanted == rest[: len(wanted)]:
        return True, False
    if wanted == [(path, -direction) for path, direction in rest[: len(wanted)]]:
        return True, True
    return False, False
