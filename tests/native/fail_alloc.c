/* Linked into a copy of the helper, with --wrap=malloc and so on: makes chosen allocations of it
 * fail, and no others of the process. */
#include <stddef.h>
#include <stdint.h>

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
void fail_alloc_between(uint64_t first, uint64_t last);
uint64_t fail_alloc_seen(void);
uint64_t fail_alloc_failed(void);

static uint64_t first_to_fail, last_to_fail, seen, failed;

/* Allocations are counted from 1 again; those from `first` to `last` fail, none when both are 0. */
void fail_alloc_between(uint64_t first, uint64_t last) {
    __atomic_store_n(&first_to_fail, first, __ATOMIC_SEQ_CST);
    __atomic_store_n(&last_to_fail, last, __ATOMIC_SEQ_CST);
    __atomic_store_n(&seen, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&failed, 0, __ATOMIC_SEQ_CST);
}

uint64_t fail_alloc_seen(void) { return __atomic_load_n(&seen, __ATOMIC_SEQ_CST); }

uint64_t fail_alloc_failed(void) { return __atomic_load_n(&failed, __ATOMIC_SEQ_CST); }

static int is_due(void) {
    uint64_t number = __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST);
    int due = number >= __atomic_load_n(&first_to_fail, __ATOMIC_SEQ_CST) &&
              number <= __atomic_load_n(&last_to_fail, __ATOMIC_SEQ_CST);
    if (due) __atomic_add_fetch(&failed, 1, __ATOMIC_SEQ_CST);
    return due;
}

void *__wrap_malloc(size_t bytes) { return is_due() ? NULL : __real_malloc(bytes); }

void *__wrap_calloc(size_t count, size_t bytes) {
    return is_due() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *old, size_t bytes) {
    return is_due() ? NULL : __real_realloc(old, bytes);
}
