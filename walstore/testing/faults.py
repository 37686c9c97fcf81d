"""What may happen to the k-th storage call."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass

from walstore.testing.shim import CHANGES, READS, Action
from walstore.testing.trace import Kind


@dataclass(frozen=True)
class Fault:
    """What happens to the k-th call."""

    name: str
    action: Action = Action.ERRNO
    error: int = 0
    forever: bool = False
    kinds: frozenset[Kind] = CHANGES

    @property
    def kills(self) -> bool:
        return self.action in (Action.KILL, Action.KILL_TORN)


def _faults() -> Iterator[Fault]:
    writes = frozenset({Kind.WRITE})
    for suffix, forever in (("once", False), ("forever", True)):
        for name in ("EIO", "ENOSPC", "EDQUOT", "EINTR"):
            yield Fault(f"{name.lower()}-{suffix}", Action.ERRNO, getattr(errno, name), forever)
        yield Fault(f"short-{suffix}", Action.SHORT, 0, forever, writes)
        yield Fault(f"short-full-{suffix}", Action.SHORT_FULL, 0, forever, writes)
        yield Fault(f"read-eio-{suffix}", Action.ERRNO, errno.EIO, forever, READS)
    yield Fault("short-read", Action.SHORT, 0, False, READS)
    yield Fault("kill", Action.KILL)
    yield Fault("kill-torn", Action.KILL_TORN, kinds=writes)


FAULTS = {fault.name: fault for fault in _faults()}

# What a store of somebody else is tried with. Calls that need no space do not fail for want of it.
_SPACE = frozenset({Kind.WRITE, Kind.TRUNCATE, Kind.ALLOCATE, Kind.MKDIR, Kind.RENAME})
FAILING_CALLS = (
    FAULTS["eio-once"],
    FAULTS["eio-forever"],
    FAULTS["short-once"],
    FAULTS["eintr-once"],
    FAULTS["read-eio-once"],
    FAULTS["kill-torn"],
)
FULL_DISK = (
    Fault("enospc-once", Action.ERRNO, errno.ENOSPC, False, _SPACE),
    Fault("enospc-forever", Action.ERRNO, errno.ENOSPC, True, _SPACE),
    FAULTS["short-full-once"],
    FAULTS["short-full-forever"],
)
