"""How much of each file the tests must reach, in percent of lines and branches."""

from __future__ import annotations

PYTHON_MIN = 90.0
CORE_MIN = 98.0
NATIVE_MIN = 100.0

CORE = frozenset(f"walstore/wal/{name}.py" for name in ("commit", "record", "recovery", "segment"))


def limit_of(name: str) -> float:
    """The least a file of walstore must have."""
    if name.startswith("walstore/_native/") and name.endswith(".c"):
        return NATIVE_MIN
    return CORE_MIN if name in CORE else PYTHON_MIN
