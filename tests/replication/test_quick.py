"""Whether a follower's loop waits for its disk."""

from __future__ import annotations

from walstore.replication.quick import QuickDisk


def test_little_is_waited_for_when_nothing_else_waits() -> None:
    disk = QuickDisk()
    assert disk.waits_for(4 << 10, 0, 1.0)
    assert not disk.waits_for((4 << 10) + 1, 0, 1.0)
    assert not disk.waits_for(100, 1, 1.0)


def test_a_slow_disk_is_left_alone_for_a_second() -> None:
    disk = QuickDisk()
    disk.took(100.0, 105.0)
    assert disk.waits_for(100, 0, 105.0)
    disk.took(200.0, 205.5)
    assert not disk.waits_for(100, 0, 205.5)
    assert not disk.waits_for(100, 0, 1205.4)
    assert disk.waits_for(100, 0, 1205.5)
