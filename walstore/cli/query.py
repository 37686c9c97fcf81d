"""walstore query: look for documents."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import click
from rich.text import Text

from walstore.cli import exits
from walstore.cli.documents import collection_argument, reading
from walstore.cli.extended_json import BadJSONError, from_json, to_json
from walstore.cli.options import WholeNumber, json_option, log_argument
from walstore.cli.output import Screen, count, grid, plain, remark
from walstore.docstore import Collection
from walstore.docstore.paths import values_at
from walstore.docstore.values import MISSING, Document

__all__ = ["query"]

_ROWS = 100
"""So many rows a table has, unless more are asked for."""

Sort = list[tuple[str, int]]


def _filter(_ctx: click.Context, _param: click.Parameter, value: str) -> Any:
    try:
        return from_json(value)
    except BadJSONError as error:
        raise click.BadParameter(
            f'{error}; write an object, such as \'{{"total": {{"$gt": 20}}}}\''
        ) from None


def _names(_ctx: click.Context, _param: click.Parameter, value: str | None) -> list[str]:
    return [name.strip() for name in value.split(",")] if value else []


def _sort(ctx: click.Context, param: click.Parameter, value: str | None) -> Sort:
    return [
        (name.removeprefix("-"), -1 if name[:1] == "-" else 1) for name in _names(ctx, param, value)
    ]


@click.command()
@log_argument
@collection_argument
@click.argument("filter", metavar="[FILTER]", default="{}", callback=_filter)
@click.option(
    "--fields",
    metavar="A,B.C",
    callback=_names,
    help="Show these fields only, in this order; a dot leads into an object.",
)
@click.option(
    "--sort",
    metavar="A,-B",
    callback=_sort,
    help="Sort by these fields; - before one: the greatest first.",
)
@click.option(
    "--limit",
    type=WholeNumber(0),
    metavar="N",
    help="Show N documents at most, 0: all. By default all as JSON, 100 in a table.",
)
@json_option("One JSON object a line instead of a table.")
def query(
    log: str,
    collection: str,
    filter: Any,
    fields: list[str],
    sort: Sort,
    limit: int | None,
    as_json: bool,
) -> int:
    """Look for documents that match a filter.

    They are shown as a table, or as JSON lines. FILTER is a JSON object as of MongoDB, {} by
    default; docs/docstore.md says what it may hold. Bytes and times are written as by 'walstore
    export'. Another process may be writing; what is shown is of one moment.

    \b
    Examples:
      walstore query LOG orders '{"customer": "ada", "total": {"$gte": 20}}'
      walstore query LOG orders --fields _id,total --sort -total --limit 3
      walstore query LOG orders '{"tags": "new"}' --json | jq .total

    \b
    Exit codes:
      0  done, also when nothing matches     2  corruption
      3  not a log                           4  the system refused
      64 wrong usage, a filter that makes no sense, or no such collection
      141 who read the output went away
    """
    with reading(log, collection) as documents:
        shown = _limit(limit, as_json)
        projection = {**dict.fromkeys(fields, 1), "_id": int("_id" in fields)} if fields else None
        cursor = documents.find(filter, projection, sort=sort or None, limit=shown)
        if as_json:
            sys.stdout.writelines(to_json(document) + "\n" for document in cursor)
        else:
            found = cursor.to_list()
            _show(found, fields)
            _show_rest(documents, filter, len(found), shown)
    return exits.OK


def _limit(limit: int | None, as_json: bool) -> int:
    if limit is None:
        return 0 if as_json else _ROWS
    return limit


# ---- the table ----


def _show(found: list[Document], fields: list[str]) -> None:
    if not found:
        return
    names = fields or list(dict.fromkeys(name for document in found for name in document))
    heads, cells = [], []
    for name in names:
        values = [_value(document, name, bool(fields)) for document in found]
        numbers = all(type(value) in (int, float) or value is MISSING for value in values)
        heads.append((">" if numbers else "") + plain(name))
        cells.append([_cell(value) for value in values])
    Screen().show(grid(heads, [list(row) for row in zip(*cells, strict=True)]))


def _value(document: Document, name: str, is_path: bool) -> Any:
    """What stands in a cell: a field, or what a path leads to, of a list each element's."""
    if not is_path:
        return document.get(name, MISSING)
    values, many = values_at(document, tuple(name.split(".")))
    values = [value for value in values if value is not MISSING]
    if not many:
        return values[0] if values else MISSING
    return values or MISSING


def _cell(value: Any) -> str | Text:
    if value is MISSING:
        return ""
    if value is None:
        return Text("null", style="dim")
    if type(value) is datetime:
        return value.isoformat().replace("+00:00", "Z")
    if type(value) is bytes:
        return f"0x{value.hex()}"
    return value if type(value) is str else to_json(value)


def _show_rest(documents: Collection, filter: Any, rows: int, limit: int) -> None:
    """Says on stderr what the table leaves out."""
    if rows == 0:
        remark("walstore: no document matches")
    elif rows == limit and (total := documents.count_documents(filter)) > rows:
        shown = f"{count(rows)} of {count(total)} documents"
        remark(f"walstore: {shown}; --limit 0 shows all")
