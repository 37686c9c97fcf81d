"""Certificates for nodes, made on the spot by the openssl program."""

from __future__ import annotations

import subprocess
from pathlib import Path

from walstore.replication.security import TLS

__all__ = ["Authority"]

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Authority:
    """Signs certificates; its files lie in a directory of their own."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self._path = path
        self.cert, self._key = path / "ca.pem", path / "ca.key"
        _openssl(
            *("req", "-x509", *_KEY, "-keyout", self._key, "-out", self.cert),
            *("-subj", "/CN=authority", "-days", "2"),
        )

    def node(self, node_id: str, *, common_name: str = "node", days: int = 2) -> TLS:
        """A certificate with the node id as alternative name, or as the common name if that is
        what is given; days below zero: expired."""
        stem = self._path / f"{node_id}-{common_name}-{days}"
        key, request, cert = (stem.with_suffix(suffix) for suffix in (".key", ".csr", ".pem"))
        names = () if common_name == node_id else ("-addext", f"subjectAltName=DNS:{node_id}")
        _openssl(
            *("req", *_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={common_name}"), *names
        )
        _openssl(
            *("x509", "-req", "-in", request, "-out", cert, "-days", str(days)),
            *("-CA", self.cert, "-CAkey", self._key, "-copy_extensions", "copy"),
        )
        return TLS(self.cert, cert, key)
