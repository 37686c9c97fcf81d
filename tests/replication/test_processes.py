"""Real processes, and kill -9."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.helpers import child, contents, end, seeded
from tests.replication.nodes import WAIT_S
from walstore import FileWALManager
from walstore.replication import ReplicationWALManager

FOLLOWER = """
    import sys
    from walstore.replication import ReplicationWALManager

    path, url, mark = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with ReplicationWALManager(path, node_id="F", peers={"L": url}) as log:
        print(log.durable_lsn, flush=True)
        for entry in log.tail():
            if entry.lsn >= mark:
                print("marked", flush=True)
                mark = 1 << 62
"""

LEADER = """
    import sys
    from walstore.replication import ReplicationWALManager

    with ReplicationWALManager(sys.argv[1], node_id="L", listen="127.0.0.1:" + sys.argv[2]) as log:
        print(log.url, flush=True)
        while True:
            log.append(b"entry %d" % (log.last_lsn + 1))
            print(log.last_lsn, flush=True)
"""


def test_a_follower_killed_again_and_again_holds_what_it_acked(tmp_path: Path) -> None:
    rng = seeded("kills")
    with ReplicationWALManager(tmp_path / "L", node_id="L", listen="127.0.0.1:0") as leader:
        for _ in range(5):
            began = leader.followers().get("F", 0)
            mark = leader.last_lsn + rng.randint(1, 300)
            process = child(FOLLOWER, tmp_path / "F", leader.url, str(mark))
            assert process.stdout is not None
            try:
                resumed = int(process.stdout.readline())
                assert began <= resumed <= leader.last_lsn
                while leader.last_lsn < mark:
                    leader.append(b"entry %d" % (leader.last_lsn + 1))
                commits = [leader.submit(rng.randbytes(rng.randint(0, 2000))) for _ in range(500)]
                assert process.stdout.readline() == "marked\n"
                process.send_signal(signal.SIGKILL)
                process.wait(WAIT_S)
                acked = leader.followers()["F"]
                commits[-1].wait(WAIT_S)
            finally:
                end(process)
            with FileWALManager(tmp_path / "F", read_only=True) as log:
                assert log.verify().status in ("clean", "torn")
                assert mark <= log.last_lsn
                assert acked <= log.last_lsn
                assert list(log.replay()) == list(leader.replay(to_lsn=log.last_lsn))
        process = child(FOLLOWER, tmp_path / "F", leader.url, "0")
        try:
            leader.wait_for_followers(leader.last_lsn, timeout_s=WAIT_S)
        finally:
            end(process)
    assert contents(tmp_path / "F") == contents(tmp_path / "L")


def test_a_leader_killed_again_and_again_is_followed(tmp_path: Path) -> None:
    rng = seeded("kills")
    port, follower = "0", None
    try:
        for _ in range(4):
            process = child(LEADER, tmp_path / "L", port)
            assert process.stdout is not None
            try:
                url = process.stdout.readline().strip()
                port = url.rpartition(":")[2]
                if follower is None:
                    path = tmp_path / "F"
                    follower = ReplicationWALManager(path, node_id="F", peers={"L": url})
                target = follower.last_lsn + rng.randint(1, 200)
                for entry in follower.tail(follower.last_lsn + 1):
                    process.stdout.readline()
                    if entry.lsn >= target:
                        break
                process.send_signal(signal.SIGKILL)
                process.wait(WAIT_S)
            finally:
                end(process)
        assert follower is not None
        assert follower.replication_error is None
    finally:
        if follower is not None:
            follower.close()
    held = contents(tmp_path / "F")
    with FileWALManager(tmp_path / "L") as log:
        assert held == list(log.replay(to_lsn=len(held)))
    assert len({entry.term for entry in held}) == 4
