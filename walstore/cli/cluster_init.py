"""walstore cluster init: the files of a new cluster's nodes."""

from __future__ import annotations

import json
import os
import secrets
import stat
from functools import partial

import click

from walstore.cli import exits
from walstore.cli.node_config import parse_address
from walstore.cli.output import plain
from walstore.errors import OptionError, WALStoreError
from walstore.raft.errors import ConfigurationError
from walstore.raft.membership import Configuration
from walstore.replication.security import SECRET_BYTES_MIN

__all__ = ["FileDiffersError", "init"]

_SECRET_NAME = "secret"


class FileDiffersError(WALStoreError):
    """A file is there already, and is not what it would be made."""

    hint = "remove it if nothing uses it, or name another directory; no file was changed"


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False))
@click.option(
    "--node", "nodes", metavar="ID=HOST:PORT", multiple=True, required=True,
    help="A node, and where the others reach it; once for each.",
)  # fmt: skip
@click.option(
    "--status-port", metavar="PORT", type=click.IntRange(1, 65535), default=7100,
    show_default=True, help="Of the first node's local endpoint; one more for each further node.",
)  # fmt: skip
def init(directory: str, nodes: tuple[str, ...], status_port: int) -> int:
    """Write the files of a new cluster's nodes, and the secret that they share.

    Copy ID.toml and 'secret' to the machine of each node, and start all of them with
    'walstore serve --config ID.toml': when all are there, they make the cluster. Files that are
    there already and say the same are left as they are.

    \b
    Examples:
      walstore cluster init conf --node a=n1:7001 --node b=n2:7001 --node c=n3:7001

    \b
    Exit codes:
      0  the files are there      4  one is there and says something else      64 wrong usage
    """
    members = _parsed(nodes)
    if status_port + len(members) - 1 > 65535:
        raise OptionError(f"--status-port {status_port} leaves no port for each of {len(members)}")
    texts = {
        os.path.join(directory, _file_name(name)): _text(name, members, status_port + at)
        for at, name in enumerate(members)
    }
    os.makedirs(directory, exist_ok=True)
    for path, text in texts.items():
        if os.path.exists(path) and _read(path) != text.encode():
            raise FileDiffersError(f"{path} is there, and says something else")
    secret = os.path.join(directory, _SECRET_NAME)
    if os.path.exists(secret):
        _check_secret(secret)
    else:
        _write(secret, secrets.token_hex(32) + "\n", 0o600)
    for path, text in texts.items():
        if not os.path.exists(path):
            _write(path, text, 0o644)
        click.echo(plain(f"walstore serve --config {path}"))
    return exits.OK


def _parsed(nodes: tuple[str, ...]) -> dict[str, str]:
    """{node id: address}.

    Raises:
        OptionError: one is none, or they cannot be a cluster.
    """
    found: dict[str, str] = {}
    for text in nodes:
        name, _, address = text.partition("=")
        try:
            port = parse_address(address)[1]
        except ValueError:
            port = 0
        if not port or os.sep in name or name in found:
            raise OptionError(f"--node is ID=HOST:PORT, once for each node, not {text!r}")
        found[name] = address
    made = {_SECRET_NAME, *map(_file_name, found)}
    for name in found:
        if name in made or name in (os.curdir, os.pardir):
            raise OptionError(f"--node {name}: its log would be at {name}, which is something else")
    try:
        Configuration(frozenset(found)).check()
    except ConfigurationError as error:
        raise OptionError(f"these nodes cannot be a cluster: {error.reason}") from None
    return found


def _file_name(name: str) -> str:
    return f"{name}.toml"


def _text(name: str, members: dict[str, str], status_port: int) -> str:
    # What JSON escapes TOML does, too, but for pairs of surrogates.
    quoted = partial(json.dumps, ensure_ascii=False)
    lines = [
        f"node_id = {quoted(name)}",
        f"path = {quoted(name)}",
        'election = "raft"',
        f"listen = {quoted(members[name])}",
        f"advertise = {quoted('ws://' + members[name])}",
        f'status_listen = "127.0.0.1:{status_port}"',
        "",
        "[peers]",
        *(f"{quoted(peer)} = {quoted('ws://' + at)}" for peer, at in members.items()
          if peer != name),
        "",
        "[security]",
        f"secret_file = {quoted(_SECRET_NAME)}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _check_secret(path: str) -> None:
    """Raises FileDiffersError for one that no node takes, or that others can read."""
    size = len(_read(path).strip())
    if size < SECRET_BYTES_MIN:
        reason = f"is there, and holds {size} bytes: a secret has at least {SECRET_BYTES_MIN}"
        raise FileDiffersError(f"{path} {reason}")
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & 0o077:
        error = FileDiffersError(f"{path} is there, and others can read it: its mode is {mode:04o}")
        error.hint = f"chmod 600 {path}, if nobody has read it; no file was changed"
        raise error


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, text: str, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(fd, "w", encoding="utf-8") as file:
        file.write(text)
