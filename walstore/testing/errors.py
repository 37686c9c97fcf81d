"""Why the crash lab cannot do what it was asked to."""

from __future__ import annotations

from walstore.errors import WALStoreError


class CrashLabError(WALStoreError):
    """The lab cannot run this workload or this check. It says nothing of the store."""
