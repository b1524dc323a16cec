/* Delays every open and look at files below a directory, as a busy network file system does.
 *
 * cc -shared -fPIC -o slow_files.so slow_files.c -ldl
 * SLOW_BELOW=/path/of/repository/u SLOW_MS=10 LD_PRELOAD=./slow_files.so aggregator aggregate-graph ...
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static void delay(const char *path)
{
    static const char *below;
    static long ms = -1;
    if (ms < 0) {
        below = getenv("SLOW_BELOW");
        const char *text = getenv("SLOW_MS");
        ms = below && text ? atol(text) : 0;
    }
    if (ms > 0 && path && !strncmp(path, below, strlen(below))) {
        struct timespec wait = {ms / 1000, ms % 1000 * 1000000};
        nanosleep(&wait, NULL);
    }
}

#define NEXT(name) static __typeof__(name) *next; if (!next) next = dlsym(RTLD_NEXT, #name)
#define MODE(flags) mode_t mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { \
    va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) { NEXT(open); MODE(flags); delay(path); return next(path, flags, mode); }
int open64(const char *path, int flags, ...) { NEXT(open64); MODE(flags); delay(path); return next(path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { NEXT(openat); MODE(flags); delay(path); return next(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { NEXT(openat64); MODE(flags); delay(path); return next(at, path, flags, mode); }
int stat(const char *path, struct stat *to) { NEXT(stat); delay(path); return next(path, to); }
int lstat(const char *path, struct stat *to) { NEXT(lstat); delay(path); return next(path, to); }
int stat64(const char *path, struct stat64 *to) { NEXT(stat64); delay(path); return next(path, to); }
int lstat64(const char *path, struct stat64 *to) { NEXT(lstat64); delay(path); return next(path, to); }
int fstatat(int at, const char *path, struct stat *to, int flags) { NEXT(fstatat); delay(path); return next(at, path, to, flags); }
int fstatat64(int at, const char *path, struct stat64 *to, int flags) { NEXT(fstatat64); delay(path); return next(at, path, to, flags); }
