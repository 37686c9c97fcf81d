"""Each command is applied once, wherever and however often it is in the log: beside a model."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.crash.settings import scaled
from tests.helpers import seeded
from walstore import UnsupportedFormatError
from walstore.cluster.client_session import ClientSession
from walstore.cluster.commands import Command, decode_command, encode_command
from walstore.cluster.sessions import SESSIONS_MAX, WINDOW, Outcome, Sessions
from walstore.limits import LSN_MAX
from walstore.replication.requests import Ask, Status

HISTORIES = scaled(300)
ENTRIES = 300


class Model:
    """The rules of docs/machines.md, as they are written there: every session that ever was, and
    every command that was ever applied."""

    def __init__(self, sessions_max: int, bytes_max: int) -> None:
        self._sessions_max = sessions_max
        self._bytes_max = bytes_max
        self.used: dict[int, int] = {}  # of each open session the last entry
        self.answered: dict[int, int] = {}
        self.results: dict[tuple[int, int], Outcome] = {}

    def _size(self) -> int:
        return sum(
            len(outcome.data)
            for (session, sequence), outcome in self.results.items()
            if session in self.used and sequence >= self.answered[session]
        )

    def _make_room(self) -> None:
        while len(self.used) > self._sessions_max or (
            self._size() > self._bytes_max and len(self.used) > 1
        ):
            del self.used[min(self.used, key=self.used.__getitem__)]

    def take(self, lsn: int, command: Command) -> Outcome:
        session, sequence = command.session, command.sequence
        if command.ask is Ask.OPEN:
            self.used[lsn], self.answered[lsn] = lsn, 1
        elif command.ask is Ask.CLOSE:
            self.used.pop(session, None)
        elif session not in self.used:
            return Outcome(Status.EXPIRED, lsn)
        else:
            self.used[session] = lsn
            self.answered[session] = max(self.answered[session], command.answered)
            outcome = self._command(lsn, session, sequence, command)
            self._make_room()
            return outcome
        self._make_room()
        return Outcome(Status.DONE, lsn)

    def _command(self, lsn: int, session: int, sequence: int, command: Command) -> Outcome:
        if sequence < self.answered[session]:
            return Outcome(Status.FORGOTTEN, lsn)
        if (session, sequence) in self.results:
            return self.results[session, sequence]
        if sequence >= self.answered[session] + WINDOW:
            return Outcome(Status.BEYOND, lsn)
        made = applied(lsn, command)
        self.results[session, sequence] = made
        return made


def applied(lsn: int, command: Command) -> Outcome:
    status = Status.REFUSED if command.data.startswith(b"no") else Status.DONE
    return Outcome(status, lsn, b"%d:" % lsn + command.data)


class Senders:
    """Clients whose commands get into a log in any order, again and again."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._sessions: list[ClientSession] = []
        self._open: list[tuple[ClientSession, int]] = []
        self._sent: list[Command] = [Command(Ask.OPEN, 0, 1)]

    def next(self, lsn: int) -> Command:
        rng = self._rng
        choice = rng.random()
        if choice < 0.05 or not self._sessions:
            self._sessions.append(ClientSession(lsn))
            return self._keep(Command(Ask.OPEN, 0, rng.randint(1, LSN_MAX)))
        if choice < 0.35:
            return rng.choice(self._sent)  # once more
        if choice < 0.4:
            wild = rng.choice((0, WINDOW - 1, WINDOW, LSN_MAX - 2000)) + rng.randint(0, 2)
            return Command(Ask.COMMAND, rng.choice(self._sessions).number, 1 + wild, 1, b"wild")
        session = rng.choice(self._sessions[-8:])
        if choice < 0.42:
            return self._keep(Command(Ask.CLOSE, session.number, rng.randint(1, LSN_MAX)))
        while self._open and (session.full or rng.random() < 0.5):
            other, sequence = self._open.pop(rng.randrange(len(self._open)))
            other.end(sequence)
        if session.full:
            return rng.choice(self._sent)
        sequence = session.begin()
        self._open.append((session, sequence))
        data = rng.choice((b"no", b"yes")) * rng.randint(0, 20)
        return self._keep(Command(Ask.COMMAND, session.number, sequence, session.answered, data))

    def _keep(self, command: Command) -> Command:
        self._sent.append(command)
        return command


def test_random_histories_beside_a_model() -> None:
    rng = seeded("sessions")
    counts: Counter[str] = Counter()
    for _ in range(HISTORIES):
        sessions_max, bytes_max = rng.choice((1, 3, 20)), rng.choice((100, 1000, 1 << 20))
        table, model = Sessions(sessions_max, bytes_max), Model(sessions_max, bytes_max)
        senders = Senders(rng)
        first: dict[tuple[int, int, int], Outcome] = {}
        for lsn in range(1, ENTRIES):
            command = senders.next(lsn)
            ran: list[int] = []

            def apply(lsn: int = lsn, command: Command = command, ran: list[int] = ran) -> Outcome:
                ran.append(lsn)
                return applied(lsn, command)

            outcome = table.take(lsn, command, apply)
            assert outcome == model.take(lsn, command), (lsn, command)
            if command.ask is Ask.COMMAND and (ran or outcome.status <= Status.REFUSED):
                assert first.setdefault(command.key, outcome) == outcome
                assert not ran or outcome.lsn == lsn, "applied twice"
            counts[outcome.status.name if ran or outcome.lsn == lsn else "AGAIN"] += 1
            assert len(table) == len(model.used) <= sessions_max
            assert table.size_bytes == model._size()
            if rng.random() < 0.02:  # a snapshot
                copy = Sessions(sessions_max, bytes_max)
                copy.load(table.encode())
                assert copy.encode() == table.encode()
                table = copy
                counts["snapshots"] += 1
    print(dict(counts))
    for kind in ("DONE", "REFUSED", "EXPIRED", "FORGOTTEN", "BEYOND", "AGAIN", "snapshots"):
        assert counts[kind] >= HISTORIES, kind


def test_an_open_that_is_there_twice_opens_two() -> None:
    """So no copy of it, however late, brings back a number under which a command was applied."""
    table = Sessions(1)
    command = Command(Ask.OPEN, 0, 7)
    assert table.take(1, command, pytest.fail).lsn == 1
    work = Command(Ask.COMMAND, 1, 1, 1, b"x")
    assert table.take(2, work, lambda: applied(2, work)).status is Status.DONE
    assert table.take(3, command, pytest.fail).lsn == 3
    assert table.take(4, work, pytest.fail).status is Status.EXPIRED


def test_who_is_used_stays() -> None:
    """As many others as there may be come, and the one that goes on is open all the time."""
    table = Sessions()
    table.take(1, Command(Ask.OPEN, 0, 1), pytest.fail)
    for number in range(1, SESSIONS_MAX + 100):
        table.take(2 * number, Command(Ask.OPEN, 0, number), pytest.fail)
        lsn = 2 * number + 1
        work = Command(Ask.COMMAND, 1, number, number, b"x")
        assert table.take(lsn, work, lambda lsn=lsn, work=work: applied(lsn, work)).lsn == lsn  # type: ignore[misc]
    assert len(table) == SESSIONS_MAX


def test_a_client_has_a_window_under_way() -> None:
    session = ClientSession(5)
    sequences = [session.begin() for _ in range(WINDOW)]
    assert sequences == [*range(1, WINDOW + 1)]
    assert session.full
    session.end(2)
    assert (session.full, session.answered) == (True, 1)
    session.end(1)
    assert (session.full, session.answered) == (False, 3)
    assert session.begin() == WINDOW + 1
    assert not session.full


def test_any_bytes_are_a_command_or_are_refused() -> None:
    rng = seeded("entries of machines")
    good = encode_command(Command(Ask.COMMAND, 9, 8, 7, b"data"))
    taken = refused = 0
    for _ in range(20_000):
        data = bytearray(good[: rng.choice((len(good), rng.randrange(len(good) + 1)))])
        for _ in range(rng.randrange(3)):
            if data:
                data[rng.randrange(len(data))] = rng.choice((0, 1, 2, 3, 4, 128, 255))
        try:
            command = decode_command("log", 1, bytes(data))
        except UnsupportedFormatError:
            refused += 1
        else:
            assert encode_command(command) == data
            taken += 1
    print(f"taken={taken} refused={refused}")
    assert min(taken, refused) >= 1000


def test_what_an_entry_holds() -> None:
    for command in (
        Command(Ask.OPEN, 0, LSN_MAX),
        Command(Ask.COMMAND, 9, 8, 7, b"data"),
        Command(Ask.CLOSE, 9, 1),
    ):
        assert decode_command("log", 1, encode_command(command)) == command
    good = encode_command(Command(Ask.COMMAND, 9, 8, 7, b"data"))
    for bad in (
        b"\2" + good[1:],  # a newer version
        good[:1] + b"\4" + good[2:],
        good[:2] + b"\1" + good[3:],
        good[:15] + b"\x80" + good[16:],
        good[:31],
        b"",
    ):
        with pytest.raises(UnsupportedFormatError, match="the command of entry 3 is not known"):
            decode_command("log", 3, bad)
