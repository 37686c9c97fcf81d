"""A node starts whole, or says why it does not: none is handed out that hears nothing."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.helpers import run_child
from walstore.replication.background import Background

FEW_DESCRIPTORS = """
    import errno, gc, os, resource, sys

    from walstore.replication import ReplicationWALManager

    def opened():
        return ReplicationWALManager(sys.argv[1], node_id="a", listen="127.0.0.1:0", role="leader")

    opened().close()
    before = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def opened_with(limit):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            return opened()
        except OSError as error:
            assert error.errno == errno.EMFILE, error
            return None
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    limit = 3
    while (node := opened_with(limit)) is None:
        limit += 1
    assert limit > 10, limit
    assert node.error is None and node.url
    node.append(b"it leads")
    node.close()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
    print("well")
"""


def test_a_node_says_that_it_has_too_few_descriptors(tmp_path: Path) -> None:
    """With none at all, then with one more each time, until there are enough."""
    assert run_child(FEW_DESCRIPTORS, tmp_path / "log", timeout_s=30).strip() == "well"


class NeverBegins:
    """A service that cannot begin, nor end."""

    async def start(self) -> None:
        raise OSError(errno.EMFILE, "what kept it from beginning")

    async def stop(self) -> None:
        raise OSError(errno.EIO, "what came of that")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_keeps_a_service_from_beginning_is_told_whatever_its_end_brings() -> None:
    with pytest.raises(OSError, match="what kept it from beginning"):
        Background(NeverBegins(), "walstore-test").start()
