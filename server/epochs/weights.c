#include "server/epochs/weights.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/file.h"

/* The whole of the file, which is not to change its length meanwhile. */
static enum mb_status read_all(int fd, char *to, size_t n, const char *file,
                               struct mb_error *err)
{
    for (size_t done = 0; done < n;) {
        ssize_t k = pread(fd, to + done, n - done, (off_t) done);
        if (k == 0) {
            return mb_fail(err, MB_E_IO, 0, "'%s' was cut short while it was copied", file);
        }
        if (k < 0 && errno != EINTR) {
            return mb_fail(err, errno == EFAULT ? MB_E_NOMEM : MB_E_IO, errno, "copy '%s'",
                           file);
        }
        done += k > 0 ? (size_t) k : 0;
    }
    return MB_OK;
}

/* It is written through a mapping, since that is how shared memory is asked for huge pages. What the
 * system does not allow is no failure: small pages hold the same bits. */
static enum mb_status copy_to(int fd, const struct mbd_weights *w, size_t n,
                              struct mb_error *err)
{
    if (ftruncate(fd, (off_t) n) != 0) {
        return mb_fail(err, MB_E_NOMEM, errno, "memory for a copy of '%s'", w->file);
    }
    char *at = n > 0 ? mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : NULL;
    if (at == MAP_FAILED) {
        return mb_fail(err, MB_E_NOMEM, errno, "memory for a copy of '%s'", w->file);
    }
    if (n == 0) {
        return MB_OK;
    }
    (void) madvise(at, n, MADV_HUGEPAGE);
    enum mb_status st = read_all(w->fd, at, n, w->file, err);
    (void) munmap(at, n);
    return st;
}

/* Nothing may be written from now on; and a descriptor that could not: systems before Linux 6.7 map
 * what is sealed from no other. */
static enum mb_status seal(int *fd, const char *file, struct mb_error *err)
{
    char path[64];
    if (fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) !=
        0) {
        return mb_fail(err, MB_E_IO, errno, "seal the copy of '%s'", file);
    }
    (void) snprintf(path, sizeof path, "/proc/self/fd/%d", *fd);
    int read_only = open(path, O_RDONLY | O_CLOEXEC);
    if (read_only < 0) {
        return mb_fail(err, MB_E_IO, errno, "open the sealed copy of '%s'", file);
    }
    (void) close(*fd);
    *fd = read_only;
    return MB_OK;
}

/* Puts a sealed copy in the place of w->fd. */
static enum mb_status copy_to_memory(struct mbd_weights *w, struct mb_error *err)
{
    struct stat sb;
    if (fstat(w->fd, &sb) != 0) {
        return mb_fail(err, MB_E_IO, errno, "stat '%s'", w->file);
    }
    if (!S_ISREG(sb.st_mode)) {
        return mb_fail(err, MB_E_INVALID, 0, "'%s' is not a regular file", w->file);
    }
    int fd = memfd_create("mbool", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return mb_fail(err, MB_E_IO, errno, "memory for a copy of '%s'", w->file);
    }
    enum mb_status st = copy_to(fd, w, (size_t) sb.st_size, err);
    if (st == MB_OK) {
        st = seal(&fd, w->file, err);
    }
    if (st != MB_OK) {
        (void) close(fd);
        return st;
    }
    (void) close(w->fd);
    w->fd = fd;
    w->sealed = true;
    return MB_OK;
}

enum mb_status mbd_weights_open(const char *file, enum mbd_weights_kind kind,
                                struct mbd_weights *ret, struct mb_error *err)
{
    struct mbd_weights w = { .fd = -1, .file = strdup(file) };
    enum mb_status st = w.file ? mb_file_open(file, &w.fd, err)
                               : mb_fail(err, MB_E_NOMEM, 0, "no memory to open '%s'", file);
    if (st == MB_OK && kind == MBD_WEIGHTS_MEMFD) {
        st = copy_to_memory(&w, err);
    }
    if (st != MB_OK) {
        mbd_weights_close(&w);
        return st;
    }
    *ret = w;
    return MB_OK;
}

void mbd_weights_close(struct mbd_weights *w)
{
    if (w->file) { /* else it was never opened, and 0 is somebody's descriptor */
        if (w->fd >= 0) {
            (void) close(w->fd);
        }
        free(w->file);
    }
    *w = (struct mbd_weights) { .fd = -1 };
}

enum mb_status mbd_weights_map(const struct mbd_weights *w, struct mb_checkpoint **ret,
                               struct mb_error *err)
{
    enum mb_status st = mb_checkpoint_open_fd(w->fd, w->file, ret, err);
    if (st == MB_OK && w->sealed) {
        (void) madvise((void *) (uintptr_t) mb_checkpoint_memory(*ret),
                       (size_t) mb_checkpoint_bytes(*ret), MADV_HUGEPAGE);
    }
    return st;
}
