"""Types what the blocks of a page say, and compares what comes, or writes it into the page."""

from __future__ import annotations

import itertools
import re
import shlex
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.cli.conftest import Run
from tests.cli.nodes import Served, spawn_node
from tests.replication.nodes import free_ports

_BLOCK = re.compile(r"```console\n(.*?)```", re.S)
_PORT = re.compile(r"\b7[01]\d\d\b")
_EXIT = re.compile(r" +# exit code (\d+)$")
_SLOW = "\n[replication]\nelection_ms = 2000\n"


class Runbook:
    """A page that is typed from its first block to its last, in the current directory.

    `walstore serve FILE &` starts a process, `PID_X` is that of node x, and a command ends with
    0, or with what a comment behind it says.

    Args:
        text: the page.
        run: runs a command of the command line in this process.
        as_written: its ports are used as they are; else free ones take their places.

    Attributes:
        typed: the commands, in order.
        differences: command, what the page says, and what came.
    """

    def __init__(self, text: str, run: Run, *, as_written: bool) -> None:
        self._text = text
        self._run = run
        self._as_written = as_written
        ports = sorted(set(_PORT.findall(text)))
        free = ports if as_written else [str(port) for port in free_ports(len(ports))]
        self._ports = dict(zip(ports, free, strict=True))
        self._nodes: dict[str, Served] = {}
        self._urls = ""
        self.typed: list[str] = []
        self.differences: list[tuple[str, str, str]] = []

    def type_all(self) -> str:
        """Types everything; returns the page as it should be."""
        return _BLOCK.sub(self._type_block, self._text)

    def end(self) -> None:
        """Kills what still runs."""
        for node in self._nodes.values():
            node.kill()

    def _type_block(self, block: re.Match[str]) -> str:
        parts = [part.partition("\n") for part in re.split(r"^\$ ", block[1], flags=re.M)[1:]]
        begun = _begin_first([command for command, _, _ in parts])
        shown = []
        for command, _, expected in parts:
            output = self._type(command, begun.get(command))
            self.typed.append(command)
            if _alike(expected) != _alike(output):
                self.differences.append((command, expected, output))
            shown.append(f"$ {command}\n{output}")
        if not self._nodes and not self._as_written:
            self._adapt(Path("conf"))
        return "```console\n" + "".join(shown) + "```"

    def _adapt(self, directory: Path) -> None:
        """Nodes' files that were just made: ports that were not typed, and a time within which a
        busy machine elects nobody by mistake."""
        for path in directory.glob("*.toml"):
            text = _PORT.sub(lambda port: self._ports.get(port[0], port[0]), path.read_text())
            path.write_text(text if _SLOW in text else text + _SLOW)

    def _type(self, command: str, begun: subprocess.Popen[str] | None) -> str:
        found = _EXIT.search(command)
        code, line = int(found[1]) if found else 0, _EXIT.sub("", command)
        line = _PORT.sub(lambda port: self._ports[port[0]], line).replace("$URLS", self._urls)
        words = shlex.split(line)
        if words[0].startswith("URLS="):
            self._urls = words[0].removeprefix("URLS=")
            return ""
        if words[0] == "kill":
            self._kill(words[1], words[2].removeprefix("PID_").lower())
            return ""
        if words[:2] == ["walstore", "serve"]:
            return self._serve(Path(words[3]), begun)
        if words[0] == "walstore":
            done = self._run(*words[1:])
            assert done.code == code, (command, done)
            return self._as_in_page(done.out + done.err)
        done_outside = subprocess.run(
            ["bash", "-c", line], check=True, capture_output=True, text=True, timeout=60
        )
        return self._as_in_page(done_outside.stdout)

    def _serve(self, config: Path, begun: subprocess.Popen[str] | None) -> str:
        node = self._nodes[config.stem] = Served(config, begun)
        assert node.ready, node.process.communicate()
        return self._as_in_page(node.line)

    def _kill(self, how: str, name: str) -> None:
        node = self._nodes.pop(name)
        if how == "-TERM":
            assert node.end(signal.SIGTERM)[0] == 0
        else:
            assert how == "-9"
            node.kill()

    def _as_in_page(self, output: str) -> str:
        for port, free in self._ports.items():
            output = output.replace(free, port)
        return output if output.endswith("\n") or not output else output + "\n"


def _begin_first(commands: Sequence[str]) -> dict[str, subprocess.Popen[str]]:
    """The nodes that a block begins with are started at the same time: they wait for each other."""
    first = itertools.takewhile(lambda command: command.startswith("walstore serve"), commands)
    return {command: spawn_node(Path(command.split()[3])) for command in first}


def _alike(output: str) -> str:
    """What has to be the same each time."""
    output = re.sub(r"not connected for [\d.]+ s(: .*)?", "not connected", output)
    output = re.sub(r"\b(unknown|received)\b", "durable", output)
    output = re.sub(r"\b[0-9a-f]{32,}\b", "ID", output)
    output = re.sub(r"\d[\d,.]*", "N", output)
    return re.sub(r" +", " ", output)
