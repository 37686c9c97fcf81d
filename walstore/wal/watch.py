"""Waking an event loop when an lsn has come far enough, without a call into the interpreter by
the thread that brought it there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from walstore._native import lib
from walstore.errors import OptionError

if TYPE_CHECKING:
    from walstore.wal.commit import GroupCommit

__all__ = ["LoopSlot", "LsnWatch"]


class LoopSlot:
    """A descriptor that the C writer writes to and an event loop reads from.

    Args:
        group: of the log.
        loop: the event loop; all methods but `release` are called in its thread.
        on_wake: called in the loop when the writer has written.
    """

    def __init__(
        self, group: GroupCommit, loop: asyncio.AbstractEventLoop, on_wake: Callable[[], None]
    ) -> None:
        self._group = group
        self._loop = loop
        self._on_wake = on_wake
        if hasattr(os, "eventfd"):
            self._read_fd = self._write_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._read_fd, self._write_fd = os.pipe()
            os.set_blocking(self._read_fd, False)
            os.set_blocking(self._write_fd, False)
        self._slot = lib.walcore_notify_open(group.raw, self._write_fd)
        if self._slot < 0:
            self._close_descriptors()
            raise OptionError(f"a log serves at most {lib.WALCORE_NOTIFY_SLOTS} event loops")
        loop.add_reader(self._read_fd, self._on_readable)

    @property
    def released(self) -> bool:
        """Whether it was let go of."""
        return self._slot < 0

    def arm(self, generation: int, lsn: int, level: int) -> bool:
        """Asks to be woken once; True, and nothing is asked, when it is due already."""
        return bool(lib.walcore_notify_arm(self._group.raw, self._slot, generation, lsn, level))

    def _on_readable(self) -> None:
        try:
            os.read(self._read_fd, 8)
        except BlockingIOError:
            return
        self._on_wake()

    def leave_loop(self) -> None:
        """Ends the reading; `release` follows."""
        self._loop.remove_reader(self._read_fd)

    def release(self) -> None:
        """Gives the slot and the descriptors back."""
        lib.walcore_notify_close(self._group.raw, self._slot)
        self._slot = -1
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        os.close(self._read_fd)
        if self._write_fd != self._read_fd:
            os.close(self._write_fd)


class LsnWatch:
    """Calls back in an event loop when an lsn has come to a level.

    Args:
        group: of the log.
        loop: the running event loop; every method is called in its thread.
        level: lib.WALCORE_LEVEL_WRITTEN, _DURABLE or _COMMITTED.
        callback: takes nothing; it looks at the log for what happened.

    Raises:
        OptionError: the log has no slot left.
    """

    def __init__(
        self,
        group: GroupCommit,
        loop: asyncio.AbstractEventLoop,
        level: int,
        callback: Callable[[], None],
    ) -> None:
        self._group = group
        self._loop = loop
        self._level = level
        self._callback = callback
        self._armed_lsn = 0
        self._generation = 0
        self._slot = LoopSlot(group, loop, self._on_wake)

    def arm(self, lsn: int) -> None:
        """Has `callback` run once: when `lsn` is there, or the log failed, was closed or lost
        entries at its end. It never runs in this call. Replaces what was armed before."""
        if self._slot.released:
            return
        self._armed_lsn = lsn
        self._generation = self._group.shared.generation
        if self._slot.arm(self._generation, lsn, self._level):
            self._loop.call_soon(self._on_wake)

    def _on_wake(self) -> None:
        lsn = self._armed_lsn
        if not lsn or self._slot.released or self._group.raw is None:
            return
        # The writer may have woken an arming that was replaced since.
        same = self._group.shared.generation == self._generation
        if same and not self._slot.arm(self._generation, lsn, self._level):
            return
        self._armed_lsn = 0
        self._callback()

    def close(self) -> None:
        """Lets go of the loop; `callback` does not run any more."""
        if self._slot.released:
            return
        self._armed_lsn = 0
        if not self._loop.is_closed():
            self._slot.leave_loop()
        self._slot.release()
