"""``python -m bench.replication``: measure replication side by side, and say who is where."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from bench.peers.machine import environment, require_disk
from bench.peers.report import targets_table
from bench.replication import report, targets
from bench.replication.rows import CONTENDERS, ROWS, Settings
from bench.replication.run import Runner

REPOSITORY = Path(__file__).resolve().parents[2]
MIB, BIG_MIB = 256, 1024
NAMES = [row.name for row in ROWS]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m bench.replication", description=__doc__)
    result.add_argument("--rounds", type=int, default=3, help="per row (3)")
    result.add_argument("--seconds", type=float, default=2.0, help="per measurement (2.0)")
    result.add_argument("--kills", type=int, default=5, help="of a leader, per round (5)")
    result.add_argument("--mib", type=int, default=MIB, help=f"to catch up with ({MIB})")
    result.add_argument("--big", action="store_true", help=f"the same with {BIG_MIB} MiB")
    result.add_argument("--only", action="append", default=[], choices=NAMES, help="these rows")
    result.add_argument(
        "--contenders", action="append", default=[], choices=list(CONTENDERS), help="these (all)"
    )
    result.add_argument(
        "--dir", type=Path, default=REPOSITORY / "build" / "bench", help="on the disk to measure"
    )
    result.add_argument(
        "--results", type=Path, default=REPOSITORY / "bench" / "results", help="for the reports"
    )
    return result


def main() -> int:
    """Runs, writes the reports, shows the targets; 1 if a measurement failed."""
    options = parser().parse_args()
    if not 1 <= options.rounds <= 50 or not 0.01 <= options.seconds <= 60:
        raise SystemExit("--rounds must be in 1..50, --seconds in 0.01..60")
    if options.mib < 1 or options.kills < 1:
        raise SystemExit("--mib and --kills must be at least 1")
    mib = BIG_MIB if options.big else options.mib
    settings = Settings(options.rounds, options.seconds, mib, options.kills)
    rows = [row for row in ROWS if not options.only or row.name in options.only]
    options.dir.mkdir(parents=True, exist_ok=True)
    require_disk(options.dir)
    started = datetime.now().astimezone()
    base = Path(tempfile.mkdtemp(prefix="replication-", dir=options.dir))
    base.chmod(0o755)  # PostgreSQL runs as a user of its own
    try:
        outcomes = Runner(base, settings, options.contenders, say).run(rows)
        about = environment(base)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    run = report.Run(
        started.isoformat(timespec="seconds"), about, settings, outcomes, targets.judge(outcomes)
    )
    for path in report.write(run, options.results, f"replication-{started:%Y-%m-%d-%H%M%S}"):
        say(f"wrote {path}")
    print("\n".join(targets_table(run.verdicts)))
    failed = [why for each in outcomes for why in each.failures.values()]
    return 1 if any(why.startswith("failed") for why in failed) else 0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
