"""A store against plain dicts: random operations, transactions, checkpoints, reopening, crashes."""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.docstore.sites import Site, contents
from tests.helpers import seeded
from walstore.docstore import BulkWriteError, DocumentStore, DuplicateKeyError, InsertOne, UpdateOne

COLLECTIONS = ("things", "others")
IDS = 25
STEPS = 250

Documents = dict[Any, dict[str, Any]]


class Taken(Exception):
    """The model's own word for a key that is there already."""


class Model:
    """The same operations on dicts, as simply as can be. `u` is unique in "things"."""

    def __init__(self) -> None:
        self.collections: dict[str, Documents] = {name: {} for name in COLLECTIONS}
        self.unique = False

    def contents(self) -> dict[str, dict[str, Any]]:
        return {
            name: {repr(key): document for key, document in documents.items()}
            for name, documents in self.collections.items()
            if documents or (name == "things" and self.unique)
        }

    def put(self, name: str, document: dict[str, Any]) -> None:
        key = document["_id"]
        if name == "things" and self.unique:
            for other, held in self.collections[name].items():
                if other != key and held.get("u") == document.get("u"):
                    raise Taken
        self.collections[name][key] = copy.deepcopy(document)

    def insert(self, name: str, documents: list[dict[str, Any]]) -> None:
        for document in documents:
            if document["_id"] in self.collections[name]:
                raise Taken
            self.put(name, document)

    def matching(self, name: str, least: int) -> list[dict[str, Any]]:
        return [one for one in self.collections[name].values() if one.get("n", -1) >= least]

    def add(self, name: str, least: int, much: int) -> None:
        for document in self.matching(name, least):
            self.put(name, document | {"n": document["n"] + much})

    def set_unique(self, name: str, key: int, value: int) -> None:
        if key in self.collections[name]:
            self.put(name, self.collections[name][key] | {"u": value})

    def delete(self, name: str, least: int) -> None:
        for document in self.matching(name, least):
            del self.collections[name][document["_id"]]


Act = Callable[[Any], Any]


def some_document(rng: random.Random) -> dict[str, Any]:
    text = rng.choice(["x", "\U0001f600", "", "long" * 50])
    return {"_id": rng.randrange(IDS), "u": rng.randrange(60), "n": rng.randrange(10), "t": [text]}


def some_act(rng: random.Random) -> tuple[str, Act, Act]:
    """A name, and the same for the model and for the store."""
    name, least, much = rng.choice(COLLECTIONS), rng.randrange(3, 14), rng.randrange(-2, 3)
    documents = [some_document(rng) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    one = documents[0]
    kind = rng.choice(["insert", "insert", "insert", "add", "unique", "delete", "replace", "bulk"])
    if kind == "insert":
        return (
            kind,
            lambda model: model.insert(name, documents),
            lambda store: store[name].insert_many(documents),
        )
    if kind == "add":
        return (
            kind,
            lambda model: model.add(name, least, much),
            lambda store: store[name].update_many({"n": {"$gte": least}}, {"$inc": {"n": much}}),
        )
    if kind == "unique":
        return (
            kind,
            lambda model: model.set_unique(name, one["_id"], one["u"]),
            lambda store: store[name].update_one({"_id": one["_id"]}, {"$set": {"u": one["u"]}}),
        )
    if kind == "delete":
        return (
            kind,
            lambda model: model.delete(name, least),
            lambda store: store[name].delete_many({"n": {"$gte": least}}),
        )
    if kind == "replace":
        return (
            kind,
            lambda model: model.put(name, one),
            lambda store: store[name].replace_one({"_id": one["_id"]}, one, upsert=True),
        )
    return (
        kind,
        lambda model: (model.insert(name, [one]), model.set_unique(name, one["_id"], one["n"])),
        lambda store: store[name].bulk_write(
            [InsertOne(one), UpdateOne({"_id": one["_id"]}, {"$set": {"u": one["n"]}})]
        ),
    )


def both(model: Model, store: DocumentStore, acts: list[tuple[str, Act, Act]]) -> bool:
    """Does it to both, in one transaction where it is more than one; both must take it, or none."""
    before = copy.deepcopy(model.collections)
    try:
        for _name, act, _ in acts:
            act(model)
        taken = False
    except Taken:
        model.collections = before
        taken = True
    try:
        if len(acts) == 1:
            acts[0][2](store)
        else:
            with store.transaction():
                for _name, _, act in acts:
                    act(store)
        refused = False
    except (DuplicateKeyError, BulkWriteError):
        refused = True
    assert refused == taken, [name for name, _, _ in acts]
    return not taken


def check(model: Model, store: DocumentStore) -> None:
    assert contents(store) == model.contents()
    things = store["things"]
    for least in (4, 8):  # by the index, and without it
        asked = {"n": {"$gte": least}}
        by_index = things.find(asked, sort=[("n", 1), ("_id", 1)]).to_list()
        assert by_index == things.find(asked, sort=[("n", 1), ("_id", 1)], hint="_id_").to_list()
        assert len(by_index) == len(model.matching("things", least))


def test_a_store_is_what_the_model_is(site: Site, tmp_path: Path) -> None:
    rng = seeded(f"model on {site.kind}")
    store = site.open(checkpoint_bytes=8000)
    model, done = Model(), Counter[str]()
    for step in range(STEPS):
        chance = rng.random()
        if step == STEPS // 2 or chance < (0.03 if site.kind == "file" else 0.005):
            store = site.reopen(checkpoint_bytes=8000)  # a node takes long
            done["reopened"] += 1
        elif chance < 0.06:
            store.checkpoint()
            done["checkpoints"] += 1
        elif chance < 0.10 and site.kind == "file":
            crashed = site.crashed(tmp_path / f"crash-{step}")
            assert contents(crashed.open()) == model.contents()
            crashed.close()
            done["crashes"] += 1
        elif chance < 0.13:
            if not model.unique:
                values = [one.get("u") for one in model.collections["things"].values()]
                if len(set(values)) == len(values):
                    store["things"].create_index("u", unique=True)
                    store["things"].create_index([("n", 1), ("_id", 1)])
                    model.unique = True
            else:
                for name in ("u_1", "n_1__id_1"):
                    store["things"].drop_index(name)
                model.unique = False
            done["indexes"] += 1
        else:
            acts = [some_act(rng) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
            done["taken" if both(model, store, acts) else "refused"] += 1
            done["transactions"] += len(acts) > 1
        assert contents(store) == model.contents(), step
        if model.unique:
            check(model, store)
    print(dict(done))
    assert done["taken"] >= STEPS // 4
    assert done["refused"] >= 10
    assert done["transactions"] >= 30
    assert done["reopened"] >= 1
