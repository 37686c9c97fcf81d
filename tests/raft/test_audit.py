"""The audit: a log that differs is found, and so is damage that nobody has come across."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers import contents, refuse_reads, segment_files
from tests.raft.elected import Elected
from tests.replication.nodes import OPTIONS, WAIT_S, until
from walstore import CorruptLogError, FileWALManager
from walstore.cli.metrics import metrics_text
from walstore.limits import BLOCK_BYTES
from walstore.raft.ledger import COPY_NAME
from walstore.replication import NotLeaderError, PromotionError, QuarantinedError
from walstore.replication.effects import Effect
from walstore.replication.log import CONFIGURATIONS_NAME
from walstore.wal.record import crc32c
from walstore.wal.segment import decode_header

pytestmark = pytest.mark.timeout(180)

SEGMENT_BYTES = 16 << 10
QUICK = replace(OPTIONS, audit_ms=50, audit_bytes=8 << 10, election_ms=1000)
OTHER = b"the other value!"
VALUE = b"the value, as is"


def rewrite(path: Path, old: bytes, new: bytes) -> None:
    """Puts another payload in the place of one, with checksums that fit."""
    assert len(old) == len(new)
    for name in segment_files(path):
        data = bytearray(name.read_bytes())
        at = data.find(old)
        if at < 0:
            continue
        data[at : at + len(new)] = new
        start, seed = at - 48, decode_header(bytes(data[:BLOCK_BYTES]), str(name), 0).seed
        data[start + 4 : start + 8] = struct.pack("<I", crc32c(new))
        data[start : start + 4] = struct.pack("<I", crc32c(bytes(data[start + 4 : at]), seed))
        name.write_bytes(data)
        return
    raise AssertionError("no such entry")


def filled(elected: Callable[..., Elected]) -> tuple[Elected, int]:
    """A cluster with some full segments, and where the entry is."""
    abc = elected(segment_bytes=SEGMENT_BYTES, options=QUICK)
    leader = abc.begin()
    leader.append_many([bytes(500)] * 60)
    lsn = leader.append(VALUE)
    leader.append_many([bytes(500)] * 100)
    abc.level()
    return abc, lsn


def test_a_follower_that_differs_is_quarantined(elected: Callable[..., Elected]) -> None:
    abc, lsn = filled(elected)
    leader = abc.leader()
    name = abc.others(leader)[0].node_id
    rest = [other for other in abc.names if other != name]
    abc.stop(name)
    rewrite(abc.path(name), VALUE, OTHER)
    assert contents(abc.path(name))[lsn - 1].payload == OTHER
    node = abc.start(name)
    until(lambda: node.error, "it is quarantined")
    for _ in range(2):
        error = node.error
        assert isinstance(error, QuarantinedError)
        assert error.first_lsn <= lsn <= error.last_lsn
        assert error.last_lsn - error.first_lsn < 110
        status = node.status()
        assert status.quarantined
        assert status.error == str(error)
        assert b"walstore_quarantined 1.0" in metrics_text(status, node.metrics())
        for call, arguments in ((node.read, [lsn]), (node.replay, []), (node.append, [b"no"])):
            with pytest.raises(QuarantinedError):
                call(*arguments)
        until(lambda: name not in abc.leader(rest).connected, "it takes part in nothing")
        abc.leader(rest).append(b"the others go on")
        abc.stop(name)
        node = abc.start(name)  # and stays so
    assert not abc.leader(rest).status().quarantined
    abc.stop(name)
    entries = abc.assert_equal()
    assert entries[lsn - 1].payload == VALUE


def test_a_leader_that_differs_is_quarantined(elected: Callable[..., Elected]) -> None:
    abc, lsn = filled(elected)
    abc.close()
    rewrite(abc.path("a"), VALUE, OTHER)
    for name in abc.names:
        abc.start(name)
    abc.leader("abc")
    until(lambda: abc["a"].error or _leads(abc, "a"), "a leads, or is found out")
    until(lambda: abc["a"].error, "it is quarantined")
    assert isinstance(abc["a"].error, QuarantinedError)
    leader = abc.leader("bc")
    leader.append(b"the others go on")
    assert not any(abc[name].error for name in "bc")
    abc.stop("a")
    assert abc.assert_equal()[lsn - 1].payload == VALUE


def _leads(abc: Elected, name: str) -> bool:
    """Asks for the leadership; where it is had already, nothing happens."""
    try:
        abc[name].promote(timeout_s=1.0)
    except (PromotionError, QuarantinedError):
        return False
    return True


def test_damage_that_nobody_reads_is_found_and_mended(elected: Callable[..., Elected]) -> None:
    """A record of a full segment: the node stops, and has all again when it is started."""
    abc, lsn = filled(elected)
    name = abc.others(abc.leader())[0].node_id
    abc.stop(name)
    path = next(it for it in segment_files(abc.path(name)) if VALUE in it.read_bytes())
    assert path != segment_files(abc.path(name))[-1]
    path.write_bytes(path.read_bytes().replace(VALUE, OTHER))
    node = abc.start(name)
    until(lambda: node.error, "it is found")
    assert isinstance(node.error, CorruptLogError)
    assert node.error.lsn == lsn
    assert "start the node again" in node.error.hint
    assert node.mends_when_reopened
    abc.leader([other for other in abc.names if other != name]).append(b"the others go on")
    abc.stop(name)
    node = abc.start(name)
    assert node.last_lsn >= lsn - 1
    until(lambda: not node.status().lost_to_lsn, "it has all again")
    node.wait_committed(abc.leader().last_lsn, timeout_s=WAIT_S)
    assert node.read(lsn).payload == VALUE
    assert abc.assert_equal()[lsn - 1].payload == VALUE


def test_sectors_that_cannot_be_read_are_damage(
    elected: Callable[..., Elected], monkeypatch: pytest.MonkeyPatch
) -> None:
    abc, lsn = filled(elected)
    name = abc.others(abc.leader())[0].node_id
    path = next(it for it in segment_files(abc.path(name)) if VALUE in it.read_bytes())
    refuse_reads(monkeypatch, path, errno.EIO)
    until(lambda: abc[name].error, "it is found")
    assert isinstance(abc[name].error, CorruptLogError)
    assert abc[name].mends_when_reopened
    abc.stop(name)
    node = abc.start(name)
    assert node.last_lsn < lsn
    until(lambda: not node.status().lost_to_lsn, "it has all again")
    assert (abc.path(name) / f"damaged-{path.name}").exists()
    assert not node.error
    assert abc.assert_equal()[lsn - 1].payload == VALUE


def test_a_last_segment_that_cannot_be_read_is_mended_when_opened(
    elected: Callable[..., Elected], monkeypatch: pytest.MonkeyPatch
) -> None:
    abc, lsn = filled(elected)
    name = abc.others(abc.leader())[0].node_id
    abc.stop(name)
    refuse_reads(monkeypatch, segment_files(abc.path(name))[-1], errno.EIO)
    node = abc.start(name)
    until(lambda: not node.status().lost_to_lsn, "it has all again")
    assert abc.assert_equal()[lsn - 1].payload == VALUE


def test_an_audit_that_has_no_memory_ends_no_node(
    elected: Callable[..., Elected],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    abc, lsn = filled(elected)
    name = abc.others(abc.leader())[0].node_id
    path = next(it for it in segment_files(abc.path(name)) if VALUE in it.read_bytes())
    with monkeypatch.context() as patch:
        refused = refuse_reads(patch, path, errno.ENOMEM)
        until(lambda: refused["reads"] >= 3, "some audits fail")
    assert not abc[name].error
    assert "the audit leaves entries out" in caplog.text
    assert abc.assert_equal()[lsn - 1].payload == VALUE


def test_damage_met_while_opening_is_mended_at_the_next(
    elected: Callable[..., Elected],
) -> None:
    """A log whose configurations are read anew, as after a crash."""
    abc, lsn = filled(elected)
    name = abc.others(abc.leader())[0].node_id
    abc.stop(name)
    path = next(it for it in segment_files(abc.path(name)) if VALUE in it.read_bytes())
    path.write_bytes(path.read_bytes().replace(VALUE, OTHER))
    for copy in (CONFIGURATIONS_NAME, COPY_NAME):
        (abc.path(name) / copy).unlink()
    with pytest.raises(CorruptLogError) as caught:
        abc.start(name)
    assert "start the node again" in caught.value.hint
    node = abc.start(name)
    until(lambda: not node.status().lost_to_lsn, "it has all again")
    assert abc.assert_equal()[lsn - 1].payload == VALUE


def test_damage_that_the_core_meets_ends_its_part(elected: Callable[..., Elected]) -> None:
    """It looks up the terms of entries."""
    abc, lsn = filled(elected)
    node = abc.others(abc.leader())[0]
    path = next(it for it in segment_files(abc.path(node.node_id)) if VALUE in it.read_bytes())

    def meet() -> list[Effect]:
        raise CorruptLogError(str(path), 8192, lsn, "damaged")

    node._streaming.calls.call(lambda: node._streaming._input(meet))
    assert isinstance(node.error, CorruptLogError)
    assert node.mends_when_reopened
    abc.stop(node.node_id)
    abc.start(node.node_id)  # all is well, in truth
    assert not abc[node.node_id].mends_when_reopened
    assert abc.assert_equal()[lsn - 1].payload == VALUE


def test_a_damaged_leader_leaves_it_to_others(elected: Callable[..., Elected]) -> None:
    abc, lsn = filled(elected)
    leader = abc.leader()
    name = leader.node_id
    path = next(it for it in segment_files(abc.path(name)) if VALUE in it.read_bytes())
    with path.open("r+b") as file:  # in place, under its feet
        file.seek(path.read_bytes().find(VALUE))
        file.write(OTHER)
    until(lambda: leader.error, "it is found")
    with pytest.raises((CorruptLogError, NotLeaderError)):
        leader.append(b"no more here")
    abc.leader([other for other in abc.names if other != name]).append(b"the others go on")
    abc.stop(name)
    abc.start(name)
    until(lambda: not abc[name].status().lost_to_lsn, "it has all again")
    assert abc.assert_equal()[lsn - 1].payload == VALUE


def test_logs_that_are_equal_stay_so(elected: Callable[..., Elected]) -> None:
    """Many audits while the leader changes, entries come and go, and the log is truncated."""
    abc = elected(segment_bytes=SEGMENT_BYTES, options=replace(QUICK, audit_ms=1))
    leader = abc.begin()
    for i in range(60):
        leader.append_many([b"%d" % i * 100] * (1 + i % 5))
        if i % 20 == 10:
            leader.truncate_before(leader.committed_lsn // 2)
            abc.others(leader)[0].promote()
            leader = abc.leader()
    spans = leader._streaming._auditor
    until(lambda: spans._span and len(spans._digests) == 3, "all have answered")
    assert not any(node.error for node in abc.nodes.values())
    abc.assert_equal()
    for name in abc.names:
        with FileWALManager(abc.path(name), read_only=True) as log:
            assert log.verify().status == "clean"
