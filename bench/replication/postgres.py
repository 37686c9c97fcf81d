"""PostgreSQL: a primary and two standbys, of which any one must have synced each commit.

Debian's package: postgresql. Two ways to append: a row of text, and a logical message, which
goes to the write-ahead log only. The server refuses to run as root: then its own user runs it.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from bench.peers.loops import percentile
from bench.replication.cluster import BATCH, BATCHES_IN_FLIGHT, Cluster, Metrics, figures
from bench.replication.processes import Processes, missing_package, until

CONFIG = """
listen_addresses = ''
unix_socket_directories = '{sockets}'
fsync = on
synchronous_commit = on
synchronous_standby_names = '{names}'
wal_level = replica
wal_keep_size = 8GB
max_wal_size = 8GB
min_wal_size = 1GB
checkpoint_timeout = 30min
shared_buffers = 256MB
max_connections = 300
autovacuum = off
hot_standby = on
"""
ANY_ONE = "ANY 1 (s1,s2)"
STANDBYS = ("s1", "s2")
CAUGHT_UP_S = 600
# Transactions a second, about: its -T counts connecting, which takes hundreds of clients seconds.
PGBENCH_RATE = 5000
PGBENCH_WARMUP = 0.25  # of the lines in its log, each a transaction


def binaries() -> Path | None:
    """Where the server's programs are: Debian keeps them off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


class Postgres(Cluster):
    """What both ways to append have in common."""

    promise = "on the disks of two nodes (synchronous_commit = on, ANY 1 of two standbys)"
    sql = ""

    @classmethod
    def missing(cls) -> str:
        if binaries() is None:
            return "postgresql is not installed"
        return missing_package("asyncpg")

    def start(self) -> None:
        found = binaries()
        assert found is not None
        self.bin = found
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            account = pwd.getpwnam(self.user)
            os.chown(self.path, account.pw_uid, account.pw_gid)
        self.processes = Processes(self.path, self.user)
        self.asyncpg: Any = importlib.import_module("asyncpg")
        self._run("initdb", "-D", self.path / "p", "-U", "bench", "--auth=trust", "--no-sync")
        self._configure("p", "")
        self._launch("p")
        self._sql("CREATE TABLE log(id bigserial PRIMARY KEY, payload text)")
        for name in STANDBYS:
            self._copy(name)
            self._launch(name)
        self._sql(f"ALTER SYSTEM SET synchronous_standby_names = '{ANY_ONE}'")
        self._sql("SELECT pg_reload_conf()")
        until("standbys", lambda: self._quorum() == len(STANDBYS))

    def stop(self) -> None:
        self.processes.stop_all(signal.SIGINT)  # a fast shutdown

    def _run(self, program: str, *arguments: str | Path) -> str:
        command = [str(self.bin / program), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.path, user=self.user, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {' '.join(done.stderr.split())[:300]}")
        return done.stdout

    def _sockets(self, name: str) -> Path:
        return self.path / f"{name}-socket"

    def _configure(self, name: str, names: str) -> None:
        sockets = self._sockets(name)
        sockets.mkdir()
        if self.user:
            shutil.chown(sockets, self.user)
        with open(self.path / name / "postgresql.conf", "a", encoding="utf-8") as file:
            file.write(CONFIG.format(sockets=sockets, names=names))

    def _copy(self, name: str) -> None:
        """Makes a standby of the primary, as it is now."""
        primary = f"host={self._sockets('p')} user=bench application_name={name}"
        self._run(
            "pg_basebackup", "-d", primary, "-D", self.path / name, "-R", "-X", "stream",
            "--checkpoint=fast", "--no-sync",
        )  # fmt: skip
        self._configure(name, "")

    def _launch(self, name: str) -> None:
        self.processes.start(name, [self.bin / "postgres", "-D", self.path / name])
        ready = [str(self.bin / "pg_isready"), "-q", "-h", str(self._sockets(name))]
        until(name, lambda: subprocess.run(ready, check=False).returncode == 0)

    async def _connect(self) -> Any:
        return await self.asyncpg.connect(
            host=str(self._sockets("p")), user="bench", database="postgres"
        )

    def _sql(self, sql: str) -> Any:
        """Runs one statement on the primary; returns its one value."""

        async def ask() -> Any:
            connection = await self._connect()
            try:
                return await connection.fetchval(sql)
            finally:
                await connection.close()

        return asyncio.run(ask())

    def _quorum(self) -> int:
        return int(
            self._sql(
                "SELECT count(*) FROM pg_stat_replication"
                " WHERE state = 'streaming' AND sync_state = 'quorum'"
            )
        )

    def one(self, payload: bytes, seconds: float) -> Metrics:
        async def work() -> Metrics:
            connection = await self._connect()
            append = (await connection.prepare(self.sql)).fetchval
            text, latencies = payload.decode(), []
            started = now = time.perf_counter_ns()
            while now < started + seconds * 1e9:
                await append(text)
                before, now = now, time.perf_counter_ns()
                latencies.append(now - before)
            await connection.close()
            return figures(latencies, len(latencies), now - started)

        return asyncio.run(work())

    def many(self, payload: bytes, seconds: float, in_flight: int) -> Metrics:
        script = self.path / "script.sql"
        script.write_text(self.sql.replace("$1", f"'{payload.decode()}'") + ";\n")
        for old in self.path.glob("latency.*"):
            old.unlink()
        transactions = max(10, round(seconds * PGBENCH_RATE / in_flight))
        out = self._run(
            "pgbench", "-h", self._sockets("p"), "-U", "bench", "-n", "-M", "prepared",
            "-c", str(in_flight), "-j", "2", "-t", str(transactions),
            "-l", "--log-prefix=latency", "-f", script, "postgres",
        )  # fmt: skip
        rate = re.search(r"^tps = ([0-9.]+)", out, re.MULTILINE)
        assert rate is not None, out
        latencies = []
        for log in self.path.glob("latency.*"):
            times = [int(line.split()[2]) for line in log.read_text().splitlines()]
            latencies += times[int(PGBENCH_WARMUP * len(times)) :]
        latencies.sort()
        return {
            "ops_per_s": float(rate[1]),
            "p50_us": percentile(latencies, 0.50),
            "p99_us": percentile(latencies, 0.99),
        }

    def batches(self, payload: bytes, seconds: float) -> Metrics:
        async def client(end_ns: float, latencies: list[int]) -> None:
            connection, rows = await self._connect(), [(payload.decode(),)] * BATCH
            while (before := time.perf_counter_ns()) < end_ns:
                await connection.executemany(self.sql, rows)  # one transaction
                latencies.append(time.perf_counter_ns() - before)
            await connection.close()

        async def work() -> Metrics:
            latencies: list[int] = []
            started = time.perf_counter_ns()
            end_ns = started + seconds * 1e9
            await asyncio.gather(*(client(end_ns, latencies) for _ in range(BATCHES_IN_FLIGHT)))
            return figures(latencies, len(latencies) * BATCH, time.perf_counter_ns() - started)

        return asyncio.run(work())

    def catch_up(self, mib: int) -> Metrics:
        self.processes.stop("s2", signal.SIGINT)
        self._sql(
            "INSERT INTO log(payload) SELECT repeat(md5(g::text), 32)"
            f" FROM generate_series(1, {mib << 10}) g"
        )
        end = self._sql("SELECT pg_current_wal_flush_lsn()::text")
        caught_up = (
            "SELECT count(*) FROM pg_stat_replication WHERE application_name = 's2'"
            f" AND flush_lsn >= '{end}' AND replay_lsn >= '{end}'"
        )
        started = time.perf_counter()
        self._launch("s2")
        until("catch-up", lambda: self._sql(caught_up) == 1, CAUGHT_UP_S)
        return {"mib_per_s": mib / (time.perf_counter() - started)}


class PostgresInsert(Postgres):
    """A row of text for each entry."""

    sql = "INSERT INTO log(payload) VALUES ($1)"


class PostgresMessage(Postgres):
    """A transactional logical message for each entry: in the write-ahead log, in no table."""

    sql = "SELECT pg_logical_emit_message(true, 'x', $1)"
