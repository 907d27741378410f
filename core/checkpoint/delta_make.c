/* Making a delta: compare, count, compress. */
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "core/base/checked.h"
#include "core/base/checksum.h"
#include "core/base/file.h"
#include "core/checkpoint/delta.h"
#include "core/checkpoint/delta_format.h"

enum { ZSTD_LEVEL = 3 }; /* higher ones gain little on flips, which are noise, and cost much */

static enum mb_status differ(const char *what, struct mb_error *err)
{
    return mb_fail(err, MB_E_INVALID, 0,
                   "a delta joins versions of one model; these two differ in %s", what);
}

static bool is_named(const struct mb_section *s, const char *name)
{
    return strcmp(s->name, name) == 0;
}

/* Same place and same size, or the provenance, behind which nothing comes. */
static enum mb_status check_section(const struct mb_checkpoint *base,
                                    const struct mb_checkpoint *target, size_t i,
                                    struct mb_error *err)
{
    const struct mb_section *a = mb_checkpoint_section(base, i);
    const struct mb_section *b = mb_checkpoint_section(target, i);
    bool last = i + 1 == mb_checkpoint_sections(base);
    if (strcmp(a->name, b->name) != 0 || a->kind != b->kind || a->offset != b->offset) {
        return differ("the order of sections", err);
    }
    if (is_named(a, "provenance") && last) {
        return MB_OK;
    }
    if (a->bytes != b->bytes || memcmp(&a->boolean, &b->boolean, sizeof a->boolean) != 0) {
        return mb_fail(err, MB_E_INVALID, 0,
                       "a delta joins versions of one model; section '%s' differs in size",
                       a->name);
    }
    if ((is_named(a, "tokenizer") || is_named(a, "chat_template")) &&
        memcmp(mb_checkpoint_data(base, a), mb_checkpoint_data(target, b), a->bytes) != 0) {
        return differ(a->name, err);
    }
    return MB_OK;
}

enum mb_status mb_delta_check_pair(const struct mb_checkpoint *base,
                                   const struct mb_checkpoint *target, struct mb_error *err)
{
    if (memcmp(mb_checkpoint_shape(base), mb_checkpoint_shape(target),
               sizeof(struct mb_shape)) != 0) {
        return differ("shape", err);
    }
    if (mb_checkpoint_sections(base) != mb_checkpoint_sections(target)) {
        return differ("the number of sections", err);
    }
    enum mb_status st = MB_OK;
    for (size_t i = 0; i < mb_checkpoint_sections(base) && st == MB_OK; i++) {
        st = check_section(base, target, i, err);
    }
    return st;
}

static uint64_t count_flips(const void *a, const void *b, size_t n) /* n a multiple of 8 */
{
    uint64_t flips = 0;
    for (size_t i = 0; i < n; i += sizeof(uint64_t)) {
        uint64_t x, y;
        memcpy(&x, (const uint8_t *) a + i, sizeof x);
        memcpy(&y, (const uint8_t *) b + i, sizeof y);
        flips += (uint64_t) __builtin_popcountll(x ^ y);
    }
    return flips;
}

static uint64_t count_bytes(const uint8_t *a, const uint8_t *b, size_t n)
{
    uint64_t others = 0;
    for (size_t i = 0; i < n; i++) {
        others += a[i] != b[i];
    }
    return others;
}

static void count_section(const struct mb_checkpoint *base, const struct mb_checkpoint *target,
                          size_t i, struct mb_delta_header *h)
{
    const struct mb_section *a = mb_checkpoint_section(base, i);
    const uint8_t *x = mb_checkpoint_data(base, a);
    const uint8_t *y = mb_checkpoint_data(target, mb_checkpoint_section(target, i));
    size_t bits = 0;
    if (a->kind == MB_SECTION_BOOL) {
        bits = mb_bool_bits_bytes(&a->boolean);
        h->n_signs += (uint64_t) a->boolean.n_rows * a->boolean.n_cols * a->boolean.n_kernels;
        h->n_flips += count_flips(x, y, bits);
    }
    if (!is_named(a, "provenance")) {
        h->n_others += count_bytes(x + bits, y + bits, a->bytes - bits);
    }
}

/* The exclusive or of a piece, the shorter file going on in zeros. false: it is zero. */
static bool piece_xor(const struct mb_checkpoint *a, const struct mb_checkpoint *b, size_t at,
                      size_t n, uint8_t *ret)
{
    memset(ret, 0, n);
    const struct mb_checkpoint *files[] = { a, b };
    for (size_t f = 0; f < 2; f++) {
        const uint8_t *from = mb_checkpoint_memory(files[f]);
        size_t end = mb_checkpoint_bytes(files[f]);
        for (size_t i = at; i < at + n && i < end; i++) {
            ret[i - at] ^= from[i];
        }
    }
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++) {
        any |= ret[i];
    }
    return any != 0;
}

struct maker {
    const struct mb_checkpoint *base, *target;
    struct mb_file_writer *file;
    struct mb_delta_entry *entries;
    struct mb_delta_header header;
    uint8_t *piece, *packed;
    size_t packed_max, whole; /* whole: of the longer file */
    ZSTD_CCtx *zstd;
};

static enum mb_status put_piece(struct maker *m, size_t index, struct mb_error *err)
{
    size_t at = index * MB_DELTA_PIECE;
    size_t n = m->whole - at < MB_DELTA_PIECE ? m->whole - at : MB_DELTA_PIECE;
    if (!piece_xor(m->base, m->target, at, n, m->piece)) {
        return MB_OK;
    }
    size_t k = ZSTD_compressCCtx(m->zstd, m->packed, m->packed_max, m->piece, n, ZSTD_LEVEL);
    if (ZSTD_isError(k)) {
        return mb_fail(err, MB_E_NOMEM, 0, "delta: compress: %s", ZSTD_getErrorName(k));
    }
    m->entries[m->header.n_pieces++] = (struct mb_delta_entry) {
        .index = index,
        .offset = mb_file_writer_offset(m->file),
        .bytes = (uint32_t) k,
        .checksum = mb_checksum(m->packed, k),
    };
    return mb_file_writer_put(m->file, m->packed, k, err);
}

/* How many pieces differ is known only at the end; the table's place has room for all. */
static enum mb_status put_all(struct maker *m, const struct mb_progress *p,
                              struct mb_error *err)
{
    size_t n = mb_div_up(m->whole, MB_DELTA_PIECE);
    enum mb_status st = mb_file_writer_put(m->file, &m->header, sizeof m->header, err);
    if (st == MB_OK) {
        st = mb_file_writer_put(m->file, m->entries, n * sizeof *m->entries, err);
    }
    for (size_t i = 0; i < n && st == MB_OK; i++) {
        st = put_piece(m, i, err);
        if (st == MB_OK && !mb_progress_report(p, "delta", i + 1, n)) {
            st = mb_fail(err, MB_E_CANCELLED, 0, "delta: stopped");
        }
    }
    return st;
}

static enum mb_status finish(struct maker *m, struct mb_error *err)
{
    struct mb_delta_header *h = &m->header;
    memcpy(h->magic, MB_DELTA_MAGIC, sizeof h->magic);
    h->version = MB_DELTA_VERSION;
    h->header_bytes = sizeof *h;
    h->file_bytes = mb_file_writer_offset(m->file);
    h->base_digest = mb_checkpoint_digest(m->base);
    h->target_digest = mb_checkpoint_digest(m->target);
    h->base_bytes = mb_checkpoint_bytes(m->base);
    h->target_bytes = mb_checkpoint_bytes(m->target);
    h->piece_bytes = MB_DELTA_PIECE;
    for (size_t i = 0; i < mb_checkpoint_sections(m->base); i++) {
        count_section(m->base, m->target, i, h);
    }
    size_t table = h->n_pieces * sizeof *m->entries;
    h->table_checksum = mb_checksum(m->entries, table);
    h->header_checksum = mb_checksum(h, offsetof(struct mb_delta_header, header_checksum));
    enum mb_status st = mb_file_writer_patch(m->file, 0, h, sizeof *h, err);
    return st == MB_OK ? mb_file_writer_patch(m->file, sizeof *h, m->entries, table, err) : st;
}

static enum mb_status open_maker(struct maker *m, const char *path, struct mb_error *err)
{
    m->packed_max = ZSTD_compressBound(MB_DELTA_PIECE);
    m->piece = malloc(MB_DELTA_PIECE);
    m->packed = malloc(m->packed_max);
    m->entries = calloc(mb_div_up(m->whole, MB_DELTA_PIECE), sizeof *m->entries);
    m->zstd = ZSTD_createCCtx();
    if (!m->piece || !m->packed || !m->entries || !m->zstd) {
        return mb_fail(err, MB_E_NOMEM, 0, "delta: no memory to write '%s'", path);
    }
    return mb_file_writer_open(path, &m->file, err);
}

enum mb_status mb_delta_make(const struct mb_checkpoint *base,
                             const struct mb_checkpoint *target, const char *path,
                             const struct mb_progress *p, struct mb_error *err)
{
    enum mb_status st = mb_delta_check_pair(base, target, err);
    if (st != MB_OK) {
        return st;
    }
    size_t a = mb_checkpoint_bytes(base), b = mb_checkpoint_bytes(target);
    struct maker m = { .base = base, .target = target, .whole = a > b ? a : b };
    st = open_maker(&m, path, err);
    if (st == MB_OK) {
        st = put_all(&m, p, err);
    }
    if (st == MB_OK) {
        st = finish(&m, err);
    }
    if (st == MB_OK) {
        st = mb_file_writer_commit(m.file, err);
    } else {
        mb_file_writer_abort(m.file);
    }
    ZSTD_freeCCtx(m.zstd);
    free(m.entries);
    free(m.packed);
    free(m.piece);
    return st;
}
