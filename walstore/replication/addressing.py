"""Tells the others where this node is reached, and finds them where they say they are.

Everything here runs in the node's loop, but what says otherwise. See addresses.AddressBook for
which address holds, and docs/cluster.md, "Addresses".
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Mapping, Set

from walstore import durable
from walstore.errors import OptionError
from walstore.replication.addresses import AddressBook
from walstore.replication.message import Address, Addresses
from walstore.replication.network import NetworkManager
from walstore.wal import files

__all__ = ["ADDRESSES_NAME", "Addressing", "advertised_url"]

ADDRESSES_NAME = "addresses"
"""A file beside the log of a node that was told addresses."""

logger = logging.getLogger("walstore.replication")

_FILE_BYTES_MAX = 1 << 20


def advertised_url(url: str, listening: str) -> str:
    """The url that others are told; port 0 is the one that the node listens at."""
    if not url.endswith(":0"):
        return url
    return f"{url.removesuffix(':0')}:{listening.rpartition(':')[2]}"


class Addressing:
    """One node's address book, on its disk and on its network.

    Args:
        path: the log's directory.
        node_id: this node.
        network: its connections.
        urls: where the others are reached as this node was configured; tried when what they told
            does not answer.
        advertise: where this node is reached; None: nobody is told.
    """

    def __init__(
        self,
        path: str,
        node_id: str,
        network: NetworkManager,
        urls: Mapping[str, str],
        advertise: str | None,
    ) -> None:
        self._path = os.path.join(path, ADDRESSES_NAME)
        self._node_id = node_id
        self._network = network
        self._urls = urls
        self._advertise = advertise
        self._book = AddressBook(node_id, self._read())
        if self._book.damaged:
            logger.warning("%s is damaged; the other nodes tell it anew", self._path)
        self._kept = self._book.known
        self._keeping = threading.Lock()
        self._reached: dict[str, tuple[str, ...]] = {node: (url,) for node, url in urls.items()}

    def url_of(self, node: str) -> str | None:
        """Where a node is reached, as far as is known. From any thread."""
        return self._book.url_of(node) or self._urls.get(node)

    def begin(self) -> None:
        """The node listens now.

        Raises:
            OptionError: it cannot be reached as it was told to advertise.
        """
        if self._advertise is not None:
            url = advertised_url(self._advertise, self._network.url)
            if not self._network.is_usable(url):
                raise OptionError(f"advertise: nobody can reach a node of this cluster at {url!r}")
            self._book.announce(url)

    def tell(self, node: str) -> None:
        """A node has connected: it is told all that is known."""
        if self._book.known:
            self._network.send(node, Addresses(self._book.told()))

    def told(self, peer: str, known: Iterable[Address], members: Set[str]) -> None:
        """Another node has said what it knows; what is news is passed on."""
        usable = [item for item in known if self._network.is_usable(item.url)]
        if self._book.merge(usable, peer, members):
            self._network.broadcast(Addresses(self._book.told()))
            self.reach(members)

    def reach(self, members: Set[str]) -> None:
        """Sees to it that the members are connected: where they say they are, or else as this node
        was configured. A node that is in no cluster yet dials all that it is told of."""
        wanted: dict[str, tuple[str, ...]] = {node: (url,) for node, url in self._urls.items()}
        for node, address in self._book.known.items():
            is_one = node in members or members == {self._node_id}
            if is_one and node != self._node_id and self._network.is_usable(address.url):
                wanted[node] = tuple(dict.fromkeys((address.url, *wanted.get(node, ()))))
        for node in self._reached.keys() - wanted.keys():
            self._network.forget(node)
        for node, urls in wanted.items():
            if self._reached.get(node) != urls:
                self._network.reach(node, urls)
        self._reached = wanted

    @property
    def changed(self) -> bool:
        """Whether there is something to keep."""
        return self._book.known is not self._kept

    def keep(self) -> None:
        """Writes the book. In a thread of its own: another one may still be at it, whose task was
        cancelled."""
        with self._keeping:
            known = self._book.known
            try:
                durable.write_whole(self._path, [self._book.encode()], new=self._path + ".new")
            except OSError as error:  # it is told anew after the next start
                logger.warning("%s: the addresses are not kept: %s", self._path, error)
            self._kept = known

    def _read(self) -> bytes:
        if not os.path.exists(self._path):
            return b""
        with files.opened(self._path) as fd:
            return files.read_at(fd, _FILE_BYTES_MAX, 0)
