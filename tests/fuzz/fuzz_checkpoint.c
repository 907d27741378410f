/* A checkpoint of any bytes: opened, verified, and read as if it were good. What verifies
 * is a model: then all that mb_model_from_checkpoint asks for has been checked.
 *
 * Each input is tried as it is, and again with the sizes and checksums of header, table and
 * sections put right, so that mutations reach what the checksums guard. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/checksum.h"
#include "core/checkpoint/format.h"
#include "core/checkpoint/reader.h"
#include "core/model/model.h"
#include "tests/fuzz/fuzz.h"

/* Rows are read also where verify would refuse: a reader that skips it must be safe. */
static void read_rows(const struct mb_checkpoint *c, const struct mb_section *s)
{
    struct mb_bool_matrix m = mb_checkpoint_bool(c, s);
    float *row = malloc(m.shape.n_cols * sizeof *row);
    if (row) {
        mb_bool_row(&m, 0, row);
        mb_bool_row(&m, m.shape.n_rows - 1, row);
    }
    free(row);
}

static void use(const void *at, size_t n)
{
    struct mb_error err = { 0 };
    struct mb_checkpoint *c;
    enum mb_status st = mb_checkpoint_of_memory(at, n, &c, &err);
    if (st != MB_OK) {
        fuzz_assert(err.what[0] != '\0');
        return;
    }
    for (size_t i = 0; i < mb_checkpoint_sections(c); i++) {
        const struct mb_section *s = mb_checkpoint_section(c, i);
        fuzz_assert(mb_checkpoint_find(c, s->name) == s);
        fuzz_assert(mb_extent_fits(s->offset, s->bytes, n));
        if (s->kind == MB_SECTION_BOOL) {
            read_rows(c, s);
        }
    }
    enum mb_status verified = mb_checkpoint_verify(c, NULL, &err);
    struct mb_model *m;
    st = mb_model_from_checkpoint(c, &m, &err);
    fuzz_assert(st == MB_OK || st == MB_E_NOMEM || verified != MB_OK);
    fuzz_assert(st == MB_OK || err.what[0] != '\0');
    if (st == MB_OK) {
        mb_model_unref(m); /* closes the checkpoint */
    } else {
        mb_checkpoint_free(c);
    }
}

/* at is aligned, so that header and entries may be changed where they stand. */
static void put_right(void *at, size_t n)
{
    struct mb_format_header *h = at;
    if (n < sizeof *h) {
        return;
    }
    memcpy(h->magic, MB_FORMAT_MAGIC, sizeof h->magic);
    h->version = MB_FORMAT_VERSION;
    h->file_bytes = n;
    struct mb_format_entry *entries = (struct mb_format_entry *) (h + 1);
    uint64_t table_bytes = (uint64_t) h->n_sections * sizeof *entries;
    if (mb_extent_fits(sizeof *h, table_bytes, n)) {
        for (uint32_t i = 0; i < h->n_sections; i++) {
            struct mb_format_entry *e = &entries[i];
            if (mb_extent_fits(e->offset, e->bytes, n)) {
                e->checksum = mb_checksum((uint8_t *) at + e->offset, (size_t) e->bytes);
            }
        }
        h->table_checksum = mb_checksum(entries, (size_t) table_bytes);
    }
    h->header_checksum = mb_checksum(h, offsetof(struct mb_format_header, header_checksum));
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t n)
{
    void *copy; /* aligned as a mapping is, and no byte longer */
    if (n == 0 || posix_memalign(&copy, MB_FORMAT_ALIGN, n) != 0) {
        return 0;
    }
    memcpy(copy, at, n);
    use(copy, n);
    put_right(copy, n);
    use(copy, n);
    free(copy);
    return 0;
}
