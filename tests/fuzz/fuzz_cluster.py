"""What nodes of a cluster keep in their logs: members, and the commands of state machines."""

from __future__ import annotations

from walstore.cluster.commands import decode_command, encode_command
from walstore.errors import UnsupportedFormatError
from walstore.limits import LSN_MAX
from walstore.raft.errors import ConfigurationError
from walstore.raft.membership import decode_configuration

__all__ = ["one_input"]


def one_input(data: bytes) -> None:
    """Reads the input as what its first byte says."""
    if data:
        (_configuration, _command)[data[0] % 2](data[1:])


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
