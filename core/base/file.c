#include "core/base/file.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The first size above the usual one, of x86-64 and most others. */
enum { LARGE_PAGE = 2 << 20 };

enum mb_status mb_file_open(const char *path, int *ret, struct mb_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hang us */
    if (fd < 0) {
        return mb_fail(err, errno == ENOENT ? MB_E_NOTFOUND : MB_E_IO, errno, "open '%s'",
                       path);
    }
    *ret = fd;
    return MB_OK;
}

enum mb_status mb_file_map_fd(int fd, const char *name, struct mb_file_map *ret,
                              struct mb_error *err)
{
    struct stat sb;
    if (fstat(fd, &sb) < 0) {
        return mb_fail(err, MB_E_IO, errno, "stat '%s'", name);
    }
    if (!S_ISREG(sb.st_mode)) {
        return mb_fail(err, MB_E_INVALID, 0, "'%s' is not a regular file", name);
    }
    struct mb_file_map m = { .n = (size_t) sb.st_size };
    if (m.n > 0) {
        void *at = mmap(NULL, m.n, PROT_READ, MAP_SHARED, fd, 0);
        if (at == MAP_FAILED) {
            return mb_fail(err, MB_E_IO, errno, "map '%s'", name);
        }
        m.at = at;
        if (m.n >= LARGE_PAGE) { /* a wish; an old kernel or file system does not know it */
            (void) madvise(at, m.n, MADV_HUGEPAGE);
        }
    }
    *ret = m;
    return MB_OK;
}

enum mb_status mb_file_map(const char *path, struct mb_file_map *ret, struct mb_error *err)
{
    int fd;
    enum mb_status st = mb_file_open(path, &fd, err);
    if (st != MB_OK) {
        return st;
    }
    st = mb_file_map_fd(fd, path, ret, err);
    (void) close(fd);
    return st;
}

void mb_file_unmap(struct mb_file_map *m)
{
    if (m && m->at) {
        (void) munmap((void *) (uintptr_t) m->at, m->n);
    }
    if (m) {
        *m = (struct mb_file_map) { 0 };
    }
}

struct mb_file_writer {
    int fd;
    uint64_t offset, written; /* of what was put; of that, what the file has */
    uint8_t *pending; /* [LARGE_PAGE] the bytes between the two, at offset % LARGE_PAGE */
    char path[PATH_MAX];
    char aside[PATH_MAX];
};

/* Is name what some writer of the file base calls its file aside: base.tmp-DIGITS? */
static bool is_aside(const char *name, const char *base)
{
    static const char mark[] = ".tmp-";
    size_t n = strlen(base);
    if (strncmp(name, base, n) != 0 || strncmp(name + n, mark, sizeof mark - 1) != 0) {
        return false;
    }
    const char *digits = name + n + sizeof mark - 1;
    return *digits && strspn(digits, "0123456789") == strlen(digits);
}

/* Removes name unless its writer lives. A writer holds a lock, which ends with it however it
 * ends, and which tells the living from the dead where a process number does not: in another
 * container, or when the number is somebody else's by now. */
static void remove_if_stale(int folder, const char *name)
{
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat sb;
    if (fd >= 0 && fstat(fd, &sb) == 0 && S_ISREG(sb.st_mode) &&
        flock(fd, LOCK_EX | LOCK_NB) == 0) {
        (void) unlinkat(folder, name, 0);
    }
    if (fd >= 0) {
        (void) close(fd);
    }
}

/* What writers of path that were killed have left. Whatever fails here only leaves it there. */
static void remove_stale(const char *path)
{
    char a[PATH_MAX], b[PATH_MAX];
    (void) snprintf(a, sizeof a, "%s", path);
    (void) snprintf(b, sizeof b, "%s", path);
    const char *base = basename(b);
    DIR *d = opendir(dirname(a));
    const struct dirent *e;
    while (d && (e = readdir(d))) {
        if (is_aside(e->d_name, base)) {
            remove_if_stale(dirfd(d), e->d_name);
        }
    }
    if (d) {
        (void) closedir(d);
    }
}

/* A new, locked file. Who removes what is stale may have taken it for that before it was locked:
 * then it has no name any more, and another one is made. */
static int create_aside(const char *aside)
{
    enum { TRIES = 8 };
    for (int i = 0; i < TRIES; i++) {
        int fd = open(aside, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
        struct stat sb;
        if (fd < 0) {
            return -1;
        }
        bool locked = flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
        if (locked && fstat(fd, &sb) == 0 && sb.st_nlink > 0) {
            return fd; /* also on a file system that knows no locks */
        }
        (void) close(fd);
    }
    errno = EBUSY;
    return -1;
}

static void free_writer(struct mb_file_writer *w)
{
    free(w->pending);
    free(w);
}

enum mb_status mb_file_writer_open(const char *path, struct mb_file_writer **ret,
                                   struct mb_error *err)
{
    struct stat sb;
    if (stat(path, &sb) == 0 && !S_ISREG(sb.st_mode)) { /* the rename would replace a device */
        return mb_fail(err, MB_E_INVALID, 0, "'%s' is not a regular file", path);
    }
    struct mb_file_writer *w = calloc(1, sizeof *w);
    uint8_t *pending = malloc(LARGE_PAGE);
    if (!w || !pending) {
        free(w);
        free(pending);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory to write '%s'", path);
    }
    w->pending = pending;
    int n = snprintf(w->path, sizeof w->path, "%s", path);
    int m = snprintf(w->aside, sizeof w->aside, "%s.tmp-%ld", path, (long) getpid());
    if (n < 0 || (size_t) n >= sizeof w->path || m < 0 || (size_t) m >= sizeof w->aside) {
        free_writer(w);
        return mb_fail(err, MB_E_INVALID, 0, "the path is too long: '%.200s'", path);
    }
    remove_stale(path);
    w->fd = create_aside(w->aside);
    if (w->fd < 0) {
        int sys = errno;
        enum mb_status st = mb_fail(err, MB_E_IO, sys, "create '%s'", w->aside);
        free_writer(w);
        return st;
    }
    *ret = w;
    return MB_OK;
}

/* Writes what is pending. */
static enum mb_status flush(struct mb_file_writer *w, struct mb_error *err)
{
    while (w->written < w->offset) {
        ssize_t k = write(w->fd, w->pending + w->written % LARGE_PAGE,
                          (size_t) (w->offset - w->written));
        if (k < 0 && errno == EINTR) {
            continue;
        }
        if (k < 0) {
            return mb_fail(err, MB_E_IO, errno, "write '%s'", w->aside);
        }
        w->written += (uint64_t) k;
    }
    return MB_OK;
}

/* The file grows by whole large pages, in one write each: then the system keeps it in such. */
enum mb_status mb_file_writer_put(struct mb_file_writer *w, const void *at, size_t n,
                                  struct mb_error *err)
{
    const uint8_t *p = at;
    enum mb_status st = MB_OK;
    while (n > 0 && st == MB_OK) {
        size_t used = (size_t) (w->offset % LARGE_PAGE), room = LARGE_PAGE - used;
        size_t k = n < room ? n : room;
        memcpy(w->pending + used, p, k);
        p += k;
        n -= k;
        w->offset += k;
        if (k == room) {
            st = flush(w, err);
        }
    }
    return st;
}

enum mb_status mb_file_writer_pad(struct mb_file_writer *w, size_t unit, struct mb_error *err)
{
    static const uint8_t zeros[4096];
    assert(unit > 0);
    assert(unit <= sizeof zeros);
    size_t over = (size_t) (w->offset % unit);
    return over == 0 ? MB_OK : mb_file_writer_put(w, zeros, unit - over, err);
}

enum mb_status mb_file_writer_patch(struct mb_file_writer *w, uint64_t offset, const void *at,
                                    size_t n, struct mb_error *err)
{
    assert(offset + n <= w->offset);
    const uint8_t *p = at;
    enum mb_status st = flush(w, err);
    while (n > 0 && st == MB_OK) {
        ssize_t k = pwrite(w->fd, p, n, (off_t) offset);
        if (k < 0 && errno == EINTR) {
            continue;
        }
        if (k <= 0) {
            return mb_fail(err, MB_E_IO, errno, "write '%s'", w->aside);
        }
        p += k;
        n -= (size_t) k;
        offset += (uint64_t) k;
    }
    return st;
}

uint64_t mb_file_writer_offset(const struct mb_file_writer *w)
{
    return w->offset;
}

enum mb_status mb_file_writer_flush(struct mb_file_writer *w, const char **ret_aside,
                                    struct mb_error *err)
{
    enum mb_status st = flush(w, err);
    if (st == MB_OK) {
        *ret_aside = w->aside;
    }
    return st;
}

/* A rename is durable only once its folder is on disk. */
static enum mb_status sync_folder(const char *path, struct mb_error *err)
{
    char copy[PATH_MAX];
    (void) snprintf(copy, sizeof copy, "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return mb_fail(err, MB_E_IO, errno, "open the folder of '%s'", path);
    }
    enum mb_status st = MB_OK;
    if (fsync(fd) < 0 && errno != EINVAL) { /* some file systems can not sync a folder */
        st = mb_fail(err, MB_E_IO, errno, "sync the folder of '%s'", path);
    }
    (void) close(fd);
    return st;
}

enum mb_status mb_file_writer_commit(struct mb_file_writer *w, struct mb_error *err)
{
    enum mb_status st = flush(w, err);
    if (st == MB_OK && fsync(w->fd) < 0) {
        st = mb_fail(err, MB_E_IO, errno, "sync '%s'", w->aside);
    }
    if (st != MB_OK) {
        mb_file_writer_abort(w);
        return st;
    }
    if (rename(w->aside, w->path) < 0) {
        st = mb_fail(err, MB_E_IO, errno, "rename '%s' to '%s'", w->aside, w->path);
        mb_file_writer_abort(w);
        return st;
    }
    st = sync_folder(w->path, err);
    (void) close(w->fd);
    free_writer(w);
    return st;
}

void mb_file_writer_abort(struct mb_file_writer *w)
{
    if (!w) {
        return;
    }
    (void) unlink(w->aside);
    (void) close(w->fd);
    free_writer(w);
}
