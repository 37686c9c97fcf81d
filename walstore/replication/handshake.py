"""Who is at the other end, and the keys of a connection. Sans-IO: nonces and clocks are arguments.

The dialer says HELLO, the listener CHALLENGE, the dialer PROOF, the listener WELCOME;
docs/protocol.md has the formulas. Proof and keys are HMAC-SHA256 (RFC 2104) over both nonces and
both node ids.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from walstore.replication.errors import CloseCode, MessageError, RefusedError
from walstore.replication.message import (
    CONTROL_BYTES_MAX,
    MAC_BYTES,
    MESSAGE_BYTES_MAX,
    NO_CLUSTER,
    Body,
    Challenge,
    Hello,
    Proof,
    ReplicationMessage,
    Welcome,
    decode,
    encode,
)

__all__ = ["Dialer", "Listener", "Session"]

_NO_PROOF = bytes(MAC_BYTES)
_HANDSHAKE = (Hello, Challenge, Proof, Welcome)


def _secret_key(secret: bytes, hello: bytes, challenge: bytes) -> bytes:
    return hmac.digest(secret, b"walstore 2" + hello + challenge, "sha256")


def _proof(secret_key: bytes | None, role: str, dialer_id: str, listener_id: str) -> bytes:
    if secret_key is None:
        return _NO_PROOF
    names = b"".join(
        bytes([len(name)]) + name for name in (dialer_id.encode(), listener_id.encode())
    )
    return hmac.digest(secret_key, role.encode() + names, "sha256")


def _message_key(secret_key: bytes | None, role: str) -> bytes | None:
    if secret_key is None:
        return None
    return hmac.digest(secret_key, f"{role} messages".encode(), "sha256")


def _not_authenticated(reason: str) -> RefusedError:
    return RefusedError(CloseCode.NOT_AUTHENTICATED, reason)


class Session:
    """One end of a connection: makes and checks what every message carries.

    Args:
        node_id: this node.
        peer_id: the node at the other end.
        cluster_id: gives this node's; NO_CLUSTER while it has no log.
        seal_key, open_key: of the two directions; None without a secret.

    Attributes:
        peer_cluster_id: what the peer's last message said.
    """

    def __init__(
        self,
        node_id: str,
        peer_id: str,
        cluster_id: Callable[[], bytes],
        seal_key: bytes | None,
        open_key: bytes | None,
    ) -> None:
        self.node_id = node_id
        self.peer_id = peer_id
        self.peer_cluster_id = NO_CLUSTER
        self._cluster_id = cluster_id
        self._seal_key = seal_key
        self._open_key = open_key
        self._sealed = 1  # the HELLO or the CHALLENGE
        self._opened = 1

    def seal(self, body: Body, term: int, timestamp_ns: int) -> bytes:
        """The next message to the peer. Every one that is sealed must be sent, in this order."""
        self._sealed += 1
        message = ReplicationMessage(
            self.node_id,
            self.peer_id,
            self._sealed,
            term,
            timestamp_ns,
            self._cluster_id(),
            body,
        )
        return encode(message, self._seal_key)

    def open(
        self, data: bytes | memoryview, bytes_max: int = MESSAGE_BYTES_MAX
    ) -> ReplicationMessage:
        """The next message from the peer.

        Raises:
            MessageError: it is not that; nothing that it says may be believed.
            RefusedError: it comes from another cluster.
        """
        message = self._check(data, bytes_max)
        if isinstance(message.body, _HANDSHAKE):
            raise MessageError(f"a {message.type.name} out of place")
        self.check_cluster(message)
        return message

    def _check(self, data: bytes | memoryview, bytes_max: int) -> ReplicationMessage:
        message = decode(data, bytes_max=bytes_max, key=self._open_key)
        if message.message_id != self._opened + 1:
            raise MessageError(f"message {message.message_id} where {self._opened + 1} was due")
        if message.source != self.peer_id or message.target != self.node_id:
            raise MessageError(f"a message from {message.source} to {message.target}")
        self._opened += 1
        return message

    def open_welcome(self, data: bytes | memoryview) -> ReplicationMessage:
        """The listener's WELCOME, whose proof is still to be checked."""
        message = self._check(data, CONTROL_BYTES_MAX)
        if not isinstance(message.body, Welcome):
            raise MessageError(f"a {message.type.name} where a WELCOME was due")
        return message

    def took_proof(self) -> None:
        """The dialer's PROOF, message 2, was opened before there was a session."""
        self._opened += 1

    def check_cluster(self, message: ReplicationMessage) -> None:
        """Both are of one cluster, or one of them has no log yet.

        Raises:
            RefusedError: they are not.
        """
        own, theirs = self._cluster_id(), message.cluster_id
        if own != theirs and NO_CLUSTER not in (own, theirs):
            reason = f"{self.peer_id} is of cluster {theirs.hex()}, {self.node_id} of {own.hex()}"
            raise RefusedError(CloseCode.OTHER_CLUSTER, reason)
        self.peer_cluster_id = theirs


class Dialer:
    """The end that opened the connection.

    Args:
        node_id: this node.
        peer_id: the node it wants to reach.
        secret: that all nodes share, or None.
        nonce: 32 random bytes, never used before.
        cluster_id: as of Session.

    Attributes:
        peer_id: as given.
        session: once the listener has proven itself, else None.
    """

    def __init__(
        self,
        node_id: str,
        peer_id: str,
        secret: bytes | None,
        nonce: bytes,
        cluster_id: Callable[[], bytes],
    ) -> None:
        self._node_id = node_id
        self.peer_id = peer_id
        self._secret = secret
        self._nonce = nonce
        self._cluster_id = cluster_id
        self._secret_key: bytes | None = None
        self._pending: Session | None = None
        self.session: Session | None = None

    def hello(self) -> bytes:
        """The first message."""
        return encode(ReplicationMessage("", "", 1, 0, 0, NO_CLUSTER, Hello(self._nonce)))

    def receive(self, data: bytes | memoryview, term: int, timestamp_ns: int) -> bytes | None:
        """Takes the listener's next message; returns the answer, or None when all is said.

        Raises:
            MessageError, RefusedError: this is not the node that was wanted.
        """
        if self._pending is None:
            return self._answer(data, term, timestamp_ns)
        pending = self._pending
        try:
            message = pending.open_welcome(data)
        except MessageError as error:
            if error.code != CloseCode.BAD_MESSAGE:
                raise
            raise _not_authenticated(error.reason) from None
        assert isinstance(message.body, Welcome)
        proof = _proof(self._secret_key, "listener", self._node_id, self.peer_id)
        if not hmac.compare_digest(proof, message.body.proof):
            raise _not_authenticated("the listener's proof is wrong")
        pending.check_cluster(message)
        self.session = pending
        return None

    def _answer(self, data: bytes | memoryview, term: int, timestamp_ns: int) -> bytes:
        message = decode(data, bytes_max=CONTROL_BYTES_MAX)
        if not isinstance(message.body, Challenge) or message.message_id != 1:
            raise MessageError(f"a {message.type.name} where a CHALLENGE was due")
        if self._secret is not None:
            self._secret_key = _secret_key(self._secret, self._nonce, message.body.nonce)
        self._pending = Session(
            self._node_id,
            self.peer_id,
            self._cluster_id,
            _message_key(self._secret_key, "dialer"),
            _message_key(self._secret_key, "listener"),
        )
        proof = _proof(self._secret_key, "dialer", self._node_id, self.peer_id)
        return self._pending.seal(Proof(proof), term, timestamp_ns)


class Listener:
    """The end that was called. It says nothing of itself before the PROOF is good.

    Args:
        node_id, secret, nonce, cluster_id: as of Dialer.

    Attributes:
        session: once the dialer has proven itself, else None.
    """

    def __init__(
        self,
        node_id: str,
        secret: bytes | None,
        nonce: bytes,
        cluster_id: Callable[[], bytes],
    ) -> None:
        self._node_id = node_id
        self._secret = secret
        self._nonce = nonce
        self._cluster_id = cluster_id
        self._secret_key: bytes | None = None
        self._challenged = False
        self.session: Session | None = None

    def receive(self, data: bytes | memoryview) -> bytes | None:
        """Takes the dialer's next message; returns the CHALLENGE, or None once `session` is there.

        Raises:
            MessageError, RefusedError: the dialer is not let in.
        """
        if not self._challenged:
            return self._challenge(data)
        self.session = self._admit(data)
        return None

    def welcome(self, term: int, timestamp_ns: int) -> bytes:
        """The last message of the handshake, for a dialer that is let in."""
        assert self.session is not None
        proof = _proof(self._secret_key, "listener", self.session.peer_id, self._node_id)
        return self.session.seal(Welcome(proof), term, timestamp_ns)

    def _challenge(self, data: bytes | memoryview) -> bytes:
        message = decode(data, bytes_max=CONTROL_BYTES_MAX)
        if not isinstance(message.body, Hello) or message.message_id != 1:
            raise MessageError(f"a {message.type.name} where a HELLO was due")
        if self._secret is not None:
            self._secret_key = _secret_key(self._secret, message.body.nonce, self._nonce)
        self._challenged = True
        return encode(ReplicationMessage("", "", 1, 0, 0, NO_CLUSTER, Challenge(self._nonce)))

    def _admit(self, data: bytes | memoryview) -> Session:
        open_key = _message_key(self._secret_key, "dialer")
        try:
            message = decode(data, bytes_max=CONTROL_BYTES_MAX, key=open_key)
        except MessageError as error:
            if error.code != CloseCode.BAD_MESSAGE:
                raise
            raise _not_authenticated(error.reason) from None
        if not isinstance(message.body, Proof) or message.message_id != 2:
            raise _not_authenticated(f"a {message.type.name} where a PROOF was due")
        # With the names that it used: only who knows the secret is told that they are wrong.
        proof = _proof(self._secret_key, "dialer", message.source, message.target)
        if not hmac.compare_digest(proof, message.body.proof):
            raise _not_authenticated("the dialer's proof is wrong")
        if message.target != self._node_id:
            reason = f"a message to {message.target}, and this is {self._node_id}"
            raise RefusedError(CloseCode.WRONG_NODE, reason)
        if message.source == self._node_id:
            raise RefusedError(CloseCode.WRONG_NODE, f"two nodes are called {self._node_id}")
        seal_key = _message_key(self._secret_key, "listener")
        session = Session(self._node_id, message.source, self._cluster_id, seal_key, open_key)
        session.took_proof()
        session.check_cluster(message)
        return session
