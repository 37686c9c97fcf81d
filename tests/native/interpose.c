/* A preloaded library that makes chosen calls of libc end in chosen ways, one call after the other.
 * What tests/crash/shim.c cannot do: calls that are no storage calls, and threads held in a call.
 *
 * script(call, outcomes, count) sets what the next calls do. An outcome is 0 (as always), an errno,
 * NOTHING or HALF (of pwrite: bytes taken), or'ed with GATE (write a byte to `entered`, then read
 * one from `go`) or ANNOUNCE (write the byte only). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { PWRITE, FDATASYNC, FALLOCATE, PTHREAD_CREATE, COND_WAIT, CALLS };
enum { NOTHING = 1 << 16, HALF = 1 << 17, GATE = 1 << 18, ANNOUNCE = 1 << 19, OUTCOMES_MAX = 16 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    int outcomes[OUTCOMES_MAX], count, next;
} scripts[CALLS];
static int entered[2], go[2];
static long long clock_step_ns, clock_added_ns;
static int clock_stopped;

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

static void transfer(ssize_t (*move)(int, void *, size_t), int fd) {
    char byte = 1;
    if (move(fd, &byte, 1) != 1) abort();
}

static ssize_t put(int fd, void *byte, size_t count) { return write(fd, byte, count); }

static int outcome_of(int call) {
    pthread_mutex_lock(&lock);
    int some = scripts[call].next < scripts[call].count;
    int outcome = some ? scripts[call].outcomes[scripts[call].next++] : 0;
    pthread_mutex_unlock(&lock);
    if (outcome & (GATE | ANNOUNCE)) transfer(put, entered[1]);
    if (outcome & GATE) transfer(read, go[0]);
    return outcome & ~(GATE | ANNOUNCE);
}

void script(int call, const int *outcomes, int count) {
    if (count > OUTCOMES_MAX) abort();
    pthread_mutex_lock(&lock);
    memcpy(scripts[call].outcomes, outcomes, (size_t)count * sizeof *outcomes);
    scripts[call].count = count;
    scripts[call].next = 0;
    pthread_mutex_unlock(&lock);
}

int left(int call) {
    pthread_mutex_lock(&lock);
    int count = scripts[call].count - scripts[call].next;
    pthread_mutex_unlock(&lock);
    return count;
}

void await_entered(void) { transfer(read, entered[0]); }
void let_go(void) { transfer(put, go[1]); }
void set_clock(int stopped, long long step_ns) {
    clock_stopped = stopped;
    clock_step_ns = step_ns;
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at) {
    int outcome = outcome_of(PWRITE);
    if (outcome & NOTHING) return 0;
    if (outcome & HALF) bytes /= 2;
    else if (outcome) return errno = outcome, -1;
    return ((ssize_t (*)(int, const void *, size_t, off_t))real("pwrite"))(fd, data, bytes, at);
}

int fdatasync(int fd) {
    int outcome = outcome_of(FDATASYNC);
    if (outcome) return errno = outcome, -1;
    return ((int (*)(int))real("fdatasync"))(fd);
}

int fallocate(int fd, int mode, off_t at, off_t bytes) {
    int outcome = outcome_of(FALLOCATE);
    if (outcome) return errno = outcome, -1;
    return ((int (*)(int, int, off_t, off_t))real("fallocate"))(fd, mode, at, bytes);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *argument) {
    int outcome = outcome_of(PTHREAD_CREATE);
    if (outcome) return outcome;
    return ((int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))real(
        "pthread_create"))(thread, attributes, run, argument);
}

/* With the mutex, so whoever takes it after the announcement finds the caller asleep. */
int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex) {
    static int (*wait)(pthread_cond_t *, pthread_mutex_t *);
    if (!wait) { /* the oldest version, which dlsym may find, knows another layout */
        void *newer = dlvsym(RTLD_NEXT, "pthread_cond_wait", "GLIBC_2.3.2");
        wait = (int (*)(pthread_cond_t *, pthread_mutex_t *))(
            newer ? newer : real("pthread_cond_wait"));
    }
    outcome_of(COND_WAIT);
    return wait(cond, mutex);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*read_clock)(clockid_t, struct timespec *);
    if (!read_clock) read_clock = (int (*)(clockid_t, struct timespec *))real("clock_gettime");
    if (clock == CLOCK_MONOTONIC && clock_stopped) {
        *now = (struct timespec){0, 0};
        return 0;
    }
    int rc = read_clock(clock, now);
    if (clock == CLOCK_MONOTONIC) now->tv_sec += (clock_added_ns += clock_step_ns) / 1000000000;
    return rc;
}

__attribute__((constructor)) static void initialize(void) {
    if (pipe2(entered, O_CLOEXEC) || pipe2(go, O_CLOEXEC)) abort();
}
