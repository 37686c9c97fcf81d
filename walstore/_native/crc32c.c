/* CRC32C (Castagnoli, RFC 3720 appendix B.4), by the processor's instruction where it has one.
 *
 * The instruction has a latency of three cycles and a throughput of one, so long inputs are cut
 * into three lanes that run side by side. A lane's register is carried over the bytes of the
 * lanes behind it by a linear map, tabulated once at start (walcore_crc32c_init). */
#include "walcore.h"

#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "walstore's format is little-endian and its C helper supports little-endian machines only"
#endif

#if defined(__x86_64__)
#include <nmmintrin.h>
#define HARDWARE_TARGET __attribute__((target("sse4.2")))
#define HARDWARE_NAME "sse4.2"
#define STEP_8(crc, word) ((uint32_t)_mm_crc32_u64((crc), (word)))
#define STEP_1(crc, byte) _mm_crc32_u8((crc), (byte))
static int hardware_present(void) { return __builtin_cpu_supports("sse4.2"); }
#elif defined(__aarch64__)
#include <arm_acle.h>
#define HARDWARE_TARGET __attribute__((target("+crc")))
#define HARDWARE_NAME "armv8-crc"
#define STEP_8(crc, word) __crc32cd((crc), (word))
#define STEP_1(crc, byte) __crc32cb((crc), (byte))
#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
static int hardware_present(void) { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }
#else
static int hardware_present(void) { return 1; } /* every 64-bit Apple processor has it */
#endif
#endif

/* Lane lengths: three of LANE_LONG for bulk, three of LANE_SHORT so that a 1 KiB payload is
 * nearly all done side by side. Multiples of eight. */
enum { LANE_LONG = 4096, LANE_SHORT = 336 };

static uint32_t byte_table[8][256];
static uint32_t shift_long[4][256];
static uint32_t shift_short[4][256];
static uint32_t (*implementation)(uint32_t crc, const uint8_t *data, size_t bytes);
static const char *implementation_name;

/* Slicing by eight; `crc` is the raw register. */
static uint32_t update_table(uint32_t crc, const uint8_t *data, size_t bytes) {
    while (bytes >= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        word ^= crc;
        crc = 0;
        for (int i = 0; i < 8; i++) crc ^= byte_table[7 - i][(word >> (8 * i)) & 0xFF];
        data += 8;
        bytes -= 8;
    }
    while (bytes--) crc = byte_table[0][(crc ^ *data++) & 0xFF] ^ (crc >> 8);
    return crc;
}

#ifdef HARDWARE_NAME
static uint32_t apply_shift(uint32_t table[4][256], uint32_t crc) {
    return table[0][crc & 0xFF] ^ table[1][(crc >> 8) & 0xFF] ^ table[2][(crc >> 16) & 0xFF] ^
           table[3][crc >> 24];
}

HARDWARE_TARGET
static uint32_t three_lanes(uint32_t crc, const uint8_t *data, size_t lane,
                            uint32_t table[4][256]) {
    uint32_t second = 0, third = 0;
    for (size_t i = 0; i < lane; i += 8) {
        uint64_t a, b, c;
        memcpy(&a, data + i, 8);
        memcpy(&b, data + lane + i, 8);
        memcpy(&c, data + 2 * lane + i, 8);
        crc = STEP_8(crc, a);
        second = STEP_8(second, b);
        third = STEP_8(third, c);
    }
    crc = apply_shift(table, crc) ^ second;
    return apply_shift(table, crc) ^ third;
}

HARDWARE_TARGET
static uint32_t update_hardware(uint32_t crc, const uint8_t *data, size_t bytes) {
    while (bytes >= 3 * LANE_LONG) {
        crc = three_lanes(crc, data, LANE_LONG, shift_long);
        data += 3 * LANE_LONG;
        bytes -= 3 * LANE_LONG;
    }
    while (bytes >= 3 * LANE_SHORT) {
        crc = three_lanes(crc, data, LANE_SHORT, shift_short);
        data += 3 * LANE_SHORT;
        bytes -= 3 * LANE_SHORT;
    }
    while (bytes >= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        crc = STEP_8(crc, word);
        data += 8;
        bytes -= 8;
    }
    while (bytes--) crc = STEP_1(crc, *data++);
    return crc;
}

/* The register after `bytes` zero bytes is linear in the register before them: run each of the
 * 32 unit vectors once, then tabulate by byte. */
static void tabulate_shift(uint32_t table[4][256], size_t bytes) {
    static const uint8_t zeros[LANE_LONG];
    uint32_t unit[32];
    for (int bit = 0; bit < 32; bit++) unit[bit] = update_table(1u << bit, zeros, bytes);
    for (int slice = 0; slice < 4; slice++)
        for (int value = 0; value < 256; value++) {
            uint32_t sum = 0;
            for (int bit = 0; bit < 8; bit++)
                if (value >> bit & 1) sum ^= unit[8 * slice + bit];
            table[slice][value] = sum;
        }
}
#endif

/* Called once, at import, before any other function of this library. */
void walcore_crc32c_init(void) {
    for (uint32_t value = 0; value < 256; value++) {
        uint32_t crc = value;
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >> 1) ^ 0x82F63B78u : crc >> 1;
        byte_table[0][value] = crc;
    }
    for (int slice = 1; slice < 8; slice++)
        for (int value = 0; value < 256; value++) {
            uint32_t crc = byte_table[slice - 1][value];
            byte_table[slice][value] = byte_table[0][crc & 0xFF] ^ (crc >> 8);
        }
    implementation = update_table;
    implementation_name = "table";
#ifdef HARDWARE_NAME
    if (hardware_present()) {
        tabulate_shift(shift_long, LANE_LONG);
        tabulate_shift(shift_short, LANE_SHORT);
        implementation = update_hardware;
        implementation_name = HARDWARE_NAME;
    }
#endif
}

uint32_t walcore_crc32c(uint32_t seed, const uint8_t *data, size_t bytes) {
    return ~implementation(~seed, data, bytes);
}

uint32_t walcore_crc32c_table(uint32_t seed, const uint8_t *data, size_t bytes) {
    return ~update_table(~seed, data, bytes);
}

const char *walcore_crc32c_backend(void) { return implementation_name; }
