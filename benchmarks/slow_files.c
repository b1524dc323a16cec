/* Preloaded into a process, this delays what opens files below a directory, looks at them or removes them, as
   a distant file system does: each operation takes SLOW_FILES_MICROSECONDS longer if its path begins with
   SLOW_FILES_BELOW. Reading from an open file takes no longer. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *below;
static size_t length;
static struct timespec pause_for;

__attribute__((constructor)) static void prepare(void) {
    const char *microseconds = getenv("SLOW_FILES_MICROSECONDS");
    long each = microseconds ? atol(microseconds) : 0;
    const char *directory = each > 0 ? getenv("SLOW_FILES_BELOW") : NULL;
    /* A copy, as some programs write their title over their environment. */
    below = directory ? strdup(directory) : NULL;
    length = below ? strlen(below) : 0;
    pause_for.tv_sec = each / 1000000;
    pause_for.tv_nsec = each % 1000000 * 1000;
}

static void delay(const char *path) {
    if (below && path && !strncmp(path, below, length)) {
        struct timespec left = pause_for;
        while (nanosleep(&left, &left)) {
        }
    }
}

#define NEXT(name) \
    static __typeof__(&name) next; \
    if (!next) \
    next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        NEXT(name); \
        MODE(flags) \
        delay(path); \
        return next(path, flags, mode); \
    }

#define OPENAT(name) \
    int name(int directory, const char *path, int flags, ...) { \
        NEXT(name); \
        MODE(flags) \
        delay(path); \
        return next(directory, path, flags, mode); \
    }

#define STAT(name, type) \
    int name(const char *path, struct type *status) { \
        NEXT(name); \
        delay(path); \
        return next(path, status); \
    }

#define FSTATAT(name, type) \
    int name(int directory, const char *path, struct type *status, int flags) { \
        NEXT(name); \
        delay(path); \
        return next(directory, path, status, flags); \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
STAT(stat, stat)
STAT(stat64, stat64)
STAT(lstat, stat)
STAT(lstat64, stat64)
FSTATAT(fstatat, stat)
FSTATAT(fstatat64, stat64)

int access(const char *path, int mode) {
    NEXT(access);
    delay(path);
    return next(path, mode);
}

int faccessat(int directory, const char *path, int mode, int flags) {
    NEXT(faccessat);
    delay(path);
    return next(directory, path, mode, flags);
}

int unlink(const char *path) {
    NEXT(unlink);
    delay(path);
    return next(path);
}
