"""`python -m walstore.demo`."""

from __future__ import annotations

from walstore.demo.command import main

main()
