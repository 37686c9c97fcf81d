"""One measurement as the parent process asks for it, and the judgement that voids it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.peers.loops import Span
from bench.peers.machine import Interference
from bench.peers.plan import Contender, Row, Settings, payload_of
from bench.peers.stores import Store

BULK_RECORDS = 1000  # records of a batch where the batch is not what is measured

Metrics = dict[str, float]


@dataclass(frozen=True)
class Job:
    """One measurement, as the parent asks for it."""

    row: Row
    contender: Contender
    path: Path
    settings: Settings
    expected: int = 0  # records that prepared data must hold

    def open(self) -> Store:
        return self.contender.open(self.path, self.row.payload_bytes)

    def span(self) -> Span:
        return Span(self.settings.warmup_s, self.settings.seconds)


def require(holds: bool, message: str) -> None:
    """Void the measurement if a store did not do the work: a fast wrong answer is no result."""
    if not holds:
        raise RuntimeError(message)


def noise(around: Interference) -> Metrics:
    """Return what every result says about the machine while it was measured."""
    return {"foreign_cpus": around.foreign_cpus, "own_cpus": around.own_cpus}


def append_mib(store: Store, payload_bytes: int, mib: int) -> int:
    """Append about ``mib`` MiB of payload in big batches; return the number of records."""
    batch = [payload_of(payload_bytes)] * BULK_RECORDS
    batches = max(1, (mib << 20) // (payload_bytes * BULK_RECORDS))
    for _ in range(batches):
        store.append_many(batch)
    return batches * BULK_RECORDS
