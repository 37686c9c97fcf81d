"""Whose log differs, of those whose hashes of the same committed entries are known. Sans-IO."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set

__all__ = ["differing"]


def differing(digests: Mapping[str, int], leader_id: str, voters: Set[str]) -> frozenset[str]:
    """The nodes whose entries are not those of the others: of a majority of the voters, or of most
    of them when all have answered. None where that cannot be said yet.

    Args:
        digests: the hash that each node gave, the leader's among them.
        leader_id: the hash of this node is right where as many voters have another one.
        voters: whose hashes are counted.
    """
    counts = Counter(digest for node, digest in digests.items() if node in voters)
    own = digests[leader_id]
    if not counts:
        return frozenset()
    right, count = max(counts.items(), key=lambda item: (item[1], item[0] == own))
    if 2 * count <= len(voters) and voters - digests.keys():
        return frozenset()
    return frozenset(node for node, digest in digests.items() if digest != right)
