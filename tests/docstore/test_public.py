"""What `walstore.docstore` gives, and that its documentation tells the truth about it."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path

import pytest

from tests.helpers import ROOT
from walstore import WALStoreError, docstore
from walstore.docstore import errors

TEXT = (ROOT / "docs" / "docstore.md").read_text(encoding="utf-8")

SAMPLES: list[tuple[errors.DocumentStoreError, str]] = [
    (errors.InvalidDocumentError("a.b", "is odd", "mend it"), "a.b: is odd"),
    (errors.InvalidDocumentError("", "is a list"), "the document: is a list"),
    (errors.QueryError("filter 'a'", "is odd", "mend it"), "filter 'a': is odd"),
    (errors.NoSuchIndexError("things", "a_1", ["_id_"]), "collection 'things' has no index 'a_1'"),
    (errors.IndexExistsError("things", "a_1"), "collection 'things' has another index 'a_1'"),
    (
        errors.DuplicateKeyError("things", "a_1", {"a": 1}),
        "collection 'things' has {'a': 1} already (index 'a_1')",
    ),
    (errors.BulkWriteError(3, ValueError("no")), "operation 3 of bulk_write: no"),
    (errors.ConflictError("it was changed"), "it was changed"),
    (errors.OutcomeUnknownError("interrupted"), "interrupted"),
    (errors.TransactionError("not here"), "not here"),
    (errors.ClosedStoreError("closed"), "closed"),
    (errors.StoreLostError("lost"), "lost"),
    (errors.SnapshotError("/a/documents", "there is none"), "/a/documents: there is none"),
    (errors.HistoryError(3, "entry 3 is gone", "read anew"), "entry 3 is gone"),
    (
        errors.WaitTimeoutError(7, 5, 0.25),
        "entry 7 is not here after 0.25 s; the store is at 5",
    ),
]


def test_every_error_is_exported_and_sampled() -> None:
    assert set(errors.__all__) <= set(docstore.__all__)
    sampled = {type(error).__name__ for error, _text in SAMPLES}
    assert sampled | {"DocumentStoreError"} == set(errors.__all__)
    for name in errors.__all__:
        assert re.search(rf"^ +{name}\b", errors.__doc__ or "", re.M), f"{name} is not in the tree"


@pytest.mark.parametrize(("error", "text"), SAMPLES, ids=lambda item: str(item)[:30])
def test_an_error_says_what_happened_and_survives_copying(
    error: errors.DocumentStoreError, text: str
) -> None:
    assert str(error) == text
    assert isinstance(error, WALStoreError)
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert str(other) == text
        assert other.hint == error.hint
        assert vars(other).keys() == vars(error).keys()


def test_the_names_are_sorted_and_there() -> None:
    assert all(hasattr(docstore, name) for name in docstore.__all__)
    assert len(docstore.__all__) == len(set(docstore.__all__))


def test_the_example_of_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/docstore.md", "exec"), {})
    assert capsys.readouterr().out == "{'customer': 'ada', 'total': 25}\n"


def test_the_documentation_names_what_exists() -> None:
    for name in re.findall(r"`(\w+Error)`", TEXT):
        known = hasattr(docstore, name) or any(
            hasattr(module, name)
            for module in (__import__("walstore"), __import__("walstore.replication").replication)
        )
        assert known, name
