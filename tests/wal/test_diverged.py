"""A tail that lost against another node's is kept whole, beside the log, before it is cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers import contents, crash_copy, payloads, restore, run_child, snapshot
from tests.native.twin import Record
from tests.wal.replicas import diverge, records_of, replicated
from walstore import EntryTruncatedError, FileWALManager, LSNOutOfRangeError, OptionError

pytestmark = pytest.mark.timeout(60)


def test_a_tail_that_lost_is_kept_as_a_log_of_its_own(tmp_path: Path) -> None:
    log = diverge(tmp_path / "log")
    with log:
        lost = log.submit(b"lost")
        kept = log._cut_diverged(15, 7)
        assert os.path.basename(kept) == "diverged-16-2"
        assert (log.last_lsn, log.term, log.committed_lsn) == (15, 7, 10)
        with pytest.raises(EntryTruncatedError):
            lost.wait(30)
        assert log._submit_records(records_of(Record(16, term=7, payload=b"new"))) == 16
        log._set_committed(16)
        log.sync()
        assert payloads(log.replay())[-2:] == [b"x" * 300, b"new"]
        log_id = log.log_id
        killed = crash_copy_all(tmp_path / "log", tmp_path / "killed")
    for path in (Path(kept), killed / "diverged-16-2"):
        with FileWALManager(path, read_only=True) as branch:
            entries = list(branch.replay())
            assert [entry.lsn for entry in entries] == list(range(16, 42))
            assert [entry.term for entry in entries] == [1] * 5 + [2] * 21
            assert payloads(entries) == [b"x" * 300] * 5 + [b"y" * 300] * 20 + [b"lost"]
            assert branch.verify().status == "clean"
            assert (branch.first_lsn, branch.log_id) == (16, log_id)
        assert not [name for name in os.listdir(path) if name.startswith("spare-")]
    assert "diverged.tmp" not in os.listdir(tmp_path / "log")
    with replicated(killed) as log:
        assert (log.last_lsn, log.term) == (16, 7)


def crash_copy_all(source: Path, target: Path) -> Path:
    """As crash_copy, with the directories in it."""
    target.mkdir()
    for child in sorted(source.iterdir()):
        if child.is_dir():
            restore(target / child.name, snapshot(child))
        elif not child.name.startswith("spare-"):
            (target / child.name).write_bytes(child.read_bytes())
    return target


def test_keeping_is_done_again_after_a_crash(tmp_path: Path) -> None:
    """The branch was kept, the cut not made: the next try takes it as it is. What has grown since
    is another branch, and each stays."""
    log = diverge(tmp_path / "log")
    before = crash_copy(tmp_path / "log", tmp_path / "before")
    first = Path(log._cut_diverged(15, 7))
    log.close()
    again = before / "diverged-16-2"
    restore(again, snapshot(first))
    restore(before / "diverged.tmp", {"meta": b"half"})
    with replicated(before) as log:
        assert not (before / "diverged.tmp").exists()
        inode = (again / "meta").stat().st_ino
        assert log._cut_diverged(15, 7) == str(again)
        assert (again / "meta").stat().st_ino == inode
        log._adopt_term(8)
    other = diverge(tmp_path / "third")
    with other:
        restore(tmp_path / "third" / "diverged-16-2", snapshot(first))
        other.submit(b"more")
        assert os.path.basename(other._cut_diverged(15, 7)) == "diverged-16-2-2"
    assert len(contents(tmp_path / "third" / "diverged-16-2")) == 25
    assert len(contents(tmp_path / "third" / "diverged-16-2-2")) == 26


def test_what_is_committed_is_never_cut(tmp_path: Path) -> None:
    log = diverge(tmp_path / "log")
    with log:
        for after_lsn, term, error in (
            (9, 7, OptionError),
            (15, 1, OptionError),
            (40, 7, LSNOutOfRangeError),
            (-1, 7, LSNOutOfRangeError),
        ):
            with pytest.raises(error):
                log._cut_diverged(after_lsn, term)
        assert (log.last_lsn, log.term) == (40, 2)
        assert not [name for name in os.listdir(log.path) if name.startswith("diverged")]
        log._cut_diverged(10, 2)
        assert log.last_lsn == 10


NO_SPACE = """
    import os, resource, signal, sys
    from tests.wal.replicas import diverge
    from walstore import LogFullError
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    log = diverge(sys.argv[1])
    limit = lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    refused = 0
    for size in range(0, 40000, 500):
        limit(size)
        try:
            log._cut_diverged(15, 7)
        except LogFullError:
            refused += 1
            assert (log.last_lsn, log.term) == (40, 2)
            names = [name for name in os.listdir(log.path) if name.startswith("diverged-")]
            assert not names or len(names) == 1
        else:
            break
        finally:
            limit(resource.RLIM_INFINITY)
    print(refused, log.last_lsn)
    log.close()
"""


def test_a_tail_that_finds_no_space_is_not_cut(tmp_path: Path) -> None:
    refused, last_lsn = run_child(NO_SPACE, tmp_path / "log").split()
    print(f"refused {refused} times")
    assert int(refused) >= 20
    assert last_lsn == "15"
    entries = contents(tmp_path / "log" / "diverged-16-2")
    assert [entry.lsn for entry in entries] == list(range(16, 41))
