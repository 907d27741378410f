#include "core/checkpoint/reader.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/checked.h"
#include "core/base/checksum.h"
#include "core/base/file.h"
#include "core/checkpoint/format.h"
#include "core/checkpoint/reader_map.h"
#include "core/checkpoint/sections.h"

struct mb_checkpoint {
    struct mb_file_map map; /* empty when the bytes are someone else's */
    const uint8_t *at;
    size_t n;
    /* Copies: what was checked is what is used, whatever becomes of the file. */
    struct mb_format_header header;
    struct mb_format_entry *entries; /* [n_sections] */
    struct mb_section *sections;     /* [n_sections] */
    uint32_t *order;                 /* indexes in the order of names */
    struct mb_shape shape;
    uint64_t digest;
};

static enum mb_status wrong(const char *field, uint64_t got, uint64_t want,
                            struct mb_error *err)
{
    return mb_fail(err, MB_E_FORMAT, 0, "checkpoint: header: %s: %llu, must be %llu", field,
                   (unsigned long long) got, (unsigned long long) want);
}

/* Is this ours, of this version, and undamaged? */
static enum mb_status check_identity(const struct mb_format_header *h, struct mb_error *err)
{
    if (memcmp(h->magic, MB_FORMAT_MAGIC, sizeof h->magic) != 0) {
        int named = memcmp(h->magic + 1, &MB_FORMAT_MAGIC[1], 3) == 0;
        return mb_fail(err, MB_E_FORMAT, 0, "checkpoint: header: magic: %s",
                       named ? "damaged as by a transfer in text mode"
                             : "this is not an .mbool file");
    }
    if (h->version != MB_FORMAT_VERSION) {
        return mb_fail(err, MB_E_UNSUPPORTED, 0,
                       "checkpoint: header: version: %u is not supported; supported: %d",
                       h->version, MB_FORMAT_VERSION);
    }
    if (h->header_bytes != sizeof *h) {
        return wrong("header_bytes", h->header_bytes, sizeof *h, err);
    }
    if (mb_checksum(h, offsetof(struct mb_format_header, header_checksum)) !=
        h->header_checksum) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "checkpoint: header: header_checksum: not that of the header");
    }
    return MB_OK;
}

static enum mb_status check_layout(const struct mb_format_header *h, size_t n,
                                   struct mb_error *err)
{
    if (h->file_bytes != n) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "checkpoint: header: file_bytes: %llu, but the file has %zu",
                       (unsigned long long) h->file_bytes, n);
    }
    if (h->n_sections < 1 || h->n_sections > MB_FORMAT_SECTIONS_MAX) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "checkpoint: header: n_sections: %u is not in 1..%u", h->n_sections,
                       MB_FORMAT_SECTIONS_MAX);
    }
    if (h->entry_bytes != sizeof(struct mb_format_entry)) {
        return wrong("entry_bytes", h->entry_bytes, sizeof(struct mb_format_entry), err);
    }
    if (h->table_offset != sizeof *h) {
        return wrong("table_offset", h->table_offset, sizeof *h, err);
    }
    uint64_t table_bytes = (uint64_t) h->n_sections * h->entry_bytes;
    if (!mb_extent_fits(h->table_offset, table_bytes, n)) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "checkpoint: header: n_sections: the table of %u does not fit the file",
                       h->n_sections);
    }
    for (size_t i = 0; i < sizeof h->reserved; i++) {
        if (h->reserved[i] != 0) {
            return mb_fail(err, MB_E_FORMAT, 0,
                           "checkpoint: header: reserved: byte %zu is not zero", i);
        }
    }
    return MB_OK;
}

static enum mb_status read_header(struct mb_checkpoint *c, struct mb_error *err)
{
    struct mb_format_header *h = &c->header;
    if (c->n < sizeof *h) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "checkpoint: header: %zu bytes in the file, it alone has %zu", c->n,
                       sizeof *h);
    }
    memcpy(h, c->at, sizeof *h);
    enum mb_status st = check_identity(h, err);
    if (st == MB_OK) {
        st = check_layout(h, c->n, err);
    }
    if (st != MB_OK) {
        return st;
    }
    c->shape = (struct mb_shape) {
        .n_layers = h->n_layers,
        .width = h->width,
        .n_heads = h->n_heads,
        .n_kv_heads = h->n_kv_heads,
        .head_width = h->head_width,
        .ffn_width = h->ffn_width,
        .n_vocab = h->n_vocab,
        .context = h->context,
        .window = h->window,
        .n_planes = h->n_planes,
        .norm_eps = h->norm_eps,
        .tied_head = h->tied_head,
    };
    struct mb_error why = { 0 };
    if (mb_shape_check(&c->shape, &why) != MB_OK) {
        return mb_fail(err, MB_E_FORMAT, 0, "checkpoint: header: %.300s", why.what);
    }
    return MB_OK;
}

/* end is where the section before it ends. */
static enum mb_status check_extent(const struct mb_format_entry *e, uint64_t end, size_t n,
                                   struct mb_error *err)
{
    if (e->offset % MB_FORMAT_ALIGN != 0) {
        return mb_fail(err, MB_E_FORMAT, 0, "offset: %llu is not a multiple of %d",
                       (unsigned long long) e->offset, MB_FORMAT_ALIGN);
    }
    if (e->offset < end) {
        return mb_fail(err, MB_E_FORMAT, 0, "offset: %llu, but what is before it ends at %llu",
                       (unsigned long long) e->offset, (unsigned long long) end);
    }
    if (!mb_extent_fits(e->offset, e->bytes, n)) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "offset: %llu and %llu bytes go beyond the file's %zu",
                       (unsigned long long) e->offset, (unsigned long long) e->bytes, n);
    }
    return MB_OK;
}

static enum mb_status check_entries(const struct mb_checkpoint *c, struct mb_error *err)
{
    uint64_t end =
        c->header.table_offset + (uint64_t) c->header.n_sections * sizeof *c->entries;
    for (size_t i = 0; i < c->header.n_sections; i++) {
        const struct mb_format_entry *e = &c->entries[i];
        struct mb_error why = { 0 };
        if (mb_sections_check_name(e->name, &why) != MB_OK) {
            return mb_fail(err, MB_E_FORMAT, 0, "checkpoint: section %zu: %.300s", i, why.what);
        }
        if (mb_sections_check_entry(&c->shape, e, &why) != MB_OK ||
            check_extent(e, end, c->n, &why) != MB_OK) {
            return mb_fail(err, MB_E_FORMAT, 0, "checkpoint: section %zu '%s': %.300s", i,
                           e->name, why.what);
        }
        end = e->offset + e->bytes;
    }
    if (end != c->n) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "checkpoint: header: file_bytes: %zu, but the last section ends at %llu",
                       c->n, (unsigned long long) end);
    }
    return MB_OK;
}

static void fill_sections(struct mb_checkpoint *c)
{
    for (size_t i = 0; i < c->header.n_sections; i++) {
        const struct mb_format_entry *e = &c->entries[i];
        c->sections[i] = (struct mb_section) {
            .name = e->name,
            .kind = (enum mb_section_kind) e->kind,
            .offset = e->offset,
            .bytes = e->bytes,
            .checksum = e->checksum,
            .n_rows = e->n_rows,
            .n_cols = e->n_cols,
            .scale_all = e->scale_all,
        };
        if (e->kind == MB_SECTION_BOOL) {
            c->sections[i].boolean =
                (struct mb_bool_shape) { e->n_rows, e->n_cols, e->group, e->n_kernels };
        }
    }
}

static enum mb_status digest(struct mb_checkpoint *c, size_t table_bytes, struct mb_error *err)
{
    struct mb_checksum_state *sum = mb_checksum_new();
    if (!sum) {
        return mb_fail(err, MB_E_NOMEM, 0, "checkpoint: no memory for a checksum");
    }
    mb_checksum_update(sum, &c->header, sizeof c->header);
    mb_checksum_update(sum, c->entries, table_bytes);
    c->digest = mb_checksum_digest(sum);
    mb_checksum_free(sum);
    return MB_OK;
}

static enum mb_status read_table(struct mb_checkpoint *c, struct mb_error *err)
{
    size_t n = c->header.n_sections; /* bounded by check_layout */
    size_t table_bytes = n * sizeof *c->entries;
    c->entries = calloc(n, sizeof *c->entries);
    c->sections = calloc(n, sizeof *c->sections);
    c->order = calloc(n, sizeof *c->order);
    if (!c->entries || !c->sections || !c->order) {
        return mb_fail(err, MB_E_NOMEM, 0, "checkpoint: no memory for %zu sections", n);
    }
    memcpy(c->entries, c->at + c->header.table_offset, table_bytes);
    if (mb_checksum(c->entries, table_bytes) != c->header.table_checksum) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "checkpoint: header: table_checksum: not that of the section table");
    }
    enum mb_status st = check_entries(c, err);
    if (st != MB_OK) {
        return st;
    }
    mb_sections_order(c->entries, n, c->order);
    st = mb_sections_check_all(&c->shape, c->entries, c->order, n, err);
    if (st != MB_OK) {
        return st;
    }
    fill_sections(c);
    return digest(c, table_bytes, err);
}

static enum mb_status read_structure(struct mb_checkpoint *c, struct mb_error *err)
{
    enum mb_status st = read_header(c, err);
    return st == MB_OK ? read_table(c, err) : st;
}

enum mb_status mb_checkpoint_open(const char *path, struct mb_checkpoint **ret,
                                  struct mb_error *err)
{
    int fd;
    enum mb_status st = mb_file_open(path, &fd, err);
    if (st != MB_OK) {
        return st;
    }
    st = mb_checkpoint_open_fd(fd, path, ret, err);
    (void) close(fd);
    return st;
}

enum mb_status mb_checkpoint_open_fd(int fd, const char *name, struct mb_checkpoint **ret,
                                     struct mb_error *err)
{
    struct mb_checkpoint *c = calloc(1, sizeof *c);
    if (!c) {
        return mb_fail(err, MB_E_NOMEM, 0, "checkpoint: no memory to open '%s'", name);
    }
    enum mb_status st = mb_file_map_fd(fd, name, &c->map, err);
    if (st == MB_OK) {
        c->at = c->map.at;
        c->n = c->map.n;
        st = read_structure(c, err);
    }
    if (st != MB_OK) {
        mb_checkpoint_free(c);
        return st;
    }
    *ret = c;
    return MB_OK;
}

enum mb_status mb_checkpoint_of_memory(const void *at, size_t n, struct mb_checkpoint **ret,
                                       struct mb_error *err)
{
    assert((uintptr_t) at % MB_FORMAT_ALIGN == 0);
    struct mb_checkpoint *c = calloc(1, sizeof *c);
    if (!c) {
        return mb_fail(err, MB_E_NOMEM, 0, "checkpoint: no memory to open it");
    }
    c->at = at;
    c->n = n;
    enum mb_status st = read_structure(c, err);
    if (st != MB_OK) {
        mb_checkpoint_free(c);
        return st;
    }
    *ret = c;
    return MB_OK;
}

enum mb_status mb_checkpoint_of_map(struct mb_file_map map, size_t n,
                                    struct mb_checkpoint **ret, struct mb_error *err)
{
    assert(n <= map.n);
    enum mb_status st = mb_checkpoint_of_memory(map.at, n, ret, err);
    if (st == MB_OK) {
        (*ret)->map = map;
    }
    return st;
}

void mb_checkpoint_free(struct mb_checkpoint *c)
{
    if (!c) {
        return;
    }
    mb_file_unmap(&c->map);
    free(c->entries);
    free(c->sections);
    free(c->order);
    free(c);
}

const struct mb_shape *mb_checkpoint_shape(const struct mb_checkpoint *c)
{
    return &c->shape;
}

uint64_t mb_checkpoint_bytes(const struct mb_checkpoint *c)
{
    return c->n;
}

uint64_t mb_checkpoint_digest(const struct mb_checkpoint *c)
{
    return c->digest;
}

const void *mb_checkpoint_memory(const struct mb_checkpoint *c)
{
    return c->at;
}

size_t mb_checkpoint_sections(const struct mb_checkpoint *c)
{
    return c->header.n_sections;
}

size_t mb_checkpoint_sections_max(const struct mb_checkpoint *c)
{
    size_t place = (size_t) c->sections[0].offset - sizeof(struct mb_format_header);
    size_t n = place / sizeof(struct mb_format_entry);
    return n < MB_FORMAT_SECTIONS_MAX ? n : MB_FORMAT_SECTIONS_MAX;
}

const struct mb_section *mb_checkpoint_section(const struct mb_checkpoint *c, size_t i)
{
    return i < c->header.n_sections ? &c->sections[i] : NULL;
}

const struct mb_section *mb_checkpoint_find(const struct mb_checkpoint *c, const char *name)
{
    return mb_checkpoint_section(
        c, mb_sections_find(c->entries, c->order, c->header.n_sections, name));
}

const void *mb_checkpoint_data(const struct mb_checkpoint *c, const struct mb_section *s)
{
    return c->at + s->offset;
}

struct mb_bool_matrix mb_checkpoint_bool(const struct mb_checkpoint *c,
                                         const struct mb_section *s)
{
    assert(s->kind == MB_SECTION_BOOL);
    const uint8_t *at = mb_checkpoint_data(c, s);
    return (struct mb_bool_matrix) {
        .shape = s->boolean,
        .scale_all = s->scale_all,
        .bits = (const uint32_t *) (const void *) at,
        .scale = (const uint16_t *) (const void *) (at + mb_format_scale_at(&s->boolean)),
        .coef = at + mb_format_coef_at(&s->boolean),
    };
}
