"""Terms that no two nodes share (docs/protocol.md). Sans-IO."""

from __future__ import annotations

from xxhash import xxh3_64_intdigest

__all__ = ["next_term", "owns_term", "term_bits"]

_BITS = 16


def term_bits(node_id: str) -> int:
    """The low bits of every term in which this node leads."""
    return xxh3_64_intdigest(node_id.encode()) & ((1 << _BITS) - 1)


def next_term(term: int, node_id: str) -> int:
    """The lowest term above `term` that this node may choose to lead in."""
    return ((term >> _BITS) + 1) << _BITS | term_bits(node_id)


def owns_term(term: int, node_id: str) -> bool:
    """Whether this node may lead in this term."""
    return term & ((1 << _BITS) - 1) == term_bits(node_id)
