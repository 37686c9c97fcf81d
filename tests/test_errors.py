"""The errors: the tree that is promised, what each one carries, says, and advises."""

from __future__ import annotations

import copy
import errno
import inspect
import pickle
import re
from collections.abc import Iterator
from typing import Any

import pytest

from walstore import errors
from walstore.errors import (
    ClosedLogError,
    CommitTimeoutError,
    CorruptLogError,
    EntryTruncatedError,
    LogAccessError,
    LogFullError,
    LogLockedError,
    LogOpenError,
    LogPoisonedError,
    LSNOutOfRangeError,
    NotALogError,
    OptionError,
    PayloadTooLargeError,
    PayloadTypeError,
    ReadOnlyLogError,
    RefusedRecordsError,
    ReplicatedLogError,
    UnsupportedFormatError,
    WALStoreError,
)

SAMPLES: list[tuple[WALStoreError, dict[str, Any], str]] = [
    (OptionError("no such policy"), {}, "no such policy"),
    (PayloadTypeError("str is not bytes"), {}, "str is not bytes"),
    (
        PayloadTooLargeError("a payload", 9, 5),
        {"size_bytes": 9, "max_bytes": 5},
        "a payload of 9 bytes is larger than 5 bytes",
    ),
    (
        LSNOutOfRangeError(9, 2, 5),
        {"lsn": 9, "first_lsn": 2, "last_lsn": 5},
        "lsn 9 is out of range: the log holds 2 to 5",
    ),
    (
        EntryTruncatedError(9, 2, 5),
        {"lsn": 9, "first_lsn": 2, "last_lsn": 5},
        "entry 9 was truncated away; the log holds 2 to 5",
    ),
    (ClosedLogError("the log is closed"), {}, "the log is closed"),
    (ReadOnlyLogError("/a/log"), {"path": "/a/log"}, "/a/log is open for reading only"),
    (
        RefusedRecordsError(9, "the payload is damaged"),
        {"lsn": 9, "reason": "the payload is damaged"},
        "records were refused at lsn 9: the payload is damaged",
    ),
    (
        CommitTimeoutError(9, 0.25),
        {"lsn": 9, "timeout_s": 0.25},
        "lsn 9 is not known to be durable after 0.25 s; it may still become so",
    ),
    (
        NotALogError("/a/log", "it is a file", "name a directory"),
        {"path": "/a/log", "reason": "it is a file", "hint": "name a directory"},
        "/a/log is not a log: it is a file",
    ),
    (
        LogLockedError("/a/log"),
        {"path": "/a/log", "errno": errno.EWOULDBLOCK},
        "/a/log is open in another writer",
    ),
    (
        LogAccessError(errno.EACCES, "/a/log", "cannot open"),
        {"path": "/a/log", "what": "cannot open", "errno": errno.EACCES},
        "cannot open /a/log: Permission denied",
    ),
    (
        ReplicatedLogError("/a/log"),
        {"path": "/a/log"},
        "/a/log is the log of a node of a cluster: only that node writes to it",
    ),
    (
        UnsupportedFormatError("/a/log/meta", "format version 2"),
        {"path": "/a/log/meta"},
        "/a/log/meta: format version 2 is not known to this version of walstore",
    ),
    (
        CorruptLogError("/a/log/s.wal", 8192, 7, "bad checksum"),
        {"path": "/a/log/s.wal", "offset": 8192, "lsn": 7, "reason": "bad checksum"},
        "/a/log/s.wal is damaged at offset 8192 (lsn 7): bad checksum",
    ),
    (
        LogFullError(errno.ENOSPC, "/a/log"),
        {"path": "/a/log", "errno": errno.ENOSPC},
        "no space for /a/log: No space left on device",
    ),
    (
        LogPoisonedError(errno.EIO, "/a/log"),
        {"path": "/a/log", "errno": errno.EIO},
        "/a/log accepts nothing more after a failed write or sync: Input/output error",
    ),
]
EACH = pytest.mark.parametrize(
    ("error", "attributes", "words"), SAMPLES, ids=[type(row[0]).__name__ for row in SAMPLES]
)
ABSTRACT = {WALStoreError, LogOpenError}


def drawn() -> Iterator[tuple[str, list[str]]]:
    """(name, names of its bases) of each error in the tree that the module's docstring draws."""
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"((?:    )*)(\w+Error)(?: \((\w+)\))?(?:  |$)", line)
        if match:
            path = [*path[: len(match[1]) // 4], match[2]]
            yield match[2], [*path[-2:-1], *([match[3]] if match[3] else [])]


def classes() -> set[type[WALStoreError]]:
    return {
        value
        for _, value in inspect.getmembers(errors, inspect.isclass)
        if issubclass(value, WALStoreError)
    }


def test_the_tree_is_as_it_is_drawn() -> None:
    seen = dict(drawn())
    assert seen.keys() == {error.__name__ for error in classes()} == set(errors.__all__)
    for error in classes() - {WALStoreError}:
        assert [base.__name__ for base in error.__bases__] == seen[error.__name__], error


def test_there_is_a_sample_of_each() -> None:
    assert {type(error) for error, _, _ in SAMPLES} == classes() - ABSTRACT


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (OptionError, ValueError),
        (PayloadTypeError, TypeError),
        (PayloadTooLargeError, ValueError),
        (LSNOutOfRangeError, IndexError),
        (EntryTruncatedError, LSNOutOfRangeError),
        (ClosedLogError, ValueError),
        (CommitTimeoutError, TimeoutError),
        (LogLockedError, BlockingIOError),
        (LogAccessError, OSError),
        (LogFullError, OSError),
        (LogPoisonedError, OSError),
    ],
)
def test_callers_may_catch_what_python_would_have_raised(
    error: type[WALStoreError], builtin: type[Exception]
) -> None:
    assert issubclass(error, builtin)


@pytest.mark.parametrize("error", [CorruptLogError, NotALogError, UnsupportedFormatError])
def test_what_the_bytes_say_is_no_error_of_the_system(error: type[WALStoreError]) -> None:
    assert not issubclass(error, OSError)


def test_damage_is_not_caught_with_what_opening_refuses() -> None:
    assert not issubclass(CorruptLogError, LogOpenError)


@EACH
def test_an_error_carries_its_data(
    error: WALStoreError, attributes: dict[str, Any], words: str
) -> None:
    assert {name: getattr(error, name) for name in attributes} == attributes


@EACH
def test_an_error_says_what_happened(
    error: WALStoreError, attributes: dict[str, Any], words: str
) -> None:
    assert str(error) == words


@EACH
def test_a_hint_is_one_line_that_ends_without_a_stop(
    error: WALStoreError, attributes: dict[str, Any], words: str
) -> None:
    assert isinstance(error.hint, str)
    assert "\n" not in error.hint
    assert not error.hint.endswith(".")


@pytest.mark.parametrize(
    "error",
    [
        CorruptLogError,
        EntryTruncatedError,
        LogFullError,
        LogLockedError,
        LogPoisonedError,
        PayloadTooLargeError,
        PayloadTypeError,
        ReadOnlyLogError,
        UnsupportedFormatError,
    ],
)
def test_where_a_person_can_do_something_the_hint_says_what(error: type[WALStoreError]) -> None:
    assert error.hint


def test_the_hint_of_damage_forbids_writing_and_names_the_tool() -> None:
    assert "do not write" in CorruptLogError.hint
    assert "walstore verify" in CorruptLogError.hint


def test_an_empty_log_holds_no_entries() -> None:
    assert str(LSNOutOfRangeError(1, 1, 0)) == "lsn 1 is out of range: the log holds no entries"


@pytest.mark.parametrize(
    ("error", "attributes", "words"),
    SAMPLES,
    ids=[type(row[0]).__name__ for row in SAMPLES],
)
def test_an_error_survives_pickling(
    error: WALStoreError, attributes: dict[str, Any], words: str
) -> None:
    """A process pool hands errors over that way."""
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert str(again) == words
        assert {name: getattr(again, name) for name in attributes} == attributes
        assert again.hint == error.hint
