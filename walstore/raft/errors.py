"""Errors of the membership."""

from __future__ import annotations

from walstore.errors import WALStoreError

__all__ = ["ConfigurationError"]


class ConfigurationError(WALStoreError, ValueError):
    """A membership that cannot be, or bytes that are none.

    Attributes:
        reason: what is wrong with it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
