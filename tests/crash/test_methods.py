"""What must run is not skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from .methods import METHODS, required, unavailable
from .mounts import MKFS, UnavailableError, mounted


def test_method_that_must_run_is_not_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WALSTORE_REQUIRE", raising=False)
    assert required() == frozenset()
    with pytest.raises(pytest.skip.Exception, match="needs root"):
        unavailable("xfs", "needs root")
    monkeypatch.setenv("WALSTORE_REQUIRE", "xfs,fuse")
    with pytest.raises(pytest.fail.Exception, match="needs root"):
        unavailable("xfs", "needs root")
    with pytest.raises(pytest.skip.Exception):
        unavailable("btrfs", "needs mkfs.btrfs")
    monkeypatch.setenv("WALSTORE_REQUIRE", "zfs")
    with pytest.raises(ValueError, match="zfs"):
        required()
    assert {*MKFS} <= {*METHODS}


def test_what_a_machine_lacks_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="mount"), mounted(str(tmp_path), "-t", "no-such-fs"):
        pass
    assert not [*tmp_path.iterdir()]
