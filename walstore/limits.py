"""The limits of payloads, batches, segments and lsns, and how they relate."""

from walstore._native import lib

__all__ = [
    "BATCH_BYTES_MAX",
    "BLOCK_BYTES",
    "COLLECTION_NAME_BYTES_MAX",
    "DOCUMENT_BYTES_MAX",
    "DOCUMENT_DEPTH_MAX",
    "KIND_MAX",
    "LSN_MAX",
    "PAYLOAD_BYTES_MAX",
    "SEGMENT_BYTES_MAX",
    "SEGMENT_BYTES_MIN",
    "SYNC_INTERVAL_MS_MAX",
    "TRANSACTION_PART_BYTES_MAX",
]

BLOCK_BYTES: int = lib.WALCORE_BLOCK_BYTES
"""Unit of headers, seals and copies of the metadata; each block has a checksum of its own."""

PAYLOAD_BYTES_MAX: int = lib.WALCORE_PAYLOAD_BYTES_MAX
"""Largest payload of one entry: 64 MiB."""

BATCH_BYTES_MAX: int = lib.WALCORE_BATCH_BYTES_MAX
"""Largest atomic batch, record headers included: 256 MiB. A batch lies in one segment."""

SEGMENT_BYTES_MIN = 4096
SEGMENT_BYTES_MAX = 4 << 30
"""Bounds of the record area of a segment. A larger entry gets a segment of its own size."""

SYNC_INTERVAL_MS_MAX = 60_000
"""Longest window that sync="interval" may leave un-synced."""

KIND_MAX: int = lib.WALCORE_KIND_CONFIGURATION - 1
"""Highest kind of a user's entry; those above it are the log's own, see wal.record."""

LSN_MAX = (1 << 63) - 1

COLLECTION_NAME_BYTES_MAX = 255

DOCUMENT_BYTES_MAX = 16 << 20
"""Largest document of the document store, encoded."""

DOCUMENT_DEPTH_MAX = 100
"""How deep its dicts and lists may be nested."""

TRANSACTION_PART_BYTES_MAX = 32 << 20
"""A transaction of more than this takes several entries, in one batch."""

# A batch can always hold the largest entry, and every place in the largest segment fits into
# 32 bits when it is counted in aligned units, as the index does.
assert BATCH_BYTES_MAX > PAYLOAD_BYTES_MAX + lib.WALCORE_RECORD_HEADER_BYTES
assert SEGMENT_BYTES_MAX + BATCH_BYTES_MAX < (1 << 32) * lib.WALCORE_RECORD_ALIGN_BYTES
assert SEGMENT_BYTES_MIN >= BLOCK_BYTES

# The operation that takes a part beyond its limit still fits into the entry.
assert TRANSACTION_PART_BYTES_MAX + DOCUMENT_BYTES_MAX < PAYLOAD_BYTES_MAX
