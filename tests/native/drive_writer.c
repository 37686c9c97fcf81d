/* Many threads on one writer, without an interpreter: for the thread sanitizer.
 *
 *   drive_writer DIRECTORY ROUNDS SEED
 *
 * Threads append, submit and wait, write batches, roll to a new segment, truncate, run out of
 * space, watch, locate and are notified. After so many acks a round ends, in one of three ways:
 * everyone is done, the writer is poisoned, or it is stopped under them. Then the segments are
 * scanned: what was acked is there, as it was written, and nothing that nobody wrote. Prints what
 * was done; exits 1 when it is not so. */
#define _GNU_SOURCE
#include "walcore.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    APPENDERS = 4,
    START_AT = 8192,
    SEGMENT_BYTES = 64 << 10,
    LIMIT_AT = START_AT + SEGMENT_BYTES,
    FILE_BYTES = LIMIT_AT + 2 * WALCORE_BLOCK_BYTES,
    PAYLOAD_BYTES_MAX = 3000,
    BATCH_MAX = 6,
    ACKS_MAX = 1 << 20,
    SEGMENTS_MAX = 1 << 14,
    ROUND_ACKS = 1500,
    WAIT_NS = 2000000,
};

enum ending { DONE, POISON, STOP, ENDINGS };

typedef struct {
    uint64_t generation, lsn, tag;
} ack;

typedef struct {
    uint64_t first_lsn, next_lsn;
    uint32_t seed;
    int number;
} segment;

typedef struct {
    uint64_t random;
    uint64_t number, issued;
    uint64_t ambiguous; /* acked while a generation ended: it may have been before or after */
    ack *acks;
    size_t count;
} appender;

static walcore_writer *writer;
static const char *directory;
static pthread_mutex_t changes = PTHREAD_MUTEX_INITIALIZER; /* of the segment, as in the manager */
static segment chain[SEGMENTS_MAX];
static size_t chain_count;
static int segment_number, tail_fd, ended, marks_fd, replicated;
static uint64_t round_acks;
static sem_t enough; /* of them */
static appender appenders[APPENDERS];

static struct {
    uint64_t appends, batches, submits, copies, rolls, truncations, full, watches, wakeups, looks;
    uint64_t commits;
    uint64_t syncs, rounds[ENDINGS], checked, refused;
} total;

#define COUNT(field) __atomic_fetch_add(&total.field, 1, __ATOMIC_RELAXED)

static void check(int truth, const char *what) {
    if (truth) return;
    fprintf(stderr, "broken: %s (errno %d)\n", what, errno);
    exit(1);
}

static uint64_t next_random(uint64_t *state) { /* xorshift64* */
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1Du;
}

static int is_over(void) { return __atomic_load_n(&ended, __ATOMIC_ACQUIRE); }

static int make_segment(int number) {
    char path[512];
    snprintf(path, sizeof path, "%s/%d", directory, number);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    check(fd >= 0 && ftruncate(fd, FILE_BYTES) == 0, "a segment is made");
    return fd;
}

/* Attaches a new segment that starts with `first_lsn`; with `changes`, while frozen. */
static void next_segment(uint64_t first_lsn, uint64_t epoch) {
    int old_fd = tail_fd, number = segment_number++;
    uint32_t seed = 1000u + (uint32_t)number;
    tail_fd = make_segment(number);
    walcore_writer_attach(writer, tail_fd, seed, first_lsn, 1, 1, epoch, first_lsn, START_AT,
                          LIMIT_AT, number % 2);
    while (chain_count && chain[chain_count - 1].first_lsn >= first_lsn) chain_count--;
    if (chain_count) chain[chain_count - 1].next_lsn = first_lsn;
    check(chain_count < SEGMENTS_MAX, "there is room for the chain");
    chain[chain_count++] = (segment){first_lsn, 0, seed, number};
    /* As the manager does: the number of the descriptor is free for anybody from here on. */
    if (old_fd >= 0) close(old_fd);
}

static void roll(uint64_t need_bytes) {
    pthread_mutex_lock(&changes);
    walcore_status status;
    walcore_writer_status(writer, &status);
    if (status.state == WALCORE_OK && status.tail_at + need_bytes > LIMIT_AT &&
        walcore_freeze(writer) == WALCORE_OK) {
        next_segment(walcore_last_lsn(writer) + 1, status.generation);
        if (need_bytes > SEGMENT_BYTES / 8) walcore_writer_prefer(writer, need_bytes, WAIT_NS);
        walcore_thaw(writer);
        COUNT(rolls);
    }
    pthread_mutex_unlock(&changes);
}

/* Drops up to sixteen entries from the end. */
static void truncate_some(uint64_t random) {
    walcore_status status;
    pthread_mutex_lock(&changes);
    walcore_writer_status(writer, &status);
    if (status.state == WALCORE_OK && walcore_freeze(writer) == WALCORE_OK) {
        uint64_t last_lsn = walcore_last_lsn(writer), drop = 1 + random % 16;
        if (drop < last_lsn) {
            next_segment(last_lsn - drop + 1, walcore_generation(writer) + 1);
            COUNT(truncations);
        }
        walcore_thaw(writer);
    }
    pthread_mutex_unlock(&changes);
}

/* For a moment no file may be written to: what was staged meanwhile is refused. */
static void fill_disk(void) {
    struct rlimit before, none;
    pthread_mutex_lock(&changes);
    check(getrlimit(RLIMIT_FSIZE, &before) == 0, "the limit is read");
    none = (struct rlimit){START_AT, before.rlim_max};
    check(setrlimit(RLIMIT_FSIZE, &none) == 0, "the limit is set");
    usleep(500); /* nothing depends on how long it is: whoever writes meanwhile is refused */
    check(setrlimit(RLIMIT_FSIZE, &before) == 0, "the limit is lifted");
    pthread_mutex_unlock(&changes);
}

/* ---- appending ---- */

static uint32_t fill(uint8_t *payload, uint64_t tag, uint64_t random) {
    uint32_t bytes = 8 + (uint32_t)(random % (random & 1 ? 64 : PAYLOAD_BYTES_MAX - 8));
    memset(payload, (int)(tag & 0xFF), bytes);
    memcpy(payload, &tag, 8);
    return bytes;
}

static uint64_t next_tag(appender *self) { return self->number << 48 | self->issued++; }

static void note(appender *self, uint64_t generation, uint64_t lsn, uint64_t tag) {
    check(self->count < ACKS_MAX, "there is room for the acks");
    self->acks[self->count++] = (ack){generation, lsn, tag};
    COUNT(appends);
    if (__atomic_add_fetch(&round_acks, 1, __ATOMIC_RELAXED) == ROUND_ACKS) sem_post(&enough);
}

/* An ack of a call that does not say its generation counts when no generation ended meanwhile. */
static void note_all(appender *self, uint64_t before, int64_t lsn, uint64_t tag, size_t count) {
    if (walcore_generation(writer) != before) {
        self->ambiguous += count;
        return;
    }
    for (size_t i = 0; i < count; i++) note(self, before, (uint64_t)lsn + i, tag + i);
}

static int64_t append_one(appender *self, uint64_t random) {
    uint8_t payload[PAYLOAD_BYTES_MAX];
    uint64_t tag = next_tag(self), generation = walcore_generation(writer);
    uint32_t bytes = fill(payload, tag, random);
    int64_t lsn = walcore_append(writer, payload, bytes, 0, 1);
    if (lsn == WALCORE_ROLL) roll(walcore_record_bytes(bytes));
    if (lsn > 0) note_all(self, generation, lsn, tag, 1);
    return lsn;
}

static int64_t append_batch(appender *self, uint64_t random) {
    static _Thread_local uint8_t joined[BATCH_MAX * PAYLOAD_BYTES_MAX];
    uint32_t lengths[BATCH_MAX];
    size_t count = 2 + random % (BATCH_MAX - 1), at = 0;
    uint64_t need = 0, first_tag = self->number << 48 | self->issued;
    uint64_t generation = walcore_generation(writer);
    for (size_t i = 0; i < count; i++) {
        lengths[i] = fill(joined + at, next_tag(self), random >> i);
        at += lengths[i];
        need += walcore_record_bytes(lengths[i]);
    }
    int64_t lsn = walcore_append_many(writer, joined, lengths, count, 0, 2);
    if (lsn == WALCORE_ROLL) roll(need);
    if (lsn > 0) {
        note_all(self, generation, lsn, first_tag, count);
        COUNT(batches);
    }
    return lsn;
}

/* Several at once, waited for in the end. */
static int64_t submit_some(appender *self, uint64_t random) {
    uint8_t payload[PAYLOAD_BYTES_MAX];
    ack pending[BATCH_MAX];
    size_t count = 0;
    int64_t lsn = 0;
    for (size_t i = 0; i < 1 + random % BATCH_MAX; i++) {
        ack *next = &pending[count];
        next->generation = walcore_generation(writer);
        next->tag = next_tag(self);
        uint32_t bytes = fill(payload, next->tag, random >> i);
        lsn = walcore_submit(writer, next->generation, payload, bytes, 0, 3);
        if (lsn == WALCORE_ROLL) roll(walcore_record_bytes(bytes));
        if (lsn <= 0) break;
        next->lsn = (uint64_t)lsn;
        count++;
    }
    for (size_t i = 0; i < count; i++) {
        const ack *next = &pending[i];
        int rc;
        do rc = walcore_wait(writer, next->generation, next->lsn, WALCORE_LEVEL_DURABLE, WAIT_NS);
        while (rc == WALCORE_TIMEOUT);
        if (rc == WALCORE_OK) {
            note(self, next->generation, next->lsn, next->tag);
            COUNT(submits);
        } else {
            lsn = rc;
        }
    }
    return lsn;
}

/* As a follower does, with records of another segment: refused when another thread was faster. */
static int64_t append_copies(appender *self, uint64_t random) {
    static _Thread_local uint8_t records[BATCH_MAX * (PAYLOAD_BYTES_MAX + 64)];
    uint8_t payload[PAYLOAD_BYTES_MAX];
    uint64_t first_tag = self->number << 48 | self->issued, bytes = 0, taken, need;
    size_t count = 1 + random % BATCH_MAX;
    uint64_t generation = walcore_generation(writer), first_lsn = walcore_last_lsn(writer) + 1;
    for (size_t i = 0; i < count; i++) {
        walcore_entry entry = {.lsn = first_lsn + i, .term = 1, .timestamp_ns = 1, .kind = 4};
        entry.payload_bytes = fill(payload, next_tag(self), random >> i);
        entry.flags = i % 2 == 0 && i + 1 < count ? WALCORE_FLAG_MORE : 0;
        walcore_encode(records + bytes, 77, &entry, payload);
        bytes += walcore_record_bytes(entry.payload_bytes);
    }
    walcore_records found = {.seed = 77, .first_lsn = first_lsn, .prev_term = 1};
    check(walcore_check_records(records, bytes, 0, &found, NULL, 0), "the copies are good");
    int64_t lsn = walcore_submit_records(writer, records, bytes, &taken, &need);
    if (lsn == WALCORE_ROLL) roll(need);
    if (taken) {
        uint64_t last_lsn = lsn > 0 ? (uint64_t)lsn : 0;
        for (size_t at = 0, i = 0; at < taken; i++) {
            walcore_entry entry;
            at += walcore_peek(records + at, &entry);
            last_lsn = entry.lsn;
        }
        int rc;
        do rc = walcore_wait(writer, generation, last_lsn, WALCORE_LEVEL_COMMITTED, WAIT_NS);
        while (rc == WALCORE_TIMEOUT);
        size_t acked = last_lsn - first_lsn + 1;
        if (rc == WALCORE_OK) note_all(self, generation, (int64_t)first_lsn, first_tag, acked);
        else {
            self->ambiguous += acked; /* gone, or given these lsns after a truncation */
            if (lsn > 0) lsn = rc;
        }
        COUNT(copies);
    }
    return lsn;
}

static void *append_until_over(void *argument) {
    appender *self = argument;
    while (!is_over()) {
        uint64_t random = next_random(&self->random), choice = random >> 56;
        int64_t rc;
        if (choice < 100) rc = append_one(self, random);
        else if (choice < 150) rc = append_batch(self, random);
        else if (choice < 220) rc = submit_some(self, random);
        else if (choice < 250) rc = append_copies(self, random);
        else if (choice < 254) rc = 0, truncate_some(random);
        else rc = 0, fill_disk();
        if (rc == WALCORE_FULL) COUNT(full);
        if (rc < 0) COUNT(refused);
        if (rc == WALCORE_POISONED || rc == WALCORE_STOPPED) break;
        check(rc != WALCORE_NO_MEMORY, "there is memory");
    }
    return NULL;
}

/* ---- looking on ---- */

static void *look_on(void *argument) {
    (void)argument;
    uint32_t pairs[2 * 64];
    while (!is_over()) {
        uint64_t lsn = walcore_durable_lsn(writer) + 1, found[3];
        int rc = walcore_watch(writer, lsn, WAIT_NS);
        if (rc == WALCORE_OK) COUNT(watches);
        if (rc == WALCORE_POISONED || rc == WALCORE_STOPPED) break;
        if (walcore_locate(writer, lsn, found, found + 1, found + 2) == 0) {
            check(found[0] <= lsn && found[1] < found[2], "it is located before where it ends");
            COUNT(looks);
        }
        check(walcore_index_copy(writer, pairs, 64) <= 64, "the index is small");
        walcore_status status;
        walcore_writer_status(writer, &status);
        check(status.durable_lsn <= status.written_lsn && status.written_lsn < status.next_lsn,
              "durable, written and next are in order");
    }
    return NULL;
}

/* What is durable is committed a little later, as a quorum would say. */
static void *commit(void *argument) {
    (void)argument;
    while (replicated && !is_over()) {
        uint64_t lsn = walcore_committed_lsn(writer) + 1;
        int rc = walcore_wait(writer, walcore_generation(writer), lsn, WALCORE_LEVEL_DURABLE,
                              WAIT_NS);
        if (rc == WALCORE_POISONED || rc == WALCORE_STOPPED) break;
        walcore_set_committed(writer, walcore_durable_lsn(writer));
        walcore_status before, after;
        walcore_writer_status(writer, &before);
        uint64_t visible_lsn = walcore_visible_lsn(writer);
        walcore_writer_status(writer, &after);
        if (before.generation == after.generation) /* no truncation came between */
            check(visible_lsn <= after.durable_lsn, "visible is durable");
        COUNT(commits);
        if (rc != WALCORE_OK) usleep(100); /* nothing new is durable, or the end was cut */
    }
    /* Nobody is left waiting for a commit when the round ends. */
    walcore_set_committed(writer, UINT64_MAX - 1);
    return NULL;
}

static void *be_notified(void *argument) {
    (void)argument;
    int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    check(event >= 0, "an eventfd is made");
    while (!is_over()) {
        int slot = walcore_notify_open(writer, event);
        check(slot >= 0, "there is a slot");
        for (int i = 0; i < 20 && !is_over(); i++) {
            uint64_t generation = walcore_generation(writer), lsn = walcore_last_lsn(writer) + 1;
            if (walcore_notify_arm(writer, slot, generation, lsn, i % 3)) continue;
            struct pollfd due = {event, POLLIN, 0};
            uint64_t value;
            if (poll(&due, 1, 5) == 1 && read(event, &value, sizeof value) == sizeof value)
                COUNT(wakeups);
        }
        walcore_notify_close(writer, slot);
    }
    close(event);
    return NULL;
}

/* ---- a round, and what is left of it ---- */

static void begin(void) {
    chain_count = 0;
    segment_number = 0;
    tail_fd = -1;
    ended = 0;
    round_acks = 0;
    check(sem_init(&enough, 0, 0) == 0, "a semaphore");
    /* Every other round is one of a replicated log, which publishes its marks. */
    writer = walcore_writer_new(WALCORE_LEVEL_DURABLE, 0, marks_fd, 0, 1);
    check(writer != NULL, "a writer is made");
    if (replicated) walcore_writer_commits(writer, 0, 512);
    next_segment(1, 0);
    check(walcore_writer_start(writer) == 0, "the flusher starts");
    walcore_thaw(writer);
    for (uint64_t i = 0; i < APPENDERS; i++) {
        appenders[i].number = i;
        appenders[i].issued = appenders[i].count = appenders[i].ambiguous = 0;
    }
}

/* Stops the writer under the threads that use it; returns how many writes and syncs there were. */
static uint64_t stop_under_load(void) {
    walcore_status status;
    pthread_mutex_lock(&changes);
    walcore_writer_stop(writer);
    walcore_writer_status(writer, &status);
    pthread_mutex_unlock(&changes);
    return status.writes + status.syncs;
}

static void run_threads(enum ending how) {
    pthread_t threads[APPENDERS + 3];
    for (int i = 0; i < APPENDERS; i++)
        check(!pthread_create(&threads[i], NULL, append_until_over, &appenders[i]), "a thread");
    check(!pthread_create(&threads[APPENDERS], NULL, look_on, NULL), "a thread");
    check(!pthread_create(&threads[APPENDERS + 1], NULL, be_notified, NULL), "a thread");
    check(!pthread_create(&threads[APPENDERS + 2], NULL, commit, NULL), "a thread");
    while (sem_wait(&enough)) check(errno == EINTR, "it is waited for");
    if (how == POISON) walcore_poison(writer, EIO);
    uint64_t before = how == STOP ? stop_under_load() : 0;
    __atomic_store_n(&ended, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < APPENDERS + 3; i++) check(!pthread_join(threads[i], NULL), "it ends");
    /* The descriptor may be closed after a stop: nothing may use it any more. */
    walcore_status status;
    walcore_writer_status(writer, &status);
    if (how == STOP) check(status.writes + status.syncs == before, "nothing is written after it");
}

/* Reads a segment's records into `tags` by lsn; returns the lsn after the last. */
static uint64_t read_segment(const segment *one, uint64_t *tags, size_t tags_max) {
    static uint8_t data[FILE_BYTES];
    char path[512];
    snprintf(path, sizeof path, "%s/%d", directory, one->number);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    check(fd >= 0 && pread(fd, data, sizeof data, 0) == FILE_BYTES, "a segment is read");
    close(fd);
    walcore_scan_state state = {.seed = one->seed, .next_lsn = one->first_lsn, .term = 1,
                                .stop_lsn = one->next_lsn ? one->next_lsn - 1 : UINT64_MAX - 1};
    walcore_entry entry;
    const uint8_t *at = data + START_AT;
    while (walcore_scan(at, (size_t)(data + LIMIT_AT - at), &state, &entry, 1) == 1) {
        const uint8_t *payload = at + entry.payload_at;
        check(entry.lsn < tags_max && entry.payload_bytes >= 8, "an entry of ours");
        memcpy(&tags[entry.lsn], payload, 8);
        for (uint32_t i = 8; i < entry.payload_bytes; i++)
            check(payload[i] == (uint8_t)tags[entry.lsn], "a payload as it was written");
        at += state.consumed;
    }
    check(!one->next_lsn || state.next_lsn == one->next_lsn, "a segment that was left is whole");
    return state.next_lsn;
}

static void compare(enum ending how) {
    static uint64_t tags[ACKS_MAX];
    uint64_t next_lsn = 1, acked = 0, ambiguous = 0;
    for (size_t i = 0; i < chain_count; i++) next_lsn = read_segment(&chain[i], tags, ACKS_MAX);
    for (int i = 0; i < APPENDERS; i++) {
        const appender *one = &appenders[i];
        ambiguous += one->ambiguous;
        for (size_t j = 0; j < one->count; j++) {
            const ack *said = &one->acks[j];
            if (walcore_fate_of(writer, said->generation, said->lsn)) continue;
            check(said->lsn < next_lsn && tags[said->lsn] == said->tag, "what was acked is there");
            acked++;
        }
    }
    for (uint64_t lsn = 1; lsn < next_lsn; lsn++) {
        uint64_t number = tags[lsn] >> 48, issued = tags[lsn] & ((1ull << 48) - 1);
        check(number < APPENDERS && issued < appenders[number].issued, "nobody else wrote");
    }
    /* Nobody was cut short: what is there was acked, and nothing else. */
    if (how == DONE) check(next_lsn - 1 - acked <= ambiguous, "what is there was acked");
    total.checked += acked;
}

static void show(const char *name, uint64_t count) {
    printf("%s=%llu ", name, (unsigned long long)count);
}

int main(int argc, char **argv) {
    check(argc == 4, "usage: drive_writer DIRECTORY ROUNDS SEED");
    directory = argv[1];
    uint64_t rounds = strtoull(argv[2], NULL, 10);
    uint64_t random = strtoull(argv[3], NULL, 10) | 1;
    signal(SIGXFSZ, SIG_IGN);
    walcore_crc32c_init();
    for (int i = 0; i < APPENDERS; i++) {
        appenders[i].random = next_random(&random) | 1;
        appenders[i].acks = malloc(ACKS_MAX * sizeof(ack));
        check(appenders[i].acks != NULL, "there is memory");
    }
    char marks[512];
    snprintf(marks, sizeof marks, "%s/marks", directory);
    marks_fd = open(marks, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    check(marks_fd >= 0, "a file for the marks is made");
    for (uint64_t round = 0; round < rounds; round++) {
        replicated = round / ENDINGS % 2;
        enum ending how = round % ENDINGS;
        begin();
        run_threads(how);
        walcore_status status;
        walcore_writer_status(writer, &status);
        total.syncs += status.syncs;
        total.rounds[how]++;
        compare(how);
        walcore_writer_free(writer);
        sem_destroy(&enough);
        close(tail_fd);
    }
    for (int i = 0; i < APPENDERS; i++) free(appenders[i].acks);
    show("appends", total.appends), show("batches", total.batches), show("submits", total.submits);
    show("copies", total.copies), show("rolls", total.rolls), show("full", total.full);
    show("truncations", total.truncations), show("refused", total.refused);
    show("watches", total.watches), show("looks", total.looks), show("wakeups", total.wakeups);
    show("commits", total.commits);
    show("syncs", total.syncs), show("checked", total.checked), show("done", total.rounds[DONE]);
    show("poisoned", total.rounds[POISON]), show("stopped", total.rounds[STOP]);
    printf("\n");
    return 0;
}
