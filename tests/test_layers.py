"""The house has layers: imports go left only, and what thinks does no I/O."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import walstore
from tests.helpers import ROOT

PACKAGE = ROOT / "walstore"

# DESIGN.md, "The house". A module may import from its own layer and those before it.
LAYERS = [
    {"errors", "limits"},
    {"_native"},
    {"thread"},
    {"wal"},
    {"durable"},
    {"snapshot_files"},
    {"replication"},
    {"raft"},
    {"cluster"},
    {"docstore"},
    {"tinydb"},
    {"cli", "dashboard", "demo", "__main__"},
    {"testing"},
]
# limits takes its numbers from the C header, so that they cannot differ.
EXCEPTIONS = {("limits", "_native")}
# election="raft" is an option of the manager's, which loads that layer only when it is given.
LOADED_LATE = {("replication.manager", "raft.driver")}

IO_MODULES = {
    "asyncio",
    "threading",
    "socket",
    "os",
    "time",
    "random",
    "mmap",
    "selectors",
    "subprocess",
    "secrets",
    "queue",
    "pathlib",
    "shutil",
    "tempfile",
    "websockets",
}
# Bytes, time and randomness come to these as arguments.
SANS_IO = ["errors", "limits", "wal.record", "wal.segment", "wal.meta", "wal.recovery", "wal.scan"]
SANS_IO += [
    f"replication.{name}"
    for name in (
        *("acks", "addresses", "campaign", "core", "effects", "entries"),
        *("follower", "handshake", "lag", "leader", "message", "metrics", "options"),
        *("progress", "quorum", "receiving", "requests", "runs", "sealed", "shared", "status"),
        *("terms", "throttle"),
    )
]
SANS_IO += [
    f"raft.{name}"
    for name in (
        *("clock", "errors", "history", "leadership"),
        *("membership", "node", "options", "reads"),
    )
]
SANS_IO += [
    f"docstore.{name}"
    for name in (
        *("changes", "draft", "errors", "history", "index", "leaves", "operations", "paths"),
        *("plan", "prepare", "query", "reading", "record", "replay", "results", "shape"),
        *("snapshot", "state", "transaction", "update", "values", "view"),
    )
]
SANS_IO += [
    f"cluster.{name}"
    for name in ("client_session", "commands", "machine", "machine_errors", "sessions")
]
SANS_IO += ["cluster.doctor", "cluster.errors", "cluster.health"]
SANS_IO += ["tinydb.edits", "tinydb.lazy"]
# Of those, the ones that go through the disk seam (wal.files) but never around it.
THROUGH_THE_SEAM = {"wal.meta", "wal.recovery", "wal.scan"}
WHY = {
    ("errors", "os"): "os.strerror, a table of texts",
    ("wal.scan", "mmap"): "the map is how it reads",
}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def modules() -> dict[str, Path]:
    return {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path) -> set[str]:
    """Full names of what a module imports when it runs."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            typing_only.update(child for item in node.body for child in ast.walk(item))
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layers"
            assert node.module is not None
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def layer_of(name: str) -> int:
    head = name.split(".")[0]
    for level, heads in enumerate(LAYERS):
        if head in heads:
            return level
    raise AssertionError(f"walstore.{name} is in no layer: add it to LAYERS")


@pytest.mark.parametrize("name", [name for name in modules() if name])
def test_imports_go_left(name: str) -> None:
    for imported in imports(modules()[name]):
        target = imported.removeprefix("walstore.")
        if target == imported or target in walstore.__all__:  # the package's face
            continue
        if (name.split(".")[0], target.split(".")[0]) in EXCEPTIONS:
            continue
        if (name, target.removesuffix(".RaftReplicationManager")) in LOADED_LATE:
            continue
        assert layer_of(target) <= layer_of(name), f"{name} imports {imported}, to its right"


@pytest.mark.parametrize("name", [name for name in modules() if name.split(".")[0] != "cli"])
def test_only_the_native_package_imports_the_extension(name: str) -> None:
    if name.split(".")[0] == "_native":
        return
    assert "walstore._native._walcore" not in imports(modules()[name])


@pytest.mark.parametrize("name", SANS_IO)
def test_what_thinks_does_no_io(name: str) -> None:
    found = {imported.split(".")[0] for imported in imports(modules()[name])}
    around = {module for module in found & IO_MODULES if (name, module) not in WHY}
    assert not around, f"{name} imports {around}"
    uses_seam = "walstore.wal.files" in imports(modules()[name])
    assert uses_seam == (name in THROUGH_THE_SEAM)


@pytest.mark.parametrize(
    "name", [name for name in modules() if name.startswith(("docstore", "tinydb"))]
)
def test_the_document_store_knows_only_a_log(name: str) -> None:
    """Any log will do, so it uses what every user of one sees; its files are beside it."""
    inside = {"wal", "replication", "raft", "cluster", "_native"}
    for imported in imports(modules()[name]):
        head, _, rest = imported.partition(".")
        assert head != "walstore" or rest.split(".")[0] not in inside, f"{name} imports {imported}"


def test_the_disk_is_touched_in_few_places() -> None:
    """os.open, os.pread and the like go through wal.files, so that there is one seam."""
    calls = {"open", "pread", "pwrite", "write", "unlink", "rename", "fsync", "fdatasync", "mkdir"}
    for name, path in modules().items():
        if not name.startswith("wal.") or name in ("wal.files", "wal.commit"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert not (node.value.id == "os" and node.attr in calls), f"{name}: os.{node.attr}"
