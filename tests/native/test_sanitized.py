"""Python on a helper that is compiled with the address and undefined-behaviour sanitizers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.native import sanitized

TIMEOUT_S = 400
PASSED_MIN = 190
OVER_READ = """
from walstore._native import ffi, lib
payload = b"x" * 100
lib.walcore_crc32c(0, ffi.from_buffer("uint8_t[]", payload), {size})
print("read")
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("sanitized") / "tree"
    sanitized.build(tree)
    return tree


def test_a_byte_read_behind_a_payload_is_seen(tree: Path) -> None:
    good = sanitized.run_python(tree, ["-c", OVER_READ.format(size=100)], TIMEOUT_S)
    assert (good.returncode, good.stdout) == (0, "read\n"), good.stderr
    bad = sanitized.run_python(tree, ["-c", OVER_READ.format(size=103)], TIMEOUT_S)
    assert bad.returncode != 0
    assert "heap-buffer-overflow" in bad.stderr
    assert bad.stdout == ""


@pytest.mark.timeout(TIMEOUT_S + 50)
def test_the_suite_passes(tree: Path) -> None:
    passed = sanitized.run_tests(tree, sanitized.FAST, TIMEOUT_S)
    print(f"passed={passed}")
    assert passed >= PASSED_MIN
