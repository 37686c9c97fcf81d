"""The file that `walstore serve` is given: TOML in, the arguments of a node out.

Whatever is wrong with it is one sentence that names the key and says what is expected.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar
from urllib.parse import urlsplit

from walstore.errors import OptionError
from walstore.replication import TLS, NetworkOptions, ReplicationOptions
from walstore.replication.security import is_loopback

__all__ = ["ConfigError", "NodeConfig", "is_host", "load_config", "parse_address"]

T = TypeVar("T", ReplicationOptions, NetworkOptions)


class ConfigError(OptionError):
    """A configuration that makes no sense."""

    hint = "docs/cli.md, 'walstore serve', lists the keys"


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What a node is told.

    Attributes:
        node: the arguments of ReplicationWALManager, but the path.
        path: the log's directory.
        status_listen: (host, port) of the local endpoint; None: there is none.
    """

    node: Mapping[str, Any]
    path: str
    status_listen: tuple[str, int] | None


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of "host:port"; an IPv6 address stands in brackets.

    Raises:
        ValueError: it is none; its text is `text`.
    """
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare) == (bare == host):
        raise ValueError(text)
    if not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise ValueError(text)
    if not is_host(bare):
        raise ValueError(text)
    return bare, int(port)


def is_host(name: str) -> bool:
    """Whether a name can be asked for: its parts are neither empty nor too long."""
    try:
        return bool(name.encode("idna"))
    except UnicodeError:
        return False


def load_config(path: str) -> NodeConfig:
    """Reads a node's file. Names of files in it are relative to its directory.

    Raises:
        ConfigError: it is not TOML, a key is unknown or missing, or a value is not what it has
            to be.
        OSError: it, or a file that it names, cannot be read.
    """
    with open(path, "rb") as file:
        try:
            table = tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not TOML: {error}") from None
        except ValueError:  # of Python, about an integer of more digits than it converts
            raise ConfigError(f"{path} has a number of too many digits") from None
        except RecursionError:
            raise ConfigError(f"{path} is nested too deeply") from None
    try:
        return _config(table, os.path.dirname(os.path.abspath(path)))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _config(table: dict[str, Any], base: str) -> NodeConfig:
    _check_keys(table, _KEYS, "")
    for key in ("node_id", "path"):
        if key not in table:
            raise ConfigError(f"{key} is missing; it is {_KEYS[key][0]}")
    node = {key: table[key] for key in _NODE_KEYS if key in table}
    if isinstance(node.get("acks"), list):
        node["acks"] = frozenset(node["acks"])
    peers = table.get("peers", {})
    node["peers"] = {name: url or None for name, url in peers.items()}
    node.update(_security(table.get("security", {}), base))
    node["options"] = _options(ReplicationOptions, table.get("replication", {}), "replication")
    node["network"] = _options(NetworkOptions, table.get("network", {}), "network")
    at = table.get("status_listen")
    return NodeConfig(
        node=node,
        path=os.path.join(base, table["path"]),
        status_listen=None if at is None else parse_address(at),
    )


# ---- what each key takes: words for people, and a check ----


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_path(value: Any) -> bool:
    return _is_text(value) and "\0" not in value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e15


def _is_whole(value: Any) -> bool:
    return _is_number(value) and isinstance(value, int)


def _is_address(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(parse_address(value))
    except ValueError:
        return False


def _is_local_address(value: Any) -> bool:
    return _is_address(value) and is_loopback(parse_address(value)[0])


def _is_acks(value: Any) -> bool:
    names = isinstance(value, list) and bool(value) and all(map(_is_text, value))
    return names or _is_whole(value) or value in ("quorum", "all", "async")


def _is_peers(value: Any) -> bool:
    return isinstance(value, dict) and all(
        url == "" or (isinstance(url, str) and _is_url(url)) for url in value.values()
    )


def _is_url(url: str, *, port_0: bool = False) -> bool:
    try:
        parts = urlsplit(url)
        named = is_host(parts.hostname or "") and (port_0 or parts.port != 0)
    except ValueError:  # its port is no number up to 65535, or its brackets do not match
        return False
    return named and url.startswith(("ws://", "wss://"))


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


_Rule = tuple[str, Callable[[Any], bool]]

_NUMBER: _Rule = ("a positive number", _is_number)
_WHOLE: _Rule = ("a positive whole number", _is_whole)

_NODE_RULES: dict[str, _Rule] = {
    "node_id": ("this node's name, a text", _is_text),
    "listen": ('where the others reach this node, "host:port"', _is_address),
    "advertise": (
        'the url that the others are told, "ws://host:port"; port 0 is that of listen',
        lambda value: isinstance(value, str) and _is_url(value, port_0=True),
    ),
    "role": ('"leader" or "follower"', lambda value: value in ("leader", "follower")),
    "election": ('"manual" or "raft"', lambda value: value in ("manual", "raft")),
    "acks": ('"quorum", "all", "async", a number of nodes, or a list of node ids', _is_acks),
    "timeout_s": _NUMBER,
    "too_few": ('"wait" or "refuse"', lambda value: value in ("wait", "refuse")),
    "segment_bytes": _WHOLE,
}
_NODE_KEYS = tuple(_NODE_RULES)
_KEYS: dict[str, _Rule] = {
    **_NODE_RULES,
    "path": ("the log's directory, a text", _is_path),
    "status_listen": ('"host:port" on a loopback address', _is_local_address),
    "peers": (
        'a table of node ids and urls, "ws://host:port", "wss://host:port", or "" where only '
        "that node dials",
        _is_peers,
    ),
    "security": ("a table", _is_table),
    "replication": ("a table", _is_table),
    "network": ("a table", _is_table),
}
_SECURITY_KEYS: dict[str, _Rule] = {
    "secret_file": ("the name of a file", _is_path),
    "tls_ca": ("the name of a file", _is_path),
    "tls_cert": ("the name of a file", _is_path),
    "tls_key": ("the name of a file", _is_path),
    "insecure": ("true or false", _is_bool),
}


def _check_keys(table: dict[str, Any], known: Mapping[str, _Rule], where: str) -> None:
    for key, value in table.items():
        if key not in known:
            place = f"in [{where.rstrip('.')}]" if where else "here"
            raise ConfigError(f"unknown key {where}{key}; {place} go {', '.join(sorted(known))}")
        expected, good = known[key]
        if not good(value):
            raise ConfigError(f"{where}{key} must be {expected}, not {_shown(value)}")


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # an integer in hexadecimal digits may have any number of them
        return "a number of too many digits"


def _security(table: dict[str, Any], base: str) -> dict[str, Any]:
    _check_keys(table, _SECURITY_KEYS, "security.")
    found: dict[str, Any] = {"insecure": table.get("insecure", False)}
    if "secret_file" in table:
        with open(os.path.join(base, table["secret_file"]), "rb") as file:
            found["secret"] = file.read().strip()  # editors end files with a line end
    names = ("tls_ca", "tls_cert", "tls_key")
    given = [name for name in names if name in table]
    if given and len(given) < len(names):
        missing = next(name for name in names if name not in table)
        raise ConfigError(f"security.{missing} is missing; {', '.join(names)} go together")
    if given:
        found["tls"] = TLS(*(os.path.join(base, table[name]) for name in names))
    return found


def _options(kind: type[T], table: dict[str, Any], where: str) -> T:
    rules = {
        field.name: _WHOLE if str(field.type).startswith("int") else _NUMBER
        for field in fields(kind)
    }
    _check_keys(table, rules, f"{where}.")
    try:
        return kind(**table)
    except OptionError as error:
        raise ConfigError(f"{where}: {error}") from None
