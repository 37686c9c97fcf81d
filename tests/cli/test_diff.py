"""walstore diff."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.cli.conftest import Run
from tests.cli.logs import damage, healthy
from tests.cli.nodes import append, lone_node
from tests.helpers import Entropy, Ticks, restore, snapshot
from tests.wal.replicas import replicated
from walstore import FileWALManager


def copy(source: Path, name: str) -> Path:
    return restore(source.with_name(name), snapshot(source))


def grow(path: Path, *payloads: bytes, start_ns: int = 0) -> None:
    clock = Ticks()
    clock.now_ns += 10**9 + start_ns
    with FileWALManager(path, segment_bytes=1 << 16, clock=clock) as log:
        for payload in payloads:
            log.append(payload)


def test_same(tmp_path: Path, run: Run) -> None:
    a = healthy(tmp_path / "a")
    found = run("diff", a, copy(a, "b"))
    assert (found.code, found.out) == (0, "same: 10 entries, lsn 1 to 10\n")


def test_prefix(tmp_path: Path, run: Run) -> None:
    a = healthy(tmp_path / "a")
    b = copy(a, "b")
    grow(b, b"more", b"and more")
    for one, other in ((a, b), (b, a)):
        found = run("diff", one, other)
        assert found.code == 1
        assert f"{a} ends before the other; same: 10 entries, lsn 1 to 10" in found.out
        verdict = run("diff", one, other, "--json").json
        assert (verdict["verdict"], verdict["to_lsn"]) == ("prefix", 10)
        assert verdict["shorter"] == str(a)


def test_the_first_entry_that_differs(tmp_path: Path, run: Run) -> None:
    a = healthy(tmp_path / "a")
    b = copy(a, "b")
    grow(a, b"same", b"mine", b"x")
    grow(b, b"same", b"thine", b"x", b"y")
    found = run("diff", a, b)
    assert found.code == 2
    assert "differ at lsn 12; same before: 11 entries" in found.out
    verdict = run("diff", a, b, "--json").json
    assert (verdict["lsn"], verdict["a_entry"]["size"], verdict["b_entry"]["size"]) == (12, 4, 5)
    assert (verdict["a"], verdict["b"]) == (str(a), str(b))


def test_every_field_counts(tmp_path: Path, run: Run) -> None:
    base = healthy(tmp_path / "base")
    a = copy(base, "a")
    grow(a, b"payload")
    for number, (payload, later_ns) in enumerate([(b"Payload", 0), (b"payload", 1)]):
        b = copy(base, f"b{number}")
        grow(b, payload, start_ns=later_ns)
        assert run("diff", a, b).code == 2
    b = copy(base, "kind")
    clock = Ticks()
    clock.now_ns += 10**9
    with FileWALManager(b, segment_bytes=1 << 16, clock=clock) as log:
        log.append(b"payload", kind=2)
    assert run("diff", a, b).code == 2


def test_a_log_without_its_beginning(tmp_path: Path, run: Run) -> None:
    a = healthy(tmp_path / "a", entries=300, segment_bytes=4096)
    b = copy(a, "b")
    with FileWALManager(b, segment_bytes=4096) as log:
        log.truncate_before(200)
    assert "same: 101 entries, lsn 200 to 300" in run("diff", a, b).out
    with FileWALManager(a, segment_bytes=4096) as log:
        log.truncate_after(100)
    found = run("diff", a, b)
    assert found.code == 3
    assert "no entry in common" in found.out


def test_empty_logs(tmp_path: Path, run: Run) -> None:
    a = healthy(tmp_path / "a", entries=0)
    b = copy(a, "b")
    found = run("diff", a, b)
    assert (found.code, found.out) == (0, "same: no entry\n")
    grow(b, b"x")
    assert run("diff", a, b).code == 1
    assert run("diff", b, a).code == 1


def test_what_cannot_be_compared(tmp_path: Path, run: Run) -> None:
    a = healthy(tmp_path / "a")
    with FileWALManager(tmp_path / "b", segment_bytes=1 << 16, entropy=Entropy(7)) as other:
        other.append(b"x")
    found = run("diff", a, tmp_path / "b")
    assert found.code == 3
    assert "they are two logs" in found.out
    found = run("diff", a, tmp_path / "none")
    assert (found.code, found.out) == (3, "")
    assert "is not a log" in found.err
    damaged = copy(a, "damaged")
    damage(damaged, b"entry-4")
    found = run("diff", a, damaged)
    assert (found.code, found.out) == (3, "")
    assert "lsn 4" in found.err


def test_a_node_that_does_not_answer(tmp_path: Path, run: Run) -> None:
    """Which is no verdict on the logs."""
    found = run("diff", healthy(tmp_path / "a"), "http://127.0.0.1:9")
    assert (found.code, found.out) == (4, "")
    assert "does not answer" in found.err
    assert "name the status_url" in found.err


def test_wrong_usage(tmp_path: Path, run: Run) -> None:
    for names in ([], ["a"], ["a", ""], ["a", "http://"], ["a", "https://127.0.0.1:1"]):
        assert run("diff", *names).code == 64


def test_a_node_that_runs(tmp_path: Path, run: Run) -> None:
    with lone_node(tmp_path / "log", segment_bytes=1 << 16) as endpoint:
        endpoint.node.append_many([b"entry %d" % number for number in range(2500)])
        found = run("diff", endpoint.url, tmp_path / "log")
        assert (found.code, found.out) == (0, "same: 2,501 entries, lsn 1 to 2,501\n")
        shutil.copytree(tmp_path / "log", tmp_path / "copy")
        append(endpoint.url, b"more")
        verdict = run("diff", endpoint.url, tmp_path / "copy", "--json").json
        assert (verdict["verdict"], verdict["to_lsn"]) == ("prefix", 2501)
    with replicated(tmp_path / "copy") as log:  # as two nodes that went wrong would have it
        log.submit(b"another")
        log.sync()
        log._set_committed(log.last_lsn)
    found = run("diff", tmp_path / "log", tmp_path / "copy", "--json")
    assert found.code == 2
    assert json.loads(found.out)["lsn"] == 2502
