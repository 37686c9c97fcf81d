/* The fault shim: an LD_PRELOAD library that records and breaks storage calls.
 *
 * It watches the calls a process makes below one directory (the prefix), and has two roles:
 *   recorder  every call that changes the disk is put into a trace, with its bytes, in the order in
 *             which it happened, together with marks that the workload emits ("append 7 acked");
 *   injector  the k-th call (of chosen kinds) fails with an errno, writes short, or kills the
 * process.
 *
 * Both are driven in-process (ctypes.CDLL(None).shim_start, ...) or by the environment:
 *   CRASH_SHIM_PREFIX  directory to watch from the start
 *   CRASH_SHIM_TRACE   file that holds the trace (else: anonymous memory shared with forked
 * children) CRASH_SHIM_FAULT   "k:kinds:action:errno:forever"
 *
 * The trace lives in MAP_SHARED memory, so it outlives a process that is killed. Calls that change
 * the disk run under one lock, which makes the order in the trace the order on the disk; a sync
 * runs outside of it and leaves two events (begin, end), because it only covers what was written
 * before it began. A call that could change the disk and is not modelled leaves an
 * EVENT_UNSUPPORTED, which fails the test.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define TRACE_BYTES ((size_t)256 << 20)
#define FDS_MAX 65536
#define EXPORT __attribute__((visibility("default")))

/* Kept in step with trace.py: Kind. */
enum kind {
    EVENT_MARK = 0,
    CALL_OPEN = 1,
    CALL_WRITE = 2,
    CALL_FSYNC = 3,
    CALL_FDATASYNC = 4,
    CALL_TRUNCATE = 5,
    CALL_ALLOCATE = 6,
    CALL_RENAME = 7,
    CALL_UNLINK = 8,
    CALL_MKDIR = 9,
    CALL_RMDIR = 10,
    CALL_CLOSE = 11,
    CALL_READ = 12,
    CALL_MMAP = 13,
    EVENT_DUP = 14,
    EVENT_UNSUPPORTED = 15,
    KINDS = 16,
};

/* Kept in step with shim.py: Action. */
enum action {
    ACT_NONE = 0,
    ACT_ERRNO = 1,
    ACT_SHORT = 2,
    ACT_SHORT_FULL = 3,
    ACT_KILL = 4,
    ACT_KILL_TORN = 5
};

enum { SYNC_BEGIN = 0, SYNC_END = 1 };
enum {
    INTERRUPTS_MAX = 7
}; /* "EINTR forever" lets every 8th call through: callers must retry for ever */

struct event {
    uint32_t kind;
    uint32_t thread;
    int32_t fd;
    int32_t result; /* >= 0, or -errno */
    uint64_t
        offset; /* write: position. sync end: index of its begin. open: mode. dup: the new fd */
    uint64_t length;
    uint32_t flags;
    uint32_t path_bytes;
    uint32_t path2_bytes;
    uint32_t data_bytes;
};

/* Shared with forked children, so that a parent can ask what a killed child did. */
struct shared {
    uint64_t used; /* bytes of trace, behind this header */
    uint64_t events;
    uint64_t overflow;
    uint64_t seen;         /* calls counted since the injector was armed */
    uint64_t hits;         /* faults injected since then */
    uint64_t hit_kind;     /* kind of the first call that was hit */
    uint64_t hit_event;    /* number of events in the trace at that moment */
    uint64_t calls[KINDS]; /* calls since shim_start, by kind */
    uint64_t bytes_max;
};

static struct shared *shared;
static unsigned char *trace;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char tracked[FDS_MAX];
static char prefix[PATH_MAX];
static size_t prefix_bytes;
static int recording;
static unsigned sync_delay_us;
static struct {
    uint64_t k;
    uint32_t kinds;
    int action, error, forever, armed, followup, interrupts;
} fault;

#define REAL(type, name, ...)                                                                      \
    static type (*real_##name)(__VA_ARGS__);                                                       \
    if (!real_##name)                                                                              \
    real_##name = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static int is_tracked(int fd) { return prefix_bytes && fd >= 0 && fd < FDS_MAX && tracked[fd]; }

static void track(int fd, int on) {
    if (fd >= 0 && fd < FDS_MAX)
        tracked[fd] = (unsigned char)on;
}

/* ---- paths
 * ------------------------------------------------------------------------------------------- */

/* Collapses "//", "/./" and "/../" of an absolute path in place. */
static void normalize(char *path) {
    char *out = path, *in = path;
    while (*in) {
        while (*in == '/')
            in++;
        size_t n = strcspn(in, "/");
        if (n == 2 && in[0] == '.' && in[1] == '.') {
            while (out > path && *--out != '/') {
            }
        } else if (n && !(n == 1 && in[0] == '.')) {
            *out++ = '/';
            memmove(out, in, n);
            out += n;
        }
        in += n;
    }
    if (out == path)
        *out++ = '/';
    *out = 0;
}

/* Makes `path` absolute in `out`; returns whether it lies at or below the prefix. */
static int resolve(int dirfd, const char *path, char *out) {
    if (!prefix_bytes || !path)
        return 0;
    char base[PATH_MAX] = "";
    if (path[0] != '/') {
        if (dirfd == AT_FDCWD) {
            if (!getcwd(base, sizeof base))
                return 0;
        } else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
            ssize_t n = readlink(link, base, sizeof base - 1);
            if (n < 0)
                return 0;
            base[n] = 0;
        }
    }
    if (snprintf(out, PATH_MAX, "%s/%s", base, path) >= PATH_MAX)
        return 0;
    normalize(out);
    return strncmp(out, prefix, prefix_bytes) == 0 &&
           (out[prefix_bytes] == '/' || out[prefix_bytes] == 0);
}

/* ---- recorder
 * ---------------------------------------------------------------------------------------- */

static void put(const void *bytes, size_t n) {
    memcpy(trace + shared->used, bytes, n);
    shared->used += n;
}

/* Appends one event (the lock is held); returns its index. */
static uint64_t record(struct event event, const char *path, const char *path2, const void *data) {
    if (!recording)
        return 0;
    event.thread = (uint32_t)syscall(SYS_gettid);
    event.path_bytes = path ? (uint32_t)strlen(path) : 0;
    event.path2_bytes = path2 ? (uint32_t)strlen(path2) : 0;
    uint64_t total = sizeof event + event.path_bytes + event.path2_bytes + event.data_bytes;
    if (shared->used + total > shared->bytes_max) {
        shared->overflow = 1;
        return 0;
    }
    put(&event, sizeof event);
    if (path)
        put(path, event.path_bytes);
    if (path2)
        put(path2, event.path2_bytes);
    if (event.data_bytes)
        put(data, event.data_bytes);
    return shared->events++;
}

static int32_t outcome(long result) { return result < 0 ? -errno : (int32_t)result; }

static void record_unsupported(const char *what) {
    record((struct event){.kind = EVENT_UNSUPPORTED}, what, NULL, NULL);
}

/* ---- injector
 * ---------------------------------------------------------------------------------------- */

static void die(void) {
    for (;;)
        syscall(SYS_kill, getpid(), SIGKILL);
}

/* An endless EINTR would be an endless loop in a correct caller: interrupt 7 times, then let one
 * through. */
static int interrupted_enough(void) {
    if (fault.action != ACT_ERRNO || fault.error != EINTR || !fault.forever)
        return 0;
    if (fault.interrupts++ < INTERRUPTS_MAX)
        return 0;
    fault.interrupts = 0;
    return 1;
}

/* Counts the call (the lock is held) and says what shall happen to it. */
static enum action decide(enum kind kind) {
    shared->calls[kind]++;
    if (!fault.armed)
        return ACT_NONE;
    if (fault.followup &&
        kind == CALL_WRITE) { /* the disk was full in the middle of the last write */
        fault.followup = fault.forever;
        errno = ENOSPC;
        return ACT_ERRNO;
    }
    if (!(fault.kinds >> kind & 1))
        return ACT_NONE;
    uint64_t n = ++shared->seen;
    if (n < fault.k || (n > fault.k && !fault.forever) || interrupted_enough())
        return ACT_NONE;
    enum action action = fault.action;
    int partial = action == ACT_SHORT || action == ACT_SHORT_FULL;
    if (partial && kind != CALL_WRITE && kind != CALL_READ)
        return ACT_NONE;
    if (shared->hits++ == 0) {
        shared->hit_kind = kind;
        shared->hit_event = shared->events;
    }
    if (action == ACT_KILL || (action == ACT_KILL_TORN && kind != CALL_WRITE))
        die();
    if (action == ACT_SHORT_FULL) {
        fault.followup = 1;
        return ACT_SHORT;
    }
    if (action == ACT_ERRNO)
        errno = fault.error;
    return action;
}

/* For calls that either fail or run whole. Returns 1 when the call must fail; errno is set. */
static int must_fail(enum kind kind) { return decide(kind) == ACT_ERRNO; }

/* ---- open, close, dup
 * -------------------------------------------------------------------------------- */

static int open_common(int dirfd, const char *path, int flags, mode_t mode) {
    REAL(int, openat, int, const char *, int, ...);
    char full[PATH_MAX];
    if (!shared || !resolve(dirfd, path, full))
        return real_openat(dirfd, path, flags, mode);
    pthread_mutex_lock(&lock);
    int fd = must_fail(CALL_OPEN) ? -1 : real_openat(dirfd, path, flags, mode);
    int saved = errno;
    if (fd >= 0)
        track(fd, 1);
    int unmodelled = (flags & O_ACCMODE) != O_RDONLY && (flags & (O_DSYNC | O_DIRECT));
    if (fd >= 0 && (unmodelled || (flags & O_TMPFILE) == O_TMPFILE))
        record_unsupported("open flags");
    record(
        (struct event){
            .kind = CALL_OPEN, .fd = fd, .result = fd < 0 ? -saved : fd, .flags = (uint32_t)flags},
        full, NULL, NULL);
    pthread_mutex_unlock(&lock);
    errno = saved;
    return fd;
}

static mode_t mode_of(int flags, va_list args) {
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? (mode_t)va_arg(args, int) : 0;
}

#define OPEN_BODY(dirfd)                                                                           \
    va_list args;                                                                                  \
    va_start(args, flags);                                                                         \
    mode_t mode = mode_of(flags, args);                                                            \
    va_end(args);                                                                                  \
    return open_common(dirfd, path, flags, mode)

EXPORT int open(const char *path, int flags, ...) { OPEN_BODY(AT_FDCWD); }
EXPORT int open64(const char *path, int flags, ...) { OPEN_BODY(AT_FDCWD); }
EXPORT int openat(int dirfd, const char *path, int flags, ...) { OPEN_BODY(dirfd); }
EXPORT int openat64(int dirfd, const char *path, int flags, ...) { OPEN_BODY(dirfd); }
EXPORT int __open_2(const char *path, int flags) { return open_common(AT_FDCWD, path, flags, 0); }
EXPORT int __open64_2(const char *path, int flags) { return open_common(AT_FDCWD, path, flags, 0); }
EXPORT int __openat_2(int dirfd, const char *path, int flags) {
    return open_common(dirfd, path, flags, 0);
}
EXPORT int __openat64_2(int dirfd, const char *path, int flags) {
    return open_common(dirfd, path, flags, 0);
}
EXPORT int creat(const char *path, mode_t mode) {
    return open_common(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

EXPORT int close(int fd) {
    REAL(int, close, int);
    if (!is_tracked(fd))
        return real_close(fd);
    pthread_mutex_lock(&lock);
    int failed = must_fail(CALL_CLOSE);
    int saved = errno;
    int result = real_close(fd); /* Linux closes the fd even when it reports an error */
    if (failed)
        result = -1, errno = saved;
    track(fd, 0);
    saved = errno;
    record((struct event){.kind = CALL_CLOSE, .fd = fd, .result = outcome(result)}, NULL, NULL,
           NULL);
    pthread_mutex_unlock(&lock);
    errno = saved;
    return result;
}

static int dup_common(int fd, int copy) {
    if (copy < 0)
        return copy;
    int saved = errno;
    pthread_mutex_lock(&lock);
    track(copy, is_tracked(fd));
    if (is_tracked(fd))
        record(
            (struct event){.kind = EVENT_DUP, .fd = fd, .result = copy, .offset = (uint64_t)copy},
            NULL, NULL, NULL);
    pthread_mutex_unlock(&lock);
    errno = saved;
    return copy;
}

EXPORT int dup(int fd) {
    REAL(int, dup, int);
    return dup_common(fd, real_dup(fd));
}

EXPORT int dup2(int fd, int wanted) {
    REAL(int, dup2, int, int);
    return dup_common(fd, real_dup2(fd, wanted));
}

EXPORT int dup3(int fd, int wanted, int flags) {
    REAL(int, dup3, int, int, int);
    return dup_common(fd, real_dup3(fd, wanted, flags));
}

static int fcntl_common(int fd, int command, void *argument) {
    REAL(int, fcntl64, int, int, ...);
    int result = real_fcntl64(fd, command, argument);
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
        return dup_common(fd, result);
    return result;
}

#define FCNTL_BODY                                                                                 \
    va_list args;                                                                                  \
    va_start(args, command);                                                                       \
    void *argument = va_arg(args, void *);                                                         \
    va_end(args);                                                                                  \
    return fcntl_common(fd, command, argument)

EXPORT int fcntl(int fd, int command, ...) { FCNTL_BODY; }
EXPORT int fcntl64(int fd, int command, ...) { FCNTL_BODY; }

/* ---- write
 * ------------------------------------------------------------------------------------------- */

static void *flatten(const struct iovec *iov, int count, size_t *total) {
    *total = 0;
    for (int i = 0; i < count; i++)
        *total += iov[i].iov_len;
    unsigned char *bytes = malloc(*total + 1), *out = bytes;
    if (!bytes)
        abort();
    for (int i = 0; i < count; i++) {
        memcpy(out, iov[i].iov_base, iov[i].iov_len);
        out += iov[i].iov_len;
    }
    return bytes;
}

static size_t short_of(size_t total) { return total > 1 ? total / 2 : total; }

/* Where the n bytes that write() put went. */
static uint64_t written_at(int fd, ssize_t n) {
    off_t end = lseek(fd, 0, SEEK_CUR);
    return end < 0 || n < 0 ? 0 : (uint64_t)end - (uint64_t)n;
}

/* position < 0: at the file's own position, like write(). */
static ssize_t write_common(int fd, const struct iovec *iov, int count, off_t position) {
    REAL(ssize_t, write, int, const void *, size_t);
    REAL(ssize_t, pwrite64, int, const void *, size_t, off_t);
    size_t total;
    void *bytes = flatten(iov, count, &total);
    pthread_mutex_lock(&lock);
    enum action action = decide(CALL_WRITE);
    size_t wanted = action == ACT_SHORT || action == ACT_KILL_TORN ? short_of(total) : total;
    ssize_t n = -1;
    if (action != ACT_ERRNO)
        n = position < 0 ? real_write(fd, bytes, wanted)
                         : real_pwrite64(fd, bytes, wanted, position);
    int saved = errno;
    struct event event = {
        .kind = CALL_WRITE, .fd = fd, .result = n < 0 ? -saved : (int32_t)n, .length = total};
    event.offset = position < 0 ? written_at(fd, n) : (uint64_t)position;
    event.data_bytes = n > 0 ? (uint32_t)n : 0;
    record(event, NULL, NULL, bytes);
    if (action == ACT_KILL_TORN)
        die();
    pthread_mutex_unlock(&lock);
    free(bytes);
    errno = saved;
    return n;
}

#define ONE(buf, n) &(struct iovec){.iov_base = (void *)(uintptr_t)(buf), .iov_len = (n)}, 1

EXPORT ssize_t write(int fd, const void *buf, size_t n) {
    REAL(ssize_t, write, int, const void *, size_t);
    return is_tracked(fd) ? write_common(fd, ONE(buf, n), -1) : real_write(fd, buf, n);
}

EXPORT ssize_t pwrite64(int fd, const void *buf, size_t n, off_t position) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off_t);
    return is_tracked(fd) ? write_common(fd, ONE(buf, n), position)
                          : real_pwrite64(fd, buf, n, position);
}

EXPORT ssize_t pwrite(int fd, const void *buf, size_t n, off_t position) {
    return pwrite64(fd, buf, n, position);
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    return is_tracked(fd) ? write_common(fd, iov, count, -1) : real_writev(fd, iov, count);
}

EXPORT ssize_t pwritev64(int fd, const struct iovec *iov, int count, off_t position) {
    REAL(ssize_t, pwritev64, int, const struct iovec *, int, off_t);
    return is_tracked(fd) ? write_common(fd, iov, count, position)
                          : real_pwritev64(fd, iov, count, position);
}

EXPORT ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t position) {
    return pwritev64(fd, iov, count, position);
}

EXPORT ssize_t pwritev64v2(int fd, const struct iovec *iov, int count, off_t position, int flags) {
    REAL(ssize_t, pwritev64v2, int, const struct iovec *, int, off_t, int);
    if (!is_tracked(fd))
        return real_pwritev64v2(fd, iov, count, position, flags);
    pthread_mutex_lock(&lock);
    if (flags)
        record_unsupported("pwritev2 flags");
    pthread_mutex_unlock(&lock);
    return write_common(fd, iov, count, position);
}

EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t position, int flags) {
    return pwritev64v2(fd, iov, count, position, flags);
}

/* ---- sync
 * -------------------------------------------------------------------------------------------- */

static int sync_common(int fd, enum kind kind, int (*real)(int)) {
    if (!is_tracked(fd))
        return real(fd);
    pthread_mutex_lock(&lock);
    int failed = must_fail(kind);
    int saved = errno;
    uint64_t begin =
        record((struct event){.kind = kind, .fd = fd, .flags = SYNC_BEGIN}, NULL, NULL, NULL);
    pthread_mutex_unlock(&lock);
    if (sync_delay_us)
        usleep(sync_delay_us); /* a slow disk, so that threads meet in one group commit */
    int result = failed ? -1 : real(fd);
    if (!failed)
        saved = errno;
    pthread_mutex_lock(&lock);
    record((struct event){.kind = kind,
                          .fd = fd,
                          .flags = SYNC_END,
                          .offset = begin,
                          .result = result < 0 ? -saved : 0},
           NULL, NULL, NULL);
    pthread_mutex_unlock(&lock);
    errno = saved;
    return result;
}

EXPORT int fsync(int fd) {
    REAL(int, fsync, int);
    return sync_common(fd, CALL_FSYNC, real_fsync);
}

EXPORT int fdatasync(int fd) {
    REAL(int, fdatasync, int);
    return sync_common(fd, CALL_FDATASYNC, real_fdatasync);
}

/* ---- size
 * -------------------------------------------------------------------------------------------- */

EXPORT int ftruncate64(int fd, off_t length) {
    REAL(int, ftruncate64, int, off_t);
    if (!is_tracked(fd))
        return real_ftruncate64(fd, length);
    pthread_mutex_lock(&lock);
    int result = must_fail(CALL_TRUNCATE) ? -1 : real_ftruncate64(fd, length);
    int saved = errno;
    record(
        (struct event){
            .kind = CALL_TRUNCATE, .fd = fd, .result = outcome(result), .length = (uint64_t)length},
        NULL, NULL, NULL);
    pthread_mutex_unlock(&lock);
    errno = saved;
    return result;
}

EXPORT int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int allocate(int fd, int mode, off_t offset, off_t length) {
    REAL(int, fallocate64, int, int, off_t, off_t);
    pthread_mutex_lock(&lock);
    int result = must_fail(CALL_ALLOCATE) ? -1 : real_fallocate64(fd, mode, offset, length);
    int saved = errno;
    record((struct event){.kind = CALL_ALLOCATE,
                          .fd = fd,
                          .result = outcome(result),
                          .flags = (uint32_t)mode,
                          .offset = (uint64_t)offset,
                          .length = (uint64_t)length},
           NULL, NULL, NULL);
    pthread_mutex_unlock(&lock);
    errno = saved;
    return result;
}

EXPORT int fallocate64(int fd, int mode, off_t offset, off_t length) {
    REAL(int, fallocate64, int, int, off_t, off_t);
    return is_tracked(fd) ? allocate(fd, mode, offset, length)
                          : real_fallocate64(fd, mode, offset, length);
}

EXPORT int fallocate(int fd, int mode, off_t offset, off_t length) {
    return fallocate64(fd, mode, offset, length);
}

EXPORT int posix_fallocate64(int fd, off_t offset, off_t length) {
    REAL(int, posix_fallocate64, int, off_t, off_t);
    if (!is_tracked(fd))
        return real_posix_fallocate64(fd, offset, length);
    int saved = errno;
    int result = allocate(fd, 0, offset, length) < 0 ? errno : 0;
    errno = saved; /* posix_fallocate returns its error and leaves errno alone */
    return result;
}

EXPORT int posix_fallocate(int fd, off_t offset, off_t length) {
    return posix_fallocate64(fd, offset, length);
}

/* ---- names
 * ------------------------------------------------------------------------------------------- */

static int rename_common(int from_fd, const char *from, int to_fd, const char *to, unsigned flags) {
    REAL(int, renameat2, int, const char *, int, const char *, unsigned);
    char source[PATH_MAX], target[PATH_MAX];
    int inside = shared && resolve(from_fd, from, source);
    int inside_to = shared && resolve(to_fd, to, target);
    if (!inside && !inside_to)
        return real_renameat2(from_fd, from, to_fd, to, flags);
    pthread_mutex_lock(&lock);
    int result = must_fail(CALL_RENAME) ? -1 : real_renameat2(from_fd, from, to_fd, to, flags);
    int saved = errno;
    if (result == 0 && (inside != inside_to || flags & ~1u))
        record_unsupported("rename across the prefix");
    else
        record((struct event){.kind = CALL_RENAME, .result = outcome(result)}, source, target,
               NULL);
    pthread_mutex_unlock(&lock);
    errno = saved;
    return result;
}

EXPORT int rename(const char *from, const char *to) {
    return rename_common(AT_FDCWD, from, AT_FDCWD, to, 0);
}
EXPORT int renameat(int a, const char *from, int b, const char *to) {
    return rename_common(a, from, b, to, 0);
}
EXPORT int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    return rename_common(a, from, b, to, flags);
}

static int unlink_common(int dirfd, const char *path, int flags) {
    REAL(int, unlinkat, int, const char *, int);
    char full[PATH_MAX];
    if (!shared || !resolve(dirfd, path, full))
        return real_unlinkat(dirfd, path, flags);
    enum kind kind = flags & AT_REMOVEDIR ? CALL_RMDIR : CALL_UNLINK;
    pthread_mutex_lock(&lock);
    int result = must_fail(kind) ? -1 : real_unlinkat(dirfd, path, flags);
    int saved = errno;
    record((struct event){.kind = kind, .result = outcome(result)}, full, NULL, NULL);
    pthread_mutex_unlock(&lock);
    errno = saved;
    return result;
}

EXPORT int unlink(const char *path) { return unlink_common(AT_FDCWD, path, 0); }
EXPORT int unlinkat(int dirfd, const char *path, int flags) {
    return unlink_common(dirfd, path, flags);
}
EXPORT int rmdir(const char *path) { return unlink_common(AT_FDCWD, path, AT_REMOVEDIR); }
EXPORT int remove(const char *path) {
    struct stat info;
    int directory = lstat(path, &info) == 0 && S_ISDIR(info.st_mode);
    return unlink_common(AT_FDCWD, path, directory ? AT_REMOVEDIR : 0);
}

static int mkdir_common(int dirfd, const char *path, mode_t mode) {
    REAL(int, mkdirat, int, const char *, mode_t);
    char full[PATH_MAX];
    if (!shared || !resolve(dirfd, path, full))
        return real_mkdirat(dirfd, path, mode);
    pthread_mutex_lock(&lock);
    int result = must_fail(CALL_MKDIR) ? -1 : real_mkdirat(dirfd, path, mode);
    int saved = errno;
    record((struct event){.kind = CALL_MKDIR, .result = outcome(result)}, full, NULL, NULL);
    pthread_mutex_unlock(&lock);
    errno = saved;
    return result;
}

EXPORT int mkdir(const char *path, mode_t mode) { return mkdir_common(AT_FDCWD, path, mode); }
EXPORT int mkdirat(int dirfd, const char *path, mode_t mode) {
    return mkdir_common(dirfd, path, mode);
}

/* ---- calls that change the disk in a way the model does not know
 * ------------------------------------ */

static void note_unsupported(int concerned, const char *what) {
    if (!concerned)
        return;
    int saved = errno;
    pthread_mutex_lock(&lock);
    record_unsupported(what);
    pthread_mutex_unlock(&lock);
    errno = saved;
}

EXPORT int truncate64(const char *path, off_t length) {
    REAL(int, truncate64, const char *, off_t);
    char full[PATH_MAX];
    note_unsupported(shared && resolve(AT_FDCWD, path, full), "truncate by path");
    return real_truncate64(path, length);
}

EXPORT int truncate(const char *path, off_t length) { return truncate64(path, length); }

EXPORT int linkat(int a, const char *from, int b, const char *to, int flags) {
    REAL(int, linkat, int, const char *, int, const char *, int);
    char full[PATH_MAX];
    note_unsupported(shared && resolve(b, to, full), "link");
    return real_linkat(a, from, b, to, flags);
}

EXPORT int link(const char *from, const char *to) {
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

EXPORT ssize_t copy_file_range(int in, off64_t *a, int out, off64_t *b, size_t n, unsigned flags) {
    REAL(ssize_t, copy_file_range, int, off64_t *, int, off64_t *, size_t, unsigned);
    note_unsupported(is_tracked(out), "copy_file_range");
    return real_copy_file_range(in, a, out, b, n, flags);
}

EXPORT ssize_t sendfile64(int out, int in, off64_t *offset, size_t n) {
    REAL(ssize_t, sendfile64, int, int, off64_t *, size_t);
    note_unsupported(is_tracked(out), "sendfile");
    return real_sendfile64(out, in, offset, n);
}

EXPORT ssize_t sendfile(int out, int in, off_t *offset, size_t n) {
    return sendfile64(out, in, offset, n);
}

EXPORT int syncfs(int fd) {
    REAL(int, syncfs, int);
    note_unsupported(is_tracked(fd), "syncfs");
    return real_syncfs(fd);
}

EXPORT void *mmap64(void *where, size_t n, int protection, int flags, int fd, off_t offset) {
    REAL(void *, mmap64, void *, size_t, int, int, int, off_t);
    if (!is_tracked(fd))
        return real_mmap64(where, n, protection, flags, fd, offset);
    pthread_mutex_lock(&lock);
    int failed = must_fail(CALL_MMAP);
    if ((protection & PROT_WRITE) && (flags & MAP_SHARED))
        record_unsupported("writable shared mmap");
    pthread_mutex_unlock(&lock);
    return failed ? MAP_FAILED : real_mmap64(where, n, protection, flags, fd, offset);
}

EXPORT void *mmap(void *where, size_t n, int protection, int flags, int fd, off_t offset) {
    return mmap64(where, n, protection, flags, fd, offset);
}

/* ---- read (injected into, never recorded)
 * ------------------------------------------------------------ */

static enum action decide_read(int fd) {
    if (!is_tracked(fd))
        return ACT_NONE;
    pthread_mutex_lock(&lock);
    enum action action = decide(CALL_READ);
    pthread_mutex_unlock(&lock);
    return action;
}

EXPORT ssize_t pread64(int fd, void *buf, size_t n, off_t position) {
    REAL(ssize_t, pread64, int, void *, size_t, off_t);
    enum action action = decide_read(fd);
    if (action == ACT_ERRNO)
        return -1;
    return real_pread64(fd, buf, action == ACT_SHORT ? short_of(n) : n, position);
}

EXPORT ssize_t pread(int fd, void *buf, size_t n, off_t position) {
    return pread64(fd, buf, n, position);
}

EXPORT ssize_t read(int fd, void *buf, size_t n) {
    REAL(ssize_t, read, int, void *, size_t);
    enum action action = decide_read(fd);
    if (action == ACT_ERRNO)
        return -1;
    return real_read(fd, buf, action == ACT_SHORT ? short_of(n) : n);
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int count) {
    REAL(ssize_t, readv, int, const struct iovec *, int);
    return decide_read(fd) == ACT_ERRNO ? -1 : real_readv(fd, iov, count);
}

EXPORT ssize_t preadv64(int fd, const struct iovec *iov, int count, off_t position) {
    REAL(ssize_t, preadv64, int, const struct iovec *, int, off_t);
    return decide_read(fd) == ACT_ERRNO ? -1 : real_preadv64(fd, iov, count, position);
}

EXPORT ssize_t preadv(int fd, const struct iovec *iov, int count, off_t position) {
    return preadv64(fd, iov, count, position);
}

/* ---- control
 * ----------------------------------------------------------------------------------------- */

/* Watches `directory` (absolute, no symlinks) from now on; record_on = 0 only counts and injects.
 */
EXPORT void shim_start(const char *directory, int record_on) {
    pthread_mutex_lock(&lock);
    uint64_t bytes_max = shared->bytes_max;
    memset(shared, 0, sizeof *shared);
    shared->bytes_max = bytes_max;
    memset(tracked, 0, sizeof tracked);
    snprintf(prefix, sizeof prefix, "%s", directory);
    prefix_bytes = strlen(prefix);
    recording = record_on;
    pthread_mutex_unlock(&lock);
}

EXPORT void shim_stop(void) {
    pthread_mutex_lock(&lock);
    prefix_bytes = 0;
    recording = 0;
    fault.armed = 0;
    pthread_mutex_unlock(&lock);
}

EXPORT void shim_mark(const void *bytes, uint32_t n) {
    pthread_mutex_lock(&lock);
    record((struct event){.kind = EVENT_MARK, .data_bytes = n}, NULL, NULL, bytes);
    pthread_mutex_unlock(&lock);
}

/* From now on the k-th call (from 1) of the kinds in the bit mask suffers `action`. */
EXPORT void shim_arm(uint64_t k, uint32_t kinds, int action, int error, int forever) {
    pthread_mutex_lock(&lock);
    shared->seen = shared->hits = shared->hit_kind = shared->hit_event = 0;
    fault.k = k;
    fault.kinds = kinds;
    fault.action = action;
    fault.error = error;
    fault.forever = forever;
    fault.followup = fault.interrupts = 0;
    fault.armed = 1;
    pthread_mutex_unlock(&lock);
}

EXPORT void shim_disarm(void) {
    pthread_mutex_lock(&lock);
    fault.armed = 0;
    pthread_mutex_unlock(&lock);
}

EXPORT void shim_sync_delay(unsigned us) { sync_delay_us = us; }
EXPORT const void *shim_trace(void) { return trace; }
EXPORT uint64_t shim_used(void) { return shared->used; }
EXPORT uint64_t shim_overflow(void) { return shared->overflow; }
EXPORT uint64_t shim_seen(void) { return shared->seen; }
EXPORT uint64_t shim_hits(void) { return shared->hits; }
EXPORT uint64_t shim_hit_kind(void) { return shared->hit_kind; }
EXPORT uint64_t shim_hit_event(void) { return shared->hit_event; }
EXPORT uint64_t shim_calls(unsigned kind) { return kind < KINDS ? shared->calls[kind] : 0; }

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }

static void start_from_environment(void) {
    const char *directory = getenv("CRASH_SHIM_PREFIX");
    if (directory && *directory)
        shim_start(directory, 1);
    const char *text = getenv("CRASH_SHIM_FAULT");
    unsigned long long k;
    unsigned kinds;
    int action, error, forever;
    if (text && sscanf(text, "%llu:%u:%d:%d:%d", &k, &kinds, &action, &error, &forever) == 5)
        shim_arm(k, kinds, action, error, forever);
}

__attribute__((constructor)) static void initialize(void) {
    REAL(int, openat, int, const char *, int, ...);
    REAL(int, ftruncate64, int, off_t);
    REAL(void *, mmap64, void *, size_t, int, int, int, off_t);
    const char *file = getenv("CRASH_SHIM_TRACE");
    size_t total = sizeof *shared + TRACE_BYTES;
    int flags = MAP_SHARED | MAP_NORESERVE | (file ? 0 : MAP_ANONYMOUS);
    int fd = file ? real_openat(AT_FDCWD, file, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (file && (fd < 0 || real_ftruncate64(fd, (off_t)total) < 0))
        abort();
    void *memory = real_mmap64(NULL, total, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (memory == MAP_FAILED)
        abort();
    trace = (unsigned char *)memory + sizeof *shared;
    struct shared *header = memory;
    memset(header, 0, sizeof *header);
    header->bytes_max = TRACE_BYTES;
    shared = header;
    pthread_atfork(before_fork, after_fork, after_fork);
    start_from_environment();
}
