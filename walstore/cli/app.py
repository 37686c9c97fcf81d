"""The group of commands, and the one place where errors become a sentence and an exit code."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import traceback
from typing import Any, TextIO

import click

import walstore
from walstore.cli import exits
from walstore.cli.cluster import cluster
from walstore.cli.diff import diff
from walstore.cli.doctor import doctor
from walstore.cli.documents import NoSuchCollectionError
from walstore.cli.dump import dump
from walstore.cli.exporting import export
from walstore.cli.importing import BadLineError, import_
from walstore.cli.info import info
from walstore.cli.output import complain
from walstore.cli.promote import demote, promote
from walstore.cli.query import query
from walstore.cli.repair import repair
from walstore.cli.serve import serve
from walstore.cli.stats import stats
from walstore.cli.status import status
from walstore.cli.tail import tail
from walstore.cli.verify import verify
from walstore.docstore import QueryError
from walstore.errors import (
    CorruptLogError,
    LogLockedError,
    LSNOutOfRangeError,
    NotALogError,
    OptionError,
    ReplicatedLogError,
    UnsupportedFormatError,
    WALStoreError,
)

__all__ = ["app"]

_DENIED = {errno.EACCES, errno.EPERM}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_WRONG_USAGE = (
    LSNOutOfRangeError,
    OptionError,
    NoSuchCollectionError,
    QueryError,
    ReplicatedLogError,
)


def _system_hint(code: int | None) -> str:
    if code in _DENIED:
        return "run it as the user who owns the log's files, or give this user access to them"
    if code == errno.EROFS:
        return "the filesystem is mounted read-only"
    if code in _FULL:
        return "free some space and run it again"
    if code == errno.EIO:
        return (
            "the disk fails to read or write; see the kernel's log, and copy what is still readable"
        )
    return ""


def _hint(error: WALStoreError) -> str:
    """What to do next, said for somebody at a terminal."""
    if isinstance(error, LogLockedError):
        own = vars(error).get("hint")
        return own or "stop the writer first; it repairs a torn tail itself when it opens the log"
    if isinstance(error, NotALogError):
        return error.hint or "name the directory that FileWALManager was given"
    if isinstance(error, OSError) and not error.hint:
        return _system_hint(error.errno)
    return error.hint


def _code(error: BaseException) -> int:
    if isinstance(error, CorruptLogError):
        return exits.CORRUPT
    if isinstance(error, (NotALogError, UnsupportedFormatError)):
        return exits.NOT_A_LOG
    if isinstance(error, LogLockedError):
        return exits.BUSY
    if isinstance(error, BadLineError):
        return exits.BAD_DATA
    if isinstance(error, _WRONG_USAGE):
        return exits.USAGE
    return exits.REFUSED


def _drop_output(stream: TextIO) -> None:
    """Lets the interpreter's last flush go nowhere instead of failing aloud."""
    try:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, stream.fileno())
        os.close(devnull)
    except (OSError, ValueError):
        pass  # not a real file, as in tests


def _settle_errors() -> None:
    """Has what standard error did not take not change the exit code."""
    try:
        sys.stderr.flush()
    except OSError:
        _drop_output(sys.stderr)


def _explain(error: Exception) -> int:
    """Says what went wrong; returns the exit code."""
    if isinstance(error, BrokenPipeError):
        _drop_output(sys.stdout)
        return exits.BROKEN_PIPE
    if isinstance(error, WALStoreError):
        complain(str(error), _hint(error))
        return _code(error)
    if isinstance(error, OSError):
        if error.filename is None:
            _drop_output(sys.stdout)
            complain(f"cannot write the output: {error.strerror}", _system_hint(error.errno))
        else:
            complain(f"{error.filename}: {error.strerror}", _system_hint(error.errno))
        return exits.REFUSED
    if os.environ.get("WALSTORE_TRACEBACK"):
        traceback.print_exception(error)
    complain(
        f"this should not have happened: {type(error).__name__}: {error}",
        "please report it with what WALSTORE_TRACEBACK=1 shows",
    )
    return exits.DEFECT


class Application(click.Group):
    """A group of commands that never ends in a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Parses, runs and exits."""
        kwargs.update(standalone_mode=False)
        kwargs["prog_name"] = kwargs.get("prog_name") or "walstore"
        if sys.stdout is None:  # closed by who started us
            sys.stdout = open(os.devnull, "w")
        if sys.stderr is None:
            sys.stderr = open(os.devnull, "w")
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        # Recovery logs what it cuts; `repair` says it itself.
        logging.getLogger("walstore").addHandler(logging.NullHandler())
        try:
            code = super().main(*args, **kwargs)
        except click.ClickException as error:
            with contextlib.suppress(OSError):  # the exit code still says it
                error.show()
            code = exits.USAGE
        except click.Abort:
            code = exits.INTERRUPTED
        except OSError as error:
            code = _explain(error)
        _settle_errors()
        sys.exit(code or exits.OK)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parses; in here --help and --version write."""
        try:
            return super().make_context(*args, **kwargs)
        except OSError as error:
            raise click.exceptions.Exit(_explain(error)) from None

    def invoke(self, ctx: click.Context) -> int:
        """Runs a command; every command returns its exit code."""
        try:
            code: int = super().invoke(ctx)
            sys.stdout.flush()
            return code
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            complain("interrupted")
            return exits.INTERRUPTED
        except Exception as error:
            return _explain(error)


@click.group(
    "walstore",
    cls=Application,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "Exit codes: 0 all is well; 1 torn tail; 2 corruption; 3 not a log; 4 the system or a node "
        "refused; 5 a writer has the log; 64 wrong usage; 65 a bad line; 130 interrupted; "
        "141 closed pipe. "
        "'diff', 'status', 'cluster' and 'doctor' give 1 to 3 other meanings."
    ),
)
@click.version_option(walstore.__version__, message="walstore %(version)s")
def app() -> None:
    """Look at a walstore log, check it, and mend its torn tail; run nodes, and watch them.

    A log is a directory. All commands but 'repair --apply', 'import', 'serve' and 'cluster recover'
    leave it as it is, and work while another process writes to it. A node that 'serve' runs is
    named by its status url; 'promote' and 'demote' have it lead, or stop leading. 'doctor' measures
    a disk by writing to a file without a name.

    \b
      walstore info /var/lib/app/log            what is in it, and is it healthy?
      walstore tail -f /var/lib/app/log         watch it grow
      walstore dump --since -10m --json LOG     the last ten minutes, a JSON object a line
      walstore verify LOG && echo fine          check every record
      walstore diff LOG /backup/log             are these two the same?
      walstore query LOG orders '{"n": 1}'      look for documents
      walstore serve --config node.toml         run a node of a replicated log
      walstore status URL URL URL               who leads, and who is behind?
      walstore cluster status URL URL URL       what is amiss, and how many more may fail?
      walstore doctor --config node.toml        are disk, clock and network fit for it?
    """


for _command in (
    info, dump, tail, verify, repair, stats, diff, query, import_, export, serve, status, promote,
    demote, cluster, doctor,
):  # fmt: skip
    app.add_command(_command)
