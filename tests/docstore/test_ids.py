"""The _ids that are made."""

from __future__ import annotations

import threading
import uuid

from tests.helpers import Entropy
from walstore.docstore.ids import IdMaker


class Clock:
    """A clock that stands where it is put."""

    def __init__(self, ms: int) -> None:
        self.ms = ms

    def __call__(self) -> int:
        return self.ms * 1_000_000


def test_they_are_uuids_of_version_7_that_sort_by_time() -> None:
    clock = Clock(1_790_000_000_000)
    make = IdMaker(clock, Entropy())
    made = [make() for _ in range(10)]
    clock.ms += 1
    made.append(make())
    assert made == sorted(set(made))
    for at, text in enumerate(made):
        known = uuid.UUID(text)
        assert known.version == 7
        assert known.variant == uuid.RFC_4122
        assert int(text[:12], 16) == 1_790_000_000_000 + (at == 10)


def test_they_go_up_when_the_clock_stands_still_or_goes_back() -> None:
    clock = Clock(1000)
    make = IdMaker(clock, Entropy())
    made = [make() for _ in range(10_000)]
    clock.ms = 500
    made += [make() for _ in range(10)]
    assert made == sorted(set(made))


def test_threads_never_get_the_same() -> None:
    make = IdMaker(Clock(1000), lambda size: b"\0" * size)
    made: list[list[str]] = [[] for _ in range(4)]

    def run(mine: list[str]) -> None:
        mine += [make() for _ in range(2000)]

    threads = [threading.Thread(target=run, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one for mine in made for one in mine}) == 8000
