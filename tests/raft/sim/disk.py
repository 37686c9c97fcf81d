"""A disk that also keeps which configurations are in the log."""

from __future__ import annotations

import random
from collections.abc import Mapping

from tests.sim.disk import Disk, Entry
from walstore.limits import LSN_MAX
from walstore.raft.membership import Configuration, decode_configuration

__all__ = ["RaftDisk"]


class RaftDisk(Disk):
    """A log some of whose entries are configurations.

    Args:
        payloads: the bytes of those, by the payload of their entry.

    Attributes:
        accepted: what users appended that is not written yet.
        claim: (term, lsn) of its end before it was damaged, until it has that again; else (0, 0).
    """

    def __init__(self, payloads: Mapping[int, bytes], first: Configuration) -> None:
        super().__init__()
        self._payloads = payloads
        self.configurations = [(0, first)]
        self.accepted: list[Entry] = []
        self.incoming: bytes = b""
        self.claim = (0, 0)

    def bytes_after(self, lsn: int) -> int:
        return sum(entry.nbytes for entry in self.entries[max(0, lsn + 1 - self.first_lsn) :])

    @property
    def accepted_lsn(self) -> int:
        return self.last_lsn + len(self.accepted)

    def append(self, entry: Entry) -> int:
        lsn = super().append(entry)
        if entry.payload in self._payloads:
            found = decode_configuration(self._payloads[entry.payload])
            self.configurations.append((lsn, found))
        return lsn

    def cut(self, after_lsn: int, mark: int) -> None:
        super().cut(after_lsn, mark)
        self._forget()

    def crash(self, rng: random.Random) -> None:
        super().crash(rng)
        self.accepted.clear()
        self._forget()

    def damage(self, rng: random.Random) -> None:
        """An entry is damaged: it is cut, and all behind it, and what had been is noted; all that
        the term may have had, where the end of the log is lost."""
        unknown = rng.random() < 0.5
        end = self.term_of(self.last_lsn), self.last_lsn
        self.claim = max(self.claim, (self.term, LSN_MAX) if unknown else end)
        kept = rng.randint(self.first_lsn - 1, self.last_lsn - 1)
        del self.entries[kept + 1 - self.first_lsn :]
        self.durable_lsn = kept
        self.mark = self.first_lsn - 1
        self.generation += 1
        self._forget()

    def reset(self, first_lsn: int, prev_term: int) -> None:
        super().reset(first_lsn, prev_term)
        self.configurations = [(first_lsn - 1, decode_configuration(self.incoming))]

    def _forget(self) -> None:
        while self.configurations[-1][0] > self.last_lsn:
            del self.configurations[-1]
