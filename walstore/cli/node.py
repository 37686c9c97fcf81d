"""The process of a node: opened as its file says, closed by a signal."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading
from typing import NoReturn

import click

from walstore.cli.endpoint import Endpoint
from walstore.cli.node_config import ConfigError, NodeConfig, load_config
from walstore.errors import OptionError, WALStoreError
from walstore.replication import ReplicationWALManager

__all__ = ["CannotListenError", "run_node"]


_LOOK_S = 1.0


class CannotListenError(WALStoreError):
    """An address cannot be used."""

    hint = "choose another one, or port 0 for any that is free"


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM came before the node served; on its way as Ctrl-C is."""


def run_node(config_path: str) -> None:
    """Serves until SIGTERM or SIGINT; the log is closed and durable at return. A node that has
    found its log damaged, and gets what is damaged from the others, is closed and opened again.

    Raises:
        ConfigError: the file makes no sense.
        CannotListenError: an address is taken.
        KeyboardInterrupt: SIGINT, before the node served.
        Other errors: as ReplicationWALManager.
    """
    config = load_config(config_path)
    # Until the node serves it may wait for others: a signal ends that as Ctrl-C does.
    signal.signal(signal.SIGTERM, _terminate)
    _log_to_stderr()
    with contextlib.suppress(_TerminatedError):
        _serve(config, config_path)


def _terminate(_number: int, _frame: object) -> NoReturn:
    raise _TerminatedError


def _serve(config: NodeConfig, config_path: str) -> None:
    ended = threading.Event()
    node = _open(config, config_path)
    try:
        endpoint = _listen(config, node)
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda _number, _frame: ended.set())
            _say_ready(node, endpoint)
            while not ended.wait(_LOOK_S):
                if node.mends_when_reopened:
                    node.close()
                    node = _open(config, config_path)
                    if endpoint is not None:
                        endpoint.node = node
        finally:
            if endpoint is not None:
                endpoint.close()
    finally:
        node.close()


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("walstore")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _open(config: NodeConfig, config_path: str) -> ReplicationWALManager:
    try:
        return ReplicationWALManager(config.path, **config.node)
    except OptionError as error:
        raise ConfigError(f"{config_path}: {error}") from None
    except WALStoreError:
        raise
    except OSError as error:
        raise CannotListenError(f"cannot listen at {config.node['listen']}: {error}") from None


def _listen(config: NodeConfig, node: ReplicationWALManager) -> Endpoint | None:
    if config.status_listen is None:
        return None
    host, port = config.status_listen
    try:
        return Endpoint(node, host, port)
    except OSError as error:
        raise CannotListenError(f"cannot listen at {host}:{port}: {error}") from None


def _say_ready(node: ReplicationWALManager, endpoint: Endpoint | None) -> None:
    ready = {
        "node_id": node.node_id,
        "url": node.url,
        "status_url": None if endpoint is None else endpoint.url,
        "pid": os.getpid(),
    }
    click.echo(json.dumps(ready))
