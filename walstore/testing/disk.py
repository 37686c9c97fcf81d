"""What a power cut may leave behind: a model of a disk under a POSIX filesystem.

Replays the events of a trace and keeps, for every file and directory, what is durable and which
changes are pending (made, but not synced). The rules, which docs/assumptions.md of the log must not
contradict:

- fsync or fdatasync of a file makes its bytes and size durable, as far as they were written before
  the call began, once it returned 0. It does not make its name durable.
- fsync of a directory makes the names in it durable. Before that, any subset of the changes to
  names may be on the disk, except that two changes of one name keep their order.
- A pending write may be on the disk or not, in part or whole, sector (512 B) by sector, in any
  order. A sector has one of the contents it had since the last sync: the page cache is written back
  from one page.
- While a sector is overwritten the bytes being written may become anything. The others in the
  sector keep (power-safe overwrite).
- Changes of a file's size keep their order; the size and the bytes are independent of each other.
- After a failed sync the pending writes are marked clean without being written: no later sync
  covers them, unless the sector is written again (as Linux does).
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from walstore.testing.trace import Event, Kind

SECTOR = 512
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 0x01, 0x02, 0x10  # fallocate modes

Image = Mapping[str, bytes | None]  # path below the prefix -> content; None is a directory


class UnmodelledError(AssertionError):
    """The trace holds a call that the model does not know, or the files show that it missed one."""


@dataclass(slots=True)
class Change:
    """A pending change of one file: a write (data) or a change of size (data is None)."""

    seq: int
    offset: int
    data: bytes | None
    size: int = 0  # of a change of size
    grows_only: bool = False  # fallocate never shrinks
    doomed: bool = False  # its sync failed: no later sync covers it
    left: frozenset[int] | None = None  # the sectors still pending; None: all

    def sectors(self) -> Iterable[int]:
        if self.left is not None:
            return sorted(self.left)
        if not self.data:
            return ()
        return range(self.offset // SECTOR, (self.offset + len(self.data) - 1) // SECTOR + 1)

    def size_after(self, size: int) -> int:
        if self.data is not None:
            return max(size, self.offset + len(self.data))
        return max(size, self.size) if self.grows_only else self.size

    def part(self, sector: int) -> tuple[int, bytes]:
        """The position and bytes of this write that fall into `sector`."""
        assert self.data is not None
        start = max(self.offset, sector * SECTOR)
        stop = min(self.offset + len(self.data), (sector + 1) * SECTOR)
        return start, self.data[start - self.offset : stop - self.offset]


@dataclass(frozen=True, slots=True)
class Garbage:
    """A sector that was being overwritten by change `index` when the power went."""

    index: int
    sector: int
    kind: str
    seed: int

    KINDS = ("random", "zeros", "ones", "head", "tail", "flip")

    def spoil(self, old: bytes, new: bytes) -> bytes:
        rng = random.Random(self.seed)
        n = len(new)
        cut = rng.randrange(n) if n else 0
        match self.kind:
            case "random":
                return rng.randbytes(n)
            case "zeros":
                return bytes(n)
            case "ones":
                return b"\xff" * n
            case "head":
                return new[:cut] + old[cut:]
            case "tail":
                return old[:cut] + new[cut:]
            case _:
                return new[:cut] + bytes([new[cut] ^ 1 << rng.randrange(8)]) + new[cut + 1 :]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which pending changes of a file reached the disk: per sector, those below a limit."""

    default: int
    size_limit: int
    limits: tuple[tuple[int, int], ...] = ()
    garbage: tuple[Garbage, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Which of all pending changes reached the disk. Files that are not named keep theirs."""

    names: frozenset[int]
    files: Mapping[int, Choice]
    note: str


@dataclass(slots=True)
class Inode:
    """One file: its durable content, what is pending on top, and what the page cache shows."""

    base: bytes = b""
    pending: list[Change] = field(default_factory=list)
    live: bytearray = field(default_factory=bytearray)
    built: dict[Choice, bytes] = field(default_factory=dict)

    def change(self, change: Change) -> None:
        """Makes a change in the page cache."""
        self.pending.append(change)
        self.built.clear()
        resize(self.live, change.size_after(len(self.live)))
        if change.data is not None:
            self.live[change.offset : change.offset + len(change.data)] = change.data

    def content(self, choice: Choice) -> bytes:
        """The file on the disk when these changes reached it."""
        known = self.built.get(choice)
        if known is None:
            known = self.built[choice] = self._build(choice)
        return known

    def _build(self, choice: Choice) -> bytes:
        if not self.pending:
            return self.base
        data, limits, size = bytearray(self.base), dict(choice.limits), len(self.base)
        lost_from: int | None = None  # where a cut that is not on the disk protects old bytes
        for index, change in enumerate(self.pending):
            kept = index < choice.size_limit
            if kept:
                size = change.size_after(size)
            if change.data is None:
                if kept:
                    resize(data, size)
                elif not change.grows_only:
                    lost_from = min(change.size, len(data) if lost_from is None else lost_from)
                continue
            for sector in change.sectors():
                if index >= limits.get(sector, choice.default):
                    continue
                if lost_from is None or sector * SECTOR < lost_from:
                    put(data, *change.part(sector))
        for spoilt in choice.garbage:
            start, new = self.pending[spoilt.index].part(spoilt.sector)
            old = bytes(data[start : start + len(new)]).ljust(len(new), b"\0")
            put(data, start, spoilt.spoil(old, new))
        resize(data, size)
        return bytes(data)

    def everything(self) -> Choice:
        return Choice(len(self.pending), len(self.pending))

    def nothing(self) -> Choice:
        return Choice(0, 0)

    def settle(self, before: int) -> None:
        """A sync that began at event `before` succeeded."""
        count = sum(1 for change in self.pending if change.seq < before)
        if count == len(self.pending) and not any(change.doomed for change in self.pending):
            self.base, self.pending = bytes(self.live), []
            self.built.clear()
            return
        covered = [i for i in range(count) if not self.pending[i].doomed]
        if not covered:
            return
        limits: dict[int, int] = {}
        for index in covered:
            limits.update(dict.fromkeys(self.pending[index].sectors(), index + 1))
        choice = Choice(0, covered[-1] + 1, tuple(limits.items()))
        self.base = self._build(choice)
        rest = []
        for index, change in enumerate(self.pending):
            if index < count:
                left = frozenset(s for s in change.sectors() if limits.get(s, 0) <= index)
                if not change.doomed or not left:
                    continue
                change.left = left
            rest.append(change)
        self.pending = rest
        self.built.clear()

    def doom(self, before: int) -> None:
        """A sync that began at event `before` failed."""
        for change in self.pending:
            if change.seq < before:
                change.doomed = True


@dataclass(frozen=True, slots=True)
class NameChange:
    """A pending change of names: (directory, name, inode; None removes the name)."""

    seq: int
    edits: tuple[tuple[int, str, int | None], ...]

    def touches(self) -> set[tuple[int, str]]:
        return {(directory, name) for directory, name, _ in self.edits}


def put(data: bytearray, start: int, part: bytes) -> None:
    if len(data) < start:
        data.extend(bytes(start - len(data)))
    data[start : start + len(part)] = part


def resize(data: bytearray, size: int) -> None:
    if size < len(data):
        del data[size:]
    else:
        data.extend(bytes(size - len(data)))


class Disk:
    """The state of everything below one directory, as a trace goes by."""

    ROOT = 0

    def __init__(self, prefix: str, initial: Image) -> None:
        self.prefix = os.path.realpath(prefix)
        self.files: dict[int, Inode] = {}
        self.durable: dict[int, dict[str, int]] = {self.ROOT: {}}
        self.live: dict[int, dict[str, int]] = {self.ROOT: {}}
        self.name_changes: list[NameChange] = []
        self._fds: dict[int, int] = {}
        self._syncs: dict[int, int] = {}  # begin event -> inode
        self._next = 1
        for path in sorted(initial):
            self._add_initial(path, initial[path])

    # What happened.

    def inode_of(self, fd: int) -> int:
        """The number of the file or directory that a descriptor is open on."""
        return self._fds[fd]

    def apply(self, event: Event) -> bool:
        """Replays one event; returns whether the set of possible disk states may have changed."""
        if event.kind is Kind.UNSUPPORTED:
            raise UnmodelledError(f"the crash lab does not model this call: {event.path}")
        if event.is_sync_begin:
            self._syncs[event.index] = self._fds[event.fd]
            return False
        if event.is_sync_end:
            return self._sync_end(event)
        if event.failed or event.kind is Kind.MARK:
            return False
        match event.kind:
            case Kind.OPEN:
                return self._open(event)
            case Kind.DUP:
                self._fds[event.result] = self._fds[event.fd]
            case Kind.CLOSE:
                self._fds.pop(event.fd, None)
            case Kind.WRITE | Kind.TRUNCATE | Kind.ALLOCATE:
                return self._change_file(event)
            case Kind.RENAME | Kind.UNLINK | Kind.MKDIR | Kind.RMDIR:
                return self._change_names(event)
        return False

    def _add_initial(self, path: str, content: bytes | None) -> None:
        directory, name = self._parent(path)
        number = self._new_inode(directory=content is None)
        if content is not None:
            self.files[number] = Inode(content, [], bytearray(content))
        self.live[directory][name] = self.durable[directory][name] = number

    def _new_inode(self, *, directory: bool) -> int:
        number = self._next
        self._next += 1
        if directory:
            self.durable[number], self.live[number] = {}, {}
        else:
            self.files[number] = Inode()
        return number

    def _parent(self, path: str) -> tuple[int, str]:
        """The directory that holds `path` (absolute, or below the prefix), and the name in it."""
        path = path.removeprefix(self.prefix + "/")
        *folders, name = path.split("/")
        directory = self.ROOT
        for folder in folders:
            directory = self.live[directory][folder]
        return directory, name

    def _lookup(self, path: str) -> int | None:
        if path == self.prefix:
            return self.ROOT
        directory, name = self._parent(path)
        return self.live[directory].get(name)

    def _open(self, event: Event) -> bool:
        number = self._lookup(event.path)
        created = number is None
        if number is None:
            if not event.flags & os.O_CREAT:
                raise UnmodelledError(f"opened a file that the model does not have: {event.path}")
            number = self._new_inode(directory=False)
            self._change_name(event.index, (*self._parent(event.path), number))
        self._fds[event.fd] = number
        if event.flags & os.O_TRUNC and number in self.files and self.files[number].live:
            self.files[number].change(Change(event.index, 0, None, 0))
            return True
        return created

    def _change_file(self, event: Event) -> bool:
        inode = self.files[self._fds[event.fd]]
        change = Change(event.index, event.offset, None, event.length)
        if event.kind is Kind.WRITE:
            change = Change(event.index, event.offset, event.data)
        elif event.kind is Kind.ALLOCATE:
            if event.flags & ~(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE):
                raise UnmodelledError(f"fallocate mode {event.flags:#x}")
            if event.flags & (PUNCH_HOLE | ZERO_RANGE):
                stop = event.offset + event.length
                if event.flags & KEEP_SIZE:
                    stop = min(stop, len(inode.live))
                change = Change(event.index, event.offset, bytes(max(0, stop - event.offset)))
            elif event.flags & KEEP_SIZE:
                return False
            else:
                change = Change(event.index, 0, None, event.offset + event.length, grows_only=True)
        if change.data == b"":
            return False
        inode.change(change)
        return True

    def _change_names(self, event: Event) -> bool:
        directory, name = self._parent(event.path)
        if event.kind is Kind.MKDIR:
            self._change_name(event.index, (directory, name, self._new_inode(directory=True)))
        elif event.kind is Kind.RENAME:
            number = self.live[directory][name]
            target, new_name = self._parent(event.path2)
            self._change_name(event.index, (directory, name, None), (target, new_name, number))
        else:
            self._change_name(event.index, (directory, name, None))
        return True

    def _change_name(self, seq: int, *edits: tuple[int, str, int | None]) -> None:
        change = NameChange(seq, edits)
        self.name_changes.append(change)
        edit(self.live, change)

    def _sync_end(self, event: Event) -> bool:
        number, before = self._syncs.pop(event.offset), event.offset
        if number in self.files:
            if not event.failed:
                self.files[number].settle(before)
            elif event.result != -errno.EINTR:  # interrupted before it began: all is still dirty
                self.files[number].doom(before)
        elif not event.failed:
            mine = [
                change.seq
                for change in self.name_changes
                if change.seq < before and any(number == where for where, _, _ in change.edits)
            ]
            kept = self.with_dependencies(mine)
            for change in self.name_changes:
                if change.seq in kept:
                    edit(self.durable, change)
            self.name_changes = [c for c in self.name_changes if c.seq not in kept]
        return not event.failed

    # What may be on the disk.

    def with_dependencies(self, seqs: Iterable[int]) -> frozenset[int]:
        """These changes of names, with each earlier pending one of a name that they touch."""
        kept, touched = set(seqs), set[tuple[int, str]]()
        for change in reversed(self.name_changes):
            if change.seq in kept or change.touches() & touched:
                kept.add(change.seq)
                touched |= change.touches()
        return frozenset(kept)

    def everything(self) -> Plan:
        return Plan(frozenset(c.seq for c in self.name_changes), {}, "everything written is there")

    def image(self, plan: Plan) -> Image:
        """What a power cut leaves when `plan` says what reached the disk."""
        names = self.durable
        if plan.names:
            names = {directory: dict(entries) for directory, entries in self.durable.items()}
            for change in self.name_changes:
                if change.seq in plan.names:
                    edit(names, change)
        image: dict[str, bytes | None] = {}
        self._walk(names, self.ROOT, "", plan, image)
        return image

    def _walk(
        self,
        names: Mapping[int, Mapping[str, int]],
        directory: int,
        path: str,
        plan: Plan,
        image: dict[str, bytes | None],
    ) -> None:
        for name, number in names[directory].items():
            if number in self.files:
                inode = self.files[number]
                image[path + name] = inode.content(plan.files.get(number) or inode.everything())
            else:
                image[path + name] = None
                self._walk(names, number, f"{path}{name}/", plan, image)

    def compare(self, root: str) -> None:
        """Asserts that the model shows the same files as the real directory: nothing was missed."""
        model, real = self.live_image(), read_image(root)
        if model != real:
            names = sorted(n for n in {*model, *real} if model.get(n, 0) != real.get(n, 0))
            raise UnmodelledError(f"the recorder did not see every change of {names}")

    def live_image(self) -> Image:
        """What a running process sees: the page cache."""
        image: dict[str, bytes | None] = {}
        waiting = [(self.ROOT, "")]
        while waiting:
            directory, path = waiting.pop()
            for name, number in self.live[directory].items():
                if number in self.files:
                    image[path + name] = bytes(self.files[number].live)
                else:
                    image[path + name] = None
                    waiting.append((number, f"{path}{name}/"))
        return image


def edit(names: dict[int, dict[str, int]], change: NameChange) -> None:
    for directory, name, number in change.edits:
        if number is None:
            names[directory].pop(name, None)
        else:
            names[directory][name] = number


def read_image(root: str) -> Image:
    """The files and directories below `root`."""
    image: dict[str, bytes | None] = {}
    for folder, folders, files in os.walk(root):
        for name in folders:
            image[os.path.relpath(os.path.join(folder, name), root)] = None
        for name in files:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                image[os.path.relpath(path, root)] = file.read()
    return image


def write_image(image: Image, root: str) -> None:
    """Makes `root` hold exactly this image; it must not exist."""
    os.mkdir(root)
    for path in sorted(image):
        content = image[path]
        if content is None:
            os.mkdir(f"{root}/{path}")
            continue
        fd = os.open(f"{root}/{path}", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        try:
            if content:
                os.write(fd, content)
        finally:
            os.close(fd)
