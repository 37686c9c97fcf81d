"""The handshake, without a network: who knows the secret gets in, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from tests.replication.networks import CLUSTER, SECRET
from walstore.replication import CloseCode, MessageError, RefusedError, ReplicationMessage
from walstore.replication.handshake import (
    Dialer,
    Listener,
    Session,
    _message_key,
    _proof,
    _secret_key,
)
from walstore.replication.message import (
    NO_CLUSTER,
    Ack,
    Body,
    Challenge,
    Proof,
    Welcome,
    decode,
    encode,
)

OTHER = b"another secret of enough bytes"


def dialer(**changes: Any) -> Dialer:
    options: dict[str, Any] = {
        "node_id": "D",
        "peer_id": "L",
        "secret": SECRET,
        "nonce": b"d" * 32,
        "cluster_id": lambda: CLUSTER,
    }
    return Dialer(**options | changes)


def listener(**changes: Any) -> Listener:
    options: dict[str, Any] = {
        "node_id": "L",
        "secret": SECRET,
        "nonce": b"l" * 32,
        "cluster_id": lambda: CLUSTER,
    }
    return Listener(**options | changes)


def shake(one: Dialer, other: Listener) -> tuple[Session, Session]:
    challenge = other.receive(one.hello())
    assert challenge is not None
    proof = one.receive(challenge, 4, 0)
    assert proof is not None
    assert other.receive(proof) is None
    assert other.session is not None
    assert one.receive(other.welcome(5, 0), 4, 0) is None
    assert one.session is not None
    return one.session, other.session


def refused(one: Dialer, other: Listener) -> CloseCode:
    with pytest.raises(RefusedError) as caught:
        shake(one, other)
    return caught.value.code


@pytest.mark.parametrize("secret", [None, SECRET], ids=["plain", "secret"])
def test_both_get_to_know_each_other(secret: bytes | None) -> None:
    ours, theirs = shake(dialer(secret=secret), listener(secret=secret))
    assert (ours.peer_id, theirs.peer_id) == ("L", "D")
    assert ours.peer_cluster_id == theirs.peer_cluster_id == CLUSTER
    for session, peer in ((ours, theirs), (theirs, ours)):
        for term in range(3):
            message = peer.open(session.seal(Ack(1, 2, 3), term, 9))
            assert (message.term, message.timestamp_ns, message.body) == (term, 9, Ack(1, 2, 3))
            assert message.message_id == 3 + term


@pytest.mark.parametrize(("one", "other"), [(SECRET, OTHER), (SECRET, None), (None, SECRET)])
def test_without_the_same_secret_nobody_gets_in(one: bytes | None, other: bytes | None) -> None:
    assert refused(dialer(secret=one), listener(secret=other)) == CloseCode.NOT_AUTHENTICATED


def test_the_listener_says_nothing_of_itself_before_the_proof() -> None:
    other = listener()
    challenge = other.receive(dialer().hello())
    assert challenge is not None
    expected = ReplicationMessage("", "", 1, 0, 0, NO_CLUSTER, Challenge(b"l" * 32))
    assert decode(challenge) == expected


def test_a_listener_that_does_not_know_the_secret_is_found_out() -> None:
    one = dialer()
    challenge = listener(secret=OTHER).receive(one.hello())
    assert challenge is not None
    one.receive(challenge, 1, 0)
    for forged in (
        encode(ReplicationMessage("L", "D", 2, 1, 0, CLUSTER, Welcome(bytes(32)))),
        encode(ReplicationMessage("L", "D", 2, 1, 0, CLUSTER, Welcome(bytes(32))), bytes(32)),
    ):
        with pytest.raises(RefusedError) as caught:
            one.receive(forged, 1, 0)
        assert caught.value.code == CloseCode.NOT_AUTHENTICATED
        assert one.session is None


def test_a_proof_is_worth_nothing_for_another_challenge_or_another_node() -> None:
    one = dialer()
    challenge = listener().receive(one.hello())
    assert challenge is not None
    proof = one.receive(challenge, 1, 0)
    assert proof is not None
    for other in (listener(nonce=b"m" * 32), listener(secret=OTHER)):
        other.receive(one.hello())
        with pytest.raises(RefusedError) as caught:
            other.receive(proof)
        assert caught.value.code == CloseCode.NOT_AUTHENTICATED
        assert other.session is None


def test_a_proof_is_not_a_welcome() -> None:
    """What the dialer said, sent back to it, proves nothing."""
    one = dialer(node_id="X", peer_id="Y")
    challenge = listener(node_id="Y").receive(one.hello())
    assert challenge is not None
    proof = one.receive(challenge, 1, 0)
    assert proof is not None
    with pytest.raises(RefusedError):
        one.receive(proof, 1, 0)


def test_a_proof_names_both_ends_and_its_role() -> None:
    """It is worth nothing for others, nor sent back by the other end; also from who knows the
    secret, and makes everything else right."""
    key = _secret_key(SECRET, b"d" * 32, b"l" * 32)
    for role, names in (("listener", "DL"), ("dialer", "LD"), ("dialer", "EL"), ("dialer", "DM")):
        other = listener()
        other.receive(dialer().hello())
        forged = ReplicationMessage("D", "L", 2, 1, 0, CLUSTER, Proof(_proof(key, role, *names)))
        with pytest.raises(RefusedError, match="the dialer's proof is wrong"):
            other.receive(encode(forged, _message_key(key, "dialer")))
        assert other.session is None
    for role, names in (("dialer", "DL"), ("listener", "LD"), ("listener", "EL")):
        one = dialer()
        challenge = listener().receive(one.hello())
        assert challenge is not None
        one.receive(challenge, 1, 0)
        answer = ReplicationMessage("L", "D", 2, 1, 0, CLUSTER, Welcome(_proof(key, role, *names)))
        with pytest.raises(RefusedError, match="the listener's proof is wrong"):
            one.receive(encode(answer, _message_key(key, "listener")), 1, 0)
        assert one.session is None


@pytest.mark.parametrize(("source", "target"), [("X", "L"), ("D", "X")])
def test_no_end_speaks_for_another_node(source: str, target: str) -> None:
    _, theirs = shake(dialer(secret=None), listener(secret=None))
    with pytest.raises(MessageError, match=f"from {source} to {target}"):
        theirs.open(encode(ReplicationMessage(source, target, 3, 1, 0, CLUSTER, Ack(1, 1, 1))))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"peer_id": "M"}, CloseCode.WRONG_NODE),
        ({"node_id": "L"}, CloseCode.WRONG_NODE),
        ({"cluster_id": lambda: b"x" * 16}, CloseCode.OTHER_CLUSTER),
    ],
)
@pytest.mark.parametrize("secret", [None, SECRET], ids=["plain", "secret"])
def test_another_node_or_cluster_is_named_to_who_knows_the_secret(
    changes: dict[str, Any], code: CloseCode, secret: bytes | None
) -> None:
    assert refused(dialer(secret=secret, **changes), listener(secret=secret)) == code
    if secret is not None:
        assert refused(dialer(secret=OTHER, **changes), listener()) == CloseCode.NOT_AUTHENTICATED


def test_a_node_without_a_log_is_of_any_cluster() -> None:
    ours, theirs = shake(dialer(cluster_id=lambda: NO_CLUSTER), listener())
    assert ours.peer_cluster_id == CLUSTER
    assert theirs.peer_cluster_id == NO_CLUSTER


@pytest.mark.parametrize("secret", [None, SECRET], ids=["plain", "secret"])
def test_a_message_counts_once_and_in_order(secret: bytes | None) -> None:
    ours, theirs = shake(dialer(secret=secret), listener(secret=secret))
    first, second = ours.seal(Ack(1, 1, 1), 1, 0), ours.seal(Ack(2, 2, 2), 1, 0)
    with pytest.raises(MessageError, match="message 4 where 3 was due"):
        theirs.open(second)
    theirs.open(first)
    with pytest.raises(MessageError, match="message 3 where 4 was due"):
        theirs.open(first)
    theirs.open(second)


def test_a_message_is_refused_on_another_connection_and_in_the_other_direction() -> None:
    ours, theirs = shake(dialer(), listener())
    _, again = shake(dialer(nonce=b"e" * 32), listener(nonce=b"m" * 32))
    frame = ours.seal(Ack(1, 1, 1), 1, 0)
    for session in (again, ours):
        with pytest.raises(MessageError, match="MAC does not match"):
            session.open(frame)
    assert theirs.open(frame).body == Ack(1, 1, 1)


@pytest.mark.parametrize("body", [Proof(bytes(32)), Welcome(bytes(32))])
def test_the_handshake_is_not_repeated(body: Body) -> None:
    ours, theirs = shake(dialer(), listener())
    with pytest.raises(MessageError, match="out of place"):
        theirs.open(ours.seal(body, 1, 0))


def test_nothing_else_is_taken_in_place_of_the_handshake() -> None:
    early = encode(ReplicationMessage("D", "L", 1, 9, 0, CLUSTER, Ack(1, 1, 1)))
    with pytest.raises(MessageError, match="where a HELLO was due"):
        listener().receive(early)
    with pytest.raises(MessageError, match="where a CHALLENGE was due"):
        dialer().receive(early, 1, 0)
    other = listener(secret=None)
    other.receive(dialer().hello())
    with pytest.raises(RefusedError, match="where a PROOF was due"):
        other.receive(encode(ReplicationMessage("D", "L", 2, 9, 0, CLUSTER, Ack(1, 1, 1))))
    one = dialer(secret=None)
    challenge = listener(secret=None).receive(one.hello())
    assert challenge is not None
    one.receive(challenge, 1, 0)
    with pytest.raises(RefusedError, match="where a WELCOME was due"):
        one.receive(encode(ReplicationMessage("L", "D", 2, 9, 0, CLUSTER, Ack(1, 1, 1))), 1, 0)
