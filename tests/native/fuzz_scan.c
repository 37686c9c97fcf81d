/* Hostile bytes for the scanner: libFuzzer's target, and a driver of its own where there is none.
 *
 * Each input is laid out as records whose header checksums are made right, since a scanner that
 * is only ever shown bad checksums is not tested at all. Buffers are allocated to their size, so
 * that a byte read behind them is seen by the address sanitizer. */
#include "walcore.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HEADER_BYTES = WALCORE_RECORD_HEADER_BYTES,
    SEED = 7,
    OTHER_SEED = 11,
    INDEX_MAX = 8,
    OUT_MAX = 16,
};

static void check(int truth, const char *what) {
    if (truth) return;
    fprintf(stderr, "broken: %s\n", what);
    abort();
}

static void put32(uint8_t *at, uint32_t value) { memcpy(at, &value, 4); }

/* Walks the headers as a scanner would, and makes most checksums right. */
static void fix_up(uint8_t *data, size_t bytes) {
    size_t at = 0;
    while (bytes - at >= HEADER_BYTES) {
        uint32_t length;
        memcpy(&length, data + at + 40, 4);
        if (data[at] & 1) length &= 0x7F; /* mostly short, sometimes what the input says */
        put32(data + at + 40, length);
        uint64_t total = walcore_record_bytes(length);
        if (data[at] & 2 && length <= bytes - at - HEADER_BYTES)
            put32(data + at + 4, walcore_crc32c(0, data + at + HEADER_BYTES, length));
        if (data[at] & 12) put32(data + at, walcore_crc32c(SEED, data + at + 4, HEADER_BYTES - 4));
        if (total > bytes - at) return;
        at += total;
    }
}

static void scan_both_ways(const uint8_t *data, size_t bytes, const walcore_scan_state *start) {
    walcore_entry out[OUT_MAX];
    uint32_t pairs[2 * INDEX_MAX];
    walcore_scan_state decoding = *start, verifying = *start;
    decoding.index = pairs;
    decoding.index_max = INDEX_MAX;
    decoding.index_first_lsn = start->next_lsn;
    size_t decoded = walcore_scan(data, bytes, &decoding, out, OUT_MAX);
    size_t verified = walcore_scan(data, bytes, &verifying, NULL, 0);
    check(decoded <= OUT_MAX && decoding.consumed <= bytes, "decode stays inside");
    check(verifying.consumed <= bytes, "verify stays inside");
    check(decoding.index_count <= INDEX_MAX, "index stays inside");
    check(verified >= decoded, "verify sees what decode sees");
    check(decoding.stop == WALCORE_SCAN_OUT_FULL || verified == decoded, "both agree");
    for (size_t i = 0; i < decoded; i++) {
        check(out[i].lsn == start->next_lsn + i, "lsns are dense");
        check(out[i].payload_at + out[i].payload_bytes <= bytes, "payloads lie inside");
        check(out[i].durable_lsn < out[i].lsn && out[i].kind, "fields are sane");
    }
}

/* What was decoded, bound to another segment, is the same there, and nowhere else. */
static void reseal(const uint8_t *data, size_t bytes, const walcore_scan_state *start) {
    walcore_scan_state here = *start;
    size_t count = walcore_scan(data, bytes, &here, NULL, 0);
    size_t good = (size_t)here.consumed;
    uint8_t *copy = malloc(good ? good : 1);
    if (!copy) return;
    memcpy(copy, data, good);
    walcore_reseal(copy, good, OTHER_SEED);
    walcore_scan_state there = *start;
    there.seed = OTHER_SEED;
    check(walcore_scan(copy, good, &there, NULL, 0) == count, "resealed records are all there");
    check(there.consumed == good && there.next_lsn == here.next_lsn, "resealed records end there");
    walcore_reseal(copy, good, SEED);
    check(memcmp(copy, data, good) == 0, "sealed back they are as they were");
    free(copy);
}

static void find(const uint8_t *data, size_t bytes, const walcore_scan_state *start, int ahead) {
    walcore_scan_state scanning = *start, finding = *start;
    size_t good = walcore_scan(data, bytes, &scanning, NULL, 0);
    walcore_entry entry;
    int found = walcore_find(data, bytes, &finding, start->next_lsn + (unsigned)ahead, &entry);
    if (found) check(entry.payload_at + entry.payload_bytes <= bytes, "what is found lies inside");
    check(found || (size_t)ahead >= good, "what is good is found");
    check(found == (finding.stop == WALCORE_SCAN_LIMIT), "it says why it found nothing");
}

static void look_ahead(const uint8_t *data, size_t bytes, const walcore_scan_state *start) {
    walcore_ahead found;
    memset(&found, 0, sizeof found);
    found.bad_lsn = start->next_lsn;
    found.lsn_max = start->next_lsn + 1000;
    walcore_look_ahead(data, bytes, start->base_at, SEED, &found);
    if (!found.proof_lsn) return;
    check(found.proof_at < start->base_at + bytes, "the proof lies inside");
    check(found.proof_lsn > found.bad_lsn && found.valid_end > found.proof_at, "and behind");
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes) {
    static int ready;
    if (!ready) walcore_crc32c_init();
    ready = 1;
    if (bytes < 2) return 0;
    uint8_t first = input[0];
    input++;
    bytes--;
    uint8_t *data = malloc(bytes);
    if (!data) return 0;
    memcpy(data, input, bytes);
    if (first & 0x80) fix_up(data, bytes);
    walcore_scan_state start;
    memset(&start, 0, sizeof start);
    start.seed = SEED;
    start.next_lsn = first & 7;
    start.term = first >> 3 & 1;
    start.stop_lsn = first & 16 ? start.next_lsn + 3 : UINT64_MAX - 1;
    start.base_at = 8192;
    if (bytes >= 16 && first & 0x40) memcpy(&start.next_lsn, data + 8, 8); /* pass the lsn check */
    scan_both_ways(data, bytes, &start);
    look_ahead(data, bytes, &start);
    find(data, bytes, &start, first & 3);
    reseal(data, bytes, &start);
    free(data);
    return 0;
}

#ifdef OWN_DRIVER
static uint64_t state;

static uint64_t next_random(void) { /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545F4914F6CDD1Du;
}

/* A run of plausible records, then some damage. */
static size_t generate(uint8_t *input) {
    size_t at = 1, room = 1 + next_random() % 400;
    memset(input, 0, 512);
    input[0] = (uint8_t)next_random();
    for (uint64_t lsn = input[0] & 7; at + HEADER_BYTES < room; lsn++) {
        uint8_t *record = input + at;
        for (int i = 0; i < 8; i++) record[i] = (uint8_t)next_random();
        memcpy(record + 8, &lsn, 8);
        record[16] = 1;
        record[32] = (uint8_t)(lsn ? next_random() % lsn : 0);
        record[40] = (uint8_t)(next_random() % 70);
        record[44] = 1;
        record[46] = next_random() & 1;
        at += walcore_record_bytes(record[40]);
    }
    for (uint64_t damage = next_random() % 4; damage; damage--)
        input[next_random() % room] ^= (uint8_t)(1u << next_random() % 8);
    return room;
}

int main(int argc, char **argv) {
    uint64_t runs = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    state = argc > 2 ? strtoull(argv[2], NULL, 10) | 1 : 1;
    walcore_crc32c_init();
    uint8_t input[1024];
    for (uint64_t run = 0; run < runs; run++) {
        size_t bytes = generate(input);
        LLVMFuzzerTestOneInput(input, bytes);
    }
    fprintf(stderr, "Done %llu runs\n", (unsigned long long)runs);
    return 0;
}
#endif
