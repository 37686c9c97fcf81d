"""Where nodes are reached: which address holds, and that the others find a node that has moved."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers import seeded
from tests.raft.conftest import elected  # noqa: F401
from tests.raft.elected import Elected
from tests.replication.networks import Net
from tests.replication.nodes import Cluster, free_ports, until
from tests.replication.proxy import Proxy
from walstore import OptionError
from walstore.replication import ReplicationMessage, ReplicationWALManager
from walstore.replication.addresses import ADDRESSES_MAX, AddressBook
from walstore.replication.addressing import ADDRESSES_NAME, Addressing, advertised_url
from walstore.replication.message import Address, Addresses, decode, encode

pytestmark = pytest.mark.timeout(120)


# ---- the book ----


def test_the_newest_address_holds_in_any_order() -> None:
    told = [Address("a", stamp, f"ws://h:{stamp}") for stamp in (1, 2, 3)]
    for order in itertools.permutations(told):
        book = AddressBook("b")
        for address in order:
            book.merge([address, address])
        assert book.url_of("a") == "ws://h:3"
        assert not book.merge(told)
    assert book.url_of("nobody") is None


def test_an_address_is_counted_when_it_changes_only() -> None:
    book = AddressBook("a")
    for url, stamp in (("ws://h:1", 1), ("ws://h:1", 1), ("ws://h:2", 2), ("ws://h:1", 3)):
        book.announce(url)
        assert book.told() == (Address("a", stamp, url),)
        book = AddressBook("a", book.encode())


def test_who_has_lost_its_book_still_tells_the_newest_address() -> None:
    other = AddressBook("b")
    other.merge([Address("a", 7, "ws://old:1")])
    book = AddressBook("a")
    book.announce("ws://new:1")
    assert book.merge(other.told())
    assert other.merge(book.told())
    assert other.url_of("a") == "ws://new:1"


def test_any_gossip_ends_with_equal_books() -> None:
    rng, names = seeded("gossip"), "abcde"
    for turn in range(200):
        books = {name: AddressBook(name) for name in names}
        for step in range(30):
            name, other = rng.sample(names, 2)
            match rng.randrange(3):
                case 0:
                    books[name].announce(f"ws://{turn}:{step}")
                case 1:
                    books[name] = AddressBook(name)  # its disk was lost
                case _:
                    books[name].merge(books[other].told())
        for name in names:
            books[name].announce(f"ws://last:{ord(name)}")
        for _ in range(3):
            for name, other in itertools.permutations(names, 2):
                books[name].merge(books[other].told())
        assert {frozenset(book.told()) for book in books.values()} == {frozenset(books["a"].told())}
        assert {books["a"].url_of(name) for name in names} == {
            f"ws://last:{ord(name)}" for name in names
        }


def test_a_book_is_bounded_and_a_damaged_file_is_an_empty_one() -> None:
    book = AddressBook("a")
    book.merge(Address(f"n{number}", 1, "ws://h:1") for number in range(ADDRESSES_MAX + 9))
    assert len(book.known) == ADDRESSES_MAX
    data = book.encode()
    assert AddressBook("a", data).known == book.known
    assert not AddressBook("a", data).damaged
    for bad in (data[:-1], data + b" ", b"x"):
        assert AddressBook("a", bad).damaged
        assert not AddressBook("a", bad).known


def test_no_stamp_keeps_a_node_from_being_found() -> None:
    """Whatever others tell of it: it is believed itself, also when it has moved, or lost its
    book."""
    u63_max = (1 << 63) - 1
    for stamp in ((1 << 62) - 2, (1 << 62) - 1, 1 << 62, u63_max - 1, u63_max):
        evil = Address("a", stamp, "ws://zzz:1")
        book, other = AddressBook("a"), AddressBook("b")
        book.announce("ws://h:1")
        other.merge(book.told(), "a")
        assert other.merge([evil], "e") == (stamp < 1 << 62)
        book.merge([evil], "e")
        for url in ("ws://h:1", "ws://h:2", "ws://a:2"):
            book.announce(url)
            for _ in range(2):
                book.merge(other.told(), "b")
                other.merge(book.told(), "a")
            assert other.url_of("a") == url
            (own,) = book.told()
            assert own.url == url
            message = ReplicationMessage("a", "b", 1, 1, 1, bytes(16), Addresses((own,)))
            assert decode(encode(message)) == message
            book = AddressBook("a")  # its disk was lost


def test_a_full_book_has_room_for_members() -> None:
    """And for who tells of itself; strangers do not take turns in two full books."""
    book, other = AddressBook("a"), AddressBook("b")
    book.announce("ws://a:1")
    for each, prefix in ((book, "x"), (other, "y")):
        each.merge(Address(f"{prefix}{n}", 1, "ws://h:1") for n in range(ADDRESSES_MAX))
        assert len(each.known) == ADDRESSES_MAX
    assert not book.merge([Address("new", 1, "ws://new:1")], "b", {"a"})
    assert not book.merge(other.told(), "b", {"a"})
    assert book.merge([Address("new", 1, "ws://new:1")], "new", {"a"})
    assert book.merge([Address("c", 1, "ws://c:1"), Address("d", 1, "ws://d:1")], "b",
                      {*"acd"} | {"new"})  # fmt: skip
    assert {name: book.url_of(name) for name in ("a", "c", "d", "new")} == {
        "a": "ws://a:1", "c": "ws://c:1", "d": "ws://d:1", "new": "ws://new:1"
    }  # fmt: skip
    assert len(book.known) == ADDRESSES_MAX
    members = {f"m{n}" for n in range(ADDRESSES_MAX)}
    full = AddressBook("a")
    full.merge((Address(name, 1, "ws://m:1") for name in members), "b", members)
    assert not full.merge([Address("new", 1, "ws://new:1")], "new", members)


def test_nobody_is_told_of_clients() -> None:
    book = AddressBook("a")
    for sender in ("b", "client:c"):
        assert not book.merge([Address("client:c", 1, "ws://h:1")], sender, {"client:c"})
    assert not book.known


def test_port_0_is_the_one_that_is_listened_at() -> None:
    assert advertised_url("wss://n1.example:0", "wss://0.0.0.0:7001") == "wss://n1.example:7001"
    assert advertised_url("wss://n1.example:80", "wss://0.0.0.0:7001") == "wss://n1.example:80"


# ---- nodes ----


def test_only_a_node_that_listens_has_an_address(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="listen"):
        ReplicationWALManager(tmp_path / "a", node_id="a", role="leader", advertise="ws://h:1")
    with pytest.raises(OptionError, match="advertise"):
        ReplicationWALManager(
            tmp_path / "b",
            node_id="b",
            role="leader",
            listen="127.0.0.1:0",
            advertise="wss://127.0.0.1:0",
        )


def until_known(cluster: Cluster, name: str) -> None:
    """Waits until each other node knows where this one is."""
    for other in set(cluster.nodes) - {name}:
        until(
            lambda other=other: (  # type: ignore[misc]
                cluster[other]._streaming.url_of(name) == cluster.url(name)
            ),
            f"{other} knows where {name} is",
        )


def test_nodes_that_move_are_found(elected: Callable[..., Elected]) -> None:  # noqa: F811
    """One after the other, as soon as the one before has told the others of it; then all know where
    the last one is, though its `peers` name old addresses of theirs."""
    abc = elected(advertise="ws://127.0.0.1:0")
    abc.begin().append(b"one")
    old = dict(abc.ports)
    for name in "abc":
        abc.stop(name)
        (abc.ports[name],) = free_ports(1)
        node = abc.start(name, peers={peer: f"ws://127.0.0.1:{old[peer]}" for peer in abc.names
                                      if peer != name})  # fmt: skip
        abc.leader().append(name.encode())
        abc.joined(*"abc")
        until_known(abc, name)
        assert node.url == f"ws://127.0.0.1:{abc.ports[name]}"
    for name in "abc":
        until_known(abc, name)
        until((abc.path(name) / ADDRESSES_NAME).exists, "it is kept")


def test_what_a_node_was_told_it_keeps_when_it_closes(cluster: Callable[..., Cluster]) -> None:
    """However soon after: b moves, and is nowhere else to be found."""
    ab = cluster("ab", advertise="ws://127.0.0.1:0")
    ab.lead()
    for _ in range(5):
        ab.stop("b")
        (ab.ports["b"],) = free_ports(1)
        ab.start("b")
        until_known(ab, "b")
        ab.stop("a")
        book = AddressBook("a", (ab.path("a") / ADDRESSES_NAME).read_bytes())
        assert book.url_of("b") == ab.url("b")
        ab.start("a")


def test_a_book_that_is_kept_twice_at_once_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A node that closes does not wait for what its maintenance writes."""
    addressing = Addressing(str(tmp_path), "a", Net("a").manager, {}, None)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(100):
            for kept in [pool.submit(addressing.keep) for _ in range(2)]:
                kept.result()
            assert not AddressBook("a", (tmp_path / ADDRESSES_NAME).read_bytes()).damaged
    assert not caplog.messages


def test_a_new_node_needs_the_address_of_one(elected: Callable[..., Elected]) -> None:  # noqa: F811
    four = elected("abcd", advertise="ws://127.0.0.1:0")
    four.names = "abc"
    leader = four.begin()
    node = four.start("d", peers={"b": four.url("b")})
    leader.add_voter("d")
    four.joined(*"abcd")
    assert {peer.node_id: peer.url for peer in leader.status().peers}["d"] == node.url
    four.stop("d")
    four.start("d", peers={"b": four.url("b")})
    four.joined(*"abcd")


def test_a_node_is_reached_where_it_says_and_not_where_it_binds(
    elected: Callable[..., Elected],  # noqa: F811
) -> None:
    """The new node knows of b alone, so that a and c have to find it: behind a proxy."""
    four = elected("abcd")
    four.names = "abc"
    leader = four.begin()
    with Proxy(four.ports["d"]) as proxy:
        node = four.start("d", peers={"b": four.url("b")}, advertise=proxy.url)
        leader.add_voter("d")
        for name in "abc":
            until(lambda name=name: "d" in four[name].connected, f"{name} finds it")  # type: ignore[misc]
        leader.append(b"one")
        assert {peer.node_id: peer.url for peer in leader.status().peers}["d"] == proxy.url
        assert node.url == four.url("d") != proxy.url
        four.close()  # nobody dials the proxy while it ends
