/* The writer: staging, group commit and its failures, for one log.
 *
 * Callers encode records into a staging buffer under the mutex. Whoever needs them further
 * becomes the leader: it takes the buffer, writes it (one pwrite), syncs (one fdatasync) and
 * wakes everyone the group served. A caller that does not wait (submit) leaves that to the
 * flusher thread, which is native: progress never needs the interpreter.
 *
 *   next_lsn > staged >= written_lsn >= durable_lsn
 *
 * In a replicated log an entry is visible once it is durable and committed; what is committed is
 * told from outside (walcore_set_committed).
 *
 * Failures. No space: the group is taken back (its bytes are zeroed and synced), everything
 * staged is refused, and a new generation begins that gives the same lsns out again; a caller's
 * (generation, lsn) tells whether its entry was refused. Anything else: POISONED, for good; an
 * fdatasync that failed is never called again. */
#include "walcore.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum {
    STAGING_BYTES = 4 << 20,
    UNSYNCED_BYTES_MAX = 8 << 20, /* a policy that need not sync starts one behind this much */
    PAGE_BYTES = WALCORE_BLOCK_BYTES,
    HEADER_BYTES = WALCORE_RECORD_HEADER_BYTES,
};

typedef struct {
    uint8_t *data;
    size_t capacity; /* besides room for one page of padding */
    size_t used;
    uint64_t at; /* place in the file of data[0] */
    uint64_t first_lsn;
    uint64_t last_lsn;
    uint64_t term_before; /* of the entry before the first */
} staging;

typedef struct {
    uint64_t gone_from;
    int why;
} ending;

typedef struct {
    int fd; /* -1: free */
    int level;
    uint64_t armed_lsn;
} notify_slot;

struct walcore_writer {
    pthread_mutex_t mutex;
    pthread_cond_t changed;      /* progress, failure, thaw, stop */
    pthread_cond_t flusher_wake;
    pthread_t flusher;
    pid_t owner; /* a child made by fork has neither the flusher nor a mutex it can trust */
    int flusher_started;
    int flusher_idle;

    int level;
    uint64_t interval_ns; /* 0: no periodic sync */
    int watermark_fd;
    uint64_t watermark_at;
    uint32_t watermark_seed;
    uint64_t epoch;
    uint64_t mark_at; /* of the commit mark, in the watermark's file */

    int fd;
    uint32_t seed;
    uint64_t term;      /* of the entries appended here */
    uint64_t last_term; /* of the last entry staged */
    uint64_t segment_first_lsn;
    uint64_t tail_at;  /* where the next record goes */
    uint64_t limit_at; /* records end here at the latest */
    uint64_t durable_at;
    uint64_t padded_at; /* pages before this place were written whole */
    int zeroed;         /* the segment was never used before: its pages need no padding */

    staging buffers[2];
    int filling;
    int writing; /* a leader is in pwrite */
    int syncing; /* a leader is in fdatasync */
    int marking; /* somebody writes the commit mark */
    int frozen;  /* the segment is being changed */
    int commits_alone; /* this disk decides what is committed */
    int turns_users_away; /* only another log's entries are taken, and those that begin a term */
    uint64_t preferred_bytes; /* a segment was made for an entry this large: it comes first */
    uint64_t preferred_until_ns;
    int stopping;

    walcore_shared shared;
    uint64_t requested_lsn; /* what the flusher was asked for */

    ending *endings; /* of the generations that are over */
    int error;

    uint32_t *index; /* pairs: lsn - segment_first_lsn, place / 8 */
    size_t index_count;
    size_t index_capacity;

    notify_slot slots[WALCORE_NOTIFY_SLOTS];

    uint64_t writes, write_bytes, syncs, sync_ns, watermark_failures;
    uint64_t sync_histogram[WALCORE_HISTOGRAM_BUCKETS];
};

/* ---- time ---- */

static uint64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int cond_init(pthread_cond_t *cond) {
#ifdef __APPLE__
    return pthread_cond_init(cond, NULL);
#else
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    int rc = pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
    return rc;
#endif
}

/* Waits until `deadline_ns` (0: for ever). Returns 0, or ETIMEDOUT. */
static int cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t deadline_ns) {
    if (!deadline_ns) return pthread_cond_wait(cond, mutex);
#ifdef __APPLE__
    uint64_t now = monotonic_ns();
    if (now >= deadline_ns) return ETIMEDOUT;
    struct timespec left = {(time_t)((deadline_ns - now) / 1000000000u),
                            (long)((deadline_ns - now) % 1000000000u)};
    return pthread_cond_timedwait_relative_np(cond, mutex, &left);
#else
    struct timespec until = {(time_t)(deadline_ns / 1000000000u),
                             (long)(deadline_ns % 1000000000u)};
    return pthread_cond_timedwait(cond, mutex, &until);
#endif
}

/* ---- waking ---- */

static uint64_t reached(const walcore_writer *w, int level) {
    if (level == WALCORE_LEVEL_WRITTEN) return w->shared.written_lsn;
    if (level == WALCORE_LEVEL_DURABLE || w->shared.durable_lsn < w->shared.committed_lsn)
        return w->shared.durable_lsn;
    return w->shared.committed_lsn;
}

static void wake_loops(walcore_writer *w, int failing) {
    static const uint64_t one = 1;
    for (int i = 0; i < WALCORE_NOTIFY_SLOTS; i++) {
        notify_slot *slot = &w->slots[i];
        if (slot->fd < 0 || !slot->armed_lsn) continue;
        if (!failing && slot->armed_lsn > reached(w, slot->level)) continue;
        slot->armed_lsn = 0;
        /* The descriptor is an eventfd or a non-blocking pipe: when it is full, its loop is
         * already due to wake, so the result does not matter. */
        ssize_t ignored = write(slot->fd, &one, sizeof one);
        (void)ignored;
    }
}

static void wake_everyone(walcore_writer *w, int failing) {
    pthread_cond_broadcast(&w->changed);
    wake_loops(w, failing);
}

static void poison_locked(walcore_writer *w, int error) {
    if (!w->shared.poisoned) {
        w->shared.poisoned = 1;
        w->error = error;
    }
    wake_everyone(w, 1);
}

/* ---- the sparse index of the segment ---- */

static int index_reserve(walcore_writer *w, size_t count) {
    if (count <= w->index_capacity) return 1;
    size_t capacity = w->index_capacity ? w->index_capacity * 2 : 1024;
    while (capacity < count) capacity *= 2;
    uint32_t *grown = realloc(w->index, capacity * 2 * sizeof *grown);
    if (!grown) return 0;
    w->index = grown;
    w->index_capacity = capacity;
    return 1;
}

static void index_cut(walcore_writer *w, uint64_t lsn) {
    while (w->index_count &&
           w->segment_first_lsn + w->index[2 * (w->index_count - 1)] >= lsn)
        w->index_count--;
}

/* ---- leader: write ---- */

/* In a recycled file, grows the write to the end of the page it ends in, the first time a page is
 * reached: the page is then written whole, so the kernel never reads the old one, and the bytes
 * behind the last record are zero, so that the end of the log is plain to see. */
static size_t padding_for(const walcore_writer *w, const staging *buffer) {
    uint64_t end = buffer->at + buffer->used;
    if (w->zeroed || end + HEADER_BYTES <= w->padded_at) return 0;
    uint64_t padded = (end + HEADER_BYTES + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
    return (size_t)(padded - end);
}

static int is_no_space(int error) {
    return error == ENOSPC || error == EDQUOT || error == EFBIG;
}

/* Takes a group back that did not fit: zeros over the bytes that were taken, and a sync, so that
 * none of it comes back. With the mutex, which it drops meanwhile. Waits for a sync under way: of
 * two on one descriptor only one would be told of an error. */
static int take_back(walcore_writer *w, const staging *buffer, size_t bytes) {
    if (!bytes) return 0;
    while (w->syncing) pthread_cond_wait(&w->changed, &w->mutex);
    if (w->shared.poisoned) return -w->error;
    w->syncing = 1;
    pthread_mutex_unlock(&w->mutex);
    int rc = walcore_zero_fill(w->fd, buffer->at, buffer->at + bytes);
    if (rc == 0) rc = walcore_sync_data(w->fd);
    /* The kernel may now show zeros that are not on the disk. The next opening is to see what may
     * be there, and to clear it; if this fails too, no more can be done. */
    if (rc) (void)walcore_pwrite_all(w->fd, buffer->data, bytes, buffer->at);
    pthread_mutex_lock(&w->mutex);
    w->syncing = 0;
    pthread_cond_broadcast(&w->changed);
    return rc;
}

/* Ends a generation in which entries from `gone_from` on are not, or no longer, in the log, and
 * keeps that for callers that have yet to ask. Their lsns are given out again. */
static int end_generation(walcore_writer *w, uint64_t gone_from, int why) {
    size_t bytes = (w->shared.generation + 1) * sizeof *w->endings;
    ending *grown = realloc(w->endings, bytes);
    if (!grown) return 0;
    w->endings = grown;
    grown[w->shared.generation++] = (ending){gone_from, why};
    return 1;
}

/* Why an entry of a generation is not in the log: FULL or TRUNCATED; 0 when it is. */
static int fate_of(const walcore_writer *w, uint64_t generation, uint64_t lsn) {
    for (; generation < w->shared.generation; generation++)
        if (lsn >= w->endings[generation].gone_from) return w->endings[generation].why;
    return WALCORE_OK;
}

static void refuse_group(walcore_writer *w, staging *buffer, int error) {
    if (!end_generation(w, buffer->first_lsn, WALCORE_FULL)) {
        poison_locked(w, ENOMEM);
        return;
    }
    w->error = error;
    w->shared.next_lsn = buffer->first_lsn;
    w->last_term = buffer->term_before;
    w->tail_at = buffer->at;
    w->padded_at = buffer->at & ~(uint64_t)(PAGE_BYTES - 1);
    if (w->requested_lsn >= w->shared.next_lsn) w->requested_lsn = w->shared.next_lsn - 1;
    index_cut(w, buffer->first_lsn);
    w->buffers[0].used = w->buffers[1].used = 0;
    wake_everyone(w, 1);
}

static void shrink(staging *buffer) {
    if (buffer->capacity <= STAGING_BYTES) return;
    uint8_t *smaller = realloc(buffer->data, STAGING_BYTES + 2 * PAGE_BYTES);
    if (!smaller) return; /* the larger one serves as well */
    buffer->data = smaller;
    buffer->capacity = STAGING_BYTES;
}

/* Writes what is staged. Called with the mutex, which it drops meanwhile, and !writing. */
static void write_staged(walcore_writer *w) {
    staging *buffer = &w->buffers[w->filling];
    assert(buffer->used);
    size_t bytes = buffer->used + padding_for(w, buffer);
    memset(buffer->data + buffer->used, 0, bytes - buffer->used);
    w->filling ^= 1;
    w->writing = 1;
    int fd = w->fd;
    pthread_mutex_unlock(&w->mutex);
    size_t done;
    int rc = walcore_pwrite_count(fd, buffer->data, bytes, buffer->at, &done);
    pthread_mutex_lock(&w->mutex);
    int undo = rc && is_no_space(-rc) ? take_back(w, buffer, done) : 0;
    w->writing = 0;
    if (rc == 0) {
        w->writes++;
        w->write_bytes += bytes;
        if (buffer->at + bytes > w->padded_at) w->padded_at = buffer->at + bytes;
        w->shared.written_at = buffer->at + buffer->used;
        __atomic_store_n(&w->shared.written_lsn, buffer->last_lsn, __ATOMIC_RELEASE);
        buffer->used = 0;
        shrink(buffer);
        wake_loops(w, 0);
    } else if (is_no_space(-rc) && undo == 0) {
        refuse_group(w, buffer, -rc);
    } else {
        poison_locked(w, undo ? -undo : -rc);
    }
}

/* ---- leader: sync ---- */

typedef struct {
    uint32_t crc;
    uint32_t level;
    uint64_t epoch;
    uint64_t durable_lsn;
} watermark;

_Static_assert(sizeof(watermark) == WALCORE_WATERMARK_BYTES, "read by walstore/wal/meta.py");

static watermark mark_of(const walcore_writer *w, int level, uint64_t lsn) {
    watermark mark = {0, (uint32_t)level, w->epoch, lsn};
    mark.crc = walcore_crc32c(w->watermark_seed, (const uint8_t *)&mark + 4, sizeof mark - 4);
    return mark;
}

/* Tells other processes how far they may read. Never synced: it may be behind after a crash,
 * and never ahead. Failing to publish holds readers back and harms nothing else. */
static int publish_watermark(const walcore_writer *w, uint64_t durable_lsn) {
    if (w->watermark_fd < 0) return 0;
    int level = w->level == WALCORE_LEVEL_WRITTEN ? w->level : WALCORE_LEVEL_DURABLE;
    watermark mark = mark_of(w, level, durable_lsn);
    return walcore_pwrite_all(w->watermark_fd, (const uint8_t *)&mark, sizeof mark,
                              w->watermark_at);
}

/* Tells them, too, how far a replicated log is committed. With the mutex, which it drops
 * meanwhile; one caller writes for all that come while it does. */
static void publish_committed(walcore_writer *w) {
    if (w->marking) return;
    w->marking = 1;
    uint64_t lsn;
    do {
        lsn = w->shared.committed_lsn;
        watermark mark = mark_of(w, WALCORE_LEVEL_COMMITTED, lsn);
        pthread_mutex_unlock(&w->mutex);
        int rc = walcore_pwrite_all(w->watermark_fd, (const uint8_t *)&mark, sizeof mark,
                                    w->mark_at);
        pthread_mutex_lock(&w->mutex);
        if (rc) w->watermark_failures++;
    } while (lsn != w->shared.committed_lsn && !w->stopping);
    w->marking = 0;
    pthread_cond_broadcast(&w->changed);
}

static void count_sync(walcore_writer *w, uint64_t took_ns) {
    int bucket = 63 - __builtin_clzll(took_ns | 1);
    if (bucket >= WALCORE_HISTOGRAM_BUCKETS) bucket = WALCORE_HISTOGRAM_BUCKETS - 1;
    w->sync_histogram[bucket]++;
    w->syncs++;
    w->sync_ns += took_ns;
}

/* Syncs what is written. Called with the mutex, which it drops meanwhile, and !syncing. */
static void sync_written(walcore_writer *w) {
    uint64_t target = w->shared.written_lsn, target_at = w->shared.written_at;
    int fd = w->fd;
    w->syncing = 1;
    pthread_mutex_unlock(&w->mutex);
    uint64_t began_ns = monotonic_ns();
    int rc = walcore_sync_data(fd);
    uint64_t took_ns = monotonic_ns() - began_ns;
    int published = rc ? 0 : publish_watermark(w, target);
    pthread_mutex_lock(&w->mutex);
    w->syncing = 0;
    if (rc) {
        poison_locked(w, -rc);
        return;
    }
    count_sync(w, took_ns);
    if (published) w->watermark_failures++;
    w->durable_at = target_at;
    __atomic_store_n(&w->shared.durable_lsn, target, __ATOMIC_RELEASE);
    if (w->commits_alone && target > w->shared.committed_lsn) {
        __atomic_store_n(&w->shared.committed_lsn, target, __ATOMIC_RELEASE);
        wake_everyone(w, 0);
        publish_committed(w);
        return;
    }
    wake_everyone(w, 0);
}

/* ---- waiting, and leading ---- */

/* Brings an lsn of a generation to `level`, leading wherever nobody leads yet. With the mutex. */
static int advance_to(walcore_writer *w, uint64_t generation, uint64_t lsn, int level,
                      uint64_t deadline_ns) {
    for (;;) {
        int fate = fate_of(w, generation, lsn);
        if (fate) return fate;
        if (lsn >= w->shared.next_lsn) return WALCORE_TRUNCATED;
        if (reached(w, level) >= lsn) return WALCORE_OK;
        if (w->shared.poisoned) return WALCORE_POISONED;
        if (w->stopping) return WALCORE_STOPPED; /* the descriptor may be another file's by now */
        if (w->shared.written_lsn < lsn && !w->writing) {
            write_staged(w);
            /* Whoever found `writing` set must look again. A leader that wants it durable need not
             * say so: it syncs next, or waits for a sync under way, and its end wakes everyone,
             * unless nothing is synced any more. */
            if (level == WALCORE_LEVEL_WRITTEN || w->shared.poisoned || w->stopping)
                pthread_cond_broadcast(&w->changed);
            continue;
        }
        if (w->shared.written_lsn >= lsn && w->shared.durable_lsn < lsn && !w->syncing) {
            sync_written(w);
            continue;
        }
        if (cond_wait_until(&w->changed, &w->mutex, deadline_ns) == ETIMEDOUT)
            return WALCORE_TIMEOUT;
    }
}

static uint64_t deadline_of(int64_t timeout_ns) {
    if (timeout_ns < 0) return 0;
    uint64_t deadline = monotonic_ns() + (uint64_t)timeout_ns;
    return deadline ? deadline : 1;
}

int walcore_wait(walcore_writer *w, uint64_t generation, uint64_t lsn, int level,
                 int64_t timeout_ns) {
    uint64_t deadline = deadline_of(timeout_ns);
    pthread_mutex_lock(&w->mutex);
    int rc = advance_to(w, generation, lsn, level, deadline);
    pthread_mutex_unlock(&w->mutex);
    return rc;
}

/* Waits until `lsn` is visible without making it so: for those who follow the log. */
int walcore_watch(walcore_writer *w, uint64_t lsn, int64_t timeout_ns) {
    uint64_t deadline = deadline_of(timeout_ns);
    int rc = WALCORE_OK;
    pthread_mutex_lock(&w->mutex);
    while (reached(w, WALCORE_LEVEL_COMMITTED) < lsn) {
        if (w->shared.poisoned) rc = WALCORE_POISONED;
        else if (w->stopping) rc = WALCORE_STOPPED;
        else if (cond_wait_until(&w->changed, &w->mutex, deadline) == ETIMEDOUT)
            rc = WALCORE_TIMEOUT;
        if (rc) break;
    }
    pthread_mutex_unlock(&w->mutex);
    return rc;
}

/* ---- staging ---- */

static int64_t refusal(const walcore_writer *w, uint64_t generation) {
    if (w->shared.poisoned) return WALCORE_POISONED;
    if (w->stopping) return WALCORE_STOPPED;
    if (generation != w->shared.generation) return WALCORE_STALE;
    return WALCORE_OK;
}

static int grow(staging *buffer, size_t bytes) {
    if (bytes <= buffer->capacity) return 1;
    uint8_t *larger = realloc(buffer->data, bytes + 2 * PAGE_BYTES);
    if (!larger) return 0;
    buffer->data = larger;
    buffer->capacity = bytes;
    return 1;
}

/* Makes room for `bytes` in the filling buffer; waits for the disk when both are full. The
 * result is the buffer, with the mutex held, or NULL and a refusal. */
static staging *claim(walcore_writer *w, uint64_t generation, uint64_t bytes, size_t records,
                      int from_user, int64_t *why) {
    for (;;) {
        *why = refusal(w, generation);
        if (!*why && from_user && w->turns_users_away) *why = WALCORE_NOT_LEADER;
        if (*why) return NULL;
        if (w->frozen) {
            pthread_cond_wait(&w->changed, &w->mutex);
            continue;
        }
        if (bytes < w->preferred_bytes && monotonic_ns() < w->preferred_until_ns) {
            cond_wait_until(&w->changed, &w->mutex, w->preferred_until_ns);
            continue;
        }
        if (w->tail_at + bytes > w->limit_at) {
            *why = WALCORE_ROLL;
            return NULL;
        }
        staging *buffer = &w->buffers[w->filling];
        if (buffer->used && buffer->used + bytes > buffer->capacity) {
            if (w->writing) {
                pthread_cond_wait(&w->changed, &w->mutex);
            } else {
                write_staged(w);
                pthread_cond_broadcast(&w->changed);
            }
            continue;
        }
        if (!grow(buffer, bytes) || !index_reserve(w, w->index_count + records)) {
            *why = WALCORE_NO_MEMORY;
            return NULL;
        }
        if (w->preferred_bytes) {
            w->preferred_bytes = 0;
            pthread_cond_broadcast(&w->changed);
        }
        if (!buffer->used) {
            buffer->at = w->tail_at;
            buffer->first_lsn = w->shared.next_lsn;
            buffer->term_before = w->last_term;
        }
        return buffer;
    }
}

/* Encodes an entry behind the last one; its lsn and durable_lsn are set here. */
static void stage(walcore_writer *w, staging *buffer, walcore_entry entry,
                  const uint8_t *payload) {
    uint64_t total = walcore_record_bytes(entry.payload_bytes);
    assert(entry.term >= w->last_term);
    entry.lsn = w->shared.next_lsn;
    entry.durable_lsn = w->shared.durable_lsn;
    walcore_encode(buffer->data + buffer->used, w->seed, &entry, payload);
    w->index_count = walcore_index_note(w->index, w->index_count,
                                        w->shared.next_lsn - w->segment_first_lsn, w->tail_at);
    buffer->used += total;
    buffer->last_lsn = w->shared.next_lsn;
    w->last_term = entry.term;
    w->tail_at += total;
    w->shared.next_lsn++;
}

/* A caller without a clock of its own passes 0. */
static uint64_t stamp(uint64_t timestamp_ns) {
    if (timestamp_ns) return timestamp_ns;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int is_users(uint16_t kind) { return kind && kind < WALCORE_KIND_CONFIGURATION; }

static int64_t stage_one(walcore_writer *w, uint64_t generation, const uint8_t *payload,
                         size_t bytes, uint64_t timestamp_ns, uint16_t kind) {
    int64_t why;
    staging *buffer =
        claim(w, generation, walcore_record_bytes(bytes), 1, is_users(kind), &why);
    if (!buffer) return why;
    int64_t lsn = (int64_t)w->shared.next_lsn;
    walcore_entry entry = {
        .term = w->term,
        .timestamp_ns = timestamp_ns,
        .payload_bytes = (uint32_t)bytes,
        .kind = kind,
    };
    stage(w, buffer, entry, payload);
    return lsn;
}

/* Asks the flusher for everything up to `lsn`; a signal is sent only when it sleeps. */
static void request_flush(walcore_writer *w, uint64_t lsn) {
    if (lsn > w->requested_lsn) w->requested_lsn = lsn;
    if (w->flusher_idle) {
        w->flusher_idle = 0;
        pthread_cond_signal(&w->flusher_wake);
    }
}

/* Brings a staged lsn where this log's policy wants it before the call returns. */
static int64_t settle(walcore_writer *w, int64_t lsn, int64_t first_lsn) {
    int rc = advance_to(w, w->shared.generation, (uint64_t)lsn, w->level, 0);
    if (rc == WALCORE_OK && w->level == WALCORE_LEVEL_WRITTEN &&
        (w->interval_ns || w->shared.written_at - w->durable_at > UNSYNCED_BYTES_MAX))
        request_flush(w, (uint64_t)lsn);
    return rc == WALCORE_OK ? first_lsn : rc;
}

/* Appends one entry and returns its lsn once it is where the policy wants it. */
int64_t walcore_append(walcore_writer *w, const uint8_t *payload, size_t bytes,
                       uint64_t timestamp_ns, uint16_t kind) {
    if (bytes > WALCORE_PAYLOAD_BYTES_MAX || !is_users(kind)) return WALCORE_REFUSED;
    timestamp_ns = stamp(timestamp_ns);
    pthread_mutex_lock(&w->mutex);
    int64_t lsn = stage_one(w, w->shared.generation, payload, bytes, timestamp_ns, kind);
    if (lsn > 0) lsn = settle(w, lsn, lsn);
    pthread_mutex_unlock(&w->mutex);
    return lsn;
}

static int64_t submit(walcore_writer *w, uint64_t generation, const uint8_t *payload, size_t bytes,
                      uint64_t timestamp_ns, uint16_t kind) {
    if (bytes > WALCORE_PAYLOAD_BYTES_MAX) return WALCORE_REFUSED;
    timestamp_ns = stamp(timestamp_ns);
    pthread_mutex_lock(&w->mutex);
    int64_t lsn = stage_one(w, generation, payload, bytes, timestamp_ns, kind);
    if (lsn > 0) {
        if (w->level != WALCORE_LEVEL_WRITTEN) request_flush(w, (uint64_t)lsn);
        else lsn = settle(w, lsn, lsn);
    }
    pthread_mutex_unlock(&w->mutex);
    return lsn;
}

/* Returns at once with the lsn; where the policy is to sync, the flusher does it. */
int64_t walcore_submit(walcore_writer *w, uint64_t generation, const uint8_t *payload,
                       size_t bytes, uint64_t timestamp_ns, uint16_t kind) {
    if (!is_users(kind)) return WALCORE_REFUSED;
    return submit(w, generation, payload, bytes, timestamp_ns, kind);
}

/* As walcore_submit, for the entry that a leadership begins with. */
int64_t walcore_submit_term(walcore_writer *w, uint64_t generation, const uint8_t *payload,
                            size_t bytes, uint64_t timestamp_ns) {
    return submit(w, generation, payload, bytes, timestamp_ns, WALCORE_KIND_TERM);
}

/* As walcore_submit, for an entry that says who the nodes are. */
int64_t walcore_submit_configuration(walcore_writer *w, uint64_t generation,
                                     const uint8_t *payload, size_t bytes,
                                     uint64_t timestamp_ns) {
    return submit(w, generation, payload, bytes, timestamp_ns, WALCORE_KIND_CONFIGURATION);
}

/* Whether a batch keeps to the limits, and what its records take. */
static int batch_fits(const uint32_t *lengths, size_t count, uint64_t *total) {
    *total = 0;
    for (size_t i = 0; i < count; i++) {
        if (lengths[i] > WALCORE_PAYLOAD_BYTES_MAX) return 0;
        *total += walcore_record_bytes(lengths[i]);
    }
    return *total <= WALCORE_BATCH_BYTES_MAX;
}

static int64_t stage_batch(walcore_writer *w, const uint8_t *joined, const uint32_t *lengths,
                           size_t count, uint64_t total, uint64_t timestamp_ns, uint16_t kind) {
    int64_t first;
    staging *buffer = claim(w, w->shared.generation, total, count, 1, &first);
    if (!buffer) return first;
    first = (int64_t)w->shared.next_lsn;
    for (size_t i = 0; i < count; i++) {
        walcore_entry entry = {
            .term = w->term,
            .timestamp_ns = timestamp_ns,
            .payload_bytes = lengths[i],
            .kind = kind,
            .flags = i + 1 < count ? WALCORE_FLAG_MORE : 0,
        };
        stage(w, buffer, entry, joined);
        joined += lengths[i];
    }
    return first;
}

/* Appends `count` payloads, laid end to end in `joined`, as one atomic batch. Returns the first
 * lsn. */
int64_t walcore_append_many(walcore_writer *w, const uint8_t *joined, const uint32_t *lengths,
                            size_t count, uint64_t timestamp_ns, uint16_t kind) {
    uint64_t total;
    if (!is_users(kind) || !batch_fits(lengths, count, &total)) return WALCORE_REFUSED;
    timestamp_ns = stamp(timestamp_ns);
    pthread_mutex_lock(&w->mutex);
    int64_t first = stage_batch(w, joined, lengths, count, total, timestamp_ns, kind);
    if (first > 0) first = settle(w, first + (int64_t)count - 1, first);
    pthread_mutex_unlock(&w->mutex);
    return first;
}

/* An append that may have to wait for longer than a signal can: the result is the first lsn as soon
 * as there is one; `outcome` says what became of it in the time given, and what to ask on with. */
int64_t walcore_append_within(walcore_writer *w, const uint8_t *joined, const uint32_t *lengths,
                              size_t count, uint64_t timestamp_ns, uint16_t kind,
                              int64_t timeout_ns, walcore_outcome *outcome) {
    uint64_t total;
    if (!is_users(kind) || !batch_fits(lengths, count, &total)) return WALCORE_REFUSED;
    timestamp_ns = stamp(timestamp_ns);
    pthread_mutex_lock(&w->mutex);
    int64_t first = stage_batch(w, joined, lengths, count, total, timestamp_ns, kind);
    if (first > 0) {
        uint64_t last = (uint64_t)first + count - 1;
        outcome->generation = w->shared.generation;
        outcome->rc = advance_to(w, w->shared.generation, last, WALCORE_LEVEL_COMMITTED,
                                 deadline_of(timeout_ns));
    }
    pthread_mutex_unlock(&w->mutex);
    return first;
}

/* As many whole batches, of valid records, as fit into the segment, and into a staging buffer of
 * the usual size; at least one. */
static uint64_t bytes_that_fit(const walcore_writer *w, const uint8_t *records, uint64_t bytes,
                               size_t *count) {
    uint64_t room = w->limit_at > w->tail_at ? w->limit_at - w->tail_at : 0;
    uint64_t fit = 0;
    if (room > STAGING_BYTES) room = STAGING_BYTES;
    while (fit < bytes) {
        size_t more = 0;
        uint64_t batch = walcore_batch_bytes(records + fit, bytes - fit, &more);
        if (fit && fit + batch > room) break;
        fit += batch;
        *count += more;
    }
    return fit;
}

static int follows(const walcore_writer *w, const uint8_t *records, uint64_t bytes) {
    uint64_t term = w->last_term, next_lsn = w->shared.next_lsn;
    for (uint64_t at = 0; at < bytes;) {
        walcore_entry entry;
        at += walcore_peek(records + at, &entry);
        if (entry.lsn != next_lsn++ || entry.term < term || entry.term > w->term) return 0;
        term = entry.term;
    }
    return 1;
}

/* Copies valid records behind the last one, bound to this segment. */
static void stage_records(walcore_writer *w, staging *buffer, const uint8_t *records,
                          uint64_t bytes) {
    uint8_t *to = buffer->data + buffer->used, *end = to + bytes;
    memcpy(to, records, bytes);
    buffer->used += bytes;
    while (to < end) {
        w->index_count = walcore_index_note(w->index, w->index_count,
                                            w->shared.next_lsn - w->segment_first_lsn, w->tail_at);
        uint64_t total = walcore_adopt(to, w->seed, w->shared.durable_lsn, &w->last_term);
        w->tail_at += total;
        w->shared.next_lsn++;
        to += total;
    }
    buffer->last_lsn = w->shared.next_lsn - 1;
}

/* Appends records of another log that walcore_check_records found good: lsn, term, timestamp,
 * kind and batches are kept. Refused when they are not the next ones, when a term goes back, or
 * when one is beyond this log's. `taken` says how many bytes were staged, also when the result is
 * a refusal: with ROLL, `need` is the size of the batch that did not fit, and the caller goes on
 * there. Returns the last lsn without waiting for the disk. */
int64_t walcore_submit_records(walcore_writer *w, const uint8_t *records, uint64_t bytes,
                               uint64_t *taken, uint64_t *need) {
    int64_t lsn = 0;
    *taken = 0;
    pthread_mutex_lock(&w->mutex);
    while (*taken < bytes) {
        const uint8_t *rest = records + *taken;
        size_t count = 0;
        uint64_t fit = bytes_that_fit(w, rest, bytes - *taken, &count);
        staging *buffer = claim(w, w->shared.generation, fit, count, 0, &lsn);
        if (buffer && !follows(w, rest, fit)) {
            lsn = WALCORE_REFUSED;
            buffer = NULL;
        }
        *need = fit;
        if (!buffer) break;
        stage_records(w, buffer, rest, fit);
        *taken += fit;
        lsn = (int64_t)w->shared.next_lsn - 1;
    }
    if (*taken) {
        int64_t last = (int64_t)w->shared.next_lsn - 1;
        if (w->level != WALCORE_LEVEL_WRITTEN) request_flush(w, (uint64_t)last);
        else if (lsn > 0) lsn = settle(w, last, last);
    }
    pthread_mutex_unlock(&w->mutex);
    return lsn;
}

/* ---- the flusher ---- */

static void flusher_sleep(walcore_writer *w, uint64_t deadline_ns) {
    w->flusher_idle = 1;
    cond_wait_until(&w->flusher_wake, &w->mutex, deadline_ns);
    w->flusher_idle = 0;
}

/* Sleeps until an interval is over, so that the syncs of a busy log stay that far apart. */
static void flusher_pace(walcore_writer *w) {
    uint64_t deadline = monotonic_ns() + w->interval_ns;
    while (!w->stopping && monotonic_ns() < deadline)
        cond_wait_until(&w->flusher_wake, &w->mutex, deadline);
}

static void *flusher_run(void *argument) {
    walcore_writer *w = argument;
    pthread_mutex_lock(&w->mutex);
    while (!w->stopping) {
        if (w->shared.poisoned || w->requested_lsn <= w->shared.durable_lsn) {
            flusher_sleep(w, 0);
            continue;
        }
        if (w->interval_ns) flusher_pace(w);
        if (w->requested_lsn > w->shared.durable_lsn)
            advance_to(w, w->shared.generation, w->requested_lsn, WALCORE_LEVEL_DURABLE, 0);
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

/* ---- life ---- */

static void release(walcore_writer *w) {
    free(w->buffers[0].data);
    free(w->buffers[1].data);
    free(w->index);
    free(w->endings);
    free(w);
}

walcore_writer *walcore_writer_new(int level, uint64_t interval_ns, int watermark_fd,
                                   uint64_t watermark_at, uint32_t watermark_seed) {
    walcore_writer *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    for (int i = 0; i < 2; i++) {
        w->buffers[i].capacity = STAGING_BYTES;
        w->buffers[i].data = malloc(STAGING_BYTES + 2 * PAGE_BYTES);
    }
    for (int i = 0; i < WALCORE_NOTIFY_SLOTS; i++) w->slots[i].fd = -1;
    if (!w->buffers[0].data || !w->buffers[1].data || !index_reserve(w, 1)) {
        release(w);
        return NULL;
    }
    w->level = level;
    w->interval_ns = interval_ns;
    w->watermark_fd = watermark_fd;
    w->watermark_at = watermark_at;
    w->watermark_seed = watermark_seed;
    w->owner = getpid();
    w->fd = -1;
    w->shared.next_lsn = 1;
    w->shared.committed_lsn = UINT64_MAX;
    w->frozen = 1; /* until a segment is attached and the writer is thawed */
    pthread_mutex_init(&w->mutex, NULL);
    cond_init(&w->changed);
    cond_init(&w->flusher_wake);
    return w;
}

/* Makes it the writer of a replicated log, before it is started: entries up to `committed_lsn` are
 * committed, and the commit mark goes to `mark_at` of the watermark's file, which it has. */
void walcore_writer_commits(walcore_writer *w, uint64_t committed_lsn, uint64_t mark_at) {
    assert(w->watermark_fd >= 0);
    w->shared.committed_lsn = committed_lsn;
    w->mark_at = mark_at;
    if (w->level == WALCORE_LEVEL_DURABLE) w->level = WALCORE_LEVEL_COMMITTED;
}

/* Starts the flusher. Signals are left to the interpreter's threads. */
int walcore_writer_start(walcore_writer *w) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&w->flusher, NULL, flusher_run, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    w->flusher_started = rc == 0;
    return -rc;
}

/* Ends the flusher and makes every waiting or later call return. Syncs nothing. */
void walcore_writer_stop(walcore_writer *w) {
    if (w->owner != getpid()) return;
    pthread_mutex_lock(&w->mutex);
    w->stopping = 1;
    pthread_cond_signal(&w->flusher_wake);
    wake_everyone(w, 1);
    /* Descriptors are closed after this: no call may still be using one. */
    while (w->writing || w->syncing || w->marking) pthread_cond_wait(&w->changed, &w->mutex);
    int started = w->flusher_started;
    w->flusher_started = 0;
    pthread_mutex_unlock(&w->mutex);
    if (started) pthread_join(w->flusher, NULL);
}

/* The caller makes sure that no other call is running or will come. A writer that was left
 * running, at the exit of the process, is stopped first. */
void walcore_writer_free(walcore_writer *w) {
    if (w->owner != getpid()) return;
    walcore_writer_stop(w);
    pthread_cond_destroy(&w->changed);
    pthread_cond_destroy(&w->flusher_wake);
    pthread_mutex_destroy(&w->mutex);
    release(w);
}

/* ---- changing the segment ---- */

/* Keeps new records out and brings all staged ones to the disk. Undone by walcore_thaw; on
 * failure it is undone already. */
int walcore_freeze(walcore_writer *w) {
    pthread_mutex_lock(&w->mutex);
    while (w->frozen) pthread_cond_wait(&w->changed, &w->mutex);
    w->frozen = 1;
    int rc = w->shared.poisoned ? WALCORE_POISONED : WALCORE_OK;
    if (rc == WALCORE_OK)
        rc = advance_to(w, w->shared.generation, w->shared.next_lsn - 1, WALCORE_LEVEL_DURABLE, 0);
    if (rc) {
        w->frozen = 0;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->mutex);
    return rc;
}

void walcore_thaw(walcore_writer *w) {
    pthread_mutex_lock(&w->mutex);
    w->frozen = 0;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->mutex);
}

/* Before it is attached to a segment that begins an emptied log: no entry that is not visible by
 * now is in the log any more, and all before `next_lsn` is committed. Only while frozen. */
int walcore_writer_restart(walcore_writer *w, uint64_t next_lsn, uint32_t watermark_seed) {
    pthread_mutex_lock(&w->mutex);
    uint64_t gone_from = reached(w, WALCORE_LEVEL_COMMITTED) + 1;
    int rc = WALCORE_OK;
    while (w->marking) pthread_cond_wait(&w->changed, &w->mutex);
    if (!end_generation(w, gone_from < next_lsn ? gone_from : next_lsn, WALCORE_TRUNCATED)) {
        poison_locked(w, ENOMEM);
        rc = WALCORE_NO_MEMORY;
    }
    w->watermark_seed = watermark_seed;
    if (w->shared.committed_lsn != UINT64_MAX)
        __atomic_store_n(&w->shared.committed_lsn, next_lsn - 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&w->mutex);
    return rc;
}

/* Points the writer at a segment; only while frozen. Everything before `next_lsn` is durable;
 * `zeroed` says that everything behind it is zero. */
int walcore_writer_attach(walcore_writer *w, int fd, uint32_t seed, uint64_t next_lsn,
                          uint64_t term, uint64_t last_term, uint64_t epoch, uint64_t first_lsn,
                          uint64_t tail_at, uint64_t limit_at, int zeroed) {
    pthread_mutex_lock(&w->mutex);
    if (next_lsn < w->shared.next_lsn && !end_generation(w, next_lsn, WALCORE_TRUNCATED))
        poison_locked(w, ENOMEM);
    w->fd = fd;
    w->seed = seed;
    w->term = term;
    w->last_term = last_term;
    w->epoch = epoch;
    w->segment_first_lsn = first_lsn;
    w->shared.next_lsn = next_lsn;
    w->requested_lsn = next_lsn - 1;
    w->shared.written_lsn = next_lsn - 1;
    __atomic_store_n(&w->shared.durable_lsn, next_lsn - 1, __ATOMIC_RELEASE);
    w->tail_at = w->shared.written_at = w->durable_at = tail_at;
    w->limit_at = limit_at;
    w->zeroed = zeroed;
    w->padded_at = tail_at & ~(uint64_t)(PAGE_BYTES - 1);
    w->index_count = 0;
    int rc = publish_watermark(w, next_lsn - 1);
    if (rc) w->watermark_failures++;
    if (w->shared.committed_lsn != UINT64_MAX) publish_committed(w);
    wake_everyone(w, 1);
    pthread_mutex_unlock(&w->mutex);
    return rc;
}

/* Gives the writer the index of the records a recovery found; only while frozen. */
int walcore_writer_index_load(walcore_writer *w, const uint32_t *pairs, size_t count) {
    pthread_mutex_lock(&w->mutex);
    int rc = index_reserve(w, count) ? WALCORE_OK : WALCORE_NO_MEMORY;
    if (rc == WALCORE_OK) {
        memcpy(w->index, pairs, count * WALCORE_INDEX_ENTRY_BYTES);
        w->index_count = count;
    }
    pthread_mutex_unlock(&w->mutex);
    return rc;
}

/* Moves the place where records must end. Half of the segment is set first, so that ROLL comes in
 * time to prepare a spare. */
void walcore_writer_set_limit(walcore_writer *w, uint64_t limit_at) {
    pthread_mutex_lock(&w->mutex);
    w->limit_at = limit_at;
    pthread_mutex_unlock(&w->mutex);
}

/* Lets an entry, or batch, of `bytes` into the segment before any smaller one, which wait for it
 * that long at the most. */
void walcore_writer_prefer(walcore_writer *w, uint64_t bytes, int64_t timeout_ns) {
    pthread_mutex_lock(&w->mutex);
    w->preferred_bytes = bytes;
    w->preferred_until_ns = deadline_of(timeout_ns);
    pthread_mutex_unlock(&w->mutex);
}

/* Lets users append, or turns them away: once this returns, none gets an lsn any more. `alone`:
 * what this disk has is committed, nobody else is asked. */
void walcore_accept_appends(walcore_writer *w, int accept, int alone) {
    pthread_mutex_lock(&w->mutex);
    w->turns_users_away = !accept;
    w->commits_alone = alone;
    pthread_mutex_unlock(&w->mutex);
}

void walcore_writer_set_term(walcore_writer *w, uint64_t term) {
    pthread_mutex_lock(&w->mutex);
    if (term > w->term) w->term = term;
    pthread_mutex_unlock(&w->mutex);
}

/* Entries up to `lsn` are committed. Lower ones than before change nothing. */
void walcore_set_committed(walcore_writer *w, uint64_t lsn) {
    pthread_mutex_lock(&w->mutex);
    if (lsn > w->shared.committed_lsn && !w->stopping) {
        __atomic_store_n(&w->shared.committed_lsn, lsn, __ATOMIC_RELEASE);
        wake_everyone(w, 0);
        publish_committed(w);
    }
    pthread_mutex_unlock(&w->mutex);
}

void walcore_poison(walcore_writer *w, int error) {
    pthread_mutex_lock(&w->mutex);
    poison_locked(w, error);
    pthread_mutex_unlock(&w->mutex);
}

/* ---- looking ---- */

uint64_t walcore_last_lsn(walcore_writer *w) {
    pthread_mutex_lock(&w->mutex);
    uint64_t lsn = w->shared.next_lsn - 1;
    pthread_mutex_unlock(&w->mutex);
    return lsn;
}

uint64_t walcore_generation(walcore_writer *w) {
    pthread_mutex_lock(&w->mutex);
    uint64_t generation = w->shared.generation;
    pthread_mutex_unlock(&w->mutex);
    return generation;
}

int walcore_fate_of(walcore_writer *w, uint64_t generation, uint64_t lsn) {
    pthread_mutex_lock(&w->mutex);
    int fate = fate_of(w, generation, lsn);
    pthread_mutex_unlock(&w->mutex);
    return fate;
}

/* Where the writer stands, to be read without a call: each field by itself is whole, and no older
 * than the last call into the writer. */
const walcore_shared *walcore_shared_of(const walcore_writer *w) { return &w->shared; }

uint64_t walcore_durable_lsn(walcore_writer *w) {
    return __atomic_load_n(&w->shared.durable_lsn, __ATOMIC_ACQUIRE);
}

uint64_t walcore_committed_lsn(walcore_writer *w) {
    return __atomic_load_n(&w->shared.committed_lsn, __ATOMIC_ACQUIRE);
}

/* The last entry that readers are shown: durable, and committed. */
uint64_t walcore_visible_lsn(walcore_writer *w) {
    uint64_t committed = walcore_committed_lsn(w), durable = walcore_durable_lsn(w);
    return committed < durable ? committed : durable;
}

uint64_t walcore_written_lsn(walcore_writer *w) {
    pthread_mutex_lock(&w->mutex);
    uint64_t lsn = w->shared.written_lsn;
    pthread_mutex_unlock(&w->mutex);
    return lsn;
}

/* Bytes of this segment that are accepted and not on the disk yet. */
uint64_t walcore_unsynced_bytes(walcore_writer *w) {
    pthread_mutex_lock(&w->mutex);
    uint64_t bytes = w->tail_at - w->durable_at;
    pthread_mutex_unlock(&w->mutex);
    return bytes;
}

void walcore_writer_status(walcore_writer *w, walcore_status *out) {
    pthread_mutex_lock(&w->mutex);
    memset(out, 0, sizeof *out);
    out->generation = w->shared.generation;
    out->next_lsn = w->shared.next_lsn;
    out->written_lsn = w->shared.written_lsn;
    out->durable_lsn = w->shared.durable_lsn;
    out->tail_at = w->tail_at;
    out->writes = w->writes;
    out->write_bytes = w->write_bytes;
    out->syncs = w->syncs;
    out->sync_ns = w->sync_ns;
    out->watermark_failures = w->watermark_failures;
    memcpy(out->sync_histogram, w->sync_histogram, sizeof out->sync_histogram);
    out->state = w->shared.poisoned   ? WALCORE_POISONED
                 : w->stopping ? WALCORE_STOPPED
                               : WALCORE_OK;
    out->error = w->error;
    pthread_mutex_unlock(&w->mutex);
}

/* Registers a descriptor that is written to when an armed lsn has come far enough, or on failure.
 * Returns its slot, or -1 when all are taken. */
int walcore_notify_open(walcore_writer *w, int fd) {
    pthread_mutex_lock(&w->mutex);
    int slot = 0;
    while (slot < WALCORE_NOTIFY_SLOTS && w->slots[slot].fd >= 0) slot++;
    if (slot == WALCORE_NOTIFY_SLOTS) slot = -1;
    else w->slots[slot] = (notify_slot){fd, 0, 0};
    pthread_mutex_unlock(&w->mutex);
    return slot;
}

void walcore_notify_close(walcore_writer *w, int slot) {
    pthread_mutex_lock(&w->mutex);
    w->slots[slot] = (notify_slot){-1, 0, 0};
    pthread_mutex_unlock(&w->mutex);
}

/* Asks to be woken when `lsn` has come to `level`. Returns 1, and arms nothing, when there is
 * something to look at already. */
int walcore_notify_arm(walcore_writer *w, int slot, uint64_t generation, uint64_t lsn, int level) {
    pthread_mutex_lock(&w->mutex);
    int due = reached(w, level) >= lsn || w->shared.poisoned || w->stopping ||
              fate_of(w, generation, lsn);
    w->slots[slot].armed_lsn = due ? 0 : lsn;
    w->slots[slot].level = level;
    pthread_mutex_unlock(&w->mutex);
    return due;
}

/* Copies up to `count_max` index pairs and returns how many there are. */
size_t walcore_index_copy(walcore_writer *w, uint32_t *pairs, size_t count_max) {
    pthread_mutex_lock(&w->mutex);
    size_t count = w->index_count;
    if (count && count <= count_max) memcpy(pairs, w->index, count * WALCORE_INDEX_ENTRY_BYTES);
    pthread_mutex_unlock(&w->mutex);
    return count;
}

/* Where to read for `lsn` in the current segment: from an indexed record at or before it, to the
 * next indexed one or the tail. Returns 0, or -1 when the lsn is not in this segment. */
int walcore_locate(walcore_writer *w, uint64_t lsn, uint64_t *from_lsn, uint64_t *from_at,
                   uint64_t *to_at) {
    pthread_mutex_lock(&w->mutex);
    int rc = -1;
    if (lsn >= w->segment_first_lsn && lsn < w->shared.next_lsn && w->index_count) {
        size_t low = 0, high = w->index_count;
        while (high - low > 1) {
            size_t middle = low + (high - low) / 2;
            if (w->segment_first_lsn + w->index[2 * middle] <= lsn) low = middle;
            else high = middle;
        }
        *from_lsn = w->segment_first_lsn + w->index[2 * low];
        *from_at = (uint64_t)w->index[2 * low + 1] * WALCORE_RECORD_ALIGN_BYTES;
        *to_at = w->tail_at;
        if (high < w->index_count)
            *to_at = (uint64_t)w->index[2 * high + 1] * WALCORE_RECORD_ALIGN_BYTES;
        rc = 0;
    }
    pthread_mutex_unlock(&w->mutex);
    return rc;
}
