"""Makes the checksums of an input right: a decoder that is only shown bad ones is not tested."""

from __future__ import annotations

import struct

from walstore.wal.record import crc32c

__all__ = ["fix_block", "fix_records", "take"]

_HEADER_BYTES = 48
_CRC_AT = 8

# What the first byte of a record asks for; the checksum that stands there is written over it.
_SHORT, _PAYLOAD, _LSN, _FIELDS, _NO_PADDING, _DURABLE, _SKIP, _BROKEN = (1 << i for i in range(8))


def take(data: bytes, *sizes: int) -> tuple[list[bytes], bytes]:
    """Parts of these sizes from the start, filled up with zeros, and what is left."""
    parts = []
    for size in sizes:
        parts.append(data[:size].ljust(size, b"\0"))
        data = data[size:]
    return parts, data


def fix_block(block: bytes, magic: bytes) -> bytes:
    """A block of this kind and of version 1, whose checksum at byte 8 fits."""
    block = magic + block[:4] + struct.pack("<I", 1) + block[_CRC_AT + 8 :]
    crc = crc32c(block[_CRC_AT + 4 :], crc32c(block[:_CRC_AT]))
    return block[:_CRC_AT] + struct.pack("<I", crc) + block[_CRC_AT + 4 :]


def _fix_header(header: bytes, lsn: int, seed: int, payload: bytes | None) -> bytes:
    asked = header[0]
    fields = list(struct.unpack("<QQQQIHH", header[8:]))
    if asked & _LSN:
        fields[0] = lsn
    if asked & _DURABLE:
        fields[3] %= fields[0] or 1
    if asked & _FIELDS:
        fields[1] &= 7
        fields[5] |= 1
        fields[6] &= 1
    crc = crc32c(payload) if payload is not None and asked & _PAYLOAD else 0
    rest = struct.pack("<IQQQQIHH", crc, *fields)
    return struct.pack("<I", 0 if asked & _BROKEN else crc32c(rest, seed)) + rest


def fix_records(data: bytes, seed: int, lsn: int) -> bytes:
    """Walks the headers as a scanner would, from `lsn` on, and makes them what each one's first
    byte asks for. A stretch of zeros stays one."""
    out = bytearray(data)
    at = 0
    while len(out) - at >= _HEADER_BYTES:
        if not any(out[at : at + 8]):
            at += 8
            continue
        asked = out[at]
        (size,) = struct.unpack_from("<I", out, at + 40)
        if asked & _SHORT:
            size &= 0x7F
            struct.pack_into("<I", out, at + 40, size)
        payload_at = at + _HEADER_BYTES
        payload = bytes(out[payload_at : payload_at + size])
        total = (_HEADER_BYTES + size + 7) // 8 * 8
        if asked & _NO_PADDING and at + total <= len(out):
            out[payload_at + size : at + total] = bytes(at + total - payload_at - size)
        lsn += 1 if asked & _SKIP and asked & _BROKEN else 0
        header = bytes(out[at:payload_at])
        whole = payload if len(payload) == size else None
        out[at:payload_at] = _fix_header(header, lsn, seed, whole)
        lsn += 1
        at += total
    return bytes(out)
