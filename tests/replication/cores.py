"""A log in memory, and what else tests of the core share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from walstore.replication.acks import Acks
from walstore.replication.core import Core, CoreOptions
from walstore.replication.effects import AppendRecords, AppendTermEntry, CutDiverged, Effect
from walstore.replication.entries import Batch, Run
from walstore.replication.message import VoteResponse
from walstore.replication.terms import next_term

NODES = frozenset("abc")
A1 = next_term(0, "a")
B1 = next_term(0, "b")
B2 = next_term(A1, "b")
A2 = next_term(B2, "a")


@dataclass
class Log:
    """Terms of entries from first_lsn on."""

    terms: list[int] = field(default_factory=list)
    first_lsn: int = 1
    prev_term: int = 0
    durable_lsn: int = 0

    @property
    def last_lsn(self) -> int:
        return self.first_lsn + len(self.terms) - 1

    def term_of(self, lsn: int) -> int:
        assert self.first_lsn - 1 <= lsn <= self.last_lsn
        return self.terms[lsn - self.first_lsn] if lsn >= self.first_lsn else self.prev_term

    def take(self, effects: Sequence[Effect]) -> None:
        """Carries out what changes entries; nothing becomes durable by it."""
        for effect in effects:
            match effect:
                case AppendTermEntry():
                    self.terms.append(effect.term)
                case CutDiverged():
                    del self.terms[effect.after_lsn + 1 - self.first_lsn :]
                    self.durable_lsn = min(self.durable_lsn, effect.after_lsn)
                case AppendRecords():
                    assert effect.from_lsn == self.last_lsn + 1
                    terms = terms_of(effect.batch)
                    self.terms += terms[effect.from_lsn - effect.batch.prev_lsn - 1 :]
                case _:
                    pass


def terms_of(batch: Batch) -> list[int]:
    """The term of each entry of a batch."""
    ends = [*(run.first_lsn for run in batch.runs[1:]), batch.last_lsn + 1]
    runs = zip(batch.runs, ends, strict=False)
    return [run.term for run, end in runs for _ in range(run.first_lsn, end)]


def batch(prev: tuple[int, int], terms: Sequence[int], committed_lsn: int = 0) -> Batch:
    """Entries of these terms behind (lsn, term)."""
    runs: list[Run] = []
    for lsn, term in enumerate(terms, prev[0] + 1):
        if not runs or runs[-1].term != term:
            runs.append(Run(lsn, term))
    return Batch(*prev, committed_lsn, tuple(runs), prev[0] + len(terms))


def core_of(
    log: Log, name: str = "a", term: int = 0, committed_lsn: int = 0, acks: Acks | None = None
) -> Core:
    """A core on a log, of three nodes."""
    return Core(name, NODES, log, term, committed_lsn, acks or Acks(2), CoreOptions())


def leading(log: Log) -> Core:
    """A core of node a that has been elected in A2 and has its term entry on its disk."""
    core = core_of(log, term=B2)
    core.connected("b", 0)
    core.connected("c", 0)
    log.take(core.campaign(0))
    log.take(core.received("b", core.term, VoteResponse(True, 0, 0), 0))
    assert core.role == "leader"
    return core


def kinds(effects: Sequence[Effect]) -> list[str]:
    """Their names."""
    return [type(effect).__name__ for effect in effects]
