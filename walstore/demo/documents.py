"""The documents that are appended: every language, country and subdivision of ISO."""

from __future__ import annotations

import json
from importlib.resources import files

__all__ = ["DemoError", "load_documents"]

_DATA_SETS = (  # kind of the entries, file, and the key of the documents in it
    (1, "iso639-3.json", "639-3"),
    (2, "iso3166-1.json", "3166-1"),
    (3, "iso3166-2.json", "3166-2"),
)


class DemoError(Exception):
    """The demo cannot go on; says why in one sentence."""


def load_documents(limit: int | None = None) -> list[tuple[int, bytes]]:
    """The documents as (kind, JSON): every language, country and subdivision of ISO.

    Raises:
        DemoError: the package that ships them is not installed.
    """
    try:
        databases = files("pycountry") / "databases"
    except ModuleNotFoundError:
        raise DemoError(
            "the demo's documents are those of the package pycountry: pip install 'walstore[dev]'"
        ) from None
    documents = [
        (kind, json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())
        for kind, name, key in _DATA_SETS
        for document in json.loads((databases / name).read_bytes())[key]
    ]
    return documents[:limit]
