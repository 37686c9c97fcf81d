"""A node in a process of its own that does what it is told: `python -m tests.replication.told_node
OPTIONS` (remotes.py starts it, and talks to it).

Each line of its input is a command with its arguments, as JSON, and is answered with a line: what
the command returned, or the error. When its input ends the node is closed.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from walstore import WALStoreError
from walstore.replication import (
    NetworkOptions,
    ReplicationOptions,
    ReplicationTimeoutError,
    ReplicationWALManager,
    TermOf,
)
from walstore.testing.shim import Action, Shim
from walstore.testing.trace import SYNCS

WAIT_S = 30.0


class Files:
    """An application whose snapshots are files: `saved-LSN` of its own, and `installed-LSN`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def save(self, lsn: int, size_bytes: int, seed: int) -> None:
        """Makes a snapshot."""
        (self._folder / f"saved-{lsn}").write_bytes(random.Random(seed).randbytes(size_bytes))

    def newest(self, term_of: TermOf) -> tuple[int, str] | None:
        saved = [(int(path.name.partition("-")[2]), path) for path in self._folder.glob("saved-*")]
        return max(((lsn, str(path)) for lsn, path in saved), default=None)

    def install(self, lsn: int, path: str) -> None:
        unfinished = self._folder / "unfinished"
        shutil.copyfile(path, unfinished)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.rename(self._folder / f"installed-{lsn}")


class Told:
    """The commands."""

    def __init__(self, node: ReplicationWALManager, files: Files) -> None:
        self._node = node
        self._files = files

    def append(self, payload: str, timeout_s: float = WAIT_S) -> int:
        return self._node.append(payload.encode(), timeout_s=timeout_s)

    def append_to_all(self, payload: str, timeout_s: float) -> int:
        return self._node.append(payload.encode(), acks="all", timeout_s=timeout_s)

    def fill(self, batches: int, entries: int, entry_bytes: int) -> int:
        """Appends batches of random entries; returns the last lsn."""
        for _ in range(batches):
            batch = [os.urandom(entry_bytes) for _ in range(entries)]
            last_lsn = self._node.append_many(batch, timeout_s=WAIT_S)[-1]
        return last_lsn

    def status(self) -> dict[str, Any]:
        return self._node.status().as_dict()

    def promote(self, timeout_s: float = WAIT_S) -> int:
        return self._node.promote(timeout_s=timeout_s)

    def truncate_before(self, lsn: int) -> int:
        self._node.truncate_before(lsn)
        return self._node.first_lsn

    def save(self, lsn: int, size_bytes: int, seed: int) -> None:
        self._files.save(lsn, size_bytes, seed)

    def fail_syncs(self) -> None:
        """From now on this process's disk fails each sync (it runs under the shim)."""
        Shim().arm(1, SYNCS, Action.ERRNO, errno.EIO, forever=True)


def answer(call: Callable[..., Any], arguments: list[Any]) -> dict[str, Any]:
    """What a command returned, or its error."""
    try:
        return {"result": call(*arguments)}
    except ReplicationTimeoutError as error:
        return {"error": type(error).__name__, "message": str(error), "lsn": error.receipt.lsn}
    except WALStoreError as error:
        return {"error": type(error).__name__, "message": str(error)}


def main(text: str) -> None:
    """Runs a node until its input ends."""
    options = json.loads(text)
    files = Files(Path(f"{options['path']}-application"))
    if Shim.loaded():  # it breaks what was opened while it watched
        Shim().start(options["path"], record=False)
    options["network"] = NetworkOptions(**options["network"])
    options["options"] = ReplicationOptions(**options["options"])
    with ReplicationWALManager(**options, snapshots=files) as node:
        told = Told(node, files)
        print(json.dumps({"result": "ready"}), flush=True)
        for line in sys.stdin:
            name, *arguments = json.loads(line)
            print(json.dumps(answer(getattr(told, name), arguments)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
