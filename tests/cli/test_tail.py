"""walstore tail: the last entries, and those that another process is writing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.conftest import Run
from tests.cli.logs import healthy
from tests.helpers import ROOT, child, end, expect_line, tell
from walstore import FileWALManager

WRITER = """
    import sys
    from walstore import FileWALManager

    with FileWALManager(sys.argv[1], segment_bytes=1 << 16, sync=sys.argv[2]) as log:
        log.append(b"first")
        print("ready", flush=True)
        for line in sys.stdin:
            if line.strip() == "many":
                for number in range(2000):
                    log.submit(b"many-%d" % number)
            else:
                log.append(line.strip().encode())
            print(log.last_lsn, flush=True)
"""


@contextmanager
def walstore(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The command, running."""
    process = subprocess.Popen(
        [sys.executable, "-m", "walstore", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        end(process)


def lsns(found: object) -> list[int]:
    return [record["lsn"] for record in found.records]  # type: ignore[attr-defined]


def test_tail_last_entries(tmp_path: Path, run: Run) -> None:
    path = healthy(tmp_path / "log", entries=300, segment_bytes=4096)
    assert lsns(run("tail", path, "--json")) == list(range(291, 301))
    assert lsns(run("tail", path, "--json", "-n", 3)) == [298, 299, 300]
    assert lsns(run("tail", path, "--json", "-n", 0)) == []
    assert lsns(run("tail", path, "--json", "-n", 1000)) == list(range(1, 301))
    assert run("tail", path, "-n", 1).out.endswith("  entry-300\n")
    assert run("tail", path, "-n", -1).code == 64


def test_tail_empty(tmp_path: Path, run: Run) -> None:
    found = run("tail", healthy(tmp_path / "log", entries=0))
    assert (found.code, found.out) == (0, "")


def test_tail_all_truncated(tmp_path: Path, run: Run) -> None:
    with FileWALManager(tmp_path / "log", segment_bytes=1 << 16) as log:
        log.append_many([b"x"] * 10)
        log.truncate_before(11)
        assert run("tail", log.path).out == ""
        log.append(b"y")
        assert lsns(run("tail", log.path, "--json")) == [11]


def test_tail_kind_looks_far_enough_back(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "log"
    with FileWALManager(path, segment_bytes=1 << 20) as log:
        for kind in (2, 2, 1, 2):
            log.append_many([b""] * 10, kind=kind)
        log.append_many([b""] * 9000)
    assert lsns(run("tail", path, "--json", "--kind", 2, "-n", 12)) == [
        *range(19, 21),
        *range(31, 41),
    ]
    assert len(run("tail", path, "--json", "--kind", 2, "-n", 50).lines) == 30
    assert run("tail", path, "--json", "--kind", 3).out == ""


def test_tail_follows_another_process(tmp_path: Path) -> None:
    writer = child(WRITER, tmp_path / "log", "always")
    try:
        expect_line(writer, "ready")
        with walstore("tail", "-f", "--json", tmp_path / "log") as follower:
            assert follower.stdout is not None
            assert json.loads(follower.stdout.readline())["payload"] == "first"
            for number, word in enumerate(("second", "third"), 2):
                tell(writer, word)
                record = json.loads(follower.stdout.readline())
                assert (record["lsn"], record["payload"]) == (number, word)
                expect_line(writer, str(number))
            tell(writer, "many")  # over several segments
            expect_line(writer, "2003")
            got = [json.loads(follower.stdout.readline())["lsn"] for _ in range(2000)]
            assert got == list(range(4, 2004))
            follower.send_signal(signal.SIGINT)
            _, err = follower.communicate(timeout=30)
            assert follower.returncode == 130
            assert err == "walstore: interrupted\n"
    finally:
        end(writer)


def test_tail_follows_a_writer_that_leaves_the_sync_to_the_kernel(tmp_path: Path) -> None:
    writer = child(WRITER, tmp_path / "log", "os")
    try:
        expect_line(writer, "ready")
        with walstore("tail", "-f", "--payload", "raw", tmp_path / "log") as follower:
            assert follower.stdout is not None
            assert follower.stdout.read(5) == "first"
            for word in ("second", "third"):
                tell(writer, word)
                assert follower.stdout.read(len(word)) == word
    finally:
        end(writer)


def test_tail_of_a_log_whose_writer_is_killed(tmp_path: Path, spawn: Run) -> None:
    writer = child(WRITER, tmp_path / "log", "always")
    try:
        expect_line(writer, "ready")
        found = spawn("info", tmp_path / "log", "--json")
        assert found.json["writer_running"] is True
        assert spawn("verify", tmp_path / "log").code == 0
        assert spawn("stats", tmp_path / "log", "--json").json["entries"] == 1
        assert spawn("dump", tmp_path / "log", "--json").records[0]["payload"] == "first"
        found = spawn("repair", tmp_path / "log", "--apply")
        assert found.code == 5
        assert "open in another writer" in found.err
    finally:
        end(writer)
    assert spawn("info", tmp_path / "log", "--json").json["writer_running"] is False
    assert spawn("tail", tmp_path / "log").out.endswith("  first\n")
    assert spawn("repair", tmp_path / "log", "--apply").code == 0


def test_commands_while_a_writer_is_busy(tmp_path: Path, spawn: Run) -> None:
    busy = child(
        """
        import sys
        from walstore import FileWALManager

        with FileWALManager(sys.argv[1], segment_bytes=1 << 16) as log:
            log.append(b"x")
            print("ready", flush=True)
            while True:
                log.append_many([b"y" * 100] * 50)
                if log.last_lsn > 20_000:
                    log.truncate_before(log.last_lsn - 5000)
        """,
        tmp_path / "log",
    )
    try:
        expect_line(busy, "ready")
        for _ in range(3):
            for command in (["info"], ["verify"], ["tail"], ["info", "--json"]):
                found = spawn(*command, tmp_path / "log")
                assert found.code == 0, found
                assert found.err == ""
            for command in (["stats"], ["dump"]):
                found = spawn(*command, tmp_path / "log")
                # It may be truncated under them; that is said.
                assert (found.code, found.err) == (0, "") or (
                    found.code == 64 and "is out of range: the log holds" in found.err
                ), found
        assert busy.poll() is None
    finally:
        end(busy)
