"""Benchmarks: pytest-benchmark files (``test_*.py``) and the peer comparison (``bench.peers``)."""
