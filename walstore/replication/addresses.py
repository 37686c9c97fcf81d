"""Where the nodes of a cluster are reached, as they say themselves (docs/cluster.md, "Addresses").
Sans-IO.

Each node counts its own addresses: of two that are known, the one with the higher stamp is newer,
whatever any clock says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from xxhash import xxh3_64_hexdigest

from walstore.replication.message import Address, is_node_id

__all__ = ["ADDRESSES_MAX", "AddressBook"]

ADDRESSES_MAX = 256
"""Nodes that a book holds at most: whoever knows the secret can make up names."""

_STAMP_MAX = 1 << 62  # nobody counts so far; a node could not count on from there


class AddressBook:
    """The newest known address of each node. Replaced as a whole when it changes, so that other
    threads may look.

    Args:
        node_id: whose book it is.
        data: of the file, as `encode` gave it; b"" where there is none.

    Attributes:
        damaged: the data were none; the book begins empty, and the others fill it again.
    """

    def __init__(self, node_id: str, data: bytes = b"") -> None:
        self._node_id = node_id
        self._own_url = ""
        self.known: Mapping[str, Address] = {}
        found = _decode(data) if data else {}
        self.damaged = found is None
        self.known = found or {}

    def url_of(self, node: str) -> str | None:
        """The address that a node has told."""
        address = self.known.get(node)
        return address.url if address else None

    def announce(self, url: str) -> None:
        """This node is reached here from now on."""
        self._own_url = url
        own = self.known.get(self._node_id, Address(self._node_id, 0, ""))
        if own.url != url:
            self._put(Address(self._node_id, own.stamp + 1, url))

    def merge(self, told: Iterable[Address]) -> bool:
        """Takes what another node knows; whether anything of it was news."""
        before = self.known
        for address in told:
            held = self.known.get(address.node)
            if held is None:
                news = len(self.known) < ADDRESSES_MAX
            else:
                news = _rank(address) > _rank(held)
            if news and address.stamp < _STAMP_MAX:
                self._put(address)
        own = self.known.get(self._node_id)
        if own is not None and self._own_url and own.url != self._own_url:
            # Of a life whose book is gone: the others are told that this one is newer.
            self._put(Address(self._node_id, own.stamp + 1, self._own_url))
        return self.known is not before

    def told(self) -> tuple[Address, ...]:
        """What another node is told."""
        return tuple(self.known.values())

    def encode(self) -> bytes:
        """The bytes of the file: xxh3 of the rest, 16 hex digits | newline | JSON."""
        body = json.dumps([[*address] for address in self.known.values()])
        return f"{xxh3_64_hexdigest(body.encode())}\n{body}".encode()

    def _put(self, address: Address) -> None:
        self.known = {**self.known, address.node: address}


def _rank(address: Address) -> tuple[int, str]:
    """A node that has lost its book may count to the same number again: any order will do, since it
    counts on when it hears of an address that is not its own."""
    return address.stamp, address.url


def _decode(data: bytes) -> dict[str, Address] | None:
    checksum, _, body = data.partition(b"\n")
    if checksum != xxh3_64_hexdigest(body).encode():
        return None
    found = [Address(node, stamp, url) for node, stamp, url in json.loads(body)]
    return {address.node: address for address in found if is_node_id(address.node)}
