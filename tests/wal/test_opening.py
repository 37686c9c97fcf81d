"""Opening: bad paths and options, who may write, and what a fork or a kill leaves."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import (
    child,
    contents,
    crash_copy,
    end,
    expect_line,
    open_descriptors,
    payloads,
    run_child,
    snapshot,
    tell,
)
from tests.native.twin import Record
from tests.wal import raw
from walstore import (
    ClosedLogError,
    CorruptLogError,
    FileWALManager,
    LogAccessError,
    LogLockedError,
    NotALogError,
    OptionError,
    ReadOnlyLogError,
)
from walstore.limits import BLOCK_BYTES, SEGMENT_BYTES_MAX, SYNC_INTERVAL_MS_MAX
from walstore.wal import files
from walstore.wal.meta import META_NAME
from walstore.wal.record import record_bytes


@pytest.mark.parametrize(
    "options",
    [
        {"sync": "never"},
        {"sync": None},
        {"sync": ""},
        {"segment_bytes": 0},
        {"segment_bytes": -1},
        {"segment_bytes": 4095},
        {"segment_bytes": SEGMENT_BYTES_MAX + 1},
        {"segment_bytes": 1e6},
        {"segment_bytes": True},
        {"segment_bytes": "64M"},
        {"sync_interval_ms": 0},
        {"sync_interval_ms": -5},
        {"sync_interval_ms": SYNC_INTERVAL_MS_MAX + 1},
        {"sync_interval_ms": None},
    ],
    ids=str,
)
def test_absurd_options_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError) as caught:
        FileWALManager(tmp_path / "log", **options)
    assert isinstance(caught.value, ValueError)
    assert next(iter(options)).split("_")[0] in str(caught.value)
    assert not (tmp_path / "log").exists()


def test_path_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"text")
    for read_only in (True, False):
        with pytest.raises(NotALogError, match="is a file") as caught:
            FileWALManager(path, read_only=read_only)
        assert caught.value.path == str(path)
    assert path.read_bytes() == b"text"


def test_missing_path_to_read(tmp_path: Path) -> None:
    with pytest.raises(NotALogError, match="no such directory"):
        FileWALManager(tmp_path / "none", read_only=True)
    assert not (tmp_path / "none").exists()


def test_a_parent_that_takes_no_log() -> None:
    with pytest.raises(LogAccessError, match="cannot make /proc/no-log"):
        FileWALManager("/proc/no-log")


def test_missing_parent(tmp_path: Path) -> None:
    with pytest.raises(LogAccessError) as caught:
        FileWALManager(tmp_path / "no" / "log")
    assert isinstance(caught.value, OSError)
    assert caught.value.path == str(tmp_path / "no")
    assert "cannot make a log where there is no directory" in str(caught.value)


def test_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(NotALogError, match="holds no log"):
        FileWALManager(tmp_path, read_only=True)
    with FileWALManager(tmp_path) as log:
        log.append(b"x")
    assert payloads(contents(tmp_path)) == [b"x"]


def test_directory_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(NotALogError, match=r"thesis\.txt") as caught:
        FileWALManager(tmp_path)
    assert caught.value.hint
    assert snapshot(tmp_path) == {"thesis.txt": b"mine"}


def test_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for read_only in (True, False):
        with pytest.raises(NotALogError):
            FileWALManager(tmp_path / "link", read_only=read_only)


def test_link_to_a_log_is_the_log(tmp_path: Path) -> None:
    with FileWALManager(tmp_path / "log") as log:
        log.append(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "log")
    with FileWALManager(tmp_path / "link") as log:
        assert log.append(b"y") == 2


@pytest.mark.parametrize("convert", [str, Path, os.fspath])
def test_kinds_of_paths(tmp_path: Path, convert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with FileWALManager(convert(tmp_path / "log")) as log:
        assert log.path == str(tmp_path / "log")
    monkeypatch.chdir(tmp_path)
    with FileWALManager("log") as log:
        assert log.path == str(tmp_path / "log")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that another user can reach."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


TRY_OPEN = """
    import os, sys
    from walstore import FileWALManager, WALStoreError
    path, read_only = sys.argv[1], sys.argv[2] == "read"
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    try:
        with FileWALManager(path, read_only=read_only) as log:
            print("opened", log.last_lsn)
    except WALStoreError as error:
        print(type(error).__name__, error)
"""


def test_no_permission_is_said_clearly(shared: Path) -> None:
    path = shared / "log"
    with FileWALManager(path) as log:
        log.append(b"x")
    path.chmod(0o555)
    for file in path.iterdir():
        file.chmod(0o444)
    before = snapshot(path)
    assert run_child(TRY_OPEN, path, "read").strip() == "opened 1"
    assert "LogAccessError" in run_child(TRY_OPEN, path, "write")
    path.chmod(0o000)
    for how in ("read", "write"):
        out = run_child(TRY_OPEN, path, how)
        assert "LogAccessError" in out
        assert "Permission denied" in out
    path.chmod(0o755)
    assert snapshot(path) == before


def test_second_writer_in_this_process(tmp_path: Path) -> None:
    before = open_descriptors()
    with FileWALManager(tmp_path / "log") as log:
        with pytest.raises(LogLockedError) as caught:
            FileWALManager(tmp_path / "log")
        assert isinstance(caught.value, BlockingIOError)
        assert caught.value.path == str(tmp_path / "log")
        assert caught.value.hint
        log.append(b"unharmed")
        with FileWALManager(tmp_path / "log", read_only=True) as reader:
            assert payloads(reader.replay()) == [b"unharmed"]
    with FileWALManager(tmp_path / "log") as log:
        assert log.append(b"next") == 2
    assert open_descriptors() == before


@pytest.mark.parametrize("step", ["make_directory", "list_directory"])
def test_of_those_who_make_a_log_at_once_the_others_are_told_that_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "log"
    first: list[Any] = []
    real = getattr(files, step)
    if step == "list_directory":
        path.mkdir()

    def after_another(where: str) -> object:
        if not first:
            first.append(None)
            first[:] = [FileWALManager(path)]
        return real(where)

    monkeypatch.setattr(files, step, after_another)
    with pytest.raises(LogLockedError):
        FileWALManager(path)
    first[0].append(b"unharmed")
    first[0].close()
    assert payloads(contents(path)) == [b"unharmed"]


HOLD = """
    import sys
    from walstore import FileWALManager
    log = FileWALManager(sys.argv[1], segment_bytes=4096)
    for i in range(30):
        log.append(b"%d" % i * 50)
    log.submit(b"unacked")
    print("ready", flush=True)
    sys.stdin.readline()
    log.close()
    print("closed", flush=True)
    sys.stdin.readline()
"""


def test_second_writer_in_another_process_until_it_closes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    process = child(HOLD, path)
    try:
        expect_line(process, "ready")
        with pytest.raises(LogLockedError):
            FileWALManager(path)
        tell(process, "close")
        expect_line(process, "closed")
        with FileWALManager(path) as log:
            assert log.last_lsn == 31
    finally:
        end(process)


def test_lock_dies_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "log"
    process = child(HOLD, path)
    try:
        expect_line(process, "ready")
        process.kill()
        process.wait()
        with FileWALManager(path) as log:
            assert 30 <= log.last_lsn <= 31
            assert payloads(log.replay(1, 30)) == [b"%d" % i * 50 for i in range(30)]
    finally:
        end(process)


def test_reading_a_read_only_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with FileWALManager(path) as log:
        log.append_many([b"a", b"b"])
    before = snapshot(path)
    with FileWALManager(path, read_only=True) as log:
        assert payloads(log.replay()) == [b"a", b"b"]
        assert log.verify().status == "clean"
        for call in (
            lambda: log.append(b"x"),
            lambda: log.append_many([b"x"]),
            lambda: log.submit(b"x"),
            log.sync,
            log.begin_term,
            lambda: log.truncate_before(2),
            lambda: log.truncate_after(1),
        ):
            with pytest.raises(ReadOnlyLogError) as caught:
                call()
            assert caught.value.path == str(path)
            assert caught.value.hint
    for closed in (lambda: log.read(1), lambda: log.replay(), lambda: log.stats()):
        with pytest.raises(ClosedLogError):
            closed()
    assert snapshot(path) == before


def test_making_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    """At every point of a log's making there is no log yet, or a whole empty one."""
    whole = tmp_path / "whole"
    with FileWALManager(whole, segment_bytes=4096):
        pass
    files = snapshot(whole)
    segment = next(name for name in files if name[:1].isdigit())
    for made in ({}, {"meta": b""}, {"meta": b"", segment: files[segment]}):
        path = tmp_path / "again"
        path.mkdir()
        for name, data in made.items():
            (path / name).write_bytes(data)
        if made:
            with pytest.raises(NotALogError, match="cut short"):
                FileWALManager(path, read_only=True)
        with FileWALManager(path) as log:
            assert log.append(b"x") == 1
        shutil.rmtree(path)


def test_recovery_twice_is_recovery_once(tmp_path: Path) -> None:
    """A torn tail is cut and kept; doing it again, from any copy, gives the same log."""
    path = tmp_path / "log"
    with FileWALManager(path, sync="os", segment_bytes=4096) as log:
        log.append_many([b"a" * 100, b"b" * 100])
        log.append(b"c" * 100)
        crash_copy(path, tmp_path / "copy")
    copy = tmp_path / "copy"
    segment = next(file for file in copy.iterdir() if file.name[:1].isdigit())
    data = bytearray(segment.read_bytes())
    data[8192 + 2 * 152 + 60] ^= 1
    segment.write_bytes(data)
    for expected_cuts in (1, 1, 1):
        with FileWALManager(copy, segment_bytes=4096) as log:
            assert log.last_lsn == 2
            assert log.verify().status == "clean"
        cuts = [file for file in copy.iterdir() if file.name.startswith("cut-")]
        assert len(cuts) == expected_cuts
        assert bytes(data[8192 + 2 * 152 : 8192 + 3 * 152]) in cuts[0].read_bytes() + bytes(200)


FORK = """
    import os, sys
    from walstore import ClosedLogError, FileWALManager, LogLockedError, WALStoreError
    log = FileWALManager(sys.argv[1])
    log.append(b"parent")
    commit = log.submit(b"parent too")
    reader = FileWALManager(sys.argv[1], read_only=True)
    pid = os.fork()
    if pid == 0:
        try:
            for call in (
                lambda: log.append(b"child"),
                lambda: log.read(1),
                lambda: log.sync(),
                commit.wait,
                commit.done,
                lambda: reader.read(1),
            ):
                try:
                    call()
                except ClosedLogError:
                    pass
                else:
                    os._exit(3)
            log.close()
            try:
                FileWALManager(sys.argv[1])
            except LogLockedError:
                os._exit(0)
            os._exit(4)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(5)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, os.waitstatus_to_exitcode(status)
    assert commit.wait(30) == 2
    assert reader.read(2).payload == b"parent too"
    assert log.append(b"parent again") == 3
    reader.close()
    log.close()
    print("good")
"""


def test_fork_leaves_the_log_to_the_parent(tmp_path: Path) -> None:
    assert run_child(FORK, tmp_path / "log").strip() == "good"
    wanted = [b"parent", b"parent too", b"parent again"]
    assert payloads(contents(tmp_path / "log")) == wanted


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("what", ["meta", "record"])
def test_count_that_no_writer_gets_to_is_refused(
    tmp_path: Path, what: str, read_only: bool
) -> None:
    """Under valid checksums. The next change would count on from it, and out of its field."""
    absurd = (1 << 64) - 1
    header = raw.header_of()
    record = Record(1, term=absurd if what == "record" else 1, payload=b"x")
    meta = raw.meta_block(raw.meta_of(term=absurd if what == "meta" else 1))
    raw.write_segment(tmp_path, header, raw.encode_all([record], raw.seed_of(header)))
    (tmp_path / META_NAME).write_bytes(meta.ljust(BLOCK_BYTES, b"\0") * 2 + bytes(24))
    before = snapshot(tmp_path)
    with pytest.raises(CorruptLogError, match="makes no sense"):
        FileWALManager(tmp_path, read_only=read_only)
    assert snapshot(tmp_path) == before


def test_a_cut_whose_sync_may_have_failed_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed sync the kernel shows zeros that are not on the disk. A power loss after a
    clean close then brought the cut bytes back, and a whole log was taken for damaged."""
    with FileWALManager(tmp_path / "log") as log:
        log.append(b"kept")
        place = tmp_path / "log"
        crash_copy(place, tmp_path / "torn")
    (segment,) = (tmp_path / "torn").glob("*.wal")
    end_at = raw.RECORDS_AT + record_bytes(4)
    with segment.open("r+b") as file:
        file.seek(end_at)
        file.write(b"torn" * 100)
    log = FileWALManager(tmp_path / "torn")
    crash_copy(tmp_path / "torn", tmp_path / "cut")
    log.close()

    cleared: list[tuple[int, int]] = []
    zero_fill = files.zero_fill

    def note(fd: int, start: int, stop: int, path: str) -> None:
        cleared.append((start, stop))
        zero_fill(fd, start, stop, path)

    monkeypatch.setattr(files, "zero_fill", note)
    with FileWALManager(tmp_path / "cut") as log:
        assert payloads(log.replay()) == [b"kept"]
        assert any(start <= end_at and end_at + 400 <= stop for start, stop in cleared)
    cleared.clear()
    with FileWALManager(tmp_path / "cut"):
        assert cleared == []  # it was closed: that is on the disk
