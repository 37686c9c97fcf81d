"""The log of a node as its core is told of it: the term of each entry, whatever was refused."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from tests.helpers import run_child, seeded
from walstore.replication.runs import Terms


def append(terms: Terms, held: list[int], more: list[int]) -> None:
    """Entries of these terms are appended, and noted as runs."""
    first_lsn = len(held) + 1
    runs = [
        (lsn, term)
        for lsn, term in enumerate(more, first_lsn)
        if lsn == first_lsn or more[lsn - first_lsn - 1] != term
    ]
    terms.note(runs)
    held += more


def grown(rng: random.Random, held: list[int]) -> list[int]:
    """Terms of entries that may come next."""
    term = held[-1] if held else 1
    return [term := term + rng.choice((0, 0, 1)) for _ in range(rng.randint(1, 6))]


def test_terms_against_a_list() -> None:
    """Also where the disk had no space for entries that were noted, or for the last of them, and
    another leader's came in their place."""
    rng = seeded("terms")
    counts = Counter[str]()
    for _ in range(300):
        held = grown(rng, [])
        old = list(held)
        terms = Terms(len(held) + 1, lambda lsn, old=old: old[lsn - 1])  # type: ignore[misc]
        for _ in range(12):
            what = rng.choice(("append", "refused", "cut"))
            append(terms, held, grown(rng, held))
            gone = rng.randint(1, max(1, len(held) - len(old)))
            if what == "cut":
                terms.cut(len(held) - gone)
            if what != "append":
                del held[-gone:]
            counts[what] += 1
            assert [terms.of(lsn) for lsn in range(1, len(held) + 1)] == held
    print(dict(counts))
    assert min(counts.values()) > 500


NO_SPACE = """
    import resource, sys
    from tests.native.twin import Record
    from tests.wal.replicas import records_of, replicated
    from walstore import LogFullError
    from walstore.replication.log import NodeLog
    log = replicated(sys.argv[1], segment_bytes=16384)
    node = NodeLog(log)
    node.submit_records(records_of(Record(1, payload=b"x")))
    node.adopt_term(9)
    first = Record(2, term=3, payload=b"x")
    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    limit(20000)
    try:
        node.submit_records(records_of(first, Record(3, term=5, payload=b"x" * 40000), prev_term=1))
    except LogFullError:
        limit(resource.RLIM_INFINITY)
    print(node.last_lsn, node.term_of(2))
    node.submit_records(records_of(Record(3, term=7, payload=b"y"), prev_term=3))
    print(node.last_lsn, [node.term_of(lsn) for lsn in (1, 2, 3)])
    log.close()
"""


def test_what_a_full_disk_took_in_part_is_known(tmp_path: Path) -> None:
    """Of records that did not all find space the first ones are there, with their terms: taken
    for others, they would be cut away as foreign, or keep the node from following."""
    lines = run_child(NO_SPACE, tmp_path / "log").splitlines()
    assert lines == ["2 3", "3 [1, 3, 7]"]
