"""Text under its checksum."""

from __future__ import annotations

from walstore.replication.sealed import seal, unseal

SEALED = b'1b4ec608a6c23a3f\n{"lsn": 7}'


def test_what_was_sealed_stays_readable() -> None:
    assert seal(b'{"lsn": 7}') == SEALED
    assert unseal(SEALED) == b'{"lsn": 7}'
    assert unseal(seal(b"two\nlines\n")) == b"two\nlines\n"
    assert unseal(seal(b"")) == b""


def test_no_damage_passes() -> None:
    for at in range(len(SEALED)):
        assert unseal(SEALED[:at]) is None
        for bit in range(8):
            flipped = bytearray(SEALED)
            flipped[at] ^= 1 << bit
            assert unseal(bytes(flipped)) is None
    assert unseal(SEALED + b"\n") is None
