"""Whether a history of reads and writes is linearizable, when every write of a key has a value of
its own.

Gibbons and Korach, "Testing Shared Memories", SIAM J. Comput. 26(4), 1997, theorem 4.2: a write and
the reads that returned its value span a zone. From f, the first end of one of them, to s, the last
begin, the value must have been there (a forward zone, f < s); or there is a moment at which all of
them were under way (a backward zone). Two forward zones must not overlap, and no backward zone may
lie inside of a forward one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

__all__ = ["Operation", "check"]


@dataclass(frozen=True, slots=True)
class Operation:
    """A call by a client.

    Attributes:
        kind: "read" or "write".
        key, value: what of; the value of a read is None where nothing had been written.
        began, ended: when the call was made and returned; math.inf: it is not known to have had an
            effect (a timeout, a lost connection).
    """

    kind: Literal["read", "write"]
    key: Hashable
    value: Hashable
    began: float
    ended: float = math.inf

    def __str__(self) -> str:
        return f"{self.kind} {self.key}={self.value} [{self.began:g}, {self.ended:g}]"


@dataclass(frozen=True, slots=True)
class _Zone:
    value: Hashable
    first_end: float
    last_begin: float

    @property
    def forward(self) -> bool:
        return self.first_end < self.last_begin

    def __str__(self) -> str:
        low, high = sorted((self.first_end, self.last_begin))
        return f"value {self.value} ({low:g} to {high:g})"


def check(history: Iterable[Operation]) -> list[str]:
    """What is wrong, a line for each key at most; nothing: it is linearizable.

    Reads that did not return say nothing, and are passed over.

    Raises:
        ValueError: two writes of a key have the same value.
    """
    by_key: dict[Hashable, list[Operation]] = defaultdict(list)
    for operation in history:
        if operation.kind == "write" or operation.ended < math.inf:
            by_key[operation.key].append(operation)
    problems = (_problem(operations) for operations in by_key.values())
    return [
        f"key {key}: {problem}"
        for key, problem in zip(by_key, problems, strict=True)
        if problem is not None
    ]


def _problem(operations: list[Operation]) -> str | None:
    writes: dict[Hashable, Operation] = {None: Operation("write", "", None, -math.inf, -math.inf)}
    for write in operations:
        if write.kind == "write":
            if write.value in writes:
                raise ValueError(f"written twice: {writes[write.value]} and {write}")
            writes[write.value] = write
    reads: dict[Hashable, list[Operation]] = defaultdict(list)
    for read in operations:
        if read.kind == "read":
            if read.value not in writes:
                return f"{read}: nobody wrote that"
            if read.ended < writes[read.value].began:
                return f"{read}: before it was written, {writes[read.value]}"
            reads[read.value].append(read)
    return _conflict([*_zones(writes, reads)])


def _zones(
    writes: dict[Hashable, Operation], reads: dict[Hashable, list[Operation]]
) -> Iterator[_Zone]:
    for value, write in writes.items():
        if write.ended == math.inf and not reads[value]:
            continue  # nobody saw it: it need not have happened
        group = [write, *reads[value]]
        yield _Zone(value, min(each.ended for each in group), max(each.began for each in group))


def _conflict(zones: list[_Zone]) -> str | None:
    forward = sorted((zone for zone in zones if zone.forward), key=lambda zone: zone.first_end)
    for one, other in pairwise(forward):
        if other.first_end < one.last_begin:
            return f"{one} and {other} were both there"
    # Forward zones do not overlap now, so that the last one which begins before a backward zone is
    # the only one that it may lie in.
    at = 0
    backward = (zone for zone in zones if not zone.forward)
    for zone in sorted(backward, key=lambda zone: zone.last_begin):
        while at + 1 < len(forward) and forward[at + 1].first_end < zone.last_begin:
            at += 1
        if forward and forward[at].first_end < zone.last_begin:
            if zone.first_end < forward[at].last_begin:
                return f"{zone} had no moment of its own beside {forward[at]}"
    return None
