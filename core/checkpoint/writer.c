#include "core/checkpoint/writer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checksum.h"
#include "core/base/file.h"
#include "core/checkpoint/format.h"
#include "core/checkpoint/reader.h"
#include "core/checkpoint/sections.h"

struct mb_checkpoint_writer {
    struct mb_file_writer *file;
    struct mb_shape shape;
    struct mb_format_entry *entries; /* [sections_max] */
    size_t n_sections, sections_max;
};

static const uint8_t zeros[MB_FORMAT_ALIGN];

/* The header and the table's place, to be overwritten at commit. */
static enum mb_status keep_place(struct mb_checkpoint_writer *w, struct mb_error *err)
{
    size_t n = sizeof(struct mb_format_header) + w->sections_max * sizeof *w->entries;
    assert(n % sizeof zeros == 0);
    enum mb_status st = MB_OK;
    for (size_t done = 0; done < n && st == MB_OK; done += sizeof zeros) {
        st = mb_file_writer_put(w->file, zeros, sizeof zeros, err);
    }
    return st;
}

enum mb_status mb_checkpoint_writer_open(const char *path, const struct mb_shape *shape,
                                         size_t sections_max, struct mb_checkpoint_writer **ret,
                                         struct mb_error *err)
{
    enum mb_status st = mb_shape_check(shape, err);
    if (st != MB_OK) {
        return st;
    }
    if (sections_max < 1 || sections_max > MB_FORMAT_SECTIONS_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "checkpoint: sections_max: %zu is not in 1..%u",
                       sections_max, MB_FORMAT_SECTIONS_MAX);
    }
    struct mb_checkpoint_writer *w = calloc(1, sizeof *w);
    if (!w || !(w->entries = calloc(sections_max, sizeof *w->entries))) {
        free(w);
        return mb_fail(err, MB_E_NOMEM, 0, "checkpoint: no memory to write '%s'", path);
    }
    w->shape = *shape;
    w->sections_max = sections_max;
    st = mb_file_writer_open(path, &w->file, err);
    if (st == MB_OK) {
        st = keep_place(w, err);
    }
    if (st != MB_OK) {
        mb_checkpoint_writer_abort(w);
        return st;
    }
    *ret = w;
    return MB_OK;
}

/* Bytes of a section that follow one another in memory. */
struct piece {
    const void *at;
    size_t n;
};

static enum mb_status put_pieces(struct mb_checkpoint_writer *w, struct mb_format_entry *e,
                                 const struct piece *pieces, size_t n_pieces,
                                 struct mb_error *err)
{
    struct mb_checksum_state *sum = mb_checksum_new();
    if (!sum) {
        return mb_fail(err, MB_E_NOMEM, 0, "checkpoint: no memory for a checksum");
    }
    enum mb_status st = mb_file_writer_pad(w->file, MB_FORMAT_ALIGN, err);
    e->offset = mb_file_writer_offset(w->file);
    for (size_t i = 0; i < n_pieces && st == MB_OK; i++) {
        mb_checksum_update(sum, pieces[i].at, pieces[i].n);
        st = mb_file_writer_put(w->file, pieces[i].at, pieces[i].n, err);
    }
    e->checksum = mb_checksum_digest(sum);
    mb_checksum_free(sum);
    return st;
}

/* e has everything but name, bytes, offset and checksum. */
static enum mb_status add(struct mb_checkpoint_writer *w, const char *name,
                          struct mb_format_entry e, const struct piece *pieces, size_t n_pieces,
                          struct mb_error *err)
{
    size_t n = strlen(name);
    if (n >= sizeof e.name) {
        return mb_fail(err, MB_E_INVALID, 0, "checkpoint: section '%.60s...': name: too long",
                       name);
    }
    memcpy(e.name, name, n);
    for (size_t i = 0; i < n_pieces; i++) {
        e.bytes += pieces[i].n;
    }
    struct mb_error why = { 0 };
    if (mb_sections_check_entry(&w->shape, &e, &why) != MB_OK) {
        return mb_fail(err, MB_E_INVALID, 0, "checkpoint: section '%s': %.300s", name,
                       why.what);
    }
    for (size_t i = 0; i < w->n_sections; i++) {
        if (strcmp(w->entries[i].name, name) == 0) {
            return mb_fail(err, MB_E_INVALID, 0, "checkpoint: section '%s' is added twice",
                           name);
        }
    }
    if (w->n_sections == w->sections_max) {
        return mb_fail(err, MB_E_LIMIT, 0, "checkpoint: more sections than the %zu foreseen",
                       w->sections_max);
    }
    enum mb_status st = put_pieces(w, &e, pieces, n_pieces, err);
    if (st == MB_OK) {
        w->entries[w->n_sections++] = e;
    }
    return st;
}

enum mb_status mb_checkpoint_add_bytes(struct mb_checkpoint_writer *w, const char *name,
                                       const void *at, size_t n, struct mb_error *err)
{
    struct mb_format_entry e = { .kind = MB_SECTION_BYTES };
    return add(w, name, e, &(struct piece) { at, n }, 1, err);
}

/* A vector: a bound on n keeps it a uint32_t and the product in size. */
static enum mb_status add_vector(struct mb_checkpoint_writer *w, const char *name,
                                 enum mb_section_kind kind, const void *at, size_t n,
                                 size_t element, struct mb_error *err)
{
    if (n > MB_COLS_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "checkpoint: section '%s': %zu elements exceed %u",
                       name, n, MB_COLS_MAX);
    }
    struct mb_format_entry e = { .kind = kind, .n_rows = 1, .n_cols = (uint32_t) n };
    return add(w, name, e, &(struct piece) { at, n * element }, 1, err);
}

enum mb_status mb_checkpoint_add_f64(struct mb_checkpoint_writer *w, const char *name,
                                     const double *at, size_t n, struct mb_error *err)
{
    return add_vector(w, name, MB_SECTION_F64, at, n, sizeof *at, err);
}

enum mb_status mb_checkpoint_add_f32(struct mb_checkpoint_writer *w, const char *name,
                                     const float *at, size_t n, struct mb_error *err)
{
    return add_vector(w, name, MB_SECTION_F32, at, n, sizeof *at, err);
}

enum mb_status mb_checkpoint_add_f16(struct mb_checkpoint_writer *w, const char *name,
                                     const uint16_t *at, uint32_t n_rows, uint32_t n_cols,
                                     struct mb_error *err)
{
    struct mb_format_entry e = { .kind = MB_SECTION_F16, .n_rows = n_rows, .n_cols = n_cols };
    size_t n = (size_t) n_rows * n_cols * sizeof *at;
    return add(w, name, e, &(struct piece) { at, n }, 1, err);
}

enum mb_status mb_checkpoint_add_bool(struct mb_checkpoint_writer *w, const char *name,
                                      const struct mb_bool_matrix *m, struct mb_error *err)
{
    const struct mb_bool_shape *s = &m->shape;
    enum mb_status st = mb_bool_shape_check(s, err);
    if (st != MB_OK) {
        return st;
    }
    struct mb_format_entry e = {
        .kind = MB_SECTION_BOOL,
        .n_rows = s->n_rows,
        .n_cols = s->n_cols,
        .group = s->group,
        .n_kernels = s->n_kernels,
        .scale_all = m->scale_all,
    };
    const struct piece pieces[] = {
        { m->bits, mb_bool_bits_bytes(s) },
        { m->scale, mb_bool_scale_bytes(s) },
        { zeros, mb_format_coef_at(s) - mb_format_scale_at(s) - mb_bool_scale_bytes(s) },
        { m->coef, mb_bool_coef_bytes(s) },
    };
    return add(w, name, e, pieces, sizeof pieces / sizeof pieces[0], err);
}

/* Everything is there? */
static enum mb_status check_complete(const struct mb_checkpoint_writer *w, struct mb_error *err)
{
    uint32_t *order = calloc(w->sections_max, sizeof *order);
    if (!order) {
        return mb_fail(err, MB_E_NOMEM, 0, "checkpoint: no memory for the table");
    }
    mb_sections_order(w->entries, w->n_sections, order);
    enum mb_status st = mb_sections_check_all(&w->shape, w->entries, order, w->n_sections, err);
    free(order);
    return st == MB_OK ? MB_OK : MB_E_INVALID;
}

static struct mb_format_header make_header(const struct mb_checkpoint_writer *w)
{
    const struct mb_shape *s = &w->shape;
    struct mb_format_header h = {
        .version = MB_FORMAT_VERSION,
        .header_bytes = sizeof h,
        .file_bytes = mb_file_writer_offset(w->file),
        .n_sections = (uint32_t) w->n_sections,
        .entry_bytes = sizeof *w->entries,
        .table_offset = sizeof h,
        .table_checksum = mb_checksum(w->entries, w->n_sections * sizeof *w->entries),
        .n_layers = s->n_layers,
        .width = s->width,
        .n_heads = s->n_heads,
        .n_kv_heads = s->n_kv_heads,
        .head_width = s->head_width,
        .ffn_width = s->ffn_width,
        .n_vocab = s->n_vocab,
        .context = s->context,
        .window = s->window,
        .n_planes = s->n_planes,
        .norm_eps = s->norm_eps,
        .tied_head = s->tied_head,
    };
    memcpy(h.magic, MB_FORMAT_MAGIC, sizeof h.magic);
    h.header_checksum = mb_checksum(&h, offsetof(struct mb_format_header, header_checksum));
    return h;
}

enum mb_status mb_checkpoint_writer_commit(struct mb_checkpoint_writer *w, struct mb_error *err)
{
    enum mb_status st = check_complete(w, err);
    if (st == MB_OK) {
        struct mb_format_header h = make_header(w);
        st = mb_file_writer_patch(w->file, h.table_offset, w->entries,
                                  w->n_sections * sizeof *w->entries, err);
        if (st == MB_OK) {
            st = mb_file_writer_patch(w->file, 0, &h, sizeof h, err);
        }
    }
    if (st == MB_OK) {
        st = mb_file_writer_commit(w->file, err);
        w->file = NULL;
    }
    mb_checkpoint_writer_abort(w);
    return st;
}

void mb_checkpoint_writer_abort(struct mb_checkpoint_writer *w)
{
    if (!w) {
        return;
    }
    mb_file_writer_abort(w->file);
    free(w->entries);
    free(w);
}
