"""The timed loops.  Each repeats one call for a bounded time and notes when each call returned.

One clock reading per call serves as its end and as the start of the next: the loop adds about
0.1 us to a call, the same for every contender.  Calls of a short warm-up are not counted: after
that files exist, first pages are allocated, background threads run.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

CALLS_MAX = 20_000_000  # a bound far above what the time allows


class Commit(Protocol):
    """What ``submit`` returns; awaitable too, which only the asyncio loop needs."""

    def wait(self, timeout_s: float | None = None) -> int: ...


Submit = Callable[[bytes], Any]


@dataclass(frozen=True)
class Span:
    """For how long to warm up, and for how long to measure."""

    warmup_s: float
    seconds: float

    def from_now(self) -> tuple[int, int]:
        """Return when to begin to count, and when to end, on the clock of the loops."""
        begin_ns = time.perf_counter_ns() + int(self.warmup_s * 1e9)
        return begin_ns, begin_ns + int(self.seconds * 1e9)


@dataclass(frozen=True)
class Sample:
    """The outcome of a loop."""

    operations: int  # records acknowledged in the counted time
    elapsed_ns: int
    latencies_ns: list[int]  # of each call; of pipelined work see there
    acknowledged: int  # all records, warm-up included: what the store must hold afterwards


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """Return the nearest-rank percentile of a sorted, non-empty sequence."""
    assert ordered, "a percentile of nothing"
    assert 0.0 <= fraction <= 1.0
    rank = math.ceil(fraction * len(ordered))
    return ordered[max(rank, 1) - 1]


def figures(sample: Sample) -> dict[str, float]:
    """Return rate and latencies of a sample as they are reported."""
    ordered = sorted(sample.latencies_ns)
    return {
        "ops_per_s": sample.operations * 1e9 / sample.elapsed_ns,
        "p50_us": percentile(ordered, 0.50) / 1e3,
        "p99_us": percentile(ordered, 0.99) / 1e3,
        "p999_us": percentile(ordered, 0.999) / 1e3,
        "max_us": ordered[-1] / 1e3,
    }


def _timed_calls(
    call: Callable[[Any], object], argument: object, begin_ns: int, end_ns: int
) -> tuple[list[int], int]:
    """Call until ``end_ns``.  Return the time of each return since ``begin_ns``, and all calls."""
    clock = time.perf_counter_ns
    warm_calls = 0
    now = clock()
    while now < begin_ns:
        call(argument)
        warm_calls += 1
        now = clock()
    stamps = [now]
    note = stamps.append
    for _ in range(CALLS_MAX):
        call(argument)
        now = clock()
        note(now)
        if now >= end_ns:
            break
    return stamps, warm_calls + len(stamps) - 1


def _differences(stamps: list[int]) -> list[int]:
    return [after - before for before, after in pairwise(stamps)]


def single(
    call: Callable[[Any], object], argument: object, span: Span, *, records: int = 1
) -> Sample:
    """One thread, one call after the other; each call stores ``records`` records."""
    stamps, calls = _timed_calls(call, argument, *span.from_now())
    return Sample(
        operations=(len(stamps) - 1) * records,
        elapsed_ns=stamps[-1] - stamps[0],
        latencies_ns=_differences(stamps),
        acknowledged=calls * records,
    )


def threads(call: Callable[[bytes], object], payload: bytes, span: Span, *, count: int) -> Sample:
    """``count`` threads, one call after the other in each.  A starved thread's wait counts."""
    outcomes: list[tuple[list[int], int]] = []
    errors: list[BaseException] = []
    ready = threading.Barrier(count + 1)
    times: list[int] = []

    def work() -> None:
        try:
            ready.wait()
            outcomes.append(_timed_calls(call, payload, times[0], times[1]))
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work, name=f"bench-{index}") for index in range(count)]
    for worker in workers:
        worker.start()
    times.extend(span.from_now())
    ready.wait()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]
    latencies = [each for stamps, _ in outcomes for each in _differences(stamps)]
    return Sample(
        operations=len(latencies),
        elapsed_ns=max(stamps[-1] for stamps, _ in outcomes) - times[0],
        latencies_ns=latencies,
        acknowledged=sum(calls for _, calls in outcomes),
    )


def pipelined(submit: Submit, payload: bytes, span: Span, *, window: int) -> Sample:
    """One thread submits; at most ``window`` records are not yet durable.

    Records become durable in order.  So the thread submits half a window, then waits for the last
    record of the half before: one wait for many records, as a program that streams would do.  The
    latency noted is that of a half's first record, the one that waits longest.
    """
    clock = time.perf_counter_ns
    half = window // 2
    begin_ns, end_ns = span.from_now()
    older: Commit | None = None
    older_since = now = clock()
    begun = 0
    total = operations = 0
    latencies: list[int] = []
    for _ in range(CALLS_MAX):
        since = now
        for _ in range(half):
            newest = submit(payload)
        total += half
        if older is not None:
            older.wait()
            now = clock()
            if begun:
                latencies.append(now - older_since)
                operations += half
            elif now >= begin_ns:
                begun = now
        older, older_since = newest, since
        if now >= end_ns and latencies:
            break
    assert older is not None
    elapsed_ns = now - begun
    older.wait()
    return Sample(operations, elapsed_ns, latencies, total)


def pipelined_each(submit: Submit, payload: bytes, span: Span, *, window: int) -> Sample:
    """As ``pipelined``, but every record's own commit is waited for, oldest first."""
    clock = time.perf_counter_ns
    begin_ns, end_ns = span.from_now()
    pending: deque[tuple[Commit, int]] = deque()
    now = clock()
    begun = total = 0
    latencies: list[int] = []
    for _ in range(CALLS_MAX):
        pending.append((submit(payload), now))
        total += 1
        if len(pending) < window:
            continue
        commit, since = pending.popleft()
        commit.wait()
        now = clock()
        if begun:
            latencies.append(now - since)
        elif now >= begin_ns:
            begun = now
        if now >= end_ns and latencies:
            break
    elapsed_ns = now - begun
    for commit, _ in pending:
        commit.wait()
    return Sample(len(latencies), elapsed_ns, latencies, total)


def asyncio_tasks(submit: Submit, payload: bytes, span: Span, *, in_flight: int) -> Sample:
    """``in_flight`` asyncio tasks, each awaiting one record after the other."""
    return asyncio.run(_tasks(submit, payload, span, in_flight))


def asyncio_blocking(
    append: Callable[[bytes], object], payload: bytes, span: Span, *, in_flight: int
) -> Sample:
    """The same for a store that can only block: it appends inside the task, which blocks the loop.

    A thread pool would leave the loop free and be slower: a hop to a thread and back per record.
    """

    async def append_and_yield(record: bytes) -> None:
        append(record)
        await asyncio.sleep(0)

    return asyncio.run(_tasks(append_and_yield, payload, span, in_flight))


async def _tasks(
    store: Callable[[bytes], Awaitable[object]], payload: bytes, span: Span, in_flight: int
) -> Sample:
    clock = time.perf_counter_ns
    begin_ns, end_ns = span.from_now()
    latencies: list[int] = []

    async def work() -> tuple[int, int]:
        total = 0
        now = clock()
        while now < end_ns or not latencies:
            since = now
            await store(payload)
            now = clock()
            total += 1
            if since >= begin_ns:
                latencies.append(now - since)
        return total, now

    outcomes = await asyncio.gather(*(work() for _ in range(in_flight)))
    return Sample(
        operations=len(latencies),
        elapsed_ns=max(ended for _, ended in outcomes) - begin_ns,
        latencies_ns=latencies,
        acknowledged=sum(total for total, _ in outcomes),
    )
