"""A pytest plugin that runs TinyDB's own tests with WALStorage in the place of its storages.

What TinyDB calls JSONStorage and MemoryStorage is WALStorage then, before its tests import them.
WALSTORE_TINYDB_TABLE=1: with WALTable in the place of Table, too.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

import pytest
import tinydb
import tinydb.database
import tinydb.storages

from walstore.tinydb import WALStorage, WALTable

# What is about a JSON file and nothing else, by file and name.
LEFT_OUT = {
    "test_storages.py::test_json_kwargs": "compares the file's bytes",
    "test_storages.py::test_json_read": "access_mode, the mode of the file",
    "test_storages.py::test_create_dirs": "create_dirs, and removes the file by its name",
    "test_storages.py::test_encoding": "encoding, the file's",
    "test_storages.py::test_json_invalid_mode_warning": "access_mode, the mode of the file",
    "test_middlewares.py::test_caching_json_write": "looks at the file's handle",
}

opened: list[WALStorage] = []


class JSONStorage(WALStorage):
    """At the path that the file would have; `ensure_ascii` is about the file's bytes."""

    def __init__(self, path: str, **options: Any) -> None:
        options.pop("ensure_ascii", None)
        super().__init__(path, sync="os", segment_bytes=1 << 16, **options)
        opened.append(self)


class MemoryStorage(JSONStorage):
    """In a directory of its own; its tests look at `memory`."""

    def __init__(self) -> None:
        super().__init__(os.path.join(tempfile.mkdtemp(), "log"))

    @property
    def memory(self) -> Any:
        return self.read()


class Table(WALTable):
    """Under the name that a test looks for in its repr."""


def pytest_configure(config: pytest.Config) -> None:
    for storage in (JSONStorage, MemoryStorage):
        storage.__module__ = "tinydb.storages"  # a test looks at its repr
        for module in (tinydb, tinydb.storages, tinydb.database):
            if hasattr(module, storage.__name__):
                setattr(module, storage.__name__, storage)
    tinydb.TinyDB.default_storage_class = JSONStorage  # type: ignore[assignment]
    if os.environ.get("WALSTORE_TINYDB_TABLE"):
        tinydb.TinyDB.table_class = Table


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """--deselect would take every test whose name begins so."""
    left_out = [item for item in items if item.nodeid in LEFT_OUT]
    items[:] = [item for item in items if item.nodeid not in LEFT_OUT]
    config.hook.pytest_deselected(items=left_out)


def pytest_runtest_teardown() -> None:
    """Its tests leave databases open."""
    while opened:
        opened.pop().close()
