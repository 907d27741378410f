#include "tests/support/delta_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checksum.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/checkpoint/delta.h"
#include "core/checkpoint/format.h"

static void need(enum mb_status st, const struct mb_error *err)
{
    if (st != MB_OK) {
        fprintf(stderr, "delta file: %s\n", err->what);
        abort();
    }
}

void delta_file_put_right(void *at, uint64_t n)
{
    struct mb_format_header *h = at;
    struct mb_format_entry *e = (struct mb_format_entry *) (h + 1);
    for (uint32_t i = 0; i < h->n_sections; i++) {
        e[i].checksum = mb_checksum((uint8_t *) at + e[i].offset, e[i].bytes);
    }
    h->file_bytes = n;
    h->table_checksum = mb_checksum(e, h->n_sections * sizeof *e);
    h->header_checksum = mb_checksum(h, offsetof(struct mb_format_header, header_checksum));
}

/* The i-th draw below n. */
static uint32_t draw(uint64_t seed, uint64_t i, uint32_t n)
{
    return (uint32_t) (mb_rng_u64(seed, 41, i) % n);
}

static void flip(uint8_t *at, const struct mb_section *s, uint64_t seed, uint64_t i)
{
    const struct mb_bool_shape *b = &s->boolean;
    uint32_t *bits = (uint32_t *) (void *) (at + s->offset);
    uint32_t row = draw(seed, 4 * i, b->n_rows), col = draw(seed, 4 * i + 1, b->n_cols);
    uint32_t k = draw(seed, 4 * i + 2, b->n_kernels), g = col / b->group;
    size_t word =
        mb_bool_bits_at(b, row / MB_TILE_ROWS, g) +
        (k * mb_bool_group_words(b, g) + col % b->group / MB_WORD_COLS) * MB_TILE_ROWS +
        row % MB_TILE_ROWS;
    bits[word] ^= 1u << col % MB_WORD_COLS;
}

/* The Boolean matrices of the blocks, in turn. */
static void flip_all(uint8_t *at, const struct mb_checkpoint *c, uint64_t seed,
                     uint32_t n_flips)
{
    for (uint32_t i = 0; i < n_flips;) {
        for (size_t k = 0; k < mb_checkpoint_sections(c) && i < n_flips; k++) {
            const struct mb_section *s = mb_checkpoint_section(c, k);
            if (s->kind == MB_SECTION_BOOL && strncmp(s->name, "blocks.", 7) == 0) {
                flip(at, s, seed, i++);
            }
        }
    }
}

void delta_file_write(const char *base, const char *delta, uint64_t seed, uint32_t n_flips)
{
    struct mb_error err = { 0 };
    struct mb_checkpoint *c, *target;
    need(mb_checkpoint_open(base, &c, &err), &err);
    size_t n = (size_t) mb_checkpoint_bytes(c);
    uint8_t *at = mb_alloc(n, 1);
    if (!at) {
        abort();
    }
    memcpy(at, mb_checkpoint_memory(c), n);
    flip_all(at, c, seed, n_flips);
    float *norm = (float *) (void *) (at + mb_checkpoint_find(c, "final_norm")->offset);
    norm[0] *= 1.0f + 0.001f * (float) (seed % 100 + 1);
    delta_file_put_right(at, n);
    need(mb_checkpoint_of_memory(at, n, &target, &err), &err);
    need(mb_checkpoint_verify(target, NULL, &err), &err);
    need(mb_delta_make(c, target, delta, NULL, &err), &err);
    mb_checkpoint_free(target);
    mb_checkpoint_free(c);
    mb_free(at);
}
