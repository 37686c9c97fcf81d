"""Updates, operator by operator."""

from __future__ import annotations

import copy
import math
import re
from typing import Any

import pytest

from walstore.docstore.errors import InvalidDocumentError, QueryError
from walstore.docstore.update import compile_update, replaced

# before, update, after; the _id is added to both.
CASES: dict[str, tuple[Any, Any, Any]] = {
    "$set": ({"a": 1}, {"$set": {"a": 2, "b": [1]}}, {"a": 2, "b": [1]}),
    "$set deep": ({}, {"$set": {"a.b.c": 1}}, {"a": {"b": {"c": 1}}}),
    "$set beside": ({"a": {"b": 1}}, {"$set": {"a.c": 2}}, {"a": {"b": 1, "c": 2}}),
    "$set element": ({"a": [1, 2]}, {"$set": {"a.1": 9}}, {"a": [1, 9]}),
    "$set behind the end": ({"a": [1]}, {"$set": {"a.3": 9}}, {"a": [1, None, None, 9]}),
    "$set in an element": ({"a": [{"b": 1}]}, {"$set": {"a.0.b": 2}}, {"a": [{"b": 2}]}),
    "$set new element": ({"a": []}, {"$set": {"a.0.b": 2}}, {"a": [{"b": 2}]}),
    "$set number as a key": ({"a": {}}, {"$set": {"a.0": 2}}, {"a": {"0": 2}}),
    "$set twice": ({}, {"$set": {"a.b": 1, "a.c": 2}}, {"a": {"b": 1, "c": 2}}),
    "$setOnInsert": ({}, {"$setOnInsert": {"a": 1}}, {}),
    "$unset": ({"a": 1, "b": 2}, {"$unset": {"a": "", "c": 1}}, {"b": 2}),
    "$unset deep": ({"a": {"b": 1, "c": 2}}, {"$unset": {"a.b": ""}}, {"a": {"c": 2}}),
    "$unset no element": ({"a": [1, 2]}, {"$unset": {"a.01": ""}}, {"a": [1, 2]}),
    "$set element 0": ({"a": [1, 2]}, {"$set": {"a.0": 3}}, {"a": [3, 2]}),
    "$set key with a 0 in front": ({"a": {}}, {"$set": {"a.01": 2}}, {"a": {"01": 2}}),
    "$unset element": ({"a": [1, 2]}, {"$unset": {"a.0": ""}}, {"a": [None, 2]}),
    "$unset nothing": ({"a": 1}, {"$unset": {"a.b.c": ""}}, {"a": 1}),
    "$inc": ({"a": 1}, {"$inc": {"a": 2}}, {"a": 3}),
    "$inc float": ({"a": 1}, {"$inc": {"a": 0.5}}, {"a": 1.5}),
    "$inc missing": ({}, {"$inc": {"a.b": -2}}, {"a": {"b": -2}}),
    "$mul": ({"a": 3}, {"$mul": {"a": 2}}, {"a": 6}),
    "$mul missing": ({}, {"$mul": {"a": 2}}, {"a": 0}),
    "$mul missing float": ({}, {"$mul": {"a": 2.5}}, {"a": 0.0}),
    "$min less": ({"a": 5}, {"$min": {"a": 3}}, {"a": 3}),
    "$min not less": ({"a": 2}, {"$min": {"a": 3}}, {"a": 2}),
    "$min missing": ({}, {"$min": {"a": 3}}, {"a": 3}),
    "$min of types": ({"a": "x"}, {"$min": {"a": 3}}, {"a": 3}),
    "$max": ({"a": 2}, {"$max": {"a": 3}}, {"a": 3}),
    "$max not": ({"a": 5}, {"$max": {"a": 3}}, {"a": 5}),
    "$rename": ({"a": 1, "b": 2}, {"$rename": {"a": "c.d"}}, {"b": 2, "c": {"d": 1}}),
    "$rename over": ({"a": 1, "b": 2}, {"$rename": {"a": "b"}}, {"b": 1}),
    "$rename nothing": ({"b": 2}, {"$rename": {"a": "b"}}, {"b": 2}),
    "$push": ({"a": [1]}, {"$push": {"a": 2}}, {"a": [1, 2]}),
    "$push new": ({}, {"$push": {"a.b": 2}}, {"a": {"b": [2]}}),
    "$push a list": ({"a": [1]}, {"$push": {"a": [2, 3]}}, {"a": [1, [2, 3]]}),
    "$push a dict": ({"a": []}, {"$push": {"a": {"b": 1}}}, {"a": [{"b": 1}]}),
    "$push $each": ({"a": [1]}, {"$push": {"a": {"$each": [2, 3]}}}, {"a": [1, 2, 3]}),
    "$push $position": (
        {"a": [1, 2]},
        {"$push": {"a": {"$each": [8, 9], "$position": 1}}},
        {"a": [1, 8, 9, 2]},
    ),
    "$push $slice": (
        {"a": [1, 2]},
        {"$push": {"a": {"$each": [3], "$slice": -2}}},
        {"a": [2, 3]},
    ),
    "$push $slice first": (
        {"a": [1, 2]},
        {"$push": {"a": {"$each": [3], "$slice": 1}}},
        {"a": [1]},
    ),
    "$push $sort": (
        {"a": [3, "x", 1]},
        {"$push": {"a": {"$each": [2, None], "$sort": 1}}},
        {"a": [None, 1, 2, 3, "x"]},
    ),
    "$push $sort down": (
        {"a": [1, 3]},
        {"$push": {"a": {"$each": [2], "$sort": -1}}},
        {"a": [3, 2, 1]},
    ),
    "$push $sort by fields": (
        {"a": [{"n": 2, "b": {"c": 1}}, {"n": 1, "b": {"c": 5}}, 7]},
        {"$push": {"a": {"$each": [{"n": 1, "b": {"c": 9}}, {}], "$sort": {"n": 1, "b.c": -1}}}},
        {"a": [7, {}, {"n": 1, "b": {"c": 9}}, {"n": 1, "b": {"c": 5}}, {"n": 2, "b": {"c": 1}}]},
    ),
    "$push $sort then $slice": (
        {"a": [{"n": 2}, {"n": 9}]},
        {"$push": {"a": {"$each": [{"n": 5}], "$sort": {"n": -1}, "$slice": 2, "$position": 0}}},
        {"a": [{"n": 9}, {"n": 5}]},
    ),
    "$push $sort of what is there": (
        {"a": [2, [1], 1]},
        {"$push": {"a": {"$each": [], "$sort": 1}}},
        {"a": [1, 2, [1]]},
    ),
    "$push $sort keeps equal ones": (
        {"a": [{"n": 1, "x": 1}, {"n": 1, "x": 2}]},
        {"$push": {"a": {"$each": [{"n": 1.0, "x": 3}], "$sort": {"n": -1}}}},
        {"a": [{"n": 1, "x": 1}, {"n": 1, "x": 2}, {"n": 1.0, "x": 3}]},
    ),
    "$addToSet": ({"a": [1]}, {"$addToSet": {"a": 2}}, {"a": [1, 2]}),
    "$addToSet known": ({"a": [1]}, {"$addToSet": {"a": 1.0}}, {"a": [1]}),
    "$addToSet true": ({"a": [1]}, {"$addToSet": {"a": True}}, {"a": [1, True]}),
    "$addToSet $each": (
        {"a": [{"b": 1}]},
        {"$addToSet": {"a": {"$each": [{"b": 1}, {"b": 2}, {"b": 2}]}}},
        {"a": [{"b": 1}, {"b": 2}]},
    ),
    "$pull": ({"a": [1, 2, 1]}, {"$pull": {"a": 1}}, {"a": [2]}),
    "$pull operators": ({"a": [1, 5, 9]}, {"$pull": {"a": {"$gte": 5}}}, {"a": [1]}),
    "$pull dicts": (
        {"a": [{"b": 1, "c": 2}, {"b": 2}]},
        {"$pull": {"a": {"b": 1}}},
        {"a": [{"b": 2}]},
    ),
    "$pull dicts, not lists": (
        {"a": [[1], {"0": 1}, 1]},
        {"$pull": {"a": {"0": 1}}},
        {"a": [[1], 1]},
    ),
    "$pull a list": ({"a": [[1], 1]}, {"$pull": {"a": [1]}}, {"a": [1]}),
    "$pull pattern": ({"a": ["x", "y"]}, {"$pull": {"a": re.compile("x")}}, {"a": ["y"]}),
    "$pull nothing": ({"b": 1}, {"$pull": {"a": 1}}, {"b": 1}),
    "several operators": (
        {"a": 1, "b": [1]},
        {"$inc": {"a": 1}, "$push": {"b": 2}, "$unset": {"c": ""}},
        {"a": 2, "b": [1, 2]},
    ),
    "the same _id": ({}, {"$set": {"_id": 7}}, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str) -> None:
    before, update, after = CASES[name]
    document = {"_id": 7, **before}
    kept = copy.deepcopy(document)
    changed = compile_update(update).applied(document)
    assert changed == {"_id": 7, **after}
    assert repr(changed["_id"]) == "7"
    assert document == kept, "the old document was changed in place"


def test_what_is_set_is_not_shared_between_documents() -> None:
    update = compile_update({"$set": {"a": [1]}, "$push": {"b": {"c": [2]}}})
    one, two = update.applied({"_id": 1}), update.applied({"_id": 2})
    one["a"].append(9)
    one["b"][0]["c"].append(9)
    assert two == {"_id": 2, "a": [1], "b": [{"c": [2]}]}


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        ({}, "is a dict of operators"),
        ([{"$set": {"a": 1}}], "is a dict of operators"),
        ({"a": 1}, "'a' is no operator"),
        ({"$bit": {"a": 1}}, "unknown operator '$bit'"),
        ({"$set": 1}, "takes a dict of fields"),
        ({"$set": {"a": 1}, "$inc": {"a": 1}}, "a and a are both changed"),
        ({"$set": {"a.b": 1, "a": 1}}, "are both changed"),
        ({"$rename": {"a": "a.b"}}, "are both changed"),
        ({"$rename": {"a": 1}}, "a field is named by a str"),
        ({"$set": {"a.$": 1}}, "no part of a path begins with $"),
        ({"$set": {"a.$[x].b": 1}}, "no part of a path begins with $"),
        ({"$set": {"": 1}}, "is not a path"),
        ({"$set": {"a": 2**63}}, "does not fit into 64 bits"),
        ({"$set": {"a": {"$b": 1}}}, "cannot begin with $"),
        ({"$inc": {"a": "1"}}, "'1' is not a number"),
        ({"$inc": {"a": True}}, "True is not a number"),
        ({"$mul": {"a": None}}, "None is not a number"),
        ({"$push": {"a": {"$each": 1}}}, "$each takes a list"),
        ({"$push": {"a": {"$each": [], "$sort": 2}}}, "$sort takes 1, -1, or a dict"),
        ({"$push": {"a": {"$each": [], "$sort": True}}}, "$sort takes 1, -1, or a dict"),
        ({"$push": {"a": {"$each": [], "$sort": {}}}}, "$sort takes 1, -1, or a dict"),
        ({"$push": {"a": {"$each": [], "$sort": {"b": 2}}}}, "nor a list of (field, 1 or -1)"),
        ({"$push": {"a": {"$sort": 1}}}, "$each takes a list"),
        ({"$push": {"a": {"$each": [], "$sorted": 1}}}, "unknown modifier '$sorted'"),
        ({"$push": {"a": {"$each": [], "$slice": 1.5}}}, "$slice takes a whole number"),
        ({"$addToSet": {"a": {"$each": [], "$slice": 1}}}, "unknown modifier '$slice'"),
        ({"$pull": {"a": {"$foo": 1}}}, "unknown operator '$foo'"),
    ],
    ids=str,
)
def test_an_update_that_makes_no_sense_is_refused(update: Any, reason: str) -> None:
    with pytest.raises(QueryError, match=re.escape(reason)):
        compile_update(update)


@pytest.mark.parametrize(
    ("before", "update", "reason"),
    [
        ({"a": "x"}, {"$inc": {"a": 1}}, "'x' is not a number"),
        ({"a": None}, {"$inc": {"a": 1}}, "None is not a number"),
        ({"a": True}, {"$mul": {"a": 1}}, "True is not a number"),
        ({"a": 1}, {"$push": {"a": 1}}, "1 is not a list"),
        ({"a": {}}, {"$addToSet": {"a": 1}}, "{} is not a list"),
        ({"a": "x"}, {"$pull": {"a": 1}}, "'x' is not a list"),
        ({"a": 1}, {"$set": {"a.b": 1}}, "a is 1, which has no field 'b'"),
        ({"a": [1]}, {"$set": {"a.b": 1}}, "a list has no field 'b'"),
        ({"a": [1, 2]}, {"$set": {"a.01": 3}}, "a list has no field '01'"),
        ({"a": [1, 2]}, {"$set": {"a.\u0661": 3}}, "a list has no field '\u0661'"),
        ({"a": [1, {}]}, {"$set": {"a.01.b": 3}}, "a list has no field '01'"),
        ({"a": [1]}, {"$set": {"a.0.b": 1}}, "a.0 is 1, which has no field 'b'"),
        ({"a": []}, {"$set": {"a.9999999999": 1}}, "far behind the end"),
        ({"a": [{"b": 1}]}, {"$rename": {"a.0.b": "c"}}, "leads through a list"),
        ({}, {"$set": {"_id": 8}}, "_id 7 would become 8"),
        ({}, {"$set": {"_id": 7.0}}, "_id 7 would become 7.0"),
        ({}, {"$inc": {"_id": 0.0}}, "_id 7 would become 7.0"),
        ({}, {"$unset": {"_id": ""}}, "_id 7 would become MISSING"),
    ],
    ids=str,
)
def test_an_update_that_does_not_fit_the_document(before: Any, update: Any, reason: str) -> None:
    compiled = compile_update(update)
    document = {"_id": 7, **before}
    kept = copy.deepcopy(document)
    with pytest.raises(QueryError, match=re.escape(reason)):
        compiled.applied(document)
    assert document == kept


@pytest.mark.parametrize(
    ("before", "update"),
    [
        ({"a": 2**63 - 1}, {"$inc": {"a": 1}}),
        ({"a": 2**62}, {"$mul": {"a": -4}}),
        ({"a": math.inf}, {"$inc": {"a": -math.inf}}),
    ],
    ids=str,
)
def test_an_outcome_that_cannot_be_stored_is_refused(before: Any, update: Any) -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        compile_update(update).applied({"_id": 7, **before})
    assert caught.value.path == "a"


def test_set_on_insert_counts_when_inserting() -> None:
    update = compile_update({"$setOnInsert": {"a": 1}, "$set": {"b": 2}})
    assert update.applied({"_id": 1}, inserting=True) == {"_id": 1, "b": 2, "a": 1}


def test_replacements() -> None:
    old = {"_id": 7, "a": 1}
    assert replaced(old, {"b": 2}) == {"_id": 7, "b": 2}
    assert replaced(old, {"_id": 7, "b": 2}) == {"_id": 7, "b": 2}
    with pytest.raises(QueryError, match="_id 7 would become 8"):
        replaced(old, {"_id": 8})
    with pytest.raises(QueryError, match=r"_id 7 would become 7\.0"):
        replaced(old, {"_id": 7.0})
    with pytest.raises(QueryError, match=r"_id 0\.0 would become -0\.0"):
        replaced({"_id": 0.0}, {"_id": -0.0})
    with pytest.raises(QueryError, match=re.escape("holds operator '$set'")):
        replaced(old, {"$set": {"a": 1}})
    with pytest.raises(InvalidDocumentError, match="is a list"):
        replaced(old, [])
