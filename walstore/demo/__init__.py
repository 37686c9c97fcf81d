"""The main job, end to end: `python -m walstore.demo`.

Three nodes of a replicated log that elect their leader, each a process of `walstore serve`. Real
JSON documents are appended through whoever leads, each acknowledged when it is durable on two of
the three. The leader is killed with SIGKILL meanwhile: the others elect, and the writers go on as
soon as they have. The one that was killed comes back on what it left behind, and catches up; then
the leadership is handed over on purpose, while documents are appended. At the end `walstore diff`
proves that the three logs are the same, and every acknowledged document is looked up at its lsn.
"""

from __future__ import annotations

from walstore.demo.command import main
from walstore.demo.documents import load_documents

__all__ = ["load_documents", "main"]
