"""Partitions of a network that is real: nodes as processes, each in a network namespace of its own.

test_promotion.py has the same over proxies, where connections stay and frames are lost.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.crash.methods import unavailable
from tests.crash.mounts import UnavailableError, run
from tests.crash.settings import scaled, seed
from tests.helpers import payloads
from tests.replication.namespaces import Namespaces
from tests.replication.nodes import until
from tests.replication.remotes import Remote, RemoteError, Remotes
from walstore import FileWALManager

SOON_S = 0.3
ROUNDS = scaled(4)
CUTS = [("a", "bc"), ("b", "ac"), ("c", "ab"), ("a", "b"), ("b", "a"), ("b", "c"), ("c", "a")]
"""Who is not heard by whom."""
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
    late = is_refused(old, "too late")
    if way != "nothing leaves it":  # that one may hear of its end, and of what came then
        assert late == "ReplicationTimeoutError"
        assert [node.status()["role"] for node in (old, new)] == ["leader", "leader"]
        assert old.status()["committed_lsn"] == acked_lsn
    lost = [b"unheard"] if late == "NotLeaderError" else [b"unheard", b"too late"]
    spaces.heal()
    until(lambda: old.status()["leader_id"] == "b", "it hears of its end")
    assert old.status()["term"] == term
    assert is_refused(old, "no leader") == "NotLeaderError"
    kept = [entry.payload for entry in abc.assert_equal("b") if entry.kind == 1]
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


@pytest.mark.timeout(3600)
def test_nothing_acked_is_lost_by_random_partitions(abc: Remotes, spaces: Namespaces) -> None:
    """Whoever is cut off from whom, one way or both, and whoever is told to lead meanwhile."""
    number = seed()
    print(f"partitions: replay with WALSTORE_CRASH_SEED={number}")
    rng = random.Random(number)
    abc.lead()
    acked: dict[int, str] = {}
    counts = Counter[str]()
    counts["acked"] += append_everywhere(abc, "whole", acked)
    for turn in range(ROUNDS):
        sources, targets = rng.choice(CUTS)
        spaces.cut(sources, targets)
        if rng.random() < 0.5:
            spaces.cut(targets, sources)
        counts["acked"] += append_everywhere(abc, f"{turn} before", acked)
        with suppress(RemoteError):
            abc[rng.choice("abc")].ask("promote", SOON_S)
            counts["promoted"] += 1
        counts["acked"] += append_everywhere(abc, f"{turn} after", acked)
        if rng.random() < 0.7:
            spaces.heal()
    spaces.heal()
    until(lambda: any(is_promoted(abc[name]) for name in "abc"), "one leads")
    leader = next(name for name in "abc" if abc[name].status()["role"] == "leader")
    entries = {entry.lsn: entry.payload.decode() for entry in abc.assert_equal(leader)}
    assert {lsn: entries[lsn] for lsn in acked} == acked
    print(f"partitions: {ROUNDS} rounds, {dict(counts)}")
    assert counts["acked"] >= 1 + ROUNDS // 8


def append_everywhere(abc: Remotes, payload: str, acked: dict[int, str]) -> int:
    """Appends on every node at the same time; notes what was acked, and returns how many."""
    before = len(acked)
    for name, node in abc.nodes.items():
        node.tell("append", f"{payload} {name}", SOON_S)
    for name, node in abc.nodes.items():
        with suppress(RemoteError):
            lsn = node.answer()
            assert lsn not in acked
            acked[lsn] = f"{payload} {name}"
    return len(acked) - before


def is_promoted(node: Remote) -> bool:
    """Asks a node to lead, and whether it then has all the others."""
    with suppress(RemoteError):
        node.ask("promote", 1.0)
        node.ask("append_to_all", "here we are", 1.0)
        return True
    return False


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
