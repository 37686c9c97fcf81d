"""Power cuts and failed syncs on a filesystem that keeps nothing but what was synced."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from . import cuts
from .cache_cuts import acked_after_failure
from .lost_cache import FAILED, PAGE_BYTES, LostCache
from .methods import unavailable
from .mounts import UnavailableError
from .settings import scaled, seed
from .workloads import workloads

CUTS_MIN = 60
ACKS_PER_CUT_MIN = 5
# In the usual run; a soak takes all that fail call by call, and start from nothing. Large entries
# lie on pages that no later append writes again: what a failed sync lost there stays lost.
WORKLOADS: tuple[str, ...] = ("append_always", "append_batches", "append_large", "truncate_after")
FAILED_SYNCS_MIN = 200


def work(
    kind: str, rounds: int, target: str = "walstore", names: tuple[str, ...] = ()
) -> cuts.Outcome:
    spec = cuts.Spec(kind, rounds, seed(), target=target, workloads=[*names])
    try:
        return cuts.run_workers("cache_cuts", spec)
    except UnavailableError as error:
        unavailable("fuse", str(error))


def test_acked_entries_survive_the_loss_of_the_page_cache(
    capsys: pytest.CaptureFixture[str],
) -> None:
    count = scaled(CUTS_MIN)
    outcome = work("power", count)
    with capsys.disabled():
        print(f"\nlost page caches: {outcome}")
    assert outcome.bad == 0, "\n".join(outcome.reports)
    assert outcome.rounds >= count
    assert outcome.acks >= ACKS_PER_CUT_MIN * count, "the writers hardly got to write"


def test_no_ack_rests_on_a_failed_sync(capsys: pytest.CaptureFixture[str]) -> None:
    names = WORKLOADS
    if scaled(1) > 1:
        fit = [w for w in workloads("walstore") if not (w.concurrent or w.failing or w.starts_from)]
        names = tuple(w.name for w in fit if w.name != "submit_pipelined")
    outcome = work("eio", scaled(FAILED_SYNCS_MIN), names=names)
    with capsys.disabled():
        print(f"\nfailed syncs: {outcome}")
    assert outcome.bad == 0, "\n".join(outcome.reports)
    assert outcome.failed_syncs >= scaled(FAILED_SYNCS_MIN)


@pytest.mark.parametrize(
    ("kind", "bug"),
    [("power", "no-fdatasync"), ("power", "no-directory-fsync"), ("eio", "retry-sync")],
)
def test_a_log_with_a_bug_is_found(kind: str, bug: str) -> None:
    right, wrong = (work(kind, 10, name, ("toy",)) for name in ("toy", f"toy-{bug}"))
    assert right.bad == 0, "\n".join(right.reports)
    assert right.rounds >= 10
    assert wrong.bad > 0


def test_acks_after_a_failure_are_found() -> None:
    acked, failed = {"t": "acked", "op": 1}, {"t": "failed", "call": "append", "error": "OSError"}
    assert not acked_after_failure([acked, failed, {"t": "open"}, acked])
    assert acked_after_failure([failed, acked])
    assert acked_after_failure([{"t": "open"}, failed, failed, {"t": "termed", "term": 2}])


# The filesystem, without FUSE. A second one on the same store is what a power cut leaves.


class Disk:
    """A store, and the filesystem on it."""

    def __init__(self, store: Path) -> None:
        self.store, self.reports = store, list[bytes]()
        (store / "tree").mkdir(parents=True)
        self.mount()

    def mount(self, fail_sync: int = 0) -> None:
        """Anew: all that was not synced is gone."""
        self.files = LostCache(str(self.store), fail_sync, self.reports.append)
        self.root = self.files.opendir("/")

    def sync_names(self) -> None:
        self.files.fsyncdir(None, 0, self.root)

    def content(self, path: str) -> bytes:
        return self.files.read(None, 1 << 20, 0, self.files.open(path, 0))

    def names(self) -> set[str]:
        return {*self.files.readdir(None, self.root)} - {".", ".."}


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "store")


def test_bytes_and_names_are_kept_by_their_syncs_alone(disk: Disk) -> None:
    file = disk.files.create("/a", 0o644)
    disk.files.write(None, b"one", 0, file)
    disk.files.fsync(None, 1, file)
    assert disk.content("/a") == b"one"
    disk.mount()
    assert disk.names() == set()
    disk.files.create("/a", 0o644)
    disk.sync_names()
    disk.mount()
    file = disk.files.open("/a", 0)
    assert disk.content("/a") == b""
    disk.files.write(None, b"two", PAGE_BYTES, file)
    disk.files.fsync(None, 1, file)
    disk.files.write(None, b"lost", 0, file)
    disk.files.unlink("/a")
    disk.mount()
    assert disk.content("/a") == bytes(PAGE_BYTES) + b"two"


def test_changes_of_names_and_directories_are_kept_in_order(disk: Disk) -> None:
    disk.files.mkdir("/d", 0o755)
    folder = disk.files.opendir("/d")
    old = disk.files.create("/d/old", 0o644)
    disk.files.write(None, b"x", 0, old)
    disk.files.fsync(None, 1, old)
    disk.files.create("/d/gone", 0o644)
    disk.files.rename("/d/old", "/d/new")
    disk.files.unlink("/d/gone")
    disk.files.fsyncdir(None, 0, folder)
    disk.sync_names()
    disk.files.rename("/d/new", "/d/lost")
    disk.mount()
    assert {*disk.files.readdir(None, disk.files.opendir("/d"))} == {".", "..", "new"}
    assert disk.content("/d/new") == b"x"


def test_failed_sync_loses_its_pages_and_shows_them_on(disk: Disk) -> None:
    file = disk.files.create("/a", 0o644)
    disk.files.write(None, b"." * 2 * PAGE_BYTES, 0, file)
    disk.files.fsync(None, 1, file)
    disk.sync_names()
    disk.mount(fail_sync=1)
    file = disk.files.open("/a", 0)
    disk.files.write(None, b"#" * 2 * PAGE_BYTES, 0, file)
    with pytest.raises(OSError, match="Input/output") as caught:
        disk.files.fsync(None, 1, file)
    assert caught.value.errno == errno.EIO
    assert disk.reports == [FAILED]
    disk.files.fsync(None, 1, file)
    assert disk.content("/a") == b"#" * 2 * PAGE_BYTES
    disk.files.write(None, b"!", PAGE_BYTES, file)
    disk.files.fsync(None, 1, file)
    disk.mount()
    assert disk.content("/a") == b"." * PAGE_BYTES + b"!" + b"#" * (PAGE_BYTES - 1)
