"""Runs the check again in states that the crash lab has saved.

python -m walstore.testing DIR...
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from walstore.testing.forked import story_of
from walstore.testing.lab import ask
from walstore.testing.reference import receive
from walstore.testing.story import Case, replay_each


def replay(place: Path) -> bool:
    """Tells the story of a state; returns whether the check passes in it now."""
    case = Case.load(place)
    print(case.tell(place))
    _, check = receive(case.functions)
    if not case.repeatable:
        print(f"\n{case.problem}\n{case.details}")
    with tempfile.TemporaryDirectory() as folder:
        try:
            ask(check, case, place, Path(folder))
        except (Exception, SystemExit) as error:  # whatever the check raises
            print(f"\n{story_of(error)}")
            return False
    print("\nthe check passes now")
    return True


if __name__ == "__main__":
    sys.exit(replay_each(replay, sys.argv[1:], __doc__))
