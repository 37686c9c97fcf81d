"""A node behind its endpoint, as ClusterManager wants one."""

from __future__ import annotations

from contextlib import closing
from typing import Any, NoReturn
from urllib.parse import urlencode

from walstore.cli.client import NodeClient, NodeRefusedError, NodeUnreachableError
from walstore.replication import NodeStatus, NotLeaderError

__all__ = ["RemoteNode"]

_STATUS_TIMEOUT_S = 2.0
_MARGIN_S = 30.0


class RemoteNode:
    """Asks an endpoint.

    Args:
        url: the node's status url.
        timeout_s: how long a change may take, at least a second.
    """

    def __init__(self, url: str, timeout_s: int) -> None:
        self.url = url
        self._timeout_s = timeout_s

    def status(self) -> NodeStatus:
        """The node, and the others as it sees them.

        Raises:
            NodeUnreachableError: it does not answer.
        """
        with closing(NodeClient(self.url, _STATUS_TIMEOUT_S)) as client:
            try:
                return NodeStatus.from_dict(client.get("/status"))
            except (AttributeError, KeyError, TypeError):
                raise NodeUnreachableError(
                    f"{self.url} answers as no node of this version does"
                ) from None

    def add_learner(self, node_id: str) -> int:
        """See ReplicationWALManager, as of the others."""
        return self._change("add", node=node_id, vote="0")

    def add_voter(self, node_id: str) -> int:
        """As above."""
        return self._change("add", node=node_id)

    def remove_node(self, node_id: str) -> int:
        """As above."""
        return self._change("remove", node=node_id)

    def replace_node(self, old: str, new: str) -> int:
        """As above."""
        return self._change("replace", node=old, **{"with": new})

    def transfer(self, node_id: str | None) -> int:
        """As above."""
        query = {} if node_id is None else {"to": node_id}
        found = self._post("/transfer", query, term=int)
        return int(found["term"])

    def _change(self, what: str, **query: str) -> int:
        query |= {"timeout": str(self._timeout_s)}
        found = self._post(f"/members/{what}", query, lsn=int)
        return int(found["lsn"])

    def _post(self, path: str, query: dict[str, str], **fields: type) -> Any:
        with closing(NodeClient(self.url, self._timeout_s + _MARGIN_S)) as client:
            try:
                return client.post(f"{path}?{urlencode(query)}", b"", **fields)
            except NodeRefusedError as error:
                _raise_as_told(error)


def _raise_as_told(error: NodeRefusedError) -> NoReturn:
    """As the node's own error, where whoever asked does something about it."""
    if error.facts.get("error") == "NotLeaderError":
        leader_id, leader_url = error.facts.get("leader_id"), error.facts.get("leader_url")
        raise NotLeaderError("the node", leader_id, leader_url) from None
    raise error
