"""What a node's small files beside its log are sealed with: a checksum. Sans-IO.

    xxh3 of the body, 16 hex digits | newline | body

Bodies are JSON, so that a person can read them.
"""

from __future__ import annotations

from xxhash import xxh3_64_hexdigest

__all__ = ["seal", "unseal"]


def seal(body: bytes) -> bytes:
    """The bytes of the file."""
    return xxh3_64_hexdigest(body).encode() + b"\n" + body


def unseal(data: bytes) -> bytes | None:
    """What was sealed; None: the bytes are not as `seal` gave them."""
    checksum, _, body = data.partition(b"\n")
    return body if checksum == xxh3_64_hexdigest(body).encode() else None
