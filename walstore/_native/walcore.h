/* walcore: the C half of walstore. This header is also the cffi cdef, so it holds only plain
 * declarations (lines starting with '#' are dropped) and can never drift from what Python sees.
 *
 * Rules: no Python object is ever touched; every call may run without the GIL; all I/O goes
 * through libc, so that it can be recorded or made to fail. docs/format.md specifies the bytes.
 */
#ifndef WALCORE_H
#define WALCORE_H
#include <stddef.h>
#include <stdint.h>

enum {
    WALCORE_RECORD_HEADER_BYTES = 48,
    WALCORE_RECORD_ALIGN_BYTES = 8,
    WALCORE_BLOCK_BYTES = 4096,
    WALCORE_INDEX_STRIDE_BYTES = 16384,
    WALCORE_INDEX_ENTRY_BYTES = 8,
    WALCORE_PAYLOAD_BYTES_MAX = 67108864,
    WALCORE_BATCH_BYTES_MAX = 268435456,
    WALCORE_WATERMARK_BYTES = 24,
    WALCORE_NOTIFY_SLOTS = 16,
    WALCORE_HISTOGRAM_BUCKETS = 32,
};

/* Flags of a record. */
enum { WALCORE_FLAG_MORE = 1 };

/* The kinds of a replicated log's own entries: one that changes who its nodes are, and the one
 * that a leadership begins with. No user's entry has them. */
enum { WALCORE_KIND_CONFIGURATION = 65534, WALCORE_KIND_TERM = 65535 };

/* What a call returns when it does not return a value. Negative, so that an lsn can share the
 * type. */
enum {
    WALCORE_OK = 0,
    WALCORE_ROLL = -1,      /* the record does not fit into the current segment */
    WALCORE_STALE = -2,     /* not accepted: the caller's generation is over, ask for the new one */
    WALCORE_FULL = -3,      /* the entry was refused with its group, for lack of space */
    WALCORE_POISONED = -4,  /* a write or sync failed; nothing is accepted any more */
    WALCORE_TIMEOUT = -5,
    WALCORE_STOPPED = -6,
    WALCORE_NO_MEMORY = -7,
    WALCORE_REFUSED = -8,   /* a payload, batch or kind outside its limits */
    WALCORE_TRUNCATED = -9, /* the entry is not, or no longer, in the log */
    WALCORE_NOT_LEADER = -10, /* users may not append to this log now */
};

/* How far an entry must have come before a waiting call returns. Committed: durable here, and the
 * caller of walcore_set_committed says that it will stay; in a log that is not replicated, every
 * durable entry is. */
enum { WALCORE_LEVEL_WRITTEN = 0, WALCORE_LEVEL_DURABLE = 1, WALCORE_LEVEL_COMMITTED = 2 };

/* Why a scan stopped. */
enum {
    WALCORE_SCAN_END = 0,          /* a zero header: nothing was written here */
    WALCORE_SCAN_SHORT = 1,        /* the buffer ends inside a record; `need` bytes are wanted */
    WALCORE_SCAN_OUT_FULL = 2,     /* `out` has no room left */
    WALCORE_SCAN_LIMIT = 3,        /* the entry `stop_lsn` was reached */
    WALCORE_SCAN_BAD_HEADER = 4,   /* header checksum */
    WALCORE_SCAN_BAD_FIELD = 5,    /* a field no writer produces */
    WALCORE_SCAN_BAD_LSN = 6,      /* not the next lsn */
    WALCORE_SCAN_BAD_TERM = 7,     /* the term went back */
    WALCORE_SCAN_BAD_PAYLOAD = 8,  /* payload checksum or padding */
};

/* One decoded record; `payload_at` counts from the start of the scanned buffer. */
typedef struct {
    uint64_t lsn;
    uint64_t term;
    uint64_t timestamp_ns;
    uint64_t durable_lsn;
    uint64_t payload_at;
    uint32_t payload_bytes;
    uint16_t kind;
    uint16_t flags;
} walcore_entry;

/* Where a scan is; the caller keeps it from buffer to buffer. */
typedef struct {
    uint32_t seed;
    uint32_t stop;         /* out: WALCORE_SCAN_* */
    uint64_t next_lsn;     /* in, out: the lsn the next record must have */
    uint64_t term;         /* in, out: the least term the next record may have */
    uint64_t stop_lsn;     /* in: stop after this entry */
    uint64_t consumed;     /* out: bytes of this buffer that hold whole, valid records */
    uint64_t need;         /* out: with SCAN_SHORT, bytes wanted from `consumed` on */
    uint64_t entries;      /* in, out: running count */
    uint64_t payload_total; /* in, out: running sum of payload bytes */
    uint64_t timestamp_min; /* in, out */
    uint64_t timestamp_max; /* in, out */
    uint64_t batch_lsn;    /* in, out: first lsn of an unfinished batch, or 0 */
    uint64_t batch_at;     /* in, out: its place in the file (see base_at), or 0 */
    uint64_t batch_term;   /* in, out: the term of the entry before it */
    uint64_t base_at;      /* in: place of the buffer in the file */
    uint64_t durable_lsn;  /* in, out: the highest durable_lsn a record carried */
    uint64_t index_first_lsn; /* in: lsns in `index` count from here */
    uint64_t index_count;  /* in, out: pairs in `index` */
    uint64_t index_max;    /* in: pairs `index` has room for */
    uint32_t *index;       /* in: sparse index to extend, or NULL */
} walcore_scan_state;

/* Looking past a bad record, buffer by buffer; places are in the file. */
typedef struct {
    uint64_t bad_lsn;    /* in */
    uint64_t lsn_max;    /* in: no record here can have a higher lsn */
    uint64_t proof_at;   /* in, out: a later header that proves the bad record was durable, or 0 */
    uint64_t proof_lsn;  /* in, out */
    uint64_t valid_end;  /* in, out: where the last record with a valid header ends, or 0 */
} walcore_ahead;

/* What walcore_check_records found out about raw records. */
typedef struct {
    uint64_t first_lsn;  /* in: of the first record */
    uint64_t last_lsn;   /* out: of the last good record */
    uint64_t prev_term;  /* in: the least term the first record may have */
    uint64_t last_term;  /* out */
    uint64_t bad_lsn;    /* out: the first record that is not good, or 0 */
    uint64_t at;         /* out: bytes before it */
    uint64_t split_lsn;  /* in: find where this record begins; 0: none */
    uint64_t split_at;   /* out: its place */
    uint64_t split_term; /* out: the term of the record before it */
    uint64_t runs;       /* out: how often the term changes, counted beyond runs_max too */
    uint64_t configurations; /* out: how many records are of kind CONFIGURATION */
    uint32_t seed;       /* in */
    uint32_t stop;       /* out: WALCORE_SCAN_*; SCAN_LIMIT when all of it is good */
} walcore_records;

typedef struct walcore_writer walcore_writer;

typedef struct {
    uint64_t generation;
    uint64_t next_lsn;
    uint64_t written_lsn;
    uint64_t durable_lsn;
    uint64_t tail_at;      /* place in the file of the next record */
    uint64_t writes;
    uint64_t write_bytes;
    uint64_t syncs;
    uint64_t sync_ns;
    uint64_t watermark_failures;
    uint64_t sync_histogram[WALCORE_HISTOGRAM_BUCKETS]; /* i counts syncs of 2^i to 2^(i+1) ns */
    int32_t state;         /* WALCORE_OK, WALCORE_POISONED or WALCORE_STOPPED */
    int32_t error;         /* errno of the last failure */
} walcore_status;

/* What became of an entry that was waited for. */
typedef struct {
    uint64_t generation;
    int32_t rc; /* as of walcore_wait */
} walcore_outcome;

/* Where a writer stands. */
typedef struct {
    uint64_t generation;
    uint64_t next_lsn;
    uint64_t written_lsn;
    uint64_t durable_lsn;
    uint64_t committed_lsn; /* UINT64_MAX in a log that is not replicated */
    uint64_t written_at;    /* where the records up to written_lsn end, in the last segment */
    int32_t poisoned;
} walcore_shared;

/* crc32c.c */
void walcore_crc32c_init(void);
uint32_t walcore_crc32c(uint32_t seed, const uint8_t *data, size_t bytes);
uint32_t walcore_crc32c_table(uint32_t seed, const uint8_t *data, size_t bytes);
const char *walcore_crc32c_backend(void);

/* record.c */
uint64_t walcore_record_bytes(uint64_t payload_bytes);
void walcore_encode(uint8_t *out, uint32_t seed, const walcore_entry *entry,
                    const uint8_t *payload);
size_t walcore_scan(const uint8_t *base, size_t bytes, walcore_scan_state *state,
                    walcore_entry *out, size_t out_max);
void walcore_reseal(uint8_t *records, size_t bytes, uint32_t seed);
void walcore_end_batch(uint8_t *records, size_t bytes, uint32_t seed);
void walcore_normalize(uint8_t *records, size_t bytes);
uint64_t walcore_adopt(uint8_t *record, uint32_t seed, uint64_t durable_lsn, uint64_t *term);
uint64_t walcore_peek(const uint8_t *record, walcore_entry *out);
uint64_t walcore_batch_bytes(const uint8_t *records, uint64_t bytes, size_t *count);
int walcore_check_records(const uint8_t *data, size_t bytes, int headers_only,
                          walcore_records *found, uint64_t *runs, size_t runs_max);
int walcore_find(const uint8_t *base, size_t bytes, walcore_scan_state *state, uint64_t lsn,
                 walcore_entry *out);
uint64_t walcore_index_note(uint32_t *index, uint64_t count, uint64_t number, uint64_t at);
void walcore_look_ahead(const uint8_t *base, size_t bytes, uint64_t base_at, uint32_t seed,
                        walcore_ahead *found);

/* files.c: each returns 0 or a negative errno */
int walcore_pwrite_all(int fd, const uint8_t *data, size_t bytes, uint64_t at);
int walcore_pwrite_count(int fd, const uint8_t *data, size_t bytes, uint64_t at,
                         size_t *done);
int walcore_sync_data(int fd);
int walcore_sync_full(int fd);
int walcore_zero_fill(int fd, uint64_t from, uint64_t to);
int walcore_reserve(int fd, uint64_t bytes);
int walcore_lock(int fd);
int walcore_unlock(int fd);
int walcore_lock_held(int fd);

/* writer.c */
walcore_writer *walcore_writer_new(int level, uint64_t interval_ns, int watermark_fd,
                                   uint64_t watermark_at, uint32_t watermark_seed);
void walcore_writer_commits(walcore_writer *w, uint64_t committed_lsn, uint64_t mark_at);
int walcore_writer_restart(walcore_writer *w, uint64_t next_lsn, uint32_t watermark_seed);
int walcore_writer_start(walcore_writer *w);
void walcore_writer_stop(walcore_writer *w);
void walcore_writer_free(walcore_writer *w);
int walcore_writer_attach(walcore_writer *w, int fd, uint32_t seed, uint64_t next_lsn,
                          uint64_t term, uint64_t last_term, uint64_t epoch, uint64_t first_lsn,
                          uint64_t tail_at, uint64_t limit_at, int zeroed);
int walcore_writer_index_load(walcore_writer *w, const uint32_t *pairs, size_t count);
void walcore_writer_set_limit(walcore_writer *w, uint64_t limit_at);
void walcore_writer_prefer(walcore_writer *w, uint64_t bytes, int64_t timeout_ns);
void walcore_accept_appends(walcore_writer *w, int accept, int alone);
void walcore_writer_set_term(walcore_writer *w, uint64_t term);

int64_t walcore_submit(walcore_writer *w, uint64_t generation, const uint8_t *payload,
                       size_t bytes, uint64_t timestamp_ns, uint16_t kind);
int64_t walcore_append(walcore_writer *w, const uint8_t *payload, size_t bytes,
                       uint64_t timestamp_ns, uint16_t kind);
int64_t walcore_append_many(walcore_writer *w, const uint8_t *joined, const uint32_t *lengths,
                            size_t count, uint64_t timestamp_ns, uint16_t kind);
int64_t walcore_append_within(walcore_writer *w, const uint8_t *joined, const uint32_t *lengths,
                              size_t count, uint64_t timestamp_ns, uint16_t kind,
                              int64_t timeout_ns, walcore_outcome *outcome);
int64_t walcore_submit_term(walcore_writer *w, uint64_t generation, const uint8_t *payload,
                            size_t bytes, uint64_t timestamp_ns);
int64_t walcore_submit_configuration(walcore_writer *w, uint64_t generation,
                                     const uint8_t *payload, size_t bytes,
                                     uint64_t timestamp_ns);
int64_t walcore_submit_records(walcore_writer *w, const uint8_t *records, uint64_t bytes,
                               uint64_t *taken, uint64_t *need);
void walcore_set_committed(walcore_writer *w, uint64_t lsn);
int walcore_wait(walcore_writer *w, uint64_t generation, uint64_t lsn, int level,
                 int64_t timeout_ns);
int walcore_watch(walcore_writer *w, uint64_t lsn, int64_t timeout_ns);
int walcore_freeze(walcore_writer *w);
void walcore_thaw(walcore_writer *w);
void walcore_poison(walcore_writer *w, int error);

const walcore_shared *walcore_shared_of(const walcore_writer *w);
uint64_t walcore_last_lsn(walcore_writer *w);
uint64_t walcore_generation(walcore_writer *w);
int walcore_fate_of(walcore_writer *w, uint64_t generation, uint64_t lsn);
uint64_t walcore_durable_lsn(walcore_writer *w);
uint64_t walcore_committed_lsn(walcore_writer *w);
uint64_t walcore_visible_lsn(walcore_writer *w);
uint64_t walcore_written_lsn(walcore_writer *w);
uint64_t walcore_unsynced_bytes(walcore_writer *w);
void walcore_writer_status(walcore_writer *w, walcore_status *out);
int walcore_notify_open(walcore_writer *w, int fd);
void walcore_notify_close(walcore_writer *w, int slot);
int walcore_notify_arm(walcore_writer *w, int slot, uint64_t generation, uint64_t lsn, int level);
size_t walcore_index_copy(walcore_writer *w, uint32_t *pairs, size_t count_max);
int walcore_locate(walcore_writer *w, uint64_t lsn, uint64_t *from_lsn, uint64_t *from_at,
                   uint64_t *to_at);
#endif
