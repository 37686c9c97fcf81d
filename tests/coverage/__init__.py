"""Coverage of both halves of walstore, measured in a copy of the tree.

The C helper is built there without optimisation and with gcc's counters, and one run of the fast
tests fills the counters of both languages. `python -m tests.coverage` prints a table and fails
under the limits of `limits.py`; with arguments it runs only these test files, and only shows.
"""
