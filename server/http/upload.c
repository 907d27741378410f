#include "server/http/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER = 64 * 1024, FIELDS = 3, PATH_BYTES = 4096 };

static const char *const names[FIELDS] = { "purpose", "expires_after[anchor]",
                                           "expires_after[seconds]" };

struct mbd_upload {
    struct MHD_PostProcessor *processor;
    int fd; /* -1 when it is closed */
    char path[PATH_BYTES];
    char name[MB_FILE_NAME_MAX + 1];
    char field[FIELDS][MBD_UPLOAD_FIELD + 1];
    size_t n_field[FIELDS];
    bool has_field[FIELDS], has_file, kept, failed;
    uint64_t bytes, bytes_max;
    struct mb_wire_error error; /* when it failed */
};

static bool refuse(struct mbd_upload *u, int http, const char *code, const char *param,
                   const char *what)
{
    u->failed = true;
    mb_wire_error_fill(&u->error, http, code, param, "%s", what);
    return false;
}

static bool put(struct mbd_upload *u, const char *at, size_t n)
{
    if (n > u->bytes_max - u->bytes) {
        return refuse(u, 413, NULL, "file",
                      "'file' is larger than this server accepts (--file-bytes-max)");
    }
    u->bytes += n;
    while (n > 0) {
        ssize_t wrote = write(u->fd, at, n);
        if (wrote < 0 && errno != EINTR) {
            return refuse(u, 503, "storage_full", NULL,
                          "the file can not be written: the storage of this server is full");
        }
        at += wrote > 0 ? wrote : 0;
        n -= wrote > 0 ? (size_t) wrote : 0;
    }
    return true;
}

static bool put_field(struct mbd_upload *u, size_t i, const char *at, size_t n)
{
    if (n > MBD_UPLOAD_FIELD - u->n_field[i]) {
        return refuse(u, 400, NULL, names[i], "the value is too long");
    }
    memcpy(u->field[i] + u->n_field[i], at, n);
    u->n_field[i] += n;
    return true;
}

/* The name that a client gives is shown, and names nothing here: what is before a slash goes. */
static void take_name(struct mbd_upload *u, const char *name)
{
    const char *slash = name ? strrchr(name, '/') : NULL;
    (void) snprintf(u->name, sizeof u->name, "%s", slash ? slash + 1 : name ? name : "");
}

static enum MHD_Result on_piece(void *cls, enum MHD_ValueKind kind, const char *key,
                                const char *filename, const char *type, const char *encoding,
                                const char *at, uint64_t off, size_t n)
{
    (void) kind;
    (void) type;
    (void) encoding;
    struct mbd_upload *u = cls;
    bool ok = !u->failed;
    if (ok && key && strcmp(key, "file") == 0) {
        if (off == 0 && u->has_file && n > 0 && u->bytes > 0) {
            ok = refuse(u, 400, NULL, "file", "there must be one 'file'");
        } else if (off == 0) {
            u->has_file = true;
            take_name(u, filename);
        }
        ok = ok && put(u, at, n);
    }
    for (size_t i = 0; ok && key && i < FIELDS; i++) {
        if (strcmp(key, names[i]) == 0) {
            u->has_field[i] = true;
            u->n_field[i] = off == 0 ? 0 : u->n_field[i];
            ok = put_field(u, i, at, n);
        }
    }
    return ok ? MHD_YES : MHD_NO;
}

bool mbd_upload_new(struct MHD_Connection *mhd, const char *folder, uint64_t bytes_max,
                    struct mbd_upload **ret, struct mb_wire_error *err)
{
    struct mbd_upload *u = calloc(1, sizeof *u);
    if (!u) {
        mb_wire_error_fill(err, 503, "out_of_memory", NULL, "no memory for this request");
        return false;
    }
    u->bytes_max = bytes_max;
    u->fd = -1;
    int n = snprintf(u->path, sizeof u->path, "%s/.upload-XXXXXX", folder);
    u->processor = MHD_create_post_processor(mhd, BUFFER, on_piece, u);
    if (!u->processor) {
        mb_wire_error_fill(err, 415, NULL, NULL, "the body must be multipart/form-data");
    } else if (n < 0 || (size_t) n >= sizeof u->path ||
               (u->fd = mkostemp(u->path, O_CLOEXEC)) < 0) {
        mb_wire_error_fill(err, 503, "storage_full", NULL,
                           "the storage of this server takes no file");
    }
    if (u->fd < 0) {
        mbd_upload_free(u);
        return false;
    }
    *ret = u;
    return true;
}

void mbd_upload_free(struct mbd_upload *u)
{
    if (!u) {
        return;
    }
    if (u->processor) {
        (void) MHD_destroy_post_processor(u->processor);
    }
    if (u->fd >= 0) {
        (void) close(u->fd);
        if (!u->kept) {
            (void) unlink(u->path);
        }
    }
    free(u);
}

bool mbd_upload_feed(struct mbd_upload *u, const char *at, size_t n, struct mb_wire_error *err)
{
    if (MHD_post_process(u->processor, at, n) != MHD_YES && !u->failed) {
        (void) refuse(u, 400, NULL, NULL, "the body is not a form as its header says");
    }
    *err = u->error;
    return !u->failed;
}

bool mbd_upload_end(struct mbd_upload *u, struct mb_wire_error *err)
{
    bool whole = MHD_destroy_post_processor(u->processor) == MHD_YES;
    u->processor = NULL;
    if (!u->failed && !whole) {
        (void) refuse(u, 400, NULL, NULL, "the form has no end");
    } else if (!u->failed && !u->has_file) {
        (void) refuse(u, 400, NULL, "file", "'file' is required");
    }
    *err = u->error;
    return !u->failed;
}

const char *mbd_upload_path(const struct mbd_upload *u)
{
    return u->path;
}

const char *mbd_upload_name(const struct mbd_upload *u)
{
    return u->name;
}

uint64_t mbd_upload_bytes(const struct mbd_upload *u)
{
    return u->bytes;
}

const char *mbd_upload_field(const struct mbd_upload *u, const char *name)
{
    for (size_t i = 0; i < FIELDS; i++) {
        if (strcmp(names[i], name) == 0 && u->has_field[i]) {
            return u->field[i];
        }
    }
    return NULL;
}

void mbd_upload_keep(struct mbd_upload *u)
{
    u->kept = true;
}
