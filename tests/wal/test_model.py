"""A hypothesis state machine drives a log and a plain dict side by side."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.helpers import crash_copy
from walstore import FileWALManager, LSNOutOfRangeError
from walstore.limits import KIND_MAX

PAYLOADS = st.one_of(
    st.binary(max_size=60),
    st.integers(0, 6000).map(lambda size: bytes(i & 0xFF for i in range(size))),
)
COUNTS = {"steps": 0, "crashes": 0, "reopens": 0, "truncations": 0}


class LogModel(RuleBasedStateMachine):
    """The dict holds (term, kind, payload) by lsn."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.lives = 0
        self.path = self.home / "0"
        self.entries: dict[int, tuple[int, int, bytes]] = {}
        self.first_lsn, self.last_lsn, self.term = 1, 0, 1
        self.acked_lsn = 0

    @initialize(sync=st.sampled_from(["always", "interval", "os"]))
    def begin(self, sync: str) -> None:
        self.sync = sync
        self.log = self.open()

    def open(self) -> FileWALManager:
        return FileWALManager(self.path, sync=self.sync, segment_bytes=4096)  # type: ignore[arg-type]

    def note(self, lsn: int, kind: int, payload: bytes) -> None:
        COUNTS["steps"] += 1
        assert lsn == self.last_lsn + 1
        self.entries[lsn] = (self.term, kind, payload)
        self.last_lsn = lsn

    @rule(payload=PAYLOADS, kind=st.sampled_from([1, 2, KIND_MAX]))
    def append(self, payload: bytes, kind: int) -> None:
        self.note(self.log.append(payload, kind=kind), kind, payload)
        self.acked_lsn = self.last_lsn

    @rule(batch=st.lists(PAYLOADS, max_size=6))
    def append_many(self, batch: list[bytes]) -> None:
        lsns = self.log.append_many(batch)
        assert len(lsns) == len(batch)
        for lsn, payload in zip(lsns, batch, strict=True):
            self.note(lsn, 1, payload)
        self.acked_lsn = self.last_lsn if batch else self.acked_lsn

    @rule(payload=PAYLOADS, wait=st.booleans())
    def submit(self, payload: bytes, wait: bool) -> None:
        commit = self.log.submit(payload)
        self.note(commit.lsn, 1, payload)
        if wait:
            assert commit.wait() == self.last_lsn
            assert commit.done()
            self.acked_lsn = self.last_lsn

    @rule()
    def sync_all(self) -> None:
        assert self.log.sync() == self.last_lsn == self.log.durable_lsn
        self.acked_lsn = self.last_lsn

    @rule(where=st.floats(0, 1))
    def truncate_before(self, where: float) -> None:
        lsn = self.first_lsn + round(where * (self.last_lsn + 1 - self.first_lsn))
        self.log.truncate_before(lsn)
        self.first_lsn = lsn
        self.entries = {key: row for key, row in self.entries.items() if key >= lsn}
        COUNTS["truncations"] += 1

    @rule(where=st.floats(0, 1))
    def truncate_after(self, where: float) -> None:
        lsn = self.first_lsn - 1 + round(where * (self.last_lsn + 1 - self.first_lsn))
        self.log.truncate_after(lsn)
        self.last_lsn = self.acked_lsn = lsn
        self.term += 1
        self.entries = {key: row for key, row in self.entries.items() if key <= lsn}
        COUNTS["truncations"] += 1

    @rule()
    def begin_term(self) -> None:
        self.term += 1
        assert self.log.begin_term() == self.term

    @rule()
    def reopen(self) -> None:
        self.log.close()
        self.log = self.open()
        self.acked_lsn = self.last_lsn
        COUNTS["reopens"] += 1

    @rule()
    def crash(self) -> None:
        """The directory as a kill leaves it; what was acked is there, what was not may be."""
        self.lives += 1
        copy = crash_copy(self.path, self.home / str(self.lives))
        self.log.close()
        self.path = copy
        self.log = self.open()
        assert self.acked_lsn <= self.log.last_lsn <= self.last_lsn
        self.last_lsn = self.acked_lsn = self.log.last_lsn
        self.entries = {key: row for key, row in self.entries.items() if key <= self.last_lsn}
        COUNTS["crashes"] += 1

    @rule()
    def replay(self) -> None:
        found = {e.lsn: (e.term, e.kind, e.payload) for e in self.log.replay()}
        assert found == self.entries

    @rule(where=st.floats(0, 1), until=st.floats(0, 1))
    def replay_range(self, where: float, until: float) -> None:
        if self.entries:
            span = self.last_lsn - self.first_lsn
            low, high = sorted(self.first_lsn + round(f * span) for f in (where, until))
            found = [entry.lsn for entry in self.log.replay(low, high)]
            assert found == list(range(low, high + 1))

    @rule(lsn=st.integers(0, 200))
    def read(self, lsn: int) -> None:
        if lsn in self.entries:
            entry = self.log.read(lsn)
            assert (entry.term, entry.kind, entry.payload) == self.entries[lsn]
        else:
            with pytest.raises(LSNOutOfRangeError):
                self.log.read(lsn)

    @rule()
    def read_as_another_process_would(self) -> None:
        self.log.sync()
        with FileWALManager(self.path, read_only=True) as reader:
            found = {e.lsn: (e.term, e.kind, e.payload) for e in reader.replay()}
            assert reader.log_id == self.log.log_id
        assert found == self.entries

    @rule()
    def verify(self) -> None:
        report = self.log.verify()
        assert (report.status, report.problems) == ("clean", ())
        assert report.entries == len(self.entries)

    @invariant()
    def bounds_agree(self) -> None:
        if hasattr(self, "log"):
            assert (self.log.first_lsn, self.log.last_lsn) == (self.first_lsn, self.last_lsn)
            assert self.log.term == self.term
            assert self.log.durable_lsn <= self.last_lsn

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.log.close()
            with FileWALManager(self.path, read_only=True) as log:
                found = {e.lsn: (e.term, e.kind, e.payload) for e in log.replay()}
            assert found == self.entries
        shutil.rmtree(self.home)


class TestModel(LogModel.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(
        max_examples=100,
        stateful_step_count=40,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )

    def runTest(self) -> None:
        super().runTest()
        print(COUNTS)
        assert COUNTS["steps"] > 500
        assert min(COUNTS["crashes"], COUNTS["reopens"], COUNTS["truncations"]) > 50
