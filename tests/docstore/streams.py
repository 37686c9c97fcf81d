"""What the tests of change streams share: writing at random, and following what was changed."""

from __future__ import annotations

import random
from itertools import islice

from tests.docstore.sites import Contents
from walstore.docstore import ChangeStream, DocumentChange, DocumentStore


def take(changes: ChangeStream, count: int) -> list[DocumentChange]:
    """So many, which have been made already."""
    return list(islice(changes, count))


def follow(state: Contents, change: DocumentChange) -> None:
    """Does to a copy what a change says, and holds it to what it says there was before."""
    name, at = change.collection, repr(change.document_id)
    if change.operation == "drop":
        state.pop(name, None)  # it may have had an index alone
        return
    documents = state.setdefault(name, {})
    assert documents.get(at) == change.before
    if change.after is None:
        del documents[at]
    else:
        documents[at] = change.after
    assert (
        change.operation
        == {
            (False, True): "insert",
            (True, True): "update",
            (True, False): "delete",
        }[change.before is not None, change.after is not None]
    )


def filled(state: Contents) -> Contents:
    """Without the collections that have an index alone, or nothing."""
    return {name: documents for name, documents in state.items() if documents}


def write_some(store: DocumentStore, rng: random.Random, checkpoints: bool) -> None:
    """An operation or transaction, with whatever it meets."""
    name = rng.choice(("things", "others"))

    def one() -> None:
        collection = store[name]
        number = rng.randrange(20)
        match rng.randrange(6):
            case 0 | 1:
                collection.update_one({"_id": number}, {"$inc": {"n": 1}}, upsert=True)
            case 2:
                collection.update_many({"_id": {"$lt": number}}, {"$inc": {"n": 1}})
            case 3:
                collection.delete_one({"_id": number})
            case 4:
                collection.replace_one({"_id": number}, {"pad": "x" * rng.randrange(200)})
            case _:
                collection.delete_many({"_id": {"$gt": number}})

    kind = rng.randrange(20)
    if kind == 0:
        store[name].drop()
    elif kind == 1:
        store[name].create_index("n")
    elif kind < 8 and checkpoints:
        store.checkpoint()
    elif kind < 8:
        with store.transaction(concern="local"):
            for _ in range(rng.randrange(1, 5)):
                one()
    else:
        one()
