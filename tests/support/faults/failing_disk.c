/* Lets the n-th operation that changes the disk fail; preloaded into a test's process.
 *
 * disk_fails_at(n, action): the n-th of the following calls fails. An action above 0 is the errno it
 * fails with, 0 kills the process before it, -1 lets a write take half of its bytes, as a disk may.
 * disk_calls(): how many there were since. Calls on other things than files are not counted.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static long left = -1, calls = 0;
static int action = 0;

void disk_fails_at(long number, int how) { left = number; action = how; calls = 0; }
long disk_calls(void) { return calls; }

/* Whether this call is the one: then it does not return, or errno is set; -1 asks for half. */
static int fails(void) {
    calls++;
    if (left < 0 || --left != 0) return 0;
    left = -1;
    if (action == 0) raise(SIGKILL);
    if (action > 0) errno = action;
    return action;
}

static int is_file(int descriptor) {
    struct stat found;
    return fstat(descriptor, &found) == 0 && (S_ISREG(found.st_mode) || S_ISDIR(found.st_mode));
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int descriptor, const void *data, size_t size) {
    if (is_file(descriptor)) {
        int how = fails();
        if (how > 0) return -1;
        if (how < 0 && size > 1) size /= 2;
    }
    return REAL(write)(descriptor, data, size);
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t place) {
    if (is_file(descriptor) && fails() > 0) return -1;
    return REAL(pwrite64)(descriptor, data, size, place);
}

ssize_t writev(int descriptor, const struct iovec *pieces, int number) {
    if (is_file(descriptor) && fails() > 0) return -1;
    return REAL(writev)(descriptor, pieces, number);
}

ssize_t sendfile64(int out, int in, off64_t *place, size_t size) {
    if (is_file(out) && fails() > 0) return -1;
    return REAL(sendfile64)(out, in, place, size);
}

int ftruncate64(int descriptor, off64_t size) {
    if (fails() > 0) return -1;
    return REAL(ftruncate64)(descriptor, size);
}

int fsync(int descriptor) {
    if (is_file(descriptor) && fails() > 0) return -1;
    return REAL(fsync)(descriptor);
}

int rename(const char *from, const char *to) {
    if (fails() > 0) return -1;
    return REAL(rename)(from, to);
}

int link(const char *from, const char *to) {
    if (fails() > 0) return -1;
    return REAL(link)(from, to);
}

int unlink(const char *path) {
    if (fails() > 0) return -1;
    return REAL(unlink)(path);
}

int mkdir(const char *path, mode_t mode) {
    if (fails() > 0) return -1;
    return REAL(mkdir)(path, mode);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if ((flags & O_ACCMODE) != O_RDONLY && fails() > 0) return -1;
    return REAL(open64)(path, flags, mode);
}

int open(const char *path, int flags, ...) __attribute__((alias("open64")));
