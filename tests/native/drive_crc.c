/* Holds the processor's CRC32C against the table, at every length and both alignments. Prints the
 * backend and how many inputs it tried; the exit status is 1 when two results differ. */
#include "walcore.h"

#include <stdio.h>

enum { BYTES = 20000 };

int main(void) {
    static uint8_t data[BYTES];
    unsigned tried = 0;
    walcore_crc32c_init();
    for (uint32_t i = 0; i < BYTES; i++) data[i] = (uint8_t)(i * 2654435761u >> 13);
    for (size_t at = 0; at < 2; at++)
        for (size_t bytes = 0; at + bytes < BYTES; bytes += bytes < 1100 ? 1 : 37) {
            if (walcore_crc32c(7, data + at, bytes) != walcore_crc32c_table(7, data + at, bytes)) {
                fprintf(stderr, "%zu bytes at %zu differ\n", bytes, at);
                return 1;
            }
            tried++;
        }
    printf("%s %u %08x\n", walcore_crc32c_backend(), tried,
           walcore_crc32c(0, (const uint8_t *)"123456789", 9));
    return 0;
}
