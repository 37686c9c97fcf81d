"""The list of seeded bugs. An edit names text that stands once in its file, and its replacement."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BUGS", "Bug", "Edit"]

FILES_C = "walstore/_native/files.c"
RECORD_C = "walstore/_native/record.c"
WRITER_C = "walstore/_native/writer.c"
DIVERGED_PY = "walstore/wal/diverged.py"
FILES_PY = "walstore/wal/files.py"
FOLLOWING_PY = "walstore/wal/following.py"
LAYOUT_PY = "walstore/wal/layout.py"
MANAGER_PY = "walstore/wal/manager.py"
MENDING_PY = "walstore/wal/mending.py"
META_PY = "walstore/wal/meta.py"
OPENING_PY = "walstore/wal/opening.py"
RECORDS_PY = "walstore/wal/records.py"
RECOVERY_PY = "walstore/wal/recovery.py"
SPACE_PY = "walstore/wal/space.py"
TAIL_PY = "walstore/wal/tail.py"
WRITING_PY = "walstore/wal/writing.py"

ACKS_PY = "walstore/replication/acks.py"
CONNECTION_PY = "walstore/replication/connection.py"
CORE_PY = "walstore/replication/core.py"
FOLLOWER_PY = "walstore/replication/follower.py"
DRIVER_PY = "walstore/raft/driver.py"
HANDSHAKE_PY = "walstore/replication/handshake.py"
LAG_PY = "walstore/replication/lag.py"
LEADER_PY = "walstore/replication/leader.py"
MESSAGE_PY = "walstore/replication/message.py"
NETWORK_PY = "walstore/replication/network.py"
PROGRESS_PY = "walstore/replication/progress.py"
RETENTION_PY = "walstore/replication/retention.py"
RUNS_PY = "walstore/replication/runs.py"
SECURITY_PY = "walstore/replication/security.py"
SENDING_PY = "walstore/replication/sending.py"
STREAMING_PY = "walstore/replication/streaming.py"
THREADS_PY = "walstore/replication/threads.py"

DURABLE_PY = "walstore/durable.py"
SNAPSHOT_FILES_PY = "walstore/snapshot_files.py"
SNAPSHOT_FILES = "tests/test_snapshot_files.py"
DOCSTORE = "walstore/docstore"
DOCSTORE_TESTS = "tests/docstore"
TINYDB_TESTS = "tests/tinydb/test_storage.py"

CRASH = "tests/crash/test_crash_states.py"
FAULTS = "tests/crash/test_fault_loops.py"
REPLICATED = "tests/wal/test_replicated.py"
INTERRUPTED = "tests/wal/test_interrupted.py"
RECORDS = "tests/wal/test_records.py"
POWER_CUT = "tests/crash/test_power_cut.py::test_acked_entries_survive_a_power_cut"
LOST_CACHE = "tests/crash/test_lost_cache.py::test_acked_entries_survive_the_loss_of_the_page_cache"
FAILED_SYNC = "tests/crash/test_lost_cache.py::test_no_ack_rests_on_a_failed_sync"

CORE_TESTS = ("tests/replication/test_core.py",)
SIM = "tests/sim/test_sim.py"
RAFT = "walstore/raft"
RAFT_SIM = "tests/raft/sim/test_sim.py::test_no_schedule_breaks_a_promise"
RAFT_TRACES = "tests/raft/test_traces.py"
RAFT_CLUSTER = "tests/raft/test_cluster.py"
RAFT_FAULTS = "tests/raft/test_cluster_faults.py"
RAFT_POWER_CUTS = "tests/raft/test_promises_kept.py::test_promises_survive_power_cuts"
RAFT_PROMISES = "tests/raft/test_cluster_promises.py"
CLUSTER = "walstore/cluster"
CLIENTS = "tests/cluster/test_clients.py"
HANDING_OVER = "tests/raft/test_handing_over.py"
FAILING_READS = "tests/raft/test_failing_reads.py"
UNSAID_MEMBERS = "tests/raft/test_unsaid_members.py"
RAFT_REPAIR = "tests/raft/test_repair.py"
REPAIR = "tests/replication/test_repair.py"
CATCHING_UP = "tests/replication/test_catching_up.py"
CANNOT_READ = (
    "tests/replication/test_failing_disks.py::test_a_leader_that_cannot_read_takes_nothing_more"
)
RESUMING = "tests/replication/test_resuming.py"
BEGINNING_ANEW = "tests/raft/test_beginning_anew.py"
RECEIVING = "tests/replication/test_receiving.py"
RETENTION = "tests/replication/test_retention.py"
STARTING = "tests/replication/test_starting.py"
THREADS = "tests/replication/test_threads.py"
HANDSHAKE = "tests/replication/test_handshake.py"
HOSTILE = "tests/replication/test_hostile.py"
MESSAGE = "tests/replication/test_message.py"
LOG = "tests/replication/test_log.py"
MEMORY = "tests/replication/test_memory.py"
NETWORK = "tests/replication/test_network.py"
SECURITY = "tests/replication/test_security.py"
SENDING = "tests/replication/test_sending.py"
SERVING = "tests/cluster/test_serving.py"
INTERPOSED = "tests/native/test_interposed.py"
WRITER_LIMITS = "tests/native/test_writer_limits.py"


@dataclass(frozen=True)
class Edit:
    """One change of one file."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Bug:
    """A bug, what it breaks, and the tests of which one must fail."""

    name: str
    breaks: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]


NO_FDATASYNC = Edit(FILES_C, "return fdatasync(fd) ? -errno : 0;", "return fd < 0;")
NO_DIRECTORY_FSYNC = Edit(
    SPACE_PY, "            files.sync_directory(directory)\n", "            pass\n"
)
RETRY_AFTER_SYNC_ERROR = Edit(
    WRITER_C,
    "    int rc = walcore_sync_data(fd);\n    uint64_t took_ns",
    "    int rc = walcore_sync_data(fd);\n"
    "    if (rc) rc = walcore_sync_data(fd);\n"
    "    uint64_t took_ns",
)
UNPROVEN_TAIL_TRUSTED = Edit(
    OPENING_PY,
    "    if opened.meta.clean:\n        return None\n",
    "    if opened.meta:\n        return None\n",
)

BUGS = (
    Bug("no-fdatasync", "an acked entry is on the disk", (NO_FDATASYNC,), (CRASH,)),
    *(
        Bug(
            f"no-fdatasync-on-{kind}",
            "an acked entry is on the disk",
            (NO_FDATASYNC,),
            (f"{POWER_CUT}[{kind}]",),
        )
        for kind in ("ext4", "xfs", "btrfs")
    ),
    Bug(
        "no-fdatasync-and-lost-cache",
        "an acked entry is on the disk",
        (NO_FDATASYNC,),
        (LOST_CACHE,),
    ),
    Bug(
        "sync-before-write",
        "an acked entry is on the disk",
        (
            Edit(
                WRITER_C,
                "    int rc = walcore_pwrite_count(fd, buffer->data, bytes, buffer->at, &done);\n",
                "    int rc = walcore_sync_data(fd);\n"
                "    rc = walcore_pwrite_count(fd, buffer->data, bytes, buffer->at, &done);\n",
            ),
            Edit(
                WRITER_C,
                "    int rc = walcore_sync_data(fd);\n    uint64_t took_ns",
                "    int rc = 0;\n    uint64_t took_ns",
            ),
        ),
        (CRASH,),
    ),
    Bug(
        "no-directory-fsync",
        "a segment's name is on the disk before the log counts on it",
        (NO_DIRECTORY_FSYNC,),
        (CRASH,),
    ),
    Bug(
        "no-directory-fsync-and-lost-cache",
        "a segment's name is on the disk before the log counts on it",
        (NO_DIRECTORY_FSYNC,),
        (LOST_CACHE,),
    ),
    Bug(
        "retry-after-sync-error",
        "after a failed sync nothing is acked and no sync is tried again",
        (RETRY_AFTER_SYNC_ERROR,),
        (FAULTS, CRASH),
    ),
    Bug(
        "retry-after-sync-error-and-lost-cache",
        "after a failed sync nothing is acked and no sync is tried again",
        (RETRY_AFTER_SYNC_ERROR,),
        (FAILED_SYNC,),
    ),
    Bug(
        "poison-forgotten",
        "after a failed write or sync the log accepts nothing more",
        (
            Edit(
                WRITER_C,
                "        w->shared.poisoned = 1;\n",
                "        w->shared.poisoned = 0;\n",
            ),
        ),
        (FAULTS, "tests/wal/test_commit.py"),
    ),
    Bug(
        "ack-before-sync",
        "an acked entry is on the disk",
        (
            Edit(
                WRITER_C,
                "        if (reached(w, level) >= lsn) return WALCORE_OK;\n",
                "        if (w->shared.written_lsn >= lsn) return WALCORE_OK;\n",
            ),
        ),
        (CRASH,),
    ),
    Bug(
        "payload-crc-unchecked",
        "damaged payloads are seen",
        (
            Edit(
                RECORD_C,
                "walcore_crc32c(0, payload, header->payload_bytes) == header->payload_crc &&",
                "payload &&",
            ),
        ),
        ("tests/wal/test_damage.py", "tests/native/test_record.py"),
    ),
    Bug(
        "header-crc-unchecked",
        "damaged headers are seen",
        (
            Edit(
                RECORD_C,
                "    if (header->header_crc != header_crc(state->seed, at))\n",
                "    if (header->header_crc == 0)\n",
            ),
        ),
        ("tests/wal/test_damage.py", "tests/native/test_record.py"),
    ),
    Bug(
        "crc-omits-length-and-lsn",
        "a record is bound to its place and length",
        (
            Edit(
                RECORD_C,
                "    return walcore_crc32c(seed, at + 4, WALCORE_RECORD_HEADER_BYTES - 4);",
                "    return walcore_crc32c(seed, at + 4, 4);",
            ),
        ),
        ("tests/native/test_record.py",),
    ),
    Bug(
        "damage-taken-for-torn",
        "damage to acked entries is never cut away",
        (Edit(RECOVERY_PY, "    if found.proof_lsn:\n", "    if not found:\n"),),
        ("tests/wal/test_damage.py", "tests/wal/test_recovery.py"),
    ),
    Bug(
        "watermark-ignored",
        "a cut at the boundary of a record is seen",
        (
            Edit(
                RECOVERY_PY,
                "watermark.epoch == meta.epoch and watermark.durable_lsn > last_lsn:",
                "watermark.epoch == meta.epoch and watermark.durable_lsn < 0:",
            ),
        ),
        ("tests/wal/test_recovery.py", "tests/wal/test_damage.py"),
    ),
    Bug(
        "stale-bytes-accepted",
        "bytes of a recycled segment never come back",
        (
            Edit(
                RECORD_C,
                "walcore_crc32c(seed, at + 4, WALCORE_RECORD_HEADER_BYTES - 4)",
                "walcore_crc32c(seed & 0, at + 4, WALCORE_RECORD_HEADER_BYTES - 4)",
            ),
        ),
        ("tests/native/test_record.py",),
    ),
    Bug(
        "short-write-ignored",
        "a short write is carried on with",
        (Edit(FILES_C, "        *done += (size_t)wrote;\n", "        *done = bytes;\n"),),
        (FAULTS,),
    ),
    Bug(
        "truncation-not-synced",
        "truncated entries never return",
        (
            Edit(
                WRITING_PY,
                "files.sync_data(fd, path)\n        meta = meta.next()\n",
                "meta = meta.next()\n",
            ),
            Edit(
                WRITING_PY,
                "write_copy(fd, meta, path, 1)\n        files.sync_data(fd, path)\n",
                "write_copy(fd, meta, path, 1)\n",
            ),
        ),
        (CRASH,),
    ),
    Bug(
        "copies-synced-together",
        "a torn write of the metadata leaves one copy whole",
        (
            Edit(
                WRITING_PY,
                "files.sync_data(fd, path)\n        meta = meta.next()\n",
                "meta = meta.next()\n",
            ),
        ),
        ("tests/wal/test_writing.py",),
    ),
    Bug(
        "copies-of-one-generation",
        "an opening never writes over the only copy of the metadata that is on the disk",
        (Edit(META_PY, "        if which == first:\n            meta = meta.next()\n", ""),),
        ("tests/wal/test_meta.py",),
    ),
    Bug(
        "term-not-persisted",
        "a term that began never begins again",
        (
            Edit(
                WRITING_PY,
                "self.meta = self._write_meta(replace(self.meta, term=term))\n",
                "self.meta = replace(self.meta, term=term)\n",
            ),
        ),
        (CRASH,),
    ),
    Bug(
        "batch-in-pieces",
        "a batch is there whole or not at all",
        (
            Edit(
                WRITER_C,
                "            .flags = i + 1 < count ? WALCORE_FLAG_MORE : 0,\n",
                "            .flags = 0,\n",
            ),
        ),
        (CRASH,),
    ),
    Bug(
        "reader-ahead-of-the-disk",
        "no reader is shown an entry that a power loss could take back",
        (
            Edit(
                MANAGER_PY,
                "isinstance(view, LogWriter) and end > lib.walcore_durable_lsn(view.group.raw)",
                "isinstance(view, LogWriter) and end < 0",
            ),
        ),
        (CRASH, "tests/wal/test_manager.py"),
    ),
    Bug(
        "watermark-ahead-of-the-sync",
        "another process is never shown what is not on the disk",
        (
            Edit(
                WRITER_C,
                "    uint64_t began_ns = monotonic_ns();\n",
                "    publish_watermark(w, target);\n    uint64_t began_ns = monotonic_ns();\n",
            ),
        ),
        (CRASH, FAULTS),
    ),
    Bug(
        "unproven-tail-trusted",
        "after a failed sync the page cache is not believed",
        (UNPROVEN_TAIL_TRUSTED,),
        ("tests/wal/test_opening.py", "tests/wal/test_moving.py", FAULTS),
    ),
    Bug(
        "unproven-tail-trusted-and-lost-cache",
        "after a failed sync the page cache is not believed",
        (UNPROVEN_TAIL_TRUSTED,),
        (FAILED_SYNC,),
    ),
    Bug(
        "refused-group-left-behind",
        "what was refused for want of space never comes back",
        (Edit(WRITER_C, "    if (!bytes) return 0;\n", "    if (w) return 0;\n"),),
        (CRASH, FAULTS),
    ),
    Bug(
        "zeros-that-are-not-on-the-disk",
        "what was refused for want of space never comes back, after a failed sync either",
        (
            Edit(
                WRITER_C,
                "    if (rc) (void)walcore_pwrite_all(w->fd, buffer->data, bytes, buffer->at);\n",
                "",
            ),
        ),
        ("tests/native/test_interposed.py",),
    ),
    Bug(
        "clean-mark-kept",
        "a log that was opened again may have a torn tail",
        (
            Edit(
                OPENING_PY,
                "        clean=False,\n        clean_lsn=0,\n",
                "        clean=opened.meta.clean,\n        clean_lsn=opened.meta.clean_lsn,\n",
            ),
        ),
        (CRASH,),
    ),
    Bug(
        "cut-bytes-lost",
        "what is cut from a torn tail is kept",
        (
            Edit(
                OPENING_PY,
                "        if cut:\n            kept = _keep_cut(",
                "        if 0:\n            kept = _keep_cut(",
            ),
        ),
        ("tests/wal/test_opening.py", "tests/wal/test_repair.py"),
    ),
    Bug(
        "lock-not-taken",
        "a log has one writer",
        (Edit(OPENING_PY, "if write and not files.lock(fd):", "if write and fd < 0:"),),
        ("tests/wal/test_opening.py", "tests/wal/test_manager.py"),
    ),
    Bug(
        "version-unchecked",
        "a log of a newer format is refused",
        (Edit(META_PY, "    if version != FORMAT_VERSION:\n", "    if version == 0:\n"),),
        ("tests/wal/test_meta.py",),
    ),
    Bug(
        "log-id-unchecked",
        "a segment of another log is refused",
        (
            Edit(
                LAYOUT_PY,
                "        if header.log_id != self.meta.log_id:\n",
                "        if not header.log_id:\n",
            ),
        ),
        ("tests/wal/test_layout.py", "tests/wal/test_damage.py"),
    ),
    Bug(
        "segments-of-another-generation",
        "a truncation under a reader is no damage",
        (
            Edit(
                WRITING_PY,
                "return self._segments if self.generation() == generation else None",
                "return self._segments if generation >= 0 else None",
            ),
        ),
        ("tests/wal/test_reading.py",),
    ),
    Bug(
        "loop-not-woken",
        "an awaited commit is told of a failure",
        (
            Edit(
                WRITER_C,
                "        if (!failing && slot->armed_lsn > reached(w, slot->level)) continue;\n",
                "        if (slot->armed_lsn > reached(w, slot->level)) continue;\n",
            ),
        ),
        ("tests/wal/test_commit.py",),
    ),
    Bug(
        "tail-over-a-cut",
        "a tail never goes on over a cut history",
        (Edit(TAIL_PY, "            if term == self._term:\n", "            if term:\n"),),
        ("tests/wal/test_tail.py",),
    ),
    Bug(
        "truncation-shown-early",
        "a tail that looks amid a truncation misses none of it",
        (
            Edit(
                WRITING_PY,
                "        meta = meta.next()\n        try:\n",
                "        self.meta = meta = meta.next()\n        try:\n",
            ),
        ),
        ("tests/wal/test_tail.py", REPLICATED),
    ),
    Bug(
        "epoch-read-late",
        "a truncation while a tail looks at the one before is seen",
        (
            Edit(
                MANAGER_PY,
                "        return epoch, self._term_of(lsn)\n",
                "        return (self._term_of(lsn), self._epoch())[::-1]\n",
            ),
        ),
        ("tests/wal/test_tail.py",),
    ),
    Bug(
        "old-entries-kept-ready",
        "a tail shows no entry that it knows to be gone",
        (
            Edit(
                TAIL_PY,
                "        self._ready = iter(())\n        lsn = self.next_lsn - 1\n",
                "        lsn = self.next_lsn - 1\n",
            ),
        ),
        ("tests/wal/test_tail.py",),
    ),
    Bug(
        "uncommitted-shown",
        "no reader is shown what is not committed",
        (
            Edit(
                WRITER_C,
                "    return committed < durable ? committed : durable;\n",
                "    return committed ? durable : durable;\n",
            ),
        ),
        (REPLICATED,),
    ),
    Bug(
        "undurable-shown",
        "no reader is shown what is committed and not yet durable here",
        (
            Edit(
                WRITER_C,
                "    return committed < durable ? committed : durable;\n",
                "    return committed < UINT64_MAX ? committed : durable;\n",
            ),
        ),
        (REPLICATED,),
    ),
    Bug(
        "commit-not-waited-for",
        "an append of a replicated log returns when its entry is committed",
        (
            Edit(
                WRITER_C,
                "    if (w->level == WALCORE_LEVEL_DURABLE) w->level = WALCORE_LEVEL_COMMITTED;\n",
                "",
            ),
        ),
        (REPLICATED,),
    ),
    Bug(
        "committed-goes-back",
        "what is committed stays committed",
        (
            Edit(
                WRITER_C,
                "    if (lsn > w->shared.committed_lsn && !w->stopping) {",
                "    if (lsn && !w->stopping) {",
            ),
        ),
        (REPLICATED,),
    ),
    Bug(
        "closed-reader-looks-on",
        "a reader that is closed looks at no file that got its descriptor's number",
        (Edit(FOLLOWING_PY, "            self._closed = True\n", ""),),
        ("tests/wal/test_following.py",),
    ),
    Bug(
        "places-of-entries-on-their-way",
        "what a writer takes back leaves a reader no places to look at",
        (
            Edit(
                FOLLOWING_PY,
                "pairs = cut_index(tail.index, synced_lsn + 1 - segment.first_lsn)",
                "pairs = tail.index",
            ),
        ),
        ("tests/wal/test_following.py",),
    ),
    Bug(
        "mark-not-looked-at",
        "other processes are shown what is committed, and no more",
        (
            Edit(
                FOLLOWING_PY,
                "max(min(last_lsn, state.committed_lsn), first_lsn - 1)",
                "last_lsn",
            ),
        ),
        (REPLICATED,),
    ),
    Bug(
        "left-mark-kept",
        "a log of one node is not taken for a node's whose making was cut short",
        (Edit(OPENING_PY, "        clear_replicated(meta_fd, path)\n", "        pass\n"),),
        (REPLICATED,),
    ),
    Bug(
        "nodes-log-open-to-all",
        "a node's log is written to by the node alone",
        (Edit(MANAGER_PY, "            refuse_replicated(path, meta_fd)\n", "            pass\n"),),
        (REPLICATED, "tests/cli/test_documents.py::test_import_into_a_nodes_log_is_refused"),
    ),
    Bug(
        "nodes-log-marked-late",
        "a log is known as a node's before the node takes part",
        (Edit(OPENING_PY, "    if replicated:\n", "    if replicated and not opened:\n"),),
        (REPLICATED,),
    ),
    Bug(
        "nodes-log-known-by-its-mark",
        "no power loss amid a write of the commit mark hides that a log is a node's",
        (Edit(META_PY, "size + len(_NODE_TAG), COMMIT_MARK_AT)", "size, COMMIT_MARK_AT)"),),
        (REPLICATED, "tests/crash/test_nodes_log.py"),
    ),
    Bug(
        "nodes-log-made-unmarked",
        "a log that a node makes is known as a node's when it is made",
        (Edit(OPENING_PY, "    if start.replicated:\n", "    if False:\n"),),
        (REPLICATED,),
    ),
    Bug(
        "mark-trusted-beyond-the-log",
        "nothing is committed that recovery did not find",
        (
            Edit(
                WRITING_PY,
                "        return max(min(mark, opened.last_lsn), opened.meta.first_lsn - 1)\n",
                "        return max(mark, opened.meta.first_lsn - 1)\n",
            ),
        ),
        (REPLICATED,),
    ),
    Bug(
        "written-not-told",
        "a loop is woken as soon as an entry is written",
        (
            Edit(
                WRITER_C,
                "        shrink(buffer);\n        wake_loops(w, 0);\n",
                "        shrink(buffer);\n",
            ),
        ),
        ("tests/wal/test_watch.py",),
    ),
    Bug(
        "chunks-lack-the-last",
        "a log is read to its end where it is copied",
        (
            Edit(
                RECORDS_PY,
                "        while from_lsn <= to_lsn:\n",
                "        while from_lsn < to_lsn:\n",
            ),
        ),
        (RECORDS,),
    ),
    Bug(
        "payload-of-copies-unchecked",
        "no damaged record of another node is appended",
        (
            Edit(
                RECORDS_PY,
                "    _check(records, headers_only=False)\n",
                "    _check(records, headers_only=True)\n",
            ),
        ),
        (RECORDS,),
    ),
    Bug(
        "foreign-durable-kept",
        "copies carry the durable lsn of the disk they are on",
        (
            Edit(
                RECORD_C,
                "    header.durable_lsn = durable_lsn;\n",
                "    header.durable_lsn += 0 * durable_lsn;\n",
            ),
        ),
        (RECORDS,),
    ),
    Bug(
        "half-a-batch-taken",
        "a batch of another node is there whole or not at all",
        (
            Edit(
                RECORD_C,
                "        if (at == bytes && at && !(header.flags & WALCORE_FLAG_MORE)) {",
                "        if (at == bytes && at) {",
            ),
        ),
        (RECORDS,),
    ),
    Bug(
        "gap-in-copies",
        "records of another node follow the end of the log",
        (
            Edit(
                WRITER_C,
                "        if (entry.lsn != next_lsn++ || entry.term < term || entry.term > w->term) "
                "return 0;\n",
                "        if (entry.term < term || entry.term > w->term) return 0;\n",
            ),
        ),
        ("tests/native/test_writer_limits.py",),
    ),
    Bug(
        "cut-batch-stays-open",
        "a batch that a truncation cut is sent as one that ends there",
        (
            Edit(
                RECORDS_PY,
                "                data = _end_batch(data[:good], handle.seed)\n",
                "                data = data[:good]\n",
            ),
        ),
        (RECORDS,),
    ),
    Bug(
        "reader-of-a-cut-place",
        "no bytes of a place that was cut are sent",
        (
            Edit(
                RECORDS_PY,
                "                if here != (self._generation, self._segment_id, self._lsn):\n",
                "                if here[2] != self._lsn:\n",
            ),
        ),
        (RECORDS,),
    ),
    Bug(
        "committed-cut",
        "what is committed is never cut",
        (
            Edit(
                WRITING_PY,
                "            if self._replicated and after_lsn < committed_lsn:\n",
                "            if after_lsn < 0:\n",
            ),
        ),
        ("tests/wal/test_diverged.py",),
    ),
    Bug(
        "diverged-not-kept",
        "a tail that loses is kept before it is cut",
        (
            Edit(
                WRITING_PY,
                "kept = keep_aside(self, after_lsn + 1, last_lsn, self._make_branch)",
                "kept = self.path",
            ),
        ),
        ("tests/wal/test_diverged.py",),
    ),
    Bug(
        "branch-of-a-full-disk-kept",
        "a kept tail is there whole or not at all, also when there is no space for it",
        (
            Edit(
                DIVERGED_PY,
                "branch.group.wait(generation, last_lsn, lib.WALCORE_LEVEL_DURABLE, None)",
                # Long enough for the flusher to have met the full disk, and to be asked nothing.
                '__import__("time").sleep(0.02)',
            ),
        ),
        (FAULTS,),
    ),
    Bug(
        "half-a-branch-kept",
        "a kept tail is there whole or not at all",
        (
            Edit(
                DIVERGED_PY,
                "    _copy(log, first_lsn, last_lsn, unfinished, make)\n"
                "    files.rename(unfinished, path)\n",
                "    _copy(log, first_lsn, last_lsn, path, make)\n",
            ),
        ),
        (CRASH,),
    ),
    Bug(
        "reset-keeps-the-rest",
        "entries before a reset are told that they are gone",
        (
            Edit(
                WRITING_PY,
                "self.group.restart(first_lsn, watermark_seed(meta.log_id))",
                "pass",
            ),
        ),
        (REPLICATED, "tests/wal/test_watch.py"),
    ),
    Bug(
        "core-matched-from-received",
        "an entry counts where it is durable",
        (
            Edit(
                PROGRESS_PY,
                "self.matched_lsn = max(self.matched_lsn, durable_lsn)",
                "self.matched_lsn = max(self.matched_lsn, received_lsn)",
            ),
        ),
        CORE_TESTS,
    ),
    Bug(
        "core-matched-regresses",
        "what a follower has never counts less",
        (
            Edit(
                PROGRESS_PY,
                "self.matched_lsn = max(self.matched_lsn, durable_lsn)",
                "self.matched_lsn = durable_lsn",
            ),
        ),
        CORE_TESTS,
    ),
    Bug(
        "core-window-not-counted",
        "a slow follower costs the window and nothing more",
        (Edit(PROGRESS_PY, "self.in_flight_bytes += nbytes", "self.in_flight_bytes += 0"),),
        CORE_TESTS,
    ),
    Bug(
        "core-no-prev-check",
        "a follower's log is a prefix of its leader's",
        (Edit(FOLLOWER_PY, "<= log.last_lsn and log.term_of(lsn) == term", "<= log.last_lsn"),),
        CORE_TESTS,
    ),
    Bug(
        "core-no-term-fencing",
        "a leader whose time is over changes nothing",
        (Edit(CORE_PY, "if term < shared.term:", "if term < 0:"),),
        CORE_TESTS,
    ),
    Bug(
        "core-stale-ack-counted",
        "an ack of an older term counts for nothing",
        (
            Edit(
                CORE_PY,
                "if term < shared.term:",
                "if term < shared.term and not isinstance(body, Ack):",
            ),
        ),
        CORE_TESTS,
    ),
    Bug(
        "core-old-term-counted",
        "only entries of the own term are committed by counting",
        (
            Edit(
                LEADER_PY,
                "if reached < self.began_lsn or reached <= shared.committed_lsn:",
                "if reached <= shared.committed_lsn:",
            ),
        ),
        CORE_TESTS,
    ),
    Bug(
        "core-vote-for-a-log-behind",
        "an elected leader has all that is committed",
        (
            Edit(
                CORE_PY,
                "granted = asks >= end and (asks >= claim or led)",
                "granted = request.last_lsn >= 0",
            ),
        ),
        CORE_TESTS,
    ),
    Bug(
        "core-vote-not-durable",
        "a vote is durable before it is given",
        (Edit(CORE_PY, "effects.insert(0, PersistTerm(term))", "effects.extend(())"),),
        CORE_TESTS,
    ),
    Bug(
        "core-half-is-a-majority",
        "two majorities have a node in common",
        (Edit(ACKS_PY, "return nodes // 2 + 1", "return (nodes + 1) // 2"),),
        ("tests/replication/test_acks.py",),
    ),
    Bug(
        "core-leader-not-among-names",
        "an acked entry is on the leader's disk",
        (Edit(ACKS_PY, "in self.names | {leader_id}", "in self.names or {leader_id}"),),
        ("tests/replication/test_acks.py",),
    ),
    Bug(
        "core-ack-before-durable",
        "a follower acks what is on its disk",
        (
            Edit(
                FOLLOWER_PY,
                "durable_lsn = min(shared.log.durable_lsn, held_lsn)",
                "durable_lsn = held_lsn",
            ),
        ),
        (SIM,),
    ),
    Bug(
        "core-committed-is-cut",
        "committed entries are never cut",
        (
            Edit(
                FOLLOWER_PY,
                "if conflict_lsn is not None and conflict_lsn <= self._shared.committed_lsn:",
                "if conflict_lsn is not None and conflict_lsn < 0:",
            ),
        ),
        CORE_TESTS,
    ),
    Bug(
        "core-committed-beyond-matched",
        "only what is the leader's is committed on a follower",
        (
            Edit(
                FOLLOWER_PY,
                "lsn = min(self._leader_committed_lsn, self._matched_lsn, held_lsn)",
                "lsn = min(self._leader_committed_lsn, held_lsn)",
            ),
        ),
        CORE_TESTS,
    ),
    Bug(
        "core-committed-taken-to-match",
        "a forced leader is not told that others hold its entries",
        (
            Edit(
                FOLLOWER_PY,
                "        self._matched_lsn = 0\n",
                "        self._matched_lsn = shared.committed_lsn\n",
            ),
        ),
        CORE_TESTS,
    ),
    Bug(
        "core-tail-lost-to-a-snapshot",
        "the losing branch is kept",
        (
            Edit(
                FOLLOWER_PY,
                "if shared.log.last_lsn > shared.committed_lsn:",
                "if shared.log.last_lsn < 0:",
            ),
        ),
        CORE_TESTS,
    ),
    Bug(
        "core-asks-again-and-again",
        "a refused batch is asked for once",
        (Edit(FOLLOWER_PY, "self._passed_over = place, None", "self._passed_over = None, None"),),
        CORE_TESTS,
    ),
    Bug(
        "core-asks-only-once",
        "a leader that has lost the question is told again",
        (Edit(FOLLOWER_PY, "None if batch.runs else place", "None"),),
        CORE_TESTS,
    ),
    Bug(
        "core-no-rest-for-a-full-disk",
        "a follower that keeps nothing is not flooded",
        (
            Edit(
                LEADER_PY,
                "if progress.resumed_lsn == agreed + 1:",
                "if progress.resumed_lsn < 0:",
            ),
        ),
        CORE_TESTS,
    ),
    Bug(
        "core-lost-disk-counted",
        "a node that comes back without its disk is not counted with what was on it",
        (Edit(LEADER_PY, "        progress.holds_at_most(request.lsn)\n", ""),),
        CORE_TESTS,
    ),
    Bug(
        "other-cluster-taken",
        "nodes of two clusters never talk",
        (
            Edit(
                HANDSHAKE_PY,
                "if own != theirs and NO_CLUSTER not in (own, theirs):",
                "if not own and NO_CLUSTER not in (own, theirs):",
            ),
        ),
        (
            HANDSHAKE,
            NETWORK,
        ),
    ),
    Bug(
        "dialer-s-proof-compared-with-itself",
        "a dialer that does not prove itself is not let in",
        (
            Edit(
                HANDSHAKE_PY,
                'message.body.proof):\n            raise _not_authenticated("the dialer',
                'proof):\n            raise _not_authenticated("the dialer',
            ),
        ),
        (HANDSHAKE,),
    ),
    Bug(
        "listener-s-proof-compared-with-itself",
        "a listener that does not prove itself is not believed",
        (
            Edit(
                HANDSHAKE_PY,
                'message.body.proof):\n            raise _not_authenticated("the listener',
                'proof):\n            raise _not_authenticated("the listener',
            ),
        ),
        (HANDSHAKE,),
    ),
    Bug(
        "proof-sent-back",
        "what one end has proven proves nothing for the other",
        (Edit(HANDSHAKE_PY, 'role.encode() + names, "sha256"', 'names, "sha256"'),),
        (HANDSHAKE,),
    ),
    Bug(
        "proof-without-names",
        "a proof is worth nothing for another node",
        (Edit(HANDSHAKE_PY, 'role.encode() + names, "sha256"', 'role.encode(), "sha256"'),),
        (HANDSHAKE,),
    ),
    Bug(
        "message-sent-back",
        "a message is worth nothing in the other direction",
        (Edit(HANDSHAKE_PY, 'f"{role} messages".encode()', 'b"messages"'),),
        (HANDSHAKE,),
    ),
    Bug(
        "challenge-not-in-the-key",
        "a proof is worth nothing for another challenge",
        (Edit(HANDSHAKE_PY, 'b"walstore 2" + hello + challenge', 'b"walstore 2" + hello'),),
        (HANDSHAKE,),
    ),
    Bug(
        "repeated-message-taken",
        "a message counts once, and in its turn",
        (
            Edit(
                HANDSHAKE_PY,
                "if message.message_id != self._opened + 1:",
                "if message.message_id > self._opened + 1:",
            ),
        ),
        (
            HANDSHAKE,
            SECURITY,
        ),
    ),
    Bug(
        "speaks-for-another",
        "no node speaks for another one",
        (
            Edit(
                HANDSHAKE_PY,
                "if message.source != self.peer_id or message.target != self.node_id:",
                "if message.target != self.node_id:",
            ),
        ),
        (HANDSHAKE,),
    ),
    Bug(
        "taken-for-another",
        "a node that was not meant takes nothing",
        (Edit(HANDSHAKE_PY, "if message.target != self._node_id:", "if not message.target:"),),
        (HANDSHAKE,),
    ),
    Bug(
        "handshake-repeated",
        "a handshake is not repeated",
        (
            Edit(
                HANDSHAKE_PY, "if isinstance(message.body, _HANDSHAKE):", "if message.body is None:"
            ),
        ),
        (HANDSHAKE,),
    ),
    Bug(
        "mac-not-looked-at",
        "no message counts that was changed on its way",
        (
            Edit(
                MESSAGE_PY,
                '_require(good, "MAC does not match")',
                '_require(good is not None, "MAC does not match")',
            ),
        ),
        (
            MESSAGE,
            HANDSHAKE,
        ),
    ),
    Bug(
        "checksum-not-looked-at",
        "no message counts that was damaged on its way",
        (
            Edit(
                MESSAGE_PY,
                "_require(checksum == xxh3_64_intdigest(tail, seed),",
                "_require(checksum + xxh3_64_intdigest(tail, seed) >= 0,",
            ),
        ),
        (MESSAGE,),
    ),
    Bug(
        "oversize-taken",
        "a message that is too large is refused before it is looked at",
        (Edit(MESSAGE_PY, "if len(data) > bytes_max:", "if len(data) < 0:"),),
        (MESSAGE,),
    ),
    Bug(
        "unknown-flags-taken",
        "what a message says and this version does not know is refused",
        (
            Edit(
                MESSAGE_PY,
                "if decoder is None or flags & ~_FLAGS.get(number, 0):",
                "if decoder is None:",
            ),
        ),
        (MESSAGE,),
    ),
    Bug(
        "version-not-looked-at",
        "a message of another version of the protocol is refused",
        (Edit(MESSAGE_PY, "    if version != VERSION:\n", "    if version < VERSION:\n"),),
        (MESSAGE,),
    ),
    Bug(
        "stranger-says-much",
        "a stranger holds little",
        (
            Edit(
                CONNECTION_PY,
                "_STRANGER_BYTES_MAX = 4 * CONTROL_BYTES_MAX",
                "_STRANGER_BYTES_MAX = 4 << 40",
            ),
        ),
        (HOSTILE,),
    ),
    Bug(
        "certificate-of-another-node",
        "a node's certificate is good for that node alone",
        (
            Edit(
                CONNECTION_PY,
                "if tls_object is not None and peer_id not in certificate_names(tls_object):",
                "if tls_object is not None and not certificate_names(tls_object):",
            ),
        ),
        (SECURITY,),
    ),
    Bug(
        "no-node-of-the-cluster",
        "only nodes of the cluster are connected",
        (
            Edit(
                NETWORK_PY,
                "if self._members is not None and node_id not in self._members:",
                "if self._members is not None and not node_id:",
            ),
        ),
        (NETWORK,),
    ),
    Bug(
        "unprotected-off-loopback",
        "off loopback there is protection, or an explicit word",
        (
            Edit(
                SECURITY_PY,
                "and not self.insecure and not is_loopback(host):",
                "and not self.insecure and not host:",
            ),
        ),
        (SECURITY,),
    ),
    Bug(
        "refused-terms-remembered",
        "entries of a leader are not taken for another's after a full disk",
        (
            Edit(
                RUNS_PY,
                "            while self._starts and self._starts[-1] >= lsn:\n",
                "            while self._starts and self._starts[-1] >= lsn + (1 << 63):\n",
            ),
        ),
        (LOG,),
    ),
    Bug(
        "vote-with-what-the-disk-refuses",
        "no vote is won with entries that the disk then refuses",
        (
            Edit(
                CORE_PY,
                "last_lsn = max(min(log.last_lsn, log.durable_lsn), log.first_lsn - 1)",
                "last_lsn = log.last_lsn",
            ),
        ),
        CORE_TESTS,
    ),
    Bug(
        "failed-leader-takes-appends",
        "a leader that has failed takes no appends",
        (
            Edit(
                STREAMING_PY,
                "        self.leading = False\n        self._log.accept_appends(False)\n",
                "        self.leading = False\n",
            ),
        ),
        (CANNOT_READ,),
    ),
    Bug(
        "log-reset-without-its-snapshot",
        "a log is not emptied when its snapshot was not installed",
        (
            Edit(
                STREAMING_PY,
                "nothing that follows may be done\n"
                "            self._fail(error)\n            return\n",
                "\n            logger.warning('%s', error)\n",
            ),
        ),
        (CATCHING_UP,),
    ),
    Bug(
        "sent-bytes-kept",
        "a leader's memory does not grow beside a stopped follower",
        (Edit(SENDING_PY, "_RECENT_MAX = 8\n", "_RECENT_MAX = 1 << 20\n"),),
        (MEMORY,),
    ),
    Bug(
        "old-leader-deposes-the-new-one",
        "a leader that was cut off deposes nobody when it is back",
        (
            Edit(
                "walstore/replication/candidacy.py",
                "if not all(received.get(node, 0) > before.get(node, 0) for node in owners):",
                "if term < 0:",
            ),
        ),
        ("tests/replication/test_candidacy.py", "tests/replication/test_promotion.py"),
    ),
    Bug(
        "store-keeps-what-is-the-callers",
        "what is stored is not changed by what the caller does later",
        (
            Edit(
                f"{DOCSTORE}/values.py",
                "copies: list[Document] = copy_of(documents)",
                "copies = documents",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_collection.py::test_what_is_handed_out_is_a_copy",),
    ),
    Bug(
        "store-sees-no-operator-for-a-key",
        "what cannot be stored is refused before anything is written",
        (
            Edit(
                f"{DOCSTORE}/values.py",
                "if _DOLLAR in raw or (_UINT64 in raw and",
                "if (_UINT64 in raw and",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_values.py",),
    ),
    Bug(
        "store-takes-an-order-that-is-not-the-documents",
        "what is stored as it is has the bytes that the walk gives",
        (
            Edit(
                f"{DOCSTORE}/values.py",
                "if kind is dict or kind is list:",
                "if issubclass(kind, dict) or kind is list:",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_values.py",),
    ),
    Bug(
        "store-undoes-what-it-has-not-noted",
        "an operation that is interrupted leaves nothing in its transaction",
        (
            Edit(
                f"{DOCSTORE}/draft.py",
                "        while len(self._undo) > count:",
                "        while len(self._undo) > count and len(self.changes) > count:",
            ),
        ),
        (
            f"{DOCSTORE_TESTS}/test_transactions.py::test_what_is_interrupted_anywhere_leaves_nothing_in_the_block",
        ),
    ),
    Bug(
        "store-transaction-is-inherited",
        "what a block started writes outside of its transaction",
        (Edit(f"{DOCSTORE}/store.py", " and block.owner == _here():", ":"),),
        (
            f"{DOCSTORE_TESTS}/test_transactions.py::test_what_a_block_starts_is_outside_of_its_transaction",
        ),
    ),
    Bug(
        "store-notes-reads-unlocked",
        "a transaction that reads disturbs nobody",
        (
            Edit(
                f"{DOCSTORE}/collection.py",
                "        with transaction.guard:  # others look at the reads when they apply\n"
                "            transaction.reads.note(self.name, query)\n",
                "        transaction.reads.note(self.name, query)\n"
                "        with transaction.guard:\n",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_transactions.py::test_what_is_looked_at_is_noted_under_the_lock",),
    ),
    Bug(
        "store-looks-without-a-note",
        "a transaction sees one state, the current one",
        (
            Edit(
                f"{DOCSTORE}/draft.py",
                "        if not documents:\n            return  # a",
                "        if False:\n            return  # a",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_transactions.py::test_inserting_nothing_looks_at_nothing",),
    ),
    Bug(
        "store-writes-to-a-transaction-that-ended",
        "what outlives a block is not written to its transaction",
        (
            Edit(
                f"{DOCSTORE}/store.py",
                "        self.transaction = self.store = self.owner = None\n        try:",
                "        try:",
            ),
        ),
        (
            f"{DOCSTORE_TESTS}/test_transactions.py::test_what_comes_after_a_suspended_block_is_stored",
        ),
    ),
    Bug(
        "store-transaction-takes-what-comes-too-late",
        "a transaction that has ended takes nothing",
        (Edit(f"{DOCSTORE}/transaction.py", "        self._ended = True", "        pass"),),
        (
            f"{DOCSTORE_TESTS}/test_transactions.py::test_a_transaction_that_has_ended_takes_nothing",
        ),
    ),
    Bug(
        "store-block-waits-for-its-own-thread",
        "a block that the garbage collector ends waits for nobody",
        (
            Edit(
                f"{DOCSTORE}/applied.py",
                "        self._transactions.discard(transaction)\n",
                "        with self.lock:\n            self._transactions.discard(transaction)\n",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_transactions.py::test_a_suspended_block_is_collected_anywhere",),
    ),
    Bug(
        "store-transactions-go-while-it-looks-at-them",
        "a block that the garbage collector ends disturbs nobody",
        (
            Edit(
                f"{DOCSTORE}/applied.py",
                "for transaction in list(self._transactions):\n                        ",
                "for transaction in self._transactions:\n                        ",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_transactions.py::test_a_suspended_block_is_collected_anywhere",),
    ),
    Bug(
        "store-writes-half-an-operation",
        "a block that ends has all of an operation or nothing",
        (
            Edit(
                f"{DOCSTORE}/store.py",
                "with store._journal.lock:\n                    transaction.end()\n",
                "transaction.end()\n",
            ),
        ),
        (
            f"{DOCSTORE_TESTS}/test_transactions.py::test_what_is_written_has_all_of_an_operation_or_nothing",
        ),
    ),
    Bug(
        "store-makes-a-number-of-endless-digits",
        "no index keeps a store from opening",
        (
            Edit(
                f"{DOCSTORE}/paths.py",
                "if len(part) > POSITION_DIGITS_MAX or not",
                "if not",
            ),
        ),
        (
            f"{DOCSTORE_TESTS}/test_failures.py::test_an_index_of_a_path_that_no_list_has_keeps_no_store_from_opening",
        ),
    ),
    Bug(
        "store-takes-a-path-of-endless-digits",
        "a path that makes no sense is refused",
        (Edit(f"{DOCSTORE}/paths.py", "any(map(_is_endless,", "all(map(_is_endless,"),),
        (f"{DOCSTORE_TESTS}/test_failures.py::test_a_path_of_endless_digits_is_refused",),
    ),
    Bug(
        "store-makes-keys-too-late",
        "what an index cannot take fails before anything is written",
        (
            Edit(
                f"{DOCSTORE}/index.py",
                'self._compound or "." in self.paths[0]',
                "self._compound",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_index.py::test_keys_are_made_before_anything_is_written",),
    ),
    Bug(
        "store-void-entries-count",
        "an entry counts only if nothing came between",
        (Edit(f"{DOCSTORE}/replay.py", "if before != self._state_lsn:", "if before > entry.lsn:"),),
        (f"{DOCSTORE_TESTS}/test_record.py",),
    ),
    Bug(
        "store-cut-parts-come-back",
        "a transaction that was cut between its parts stays away",
        (
            Edit(
                f"{DOCSTORE}/replay.py",
                "            self._first_lsn, self._parts, self._part_bytes = 0, [], 0\n"
                "        self._first_lsn = ",
                "            pass\n        self._first_lsn = ",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_failures.py::test_a_transaction_that_was_cut_stays_away",),
    ),
    Bug(
        "store-forgets-a-part",
        "a transaction whose parts come one after the other is whole",
        (
            Edit(
                f"{DOCSTORE}/applied.py",
                "                self._unfinished = steps, lsn\n",
                "                self._unfinished = Steps(self.log.path, self.state_lsn), lsn\n",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_failures.py::test_part_of_a_transaction_is_looked_at_once",),
    ),
    Bug(
        "store-applies-on-any-stack",
        "whose recursion is too deep has an error, and nobody else",
        (Edit(f"{DOCSTORE}/journal.py", "if is_deep():  # it", "if not self:  # it"),),
        (
            f"{DOCSTORE_TESTS}/test_failures.py::test_who_calls_from_deep_inside_of_a_recursion_loses_nothing",
        ),
    ),
    Bug(
        "store-forgets-whom-it-wrote-for",
        "who waits is told, wherever an interrupt came",
        (
            Edit(
                f"{DOCSTORE}/journal.py",
                "            self._finish()  # for a thread that was interrupted\n",
                "            self._group = []\n",
            ),
        ),
        (
            f"{DOCSTORE_TESTS}/test_failures.py::test_an_interrupt_anywhere_while_others_wait_holds_up_none",
        ),
    ),
    Bug(
        "store-applies-first",
        "memory holds what is in the log alone",
        (
            Edit(
                f"{DOCSTORE}/journal.py",
                "        lsns = self._append(computed.payloads, concern)\n",
                "        for change in computed.draft.changes:\n"
                "            self.state.apply(change, computed.draft.built)\n"
                "        lsns = self._append(computed.payloads, concern)\n",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_failures.py::test_a_failed_write_leaves_memory_as_it_was",),
    ),
    Bug(
        "store-gap-not-seen",
        "what came between is applied, and the operation computed anew",
        (
            Edit(
                f"{DOCSTORE}/journal.py",
                "if first_lsn != self.applied_lsn + 1:",
                "if first_lsn < 0:",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_replicated.py",),
    ),
    Bug(
        "store-applies-unlocked",
        "a reader sees all of an operation or nothing",
        (
            Edit(
                f"{DOCSTORE}/applied.py",
                "        with self.lock, collector",
                "        with collector",
            ),
        ),
        (
            f"{DOCSTORE_TESTS}/test_transactions.py::"
            "test_a_reader_waits_for_an_operation_that_is_half_applied",
        ),
    ),
    Bug(
        "store-failed-operation-stays",
        "a failing operation takes back its changes",
        (
            Edit(
                f"{DOCSTORE}/journal.py",
                "                draft.undo_to(count)\n                request.error = error\n",
                "                request.error = error\n",
            ),
        ),
        (
            f"{DOCSTORE_TESTS}/test_transactions.py::test_what_fails_in_a_group_leaves_nothing_in_it",
        ),
    ),
    Bug(
        "store-index-in-a-group",
        "an index holds for what waits behind it",
        (Edit(f"{DOCSTORE}/journal.py", "request.alone or group[0].alone or ", ""),),
        (f"{DOCSTORE_TESTS}/test_transactions.py::test_an_index_holds_for_what_waits_behind_it",),
    ),
    Bug(
        "store-conflict-in-a-group",
        "no update is lost",
        (Edit(f"{DOCSTORE}/transaction.py", "self.notice(draft.changes)", "self.notice(())"),),
        (f"{DOCSTORE_TESTS}/test_transactions.py::test_transactions_in_one_group_conflict",),
    ),
    Bug(
        "store-phantom",
        "a transaction's filters still give what they gave",
        (
            Edit(
                f"{DOCSTORE}/draft.py",
                "for one in (change.old, change.new) if one is not None]",
                "for one in (change.new,) if one is not None]",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_transactions.py::test_conflict",),
    ),
    Bug(
        "store-notes-one-filter-a-value",
        "a transaction's filters still give what they gave",
        (Edit(f"{DOCSTORE}/draft.py", "(key, {})[what] =", "(key, {})[path] ="),),
        (f"{DOCSTORE_TESTS}/test_index.py::test_reads_meet_what_their_filters_match",),
    ),
    Bug(
        "store-asks-all-filters-of-several-fields",
        "what a transaction costs others does not grow with how much it has looked for",
        (
            Edit(
                f"{DOCSTORE}/draft.py",
                "        if not equal:\n",
                "        if len(query.predicates) != 1:\n",
            ),
        ),
        (
            f"{DOCSTORE_TESTS}/test_index.py::test_a_filter_of_several_fields_is_looked_up_by_one_of_them",
        ),
    ),
    Bug(
        "store-durable-is-not",
        "concern durable waits for the disk",
        (
            Edit(
                f"{DOCSTORE}/journal.py",
                'if concern == "durable" and log.sync_policy',
                'if concern == "never" and log.sync_policy',
            ),
        ),
        (
            f"{DOCSTORE_TESTS}/test_collection.py::test_durable_means_the_disk_whatever_the_log_does_by_itself",
        ),
    ),
    Bug(
        "store-answers-before-the-disk",
        "what changes nothing is as durable as what does",
        (
            Edit(
                f"{DOCSTORE}/journal.py",
                "                    self.log.sync()\n",
                "                    self.log.stats()\n",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_collection.py::test_what_changes_nothing_is_durable_too",),
    ),
    Bug(
        "store-answers-without-leading",
        "what changes nothing takes a leader, as what does",
        (
            Edit(
                f"{DOCSTORE}/journal.py",
                "            if not is_shared(self.log):\n",
                "            if self.log:\n",
            ),
        ),
        (
            f"{DOCSTORE_TESTS}/test_replicated.py::test_what_changes_nothing_is_on_a_quorum_too",
            f"{DOCSTORE_TESTS}/test_elected.py::test_who_was_deposed_does_not_show_what_is_old",
        ),
    ),
    Bug(
        "store-two-bounds-on-a-list",
        "an index loses no match",
        (Edit(f"{DOCSTORE}/plan.py", "predicates[:1] if one_only else predicates", "predicates"),),
        (f"{DOCSTORE_TESTS}/test_index.py::test_a_range_over_a_list_uses_one_bound",),
    ),
    Bug(
        "store-descending-bound",
        "an index loses no match",
        (Edit(f"{DOCSTORE}/plan.py", "(TOP,) if isinstance(high, Reversed) else ()", "()"),),
        (f"{DOCSTORE_TESTS}/test_index.py::test_a_query_finds_the_same_with_and_without_indexes",),
    ),
    Bug(
        "store-unique-in-a-draft",
        "a unique key gets in once",
        (
            Edit(
                f"{DOCSTORE}/draft.py",
                "                if self._own:\n                    holders",
                "                if False:\n                    holders",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_index.py::test_a_unique_index_lets_a_key_in_once",),
    ),
    Bug(
        "store-no-checkpoints-after-no-memory",
        "a checkpoint that fails is tried again",
        (
            Edit(
                f"{DOCSTORE}/store.py",
                "(OSError, WALStoreError, MemoryError) as",
                "(OSError, WALStoreError) as",
            ),
        ),
        (
            f"{DOCSTORE_TESTS}/test_checkpoint.py::test_a_checkpoint_without_memory_is_tried_again_soon",
        ),
    ),
    Bug(
        "store-checkpoint-tried-at-every-write",
        "a checkpoint that fails is tried again, and not at every write",
        (
            Edit(
                f"{DOCSTORE}/store.py",
                "self._journal.payload_bytes = due_bytes - due_bytes // RETRIES",
                "self._journal.payload_bytes = max(\n"
                "                self._journal.payload_bytes, due_bytes - due_bytes // RETRIES\n"
                "            )",
            ),
        ),
        (
            f"{DOCSTORE_TESTS}/test_checkpoint.py::test_a_checkpoint_that_fails_anywhere_is_tried_again_soon",
        ),
    ),
    Bug(
        "store-checkpoint-waits-after-a-failed-read",
        "a checkpoint that fails is tried again soon, whatever failed",
        (
            Edit(
                f"{DOCSTORE}/store.py",
                "            except BaseException:\n                self._try_again_soon()\n",
                "            except OSError:\n                self._try_again_soon()\n",
            ),
        ),
        (
            f"{DOCSTORE_TESTS}/test_checkpoint.py::test_a_checkpoint_whose_entry_cannot_be_read_is_tried_again_soon",
        ),
    ),
    Bug(
        "snapshot-batches-of-any-size",
        "a snapshot of any documents can be written, and needs no memory for many",
        (
            Edit(
                f"{DOCSTORE}/snapshot.py",
                "if len(batch) >= BATCH_BYTES:",
                "if count >= 255:",
            ),
        ),
        (
            f"{DOCSTORE_TESTS}/test_checkpoint.py::test_a_snapshots_batches_are_bounded_by_their_bytes",
        ),
    ),
    Bug(
        "snapshot-unchecked",
        "a damaged snapshot is not used",
        (
            Edit(
                SNAPSHOT_FILES_PY,
                "return file.read(_DIGEST_BYTES) == digest.digest()",
                "return bool(file.read(_DIGEST_BYTES))",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_checkpoint.py",),
    ),
    Bug(
        "snapshot-one-kept",
        "a damaged snapshot costs nothing",
        (Edit(SNAPSHOT_FILES_PY, "return self.lsns[0] if", "return self.lsns[-1] if"),),
        (f"{DOCSTORE_TESTS}/test_checkpoint.py::test_the_log_is_kept_from_the_older_snapshot_on",),
    ),
    Bug(
        "snapshot-unsynced",
        "a snapshot is whole after a power loss",
        (Edit(DURABLE_PY, "            files.sync_data(fd, new)\n", ""),),
        (f"{DOCSTORE_TESTS}/test_crash.py::test_a_store_survives_power_cuts",),
    ),
    Bug(
        "snapshot-directory-unsynced",
        "the log is cut when a snapshot's name is on the disk",
        (
            Edit(
                DURABLE_PY,
                '        raise\n    files.sync_directory(os.path.dirname(path) or ".")\n',
                "        raise\n",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_crash.py::test_a_store_survives_power_cuts",),
    ),
    Bug(
        "snapshot-renamed-before-sync",
        "a snapshot's name stands for a whole one",
        (
            Edit(DURABLE_PY, "        files.rename(new, path)\n", ""),
            Edit(
                DURABLE_PY,
                "            files.sync_data(fd, new)\n",
                "            files.rename(new, path)\n            files.sync_data(fd, new)\n",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_crash.py::test_a_store_survives_power_cuts",),
    ),
    Bug(
        "log-cut-before-its-snapshot",
        "what is cut off the log is in a snapshot",
        (
            Edit(
                f"{DOCSTORE}/store.py",
                "        self._files.write(lsn, ",
                "        log.truncate_before(lsn)\n        self._files.write(lsn, ",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_crash.py::test_a_store_survives_power_cuts",),
    ),
    Bug(
        "snapshot-name-of-another-unsynced",
        "a log begins anew when the snapshot before it is on the disk",
        (
            Edit(
                DURABLE_PY,
                "    files.rename(source, path)\n"
                '    files.sync_directory(os.path.dirname(path) or ".")\n',
                "    files.rename(source, path)\n",
            ),
        ),
        (
            f"{DOCSTORE_TESTS}/test_crash.py::test_a_snapshot_that_was_taken_over_survives_power_cuts",
        ),
    ),
    Bug(
        "snapshot-sent-damaged",
        "a damaged snapshot goes to no other node",
        (
            Edit(
                SNAPSHOT_FILES_PY,
                "                    place = self._place_of(lsn, file)\n            except",
                "                    file.seek(len(self._kind.magic))\n"
                "                    place = self._kind.place_of(path, file)\n            except",
            ),
        ),
        (
            f"{DOCSTORE_TESTS}/test_nodes.py::test_a_snapshot_that_is_not_whole_is_neither_sent_nor_taken",
        ),
    ),
    Bug(
        "snapshot-of-another-entry-sent",
        "a snapshot under another's name goes to no other node",
        (Edit(SNAPSHOT_FILES_PY, "if place.lsn != lsn:", "if place.lsn > lsn:"),),
        (f"{SNAPSHOT_FILES}::test_what_is_sent_is_of_this_log_and_of_its_entry",),
    ),
    Bug(
        "snapshot-counts-unseen",
        "the log is cut only behind two snapshots that are known to be whole",
        (
            Edit(
                SNAPSHOT_FILES_PY,
                "self.lsns = sorted({*self.lsns, lsn})",
                "self.lsns = self._found()",
            ),
        ),
        (f"{SNAPSHOT_FILES}::test_what_was_neither_opened_nor_written_does_not_count",),
    ),
    Bug(
        "snapshot-removed-meanwhile-fails",
        "a checkpoint fails no snapshot that is to be sent",
        (
            Edit(
                SNAPSHOT_FILES_PY,
                "except FileNotFoundError:  # a checkpoint came between",
                "except FileExistsError:  # a checkpoint came between",
            ),
        ),
        (f"{SNAPSHOT_FILES}::test_one_that_a_checkpoint_removes_meanwhile_is_passed_over",),
    ),
    Bug(
        "snapshot-held-in-memory",
        "a snapshot that is sent or taken need not fit into memory",
        (
            Edit(
                SNAPSHOT_FILES_PY,
                "file.read(min(_READ_BYTES, left_bytes))",
                "file.read(left_bytes)",
            ),
        ),
        (f"{SNAPSHOT_FILES}::test_what_is_sent_or_taken_is_not_held_in_memory",),
    ),
    Bug(
        "snapshot-set-aside-in-vain",
        "an opening that fails changes nothing",
        (
            Edit(
                SNAPSHOT_FILES_PY,
                "        if first_lsn > 1:\n            reason",
                '        self._set_aside(refused, "nothing", log)\n'
                "        if first_lsn > 1:\n            reason",
            ),
        ),
        (f"{SNAPSHOT_FILES}::test_nothing_is_set_aside_where_nothing_can_be_used",),
    ),
    Bug(
        "snapshot-of-a-crash-stays",
        "what a crash left of a snapshot is removed",
        (
            Edit(
                SNAPSHOT_FILES_PY,
                "                    os.unlink(os.path.join(self.path, _NEW))",
                "                    pass",
            ),
        ),
        (f"{SNAPSHOT_FILES}::test_what_a_crash_left_is_removed",),
    ),
    Bug(
        "snapshot-removed-while-it-is-written",
        "what is being written is not taken for what a crash left",
        (
            Edit(
                SNAPSHOT_FILES_PY,
                "        with self._changing:\n            if not log.read_only:",
                "        with contextlib.nullcontext():\n            if not log.read_only:",
            ),
        ),
        (f"{SNAPSHOT_FILES}::test_one_that_is_being_written_is_not_taken_for_what_a_crash_left",),
    ),
    Bug(
        "snapshot-reader-tidies-up",
        "a log that is open to read only keeps its snapshots as they are",
        (
            Edit(
                SNAPSHOT_FILES_PY,
                "        if log.read_only:\n            return  # the writer's next",
                "        if not log.log_id:\n            return  # the writer's next",
            ),
        ),
        (f"{SNAPSHOT_FILES}::test_a_reader_changes_nothing",),
    ),
    Bug(
        "snapshot-of-another-history-sent",
        "a snapshot whose log went another way goes to no other node",
        (Edit(SNAPSHOT_FILES_PY, "if place.term == term_of(lsn):", "if place.term:"),),
        (f"{DOCSTORE_TESTS}/test_nodes.py::test_a_snapshot_of_another_history_is_not_sent",),
    ),
    Bug(
        "store-keeps-transactions-over-a-snapshot",
        "a transaction sees one state",
        (
            Edit(
                f"{DOCSTORE}/applied.py",
                "            for transaction in list(self._transactions):\n"
                "                transaction.doom(",
                "            for transaction in ():\n                transaction.doom(",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_nodes.py::test_an_open_store_goes_on_from_a_snapshot",),
    ),
    Bug(
        "token-ignores-its-term",
        "a stream does not go on in another history",
        (Edit(f"{DOCSTORE}/watch.py", "if term != token.term:", "if term < 0:"),),
        (f"{DOCSTORE_TESTS}/test_watch.py::test_an_undone_entry_is_not_gone_on_from",),
    ),
    Bug(
        "token-shows-its-change-again",
        "a stream goes on right after the change of its token",
        (
            Edit(
                f"{DOCSTORE}/watch.py",
                "Begin(token.lsn, token.position + 1)",
                "Begin(token.lsn, token.position)",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_watch.py::test_a_transaction_of_several_entries_is_one",),
    ),
    Bug(
        "change-before-its-transaction",
        "a change says what the document was right before it",
        (
            Edit(
                f"{DOCSTORE}/state.py",
                "old = made[place] if place in made else before.get(id_key)",
                "old = before.get(id_key)",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_changes.py",),
    ),
    Bug(
        "history-begins-too-early",
        "a stream that is slow misses nothing",
        (Edit(f"{DOCSTORE}/history.py", "            self.begin_lsn = oldest.lsn\n", ""),),
        (f"{DOCSTORE_TESTS}/test_changes.py", f"{DOCSTORE_TESTS}/test_watch.py"),
    ),
    Bug(
        "history-without-bounds",
        "what is kept for streams is bounded",
        (
            Edit(
                f"{DOCSTORE}/history.py",
                "while self._size_bytes > self._bytes_max and",
                "while self._size_bytes < 0 and",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_watch.py::test_a_slow_stream_falls_behind_and_catches_up",),
    ),
    Bug(
        "checkpoint-cuts-under-streams",
        "a checkpoint leaves what is kept for streams",
        (
            Edit(
                f"{DOCSTORE}/store.py",
                "self._journal.keep_from(self._files.prune())",
                "self._files.prune()",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_watch.py::test_checkpoints_leave_what_is_kept_for_streams",),
    ),
    Bug(
        "stream-gives-up-an-entry",
        "a wait that is given up loses nothing",
        (
            Edit(
                f"{DOCSTORE}/watch.py",
                "            take = partial(self._take, entry)\n"
                '            self._work = in_thread(take, "walstore-changes")\n',
                "            taking: Any = asyncio.to_thread(self._take, entry)\n"
                "            self._work = asyncio.ensure_future(taking)\n",
            ),
        ),
        (
            f"{DOCSTORE_TESTS}/test_watch.py::test_a_stream_in_an_event_loop",
            f"{DOCSTORE_TESTS}/test_watch.py::test_a_stream_goes_on_after_its_loop_was_cancelled",
        ),
    ),
    Bug(
        "past-goes-too-far",
        "a view is of the entry that it says",
        (
            Edit(
                SNAPSHOT_FILES_PY,
                "            if found <= lsn:",
                "            if found <= lsn + 2:",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_past.py",),
    ),
    Bug(
        "commit-mark-trusted",
        "a store opens though its node has to hear anew what is committed",
        (
            Edit(
                SNAPSHOT_FILES_PY,
                "elif meta.first_lsn <= place.lsn <= shown_lsn:",
                "elif meta.first_lsn <= place.lsn:",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_nodes.py::test_a_node_that_has_to_hear_anew_what_is_committed",),
    ),
    Bug(
        "log-begins-anew-under-a-reader",
        "a follower's readers do not mind that it got a snapshot",
        (
            Edit(
                f"{DOCSTORE}/journal.py",
                "                if self.applied_lsn + 1 >= self.log.first_lsn:\n"
                "                    raise\n",
                "                raise\n",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_nodes.py::test_a_log_that_begins_anew_under_a_reader",),
    ),
    Bug(
        "reader-not-looking-again",
        "a store that is opened to read takes in what the writer did since",
        (
            Edit(
                f"{DOCSTORE}/concern.py",
                "        log.replay()  # looks anew at what the writer has done\n",
                "        pass\n",
            ),
        ),
        (f"{DOCSTORE_TESTS}/test_read_only.py",),
    ),
    Bug(
        "reader-gives-up",
        "a checkpoint in the middle of opening does not keep a reader out",
        (Edit(f"{DOCSTORE}/store.py", "OPEN_ATTEMPTS_MAX = 10", "OPEN_ATTEMPTS_MAX = 1"),),
        (f"{DOCSTORE_TESTS}/test_read_only.py",),
    ),
    Bug(
        "tinydb-in-place",
        "a change in place is noticed",
        (Edit("walstore/tinydb/lazy.py", "            self.raw = None\n", ""),),
        (f"{TINYDB_TESTS}::test_changes_in_place_are_noticed",),
    ),
    Bug(
        "tinydb-equal-is-same",
        "1, 1.0 and True are different documents",
        (
            Edit(
                "walstore/tinydb/edits.py",
                "        if raw != rows.get(key):\n",
                "        import msgspec\n"
                "        if key not in rows or checked != msgspec.msgpack.decode(rows[key]):\n",
            ),
        ),
        (f"{TINYDB_TESTS}::test_a_change_that_python_calls_equal_is_written",),
    ),
    Bug(
        "tinydb-two-entries",
        "a write of several tables is one entry",
        (
            Edit(
                "walstore/tinydb/storage.py",
                "        self.apply(edits)\n",
                "        for edit in edits:\n            self.apply([edit])\n",
            ),
        ),
        (f"{TINYDB_TESTS}::test_a_write_of_several_tables_is_one_entry",),
    ),
    Bug(
        "import-makes-infinity",
        "a number that no float can hold is not imported as another one",
        (Edit("walstore/cli/extended_json.py", "if math.isinf(number):", "if False:"),),
        ("tests/cli/test_documents.py::test_what_means_nothing_is_refused",),
    ),
    Bug(
        "import-wrong-line",
        "a bad line is named by its number",
        (Edit("walstore/cli/importing.py", "batch[error.at][0]", "batch[0][0]"),),
        ("tests/cli/test_documents.py::test_a_bad_line_is_named_with_what_was_imported",),
    ),
    Bug(
        "bar-takes-the-output",
        "what is printed while a progress bar is shown goes to standard output",
        (Edit("walstore/cli/progress.py", "redirect_stdout=False", "redirect_stdout=True"),),
        ("tests/cli/test_progress.py",),
    ),
    Bug(
        "raft-vote-before-it-is-durable",
        "a vote is durable before it is given",
        (
            Edit(
                CORE_PY,
                "effects.insert(0, PersistTerm(term))",
                "effects.append(PersistTerm(term))",
            ),
            Edit(
                CORE_PY,
                "        return effects + self._take(source, body, now_ms)\n",
                "        return self._take(source, body, now_ms) + effects\n",
            ),
        ),
        (RAFT_SIM,),
    ),
    Bug(
        "raft-own-append-counts-at-once",
        "a leader counts what is on its disk",
        (
            Edit(
                LEADER_PY,
                "lsns[shared.node_id] = shared.log.durable_lsn",
                "lsns[shared.node_id] = shared.log.last_lsn",
            ),
        ),
        (RAFT_SIM,),
    ),
    Bug(
        "raft-leader-needs-no-disk",
        "what is committed is on the leader's disk",
        (
            Edit(
                "walstore/replication/quorum.py",
                "return min(self.agreed(lsns, 0), lsns.get(leader_id, 0))",
                "return self.agreed(lsns, 0)",
            ),
        ),
        (RAFT_SIM,),
    ),
    Bug(
        "raft-old-entries-counted",
        "only entries of the own term are counted",
        (Edit(LEADER_PY, "if reached < self.began_lsn or reached <=", "if reached <="),),
        (RAFT_SIM,),
    ),
    Bug(
        "raft-terms-are-shared",
        "a voter votes once in a term",
        (
            Edit(
                "walstore/replication/terms.py",
                "    return xxh3_64_intdigest(node_id.encode()) & ((1 << _BITS) - 1)\n",
                "    return xxh3_64_intdigest(b'') & ((1 << _BITS) - 1)\n",
            ),
        ),
        ("tests/raft/test_node.py::test_a_term_has_one_leader_when_two_ask_for_votes_at_once",),
    ),
    Bug(
        "raft-anybody-asks-for-a-term",
        "only the owner of a term is voted for in it",
        (
            Edit(
                CORE_PY,
                "if claims and not owns_term(term, source):",
                "if leads and not owns_term(term, source):",
            ),
        ),
        ("tests/raft/test_node.py::test_nobody_is_voted_for_in_the_term_of_another",),
    ),
    Bug(
        "raft-log-behind-is-elected",
        "votes go to logs that are not behind",
        (
            Edit(
                CORE_PY,
                "granted = asks >= end and (asks >= claim or led)",
                "granted = True",
            ),
        ),
        (RAFT_SIM,),
    ),
    Bug(
        "raft-longer-log-is-elected",
        "logs are compared by their last term first",
        (
            Edit(
                CORE_PY,
                "granted = asks >= end and (asks >= claim or led)",
                "granted = asks[::-1] >= max(end[::-1], claim[::-1])",
            ),
        ),
        (RAFT_SIM, RAFT_TRACES),
    ),
    Bug(
        "raft-no-question",
        "a node that lags raises no term",
        (
            Edit(
                f"{RAFT}/node.py",
                "if self._question.won:\n            return effects",
                "if self._question:\n            return effects",
            ),
        ),
        (RAFT_TRACES,),
    ),
    Bug(
        "raft-leader-never-resigns",
        "a leader without a quorum resigns",
        (
            Edit(
                f"{RAFT}/leadership.py",
                "if now_ms >= self._contact_ms(now_ms) + self._options.election_ms:",
                "if now_ms < 0:",
            ),
        ),
        (RAFT_TRACES,),
    ),
    Bug(
        "raft-resigns-into-a-new-term",
        "a leader that resigns deposes nobody",
        (
            Edit(
                f"{RAFT}/node.py",
                "return effects + self.resign(now_ms) if self._leadership.over else effects",
                "return effects + self.step_down() if self._leadership.over else effects",
            ),
        ),
        (RAFT_TRACES,),
    ),
    Bug(
        "raft-leader-is-disturbed",
        "who hears a leader votes for nobody else",
        (
            Edit(
                f"{RAFT}/node.py",
                "if not body.transfer and self._hears_leader(now_ms):",
                "if not body.transfer and now_ms < 0:",
            ),
        ),
        (RAFT_TRACES,),
    ),
    Bug(
        "raft-any-message-is-of-a-leader",
        "who asks for votes does not lead",
        (
            Edit(
                f"{RAFT}/node.py",
                "        elif leads and source == self.leader_id:\n",
                "        elif source == self.leader_id:\n",
            ),
        ),
        (RAFT_TRACES,),
    ),
    Bug(
        "raft-transfer-is-refused",
        "a node that is asked to lead is voted for",
        (
            Edit(
                f"{RAFT}/node.py",
                "if not body.transfer and self._hears_leader(now_ms):",
                "if self._hears_leader(now_ms):",
            ),
        ),
        (RAFT_TRACES,),
    ),
    Bug(
        "raft-read-without-quorum",
        "a read is confirmed by a quorum",
        (
            Edit(
                f"{RAFT}/reads.py",
                "return quorum.agreed(self._answered | {self._node_id: self.round}, 0)",
                "return self.round",
            ),
        ),
        (RAFT_SIM,),
    ),
    Bug(
        "raft-read-of-an-open-round",
        "a read is confirmed by answers to what was asked after it",
        (
            Edit(
                f"{RAFT}/reads.py",
                "        self._new.append((read_id, lsn))\n",
                "        self._reads.append(_Read(read_id, lsn, self.round))\n",
            ),
        ),
        ("tests/raft/test_node.py::test_a_read_waits_for_a_round_that_begins_after_it",),
    ),
    Bug(
        "raft-read-by-a-new-leader",
        "a read is refused before the leader knows what is committed",
        (
            Edit(
                f"{RAFT}/leadership.py",
                "            return [ReadRefused(read_id, _TOO_EARLY)]\n",
                "            pass\n",
            ),
        ),
        (RAFT_SIM,),
    ),
    Bug(
        "raft-stale-confirmation",
        "an answer counts for its own term",
        (
            Edit(
                CORE_PY,
                "if term < shared.term:",
                "if term < shared.term and not isinstance(body, Confirm):",
            ),
        ),
        (RAFT_SIM,),
    ),
    Bug(
        "raft-transfer-to-a-log-behind",
        "the target of a transfer has everything first",
        (
            Edit(
                f"{RAFT}/leadership.py",
                "if progress is None or progress.matched_lsn < end_lsn:",
                "if progress is None:",
            ),
        ),
        (RAFT_TRACES,),
    ),
    Bug(
        "raft-transfer-never-ends",
        "a transfer that fails is given up",
        (
            Edit(
                f"{RAFT}/leadership.py",
                "if self._transfer and now_ms >= self._transfer.end_ms:",
                "if self._transfer and now_ms < 0:",
            ),
        ),
        (RAFT_TRACES,),
    ),
    Bug(
        "raft-transfer-takes-appends",
        "no append gets in between while the leadership is handed over",
        (
            Edit(
                f"{RAFT}/leadership.py",
                "hold = self._too_much or self._transfer is not None",
                "hold = self._too_much",
            ),
        ),
        (RAFT_TRACES,),
    ),
    Bug(
        "raft-uncommitted-unbounded",
        "what waits to be committed is bounded",
        (
            Edit(
                f"{RAFT}/leadership.py",
                "hold = self._too_much or self._transfer is not None",
                "hold = self._transfer is not None",
            ),
        ),
        (RAFT_TRACES,),
    ),
    Bug(
        "raft-stalled-leader-stays",
        "a leader whose disk stalls hands over",
        (
            Edit(
                f"{RAFT}/leadership.py",
                "return self._begin_transfer(best, now_ms, of_all=False) if best else []",
                "return []",
            ),
        ),
        (RAFT_TRACES,),
    ),
    Bug(
        "raft-outgoing-not-counted",
        "a joint configuration commits by both majorities",
        (
            Edit(
                "walstore/replication/quorum.py",
                "if self.outgoing else agreed",
                "if self.outgoing == 0 else agreed",
            ),
        ),
        (RAFT_TRACES,),
    ),
    Bug(
        "raft-outgoing-has-no-vote",
        "a joint configuration elects by both majorities",
        (
            Edit(
                "walstore/replication/quorum.py",
                "not self.outgoing or _has_majority(self.outgoing, granted)",
                "True",
            ),
        ),
        ("tests/replication/test_quorum.py",),
    ),
    Bug(
        "raft-no-joint-step",
        "voters change through a joint configuration",
        (
            Edit(
                f"{RAFT}/membership.py",
                "return Configuration(self.target, learners, self.voters)",
                "return Configuration(self.target, learners)",
            ),
        ),
        ("tests/raft/test_membership.py",),
    ),
    Bug(
        "raft-two-changes",
        "one change is in flight",
        (
            Edit(
                f"{RAFT}/leadership.py",
                "least = max(self._history.lsn, self._leader.began_lsn)",
                "least = self._leader.began_lsn",
            ),
        ),
        (RAFT_SIM,),
    ),
    Bug(
        "raft-change-before-own-entry",
        "a leader changes nothing before an entry of its term is committed",
        (
            Edit(
                f"{RAFT}/leadership.py",
                "least = max(self._history.lsn, self._leader.began_lsn)",
                "least = self._history.lsn",
            ),
        ),
        (RAFT_TRACES,),
    ),
    Bug(
        "raft-change-stays-when-cut",
        "a configuration goes with its entry",
        (
            Edit(
                f"{RAFT}/node.py",
                "                    history.cut(effect.after_lsn)\n",
                "                    pass\n",
            ),
        ),
        (RAFT_SIM,),
    ),
    Bug(
        "raft-refused-change-in-force",
        "a configuration that the disk refused is not in force",
        (
            Edit(
                f"{RAFT}/node.py",
                "        if self._history.lsn > self._log.last_lsn:\n",
                "        if self._history.lsn < 0:\n",
            ),
        ),
        ("tests/raft/test_node.py::test_a_configuration_that_the_disk_refused_is_not_in_force",),
    ),
    Bug(
        "raft-snapshot-without-members",
        "a snapshot brings the membership",
        (
            Edit(
                f"{RAFT}/node.py",
                "history.restart(part.lsn, decode",
                "print(part.lsn, decode",
            ),
        ),
        (RAFT_TRACES,),
    ),
    Bug(
        "raft-removed-leader-stays",
        "a leader that was removed leads no longer",
        (
            Edit(
                f"{RAFT}/leadership.py",
                "if self._shared.node_id not in configuration.voters:",
                "if self._shared.node_id == '':",
            ),
        ),
        (RAFT_TRACES,),
    ),
    Bug(
        "raft-newcomer-votes-too-soon",
        "a new voter has what is committed",
        (
            Edit(
                f"{RAFT}/leadership.py",
                "return all(lsns[node] >= committed_lsn for node in nodes)",
                "return True",
            ),
        ),
        (RAFT_TRACES,),
    ),
    Bug(
        "raft-learner-campaigns",
        "a learner never leads",
        (
            Edit(
                f"{RAFT}/node.py",
                "return self._shared.node_id in self._history.voters()",
                "return self._shared.node_id in self.configuration.members",
            ),
        ),
        ("tests/raft/test_node.py::test_a_learner_does_not_lead_when_it_is_asked_to",),
    ),
    Bug(
        "raft-stranger-is-not-followed",
        "a leader that the log does not know yet is followed",
        (
            Edit(
                f"{RAFT}/node.py",
                "        if not known and source not in self._shared.nodes:\n",
                "        if source not in self._shared.nodes:\n",
            ),
        ),
        (RAFT_TRACES,),
    ),
    Bug(
        "raft-last-entry-removes-it",
        "a node whose vote may still be needed campaigns, whatever its last configuration says",
        (
            Edit(
                f"{RAFT}/node.py",
                "return self._shared.node_id in self._history.voters()",
                "return self._shared.node_id in self.configuration.quorum.nodes",
            ),
        ),
        (RAFT_TRACES,),
    ),
    Bug(
        "raft-feeds-on-over-a-new-connection",
        "what was on its way to a removed node on an older connection is lost",
        (Edit(f"{RAFT}/node.py", "if node in self._leaving:  # what", "if False:  # what"),),
        ("tests/raft/test_node.py::test_what_a_removed_node_was_fed_is_lost_with_its_connection",),
    ),
    Bug(
        "raft-removed-node-forgotten",
        "a removed node learns that it is",
        (
            Edit(
                f"{RAFT}/node.py",
                "if progress.matched_lsn >= lsn and progress.committed_sent >= lsn:",
                "if lsn:",
            ),
        ),
        ("tests/raft/test_node.py::test_a_removed_node_is_fed_until_it_knows_that_it_is",),
    ),
    Bug(
        "raft-removed-node-deposes",
        "a removed node disturbs nobody",
        (
            Edit(
                f"{RAFT}/node.py",
                "if source not in self._leaving or term > self.term:",
                "if source not in self._leaving:",
            ),
        ),
        ("tests/raft/test_node.py::test_a_removed_node_is_not_listened_to",),
    ),
    Bug(
        "raft-empty-node-votes",
        "a node that knows no configuration gives no vote",
        (
            Edit(
                f"{RAFT}/node.py",
                "        if not self.configuration.voters and self._shared.claim <= (0, 0):\n",
                "        if self.term < 0:\n",
            ),
        ),
        ("tests/raft/test_node.py::test_a_node_without_a_configuration_gives_no_vote",),
    ),
    Bug(
        "raft-two-nodes-own-a-term",
        "no two members own the same terms",
        (
            Edit(
                f"{RAFT}/membership.py",
                "            if other != node:\n",
                "            if other < '':\n",
            ),
        ),
        ("tests/raft/test_membership.py",),
    ),
    Bug(
        "raft-driver-speaks-before-the-term",
        "no message leaves in a term that is not durable",
        (
            Edit(
                STREAMING_PY,
                "                        self._end_term()\n",
                "                        self._end_term()\n"
                "                        self.loop.run_in_executor(None, slow, effect)\n"
                "                        continue\n",
            ),
        ),
        (f"{RAFT_PROMISES}::test_no_message_leaves_in_a_term_that_is_not_durable",),
    ),
    Bug(
        "raft-driver-acks-alone",
        "an append of an elected leader is done when a quorum has it",
        (
            Edit(
                "walstore/replication/log.py",
                "lib.walcore_accept_appends(self._raw, not hold, False)",
                "lib.walcore_accept_appends(self._raw, not hold, True)",
            ),
        ),
        (f"{RAFT_PROMISES}::test_an_append_is_not_done_before_others_have_it",),
    ),
    Bug(
        "raft-driver-counts-what-is-not-durable",
        "a leader counts what its own disk has",
        (
            Edit(
                f"{RAFT}/driver.py",
                "        return self._log.durable_lsn\n",
                "        return self._log.last_lsn\n",
            ),
        ),
        (f"{RAFT_PROMISES}::test_an_append_is_not_done_before_the_leaders_own_disk_has_it",),
    ),
    Bug(
        "raft-driver-founder-acks-alone",
        "the first node of a new cluster takes no appends before the others vote",
        (
            Edit(
                f"{RAFT}/driver.py",
                "        return self._held or self._founding\n",
                "        return self._held\n",
            ),
        ),
        (f"{RAFT_CLUSTER}::test_the_first_node_of_a_new_cluster_takes_no_appends_alone",),
    ),
    Bug(
        "raft-driver-founds-before-all-have-met",
        "a cluster is made when all of its nodes have said that they have no log",
        (
            Edit(
                "walstore/replication/joining.py",
                "                if founds and not missing:\n",
                "                if founds:\n",
            ),
        ),
        (f"{RAFT_CLUSTER}::test_a_cluster_is_not_made_before_all_have_met",),
    ),
    Bug(
        "raft-driver-reads-what-it-has",
        "a read waits until a quorum has confirmed that the node leads",
        (
            Edit(
                f"{RAFT}/driver.py",
                "        self._input(lambda: self.core.read(read_id, monotonic_ms()))\n",
                "        self._answer_read(read_id, self.core.committed_lsn)\n",
            ),
        ),
        (f"{RAFT_CLUSTER}::test_the_minority_acks_nothing",),
    ),
    Bug(
        "raft-driver-truncates-the-members",
        "who the members are is kept before the entries that say so are dropped",
        (
            Edit(
                f"{RAFT}/driver.py",
                "            self._ledger.write(self.calls.call(self._ledger.mark))\n",
                "            self._ledger.marked_lsn = lsn\n",
            ),
        ),
        (f"{RAFT_CLUSTER}::test_the_members_are_known_where_the_log_was_truncated",),
    ),
    Bug(
        "raft-driver-believes-a-snapshot-that-is-not-there",
        "the members as of a snapshot count when the log begins behind it",
        (
            Edit(
                f"{RAFT}/ledger.py",
                "[mark for mark in marks if self._holds(mark)]",
                "marks",
            ),
        ),
        (f"{RAFT_PROMISES}::test_a_snapshot_that_was_not_installed_says_nothing",),
    ),
    Bug(
        "raft-driver-takes-any-number",
        "appends wait while too much is not committed",
        (
            Edit(
                f"{RAFT}/driver.py",
                "        self._held = effect.hold\n",
                "        self._held = False\n",
            ),
        ),
        (f"{RAFT_PROMISES}::test_appends_wait_while_too_much_is_not_committed",),
    ),
    Bug(
        "network-sends-after-the-end",
        "what is sent to a peer that has just ended harms nobody",
        (
            Edit(
                CONNECTION_PY,
                "self._ws.state is State.OPEN and not self._closing\n",
                "True\n",
            ),
        ),
        (
            "tests/replication/test_network.py::"
            "test_what_is_sent_to_a_peer_that_has_just_ended_harms_nobody",
        ),
    ),
    Bug(
        "client-speaks-as-a-node",
        "nothing that a client says reaches what nodes talk to",
        (
            Edit(
                CONNECTION_PY,
                "                self._check_role(self.session, message)\n",
                "",
            ),
        ),
        (f"{CLIENTS}::test_what_nodes_say_is_not_taken_from_a_client",),
    ),
    Bug(
        "machine-applies-again",
        "a command that is in the log twice is applied once",
        (
            Edit(
                f"{CLUSTER}/sessions.py",
                "        if known is not None:\n",
                "        if known is not None and lsn < known.lsn:\n",
            ),
        ),
        (
            "tests/cluster/test_sessions.py::test_random_histories_beside_a_model",
            "tests/cluster/test_host.py::test_a_command_that_is_in_the_log_twice_is_applied_once",
        ),
    ),
    Bug(
        "machine-forgets-sessions",
        "snapshots hold which commands were applied",
        (
            Edit(
                f"{CLUSTER}/host.py",
                "self._sessions.load(sessions)",
                "pass",
            ),
        ),
        ("tests/cluster/test_host.py::test_a_command_that_is_in_the_log_twice_is_applied_once",),
    ),
    Bug(
        "machine-keeps-half-of-a-command",
        "no snapshot has half of a command in which the machine failed",
        (
            Edit(
                f"{CLUSTER}/host.py",
                "        with self._lock:\n            self.check()\n            self._bytes = 0\n",
                "        self.check()\n        with self._lock:\n            self._bytes = 0\n",
            ),
        ),
        ("tests/cluster/test_host.py::test_half_of_a_command_is_shown_to_nobody",),
    ),
    Bug(
        "machine-restores-unsaid",
        "what a snapshot covers counts as applied",
        (
            Edit(
                f"{CLUSTER}/host.py",
                "if self._marked_lsn < self._restored_lsn:",
                "if False:",
            ),
        ),
        ("tests/cluster/test_host.py::test_what_comes_within_a_snapshot_is_said_to_be_applied",),
    ),
    Bug(
        "client-leaves-its-connections",
        "a close that is cancelled leaves no connection",
        (
            Edit(
                f"{CLUSTER}/async_client.py",
                "        finally:  # also of one who is cancelled meanwhile\n",
                "        except LinkError:\n            raise\n        else:\n",
            ),
        ),
        (f"{CLIENTS}::test_nothing_is_left_of_a_client_whose_close_was_cancelled",),
    ),
    Bug(
        "directory-with-a-slash-unsynced",
        "a new directory is in its parent after a power loss, however it was named",
        (Edit(DURABLE_PY, 'path.rstrip("/") or "/"', "path"),),
        ("tests/test_durable.py",),
    ),
    Bug(
        "machine-trusts-one-snapshot",
        "the log is kept from the older of two snapshots on",
        (
            Edit(
                f"{CLUSTER}/checkpoints.py",
                "        behind_lsn = self._files.prune()\n",
                "        behind_lsn = self._files.prune() and moment.lsn\n",
            ),
        ),
        ("tests/cluster/test_host.py::test_a_damaged_snapshot_costs_no_state",),
    ),
    Bug(
        "machine-reads-unconfirmed",
        "a leader that was deposed answers no linearizable read",
        (
            Edit(
                f"{CLUSTER}/serving.py",
                "self._log.linearizable_lsn(timeout_s=_CONFIRM_S)",
                "self._log.committed_lsn",
            ),
        ),
        (f"{CLIENTS}::test_a_deposed_leader_asked_at_once",),
    ),
    Bug(
        "client-says-failed",
        "a command whose answer was lost is unknown, and not undone",
        (
            Edit(
                f"{CLUSTER}/async_client.py",
                "asking.taken = asking.taken or error.sent",
                "asking.taken = False",
            ),
        ),
        (f"{CLIENTS}::test_a_command_that_may_be_there_is_unknown",),
    ),
    Bug(
        "docstore-barrier-waits-for-nothing",
        "a read behind a barrier has what was acknowledged before, or raises",
        (
            Edit(
                f"{DOCSTORE}/concern.py",
                "shared.linearizable_lsn(timeout_s=timeout_s) if is_shared(log) else ",
                "",
            ),
        ),
        ("tests/docstore/test_elected.py::test_who_was_deposed_does_not_show_what_is_old",),
    ),
    Bug(
        "connection-trusts-the-end-of-a-reset-peer",
        "a peer that resets its connection while it is refused disturbs nobody",
        (
            Edit(
                CONNECTION_PY,
                "            transport.write_eof()\n        except OSError:",
                "            transport.write_eof()\n        except MemoryError:",
            ),
        ),
        (f"{HOSTILE}::test_a_peer_that_resets_while_it_is_refused_disturbs_nobody",),
    ),
    Bug(
        "connection-ends-its-stream-twice",
        "the end of a stream that had to wait for its bytes raises nothing in the loop",
        (
            Edit(
                CONNECTION_PY,
                "self._loop.call_soon(self._write_end, self._transport)",
                "self._write_end(self._transport)",
            ),
        ),
        (f"{HOSTILE}::test_the_end_of_a_stream_is_said_once",),
    ),
    Bug(
        "joining-goes-on-when-interrupted",
        "a node that waits for its peers ends when it is told to",
        (Edit("walstore/replication/joining.py", "background.stop()", "pass"),),
        (f"{STARTING}::test_nothing_is_left_of_a_node_that_was_interrupted_while_it_joined",),
    ),
    Bug(
        "connection-speaks-after-the-end",
        "nothing is said to a peer whose stream has ended",
        (
            Edit(
                CONNECTION_PY,
                "        self._ws.receive_eof()\n        self._note_end(None)\n",
                "        self._ws.receive_eof()\n",
            ),
        ),
        (f"{HOSTILE}::test_nothing_is_said_to_a_peer_that_has_ended",),
    ),
    Bug(
        "raft-driver-goes-by-the-wall-clock",
        "a jump of the wall clock elects nobody",
        (
            Edit(
                DRIVER_PY,
                "    monotonic_ms,\n)\n",
                ")\nmonotonic_ms = lambda: time.time() * 1000\n",
            ),
        ),
        (f"{RAFT_FAULTS}::test_a_jump_of_the_clock_and_a_stalled_disk_elect_nobody",),
    ),
    Bug(
        "raft-driver-votes-before-its-disk-knows",
        "a vote that left is remembered after a power cut",
        (
            Edit(
                "walstore/wal/writing.py",
                "            self._set_term(max(term, self.meta.term))\n",
                "            self.meta = replace(self.meta, term=max(term, self.meta.term))\n"
                "            lib.walcore_writer_set_term(self.group.raw, self.meta.term)\n",
            ),
        ),
        (f"{RAFT_POWER_CUTS}[vote]",),
    ),
    Bug(
        "raft-driver-begins-anew-without-the-members",
        "the members as of a snapshot are known after a power cut",
        (
            Edit(
                f"{RAFT}/driver.py",
                "            self._ledger.write(self._ledger.mark(), "
                "Mark(part.lsn, part.lsn_term, known))\n",
                "            self._ledger._next = Mark(part.lsn, part.lsn_term, known)\n",
            ),
        ),
        (f"{RAFT_POWER_CUTS}[install]",),
    ),
    Bug(
        "cluster-feeds-a-lost-disk",
        "a voter that has lost its disk takes no part under its name",
        (
            Edit(
                f"{RAFT}/driver.py",
                "            and peer in core.configuration.quorum.nodes\n",
                "            and peer in core.configuration.learners\n",
            ),
        ),
        (f"{RAFT_CLUSTER}::test_a_voter_that_has_lost_its_disk_takes_no_part",),
    ),
    Bug(
        "seal-unchecked",
        "a damaged file of a node's is not believed",
        (
            Edit(
                "walstore/replication/sealed.py",
                "    return body if checksum == xxh3_64_hexdigest(body).encode() else None\n",
                "    return body if len(checksum) == 16 else None\n",
            ),
        ),
        ("tests/replication/test_sealed.py",),
    ),
    Bug(
        "cluster-believes-an-older-address",
        "of two addresses of a node the newer one holds",
        (
            Edit(
                "walstore/replication/addresses.py",
                "_rank(address) > _rank(held)",
                "address != held",
            ),
        ),
        ("tests/replication/test_addresses.py::test_the_newest_address_holds_in_any_order",),
    ),
    Bug(
        "cluster-forgets-addresses-when-it-closes",
        "a node that closes keeps the addresses that it was told",
        (
            Edit(
                "walstore/replication/streaming.py",
                "        if self._addressing.changed:  # who moves next",
                "        if self._addressing is None:  # who moves next",
            ),
        ),
        ("tests/replication/test_addresses.py::test_what_a_node_was_told_it_keeps_when_it_closes",),
    ),
    Bug(
        "addresses-kept-by-two-at-once",
        "an address book is whole, however many threads keep it",
        (
            Edit(
                "walstore/replication/addressing.py",
                "        with self._keeping:\n",
                "        if self._keeping:\n",
            ),
        ),
        ("tests/replication/test_addresses.py::test_a_book_that_is_kept_twice_at_once_is_whole",),
    ),
    Bug(
        "cluster-recovers-as-the-old-one",
        "a cluster that is made of a survivor is another one",
        (
            Edit(
                "walstore/cluster/recovery.py",
                "_NodesLog(unfinished, node_id, entropy(16))",
                "_NodesLog(unfinished, node_id, bytes.fromhex(old.log_id))",
            ),
        ),
        ("tests/cluster/test_recovery.py::test_a_lost_quorum_is_taken_up_again",),
    ),
    Bug(
        "cluster-counts-one-half",
        "while the voters change, each half has to have a majority",
        (
            Edit(
                "walstore/cluster/health.py",
                "    can_lose = min(_margin",
                "    can_lose = max(_margin",
            ),
        ),
        ("tests/cluster/test_health.py::test_how_many_may_be_lost_in_all_small_clusters",),
    ),
    Bug(
        "cluster-restarts-the-leader",
        "a leader hands over before it is restarted",
        (
            Edit(
                "walstore/cluster/manager.py",
                "                self.transfer()\n                self.wait_until_well()",
                "                pass",
            ),
        ),
        ("tests/cluster/test_manager.py::test_a_rolling_restart_fails_no_write",),
    ),
    Bug(
        "repair-votes-by-what-is-left",
        "a damaged node gives no vote to a log that lacks what it had",
        (Edit(CORE_PY, "asks >= end and (asks >= claim or led)", "asks >= end"),),
        (f"{REPAIR}::test_a_follower_gives_no_vote_to_a_log_that_lacks_what_it_had",),
    ),
    Bug(
        "repair-campaigns-without-what-it-lost",
        "a damaged node does not ask for votes before it has all again",
        (Edit(f"{RAFT}/node.py", " and not self.lacks\n", "\n"),),
        (f"{RAFT_REPAIR}::test_the_same_entry_on_all_nodes_is_no_one_s_to_make_up",),
    ),
    Bug(
        "repair-claims-after-the-cut",
        "what a damaged log had is noted before anything is changed",
        (
            Edit(MENDING_PY, "    before(claim)\n", ""),
            Edit(
                MENDING_PY,
                "    return Mended(end.lsn, claim, kept)\n",
                "    before(claim)\n    return Mended(end.lsn, claim, kept)\n",
            ),
        ),
        ("tests/wal/test_mending.py::test_the_claim_is_made_before_anything_is_changed",),
    ),
    Bug(
        "repair-keeps-nothing",
        "what was damaged, and all behind it, is kept",
        (
            Edit(
                MENDING_PY,
                "            files.rename(os.path.join(path, name), target)\n",
                "            files.remove(os.path.join(path, name))\n",
            ),
        ),
        ("tests/wal/test_mending.py::test_every_kind_of_place_flipped",),
    ),
    Bug(
        "audit-forgets-its-verdict",
        "a node whose log differs stays out when it is started again",
        (
            Edit(
                STREAMING_PY,
                "            write_note(self._log.path, QUARANTINE_NAME, span)\n",
                "            pass\n",
            ),
        ),
        ("tests/raft/test_audit.py::test_a_follower_that_differs_is_quarantined",),
    ),
    Bug(
        "raft-waits-for-a-dead-leader",
        "a leader whose process dies is replaced at once",
        (
            Edit(
                f"{RAFT}/node.py",
                "            self._clock.lost(now_ms)\n",
                "            self._clock.restart(now_ms)\n",
            ),
        ),
        (f"{RAFT_TRACES}::test_trace[leader_dies]",),
    ),
    Bug(
        "replace-takes-a-vote",
        "no voter is put in another's place, which would be removing that one unchecked",
        (
            Edit(
                "walstore/replication/manager.py",
                "if old in voters | learners and new in (",
                "if new == old and new in (",
            ),
        ),
        ("tests/cluster/test_manager.py::test_nobody_is_removed_who_is_needed",),
    ),
    Bug(
        "recover-leaves-the-machine-behind",
        "a machine's snapshot goes to the new cluster, whose log begins behind it",
        (
            Edit(
                "walstore/cli/cluster_recover.py",
                "carry=(carry_machine, carry_documents)",
                "carry=(carry_documents,)",
            ),
        ),
        ("tests/cli/test_cluster.py::test_recover_takes_a_machine_over",),
    ),
    Bug(
        "recover-takes-what-differs",
        "no cluster is made of a log in quarantine",
        (Edit("walstore/cluster/recovery.py", "        _check_sound(own)\n", ""),),
        ("tests/cluster/test_recovery.py::test_what_damage_took_and_what_differs_is_told",),
    ),
    Bug(
        "addresses-of-strangers-stay",
        "a full address book has room for members",
        (
            Edit(
                "walstore/replication/addresses.py",
                "gone = next(strange, None) if wanted else None",
                "gone = None",
            ),
        ),
        ("tests/replication/test_addresses.py::test_a_full_book_has_room_for_members",),
    ),
    Bug(
        "client-is-told-that-nothing-was-done",
        "what may be applied is never called undone",
        (
            Edit(
                "walstore/replication/clients.py",
                "Status.UNSETTLED if done else",
                "Status.BUSY if done else",
            ),
        ),
        (f"{CLIENTS}::test_an_answer_that_has_no_room_is_had_later",),
    ),
    Bug(
        "machine-stops-at-a-refusal",
        "no refusal ends a machine, whatever its reason",
        (Edit(f"{CLUSTER}/sessions.py", '.encode(errors="replace")', ".encode()"),),
        ("tests/cluster/test_host.py::test_a_refusal_that_cannot_be_encoded_is_one",),
    ),
    Bug(
        "snapshot-beyond-the-watermark-unchecked",
        "a snapshot whose entry is not durable yet is compared with it",
        (Edit(SNAPSHOT_FILES_PY, "log.last_lsn if log._replicated is None else ", ""),),
        (f"{SNAPSHOT_FILES}::test_an_entry_that_is_not_durable_yet_is_compared_too",),
    ),
    Bug(
        "machine-skips-what-is-beyond",
        "a snapshot beyond the end of a log of one node is never taken up later",
        (
            Edit(
                SNAPSHOT_FILES_PY,
                "_end_lsn(log) and log._replicated is not None:",
                "_end_lsn(log):",
            ),
        ),
        (
            "tests/cluster/test_host.py::"
            "test_a_snapshot_beyond_the_end_of_a_log_of_one_node_is_set_aside",
        ),
    ),
    Bug(
        "repair-believes-a-stale-watermark",
        "a watermark is not where a damaged log ended",
        (
            Edit(
                MENDING_PY,
                "LSN_MAX if last_lsn is None else last_lsn)",
                "last_lsn or (watermark.durable_lsn if watermark else LSN_MAX))",
            ),
        ),
        ("tests/wal/test_mending.py::test_a_watermark_is_not_where_the_log_ended",),
    ),
    Bug(
        "repair-votes-for-anyone-of-the-term",
        "a log that is short of a claim gets a vote only where it is that of the term's leader",
        (
            Edit(
                CORE_PY,
                "request.last_term == claim[0] and owns_term(claim[0], source)",
                "request.last_term == claim[0]",
            ),
        ),
        (f"{CORE_TESTS[0]}::test_a_damaged_log_votes_for_who_led_in_the_claim_s_term",),
    ),
    Bug(
        "repair-stands-still",
        "who led in the claim's term is elected by a node that claims more",
        (Edit(CORE_PY, "asks >= end and (asks >= claim or led)", "asks >= max(end, claim)"),),
        (f"{CORE_TESTS[0]}::test_a_damaged_log_votes_for_who_led_in_the_claim_s_term",),
    ),
    Bug(
        "repair-forgets-a-claim-too-early",
        "what a new leader knows of earlier terms fulfils no claim",
        (
            Edit(
                "walstore/replication/follower.py",
                "return here and log.term_of(lsn) == self._shared.term",
                "return here",
            ),
        ),
        (f"{CORE_TESTS[0]}::test_a_claim_is_fulfilled_by_its_own_leader",),
    ),
    Bug(
        "repair-takes-bad-sectors-for-a-refusal",
        "sectors that cannot be read are damage",
        (
            Edit(
                "walstore/replication/repair.py",
                "error.errno != errno.EIO:\n        return error",
                "error.errno:\n        return error",
            ),
        ),
        ("tests/raft/test_audit.py::test_sectors_that_cannot_be_read_are_damage",),
    ),
    Bug(
        "repair-loses-a-damaged-claim",
        "a claim whose note is damaged is of all that there may have been",
        (
            Edit(
                "walstore/replication/repair.py", "Claim(term, LSN_MAX) if there else None", "None"
            ),
        ),
        (f"{REPAIR}::test_a_damaged_note_says_the_worst",),
    ),
    Bug(
        "raft-mistake-of-the-core-goes-by",
        "nothing comes of a decision in which the core made a mistake",
        (
            Edit(
                STREAMING_PY,
                "except Exception as error:  # a mistake of ours, as in a task",
                "except ArithmeticError as error:",
            ),
        ),
        (f"{UNSAID_MEMBERS}::test_a_mistake_of_the_core_ends_the_node_s_part",),
    ),
    Bug(
        "raft-first-members-cannot-be-cut",
        "a node whose log said nothing of its members before can cut what says it",
        (
            Edit(
                f"{RAFT}/ledger.py",
                "return found if found and found[0][0] <= before else "
                "[(before, Configuration()), *found]",
                "return found or [(before, Configuration())]",
            ),
        ),
        (f"{UNSAID_MEMBERS}::test_members_that_were_never_committed_can_be_cut",),
    ),
    Bug(
        "raft-snapshot-without-members",
        "a snapshot says who the members are, also where the log behind it does not",
        (
            Edit(
                f"{RAFT}/history.py",
                "first = next((item for _, item in known if item.voters), Configuration())",
                "first = Configuration()",
            ),
        ),
        (f"{UNSAID_MEMBERS}::test_a_follower_far_behind_is_told_who_the_members_are",),
    ),
    Bug(
        "raft-writing-down-undoes-a-change",
        "a change that is made before the members are written down stays",
        (
            Edit(
                DRIVER_PY,
                "        if core.configuration_lsn != self._ledger.assumed:  # somebody's",
                "        if not core.configuration_lsn:  # somebody's",
            ),
        ),
        (f"{UNSAID_MEMBERS}::test_members_that_were_changed_meanwhile_are_not_written_down",),
    ),
    Bug(
        "raft-hands-over-what-is-written",
        "a hand-over that was asked for loses nothing that was accepted",
        (
            Edit(
                f"{RAFT}/leadership.py",
                "end_lsn = log.accepted_lsn if self._transfer.of_all else log.last_lsn",
                "end_lsn = log.last_lsn",
            ),
        ),
        ("tests/raft/test_node.py", RAFT_SIM),
    ),
    Bug(
        "raft-hands-over-before-appends-are-held",
        "what is appended before appends are held is handed over, too",
        (
            Edit(
                f"{RAFT}/leadership.py",
                "return self.hold() or self._time_out_target()",
                "return self.hold() + self._time_out_target()",
            ),
        ),
        (f"{HANDING_OVER}::test_what_was_appended_before_appends_are_held_is_handed_over",),
    ),
    Bug(
        "raft-hand-over-ended-by-its-target",
        "a voter that wants to lead ends no hand-over to itself",
        (
            Edit(
                f"{RAFT}/leadership.py",
                "if self._transfer and self._transfer.node == node:",
                "if self._transfer and now_ms < 0:",
            ),
        ),
        (f"{HANDING_OVER}::test_a_voter_that_wants_to_lead_ends_no_hand_over",),
    ),
    Bug(
        "raft-goes-on-after-a-failed-read",
        "a node that could not read its log when it decided takes no part any more",
        (
            Edit(
                STREAMING_PY,
                "            return question()\n"
                "        except (OSError, WALStoreError, MemoryError) as error:\n"
                "            self._fail(error)\n",
                "            return question()\n"
                "        except (OSError, WALStoreError, MemoryError) as error:\n"
                '            logger.warning("%s", error)\n',
            ),
        ),
        (f"{FAILING_READS}::test_no_vote_leaves_before_its_term_is_durable",),
    ),
    Bug(
        "raft-stands-still-when-its-deadline-cannot-be-read",
        "a node that cannot tell when to look again says so",
        (
            Edit(
                STREAMING_PY,
                "self._ask(lambda: self.core.next_deadline_ms)",
                "self.core.next_deadline_ms",
            ),
        ),
        (f"{FAILING_READS}::test_a_node_that_cannot_see_when_to_look_again_says_so",),
    ),
    Bug(
        "raft-stops-looking-after-itself",
        "a node that cannot tell what damage took of it says so, and takes it for no mistake",
        (Edit(STREAMING_PY, "self._ask(lambda: self.core.lacks) is False", "not self.core.lacks"),),
        (f"{FAILING_READS}::test_a_node_that_cannot_see_what_it_lacks_says_so",),
    ),
    Bug(
        "snapshot-held-for-nobody",
        "a snapshot that is opened when its sending was given up is let go",
        (Edit(SENDING_PY, "            opening.add_done_callback(_let_go)\n", ""),),
        (SENDING, f"{RESUMING}::test_a_snapshot_that_comes_after_the_leadership_is_let_go"),
    ),
    Bug(
        "raft-two-hand-overs-at-once",
        "a second hand-over is refused while the first is under way",
        (
            Edit(
                DRIVER_PY,
                "        if self._transfer is not None:\n            raise PromotionError",
                "        if not self.leading:\n            raise PromotionError",
            ),
        ),
        (f"{HANDING_OVER}::test_one_hand_over_at_a_time",),
    ),
    Bug(
        "raft-hand-over-ended-by-another",
        "what becomes of a hand-over is told to who waits for it, and nobody else",
        (
            Edit(
                DRIVER_PY,
                "self._transfer if self._target == effect.node else None",
                "self._transfer",
            ),
        ),
        (f"{HANDING_OVER}::test_a_voter_that_wants_to_lead_ends_no_hand_over",),
    ),
    Bug(
        "raft-hand-over-without-an-end",
        "a hand-over ends while the disk holds up the core",
        (
            Edit(
                DRIVER_PY,
                "not failed.done() and monotonic_ms() < deadline_ms",
                "not failed.done() and deadline_ms",
            ),
        ),
        (f"{HANDING_OVER}::test_a_hand_over_that_waits_for_the_disk_ends",),
    ),
    Bug(
        "raft-hand-over-after-its-end",
        "a hand-over that nobody waits for any more does not begin",
        (Edit(DRIVER_PY, "if self._transfer is failed else []", "if failed else []"),),
        (f"{HANDING_OVER}::test_a_hand_over_that_nobody_waits_for_any_more_does_not_begin",),
    ),
    Bug(
        "start-hides-what-kept-it-from-beginning",
        "a node that did not begin is not handed out",
        (
            Edit(
                "walstore/replication/background.py",
                "            self._error = error  # first: that it began in part must not be hidden"
                " by its stop\n            await self._service.stop()\n",
                "            await self._service.stop()\n            self._error = error\n",
            ),
        ),
        (f"{STARTING}::test_what_keeps_a_service_from_beginning_is_told_whatever_its_end_brings",),
    ),
    Bug(
        "node-within-its-callers-context",
        "a node knows nothing of the context variables of who opened it",
        (
            Edit(
                "walstore/replication/background.py",
                "contextvars.Context().run(self._runner.get_loop)",
                "self._runner.get_loop()",
            ),
        ),
        (STARTING,),
    ),
    Bug(
        "interrupted-start-goes-on",
        "nothing is left of a node whose opening is interrupted",
        (
            Edit(
                "walstore/replication/manager.py",
                '        if hasattr(self, "_background"):',
                "        if False:",
            ),
        ),
        (STARTING,),
    ),
    Bug(
        "interrupted-client-goes-on",
        "nothing is left of a client whose beginning is interrupted",
        (
            Edit(
                "walstore/cluster/client.py",
                "            self._background.stop()\n            raise\n",
                "            raise\n",
            ),
        ),
        ("tests/cluster/test_clients.py",),
    ),
    Bug(
        "interrupted-join-is-an-end",
        "what is closed again after an interrupt waits for its threads",
        (
            Edit(
                "walstore/thread.py",
                "            with self._gate:\n                pass\n",
                "            super().join()\n",
            ),
        ),
        (
            "tests/test_thread.py",
            "tests/wal/test_interrupted.py",
            "tests/replication/test_starting.py",
        ),
    ),
    Bug(
        "exit-waits-for-a-thread-that-was-stopped",
        "a log may be closed at the end of the interpreter",
        (Edit("walstore/thread.py", "sys.is_finalizing() or self", "self"),),
        ("tests/test_thread.py::test_nobody_waits_at_the_end_of_the_interpreter",),
    ),
    Bug(
        "exit-gives-the-log-away-amid-a-write",
        "a log that is closed at the end of the interpreter is not another's while threads write",
        (
            Edit(
                WRITING_PY,
                "        if sys.is_finalizing():\n            return\n",
                "",
            ),
        ),
        (f"{INTERRUPTED}::test_a_log_may_be_closed_at_the_end_of_the_interpreter",),
    ),
    Bug(
        "interrupted-start-counts-as-one",
        "nobody waits for a thread that was interrupted before it was there",
        (
            Edit(
                "walstore/thread.py",
                "or self._process(0) != os.getpid()",
                "or self._process(os.getpid()) != os.getpid()",
            ),
        ),
        (
            "tests/test_thread.py"
            "::test_nobody_waits_for_a_thread_whose_start_was_interrupted_before_it_had_begun",
        ),
    ),
    Bug(
        "handler-waits-for-what-it-came-into",
        "a signal's handler may look at a log",
        (
            Edit(
                WRITING_PY,
                "        self._lock = threading.RLock()",
                "        self._lock = threading.Lock()",
            ),
        ),
        (f"{INTERRUPTED}::test_a_signal_s_handler_may_look_amid_a_change",),
    ),
    Bug(
        "interrupted-close-of-a-reader-is-its-last",
        "a second close of a reader ends what the first one left",
        (
            Edit(
                MANAGER_PY,
                "        elif self._follower is not None:\n",
                "        elif self._follower is not None and not self._follower._closed:\n",
            ),
        ),
        (f"{INTERRUPTED}::test_interrupted_close_of_a_reader_is_ended_by_the_next",),
    ),
    Bug(
        "late-job-beside-the-last",
        "work in the background is done one after another, to its end",
        (
            Edit(
                "walstore/wal/housekeeper.py",
                "            self._join()  # one after another\n",
                "            pass\n",
            ),
        ),
        ("tests/wal/test_interrupted.py",),
    ),
    Bug(
        "interrupted-close-of-a-machine-is-its-last",
        "a second close of a machine's host ends what the first one left",
        (
            Edit(
                "walstore/cluster/host.py",
                "        if self._closed:\n            return\n        if self._server",
                "        if self._closing:\n            return\n        if self._server",
            ),
        ),
        ("tests/cluster/test_host.py::test_a_close_that_was_interrupted_is_ended_by_the_next",),
    ),
    Bug(
        "closing-node-says-that-it-leads",
        "what comes while a node is closed is refused, and not tried again and again",
        (
            Edit(
                STREAMING_PY,
                "        self.leading = False  # before the log takes none: who is refused would"
                " try again\n",
                "",
            ),
        ),
        ("tests/replication/test_manager.py::test_what_comes_while_a_node_closes_is_told_so",),
    ),
    Bug(
        "callback-waits-for-its-own-thread",
        "a callback never holds up the thread that it runs in",
        (Edit(STREAMING_PY, "0.0 if self.calls.is_here() else timeout_s", "timeout_s"),),
        ("tests/replication/test_manager.py::test_a_callback_does_not_wait_for_its_own_thread",),
    ),
    Bug(
        "raft-closed-amid-a-hand-over-that-it-made",
        "a hand-over that did not happen is not told as one that did",
        (
            Edit(
                DRIVER_PY,
                "        self.check()  # closed, it leads no longer, and has handed over nothing\n",
                "",
            ),
        ),
        (f"{HANDING_OVER}::test_a_hand_over_of_a_node_that_is_closed_meanwhile_has_not_happened",),
    ),
    Bug(
        "closed-by-its-own-thread",
        "who would wait for itself is told so, before anything is changed",
        (
            Edit(
                "walstore/replication/background.py",
                "threading.current_thread() is self._thread or self._threads.has_this()",
                "self._threads.has_this()",
            ),
        ),
        (
            f"{STARTING}::test_no_thread_of_a_service_waits_for_its_end",
            "tests/replication/test_manager.py"
            "::test_a_callback_may_look_at_its_node_and_not_wait_for_it",
        ),
    ),
    Bug(
        "forked-child-keeps-the-address",
        "a child made by fork holds no address, also while a node joins",
        (Edit(NETWORK_PY, "        _listeners.add(listener)\n", ""),),
        (
            "tests/replication/test_joining.py"
            "::test_a_child_made_by_fork_while_a_node_joins_holds_no_address",
        ),
    ),
    Bug(
        "start-forgets-the-watch-it-made",
        "a node that gets no descriptors for its second watch lets go of the first",
        (Edit(STREAMING_PY, "        self._watches.append(watch)", "        assert watch"),),
        (f"{STARTING}::test_a_node_says_that_it_has_too_few_descriptors",),
    ),
    Bug(
        "raft-leads-after-its-end",
        "a node that has ended does not begin to lead",
        (
            Edit(
                STREAMING_PY,
                "            self._work = None\n        if self._has_ended:\n",
                "            self._work = None\n        if self._has_ended and not done:\n",
            ),
        ),
        (f"{FAILING_READS}::test_a_node_that_has_ended_does_not_begin_to_lead",),
    ),
    Bug(
        "raft-leads-by-half",
        "a node that cannot read its log when it begins to lead takes that for no mistake",
        (
            Edit(
                STREAMING_PY,
                "self._ask(partial(self._leave_disk, effect, done))",
                "self._leave_disk(effect, done)",
            ),
        ),
        (f"{FAILING_READS}::test_a_node_that_meets_it_when_it_begins_to_lead_says_so",),
    ),
    Bug(
        "repair-fills-the-disk-with-copies",
        "a damaged file is kept once, however often the cut fails",
        (Edit(MENDING_PY, "kept_before(path, end.segment.path) or ", ""),),
        ("tests/wal/test_mending.py::test_a_full_disk_gets_one_copy",),
    ),
    Bug(
        "network-welcomes-whom-it-refuses",
        "a node that has no room is dialed ever more slowly, and never taken for connected",
        (
            Edit(
                CONNECTION_PY,
                "        self._owner.check_admission(self)\n",
                "",
            ),
            Edit(
                CONNECTION_PY,
                "        self.session = shake.session\n",
                "        self._owner.check_admission(self)\n        self.session = shake.session\n",
            ),
        ),
        (f"{NETWORK}::test_a_node_that_has_no_room_is_dialed_ever_more_slowly",),
    ),
    Bug(
        "dialer-without-room-says-nothing",
        "a node that has no room for the one it dials says so",
        (
            Edit(
                CONNECTION_PY,
                "        self._owner.check_admission(self)\n",
                "        self.session = shake.session\n        self._owner.check_admission(self)\n",
            ),
        ),
        (f"{NETWORK}::test_a_node_without_room_for_the_one_it_dials_says_so",),
    ),
    Bug(
        "joining-gives-up-where-there-is-no-room",
        "a new node asks the next one where one has no room",
        (
            Edit(
                "walstore/replication/joining.py",
                "if error.code is not CloseCode.TRY_LATER:",
                "if error.code:",
            ),
        ),
        ("tests/replication/test_joining.py::test_the_next_one_is_asked_where_one_has_no_room",),
    ),
    Bug(
        "promotion-answered-by-another-campaign",
        "who asked for votes is told what became of its own campaign",
        (
            Edit(
                STREAMING_PY,
                "        await asyncio.wait([campaign], timeout=_FULL_PAUSE_S)\n",
                "        await asyncio.wait([campaign], timeout=_FULL_PAUSE_S)\n"
                "        campaign = self._campaign\n",
            ),
        ),
        (
            "tests/replication/test_promotion.py::"
            "test_who_asked_in_vain_is_told_of_its_own_campaign",
        ),
    ),
    Bug(
        "closing-hides-what-kept-it-from-opening",
        "a node that did not open says why, whatever its closing brings",
        (
            Edit(
                "walstore/replication/manager.py",
                "except WALStoreError as closing:",
                "except MemoryError as closing:",
            ),
        ),
        (f"{STARTING}::test_what_keeps_a_node_from_opening_is_told_where_it_cannot_close_either",),
    ),
    Bug(
        "network-takes-what-comes-too-late",
        "what a replaced connection carried is not taken after what the newer one did",
        (
            Edit(
                "walstore/replication/network.py",
                "if self._connections.get(connection.peer_id) is not connection:\n"
                "            return None\n",
                "if connection.peer_id not in self._connections:\n            return None\n",
            ),
        ),
        (
            "tests/replication/test_network.py::"
            "test_what_a_replaced_connection_carried_comes_no_more",
        ),
    ),
    Bug(
        "mark-lost-amid-another",
        "other processes are told of all that is committed",
        (
            Edit(
                WRITER_C,
                "} while (lsn != w->shared.committed_lsn && !w->stopping);",
                "} while (0);",
            ),
        ),
        (INTERPOSED,),
    ),
    Bug(
        "opened-leaks",
        "a failing call leaves no descriptor open",
        (
            Edit(
                FILES_PY,
                "    try:\n        yield fd\n    finally:\n        close(fd)\n",
                "    yield fd\n    close(fd)\n",
            ),
        ),
        ("tests/wal/test_files.py",),
    ),
    Bug(
        "mark-written-after-a-stop",
        "nothing is written to a descriptor that may be another file's by now",
        (
            Edit(
                WRITER_C,
                "} while (lsn != w->shared.committed_lsn && !w->stopping);",
                "} while (lsn != w->shared.committed_lsn);",
            ),
        ),
        (INTERPOSED,),
    ),
    Bug(
        "stop-does-not-wait-for-the-mark",
        "nothing is written to a descriptor that may be another file's by now",
        (Edit(WRITER_C, "w->syncing || w->marking)", "w->syncing)"),),
        (INTERPOSED,),
    ),
    Bug(
        "restart-amid-a-mark",
        "a log that begins anew is told of with marks of its own",
        (
            Edit(
                WRITER_C,
                "    while (w->marking) pthread_cond_wait(&w->changed, &w->mutex);\n",
                "",
            ),
        ),
        (INTERPOSED,),
    ),
    Bug(
        "alone-takes-back-what-is-committed",
        "what is committed never goes back",
        (
            Edit(
                WRITER_C,
                "if (w->commits_alone && target > w->shared.committed_lsn) {",
                "if (w->commits_alone) {",
            ),
        ),
        (WRITER_LIMITS,),
    ),
    Bug(
        "records-taken-in-part-are-all",
        "records that the log did not take are not called appended",
        (
            Edit(
                WRITER_C,
                "else if (lsn > 0) lsn = settle(w, last, last);",
                "else lsn = settle(w, last, last);",
            ),
        ),
        (WRITER_LIMITS,),
    ),
    Bug(
        "lag-less-what-was-written-last",
        "a follower that is too far behind pins nothing, also where all was written at once",
        (
            Edit(
                STREAMING_PY,
                "        self._note_end(now_ms)\n        others = ",
                "        others = ",
            ),
        ),
        (CATCHING_UP,),
    ),
    Bug(
        "samples-outlive-a-leadership",
        "a new leader keeps what a follower that is away lacks",
        (
            Edit(
                STREAMING_PY,
                "self._samples.restart("
                "self._log.last_lsn, self._log.bytes_written, monotonic_ms())",
                "pass",
            ),
        ),
        (CATCHING_UP,),
    ),
    Bug(
        "lag-since-the-opening",
        "what was written before a leadership is nobody's lag",
        (
            Edit(
                LAG_PY,
                "self._bytes[max(0, first_missing - 1)]",
                "self._bytes[first_missing - 1] if first_missing else 0",
            ),
        ),
        (RETENTION,),
    ),
    Bug(
        "lag-since-a-sample-that-is-kept",
        "however long nothing is committed, a leader knows how much it has written since",
        (Edit(LAG_PY, "        kept.append(0)\n", ""),),
        (RETENTION,),
    ),
    Bug(
        "lag-of-what-was-left-out",
        "what a follower lacks is known to 5 %, and not taken for all that a leader has written",
        (Edit(LAG_PY, "if before_bytes > bytes_most or", "if"),),
        (RETENTION,),
    ),
    Bug(
        "nothing-kept-for-who-was-not-heard",
        "a new leader keeps the end of its log for followers that it has not heard yet",
        (Edit(RETENTION_PY, "if not progress.matched_lsn:", "if False:"),),
        (RETENTION,),
    ),
    Bug(
        "core-asked-while-the-log-begins-anew",
        "what damage took is not called back before it is",
        (
            Edit(
                STREAMING_PY,
                "return self._work is None and self._ask(",
                "return self._ask(",
            ),
        ),
        (BEGINNING_ANEW,),
    ),
    Bug(
        "threads-of-the-interpreters",
        "a node works on when the main thread has returned",
        (Edit(THREADS_PY, "self._threads if executor is None else executor", "executor"),),
        (f"{THREADS}::test_nodes_go_on_when_the_main_thread_has_returned",),
    ),
    Bug(
        "no-thread-more-is-a-failure",
        "work that finds no thread waits for one",
        (
            Edit(
                THREADS_PY,
                "                    if not self._threads:\n                        raise\n",
                "                    raise\n",
            ),
        ),
        (THREADS,),
    ),
    Bug(
        "threads-are-left",
        "a node that is closed leaves no thread behind, and none at work on its log",
        (Edit(THREADS_PY, "        await self._threads.end()\n", "        pass\n"),),
        (THREADS,),
    ),
    Bug(
        "audit-without-memory-is-fatal",
        "an audit that finds no memory leaves entries out, and the node goes on",
        (
            Edit(
                "walstore/replication/auditing.py", "(WALStoreError, MemoryError)", "WALStoreError"
            ),
        ),
        (THREADS,),
    ),
    Bug(
        "nonsense-of-the-application-is-fatal",
        "an application that says nonsense of its newest snapshot is asked again",
        (
            Edit(
                SENDING_PY,
                "            newest = None if answer is None else self._checked(*answer)\n",
                "            newest = answer\n",
            ),
        ),
        (SENDING,),
    ),
    Bug(
        "disk-that-fails-a-candidate-is-a-mistake",
        "a disk that fails is said to be that, and no mistake of a task that waited for it",
        (
            Edit(
                STREAMING_PY,
                "            if error is not self.error:\n                raise\n",
                "            assert error\n            raise\n",
            ),
        ),
        ("tests/replication/test_failing_disks.py", BEGINNING_ANEW),
    ),
    Bug(
        "task-dies-unseen",
        "a mistake of ours ends the node's part, and is said",
        (Edit("walstore/replication/tasks.py", "            fail(error)\n", ""),),
        (BEGINNING_ANEW,),
    ),
    Bug(
        "mistake-of-the-application-is-fatal",
        "an application that does not say which snapshot is its newest is asked again",
        (
            Edit(
                SENDING_PY,
                "        except Exception as error:\n            # The application's",
                "        except OSError as error:\n            # The application's",
            ),
        ),
        (SENDING,),
    ),
    Bug(
        "parts-outlive-a-leadership",
        "a leadership that ends amid a batch costs no connection",
        (
            Edit(
                "walstore/replication/receiving.py",
                "        if self._terms.get(node) != term:\n",
                "        if node not in self._terms:\n",
            ),
        ),
        (RECEIVING,),
    ),
    Bug(
        "mark-of-the-members-before-a-snapshot",
        "behind a snapshot the members are those that came with it",
        (
            Edit(
                "walstore/raft/ledger.py",
                "return [self._next if self._log.first_lsn == mark.lsn + 1 else mark]",
                "return [mark]",
            ),
        ),
        (BEGINNING_ANEW,),
    ),
    Bug(
        "sends-what-is-not-wanted",
        "what a follower asked for before it asked for something else is not sent",
        (
            Edit(
                SENDING_PY,
                "        if not self._core.awaits(effect):\n            return\n        for body",
                "        for body",
            ),
        ),
        (SENDING,),
    ),
    Bug(
        "command-answered-twice",
        "a request is answered once, whatever fails meanwhile",
        (
            Edit(
                "walstore/cluster/serving.py",
                "was expected\n            if self._host.forget(command) is not None:",
                "was expected\n            if self._host.forget(command) or True:",
            ),
        ),
        (SERVING,),
    ),
    Bug(
        "failed-machine-says-busy",
        "a client is told why a node's machine applies nothing more",
        (
            Edit(
                "walstore/cluster/serving.py",
                "self._elsewhere(request, Status.BUSY, reason, itself=itself)",
                "self._elsewhere(request, Status.BUSY, itself=itself)",
            ),
        ),
        (f"{CLIENTS}::test_a_machine_that_failed_takes_nothing",),
    ),
    Bug(
        "raft-newcomer-takes-a-vote",
        "taking a newcomer back takes no voter's vote",
        (
            Edit(
                f"{RAFT}/membership.py",
                "            voters = self.voters | self.target\n",
                "            voters = self.target\n",
            ),
        ),
        ("tests/raft/test_membership.py", "tests/cluster/test_manager.py", RAFT_SIM),
    ),
    Bug(
        "cluster-forgets-who-leaves",
        "who is left is judged as of when those that are on their way vote",
        (
            Edit(
                "walstore/cluster/manager.py",
                "({*status.voters} - {*status.leaving} | newcomers) - {node_id}",
                "{*status.voters} - {node_id}",
            ),
        ),
        ("tests/cluster/test_manager.py",),
    ),
    Bug(
        "raft-learner-gone-at-once",
        "a learner that has not come yet is given its time from when it was added",
        (
            Edit(
                DRIVER_PY,
                "max(self._role_since_ms, self._learning_since_ms[node])",
                "self._role_since_ms",
            ),
        ),
        ("tests/cluster/test_manager.py",),
    ),
    Bug(
        "raft-learner-keeps-its-count",
        "a learner that is removed and added again is given its time from then on",
        (
            Edit(
                DRIVER_PY,
                "            self._note_members()\n            self._admit()\n",
                "            self._admit()\n",
            ),
        ),
        ("tests/cluster/test_manager.py",),
    ),
    Bug(
        "raft-unseen-since-the-start",
        "a member that was not seen yet is not said to be gone since before it was one",
        (
            Edit(
                DRIVER_PY,
                "return self._member_since_ms.get(node, monotonic_ms())",
                "return self._started_ms",
            ),
        ),
        ("tests/cluster/test_manager.py::test_a_learner_is_not_gone_before_it_could_come",),
    ),
    Bug(
        "raft-waiting-change-locks",
        "a change that waits for a newcomer keeps no other one out",
        (
            Edit(
                DRIVER_PY,
                "        self._changes.add(change)\n",
                "        if self._changes:\n"
                '            raise MembershipError("an earlier change is under way")\n'
                "        self._changes.add(change)\n",
            ),
        ),
        (RAFT_CLUSTER,),
    ),
    Bug(
        "raft-same-change-refused",
        "who asks for the change that is under way waits for it",
        (Edit(f"{RAFT}/driver.py", "if self.core.configuration_lsn and self", "if not self"),),
        ("tests/raft/test_cluster.py::test_who_asks_for_the_same_is_answered_the_same",),
    ),
    Bug(
        "raft-made-is-superseded",
        "a change that was made is told so, whatever change comes next",
        (
            Edit(
                DRIVER_PY,
                "            self._look_at_changes()\n",
                "            self.loop.call_later(0.01, self._look_at_changes)\n",
            ),
        ),
        (RAFT_CLUSTER,),
    ),
    Bug(
        "raft-change-in-line-dangles",
        "whoever waits for a change is told when the node fails, also in line behind the disk",
        (
            Edit(
                DRIVER_PY,
                "[change.made for change in self._changes]",
                "[change.made for change in self._changes if change is self._change]",
            ),
        ),
        (FAILING_READS,),
    ),
    Bug(
        "raft-superseded-waits",
        "whoever waits for a change is told that a later one has taken its place",
        (Edit(DRIVER_PY, "elif core.configuration.outcome != change.wanted:", "elif False:"),),
        (RAFT_CLUSTER,),
    ),
    Bug(
        "command-refused-by-the-disk-waits",
        "a command that the disk refuses after the log has taken it is expected no more",
        (
            Edit(
                "walstore/cluster/serving.py",
                "            except LogFullError as error:\n"
                "                listener = self._host.forget(command)\n",
                "            except LogFullError as error:\n                listener = None\n",
            ),
        ),
        (SERVING,),
    ),
)
