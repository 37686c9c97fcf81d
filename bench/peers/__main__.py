"""``python -m bench.peers``: measure walstore and its peers side by side, and say who is where."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from bench.peers import machine, plot, report, targets
from bench.peers.plan import ROWS, Row, Settings, quick
from bench.peers.run import REPOSITORY, Outcome, Runner

STORES = ("walstore", "sqlite", "lmdb", "rocksdict")
BYTES_ON_DISK_PER_MIB = 1.5 * 2**20  # trees take more room than their records


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    result = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    result.add_argument("--rounds", type=int, default=5, help="quiet rounds wanted per row (5)")
    result.add_argument("--seconds", type=float, default=1.0, help="per measurement (1.0)")
    result.add_argument(
        "--only", action="append", default=[], metavar="ROW", help="rows whose name begins so"
    )
    result.add_argument(
        "--stores", action="append", default=[], choices=STORES, help="besides raw files (all)"
    )
    result.add_argument("--quick", action="store_true", help="1 short round, small logs: a check")
    result.add_argument("--list", action="store_true", help="show the rows and do nothing")
    result.add_argument(
        "--dir", type=Path, default=REPOSITORY / "build" / "bench", help="on the disk to measure"
    )
    result.add_argument(
        "--results", type=Path, default=REPOSITORY / "bench" / "results", help="for the reports"
    )
    return result


def rows_named(prefixes: Sequence[str]) -> list[Row]:
    """Return the rows that begin with one of the prefixes; all without any."""
    unknown = [p for p in prefixes if not any(row.name.startswith(p) for row in ROWS)]
    if unknown:
        known = ", ".join(row.name for row in ROWS)
        raise SystemExit(f"no row begins with {', '.join(unknown)}; the rows are {known}")
    return [row for row in ROWS if not prefixes or row.name.startswith(tuple(prefixes))]


def settings_from(options: argparse.Namespace) -> Settings:
    """Return the sizes of the run, refusing what makes no sense."""
    if not 1 <= options.rounds <= 50 or not 0.01 <= options.seconds <= 60:
        raise SystemExit("--rounds must be in 1..50 and --seconds in 0.01..60")
    settings = Settings(seconds=options.seconds, rounds=options.rounds)
    return quick(settings) if options.quick else settings


def require_space(path: Path, rows: Sequence[Row], settings: Settings) -> None:
    """Refuse to start when the data would not fit: a full disk would void the run half-way."""
    mib = max(
        [settings.log_mib(row.log) * len(row.contenders) for row in rows if row.log]
        + [settings.big_mib for row in rows if row.work == "memory"]
        + [2048]
    )
    needed, free = mib * BYTES_ON_DISK_PER_MIB, shutil.disk_usage(path).free
    if free < needed:
        raise SystemExit(
            f"{path} has {free / 2**30:.0f} GiB free, up to {needed / 2**30:.0f} GiB are needed:"
            " choose another --dir, or fewer rows with --only"
        )


def main() -> int:
    """Run, write the reports, show the final table."""
    options = parser().parse_args()
    rows = rows_named(options.only)
    if options.list:
        print("\n".join(f"{row.name:14} {row.title}" for row in rows))
        return 0
    settings = settings_from(options)
    options.dir.mkdir(parents=True, exist_ok=True)
    machine.require_disk(options.dir)
    require_space(options.dir, rows, settings)
    started = datetime.now().astimezone()
    base = Path(tempfile.mkdtemp(prefix="peers-", dir=options.dir))
    try:
        outcomes = Runner(base, settings, options.stores, _say).run(rows)
        environment = machine.environment(base)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    run = report.Run(
        started.isoformat(timespec="seconds"),
        environment,
        settings,
        options.quick,
        outcomes,
        targets.judge(outcomes),
    )
    stem = started.strftime("%Y-%m-%d-%H%M%S")
    return finish(run, options.results, stem)


def finish(run: report.Run, results: Path, stem: str) -> int:
    """Write what was found; return 1 if any measurement failed (never for a missed target)."""
    results.mkdir(parents=True, exist_ok=True)
    picture = results / f"{stem}.png"
    drawn = plot.draw(run.outcomes, picture)
    if not drawn:
        _say("no picture: matplotlib is not installed, or no rates were measured")
    paths = report.write(run, results, stem, picture.name if drawn else "")
    print("\n".join(report.targets_table(run.verdicts)))
    for path in [*paths, picture] if drawn else paths:
        _say(f"wrote {path}")
    failed = [_failures(outcome) for outcome in run.outcomes]
    return 1 if any(failed) else 0


def _failures(outcome: Outcome) -> list[str]:
    return [reason for reason in outcome.failures.values() if reason.startswith("failed")]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
