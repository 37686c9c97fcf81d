"""The programs in examples/ do what they say, run as a user runs them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT, end
from tests.replication.nodes import free_ports
from walstore import FileWALManager
from walstore.docstore import DocumentStore

EXAMPLES = ROOT / "examples"
TIMEOUT_S = 60


def run(name: str, *arguments: str | Path | int) -> list[str]:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_each_example_is_tested() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {"bank.py", "embedded.py", "replicated.py", "web.py"}


@pytest.mark.parametrize("name", ["bank.py", "embedded.py", "replicated.py", "web.py"])
def test_without_arguments_it_says_what_it_is(name: str) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 1
    assert f"python examples/{name} DIRECTORY" in done.stderr
    assert "Traceback" not in done.stderr


def test_embedded(tmp_path: Path) -> None:
    assert run("embedded.py", tmp_path / "stock") == [
        "9 of apple are left",
        "3 of pear are left",
        "ada's last orders: [1]",
    ]
    assert run("embedded.py", tmp_path / "stock") == [
        "there is a stock from the run before",
        "8 of apple are left",
        "3 of pear are left",
        "ada's last orders: [2, 1]",
    ]


def test_replicated(tmp_path: Path) -> None:
    ports = free_ports(3)
    for count in (1, 2):
        receipt, *others = run("replicated.py", tmp_path / "nodes", *ports)
        assert receipt.startswith("receipt: {'a': 'DURABLE'")
        assert receipt.count("DURABLE") >= 2
        assert others == [
            f"b reads {count} of a",
            f"a reads {count} of b",
            "c has the same entries: True",
        ]


def test_bank(tmp_path: Path) -> None:
    ports = free_ports(3)
    for ada in (100, 91):
        first, later, refused = run("bank.py", tmp_path / "nodes", *ports)
        assert first == f'at first: {{"ada": {ada}, "bob": {100 - ada}}}'
        assert later.endswith(f'later: {{"ada": {ada - 9}, "bob": {109 - ada}}}')
        assert refused == f"refused: ada has only {ada - 9}"


# ---- the web application ----


@contextmanager
def served(directory: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The web application on a free port, and its url."""
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "web.py", str(directory), "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), process.stderr.read()
        yield process, url
    finally:
        end(process)


def ask(url: str, data: bytes | None = None) -> tuple[int, Any]:
    """Status and body of an answer; with data it is a POST."""
    try:
        with urllib.request.urlopen(url, data, timeout=TIMEOUT_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_web(tmp_path: Path) -> None:
    with served(tmp_path / "notes") as (process, url):
        milk = b'{"text": "buy milk", "tags": ["home"], "_id": "mine"}'
        status, made = ask(f"{url}/notes", milk)
        assert status == 201
        for bad in (b"{", b"[1]", b'{"text": 1}', b'{"text": "x", "n": NaN}', b'{"text": "\xff"}'):
            assert ask(f"{url}/notes", bad)[0] == 400
        for number in (b"1e999", b"-Infinity", b"1" * 20, b"1" * 5000):
            assert ask(f"{url}/notes", b'{"text": "x", "n": %b}' % number)[0] == 400
        assert ask(f"{url}/notes/{made['id']}") == (
            200,
            {"_id": made["id"], "text": "buy milk", "tags": ["home"]},
        )
        assert ask(f"{url}/notes/other")[0] == 404
        with ThreadPoolExecutor(8) as pool:
            notes = [b'{"text": "note %d"}' % at for at in range(40)]
            answers = list(pool.map(lambda note: ask(f"{url}/notes", note), notes))
        assert {status for status, _made in answers} == {201}
        assert len({made["id"] for _status, made in answers}) == 40
        process.kill()
        process.wait()
    with served(tmp_path / "notes") as (process, url):
        assert len(ask(f"{url}/notes")[1]) == 41
        assert [note["text"] for note in ask(f"{url}/notes?tag=home")[1]] == ["buy milk"]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert (out, err) == ("", "")
        assert process.returncode in (0, -signal.SIGTERM)
    info = [sys.executable, "-m", "walstore", "info", "--json", str(tmp_path / "notes")]
    assert json.loads(subprocess.check_output(info, timeout=TIMEOUT_S))["closed_cleanly"]
    with FileWALManager(tmp_path / "notes", read_only=True) as log, DocumentStore(log) as store:
        assert store["notes"].explain({"tags": "home"}).index == "tags_1"
        assert store["notes"].count_documents({}) == 41
