"""walstore's replication beside what one would pick instead: three nodes each, on one real disk.

``python -m bench.replication`` runs every row of ``rows.py``.  How a figure comes about:

* A cluster is three processes on loopback, with their data on the file system that is measured:
  PostgreSQL with two standbys of which any one must confirm, Redis with two replicas and WAIT 1,
  etcd with three members, walstore with acks="quorum", and the floor, which is all that a quorum
  append must do: one round trip, while the leader and its followers write and sync.
* A cluster runs only while it is measured. A round measures every contender of a row, one after
  the other, starting with another one each round. Reported are medians over rounds.
* A row is *noisy* when other programs took more than half a CPU: do not quote it.
* Latency is what the caller in Python sees. PostgreSQL and Redis are asked over Unix sockets;
  PostgreSQL with several clients by pgbench, which is faster than any client in Python.
* What an answer promises: walstore, PostgreSQL and etcd: on the disks of two nodes. Redis 7.0: on
  the leader's disk, and *received* by a replica; it cannot wait for the replica's disk.
* PySyncObj: received by two nodes; its journal is never synced.
* Of nodes that elect (rows elected-one, elected-many, five, failover, idle) all have etcd's default
  times: a heartbeat each 100 ms, and an election when none was heard for 1 to 2 s. A failover is
  measured from the kill of the leader to the end of the first append afterwards, by whoever can:
  walstore's and PySyncObj's nodes try as soon as they lead, etcd's are asked by turns.
* The peers get the best of 16, 64 and 256 clients where walstore has 256 appends in flight.
"""
