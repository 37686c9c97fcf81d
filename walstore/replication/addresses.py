"""Where the nodes of a cluster are reached, as they say themselves (docs/cluster.md, "Addresses").
Sans-IO.

Each node counts its own addresses: of two that are known, the one with the higher stamp is newer,
whatever any clock says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Set

from walstore.replication.message import Address, is_node_id
from walstore.replication.requests import is_client_id
from walstore.replication.sealed import seal, unseal

__all__ = ["ADDRESSES_MAX", "AddressBook"]

ADDRESSES_MAX = 256
"""Nodes that a book holds at most: whoever knows the secret can make up names."""

_STAMP_MAX = (1 << 63) - 1
_OTHERS_STAMP_MAX = (1 << 62) - 1
"""Nobody counts so far. Of others a node is believed up to here only: so each can count on, and is
believed itself, whatever the others told of it."""


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
            self._put(Address(self._node_id, min(own.stamp + 1, _STAMP_MAX), url))

    def merge(
        self, told: Iterable[Address], sender: str = "", members: Set[str] = frozenset()
    ) -> bool:
        """Takes what another node knows; whether anything of it was news.

        Args:
            sender: who told it.
            members: of the cluster. In a book that is full they, and the sender, take the place of
                nodes that are none.
        """
        before = self.known
        for address in told:
            own_word = address.node == sender
            held = self.known.get(address.node)
            if not self._is_news(address, held, own_word):
                continue
            if held is None and not self._make_room(own_word or address.node in members, members):
                continue
            self._put(address)
        own = self.known.get(self._node_id)
        if own is not None and self._own_url and own.url != self._own_url:
            # Of a life whose book is gone: the others are told that this one is newer.
            self._put(Address(self._node_id, min(own.stamp + 1, _STAMP_MAX), self._own_url))
        return self.known is not before

    def told(self) -> tuple[Address, ...]:
        """What another node is told."""
        return tuple(self.known.values())

    def encode(self) -> bytes:
        """The bytes of the file: JSON, sealed."""
        return seal(json.dumps([[*address] for address in self.known.values()]).encode())

    def _is_news(self, address: Address, held: Address | None, own_word: bool) -> bool:
        """Whether this is newer than what is held, and can be true."""
        if is_client_id(address.node):
            return False  # nobody reaches those
        if own_word and held is not None and address.stamp == held.stamp:
            return address.url != held.url
        believed = own_word or address.node == self._node_id  # which counts on from there
        if address.stamp > (_STAMP_MAX if believed else _OTHERS_STAMP_MAX):
            return False
        return held is None or _rank(address) > _rank(held)

    def _make_room(self, wanted: bool, members: Set[str]) -> bool:
        """Whether there is room for one more; for one that is wanted the oldest that is no member
        goes. Others never take a place: two full books would take turns."""
        if len(self.known) < ADDRESSES_MAX:
            return True
        strange = (node for node in self.known if node not in members and node != self._node_id)
        gone = next(strange, None) if wanted else None
        if gone is not None:
            self.known = {node: a for node, a in self.known.items() if node != gone}
        return gone is not None

    def _put(self, address: Address) -> None:
        self.known = {**self.known, address.node: address}


def _rank(address: Address) -> tuple[int, str]:
    """A node that has lost its book may count to the same number again: any order will do, since it
    counts on when it hears of an address that is not its own."""
    return address.stamp, address.url


def _decode(data: bytes) -> dict[str, Address] | None:
    body = unseal(data)
    if body is None:
        return None
    found = [Address(node, stamp, url) for node, stamp, url in json.loads(body)]
    return {a.node: a for a in found if is_node_id(a.node) and not is_client_id(a.node)}
