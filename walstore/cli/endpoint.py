"""The local endpoint of a node: plain HTTP on a loopback address, for shells, dashboards, tests.

Everybody on the machine may ask. A page in a browser there may not: a name that is made to point
at this machine does not pass (Host is checked), and what changes something needs a header that a
page of another origin can only send after a question (CORS preflight) that is never answered.
"""

from __future__ import annotations

import json
import logging
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from walstore.cli.client import CHANGE_HEADER
from walstore.cli.entries import describe_entry
from walstore.cli.metrics import CONTENT_TYPE, metrics_text
from walstore.cli.node_config import parse_address
from walstore.errors import (
    ClosedLogError,
    LogFullError,
    LSNOutOfRangeError,
    OptionError,
    PayloadTooLargeError,
    WALStoreError,
)
from walstore.limits import KIND_MAX, LSN_MAX, PAYLOAD_BYTES_MAX
from walstore.replication import (
    MembershipError,
    NotLeaderError,
    PromotionError,
    Receipt,
    ReplicationTimeoutError,
    ReplicationWALManager,
    TooFewNodesError,
)
from walstore.replication.security import is_loopback
from walstore.wal.record import DATA

__all__ = ["PAGE_ENTRIES_MAX", "Endpoint"]

logger = logging.getLogger("walstore.serve")

PAGE_ENTRIES_MAX = 1000
_PAGE_PAYLOAD_BYTES = 16 << 20
_IDLE_TIMEOUT_S = 60.0
_TIMEOUT_S_MAX = 3600
_JSON = "application/json"


class _Refused(Exception):
    """A request that is not carried out."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class _Request:
    """A request, read whole."""

    query: Mapping[str, str]
    body: bytes

    def number(self, key: str, default: int, most: int) -> int:
        """A number of the query, 1 to `most`."""
        text = self.query.get(key, str(default))
        if not (text.isascii() and text.isdigit() and len(text) <= 20 and 0 < int(text) <= most):
            raise _Refused(HTTPStatus.BAD_REQUEST, f"{key} is a number from 1 to {most}")
        return int(text)

    def text(self, key: str) -> str:
        """A text of the query, which has to be there."""
        if not self.query.get(key):
            raise _Refused(HTTPStatus.BAD_REQUEST, f"{key} is missing")
        return self.query[key]

    def check(self, *known: str) -> None:
        """Refuses what the query should not hold."""
        for key in self.query:
            if key not in known:
                raise _Refused(HTTPStatus.BAD_REQUEST, f"unknown parameter {key!r}")


_Answer = tuple[str, bytes]
_Action = Callable[["Endpoint", _Request], _Answer]


def _json(value: object) -> _Answer:
    return _JSON, json.dumps(value).encode() + b"\n"


class Endpoint:
    """Serves one node, in threads of its own, until it is closed.

    Args:
        node: the node.
        host, port: a loopback address; port 0 picks a free one, see `url`.

    Raises:
        OptionError: the address is not loopback.
        OSError: it is taken.
    """

    def __init__(self, node: ReplicationWALManager, host: str, port: int) -> None:
        if not is_loopback(host):
            raise OptionError(f"status_listen: {host} is not a loopback address")
        self.node = node
        self._server = _Server(host, port, self)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="walstore-endpoint", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Takes no more requests. What is under way fails when the node is closed."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # ---- what can be asked ----

    def status(self, request: _Request) -> _Answer:
        """GET /status"""
        request.check()
        return _json(self.node.status().as_dict())

    def metrics(self, request: _Request) -> _Answer:
        """GET /metrics"""
        request.check()
        return CONTENT_TYPE, metrics_text(self.node.status(), self.node.metrics())

    def entries(self, request: _Request) -> _Answer:
        """GET /entries?from=LSN&to=LSN: a page of those that are committed and durable here;
        `next` is where the next page begins, null after the last."""
        request.check("from", "to")
        node = self.node
        first_lsn = node.first_lsn
        last_lsn = min(node.committed_lsn, node.durable_lsn)  # what readers are shown
        from_lsn = request.number("from", first_lsn, LSN_MAX)
        to_lsn = request.number("to", max(last_lsn, from_lsn), LSN_MAX)
        page: list[dict[str, Any]] = []
        payload_bytes = 0
        end = min(to_lsn, last_lsn, from_lsn + PAGE_ENTRIES_MAX - 1)
        for entry in node.replay(from_lsn, end) if from_lsn <= end else ():
            page.append(describe_entry(entry))
            payload_bytes += len(entry.payload)
            if payload_bytes > _PAGE_PAYLOAD_BYTES:
                break
        next_lsn = from_lsn + len(page)
        return _json(
            {
                "cluster_id": node.log_id,
                "first_lsn": first_lsn,
                "last_lsn": last_lsn,
                "entries": page,
                "next": next_lsn if page and next_lsn <= min(to_lsn, last_lsn) else None,
            }
        )

    def promote(self, request: _Request) -> _Answer:
        """POST /promote?force=1"""
        request.check("force")
        force = request.query.get("force", "0")
        if force not in ("0", "1"):
            raise _Refused(HTTPStatus.BAD_REQUEST, "force is 0 or 1")
        term = self.node.promote(force=force == "1")
        return _json({"node_id": self.node.node_id, "role": self.node.role, "term": term})

    def demote(self, request: _Request) -> _Answer:
        """POST /demote"""
        request.check()
        term = self.node.demote()
        return _json({"node_id": self.node.node_id, "role": self.node.role, "term": term})

    def transfer(self, request: _Request) -> _Answer:
        """POST /transfer?to=NODE: this node, which leads, hands over; without `to` to the best."""
        request.check("to")
        if request.query.get("to") == "":
            raise _Refused(HTTPStatus.BAD_REQUEST, "to is the id of a node, and is empty")
        term = self.node.transfer(request.query.get("to"))
        return _json({"node_id": self.node.node_id, "role": self.node.role, "term": term})

    def add(self, request: _Request) -> _Answer:
        """POST /members/add?node=NODE&vote=0&timeout=SECONDS"""
        request.check("node", "vote", "timeout")
        vote = request.query.get("vote", "1")
        if vote not in ("0", "1"):
            raise _Refused(HTTPStatus.BAD_REQUEST, "vote is 0 or 1")
        add = self.node.add_voter if vote == "1" else self.node.add_learner
        return _json({"lsn": add(request.text("node"), timeout_s=self._limit_s(request))})

    def remove(self, request: _Request) -> _Answer:
        """POST /members/remove?node=NODE&timeout=SECONDS"""
        request.check("node", "timeout")
        limit_s = self._limit_s(request)
        return _json({"lsn": self.node.remove_node(request.text("node"), timeout_s=limit_s)})

    def replace(self, request: _Request) -> _Answer:
        """POST /members/replace?node=NODE&with=NODE&timeout=SECONDS"""
        request.check("node", "with", "timeout")
        old, new = request.text("node"), request.text("with")
        return _json({"lsn": self.node.replace_node(old, new, timeout_s=self._limit_s(request))})

    def _limit_s(self, request: _Request) -> float:
        return request.number("timeout", max(1, round(self.node.timeout_s)), _TIMEOUT_S_MAX)

    def append(self, request: _Request) -> _Answer:
        """POST /append?kind=N: the body is the payload. Answered when it is where `acks` asks."""
        request.check("kind")
        commit = self.node.submit(request.body, kind=request.number("kind", DATA, KIND_MAX))
        commit.wait()
        return _json({"lsn": commit.lsn, "receipt": _stages(commit.receipt)})


_ROUTES: dict[str, tuple[str, _Action]] = {
    "/status": ("GET", Endpoint.status),
    "/metrics": ("GET", Endpoint.metrics),
    "/entries": ("GET", Endpoint.entries),
    "/promote": ("POST", Endpoint.promote),
    "/demote": ("POST", Endpoint.demote),
    "/transfer": ("POST", Endpoint.transfer),
    "/members/add": ("POST", Endpoint.add),
    "/members/remove": ("POST", Endpoint.remove),
    "/members/replace": ("POST", Endpoint.replace),
    "/append": ("POST", Endpoint.append),
}


# ---- errors ----


def _stages(receipt: Receipt) -> dict[str, str]:
    return {node: stage.name.lower() for node, stage in sorted(receipt.stages.items())}


_STATUS_OF: tuple[tuple[type[WALStoreError], HTTPStatus], ...] = (
    (NotLeaderError, HTTPStatus.CONFLICT),
    (PromotionError, HTTPStatus.CONFLICT),
    (MembershipError, HTTPStatus.CONFLICT),
    (ReplicationTimeoutError, HTTPStatus.GATEWAY_TIMEOUT),
    (TooFewNodesError, HTTPStatus.SERVICE_UNAVAILABLE),
    (ClosedLogError, HTTPStatus.SERVICE_UNAVAILABLE),
    (PayloadTooLargeError, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (LSNOutOfRangeError, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE),
    (LogFullError, HTTPStatus.INSUFFICIENT_STORAGE),
    (OptionError, HTTPStatus.BAD_REQUEST),
)


def _status_of(error: WALStoreError) -> HTTPStatus:
    for kind, status in _STATUS_OF:
        if isinstance(error, kind):
            return status
    return HTTPStatus.INTERNAL_SERVER_ERROR


def _error_facts(error: WALStoreError) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "error": type(error).__name__,
        "message": str(error),
        "hint": error.hint,
    }
    if isinstance(error, NotLeaderError):
        facts.update(leader_id=error.leader_id, leader_url=error.leader_url)
    elif isinstance(error, PromotionError):
        facts.update(reasons=error.reasons)
    elif isinstance(error, ReplicationTimeoutError):
        facts.update(lsn=error.receipt.lsn, receipt=_stages(error.receipt))
    return facts


# ---- HTTP ----


class _Server(ThreadingHTTPServer):
    """Its threads end with the process: a connection that is kept open holds nothing up."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, host: str, port: int, endpoint: Endpoint) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.endpoint = endpoint
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """As of TCPServer: that of HTTPServer asks the name service for this machine's name."""
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; anything else is a defect, and is told."""
        if not isinstance(sys.exception(), ConnectionError):
            logger.exception("the endpoint failed on a request")


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "walstore"
    sys_version = ""
    timeout = _IDLE_TIMEOUT_S
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Reads."""
        self._answer("GET")

    def do_POST(self) -> None:
        """Changes."""
        self._answer("POST")

    def _answer(self, method: str) -> None:
        try:
            action, request = self._request(method)
            kind, data = action(self.server.endpoint, request)
            self._send(HTTPStatus.OK, kind, data)
        except _Refused as error:
            self.close_connection = True  # its body, if any, was not read
            self._send_error(error.status, {"error": "RefusedRequest", "message": error.message})
        except WALStoreError as error:
            self._send_error(_status_of(error), _error_facts(error))

    def _request(self, method: str) -> tuple[_Action, _Request]:
        self._check_host()
        try:
            parts = urlsplit(self.path)
        except ValueError:  # brackets that do not match
            raise _Refused(HTTPStatus.BAD_REQUEST, "the target of the request is none") from None
        route = _ROUTES.get(parts.path)
        if route is None:
            raise _Refused(HTTPStatus.NOT_FOUND, f"here are {', '.join(_ROUTES)}")
        if route[0] != method:
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, f"{parts.path} takes {route[0]}")
        body = b""
        if method == "POST":
            if self.headers.get(CHANGE_HEADER) != "1":
                raise _Refused(HTTPStatus.FORBIDDEN, f"the header '{CHANGE_HEADER}: 1' is missing")
            body = self._body()
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        return route[1], _Request(query, body)

    def _check_host(self) -> None:
        """Refuses names of other machines, which a browser was led to this one by."""
        host = self.headers.get("Host", "")
        try:
            name = parse_address(host if host.rpartition(":")[2].isdigit() else f"{host}:80")[0]
        except ValueError:
            name = ""
        if not is_loopback(name):
            raise _Refused(HTTPStatus.FORBIDDEN, "Host names another machine")

    def _body(self) -> bytes:
        text = self.headers.get("Content-Length", "")
        if not (text.isascii() and text.isdigit()) or "Transfer-Encoding" in self.headers:
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "Content-Length is missing")
        if len(text) > 12 or int(text) > PAYLOAD_BYTES_MAX:
            raise _Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {PAYLOAD_BYTES_MAX} bytes"
            )
        body = self.rfile.read(int(text))
        if len(body) < int(text):
            raise ConnectionResetError("the client went away")
        return body

    def _send_error(self, status: HTTPStatus, facts: dict[str, Any]) -> None:
        kind, data = _json(facts)
        self._send(status, kind, data)

    def _send(self, status: HTTPStatus, kind: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are no news."""
        logger.debug(format, *args)
