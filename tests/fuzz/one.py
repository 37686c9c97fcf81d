"""Fuzzes one decoder in this process, until libFuzzer ends it: TARGET, then libFuzzer's arguments.

With a file instead of directories that one input is tried."""

from __future__ import annotations

import importlib
import sys

TARGETS = ("record", "segment", "meta", "recovery", "message", "documents", "cluster")


def main() -> None:
    """Instruments walstore, and the specification in Python of what it does in C, as they are
    imported; then hands over to libFuzzer."""
    atheris = importlib.import_module("atheris")
    name, *arguments = sys.argv[1:]
    assert name in TARGETS, name
    with atheris.instrument_imports(include=["walstore", "tests.native.twin"]):
        target = importlib.import_module(f"tests.fuzz.fuzz_{name}")
    atheris.Setup([f"fuzz_{name}", *arguments], target.one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
