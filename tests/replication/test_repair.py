"""Damaged logs where a person elects, and the notes that are kept beside a log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import segment_files
from tests.replication.nodes import Cluster, data, until
from walstore import CorruptLogError
from walstore.limits import LSN_MAX
from walstore.replication import PromotionError
from walstore.replication.notes import read_note, remove_note, write_note
from walstore.replication.repair import drop_claim, read_claim, was_damaged

SEGMENT_BYTES = 16 << 10


def fill(leader: Any) -> int:
    for number in range(40):
        lsn: int = leader.append(b"%d" % number * 500)
    return lsn


def test_a_follower_is_mended_and_does_not_lead_before(cluster: Callable[..., Cluster]) -> None:
    abc = cluster(segment_bytes=SEGMENT_BYTES)
    lsn = fill(abc.lead())
    abc.level()
    abc.stop("b")
    abc.stop("a")
    segment_files(abc.path("b"))[-1].unlink()
    b = abc.start("b")
    assert b.last_lsn < lsn <= b.status().lost_to_lsn
    abc.joined("b", "c")
    term = b.term
    with pytest.raises(PromotionError, match="damage took entries"):
        b.promote()
    assert b.term == term
    abc["c"].promote()  # with the vote of b
    until(lambda: not b.status().lost_to_lsn, "it has all again")
    abc["c"].append(b"goes on")
    b.promote()
    abc.start("a")
    assert len(data(abc.assert_equal())) == 41


def test_a_follower_gives_no_vote_to_a_log_that_lacks_what_it_had(
    cluster: Callable[..., Cluster],
) -> None:
    abc = cluster(segment_bytes=SEGMENT_BYTES)
    leader = abc.lead()
    abc.level()
    abc.stop("c")
    lsn = fill(leader)
    abc["b"].wait_committed(lsn)
    abc.stop("b")
    abc.stop("a")
    for path in segment_files(abc.path("b")):
        path.unlink()
    b, c = abc.start("b"), abc.start("c")
    abc.joined("b", "c")
    assert b.last_lsn <= c.last_lsn < lsn
    with pytest.raises(PromotionError) as caught:
        c.promote(timeout_s=1.0)
    assert str(lsn) in caught.value.reasons["b"]
    abc.start("a", role="leader")
    until(lambda: not b.status().lost_to_lsn, "it has all again")
    assert len(data(abc.assert_equal())) == 40


def test_a_leader_that_a_person_chose_is_refused(cluster: Callable[..., Cluster]) -> None:
    abc = cluster(segment_bytes=SEGMENT_BYTES)
    fill(abc.lead())
    abc.level()
    abc.stop("a")
    segment_files(abc.path("a"))[-1].unlink()
    names = sorted(it.name for it in abc.path("a").iterdir())
    with pytest.raises(CorruptLogError):
        abc.start("a", role="leader")
    assert sorted(it.name for it in abc.path("a").iterdir()) == names


def test_notes_are_whole_or_refused(tmp_path: Path) -> None:
    where = str(tmp_path)
    assert read_note(where, "claim") is None
    write_note(where, "claim", {"lsn": 7})
    write_note(where, "claim", {"lsn": 8})
    assert read_note(where, "claim") == {"lsn": 8}
    whole = (tmp_path / "claim").read_bytes()
    for at in range(len(whole)):
        (tmp_path / "claim").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(CorruptLogError):
            read_note(where, "claim")
        (tmp_path / "claim").write_bytes(whole[:at])
        with pytest.raises(CorruptLogError):
            read_note(where, "claim")
    remove_note(where, "claim")
    remove_note(where, "claim")
    assert read_note(where, "claim") is None


def test_a_damaged_note_says_the_worst(tmp_path: Path) -> None:
    """It keeps no node out, and none takes part as if it lacked nothing."""
    where = str(tmp_path)
    assert not was_damaged(where)
    assert read_claim(where, 9) is None
    write_note(where, "damage", {})
    assert was_damaged(where)
    (tmp_path / "damage").write_bytes(b"rot\n{}")
    assert was_damaged(where)
    for name in ("claim", "claim.copy"):
        write_note(where, name, {"term": 4, "lsn": 7})
    for name in ("claim", "claim.copy"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(b"rot\n{}")
        assert read_claim(where, 9) == (4, 7)
        (tmp_path / name).unlink()
        assert read_claim(where, 9) == (4, 7)
        (tmp_path / name).write_bytes(whole)
    write_note(where, "claim", {"term": 5, "lsn": 1})  # a crash between the two
    assert read_claim(where, 9) == (5, 1)
    for name in ("claim", "claim.copy"):
        (tmp_path / name).write_bytes(b"")
    assert read_claim(where, 9) == (9, LSN_MAX)
    drop_claim(where)
    assert read_claim(where, 9) is None


def test_a_node_with_damaged_notes_comes_back(cluster: Callable[..., Cluster]) -> None:
    abc = cluster(segment_bytes=SEGMENT_BYTES)
    fill(abc.lead())
    abc.level()
    abc.stop("b")
    for name in ("damage", "claim"):
        (abc.path("b") / name).write_bytes(b"rot\n{}")
    b = abc.start("b")
    assert b.status().lost_to_lsn == LSN_MAX
    until(lambda: not b.status().lost_to_lsn, "its leader says that it has all")
    assert not [
        it for it in abc.path("b").iterdir() if it.name in ("damage", "claim", "claim.copy")
    ]
    abc.assert_equal()
