"""walstore dump."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.logs import damage, healthy
from tests.helpers import Ticks
from walstore import FileWALManager
from walstore.cli import dump as dump_module
from walstore.cli.options import parse_time

KEYS = ["lsn", "term", "timestamp_ns", "time", "kind", "size", "payload"]
START_NS = Ticks().now_ns

HARD_PAYLOADS = [
    b"",
    b"text",
    "é ✓ 🎉".encode(),
    b"\xff\xfe\x00binary",
    b"\x1b[31mred\x1b[0m\r\n",
    b'{"a": [1, 2.50, 1e400, {"b": null}],\n "a": "\xc3\xa9"}',
    b"[1, NaN]",
    b"[" * 100_000,
    bytes(range(256)),
    b"\xef\xbb\xbf{}",
    b'"\x7f"',
]


def of(path: Path, payloads: list[bytes]) -> Path:
    with FileWALManager(path, segment_bytes=1 << 16) as log:
        log.append_many(payloads)
    return path


def lsns(outcome: object) -> list[int]:
    return [record["lsn"] for record in outcome.records]  # type: ignore[attr-defined]


def test_dump_lines(tmp_path: Path, run: Run) -> None:
    found = run("dump", healthy(tmp_path / "log"))
    assert found.code == 0
    assert len(found.lines) == 10
    assert found.lines[0].split() == ["1", "2023-11-14T22:13:20.000Z", "1", "1", "7", "entry-1"]


def test_dump_empty(tmp_path: Path, run: Run) -> None:
    path = healthy(tmp_path / "log", entries=0)
    assert run("dump", path).out == ""
    assert run("dump", path, "--since", "-1h").code == 0


def test_dump_json_keys_are_stable(tmp_path: Path, run: Run) -> None:
    records = run("dump", healthy(tmp_path / "log"), "--json").records
    assert all(list(record) == KEYS for record in records)
    assert records[3]["payload"] == "entry-4"
    assert records[0]["time"] == "2023-11-14T22:13:20." + str(records[0]["timestamp_ns"])[-9:] + "Z"
    assert [parse_time(record["time"], 0) for record in records] == [
        record["timestamp_ns"] for record in records
    ]


@pytest.mark.parametrize("form", [None, "json", "hex"])
def test_dump_json_is_lossless(tmp_path: Path, run: Run, form: str | None) -> None:
    path = of(tmp_path / "log", HARD_PAYLOADS)
    found = run("dump", path, "--json", *(["--payload", form] if form else []))
    assert found.out.isascii()
    assert "\x1b" not in found.out
    assert len(found.lines) == len(HARD_PAYLOADS)
    for payload, record in zip(HARD_PAYLOADS, found.records, strict=True):
        assert list(record)[: len(KEYS)] == KEYS
        assert record["size"] == len(payload)
        if "payload_hex" in record:
            assert record["payload"] is None
            assert bytes.fromhex(record["payload_hex"]) == payload
        elif "payload_base64" in record:
            assert record["payload"] is None
            assert base64.b64decode(record["payload_base64"]) == payload
        elif form == "json":
            assert record["payload"] == json.loads(payload)
        else:
            assert record["payload"].encode() == payload


def test_dump_json_payload_keeps_numbers_as_written(tmp_path: Path, run: Run) -> None:
    path = of(tmp_path / "log", [b'{"n": 2.50, "big": 1e400,\r\n"n": 123456789012345678901}'])
    line = run("dump", path, "--json", "--payload", "json").out
    assert '"payload":{"n": 2.50, "big": 1e400,  "n": 123456789012345678901}}' in line


def test_dump_json_refuses_raw(tmp_path: Path, run: Run) -> None:
    healthy(tmp_path / "log")
    for command, name in (("dump", "log"), ("dump", "nothere"), ("tail", "nothere")):
        found = run(command, tmp_path / name, "--json", "--payload", "raw")
        assert found.code == 64
        assert found.out == ""
        assert "cannot go with --json" in found.err


def test_dump_raw_is_the_bytes(tmp_path: Path) -> None:
    path = of(tmp_path / "log", HARD_PAYLOADS)
    done = subprocess.run(
        [sys.executable, "-m", "walstore", "dump", str(path), "--payload", "raw"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == b"".join(HARD_PAYLOADS)


def test_dump_human_lines_hide_nothing_and_escape(tmp_path: Path, run: Run) -> None:
    path = of(tmp_path / "log", HARD_PAYLOADS)
    found = run("dump", path)
    assert len(found.lines) == len(HARD_PAYLOADS)
    assert "\x1b" not in found.out
    assert found.lines[3].endswith("0x" + HARD_PAYLOADS[3].hex())
    assert found.lines[4].endswith(r"\x1b[31mred\x1b[0m\r\n")
    assert "é ✓ 🎉" in found.lines[2]


def test_dump_human_hex_and_json(tmp_path: Path, run: Run) -> None:
    path = of(tmp_path / "log", [b'{"a":\n1}', b"\xff"])
    assert [line.split()[-1] for line in run("dump", path, "--payload", "hex").lines] == [
        b'{"a":\n1}'.hex(),
        "ff",
    ]
    lines = run("dump", path, "--payload", "json").lines
    assert lines[0].endswith('{"a": 1}')
    assert lines[1].endswith("0xff")


def test_dump_range_includes_both_ends(tmp_path: Path, run: Run) -> None:
    path = healthy(tmp_path / "log", entries=300, segment_bytes=4096)
    assert lsns(run("dump", path, "--json", "--from", 40, "--to", 250)) == list(range(40, 251))
    assert lsns(run("dump", path, "--json", "--from", 300)) == [300]
    assert lsns(run("dump", path, "--json", "--from", 301)) == []
    assert lsns(run("dump", path, "--json", "--limit", 3)) == [1, 2, 3]
    assert lsns(run("dump", path, "--json", "--limit", 0)) == []


@pytest.mark.parametrize(
    "options", [["--from", "302"], ["--to", "301"], ["--from", "301", "--to", "301"]]
)
def test_dump_range_the_log_does_not_hold(tmp_path: Path, run: Run, options: list[str]) -> None:
    path = healthy(tmp_path / "log", entries=300, segment_bytes=4096)
    for more in ([], ["--since", "-1m"]):
        found = run("dump", path, *options, *more)
        assert found.code == 64
        assert found.out == ""
        assert found.err.startswith("walstore: ")


def test_dump_from_after_to(tmp_path: Path, run: Run) -> None:
    found = run("dump", healthy(tmp_path / "log"), "--from", 9, "--to", 4)
    assert found.code == 64
    assert "--from 9 comes after --to 4" in found.err


def test_dump_from_zero(tmp_path: Path, run: Run) -> None:
    assert run("dump", healthy(tmp_path / "log"), "--from", 0).code == 64


def test_dump_times(tmp_path: Path, run: Run) -> None:
    path = healthy(tmp_path / "log", entries=300, segment_bytes=4096)
    stamps = {r["lsn"]: r["timestamp_ns"] for r in run("dump", path, "--json").records}
    times = {r["lsn"]: r["time"] for r in run("dump", path, "--json").records}
    found = run("dump", path, "--json", "--since", times[70], "--until", times[200])
    assert lsns(found) == list(range(70, 201))
    found = run("dump", path, "--json", "--since", f"@{stamps[299] // 10**9}")
    assert len(found.lines) == 300
    assert run("dump", path, "--since", "-1h").out == ""
    assert run("dump", path, "--until", "2001-01-01").out == ""
    assert len(run("dump", path, "--until", "now").lines) == 300


def test_dump_times_when_the_clock_goes_back(tmp_path: Path, run: Run) -> None:
    clock = iter([*range(1000, 3000), *range(10, 10_000)]).__next__
    path = tmp_path / "log"
    with FileWALManager(path, segment_bytes=4096, clock=clock) as log:
        for _ in range(600):
            log.append(b"x" * 50)
        stamps = {entry.lsn: entry.timestamp_ns for entry in log.replay()}
    found = run("dump", path, "--json", "--since", "@0.0000011", "--until", "@0.0000013")
    assert lsns(found) == [lsn for lsn, at in stamps.items() if 1100 <= at <= 1300]
    assert found.lines


def test_dump_skips_segments_outside_the_time(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = healthy(tmp_path / "log", entries=300, segment_bytes=4096)
    times = {r["lsn"]: r["time"] for r in run("dump", path, "--json").records}
    with FileWALManager(path, read_only=True) as log:
        middle = parse_time(times[150], 0)
        ranges = dump_module._ranges(log.path, 1, 300, middle, middle)
    assert all(first <= 150 <= last for first, last in ranges[:1])
    assert sum(last - first + 1 for first, last in ranges) < 200


def test_dump_kind(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "log"
    with FileWALManager(path, segment_bytes=1 << 16) as log:
        for number in range(10):
            log.append(b"x", kind=number % 3 + 1)
    found = run("dump", path, "--json", "--kind", 2, "--limit", 2)
    assert lsns(found) == [2, 5]
    assert run("dump", path, "--kind", 0).code == 64
    assert run("dump", path, "--kind", 65536).code == 64


def test_dump_stops_at_damage_with_all_before_shown(tmp_path: Path, run: Run) -> None:
    path = healthy(tmp_path / "log", entries=300, segment_bytes=4096)
    damage(path, b"entry-20")
    found = run("dump", path, "--json")
    assert found.code == 2
    assert lsns(found) == list(range(1, 20))
    assert "(lsn 20)" in found.err


def test_dump_terminal_cuts_lines(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "90")
    path = of(tmp_path / "log", [b"z" * 500, b"\xff" * 5000, "é".encode() * 1000, b"ok"])
    found = run("dump", path)
    assert "payload" in found.lines[0]
    assert [("…" in line) for line in found.lines[1:]] == [True, True, True, False]
    assert "z" * 100 not in found.out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", 1_000_000_000_000),
        ("-10s", 990_000_000_000),
        ("-1m30s", 910_000_000_000),
        ("-250ms", 999_750_000_000),
        ("-0.5s", 999_500_000_000),
        ("@0", 0),
        ("@1.000000001", 1_000_000_001),
        ("1970-01-01", 0),
        ("1970-01-01 00:01", 60_000_000_000),
        ("1970-01-01T00:00:01.000000002Z", 1_000_000_002),
        ("1970-01-01T01:00:00.5+01:00", 500_000_000),
        ("19700101T000001Z", 1_000_000_000),
    ],
)
def test_parse_time(text: str, expected: int) -> None:
    assert parse_time(text, 1_000_000_000_000) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "10m",
        "-10",
        "-10y",
        "@",
        "@x",
        "@inf",
        "@nan",
        "2026-13-01",
        "-",
        "1e9",
        "@1e999999999",
        "@1e999990",
        "@-1e12",
    ],
)
def test_time_that_is_none(tmp_path: Path, run: Run, text: str) -> None:
    found = run("dump", healthy(tmp_path / "log"), f"--since={text}")
    assert found.code == 64
    assert "is no time" in found.err


def test_dump_on_a_stream_that_shows_only_ascii(tmp_path: Path, spawn: Run) -> None:
    path = of(tmp_path / "log", ["é".encode()])
    found = spawn("dump", path, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert found.code == 0
    assert found.out.endswith("\\xe9\n")
