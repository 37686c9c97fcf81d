"""What a leader's log keeps for its followers."""

from __future__ import annotations

from walstore.replication.lag import Samples
from walstore.replication.log import NodeLog
from walstore.replication.options import ReplicationOptions
from walstore.replication.progress import Progress

__all__ = ["needed_from"]


def needed_from(
    progress: Progress | None,
    log: NodeLog,
    samples: Samples,
    options: ReplicationOptions,
    gone_ms: float,
    now_ms: float,
) -> int:
    """The first entry that is kept for a follower, which pins no more than the options allow.

    Args:
        progress: what is known of it; None: the node does not lead any more.
        log, samples: the leader's.
        options: how much is kept, and for how long.
        gone_ms: for how long it has been so, where it is not connected.
    """
    last_lsn = log.last_lsn
    if progress is None:
        return last_lsn + 1
    gone = not progress.connected and gone_ms > options.retention_s * 1000
    if gone:
        return last_lsn + 1
    if not progress.matched_lsn:  # not heard in this leadership: it may lack a little, or all
        return log.first_within(options.retention_bytes)
    # The samples know nothing of what was written before this leadership.
    behind_bytes = max(
        samples.lag(progress.matched_lsn, last_lsn, now_ms).bytes,
        log.full_bytes_after(progress.matched_lsn),
    )
    if behind_bytes > options.retention_bytes:
        return last_lsn + 1
    return progress.matched_lsn + 1
