"""Documents that are decoded when somebody looks into them.

A TinyDB table asks its storage for all documents whenever it does anything, and looks into few.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from walstore.docstore.values import decode

__all__ = ["LazyDocument"]


class LazyDocument(MutableMapping[str, Any]):
    """A document of its reader's own: what is changed in it is not changed anywhere else.

    Attributes:
        raw: its bytes, as long as nobody has looked into it; then None, since it may have been
            changed.
    """

    __slots__ = ("_fields", "raw")

    _fields: dict[str, Any]

    def __init__(self, raw: bytes) -> None:
        self.raw: bytes | None = raw

    @property
    def fields(self) -> dict[str, Any]:
        """The document as a dict."""
        if self.raw is not None:
            self._fields = decode(self.raw)
            self.raw = None
        return self._fields

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.fields[name] = value

    def __delitem__(self, name: str) -> None:
        del self.fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __repr__(self) -> str:
        return repr(self.fields)

    def copy(self) -> dict[str, Any]:
        """As of a dict."""
        return self.fields.copy()
