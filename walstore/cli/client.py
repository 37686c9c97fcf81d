"""Asking a node's local endpoint (see endpoint)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, InvalidURL
from typing import Any
from urllib.parse import urlsplit

import click

from walstore.cli.node_config import is_host
from walstore.errors import WALStoreError

__all__ = [
    "CHANGE_HEADER",
    "NodeClient",
    "NodeRefusedError",
    "NodeUnreachableError",
    "check_fields",
    "is_url",
    "url_argument",
    "urls_argument",
]


CHANGE_HEADER = "X-Walstore"
"""Has to be there, as 1, in a request that changes something."""


class NodeUnreachableError(WALStoreError):
    """Nobody answers at an url, or not as a node's endpoint does."""

    hint = "name the status_url that 'walstore serve' printed when it was ready"


class NodeRefusedError(WALStoreError):
    """A node did not do what it was asked.

    Attributes:
        status: of HTTP.
        facts: what it said.
    """

    def __init__(self, status: int, facts: dict[str, Any]) -> None:
        self.status = status
        self.facts = facts
        self.hint = str(facts.get("hint", ""))
        super().__init__(str(facts.get("message", f"the node answered {status}")))


def is_url(text: str) -> bool:
    """Whether this is meant as an url, and not as a directory."""
    return text.startswith(("http://", "https://"))


def _convert(_ctx: click.Context, _param: click.Parameter, value: Any) -> Any:
    for url in (value,) if isinstance(value, str) else value:
        try:
            NodeClient(url)
        except ValueError:
            raise click.BadParameter(
                f"{url!r} is no status url; one looks like http://127.0.0.1:7100"
            ) from None
    return value


url_argument = click.argument("url", metavar="URL", callback=_convert)
urls_argument = click.argument("urls", metavar="URL...", nargs=-1, required=True, callback=_convert)


class NodeClient:
    """A connection to a node's endpoint, kept open between requests.

    Args:
        url: the endpoint's, "http://host:port".
        timeout_s: for each step of a request.

    Raises:
        ValueError: the url is none.
    """

    def __init__(self, url: str, timeout_s: float = 120.0) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError(url)
        if not is_host(parts.hostname):
            raise ValueError(url)
        self.url = url.rstrip("/")
        try:
            self._connection = HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout_s)
        except InvalidURL:
            raise ValueError(url) from None

    def get(self, path: str, **fields: type) -> Any:
        """What the node answers.

        Args:
            path: what is asked for.
            fields: what has to be in the answer, and of which type.

        Raises:
            NodeUnreachableError: nobody answers, or no node of this version.
            NodeRefusedError
        """
        return self._ask("GET", path, None, fields)

    def post(self, path: str, body: bytes = b"", **fields: type) -> Any:
        """Has the node do something; otherwise as `get`."""
        return self._ask("POST", path, body, fields)

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def _ask(self, method: str, path: str, body: bytes | None, fields: Mapping[str, type]) -> Any:
        headers = {CHANGE_HEADER: "1"} if method == "POST" else {}
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            data = answer.read()
        except (OSError, HTTPException) as error:
            self._connection.close()
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            reason = reason or type(error).__name__
            raise NodeUnreachableError(f"{self.url} does not answer: {reason}") from None
        try:
            found = json.loads(data)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise NodeUnreachableError(f"{self.url} is not a node's endpoint")
        if answer.status != 200:
            raise NodeRefusedError(answer.status, found)
        check_fields(self.url, found, fields)
        return found


def check_fields(url: str, found: Any, fields: Mapping[str, type]) -> None:
    """Raises NodeUnreachableError where a part of an answer is not of a node of this version."""
    if not isinstance(found, dict) or not all(
        key in found and isinstance(found[key], kind) for key, kind in fields.items()
    ):
        raise NodeUnreachableError(f"{url} answers as no node of this version does")
