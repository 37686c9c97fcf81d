"""What nodes of a cluster keep: members and commands in their logs, sessions in snapshots."""

from __future__ import annotations

from walstore.cluster.commands import decode_command, encode_command
from walstore.cluster.sessions import Sessions
from walstore.errors import UnsupportedFormatError
from walstore.limits import LSN_MAX
from walstore.raft.errors import ConfigurationError
from walstore.raft.membership import decode_configuration
from walstore.snapshot_files import UnusableSnapshotError

__all__ = ["one_input"]


def one_input(data: bytes) -> None:
    """Reads the input as what its first byte says."""
    if data:
        (_configuration, _command, _sessions)[data[0] % 3](data[1:])


def _configuration(data: bytes) -> None:
    try:
        configuration = decode_configuration(data)
    except ConfigurationError:
        return
    configuration.check()
    assert configuration.encode() == data


def _command(data: bytes) -> None:
    try:
        command = decode_command("log", 1, data)
    except UnsupportedFormatError:
        return
    assert max(command.session, command.sequence, command.answered) <= LSN_MAX
    assert encode_command(command) == data


def _sessions(data: bytes) -> None:
    sessions = Sessions()
    try:
        sessions.load(data)
    except UnusableSnapshotError:
        assert sessions.encode() == Sessions().encode()
        return
    assert sessions.encode() == data
