"""A machine that knows what it was told."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import xxhash

from walstore.cluster import CommandRefusedError

__all__ = ["Registers", "put"]


def put(name: str, key: str, value: Any, **more: Any) -> bytes:
    """A command: sets a key. No two commands have the same name."""
    return json.dumps({"name": name, "key": key, "value": value} | more).encode()


class Registers:
    """Values by key, and how often each command was applied: by its name."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.applied: dict[str, int] = {}

    def apply(self, lsn: int, command: bytes) -> bytes:
        told = json.loads(command)
        if told.get("refuse"):
            raise CommandRefusedError(f"{told['name']} is refused")
        if told.get("broken"):
            raise ZeroDivisionError("a mistake")
        name = told["name"]
        self.applied[name] = self.applied.get(name, 0) + 1
        self.values[told["key"]] = told["value"]
        return json.dumps([lsn, self.applied[name]]).encode() + bytes(told.get("pad", 0))

    def query(self, query: bytes) -> bytes:
        if query == b"applied":
            return json.dumps(self.applied).encode()
        if query == b"digest":
            return self.digest().encode()
        if query == b"large":
            return bytes(1_000_001)
        if query == b"refuse":
            raise CommandRefusedError("it is refused")
        return json.dumps(self.values.get(query.decode())).encode()

    def digest(self) -> str:
        return xxhash.xxh3_128_hexdigest(b"".join(self.snapshot()))

    def snapshot(self) -> Iterable[bytes]:
        return [json.dumps([self.values, self.applied]).encode()]

    def restore(self, data: bytes) -> None:
        self.values, self.applied = json.loads(data)
