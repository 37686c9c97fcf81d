"""walstore repair: cut a torn tail, on request."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict

import click

from walstore.cli import exits
from walstore.cli.options import json_option, log_argument
from walstore.cli.output import Screen, count, facts, plain
from walstore.wal.repair import TailRepair, repair_tail

__all__ = ["repair"]


@click.command()
@log_argument
@click.option("--apply", is_flag=True, help="Do it; without, only look.")
@json_option("One JSON object instead of text.")
def repair(log: str, apply: bool, as_json: bool) -> int:
    """Cut the torn tail that a crash left behind the last entry.

    A torn tail is the beginning of an append; nothing shows that it had been durable. Opening the
    log to write cuts it as well; this command shows first what that is. The cut bytes are kept in
    a file cut-*.bin in the log's directory.

    It repairs nothing else. Damage to entries that had been durable is refused with exit code 2:
    restore those from a replica or a backup. --apply also refuses while a writer has the log open,
    which cut a torn tail when it opened it.

    \b
    Examples:
      walstore repair LOG             show what would be cut
      walstore repair --apply LOG     cut it

    \b
    Exit codes:
      0  nothing is torn, or it was cut         1  a torn tail, and --apply was not given
      2  corruption; nothing was changed        3  not a log
      4  the system refused                     5  a writer has the log open (--apply)
    """
    found = repair_tail(log, apply=apply)
    if as_json:
        outcome = {"path": log, "applied": bool(found and found.applied)}
        click.echo(json.dumps(outcome | {"torn_tail": _as_json(found)}))
    else:
        _show(Screen(), log, found)
    return exits.TORN if found and not found.applied else exits.OK


def _as_json(found: TailRepair | None) -> dict[str, object] | None:
    if found is None:
        return None
    values = asdict(found)
    values.pop("applied")
    return values


def _show(screen: Screen, log: str, found: TailRepair | None) -> None:
    if found is None:
        screen.line("nothing to repair: the log has no torn tail", "green")
        return
    did = "cut" if found.applied else "would cut"
    screen.line(
        f"{did} {count(found.bytes)} bytes of a torn tail", "green" if found.applied else "yellow"
    )
    pairs = [
        ("file", found.path),
        ("offset", str(found.offset)),
        ("why", f"at lsn {found.lsn}, {found.reason}"),
    ]
    if found.kept:
        pairs.append(("kept in", found.kept))
    stays = f"lsn {count(found.last_lsn)} and all before" if found.last_lsn else "no entry"
    pairs.append(("what stays", stays))
    if not found.applied:
        pairs.append(("next", f"walstore repair --apply {plain(shlex.quote(log))}"))
    screen.show(facts([*pairs]))
