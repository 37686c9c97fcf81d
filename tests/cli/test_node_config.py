"""The file of `walstore serve`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from walstore.cli.node_config import ConfigError, load_config, parse_address
from walstore.replication import TLS, NetworkOptions, ReplicationOptions

HEAD = 'node_id = "a"\npath = "log"\n'

BAD = [
    ("node_id = ", "is not TOML"),
    ("\xff", "is not TOML"),
    ('path = "log"', "node_id is missing"),
    ('node_id = "a"', "path is missing"),
    (HEAD + 'rolle = "leader"', "unknown key rolle"),
    (HEAD + 'role = "boss"', 'role must be "leader" or "follower", not \'boss\''),
    (HEAD + "role = 1", "role must be"),
    (HEAD + 'election = "vote"', 'election must be "manual" or "raft"'),
    (HEAD + 'listen = "7001"', 'listen must be where the others reach this node, "host:port"'),
    (HEAD + 'listen = "a:70000"', "listen must be"),
    (HEAD + 'advertise = "a:7001"', "advertise must be the url that the others are told"),
    (HEAD + "advertise = 7001", "advertise must be"),
    (HEAD + 'status_listen = "10.0.0.1:80"', "status_listen must be"),
    (HEAD + 'acks = "most"', "acks must be"),
    (HEAD + "acks = 0", "acks must be"),
    (HEAD + "acks = true", "acks must be"),
    (HEAD + "acks = []", "acks must be"),
    (HEAD + "timeout_s = 0", "timeout_s must be a positive number, not 0"),
    (HEAD + "timeout_s = nan", "timeout_s must be"),
    (HEAD + 'too_few = "ask"', "too_few must be"),
    (HEAD + "segment_bytes = 1.5", "segment_bytes must be a positive whole number"),
    (HEAD + 'peers = "b"', "peers must be a table"),
    (HEAD + '[peers]\nb = "http://b:1"', "peers must be a table of node ids and urls"),
    (HEAD + "security = 1", "security must be a table"),
    ('node_id = "a"\npath = "a\\u0000b"', "path must be the log's directory"),
    (HEAD + '[security]\nsecret_file = "a\\u0000b"', "security.secret_file must be the name"),
    (HEAD + "acks = " + "[" * 100_000, "is nested too deeply"),
    (HEAD + "timeout_s = " + "9" * 5000, "has a number of too many digits"),
    (HEAD + "segment_bytes = 0x" + "f" * 5000, "whole number, not a number of too many digits"),
    (HEAD + "[security]\npassword = 1", "unknown key security.password; in [security] go"),
    (HEAD + "[security]\ninsecure = 1", "security.insecure must be true or false"),
    (HEAD + '[security]\ntls_ca = "x"', "security.tls_cert is missing"),
    (HEAD + "[replication]\nheartbeat = 1", "unknown key replication.heartbeat"),
    (HEAD + "[replication]\nwindow_bytes = 1.5", "replication.window_bytes must be"),
    (HEAD + "[replication]\nretention_s = -1", "replication.retention_s must be"),
    (HEAD + '[network]\nsilence_ms = "1"', "network.silence_ms must be a positive whole number"),
    (HEAD + "[network]\nsilence_ms = 1", "network: silence_ms must be more than heartbeat_ms"),
]


@pytest.mark.parametrize(("text", "reason"), BAD)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, run: Run, text: str, reason: str) -> None:
    path = tmp_path / "node.toml"
    path.write_bytes(text.encode("latin-1"))
    found = run("serve", "--config", path)
    assert found.code == 64
    assert found.out == ""
    message, hint = found.err.splitlines()
    assert message.startswith(f"walstore: {path}")
    assert reason in message
    assert "docs/cli.md" in hint
    assert list(tmp_path.iterdir()) == [path]


def test_all_keys(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("0123456789abcdef\n")
    path = tmp_path / "node.toml"
    path.write_text(
        """
        node_id = "a"
        path = "log"
        listen = "[::1]:7001"
        role = "leader"
        acks = ["b", "c"]
        timeout_s = 2.5
        too_few = "refuse"
        segment_bytes = 65536
        status_listen = "localhost:0"

        [peers]
        b = "wss://b:7001"
        c = ""

        [security]
        secret_file = "secret"
        tls_ca = "ca.pem"
        tls_cert = "/certs/a.pem"
        tls_key = "a.key"

        [replication]
        window_bytes = 1000
        retention_s = 60.5
        catch_up_bytes_per_s = 10

        [network]
        heartbeat_ms = 100
        """
    )
    found = load_config(str(path))
    assert found.path == str(tmp_path / "log")
    assert found.status_listen == ("localhost", 0)
    assert found.node == {
        "node_id": "a",
        "listen": "[::1]:7001",
        "role": "leader",
        "acks": frozenset({"b", "c"}),
        "timeout_s": 2.5,
        "too_few": "refuse",
        "segment_bytes": 65536,
        "peers": {"b": "wss://b:7001", "c": None},
        "insecure": False,
        "secret": b"0123456789abcdef",
        "tls": TLS(str(tmp_path / "ca.pem"), "/certs/a.pem", str(tmp_path / "a.key")),
        "options": ReplicationOptions(window_bytes=1000, retention_s=60.5, catch_up_bytes_per_s=10),
        "network": NetworkOptions(heartbeat_ms=100),
    }


def test_what_the_node_itself_refuses_names_the_file(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "node.toml"
    for more, reason in (
        ('role = "leader"\nlisten = "0.0.0.0:0"', "not a loopback address"),
        ("acks = 4", "acks=4 of a cluster of 1 nodes"),
        ('[security]\nsecret_file = "node.toml"\n[peers]\na = ""', "peer of itself"),
    ):
        path.write_text(HEAD + more)
        found = run("serve", "--config", path)
        assert found.code == 64
        assert found.err.startswith(f"walstore: {path}: ")
        assert reason in found.err


def test_a_file_that_is_missing(tmp_path: Path, run: Run) -> None:
    found = run("serve", "--config", tmp_path / "none.toml")
    assert found.code == 4
    assert found.err == f"walstore: {tmp_path / 'none.toml'}: No such file or directory\n"
    path = tmp_path / "node.toml"
    path.write_text(HEAD + '[security]\nsecret_file = "secret"')
    assert f"{tmp_path / 'secret'}: No such file" in run("serve", "--config", path).err


def test_addresses() -> None:
    hostile = ("a..b:1", f"{'a' * 300}:1", "a:" + "1" * 5000)
    assert parse_address("127.0.0.1:0") == ("127.0.0.1", 0)
    assert parse_address("[::1]:80") == ("::1", 80)
    for text in (
        "",
        "80",
        ":80",
        "a",
        "a:",
        "a:x",
        "::1:80",
        "[a]:80",
        "a:65536",
        "[]:1",
        *hostile,
    ):
        with pytest.raises(ValueError, match=r".*"):
            parse_address(text)


@pytest.mark.parametrize(
    "url", ["ws://b:99999", "ws://b:x", "ws://[b:1", "ws://a..b:1", f"ws://{'a' * 300}:1", "ws://"]
)
@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_a_peer_that_cannot_be_reached_by_any_name(
    tmp_path: Path, run: Run, command: str, url: str
) -> None:
    path = tmp_path / "node.toml"
    path.write_text(HEAD + f'[peers]\nb = "{url}"\n')
    found = run(command, "--config", path)
    assert found.code == 64
    assert found.err.startswith(f"walstore: {path}: peers must be")


def test_it_is_an_option_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(ConfigError) as caught:
        load_config(str(tmp_path / "x"))
    assert "node_id" in str(caught.value)
