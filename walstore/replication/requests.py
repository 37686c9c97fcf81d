"""What clients ask of nodes, and the answers: bodies of messages (docs/protocol.md, "Clients").
Sans-IO.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from walstore.limits import LSN_MAX
from walstore.replication.errors import MessageError

__all__ = [
    "ANSWER_BYTES_MAX",
    "CLIENT_PREFIX",
    "COMMAND_BYTES_MAX",
    "URL_BYTES_MAX",
    "Ask",
    "ClientRequest",
    "ClientResponse",
    "Status",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
    "is_client_id",
]

CLIENT_PREFIX = "client:"
"""The name of a client begins with it, and that of a node must not."""

COMMAND_BYTES_MAX = 1_000_000
"""Largest command or query of a client."""

ANSWER_BYTES_MAX = 1_000_000
"""Largest answer."""

URL_BYTES_MAX = 512
"""Longest url of a leader; a longer one is left out."""

_REQUEST = struct.Struct("<QB7xQQQ")
_RESPONSE = struct.Struct("<QQBBHI")


class Ask(IntEnum):
    """What a client asks for."""

    OPEN = 1
    COMMAND = 2
    CLOSE = 3
    READ = 4
    READ_AFTER = 5


class Status(IntEnum):
    """What became of a request.

    The first six are results, the same on every node. With NOT_LEADER, BUSY and UNSUPPORTED this
    request appended nothing, and was not read; with UNSETTLED it may have been, and may be applied
    or not.
    """

    DONE = 1
    REFUSED = 2
    EXPIRED = 3
    FORGOTTEN = 4
    BEYOND = 5
    TOO_LARGE = 6
    NOT_LEADER = 7
    BUSY = 8
    UNSETTLED = 9
    UNSUPPORTED = 10


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """A client asks for something.

    Attributes:
        number: names the request on its connection.
        ask: for what.
        session: an open one; 0 without.
        sequence: of the command in its session; of OPEN a random number; of READ_AFTER the lsn
            that is to be applied.
        answered: every command of the session below this number has its answer.
        data: the command or query; after `decode` a copy.
    """

    number: int
    ask: Ask
    session: int = 0
    sequence: int = 0
    answered: int = 0
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class ClientResponse:
    """The answer.

    Attributes:
        number: of the request.
        status: what became of it.
        lsn: of a command or OPEN the entry; of a read the last entry that was applied.
        leader_id, leader_url: who leads, as far as this node knows; or empty. With BUSY, also this
            node itself.
        data: the result, or why there is none.
    """

    number: int
    status: Status
    lsn: int = 0
    leader_id: str = ""
    leader_url: str = ""
    data: bytes = b""


def is_client_id(name: str) -> bool:
    """Whether a name is a client's, and so no node's."""
    return name.startswith(CLIENT_PREFIX)


def encode_request(body: ClientRequest) -> tuple[bytes, bytes]:
    """The fields, and the bulk that follows."""
    fields = _REQUEST.pack(body.number, body.ask, body.session, body.sequence, body.answered)
    return fields, body.data


def encode_response(body: ClientResponse) -> tuple[bytes, bytes]:
    """The fields, and the bulk that follows."""
    leader, url = body.leader_id.encode(), body.leader_url.encode()
    fields = _RESPONSE.pack(body.number, body.lsn, body.status, len(leader), len(url), 0)
    return fields + leader + url, body.data


def decode_request(body: memoryview) -> ClientRequest:
    """The request in a message's body.

    Raises:
        MessageError: it is none.
    """
    if len(body) < _REQUEST.size:
        raise MessageError("a REQUEST shorter than its fields")
    number, ask, session, sequence, answered = _REQUEST.unpack_from(body)
    data = bytes(body[_REQUEST.size :])
    if ask not in set(Ask) or any(body[9:16]):
        raise MessageError(f"a REQUEST for {ask}, which is not known")
    if len(data) > COMMAND_BYTES_MAX:
        raise MessageError(f"a REQUEST with {len(data)} bytes; at most {COMMAND_BYTES_MAX}")
    if max(session, sequence, answered) > LSN_MAX:
        raise MessageError("a REQUEST beyond every session or sequence")
    return ClientRequest(number, Ask(ask), session, sequence, answered, data)


def decode_response(body: memoryview) -> ClientResponse:
    """The response in a message's body.

    Raises:
        MessageError: it is none.
    """
    if len(body) < _RESPONSE.size:
        raise MessageError("a RESPONSE shorter than its fields")
    number, lsn, status, leader_size, url_size, zero = _RESPONSE.unpack_from(body)
    url_at = _RESPONSE.size + leader_size
    data_at = url_at + url_size
    if status not in set(Status) or zero or lsn > LSN_MAX:
        raise MessageError("a RESPONSE that no node gives")
    if data_at > len(body) or url_size > URL_BYTES_MAX:
        raise MessageError("a RESPONSE with names of the wrong size")
    leader = _text(body[_RESPONSE.size : url_at])
    url = _text(body[url_at:data_at])
    return ClientResponse(number, Status(status), lsn, leader, url, bytes(body[data_at:]))


def _text(data: memoryview) -> str:
    try:
        text = str(data, "utf-8")
    except UnicodeDecodeError:
        raise MessageError("a name that is not UTF-8") from None
    if not text.isprintable():
        raise MessageError("a name that is not printable")
    return text
