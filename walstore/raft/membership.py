"""The membership of a cluster, its changes and its bytes (docs/consensus.md). Sans-IO.

A configuration entry's payload:

    u8 1 | u8 number of nodes | for each, sorted by id: u8 what it is, u8 bytes of the id, the id

What a node is: 1 a voter, 2 an outgoing voter, 4 a learner, 8 of the target, or'ed.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass

from walstore.raft.errors import ConfigurationError
from walstore.replication.message import NODE_ID_BYTES_MAX, is_node_id
from walstore.replication.quorum import Quorum
from walstore.replication.requests import is_client_id
from walstore.replication.terms import term_bits

__all__ = ["MEMBERS_MAX", "Configuration", "decode_configuration"]

MEMBERS_MAX = 63
"""Most nodes of one cluster."""

_VERSION = 1
_VOTER, _OUTGOING, _LEARNER, _TARGET = 1, 2, 4, 8
_NONE: frozenset[str] = frozenset()

assert (2 + NODE_ID_BYTES_MAX) * MEMBERS_MAX + 2 < 1 << 13


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who is in a cluster, as what.

    Attributes:
        voters: whose majority elects and commits; in a joint configuration, those to come.
        learners: nodes that are fed, and not counted. One that is a voter, too, is counted as
            long as it is one.
        outgoing: in a joint configuration, the voters before: a majority of these is needed, too.
        target: the voters there shall be as soon as all of them have caught up; empty when that
            is so already.
    """

    voters: frozenset[str] = _NONE
    learners: frozenset[str] = _NONE
    outgoing: frozenset[str] = _NONE
    target: frozenset[str] = _NONE

    @property
    def joint(self) -> bool:
        """Whether two majorities are needed."""
        return bool(self.outgoing)

    @property
    def quorum(self) -> Quorum:
        """What is enough to elect and to commit."""
        return Quorum(self.voters, self.outgoing)

    @property
    def members(self) -> frozenset[str]:
        """Every node."""
        return self.voters | self.outgoing | self.learners

    @property
    def newcomers(self) -> frozenset[str]:
        """Nodes that become voters when they have caught up."""
        return self.target - self.voters

    @property
    def leaving(self) -> frozenset[str]:
        """Voters that are none any more when the newcomers become some."""
        return self.voters - self.target if self.target else _NONE

    @property
    def outcome(self) -> tuple[frozenset[str], frozenset[str]]:
        """The voters and learners there are when all steps are made."""
        voters = self.target or self.voters
        return voters, self.learners - voters

    def change(self, voters: Set[str], learners: Set[str] = _NONE) -> Configuration:
        """The first step to these voters and learners; nodes that are in neither are removed.

        Nodes that are to vote and do not yet are learners first; then comes `promote`, then
        `leave`. Without such nodes this is what `promote` gives.

        Raises:
            ConfigurationError: there can be no such membership, or this one is joint.
        """
        if self.joint:
            raise ConfigurationError("an earlier change of the voters is under way")
        target, others = frozenset(voters), frozenset(learners)
        if not target:
            raise ConfigurationError("a cluster needs a voter")
        if target & others:
            raise ConfigurationError(f"{sorted(target & others)} cannot both vote and only learn")
        changed = Configuration(self.voters, others | (target - self.voters), _NONE, target)
        changed.check()
        return changed if changed.newcomers else changed.promote()

    def wished(
        self, wish: Callable[[Set[str], Set[str]], tuple[Set[str], Set[str]]]
    ) -> tuple[frozenset[str], frozenset[str]]:
        """The voters and learners that somebody wishes for.

        The wish is of those that there shall be: a change that waits for newcomers stands. But one
        that takes a newcomer back, and puts nobody else in its place, abandons what waits for it:
        then the voters that were to leave stay, and no vote is lost. Other newcomers stay ones; to
        put one of them there adds nobody.

        Args:
            wish: gives the voters and learners there shall be, of those there are.
        """
        voters, learners = self.outcome
        to_vote, to_learn = wish(voters, learners)
        if to_vote <= voters and not self.newcomers <= to_vote:
            voters = self.voters | self.target
            to_vote, to_learn = wish(voters, self.learners - voters)
        return frozenset(to_vote), frozenset(to_learn)

    def promote(self) -> Configuration:
        """The target's nodes become the voters, jointly with those before them."""
        assert self.target
        assert not self.joint
        learners = self.learners - self.target
        if self.target == self.voters:
            return Configuration(self.voters, learners)
        return Configuration(self.target, learners, self.voters)

    def leave(self) -> Configuration:
        """The outgoing voters are voters no more."""
        assert self.joint
        return Configuration(self.voters, self.learners)

    def check(self) -> None:
        """Raises ConfigurationError if no cluster can be like this."""
        if not self.voters:
            raise ConfigurationError("a cluster needs a voter")
        if self.joint and self.target:
            raise ConfigurationError("a joint configuration has no other one to come")
        members = self.members | self.target
        if len(members) > MEMBERS_MAX:
            raise ConfigurationError(f"{len(members)} nodes; at most {MEMBERS_MAX} make a cluster")
        owners: dict[int, str] = {}
        for node in sorted(members):
            if not is_node_id(node) or is_client_id(node):
                raise ConfigurationError(f"{node!r} cannot be a node's id")
            other = owners.setdefault(term_bits(node), node)
            if other != node:
                raise ConfigurationError(f"{other} and {node} would own the same terms: rename one")

    def encode(self) -> bytes:
        """The payload of its entry."""
        nodes = sorted(self.members | self.target)
        parts = [bytes((_VERSION, len(nodes)))]
        for node in nodes:
            name = node.encode()
            parts += (bytes((self._role(node), len(name))), name)
        return b"".join(parts)

    def _role(self, node: str) -> int:
        return (
            _VOTER * (node in self.voters)
            | _OUTGOING * (node in self.outgoing)
            | _LEARNER * (node in self.learners)
            | _TARGET * (node in self.target)
        )


def decode_configuration(payload: bytes) -> Configuration:
    """The configuration of an entry.

    Raises:
        ConfigurationError: the bytes are none, or of a later version.
    """
    if payload[:1] != bytes((_VERSION,)):
        raise ConfigurationError("a configuration of another version")
    roles: dict[str, int] = {}
    at = 2
    for _ in range(payload[1] if len(payload) > 1 else 0):
        if at + 2 > len(payload):
            break
        role, size = payload[at : at + 2]
        try:
            name = str(payload[at + 2 : at + 2 + size], "utf-8")
        except UnicodeDecodeError:
            raise ConfigurationError("a node id that is not UTF-8") from None
        roles[name] = role
        at += 2 + size
    found = Configuration(
        *(
            frozenset(node for node, role in roles.items() if role & kind)
            for kind in (_VOTER, _LEARNER, _OUTGOING, _TARGET)
        )
    )
    if found.encode() != payload:
        raise ConfigurationError("bytes that are no configuration")
    found.check()
    return found
