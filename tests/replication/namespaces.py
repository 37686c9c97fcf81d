"""Network namespaces of a test's own: one for each node, on a switch in one more.

Nothing of it is in the machine's own network, and nothing is left in the end.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tests.crash.mounts import PATH, need, run

__all__ = ["Namespaces"]

_NET = "10.77.0"
_NOBODY = "02:00:00:00:00:01"
"""A hardware address that nobody has: what is sent there is lost, and nobody is told."""


class Namespaces:
    """Namespaces by name, each with an address; between them frames may be lost, one way or both.

    Args:
        names: one letter is one node.
        tag: tells them from others of this process.

    Raises:
        UnavailableError: this machine does not allow it.
    """

    def __init__(self, names: str, *, tag: str = "") -> None:
        self.names = names
        self._tag = tag
        self._ends = ExitStack()
        self._cut: set[tuple[str, str]] = set()

    def __enter__(self) -> Self:
        need("ip")
        with ExitStack() as ends:
            switch = self._add(ends, "switch")
            _ip("-n", switch, "link", "add", "switch", "type", "bridge")
            _ip("-n", switch, "link", "set", "switch", "up")
            for name in self.names:
                space = self._add(ends, name)
                port = f"port-{name}"
                peer = ("type", "veth", "peer", "name", port, "netns", switch)
                _ip("-n", space, "link", "add", "eth0", *peer)
                _ip("-n", switch, "link", "set", port, "master", "switch", "up")
                _ip("-n", space, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
                for device in ("lo", "eth0"):
                    _ip("-n", space, "link", "set", device, "up")
            self._ends = ends.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ends.close()

    def _add(self, ends: ExitStack, name: str) -> str:
        space = self.space(name)
        _ip("netns", "add", space)
        ends.callback(_delete, space)
        return space

    def space(self, name: str) -> str:
        """The namespace of a node."""
        return f"walstore-{os.getpid()}-{self._tag}{name}"

    def address(self, name: str) -> str:
        """The address of a node."""
        return f"{_NET}.{self.names.index(name) + 1}"

    def command(self, name: str) -> tuple[str, ...]:
        """What runs a program in a node's namespace."""
        return ("ip", "netns", "exec", self.space(name))

    def cut(self, sources: Iterable[str], targets: Iterable[str]) -> None:
        """What these send those is lost from now on; the other direction is another matter."""
        for source, target in ((source, target) for source in sources for target in targets):
            nobody = ("lladdr", _NOBODY, "dev", "eth0", "nud", "permanent")
            _ip("-n", self.space(source), "neighbour", "replace", self.address(target), *nobody)
            self._cut.add((source, target))

    def heal(self) -> None:
        """Everything arrives again."""
        for source, target in self._cut:
            address = self.address(target)
            _ip("-n", self.space(source), "neighbour", "delete", address, "dev", "eth0")
        self._cut.clear()


def _ip(*arguments: str) -> str:
    return run("ip", *arguments)


def _delete(space: str) -> None:
    """Whatever has become of it: the others are to be deleted, too."""
    subprocess.run(["ip", "netns", "delete", space], env={**os.environ, "PATH": PATH}, check=False)
