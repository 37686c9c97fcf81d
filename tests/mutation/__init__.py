"""Mutation testing of the modules that decide what is in the log.

mutmut changes one thing at a time in a copy of the tree and runs the module's own test files, which
must go red. What survives must be explained in survivors.md; both an unexplained survivor and an
explanation of nothing fail `python -m tests.mutation [module ...]`.

mutmut changes the bodies of functions and methods. It leaves alone what runs at import (constants,
structs) and decorated functions (here two properties): golden files and tests/wal/raw.py hold
those.
"""
