"""walstore import, export and query; what dump and tail show of the document store's entries."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from tests.cli.conftest import Run
from tests.cli.nodes import lone_node
from tests.cli.test_app import a_sentence
from tests.cli.test_progress import on_a_terminal
from tests.helpers import ROOT, contents, end, seeded
from walstore import FileWALManager
from walstore.cli import importing
from walstore.cli.app import app
from walstore.cli.extended_json import BadJSONError, from_json, to_json
from walstore.docstore import DocumentStore
from walstore.docstore.record import KIND

ORDERS = [
    {"_id": 1, "customer": "ada", "total": 20.5, "tags": ["new", "gift"]},
    {"_id": 2, "customer": "bob", "total": 7, "address": {"city": "Łódź", "zip": None}},
    {"_id": 3, "customer": "cleo", "total": 120, "placed": datetime(2026, 1, 2, 3, 4, 5, 6, UTC)},
    {"_id": b"\x00\xff", "customer": "dan\x1b[31m", "total": float("-inf"), "tags": [b"x", {}, []]},
]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A log with a collection of orders, and one of others."""
    path = tmp_path / "shop"
    with FileWALManager(path, segment_bytes=1 << 16) as log, DocumentStore(log) as store:
        store["orders"].insert_many(ORDERS)
        store["others"].insert_one({"_id": 1})
    return path


def lines_file(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def documents(path: Path, collection: str) -> list[dict[str, Any]]:
    with FileWALManager(path, read_only=True) as log, DocumentStore(log) as store:
        return store[collection].find(sort="_id").to_list()


# ---- documents as JSON ----


def random_value(rng: Any, depth: int = 0) -> Any:
    leaves = [
        lambda: rng.choice([None, True, False, 0, 1, -1, 1.0, 0.1, float("inf"), float("-inf")]),
        lambda: rng.randrange(-(1 << 63), 1 << 63),
        lambda: rng.uniform(-1e308, 1e308),
        lambda: rng.randbytes(rng.randrange(5)),
        lambda: "".join(chr(rng.choice([0, 9, 10, 34, 65, 0x2028, 0x1F642])) for _ in range(3)),
        lambda: datetime.fromtimestamp(rng.randrange(-(10**9), 10**9) + rng.random(), UTC),
    ]
    if depth < 3 and rng.random() < 0.4:
        items = [random_value(rng, depth + 1) for _ in range(rng.randrange(4))]
        return items if rng.random() < 0.5 else {f"k{at}.": item for at, item in enumerate(items)}
    return rng.choice(leaves)()


def test_every_value_comes_back() -> None:
    rng = seeded("extended JSON")
    kinds = set()
    for _round in range(2000):
        value = {"a": random_value(rng), "b": random_value(rng)}
        for ascii_only in (False, True):
            text = to_json(value, ascii=ascii_only)
            assert "\n" not in text
            assert text.isascii() or not ascii_only
            assert repr(from_json(text)) == repr(value)
        kinds.add(type(value["a"]))
    assert len(kinds) == 9


@pytest.mark.parametrize("character", ["\x7f", "\x9b", "\u202e", "\u2028", "\U000e0001"])
def test_what_a_terminal_acts_on_is_escaped(character: str) -> None:
    value = {f"a{character}": [f"Łódź {character}"]}
    text = to_json(value)
    assert text.isprintable()
    assert "Łódź" in text
    assert from_json(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"$date": 1500}', datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)),
        ('{"$date": {"$numberLong": "-1"}}', datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)),
        ('{"$date": "2026-01-02T03:04:05+01:00"}', datetime(2026, 1, 2, 2, 4, 5, 0, UTC)),
        ('{"$numberLong": "-9223372036854775808"}', -(1 << 63)),
        ('{"$numberInt": 7}', 7),
        ('{"$numberDouble": "1"}', 1.0),
        ('{"$oid": "507F1F77BCF86CD799439011"}', "507f1f77bcf86cd799439011"),
        ('{"$binary": {"base64": "AP8=", "subType": "04"}}', b"\x00\xff"),
        ('{"$gt": {"$date": 0}}', {"$gt": datetime(1970, 1, 1, tzinfo=UTC)}),
    ],
)
def test_other_forms_are_read(text: str, value: Any) -> None:
    assert repr(from_json(text)) == repr(value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1', "not JSON: .* column 8"),
        ("[NaN]", "NaN is not JSON"),
        ('{"a": -1e999}', "-1e999 does not fit into a float"),
        ('{"$numberDouble": 1e999}', "1e999 does not fit into a float"),
        ('{"a": 1, "a": 2}', "the key 'a' is there twice"),
        ('{"$date": "2026-01-02T03:04:05"}', "is no \\$date"),
        ('{"$date": "yesterday"}', "is no \\$date"),
        ('{"$date": 1e300}', "is no \\$date"),
        ('{"$date": {"$numberLong": "9999999999999999"}}', "is no \\$date"),
        ('{"$binary": "AP8="}', "is no \\$binary"),
        ('{"$binary": {"base64": "?"}}', "is no \\$binary"),
        ('{"$numberDouble": "NaN"}', "is no \\$numberDouble"),
        ('{"$numberLong": "0x10"}', "is no \\$numberLong"),
        ('{"$oid": "1"}', "is no \\$oid"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5000, "a number has too many digits"),
    ],
)
def test_what_means_nothing_is_refused(text: str, reason: str) -> None:
    with pytest.raises(BadJSONError, match=reason):
        from_json(text)


# ---- export and import ----


def test_what_is_exported_is_the_same_when_it_is_imported(
    shop: Path, tmp_path: Path, run: Run
) -> None:
    exported = run("export", shop, "orders")
    assert exported.code == 0
    assert [from_json(line)["customer"] for line in exported.lines] == [
        "ada", "bob", "cleo", "dan\x1b[31m",
    ]  # fmt: skip
    file = lines_file(tmp_path / "orders.jsonl", exported.lines)
    imported = run("import", tmp_path / "new", "copy", file)
    assert (imported.code, imported.out) == (0, "imported 4 documents into copy\n")
    assert repr(documents(tmp_path / "new", "copy")) == repr(documents(shop, "orders"))
    assert run("export", tmp_path / "new", "copy").out == exported.out


def test_an_impossible_name_makes_no_log(tmp_path: Path, run: Run) -> None:
    file = lines_file(tmp_path / "orders.jsonl", ["{}"])
    found = run("import", tmp_path / "new", "a\x1b", file)
    assert found.code == 64
    assert "cannot be a name" in found.err
    assert not (tmp_path / "new").exists()


def test_import_from_a_pipe(shop: Path, tmp_path: Path) -> None:
    exported = subprocess.Popen(
        [sys.executable, "-m", "walstore", "export", str(shop), "orders"],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        done = subprocess.run(
            [sys.executable, "-m", "walstore", "import", str(tmp_path / "new"), "copy", "-"],
            stdin=exported.stdout,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
        )
        assert exported.wait(timeout=30) == 0
    finally:
        exported.kill()
        exported.wait()
        assert exported.stdout is not None
        exported.stdout.close()
    assert (done.returncode, done.stdout) == (0, "imported 4 documents into copy\n"), done.stderr
    assert repr(documents(tmp_path / "new", "copy")) == repr(documents(shop, "orders"))


def test_import_makes_ids_and_passes_over_empty_lines(tmp_path: Path, run: Run) -> None:
    file = lines_file(tmp_path / "f", ["\ufeff" + '{"n": 1}', "", "  ", '{"n": 2}'])
    assert run("import", tmp_path / "log", "c", file).out == "imported 2 documents into c\n"
    found = documents(tmp_path / "log", "c")
    assert [document["n"] for document in found] == [1, 2]
    assert all(re.fullmatch("[0-9a-f]{32}", document["_id"]) for document in found)
    file.write_text("")
    assert run("import", tmp_path / "log", "c", file).out == "imported 0 documents into c\n"


def test_import_goes_by_batches_that_are_whole(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = lines_file(tmp_path / "f", [f'{{"_id": {n}}}' for n in range(2500)])
    assert run("import", tmp_path / "log", "c", file).code == 0
    with FileWALManager(tmp_path / "log", read_only=True) as log:
        assert sum(entry.kind == KIND for entry in log.replay()) == 3
    monkeypatch.setattr(importing, "_BATCH_BYTES", 100)
    assert run("import", tmp_path / "other", "c", file).code == 0
    assert sum(entry.kind == KIND for entry in contents(tmp_path / "other")) >= 250
    assert len(documents(tmp_path / "other", "c")) == 2500


BAD_LINES: list[tuple[bytes, str]] = [
    (b'{"a": 1', "not JSON: Expecting ',' delimiter, at column"),
    (b'{"a": NaN}', "NaN is not JSON"),
    (b'{"a": 1e999}', "1e999 does not fit into a float"),
    (b"[1]", "is a list, not an object"),
    (b"7", "is a int, not an object"),
    (b'{"a": "\xff"}', "not UTF-8 at byte 8"),
    (b'{"a": {"b": 99999999999999999999}}', "a.b: 99999999999999999999 does not fit into 64 bits"),
    (b'{"$set": {"a": 1}}', "a key cannot begin with $"),
    (b'{"_id": [1]}', "_id: cannot be a list"),
    (b'{"_id": 3}', "has {'_id': 3} already"),
    (b'{"a": ' + b"[" * 101 + b"]" * 101 + b"}", "nested deeper than 100 levels"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES, ids=lambda item: str(item)[:20])
def test_a_bad_line_is_named_with_what_was_imported(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, line: bytes, reason: str
) -> None:
    monkeypatch.setattr(importing, "_BATCH_DOCUMENTS", 4)
    good = [b'{"_id": %d}' % n for n in range(12)]
    file = tmp_path / "f"
    file.write_bytes(b"\n".join([*good[:3], b"", *good[3:9], line, *good[9:]]))
    found = run("import", tmp_path / "log", "c", file)
    assert (found.code, found.out) == (65, "")
    assert found.err.startswith("walstore: line 11: ")
    assert reason in found.err
    assert "lines 1 to 9 were imported, 8 documents, nothing after\n" in found.err
    assert a_sentence(found.err)
    assert [document["_id"] for document in documents(tmp_path / "log", "c")] == list(range(8))


def test_a_bad_line_in_the_first_batch(tmp_path: Path, run: Run) -> None:
    file = lines_file(tmp_path / "f", ["{}", "x"])
    found = run("import", tmp_path / "log", "c", file)
    assert (found.code, found.out) == (65, "")
    assert found.err.startswith("walstore: line 2: not JSON")
    assert found.err.endswith("nothing was imported\n")
    assert documents(tmp_path / "log", "c") == []


def test_a_line_without_end(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "_LINE_BYTES_MAX", 1000)
    file = lines_file(tmp_path / "f", ['{"a": 1}', '{"a": "' + "x" * 2000])
    found = run("import", tmp_path / "log", "c", file)
    assert found.code == 65
    assert "line 2: takes more than 1000 bytes" in found.err


def test_import_refuses_what_it_cannot_open(shop: Path, tmp_path: Path, run: Run) -> None:
    file = lines_file(tmp_path / "f", ["{}"])
    found = run("import", tmp_path / "log", "c", tmp_path / "missing")
    assert (found.code, found.err) == (
        4, f"walstore: {tmp_path / 'missing'}: No such file or directory\n",
    )  # fmt: skip
    assert not (tmp_path / "log").exists()
    assert run("import", tmp_path / "log", "c", tmp_path).code == 4
    assert run("import", file, "c", file).code == 3
    found = run("import", shop, "a\nb", file)
    assert found.code == 64
    assert a_sentence(found.err)
    with FileWALManager(shop):
        found = run("import", shop, "c", file)
    assert found.code == 5
    assert "let it insert the documents itself" in found.err
    assert a_sentence(found.err)


def test_import_into_a_nodes_log_is_refused(tmp_path: Path, run: Run) -> None:
    """It would append in the term of the node, where the other nodes have other entries."""
    with lone_node(tmp_path / "log"):
        pass
    before = contents(tmp_path / "log")
    found = run("import", tmp_path / "log", "c", lines_file(tmp_path / "f", ["{}"]))
    assert found.code == 64
    assert "is the log of a node of a cluster" in found.err
    assert "through the leader" in found.err
    assert a_sentence(found.err)
    assert contents(tmp_path / "log") == before
    assert not (tmp_path / "log" / "documents").exists()


def test_an_interrupted_import_says_how_far_it_came(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "walstore", "import", str(tmp_path / "log"), "c", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdin is not None
        process.stdin.write("{}\n" * 5000)
        process.stdin.flush()
        while not (tmp_path / "log" / "documents").exists() or not documents(tmp_path / "log", "c"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        end(process)
    assert (process.returncode, out) == (130, "")
    told = re.match(r"walstore: lines 1 to (\d+) were imported, ([\d,]+) documents, nothing", err)
    assert told, err
    assert err.endswith("walstore: interrupted\n")
    count = len(documents(tmp_path / "log", "c"))
    assert count == int(told[1]) or "unless the lines up to" in err


# ---- query ----


def test_query_table(shop: Path, run: Run) -> None:
    found = run("query", shop, "orders", "--sort", "_id", '{"customer": {"$ne": "bob"}}')
    assert (found.code, found.err) == (0, "")
    head, *rows = found.lines
    assert head.split() == ["_id", "customer", "total", "tags", "placed"]
    assert rows[0].split(maxsplit=3) == ["1", "ada", "20.5", '["new", "gift"]']
    assert rows[1].split() == ["3", "cleo", "120", "2026-01-02T03:04:05.000006Z"]
    assert rows[2].startswith("0x00ff  dan\\x1b[31m  ")
    assert len(rows) == 3


def test_query_fields_sort_and_limit(shop: Path, run: Run) -> None:
    arguments = ["query", shop, "orders", "--sort", "-total,_id", "--limit", "3"]
    found = run(*arguments, "--fields", "address.city,total, _id")
    assert found.lines[0].split() == ["address.city", "total", "_id"]
    assert [line.split() for line in found.lines[1:]] == [
        ["120", "3"], ["20.5", "1"], ["Łódź", "7", "2"],
    ]  # fmt: skip
    assert found.err == "walstore: 3 of 4 documents; --limit 0 shows all\n"
    found = run(*arguments, "--fields", "total", "--json")
    assert found.records == [{"total": 120}, {"total": 20.5}, {"total": 7}]
    assert found.err == ""
    assert len(run("query", shop, "orders", "--limit", "0").lines) == 5


def test_query_json_is_what_export_writes(shop: Path, run: Run) -> None:
    found = run("query", shop, "orders", "--sort", "_id", "--json")
    assert found.out == run("export", shop, "orders").out
    found = run("query", shop, "orders", '{"placed": {"$gte": {"$date": "2026-01-01T00:00:00Z"}}}',
                "--json")  # fmt: skip
    assert [record["_id"] for record in found.records] == [3]
    found = run("query", shop, "orders", '{"_id": {"$binary": {"base64": "AP8="}}}', "--json")
    assert len(found.records) == 1


def test_a_table_of_many_is_cut(tmp_path: Path, run: Run) -> None:
    with FileWALManager(tmp_path / "log") as log, DocumentStore(log) as store:
        store["c"].insert_many({"n": n} for n in range(250))
    found = run("query", tmp_path / "log", "c", '{"n": {"$lt": 120}}')
    assert len(found.lines) == 101
    assert found.err == "walstore: 100 of 120 documents; --limit 0 shows all\n"
    assert len(run("query", tmp_path / "log", "c", "--json").lines) == 250


def test_query_without_a_match(shop: Path, run: Run) -> None:
    found = run("query", shop, "orders", '{"customer": "eve"}')
    assert (found.code, found.out, found.err) == (0, "", "walstore: no document matches\n")
    assert run("query", shop, "orders", '{"customer": "eve"}', "--json").out == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{a"], "not JSON: .*; write an object"),
        (["[]"], "filter"),
        (['{"$x": 1}'], "unknown operator '\\$x'"),
        (['{"total": {"$foo": 1}}'], "\\$foo"),
        (["--fields", "a,a.b"], "a.b"),
        (["--sort", "a..b"], "sort"),
        (["--sort", "$a"], "sort"),
        (["--limit", "-1"], "-1"),
    ],
)
def test_a_query_that_makes_no_sense(shop: Path, run: Run, arguments: list[str], said: str) -> None:
    found = run("query", shop, "orders", *arguments)
    assert (found.code, found.out) == (64, "")
    assert re.search(said, found.err), found.err
    assert a_sentence(found.err) or "Usage: walstore query" in found.err


@pytest.mark.parametrize("command", ["query", "export"])
def test_reading_what_is_not_there(shop: Path, tmp_path: Path, run: Run, command: str) -> None:
    found = run(command, shop, "order")
    assert (found.code, found.out) == (64, "")
    assert found.err == (
        f"walstore: {shop} has no collection 'order'\n  hint: it has orders, others\n"
    )
    assert run(command, tmp_path / "missing", "orders").code == 3
    FileWALManager(tmp_path / "empty").close()
    assert run(command, tmp_path / "empty", "orders").err.endswith("hint: it has none\n")


def test_reading_beside_a_writer(shop: Path, run: Run) -> None:
    with FileWALManager(shop) as log, DocumentStore(log, checkpoint_bytes=None) as store:
        store["orders"].insert_one({"_id": 0, "customer": "new"})
        store.checkpoint()
        found = run("query", shop, "orders", '{"_id": 0}', "--json")
        assert found.records == [{"_id": 0, "customer": "new"}]
        assert len(run("export", shop, "orders").lines) == 5


def test_progress_on_a_terminal(tmp_path: Path) -> None:
    file = lines_file(tmp_path / "f", [f'{{"n": {n}}}' for n in range(3000)])
    code, out, shown = on_a_terminal(["import", tmp_path / "log", "c", file])
    assert (code, out) == (0, "imported 3,000 documents into c\n")
    assert "importing" in shown
    assert re.search(r"\d+%", shown)
    code, out, shown = on_a_terminal(["export", tmp_path / "log", "c"])
    assert code == 0
    assert len(out.splitlines()) == 3000
    assert "exporting" in shown
    _code, _out, shown = on_a_terminal(["export", tmp_path / "log", "c"], stdout_too=True)
    assert "exporting" not in shown


# ---- dump and tail ----


def test_dump_shows_what_an_entry_does(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "log"
    with FileWALManager(path) as log, DocumentStore(log) as store:
        orders = store["orders"]
        with store.transaction():
            orders.insert_one(ORDERS[3])
            orders.insert_one({"_id": 7, "city": "Łódź"})
        orders.create_index([("customer", 1), ("total", -1)], unique=True)
        orders.delete_one({"_id": 7})
        orders.drop_index("customer_1_total_-1")
        orders.drop()
        log.append(b"not a document")
        log.append(b"somebody else's", kind=KIND)
    found = run("dump", path)
    shown = [line.split(maxsplit=5)[5] for line in found.lines]
    put, index, delete, drop, gone, data, other = shown
    binary = '{"$binary": {"base64": "AP8=", "subType": "00"}}'
    assert put.startswith(f'put orders {{"_id": {binary}, "customer": "dan\\u001b[31m", ')
    assert put.endswith('; put orders {"_id": 7, "city": "Łódź"}')
    assert index == ("create unique index customer_1_total_-1 on orders (customer, -total)")
    assert delete == "delete orders 7"
    assert (drop, gone) == ("drop index customer_1_total_-1 on orders", "drop collection orders")
    assert (data, other) == ("not a document", "somebody else's")
    assert "\x1b" not in found.out
    assert run("tail", path, "-n", "7").out == found.out


def test_dump_as_json(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "log"
    with FileWALManager(path) as log, DocumentStore(log) as store:
        store["orders"].insert_one(ORDERS[2])
        store["orders"].create_index("total")
        store["orders"].delete_one({})
        log.append(b"somebody else's", kind=KIND)
    found = run("dump", path, "--json")
    put, index, delete, other = found.records
    assert found.out.isascii()
    assert list(put)[-2:] == ["payload_base64", "documents"]
    assert put["documents"] == {
        "previous": 0,
        "more": False,
        "operations": [
            {
                "operation": "put",
                "collection": "orders",
                "document": json.loads(to_json(ORDERS[2])),
            }
        ],
    }
    assert index["documents"]["operations"] == [
        {
            "operation": "create index",
            "collection": "orders",
            "name": "total_1",
            "keys": [["total", 1]],
            "unique": False,
        }
    ]
    assert delete["documents"]["operations"] == [
        {"operation": "delete", "collection": "orders", "_id": 3}
    ]
    assert "documents" not in other
    for form in ("json", "hex"):
        assert all("documents" not in record for record in
                   run("dump", path, "--json", "--payload", form).records)  # fmt: skip
    assert "put" not in run("dump", path, "--payload", "hex").out


HOSTILE: list[tuple[Any, str | None]] = [
    ([1, 0, True, [["c", "a\x1b[31m\n"]]], "drop collection a\\x1b[31m\\n ..."),
    ([1, 0, False, []], "nothing"),
    ([1, 0, False, [["p", "a"]]], None),
    ([1, 0, False, [["d", "a", 1, 2]]], None),
    ([1, 0, False, [["i", "a", "n", 7, False]]], None),
    ([1, 0, False, [["p", "a", {b"x": 1}]]], None),
    ([1, 0, False, [["p", "a", float("nan")]]], None),
    ([1, 0, False, [["p", "a", msgspec.msgpack.Ext(5, b"x")]]], None),
    ([1, 0, False, [[]]], None),
    ([2, 0, False, []], None),
    ([1, 0, False, [["?", "a"]]], None),
]


@pytest.mark.parametrize(("record", "text"), HOSTILE, ids=lambda item: str(item)[:30])
def test_dump_of_entries_that_nobody_should_have_written(
    tmp_path: Path, run: Run, record: Any, text: str | None
) -> None:
    payload = msgspec.msgpack.encode(record)
    with FileWALManager(tmp_path / "log", segment_bytes=4096) as log:
        log.append(payload, kind=KIND)
    found = run("dump", tmp_path / "log")
    assert found.code == 0
    shown = (found.lines[0] + "  ").split(maxsplit=5)[5:]
    if text is not None:
        assert [each.rstrip() for each in shown] == [text] * bool(text)
    else:
        assert shown[0].startswith("0x") or "\\x" in shown[0]
    found = run("dump", tmp_path / "log", "--json")
    assert found.code == 0
    assert ("documents" in found.records[0]) == (text is not None)


def test_import_from_a_stdin_of_another_kind(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["import", str(tmp_path / "log"), "c", "-"], input=io.BytesIO(b'{"a": 1}\n{"a": 2}')
    )
    assert result.exit_code == 0
    assert [document["a"] for document in documents(tmp_path / "log", "c")] == [1, 2]
