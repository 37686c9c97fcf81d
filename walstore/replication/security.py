"""Who may talk to a node: mutual TLS, a shared secret, or nobody off this machine."""

from __future__ import annotations

import ipaddress
import logging
import os
import ssl
from dataclasses import dataclass, field
from typing import Any

from walstore.errors import OptionError

__all__ = ["SECRET_BYTES_MIN", "TLS", "Contexts", "Security", "certificate_names", "is_loopback"]

logger = logging.getLogger("walstore.replication")

SECRET_BYTES_MIN = 16
"""Shortest secret. It is a key, not a password: `openssl rand -hex 32` makes a good one."""


@dataclass(frozen=True, slots=True)
class TLS:
    """Files in PEM form. They are read again when they change: certificates can be rotated while
    the node runs; connections that are open stay.

    Attributes:
        ca: the authority that every node's certificate must be signed by.
        cert, key: this node's own. Its node id is a DNS name in the certificate's subjectAltName,
            or its common name.
    """

    ca: str | os.PathLike[str]
    cert: str | os.PathLike[str]
    key: str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Security:
    """What a node asks of its peers.

    Attributes:
        secret: bytes that all nodes of a cluster share, at least SECRET_BYTES_MIN. Each end proves
            that it knows them, and every message is authenticated; nothing is encrypted.
        tls: encrypts, and binds node ids to certificates.
        insecure: neither is needed off this machine. Whoever reaches the port can do anything.
    """

    secret: bytes | None = field(default=None, repr=False)
    tls: TLS | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        if self.secret is not None and not isinstance(self.secret, bytes):
            raise OptionError("secret must be bytes")
        if self.secret is not None and len(self.secret) < SECRET_BYTES_MIN:
            raise OptionError(f"secret must be at least {SECRET_BYTES_MIN} bytes")

    @property
    def scheme(self) -> str:
        """Of the urls of nodes."""
        return "ws" if self.tls is None else "wss"

    def check_host(self, host: str) -> None:
        """Refuses to leave this machine unprotected.

        Raises:
            OptionError: the host is not this machine, and nothing protects the connection.
        """
        if self.tls is None and self.secret is None and not self.insecure and not is_loopback(host):
            raise OptionError(
                f"{host} is not a loopback address: give tls, a secret, or insecure=True"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can be meant."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def certificate_names(tls_object: ssl.SSLObject) -> frozenset[str]:
    """The node ids that the peer's certificate, already verified, is good for."""
    # Typeshed says less of this dict than the standard library's documentation does.
    certificate: dict[str, Any] = dict(tls_object.getpeercert() or {})
    names = {value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"}
    for attributes in certificate.get("subject", ()):
        names.update(value for kind, value in attributes if kind == "commonName")
    return frozenset(names)


class Contexts:
    """TLS contexts, made anew when one of their files has changed.

    Raises:
        OptionError: the files are missing, or make no sense.
    """

    def __init__(self, tls: TLS) -> None:
        self._tls = tls
        self._stamp = self._look()
        try:
            self._contexts = self._make()
        except (OSError, ValueError) as error:
            raise OptionError(f"tls: {error}") from error

    def server(self) -> ssl.SSLContext:
        """For connections that come in."""
        self._reload()
        return self._contexts[0]

    def client(self) -> ssl.SSLContext:
        """For connections that go out."""
        self._reload()
        return self._contexts[1]

    def _look(self) -> tuple[tuple[int, int, int], ...] | None:
        try:
            stats = [os.stat(path) for path in (self._tls.ca, self._tls.cert, self._tls.key)]
        except OSError:
            return None
        return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)

    def _reload(self) -> None:
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._contexts = self._make()
        except (OSError, ValueError) as error:
            # In the middle of a rotation the files may not fit together: their next change counts.
            logger.warning("tls: the files have changed and cannot be used: %s", error)
        else:
            logger.info("tls: the files have changed and are in use")

    def _make(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        contexts = []
        for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
            context = ssl.SSLContext(protocol)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.check_hostname = False  # the node id is checked, not the address
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self._tls.ca)
            context.load_cert_chain(self._tls.cert, self._tls.key)
            contexts.append(context)
        return contexts[0], contexts[1]
