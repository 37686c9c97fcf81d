"""How the tests are divided among processes."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

TOGETHER = frozenset(
    {
        "tests/native/test_sanitized.py",
        "tests/test_packaging.py",
        "tests/testing/test_plugin.py",
        "tests/tinydb/test_suite.py",
    }
)
"""Files whose tests share what takes long to make. The longest begin first."""


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Test by test, but for these files. (Groups by mark need a pytest before 9.2.)"""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file in TOGETHER else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Of pytest-xdist."""
    return _Scheduling(config, log)
