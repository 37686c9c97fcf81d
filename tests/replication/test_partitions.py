"""Partitions of a network that is real: nodes as processes, each in a network namespace of its own.

test_promotion.py has the same over proxies, where connections stay and frames are lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.methods import unavailable
from tests.crash.mounts import UnavailableError, run
from tests.helpers import payloads
from tests.replication.namespaces import Namespaces
from tests.replication.nodes import until
from tests.replication.remotes import Remote, RemoteError, Remotes
from walstore import FileWALManager

SOON_S = 0.3
NETWORK = {"connect_timeout_ms": 500, "handshake_timeout_ms": 1000}


@pytest.fixture
def spaces() -> Iterator[Namespaces]:
    """Namespaces for three nodes."""
    with ExitStack() as ends:
        try:
            made = ends.enter_context(Namespaces("abc"))
        except UnavailableError as error:
            unavailable("netns", str(error))
        yield made


@pytest.fixture
def abc(tmp_path: Path, spaces: Namespaces) -> Iterator[Remotes]:
    """Three nodes, each in its namespace; all are ended before these are gone."""
    hosts = {name: (spaces.address(name), spaces.command(name)) for name in "abc"}
    remotes = Remotes(tmp_path, hosts=hosts, insecure=True, network=NETWORK)
    yield remotes
    remotes.close()


def is_refused(node: Remote, payload: str) -> str:
    """Appends, which must fail; returns the class of the error."""
    with pytest.raises(RemoteError) as caught:
        node.ask("append", payload, SOON_S)
    return caught.value.kind


@pytest.mark.parametrize("way", ["both ways", "nothing reaches it", "nothing leaves it"])
def test_two_leaders_and_one_of_them_acks(abc: Remotes, spaces: Namespaces, way: str) -> None:
    """The one that is cut off acks nothing and shows nothing new. When the network heals it is
    fenced, what it took is put aside, and the logs become one."""
    old, new = abc.lead(), abc["b"]
    acked_lsn = old.ask("append", "acked before")
    abc.level(acked_lsn)
    if way != "nothing leaves it":
        spaces.cut("bc", "a")
    if way != "nothing reaches it":
        spaces.cut("a", "bc")
    assert is_refused(old, "unheard") == "ReplicationTimeoutError"
    if way == "nothing reaches it":
        # It arrives, and is the next leader's to keep.
        until(lambda: new.status()["last_lsn"] > acked_lsn, "it arrives")
    else:
        assert new.status()["last_lsn"] == acked_lsn
    until(lambda: new.peer("c")["connected"], "they have each other")
    term = new.ask("promote")
    new.ask("append", "acked after")
    assert is_refused(old, "too late") == "ReplicationTimeoutError"
    assert [node.status()["role"] for node in (old, new)] == ["leader", "leader"]
    status = old.status()
    assert (status["committed_lsn"], status["last_lsn"]) == (acked_lsn, acked_lsn + 2)
    spaces.heal()
    until(lambda: old.status()["leader_id"] == "b", "it hears of its end")
    assert old.status()["term"] == term
    assert is_refused(old, "no leader") == "NotLeaderError"
    kept = [entry.payload for entry in abc.assert_equal("b") if entry.kind == 1]
    lost = [b"unheard", b"too late"]
    if way == "nothing reaches it":
        lost.remove(b"unheard")
        assert b"unheard" in kept
    assert not {*lost} & {*kept}
    assert [payload for payload in kept if payload.startswith(b"acked")] == [
        b"acked before",
        b"acked after",
    ]
    (branch,) = abc.paths["a"].glob("diverged-*")
    with FileWALManager(branch, read_only=True) as log:
        assert payloads(log.replay()) == lost


def test_nothing_is_left_of_namespaces_after_a_failure(spaces: Namespaces) -> None:
    """Neither when a test ends, nor when only a part of them could be made."""
    made = [spaces.space(name) for name in "abc"]
    assert {*made} <= {line.split()[0] for line in run("ip", "netns", "list").splitlines()}
    spaces.__exit__(None, None, None)
    with pytest.raises(UnavailableError, match="exists"), Namespaces("aa"):
        pass
    left = run("ip", "netns", "list")
    assert not [space for space in made if space in left]
    assert spaces.space("switch") not in left
