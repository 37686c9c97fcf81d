"""The application: appends documents through whoever leads."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field

from walstore import WALStoreError
from walstore.cli.client import NodeClient, NodeRefusedError, NodeUnreachableError
from walstore.demo.nodes import TIMEOUT_S

__all__ = ["WRITERS", "Writers"]

WRITERS = 32
_ASK_S = 0.01
_REFUSED = 409


@dataclass
class Writers:
    """Threads that append through a node's endpoint, and try again elsewhere what it did not take.

    Attributes:
        documents: those to come.
        urls: {node id: its endpoint}.
        acked: {lsn: document}, of those that were acknowledged.
        acked_at: when, by the clock of time.perf_counter.
    """

    documents: queue.SimpleQueue[tuple[int, bytes]]
    urls: dict[str, str] = field(default_factory=dict)
    acked: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    acked_at: list[float] = field(default_factory=list)
    _leader: str = ""
    _errors: list[WALStoreError] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, until_acked: int, seconds: float) -> None:
        """Begins; ends when so many are acknowledged in all, or the time is over."""
        self._leader = self._leader or next(iter(self.urls))
        arguments = until_acked, time.monotonic() + seconds
        self._threads = [
            threading.Thread(target=self._run, args=arguments, daemon=True) for _ in range(WRITERS)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def busy(self) -> bool:
        """Whether any of them still appends."""
        return any(thread.is_alive() for thread in self._threads)

    def finish(self) -> None:
        """Waits for all, each of which has a timeout.

        Raises:
            WALStoreError: an append failed.
        """
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def longest_gap_s(self, since: float) -> float:
        """The longest time without an acknowledgment, from a moment on."""
        moments = [since, *(moment for moment in sorted(self.acked_at) if moment > since)]
        return max((b - a for a, b in itertools.pairwise(moments)), default=0.0)

    def _run(self, until_acked: int, deadline: float) -> None:
        with contextlib.ExitStack() as held:
            clients = {
                name: held.enter_context(closing(NodeClient(url, TIMEOUT_S)))
                for name, url in self.urls.items()
            }
            while len(self.acked) < until_acked and time.monotonic() < deadline:
                try:
                    kind, body = self.documents.get_nowait()
                    lsn = self._append(clients, kind, body)
                except queue.Empty:
                    return
                except WALStoreError as error:
                    self._errors.append(error)
                    return
                self.acked[lsn] = kind, body
                self.acked_at.append(time.perf_counter())

    def _append(self, clients: dict[str, NodeClient], kind: int, body: bytes) -> int:
        """The lsn. Where a leader dies before it has answered nobody knows whether it took the
        document: it is appended again, and may be there twice."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            asked = self._leader
            try:
                lsn: int = clients[asked].post(f"/append?kind={kind}", body)["lsn"]
            except (NodeRefusedError, NodeUnreachableError) as error:
                if time.monotonic() > deadline:
                    raise
                self._leader = self._next(asked, error)
                time.sleep(_ASK_S)
            else:
                return lsn

    def _next(self, asked: str, error: WALStoreError) -> str:
        """Whom to ask now: the leader that a node has named, or the next one."""
        if isinstance(error, NodeRefusedError):
            if error.status != _REFUSED:
                return asked
            if error.facts.get("leader_id") in self.urls:
                return str(error.facts["leader_id"])
        names = [*self.urls]
        return names[(names.index(asked) + 1) % len(names)]
