"""Bugs put in on purpose: for each promise a small change that breaks it, and a test that sees it.

`make seeded-bugs` puts each into a copy of the tree and runs the tests that must go red.
"""
