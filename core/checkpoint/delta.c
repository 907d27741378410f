/* Reading and applying a delta. Nothing in it is trusted. */
#include "core/checkpoint/delta.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "core/base/checked.h"
#include "core/base/checksum.h"
#include "core/base/file.h"
#include "core/checkpoint/delta_format.h"
#include "core/checkpoint/reader_map.h"

struct mb_delta {
    struct mb_file_map map;
    const uint8_t *at;
    size_t n;
    struct mb_delta_entry *entries;
    struct mb_delta_info info;
};

static enum mb_status wrong(const char *field, struct mb_error *err)
{
    return mb_fail(err, MB_E_FORMAT, 0, "delta: header: %s is wrong", field);
}

static enum mb_status check_header(const struct mb_delta_header *h, size_t n,
                                   struct mb_error *err)
{
    if (memcmp(h->magic, MB_DELTA_MAGIC, sizeof h->magic) != 0) {
        return mb_fail(err, MB_E_FORMAT, 0, "delta: header: magic: this is no delta");
    }
    if (h->version != MB_DELTA_VERSION) {
        return mb_fail(err, MB_E_UNSUPPORTED, 0, "delta: header: version: %u, known is %u",
                       (unsigned) h->version, MB_DELTA_VERSION);
    }
    if (h->header_checksum !=
        mb_checksum(h, offsetof(struct mb_delta_header, header_checksum))) {
        return wrong("header_checksum", err);
    }
    if (h->header_bytes != sizeof *h) {
        return wrong("header_bytes", err);
    }
    if (h->file_bytes != n) {
        return wrong("file_bytes", err);
    }
    if (h->piece_bytes != MB_DELTA_PIECE) {
        return wrong("piece_bytes", err);
    }
    if (h->base_bytes > SIZE_MAX / 2 || h->target_bytes > SIZE_MAX / 2) {
        return wrong(h->base_bytes > SIZE_MAX / 2 ? "base_bytes" : "target_bytes", err);
    }
    for (size_t i = 0; i < sizeof h->reserved; i++) {
        if (h->reserved[i] != 0) {
            return wrong("reserved", err);
        }
    }
    uint64_t table = (uint64_t) h->n_pieces * sizeof(struct mb_delta_entry);
    return mb_extent_fits(sizeof *h, table, n) ? MB_OK : wrong("n_pieces", err);
}

static size_t whole_of(const struct mb_delta_info *i)
{
    return (size_t) (i->base_bytes > i->target_bytes ? i->base_bytes : i->target_bytes);
}

/* Pieces ascend, lie in the files, and their bytes in the delta. */
static enum mb_status check_entries(const struct mb_delta *d, struct mb_error *err)
{
    size_t n_whole = mb_div_up(whole_of(&d->info), MB_DELTA_PIECE);
    for (uint32_t i = 0; i < d->info.n_pieces; i++) {
        const struct mb_delta_entry *e = &d->entries[i];
        if (e->index >= n_whole || (i > 0 && e->index <= d->entries[i - 1].index)) {
            return mb_fail(err, MB_E_FORMAT, 0, "delta: piece %u: index: %llu", (unsigned) i,
                           (unsigned long long) e->index);
        }
        if (e->bytes == 0 || !mb_extent_fits(e->offset, e->bytes, d->n)) {
            return mb_fail(err, MB_E_FORMAT, 0,
                           "delta: piece %u: offset and bytes go beyond "
                           "the file",
                           (unsigned) i);
        }
        if (e->reserved != 0) {
            return mb_fail(err, MB_E_FORMAT, 0, "delta: piece %u: reserved", (unsigned) i);
        }
    }
    return MB_OK;
}

static enum mb_status read_structure(struct mb_delta *d, struct mb_error *err)
{
    struct mb_delta_header h;
    if (d->n < sizeof h) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "delta: header: %zu bytes in the file, it alone has "
                       "%zu",
                       d->n, sizeof h);
    }
    memcpy(&h, d->at, sizeof h);
    enum mb_status st = check_header(&h, d->n, err);
    if (st != MB_OK) {
        return st;
    }
    size_t table = h.n_pieces * sizeof *d->entries;
    d->entries = malloc(table > 0 ? table : 1);
    if (!d->entries) {
        return mb_fail(err, MB_E_NOMEM, 0, "delta: no memory for its table");
    }
    memcpy(d->entries, d->at + sizeof h, table);
    if (mb_checksum(d->entries, table) != h.table_checksum) {
        return wrong("table_checksum", err);
    }
    d->info = (struct mb_delta_info) {
        .base_digest = h.base_digest,
        .target_digest = h.target_digest,
        .base_bytes = h.base_bytes,
        .target_bytes = h.target_bytes,
        .bytes = d->n,
        .n_signs = h.n_signs,
        .n_flips = h.n_flips,
        .n_others = h.n_others,
        .n_pieces = h.n_pieces,
    };
    return check_entries(d, err);
}

static enum mb_status finish_open(struct mb_delta *d, struct mb_delta **ret,
                                  struct mb_error *err)
{
    enum mb_status st = read_structure(d, err);
    if (st != MB_OK) {
        mb_delta_free(d);
        return st;
    }
    *ret = d;
    return MB_OK;
}

enum mb_status mb_delta_open(const char *path, struct mb_delta **ret, struct mb_error *err)
{
    struct mb_delta *d = calloc(1, sizeof *d);
    if (!d) {
        return mb_fail(err, MB_E_NOMEM, 0, "delta: no memory to open '%s'", path);
    }
    enum mb_status st = mb_file_map(path, &d->map, err);
    if (st != MB_OK) {
        free(d);
        return st;
    }
    d->at = d->map.at;
    d->n = d->map.n;
    return finish_open(d, ret, err);
}

enum mb_status mb_delta_of_memory(const void *at, size_t n, struct mb_delta **ret,
                                  struct mb_error *err)
{
    struct mb_delta *d = calloc(1, sizeof *d);
    if (!d) {
        return mb_fail(err, MB_E_NOMEM, 0, "delta: no memory to open it");
    }
    d->at = at;
    d->n = n;
    return finish_open(d, ret, err);
}

void mb_delta_free(struct mb_delta *d)
{
    if (d) {
        mb_file_unmap(&d->map);
        free(d->entries);
        free(d);
    }
}

const struct mb_delta_info *mb_delta_info(const struct mb_delta *d)
{
    return &d->info;
}

/* Which end a checkpoint is, and so what the other one must be. */
struct direction {
    uint64_t from_bytes, to_bytes, to_digest;
};

static enum mb_status find_direction(const struct mb_delta *d, const struct mb_checkpoint *from,
                                     struct direction *ret, struct mb_error *err)
{
    const struct mb_delta_info *i = &d->info;
    uint64_t digest = mb_checkpoint_digest(from), bytes = mb_checkpoint_bytes(from);
    if (digest == i->base_digest && bytes == i->base_bytes) {
        *ret = (struct direction) { bytes, i->target_bytes, i->target_digest };
        return MB_OK;
    }
    if (digest == i->target_digest && bytes == i->target_bytes) {
        *ret = (struct direction) { bytes, i->base_bytes, i->base_digest };
        return MB_OK;
    }
    return mb_fail(err, MB_E_INVALID, 0,
                   "the delta joins %016llx and %016llx; this checkpoint is %016llx",
                   (unsigned long long) i->base_digest, (unsigned long long) i->target_digest,
                   (unsigned long long) digest);
}

/* What is needed to unpack pieces. */
struct unpacker {
    ZSTD_DCtx *zstd;
    uint8_t *piece; /* [MB_DELTA_PIECE] */
};

static enum mb_status unpacker_init(struct unpacker *u, struct mb_error *err)
{
    u->zstd = ZSTD_createDCtx();
    u->piece = malloc(MB_DELTA_PIECE);
    return u->zstd && u->piece ? MB_OK
                               : mb_fail(err, MB_E_NOMEM, 0, "delta: no memory to apply it");
}

static void unpacker_fini(struct unpacker *u)
{
    ZSTD_freeDCtx(u->zstd);
    free(u->piece);
}

/* The i-th piece's exclusive or, exactly as long as the piece. */
static enum mb_status unpack(struct unpacker *u, const struct mb_delta *d, uint32_t i,
                             size_t *ret_n, struct mb_error *err)
{
    const struct mb_delta_entry *e = &d->entries[i];
    const uint8_t *packed = d->at + e->offset;
    size_t left = whole_of(&d->info) - (size_t) e->index * MB_DELTA_PIECE;
    *ret_n = left < MB_DELTA_PIECE ? left : MB_DELTA_PIECE;
    if (mb_checksum(packed, e->bytes) != e->checksum) {
        return mb_fail(err, MB_E_FORMAT, 0, "delta: piece %u: checksum: it is damaged",
                       (unsigned) i);
    }
    size_t k = ZSTD_decompressDCtx(u->zstd, u->piece, *ret_n, packed, e->bytes);
    if (ZSTD_isError(k) || k != *ret_n) {
        return mb_fail(err, MB_E_FORMAT, 0, "delta: piece %u: %s", (unsigned) i,
                       ZSTD_isError(k) ? ZSTD_getErrorName(k) : "it is too short");
    }
    return MB_OK;
}

/* One piece of the other end: what from has there, or zeros, with the i-th difference. */
static enum mb_status write_piece(struct unpacker *u, const struct mb_delta *d, size_t index,
                                  uint32_t *next, const struct mb_checkpoint *from, size_t n_to,
                                  struct mb_file_writer *w, struct mb_error *err)
{
    size_t at = index * MB_DELTA_PIECE, n = MB_DELTA_PIECE;
    const uint8_t *source = mb_checkpoint_memory(from);
    size_t n_from = (size_t) mb_checkpoint_bytes(from);
    if (*next < d->info.n_pieces && d->entries[*next].index == index) {
        enum mb_status st = unpack(u, d, (*next)++, &n, err);
        if (st != MB_OK) {
            return st;
        }
    } else {
        memset(u->piece, 0, n);
    }
    n = n_to - at < n ? n_to - at : n;
    for (size_t i = 0; i < n && at + i < n_from; i++) {
        u->piece[i] ^= source[at + i];
    }
    return mb_file_writer_put(w, u->piece, n, err);
}

/* Nothing gets a name before it is known to be what was promised. */
static enum mb_status check_written(const char *path, const struct direction *to,
                                    struct mb_error *err)
{
    struct mb_checkpoint *c;
    enum mb_status st = mb_checkpoint_open(path, &c, err);
    if (st == MB_OK) {
        st = mb_checkpoint_digest(c) == to->to_digest
                 ? mb_checkpoint_verify(c, NULL, err)
                 : mb_fail(err, MB_E_FORMAT, 0, "delta: what it makes is not %016llx",
                           (unsigned long long) to->to_digest);
        mb_checkpoint_free(c);
    }
    return st;
}

enum mb_status mb_delta_write(const struct mb_delta *d, const struct mb_checkpoint *from,
                              const char *path, const struct mb_progress *p,
                              struct mb_error *err)
{
    struct direction to = { 0 };
    struct unpacker u = { 0 };
    struct mb_file_writer *w = NULL;
    enum mb_status st = find_direction(d, from, &to, err);
    if (st == MB_OK) {
        st = unpacker_init(&u, err);
    }
    if (st == MB_OK) {
        st = mb_file_writer_open(path, &w, err);
    }
    size_t n = mb_div_up((size_t) to.to_bytes, MB_DELTA_PIECE);
    uint32_t next = 0;
    for (size_t i = 0; i < n && st == MB_OK; i++) {
        st = write_piece(&u, d, i, &next, from, (size_t) to.to_bytes, w, err);
        if (st == MB_OK && !mb_progress_report(p, "apply", i + 1, n)) {
            st = mb_fail(err, MB_E_CANCELLED, 0, "delta: stopped");
        }
    }
    const char *aside = NULL;
    if (st == MB_OK) {
        st = mb_file_writer_flush(w, &aside, err);
    }
    if (st == MB_OK) {
        st = check_written(aside, &to, err);
    }
    if (st == MB_OK) {
        st = mb_file_writer_commit(w, err);
    } else {
        mb_file_writer_abort(w);
    }
    unpacker_fini(&u);
    return st;
}

/* Room for the longer of both files, the file privately in front, zeros behind. */
static enum mb_status map_private(int fd, const char *name, size_t n_file, size_t n_whole,
                                  struct mb_file_map *ret, struct mb_error *err)
{
    struct stat sb;
    if (fstat(fd, &sb) != 0 || !S_ISREG(sb.st_mode) || (uint64_t) sb.st_size != n_file) {
        return mb_fail(err, MB_E_INVALID, 0, "'%s' is not the checkpoint that was opened",
                       name);
    }
    void *at = mmap(NULL, n_whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED || mmap(at, n_file, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
                                 fd, 0) == MAP_FAILED) {
        enum mb_status st = mb_fail(err, MB_E_IO, errno, "map '%s' privately", name);
        if (at != MAP_FAILED) {
            (void) munmap(at, n_whole);
        }
        return st;
    }
    *ret = (struct mb_file_map) { at, n_whole };
    return MB_OK;
}

/* A write makes a page private, so only those are written that change. */
static uint64_t apply_piece(uint8_t *to, const uint8_t *piece, size_t n, size_t page)
{
    uint64_t bytes = 0;
    for (size_t at = 0; at < n; at += page) {
        size_t k = n - at < page ? n - at : page;
        uint8_t any = 0;
        for (size_t i = at; i < at + k; i++) {
            any |= piece[i];
        }
        for (size_t i = at; any && i < at + k; i++) {
            to[i] ^= piece[i];
        }
        bytes += any ? page : 0;
    }
    return bytes;
}

static enum mb_status apply_all(const struct mb_delta *d, uint8_t *at, uint64_t *ret_bytes,
                                struct mb_error *err)
{
    size_t page = (size_t) sysconf(_SC_PAGESIZE);
    struct unpacker u = { 0 };
    enum mb_status st = unpacker_init(&u, err);
    *ret_bytes = 0;
    for (uint32_t i = 0; i < d->info.n_pieces && st == MB_OK; i++) {
        size_t n;
        st = unpack(&u, d, i, &n, err);
        if (st == MB_OK) {
            *ret_bytes +=
                apply_piece(at + d->entries[i].index * MB_DELTA_PIECE, u.piece, n, page);
        }
    }
    unpacker_fini(&u);
    return st;
}

/* The private mapping with the differences applied, for reading only. */
static enum mb_status map_other(const struct mb_delta *d, int fd, const char *name,
                                const struct direction *to, struct mb_file_map *ret,
                                uint64_t *ret_private_bytes, struct mb_error *err)
{
    struct mb_file_map map = { 0 };
    enum mb_status st =
        map_private(fd, name, (size_t) to->from_bytes, whole_of(&d->info), &map, err);
    if (st == MB_OK) {
        st = apply_all(d, (uint8_t *) (uintptr_t) map.at, ret_private_bytes, err);
    }
    if (st == MB_OK && mprotect((void *) (uintptr_t) map.at, map.n, PROT_READ) != 0) {
        st = mb_fail(err, MB_E_IO, errno, "protect the mapping of '%s'", name);
    }
    if (st != MB_OK) {
        mb_file_unmap(&map);
        return st;
    }
    *ret = map;
    return MB_OK;
}

/* Is it what was promised, and a version of the same model (S4)? */
static enum mb_status check_mapped(const struct mb_checkpoint *from,
                                   const struct mb_checkpoint *c, const struct direction *to,
                                   struct mb_error *err)
{
    if (mb_checkpoint_digest(c) != to->to_digest) { /* the file was written to in between */
        return mb_fail(err, MB_E_FORMAT, 0, "delta: what it makes is not %016llx",
                       (unsigned long long) to->to_digest);
    }
    return mb_delta_check_pair(from, c, err);
}

static enum mb_status open_other(const struct mb_delta *d, int fd, const char *name,
                                 const struct mb_checkpoint *from, struct mb_checkpoint **ret,
                                 uint64_t *ret_private_bytes, struct mb_error *err)
{
    struct mb_file_map map = { 0 };
    struct mb_checkpoint *c = NULL;
    struct direction to = { 0 };
    enum mb_status st = find_direction(d, from, &to, err);
    if (st == MB_OK) {
        st = map_other(d, fd, name, &to, &map, ret_private_bytes, err);
    }
    if (st != MB_OK) {
        return st;
    }
    st = mb_checkpoint_of_map(map, (size_t) to.to_bytes, &c, err);
    if (st != MB_OK) {
        mb_file_unmap(&map);
        return st;
    }
    st = check_mapped(from, c, &to, err);
    if (st != MB_OK) {
        mb_checkpoint_free(c);
        return st;
    }
    *ret = c;
    return MB_OK;
}

enum mb_status mb_delta_map_fd(const struct mb_delta *d, int fd, const char *name,
                               struct mb_checkpoint **ret, uint64_t *ret_private_bytes,
                               struct mb_error *err)
{
    struct mb_checkpoint *from = NULL;
    uint64_t private_bytes = 0;
    enum mb_status st = mb_checkpoint_open_fd(fd, name, &from, err);
    if (st == MB_OK) {
        st = open_other(d, fd, name, from, ret, &private_bytes, err);
        mb_checkpoint_free(from);
    }
    if (st == MB_OK && ret_private_bytes) {
        *ret_private_bytes = private_bytes;
    }
    return st;
}

enum mb_status mb_delta_map(const struct mb_delta *d, const char *path,
                            struct mb_checkpoint **ret, uint64_t *ret_private_bytes,
                            struct mb_error *err)
{
    int fd;
    enum mb_status st = mb_file_open(path, &fd, err);
    if (st != MB_OK) {
        return st;
    }
    st = mb_delta_map_fd(d, fd, path, ret, ret_private_bytes, err);
    (void) close(fd);
    return st;
}
