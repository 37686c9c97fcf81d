/* Records: encode one, scan a buffer of them, look past a bad one.
 *
 *   0        4        8                16                24
 *   +--------+--------+----------------+----------------+----------------+
 *   | hcrc   | pcrc   | lsn            | term           | timestamp_ns   |
 *   +--------+--------+----------------+----------------+----------------+
 *   32               40       44   46   48
 *   +----------------+--------+----+----+---------------------+
 *   | durable_lsn    | length |kind|flag| payload, zeros to 8 |
 *   +----------------+--------+----+----+---------------------+
 *
 * hcrc covers bytes 4 to 47 and starts from the segment's seed, so a header is bound to its
 * segment, its lsn, its term and (through pcrc and length) its payload. Zero is never valid:
 * lsn and kind are never 0. */
#include "walcore.h"

#include <string.h>

typedef struct {
    uint32_t header_crc;
    uint32_t payload_crc;
    uint64_t lsn;
    uint64_t term;
    uint64_t timestamp_ns;
    uint64_t durable_lsn;
    uint32_t payload_bytes;
    uint16_t kind;
    uint16_t flags;
} record_header;

_Static_assert(sizeof(record_header) == WALCORE_RECORD_HEADER_BYTES, "header is 48 bytes");
_Static_assert(sizeof(walcore_entry) == 48, "walstore/wal/record.py unpacks 48 bytes");

uint64_t walcore_record_bytes(uint64_t payload_bytes) {
    uint64_t bytes = WALCORE_RECORD_HEADER_BYTES + payload_bytes;
    return (bytes + WALCORE_RECORD_ALIGN_BYTES - 1) & ~(uint64_t)(WALCORE_RECORD_ALIGN_BYTES - 1);
}

static uint32_t header_crc(uint32_t seed, const uint8_t *at) {
    return walcore_crc32c(seed, at + 4, WALCORE_RECORD_HEADER_BYTES - 4);
}

void walcore_encode(uint8_t *out, uint32_t seed, const walcore_entry *entry,
                    const uint8_t *payload) {
    /* The checksum is that of the copy: a caller may change a buffer that it handed over. */
    uint8_t *copy = out + WALCORE_RECORD_HEADER_BYTES;
    if (entry->payload_bytes) memcpy(copy, payload, entry->payload_bytes);
    record_header header = {
        .payload_crc = walcore_crc32c(0, copy, entry->payload_bytes),
        .lsn = entry->lsn,
        .term = entry->term,
        .timestamp_ns = entry->timestamp_ns,
        .durable_lsn = entry->durable_lsn,
        .payload_bytes = entry->payload_bytes,
        .kind = entry->kind,
        .flags = entry->flags,
    };
    header.header_crc = header_crc(seed, (const uint8_t *)&header);
    memcpy(out, &header, sizeof header);
    size_t used = sizeof header + entry->payload_bytes;
    memset(out + used, 0, walcore_record_bytes(entry->payload_bytes) - used);
}

static int is_zero(const uint8_t *at, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (at[i]) return 0;
    return 1;
}

/* Says why the header at `at` is not the next record, or -1 when it is. */
static int judge_header(const uint8_t *at, const record_header *header,
                        const walcore_scan_state *state) {
    if (header->header_crc != header_crc(state->seed, at))
        return is_zero(at, sizeof *header) ? WALCORE_SCAN_END : WALCORE_SCAN_BAD_HEADER;
    if (header->lsn == 0 || header->kind == 0 || (header->flags & ~WALCORE_FLAG_MORE) ||
        header->durable_lsn >= header->lsn || header->payload_bytes > WALCORE_PAYLOAD_BYTES_MAX)
        return WALCORE_SCAN_BAD_FIELD;
    if (header->lsn != state->next_lsn) return WALCORE_SCAN_BAD_LSN;
    if (header->term < state->term) return WALCORE_SCAN_BAD_TERM;
    return -1;
}

static int payload_is_good(const uint8_t *at, const record_header *header, uint64_t total) {
    const uint8_t *payload = at + sizeof *header;
    uint64_t used = sizeof *header + header->payload_bytes;
    return walcore_crc32c(0, payload, header->payload_bytes) == header->payload_crc &&
           is_zero(at + used, total - used);
}

/* Adds a record, the `number`-th behind the segment's first, to the sparse index when it is the
 * first to start in its stride. There is room for it. Returns how many pairs there are now. */
uint64_t walcore_index_note(uint32_t *index, uint64_t count, uint64_t number, uint64_t at) {
    if (count) {
        uint64_t last_at = (uint64_t)index[2 * count - 1] * WALCORE_RECORD_ALIGN_BYTES;
        if (at / WALCORE_INDEX_STRIDE_BYTES == last_at / WALCORE_INDEX_STRIDE_BYTES) return count;
    }
    index[2 * count] = (uint32_t)number;
    index[2 * count + 1] = (uint32_t)(at / WALCORE_RECORD_ALIGN_BYTES);
    return count + 1;
}

static void account(walcore_scan_state *state, const record_header *header, uint64_t at) {
    if (header->flags & WALCORE_FLAG_MORE) {
        if (!state->batch_lsn) {
            state->batch_lsn = header->lsn;
            state->batch_at = at;
            state->batch_term = state->term;
        }
    } else {
        state->batch_lsn = state->batch_at = 0;
    }
    if (header->timestamp_ns < state->timestamp_min) state->timestamp_min = header->timestamp_ns;
    if (header->timestamp_ns > state->timestamp_max) state->timestamp_max = header->timestamp_ns;
    if (header->durable_lsn > state->durable_lsn) state->durable_lsn = header->durable_lsn;
    if (state->index && state->index_count < state->index_max)
        state->index_count = walcore_index_note(state->index, state->index_count,
                                                header->lsn - state->index_first_lsn, at);
    state->entries++;
    state->payload_total += header->payload_bytes;
    state->next_lsn = header->lsn + 1;
    state->term = header->term;
}

static walcore_entry entry_of(const record_header *header, uint64_t at) {
    return (walcore_entry){
        .lsn = header->lsn,
        .term = header->term,
        .timestamp_ns = header->timestamp_ns,
        .durable_lsn = header->durable_lsn,
        .payload_at = at + sizeof *header,
        .payload_bytes = header->payload_bytes,
        .kind = header->kind,
        .flags = header->flags,
    };
}

/* Decodes and verifies records from `base` on. `out` may be NULL to verify only. Returns how
 * many were accepted; state->stop says why it ended and state->consumed where. */
size_t walcore_scan(const uint8_t *base, size_t bytes, walcore_scan_state *state,
                    walcore_entry *out, size_t out_max) {
    size_t count = 0;
    uint64_t at = 0;
    for (;;) {
        state->consumed = at;
        if (state->next_lsn > state->stop_lsn) {
            state->stop = WALCORE_SCAN_LIMIT;
            return count;
        }
        if (out && count == out_max) {
            state->stop = WALCORE_SCAN_OUT_FULL;
            return count;
        }
        record_header header;
        if (bytes - at < sizeof header) {
            state->stop = WALCORE_SCAN_SHORT;
            state->need = sizeof header;
            return count;
        }
        memcpy(&header, base + at, sizeof header);
        int verdict = judge_header(base + at, &header, state);
        if (verdict >= 0) {
            state->stop = (uint32_t)verdict;
            return count;
        }
        uint64_t total = walcore_record_bytes(header.payload_bytes);
        if (bytes - at < total) {
            state->stop = WALCORE_SCAN_SHORT;
            state->need = total;
            return count;
        }
        if (!payload_is_good(base + at, &header, total)) {
            state->stop = WALCORE_SCAN_BAD_PAYLOAD;
            return count;
        }
        account(state, &header, state->base_at + at);
        if (out) out[count] = entry_of(&header, at);
        count++;
        at += total;
    }
}

/* Binds whole, valid records to another segment, in place. */
void walcore_reseal(uint8_t *records, size_t bytes, uint32_t seed) {
    uint64_t at = 0;
    while (at < bytes && bytes - at >= WALCORE_RECORD_HEADER_BYTES) {
        record_header header;
        memcpy(&header, records + at, sizeof header);
        header.header_crc = header_crc(seed, records + at);
        memcpy(records + at, &header, sizeof header);
        at += walcore_record_bytes(header.payload_bytes);
    }
}

/* Ends a batch with the last of these valid records, where a truncation took the rest. */
void walcore_end_batch(uint8_t *records, size_t bytes, uint32_t seed) {
    record_header header = {0};
    uint64_t at = 0, next_at = 0;
    while (next_at < bytes) {
        at = next_at;
        memcpy(&header, records + at, sizeof header);
        next_at += walcore_record_bytes(header.payload_bytes);
    }
    header.flags &= (uint16_t)~WALCORE_FLAG_MORE;
    memcpy(records + at, &header, sizeof header);
    walcore_reseal(records + at, sizeof header, seed);
}

/* Leaves of valid records what is the same on all nodes: not the segment, nor what is durable, nor
 * whether a truncation took the rest of the batch. */
void walcore_normalize(uint8_t *records, size_t bytes) {
    uint64_t at = 0;
    while (at < bytes) {
        record_header header;
        memcpy(&header, records + at, sizeof header);
        header.header_crc = 0;
        header.durable_lsn = 0;
        header.flags &= (uint16_t)~WALCORE_FLAG_MORE;
        memcpy(records + at, &header, sizeof header);
        at += walcore_record_bytes(header.payload_bytes);
    }
}

/* Binds a valid record to another segment, and says what is durable in its log. Returns its size
 * and its term. */
uint64_t walcore_adopt(uint8_t *record, uint32_t seed, uint64_t durable_lsn, uint64_t *term) {
    record_header header;
    memcpy(&header, record, sizeof header);
    header.durable_lsn = durable_lsn;
    memcpy(record, &header, sizeof header);
    header.header_crc = header_crc(seed, record);
    memcpy(record, &header, sizeof header);
    *term = header.term;
    return walcore_record_bytes(header.payload_bytes);
}

/* The header of a valid record; returns the record's size. */
uint64_t walcore_peek(const uint8_t *record, walcore_entry *out) {
    record_header header;
    memcpy(&header, record, sizeof header);
    *out = entry_of(&header, 0);
    return walcore_record_bytes(header.payload_bytes);
}

/* Size of the batch that valid records begin with; `count` grows by its entries. */
uint64_t walcore_batch_bytes(const uint8_t *records, uint64_t bytes, size_t *count) {
    uint64_t at = 0;
    record_header header;
    do {
        memcpy(&header, records + at, sizeof header);
        at += walcore_record_bytes(header.payload_bytes);
        ++*count;
    } while ((header.flags & WALCORE_FLAG_MORE) && at < bytes);
    return at;
}

static void note_record(walcore_records *found, const record_header *header, uint64_t at,
                        uint64_t *runs, size_t runs_max) {
    if (header->lsn == found->split_lsn) {
        found->split_at = at;
        found->split_term = found->last_term;
    }
    if (!found->runs || header->term != found->last_term) {
        if (found->runs < runs_max) {
            runs[2 * found->runs] = header->lsn;
            runs[2 * found->runs + 1] = header->term;
        }
        found->runs++;
    }
    found->configurations += header->kind == WALCORE_KIND_CONFIGURATION;
    found->last_lsn = header->lsn;
    found->last_term = header->term;
}

/* Checks bytes that are to be whole batches of records: every checksum (of headers only, when the
 * payloads are checked elsewhere), dense lsns, terms that do not go back. `runs` gets pairs (lsn,
 * term) where a term begins. Returns 1 when all is good; otherwise `found` says what is not. */
int walcore_check_records(const uint8_t *data, size_t bytes, int headers_only,
                          walcore_records *found, uint64_t *runs, size_t runs_max) {
    walcore_scan_state state = {
        .seed = found->seed,
        .next_lsn = found->first_lsn,
        .term = found->prev_term,
    };
    record_header header = {0};
    uint64_t at = 0;
    found->runs = found->last_lsn = found->bad_lsn = found->configurations = 0;
    found->last_term = found->prev_term;
    for (;;) {
        found->at = at;
        found->bad_lsn = state.next_lsn;
        if (at == bytes && at && !(header.flags & WALCORE_FLAG_MORE)) {
            found->stop = WALCORE_SCAN_LIMIT;
            found->bad_lsn = 0;
            return 1;
        }
        found->stop = WALCORE_SCAN_SHORT;
        if (bytes - at < sizeof header) return 0;
        memcpy(&header, data + at, sizeof header);
        int verdict = judge_header(data + at, &header, &state);
        if (verdict >= 0) {
            found->stop = (uint32_t)verdict;
            return 0;
        }
        uint64_t total = walcore_record_bytes(header.payload_bytes);
        if (bytes - at < total) return 0;
        if (!headers_only && !payload_is_good(data + at, &header, total)) {
            found->stop = WALCORE_SCAN_BAD_PAYLOAD;
            return 0;
        }
        note_record(found, &header, at, runs, runs_max);
        state.next_lsn = header.lsn + 1;
        state.term = header.term;
        at += total;
    }
}

/* Finds one record: walks over the headers before it, each verified, and verifies it whole. The
 * payloads passed over are not looked at. Returns 1 when `out` holds it; otherwise state->stop
 * says why not, as for walcore_scan. */
int walcore_find(const uint8_t *base, size_t bytes, walcore_scan_state *state, uint64_t lsn,
                 walcore_entry *out) {
    uint64_t at = 0;
    for (;;) {
        record_header header;
        state->consumed = at;
        state->stop = WALCORE_SCAN_SHORT;
        state->need = sizeof header;
        if (bytes < at || bytes - at < sizeof header) return 0;
        memcpy(&header, base + at, sizeof header);
        int verdict = judge_header(base + at, &header, state);
        if (verdict >= 0) {
            state->stop = (uint32_t)verdict;
            return 0;
        }
        uint64_t total = walcore_record_bytes(header.payload_bytes);
        if (header.lsn == lsn) {
            state->need = total;
            if (bytes - at < total) return 0;
            state->stop = WALCORE_SCAN_BAD_PAYLOAD;
            if (!payload_is_good(base + at, &header, total)) return 0;
            state->stop = WALCORE_SCAN_LIMIT;
            *out = entry_of(&header, at);
            return 1;
        }
        state->next_lsn = header.lsn + 1;
        state->term = header.term;
        at += total;
    }
}

/* Looks for records behind a bad one, at every aligned place, since the bad record's length
 * cannot be believed. A header alone is proof enough: it was written, with its checksum and its
 * durable_lsn, after that lsn had been synced. Reads each byte a bounded number of times. */
void walcore_look_ahead(const uint8_t *base, size_t bytes, uint64_t base_at, uint32_t seed,
                        walcore_ahead *found) {
    for (uint64_t at = 0; at + WALCORE_RECORD_HEADER_BYTES <= bytes;
         at += WALCORE_RECORD_ALIGN_BYTES) {
        record_header header;
        memcpy(&header, base + at, sizeof header);
        if (header.lsn < found->bad_lsn || header.lsn > found->lsn_max || header.kind == 0 ||
            header.durable_lsn >= header.lsn || header.payload_bytes > WALCORE_PAYLOAD_BYTES_MAX)
            continue;
        if (header.header_crc != header_crc(seed, base + at)) continue;
        uint64_t end = base_at + at + walcore_record_bytes(header.payload_bytes);
        if (end > found->valid_end) found->valid_end = end;
        if (header.lsn > found->bad_lsn && header.durable_lsn >= found->bad_lsn &&
            !found->proof_lsn) {
            found->proof_at = base_at + at;
            found->proof_lsn = header.lsn;
        }
    }
}
