"""Clusters for the tests of this directory."""

from __future__ import annotations

from tests.raft.conftest import elected

__all__ = ["elected"]
