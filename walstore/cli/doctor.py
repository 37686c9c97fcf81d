"""walstore doctor: is this machine fit for a log, and which times suit a cluster of such ones?"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import click
from rich.text import Text

from walstore.cli import exits
from walstore.cli.node_config import load_config, parse_address
from walstore.cli.options import Seconds, json_option
from walstore.cli.output import Screen, count, facts, plain
from walstore.cli.progress import progress_bar
from walstore.cluster import (
    Clock,
    Disk,
    Finding,
    Level,
    Quantiles,
    Timing,
    derive,
    judge_clock,
    judge_disk,
    judge_timing,
    measure_clock,
    measure_disk,
    measure_round_trips,
)
from walstore.replication import ReplicationOptions

__all__ = ["doctor"]

_CLOCK_S = 0.3
_TRIPS = 20
_TRIP_TIMEOUT_S = 2.0
_STYLES = {Level.GOOD: "green", Level.DOUBTFUL: "yellow", Level.UNSAFE: "bold red"}


@dataclass(frozen=True, slots=True)
class _Patient:
    """What is to be looked at."""

    path: str
    peers: Mapping[str, tuple[str, int]]
    timing: Timing


@dataclass(frozen=True, slots=True)
class _Measured:
    """What was found."""

    disk: Disk
    clock: Clock
    trips: Mapping[str, Quantiles]
    silent: Mapping[str, str]

    @property
    def slowest_trip(self) -> Quantiles | None:
        return max(self.trips.values(), key=lambda trip: trip.p99, default=None)


def _address(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> list[Any]:
    try:
        return [parse_address(value) for value in values]
    except ValueError as error:
        raise click.BadParameter(f"{error} is no address; write host:port") from None


@click.command()
@click.argument("directory", metavar="[DIR]", required=False)
@click.option("--config", "config_path", metavar="FILE", help="A node's file, as 'serve' takes it.")
@click.option(
    "--peer", "peers", metavar="HOST:PORT", multiple=True, callback=_address,
    help="Where another node listens; may be given several times.",
)  # fmt: skip
@click.option(
    "--seconds", type=Seconds(0.1, 600), default=2.0, show_default=True,
    help="How long the disk is measured.",
)  # fmt: skip
@json_option("One JSON object instead of text.")
def doctor(
    directory: str | None,
    config_path: str | None,
    peers: list[tuple[str, int]],
    seconds: float,
    as_json: bool,
) -> int:
    """Say whether disk, clock and network are fit for a log.

    Looked at is the disk of DIR, which need not be a log: small writes with a sync each, in a file
    without a name. Or all that a node's FILE names: its disk, its peers, and its times, which are
    refused where a healthy cluster would lose its leader with them. Shows which times suit.

    \b
    Examples:
      walstore doctor /var/lib/app
      walstore doctor /var/lib/app --peer db2:7000 --peer db3:7000
      walstore doctor --config node.toml && walstore serve --config node.toml

    \b
    Exit codes:
      0  nothing is unsafe     1  something is
      4  the system refused   64  wrong usage, or FILE makes no sense
    """
    patient = _patient(directory, config_path, peers)
    measured = _measure(patient, seconds)
    findings = _findings(patient, measured)
    disk, late, elects = measured.disk, measured.clock.late_ms, patient.timing.elects
    suits = derive(disk.sync_ms, measured.slowest_trip, late, elects=elects)
    if as_json:
        click.echo(json.dumps(_as_json(patient, measured, findings, suits)))
    else:
        _show(Screen(), patient, measured, findings, suits)
    unsafe = any(finding.level is Level.UNSAFE for finding in findings)
    return exits.UNSAFE if unsafe else exits.OK


def _patient(
    directory: str | None, config_path: str | None, peers: list[tuple[str, int]]
) -> _Patient:
    if (directory is None) == (config_path is None):
        raise click.UsageError("Name a directory, or a node's file with --config.")
    found = {f"{host}:{port}": (host, port) for host, port in peers}
    options, elects = ReplicationOptions(), False
    if config_path is not None:
        config = load_config(config_path)
        directory, options = config.path, config.node["options"]
        elects = config.node.get("election") == "raft"
        for name, url in config.node["peers"].items():
            parts = urlsplit(url or "")
            if parts.hostname and parts.port:
                found[name] = parts.hostname, parts.port
    assert directory is not None
    path = os.path.abspath(directory)
    while config_path is not None and not os.path.isdir(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)  # the node will make it
    leader_ms = options.election_ms if elects else options.leader_timeout_ms
    return _Patient(path, found, Timing(options.heartbeat_ms, leader_ms, elects))


def _measure(patient: _Patient, seconds: float) -> _Measured:
    with progress_bar("measuring the disk") as shown:
        disk = measure_disk(
            patient.path, seconds, lambda share: shown.update(round(share * 1000), 1000)
        )
    clock = measure_clock(_CLOCK_S)
    trips: dict[str, Quantiles] = {}
    silent: dict[str, str] = {}
    for name, (host, port) in patient.peers.items():
        try:
            trips[name] = measure_round_trips(host, port, _TRIPS, _TRIP_TIMEOUT_S)
        except OSError as error:
            silent[name] = error.strerror or str(error)
    return _Measured(disk, clock, trips, silent)


def _findings(patient: _Patient, measured: _Measured) -> list[Finding]:
    disk, late = measured.disk, measured.clock.late_ms
    found = [*judge_disk(disk), *judge_clock(measured.clock)]
    for name, why in measured.silent.items():
        found.append(Finding(Level.DOUBTFUL, f"{name} does not answer: {why}", "start it first"))
    return [*found, *judge_timing(patient.timing, disk.sync_ms, measured.slowest_trip, late)]


def _as_json(
    patient: _Patient, measured: _Measured, findings: list[Finding], suits: Timing
) -> dict[str, Any]:
    disk, clock = measured.disk, measured.clock
    return {
        "path": patient.path,
        "filesystem": disk.filesystem,
        "mount_options": sorted(disk.mount_options),
        "syncs": disk.syncs,
        "sync_ms": disk.sync_ms._asdict(),
        "clock_step_ms": clock.step_ms,
        "clock_resolution_us": clock.resolution_us,
        "late_ms": clock.late_ms._asdict(),
        "round_trip_ms": {name: trip._asdict() for name, trip in measured.trips.items()},
        "silent": dict(measured.silent),
        "timing": patient.timing.as_options(),
        "suits": suits.as_options(),
        "findings": [finding._asdict() for finding in findings],
    }


def _ms(figures: Quantiles) -> str:
    p50, p99, most = (f"{value:.3g}" for value in figures)
    return f"{p50} ms, p99 {p99} ms, longest {most} ms"


def _show(
    screen: Screen, patient: _Patient, measured: _Measured, findings: list[Finding], suits: Timing
) -> None:
    disk, clock = measured.disk, measured.clock
    screen.line(patient.path, "bold")
    pairs: list[tuple[str, str | Text]] = [
        ("filesystem", disk.filesystem or "unknown"),
        ("write and sync", f"{_ms(disk.sync_ms)}, of {count(disk.syncs)}"),
        ("waking up late", _ms(clock.late_ms)),
        ("time of day", f"{clock.step_ms:+.3f} ms against the monotonic clock"),
    ]
    pairs += [(f"round trip {name}", _ms(trip)) for name, trip in measured.trips.items()]
    screen.show(facts([*pairs, ("times that suit", str(suits))]))
    screen.line()
    for finding in findings:
        level = Text(finding.level.value.ljust(9), style=_STYLES[finding.level])
        screen.show(facts([("", level.append(plain(finding.text), style="default"))]))
        if finding.hint:
            screen.line(f"           {finding.hint}", "dim")
