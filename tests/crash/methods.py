"""The methods that not every machine allows: a test skips them and says why, or fails.

WALSTORE_REQUIRE=ext4,xfs,btrfs,fuse,netns,pypi names those that must run here; continuous
integration sets it.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

METHODS = ("ext4", "xfs", "btrfs", "fuse", "netns", "pypi")


def required() -> frozenset[str]:
    """The methods that must not be skipped."""
    names = frozenset(filter(None, os.environ.get("WALSTORE_REQUIRE", "").split(",")))
    if names - {*METHODS}:
        raise ValueError(f"WALSTORE_REQUIRE names {sorted(names - {*METHODS})}: unknown methods")
    return names


def unavailable(method: str, reason: str) -> NoReturn:
    """Ends a test whose method this machine does not allow."""
    if method in required():
        pytest.fail(f"{method} must run here (WALSTORE_REQUIRE), but {reason}", pytrace=False)
    pytest.skip(f"{method}: {reason}")
