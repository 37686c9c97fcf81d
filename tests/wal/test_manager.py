"""FileWALManager passes the conformance suite, whatever its policy and segment size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.conformance import LogConformance
from walstore import FileWALManager


class TestAlways(LogConformance):
    def open(self, path: Path, **options: Any) -> FileWALManager:
        return FileWALManager(path, **{"segment_bytes": 1 << 20, **options})


class TestInterval(LogConformance):
    def open(self, path: Path, **options: Any) -> FileWALManager:
        defaults = {"sync": "interval", "sync_interval_ms": 5, "segment_bytes": 1 << 20}
        return FileWALManager(path, **{**defaults, **options})


class TestOs(LogConformance):
    def open(self, path: Path, **options: Any) -> FileWALManager:
        return FileWALManager(path, **{"sync": "os", "segment_bytes": 1 << 20, **options})


class TestSmallSegments(LogConformance):
    small_segments = True

    def open(self, path: Path, **options: Any) -> FileWALManager:
        return FileWALManager(path, **{"segment_bytes": 4096, **options})


class TestSmallSegmentsOs(LogConformance):
    small_segments = True

    def open(self, path: Path, **options: Any) -> FileWALManager:
        return FileWALManager(path, **{"sync": "os", "segment_bytes": 4096, **options})
