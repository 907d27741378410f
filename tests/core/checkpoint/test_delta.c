/* Goal:   a delta turns each of its two ends into the other, byte for byte, in a file and in memory;
 *         it fits nothing else, and damage is refused before anything gets a name.
 * Method: a checkpoint of several pieces, and a version of it with known flips, another norm and a
 *         longer provenance, whose checksums are put right by hand; every field of the delta is
 *         then damaged in turn, with and without its checksums put right. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/checksum.h"
#include "core/base/file.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/checkpoint/delta.h"
#include "core/checkpoint/delta_format.h"
#include "core/checkpoint/format.h"
#include "core/synth/synth.h"
#include "tests/check_main.h"

static char dir[] = "/tmp/mbool-delta-XXXXXX";
static char base_path[64], target_path[64], delta_path[64], out_path[64];
static struct mb_error err;
static struct mb_checkpoint *base, *target;

enum { FLIPS = 5000 };

/* Everything that opening checks, put right after a change. */
static void put_right(uint8_t *at, size_t n)
{
    struct mb_format_header *h = (struct mb_format_header *) (void *) at;
    struct mb_format_entry *e = (struct mb_format_entry *) (void *) (at + sizeof *h);
    for (uint32_t i = 0; i < h->n_sections; i++) {
        e[i].checksum = mb_checksum(at + e[i].offset, e[i].bytes);
    }
    h->file_bytes = n;
    h->table_checksum = mb_checksum(e, h->n_sections * sizeof *e);
    h->header_checksum = mb_checksum(h, offsetof(struct mb_format_header, header_checksum));
}

static void write_file(const char *path, const void *at, size_t n)
{
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(at, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
}

/* Flips of different signs, in as many as there are of the matrix. */
static void flip(uint8_t *at, const struct mb_section *s)
{
    uint32_t *bits = (uint32_t *) (void *) (at + s->offset);
    for (uint64_t i = 0; i < FLIPS; i++) {
        bits[i * 7] ^= 1u << mb_rng_u64(1, 2, i) % 32;
    }
}

static void write_target(void)
{
    static const char more[] = "finetune: yes\n";
    size_t n = mb_checkpoint_bytes(base), longer = n + strlen(more);
    uint8_t *at = mb_alloc(longer, 1);
    memcpy(at, mb_checkpoint_memory(base), n);
    memcpy(at + n, more, strlen(more));
    flip(at, mb_checkpoint_find(base, "blocks.1.ffn_up"));
    float *norm = (float *) (void *) (at + mb_checkpoint_find(base, "final_norm")->offset);
    norm[3] *= 1.5f;
    struct mb_format_header *h = (struct mb_format_header *) (void *) at;
    struct mb_format_entry *e = (struct mb_format_entry *) (void *) (at + sizeof *h);
    ck_assert_str_eq(e[h->n_sections - 1].name, "provenance");
    e[h->n_sections - 1].bytes += strlen(more);
    put_right(at, longer);
    write_file(target_path, at, longer);
    mb_free(at);
}

static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void) snprintf(base_path, sizeof base_path, "%s/base", dir);
    (void) snprintf(target_path, sizeof target_path, "%s/target", dir);
    (void) snprintf(delta_path, sizeof delta_path, "%s/delta", dir);
    (void) snprintf(out_path, sizeof out_path, "%s/out", dir);
    struct mb_synth_options o = { .shape = { .n_layers = 2,
                                             .width = 512,
                                             .n_heads = 8,
                                             .n_kv_heads = 4,
                                             .head_width = 64,
                                             .ffn_width = 1536,
                                             .n_vocab = 400,
                                             .context = 64,
                                             .n_planes = 8,
                                             .norm_eps = 1e-5f,
                                             .tied_head = 1 },
                                  .rope_theta = 10000,
                                  .n_kernels = 3,
                                  .head_kernels = 4,
                                  .group = 128,
                                  .seed = 1 };
    mb_assert_ok(mb_synth(base_path, &o, NULL, &err), &err);
    mb_assert_ok(mb_checkpoint_open(base_path, &base, &err), &err);
    write_target();
    mb_assert_ok(mb_checkpoint_open(target_path, &target, &err), &err);
    mb_assert_ok(mb_checkpoint_verify(target, NULL, &err), &err);
    ck_assert_uint_gt(mb_checkpoint_bytes(base), 2 * MB_DELTA_PIECE);
}

static void teardown(void)
{
    mb_checkpoint_free(base);
    mb_checkpoint_free(target);
    (void) unlink(base_path);
    (void) unlink(target_path);
    (void) unlink(delta_path);
    (void) unlink(out_path);
    ck_assert_int_eq(rmdir(dir), 0); /* nothing else was left behind */
}

static struct mb_delta *make(void)
{
    struct mb_delta *d;
    mb_assert_ok(mb_delta_make(base, target, delta_path, NULL, &err), &err);
    mb_assert_ok(mb_delta_open(delta_path, &d, &err), &err);
    return d;
}

static void expect_file(const char *path, const struct mb_checkpoint *want)
{
    struct mb_file_map map;
    mb_assert_ok(mb_file_map(path, &map, &err), &err);
    ck_assert_uint_eq(map.n, mb_checkpoint_bytes(want));
    ck_assert_mem_eq(map.at, mb_checkpoint_memory(want), map.n);
    mb_file_unmap(&map);
}

START_TEST(each_end_becomes_the_other)
{
    struct mb_delta *d = make();
    mb_assert_ok(mb_delta_write(d, base, out_path, NULL, &err), &err);
    expect_file(out_path, target);
    mb_assert_ok(mb_delta_write(d, target, out_path, NULL, &err), &err);
    expect_file(out_path, base);
    mb_delta_free(d);
}
END_TEST

START_TEST(a_delta_says_how_far_its_ends_are_apart)
{
    struct mb_delta *d = make();
    const struct mb_delta_info *i = mb_delta_info(d);
    ck_assert_uint_eq(i->n_flips, FLIPS);
    ck_assert_uint_ge(i->n_others, 1);
    ck_assert_uint_le(i->n_others, 4);
    uint64_t q = 512 * 512 + 2 * 256 * 512 + 512 * 512, f = 3 * 512 * 1536;
    ck_assert_uint_eq(i->n_signs, 2 * 3 * (q + f) + 4 * 400 * 512);
    ck_assert_uint_eq(i->base_digest, mb_checkpoint_digest(base));
    ck_assert_uint_eq(i->target_digest, mb_checkpoint_digest(target));
    ck_assert_uint_lt(i->bytes, 5 * FLIPS + 4096);
    mb_delta_free(d);
}
END_TEST

START_TEST(no_difference_is_a_small_delta)
{
    struct mb_delta *d;
    mb_assert_ok(mb_delta_make(base, base, delta_path, NULL, &err), &err);
    mb_assert_ok(mb_delta_open(delta_path, &d, &err), &err);
    ck_assert_uint_eq(mb_delta_info(d)->n_pieces, 0);
    mb_assert_ok(mb_delta_write(d, base, out_path, NULL, &err), &err);
    expect_file(out_path, base);
    mb_delta_free(d);
}
END_TEST

START_TEST(a_mapping_costs_the_pages_that_differ)
{
    struct mb_delta *d = make();
    const char *const from[] = { base_path, target_path };
    struct mb_checkpoint *const to[] = { target, base };
    for (int i = 0; i < 2; i++) {
        struct mb_checkpoint *c;
        uint64_t bytes;
        mb_assert_ok(mb_delta_map(d, from[i], &c, &bytes, &err), &err);
        ck_assert_uint_eq(mb_checkpoint_bytes(c), mb_checkpoint_bytes(to[i]));
        ck_assert_mem_eq(mb_checkpoint_memory(c), mb_checkpoint_memory(to[i]),
                         mb_checkpoint_bytes(to[i]));
        mb_assert_ok(mb_checkpoint_verify(c, NULL, &err), &err);
        ck_assert_uint_ge(bytes, FLIPS * 7 * 4);
        ck_assert_uint_lt(bytes, FLIPS * 7 * 4 + 16 * 4096);
        mb_checkpoint_free(c);
    }
    struct mb_file_map map; /* the file itself is untouched */
    mb_assert_ok(mb_file_map(base_path, &map, &err), &err);
    ck_assert_mem_eq(map.at, mb_checkpoint_memory(base), map.n);
    mb_file_unmap(&map);
    mb_delta_free(d);
}
END_TEST

START_TEST(a_delta_fits_nothing_else)
{
    struct mb_delta *d = make();
    uint8_t *at = mb_alloc(mb_checkpoint_bytes(base), 1);
    memcpy(at, mb_checkpoint_memory(base), mb_checkpoint_bytes(base));
    at[mb_checkpoint_find(base, "blocks.0.attn_q")->offset] ^= 1;
    put_right(at, mb_checkpoint_bytes(base));
    write_file(out_path, at, mb_checkpoint_bytes(base));
    struct mb_checkpoint *other, *c;
    mb_assert_ok(mb_checkpoint_open(out_path, &other, &err), &err);
    ck_assert_int_eq(mb_delta_write(d, other, delta_path, NULL, &err), MB_E_INVALID);
    ck_assert_int_eq(mb_delta_map(d, out_path, &c, NULL, &err), MB_E_INVALID);
    mb_checkpoint_free(other);
    mb_free(at);
    mb_delta_free(d);
}
END_TEST

START_TEST(versions_of_another_model_are_refused)
{
    struct mb_synth_options o = { .shape = *mb_checkpoint_shape(base),
                                  .rope_theta = 10000,
                                  .n_kernels = 2,
                                  .head_kernels = 4,
                                  .group = 128,
                                  .seed = 1 };
    struct mb_checkpoint *other;
    mb_assert_ok(mb_synth(out_path, &o, NULL, &err), &err);
    mb_assert_ok(mb_checkpoint_open(out_path, &other, &err), &err);
    ck_assert_int_eq(mb_delta_make(base, other, delta_path, NULL, &err), MB_E_INVALID);
    mb_checkpoint_free(other);
    o.shape.n_layers = 3;
    mb_assert_ok(mb_synth(out_path, &o, NULL, &err), &err);
    mb_assert_ok(mb_checkpoint_open(out_path, &other, &err), &err);
    ck_assert_int_eq(mb_delta_make(base, other, delta_path, NULL, &err), MB_E_INVALID);
    ck_assert_ptr_nonnull(strstr(err.what, "shape"));
    mb_checkpoint_free(other);
    ck_assert_int_ne(access(delta_path, F_OK), 0);
}
END_TEST

/* Opens and applies a copy of the delta; what comes out, if anything does, is the target. */
static void try_damaged(const uint8_t *at, size_t n, const char *what)
{
    struct mb_delta *d;
    err.what[0] = '\0';
    enum mb_status st = mb_delta_of_memory(at, n, &d, &err);
    if (st == MB_OK) {
        st = mb_delta_write(d, base, out_path, NULL, &err);
        mb_delta_free(d);
    }
    if (st == MB_OK) {
        expect_file(out_path, target);
        (void) unlink(out_path);
        return;
    }
    ck_assert_msg(err.what[0] != '\0', "%s", what);
    ck_assert_msg(access(out_path, F_OK) != 0, "%s left a file", what);
}

static void put_delta_right(uint8_t *at, size_t n)
{
    struct mb_delta_header *h = (struct mb_delta_header *) (void *) at;
    struct mb_delta_entry *e = (struct mb_delta_entry *) (void *) (at + sizeof *h);
    if ((uint64_t) h->n_pieces * sizeof *e <= n - sizeof *h) {
        for (uint32_t i = 0; i < h->n_pieces; i++) {
            if (e[i].offset <= n && e[i].bytes <= n - e[i].offset) {
                e[i].checksum = mb_checksum(at + e[i].offset, e[i].bytes);
            }
        }
        h->table_checksum = mb_checksum(e, h->n_pieces * sizeof *e);
    }
    h->header_checksum = mb_checksum(h, offsetof(struct mb_delta_header, header_checksum));
}

START_TEST(damage_is_refused_and_leaves_nothing)
{
    mb_delta_free(make());
    struct mb_file_map map;
    mb_assert_ok(mb_file_map(delta_path, &map, &err), &err);
    uint8_t *copy = mb_alloc(map.n, 1);
    static const uint64_t values[] = { 0, 1, UINT32_MAX, UINT64_MAX, UINT64_C(1) << 62 };
    size_t n_head = sizeof(struct mb_delta_header) + 3 * sizeof(struct mb_delta_entry);
    for (size_t at = 0; at + 8 <= n_head; at += 4) {
        for (size_t v = 0; v < 2 * sizeof values / sizeof *values; v++) {
            memcpy(copy, map.at, map.n);
            memcpy(copy + at, &values[v / 2], at % 8 == 4 ? 4 : 8);
            if (v % 2) {
                put_delta_right(copy, map.n);
            }
            try_damaged(copy, map.n, "a field");
        }
    }
    for (size_t n = 0; n < map.n; n += n < n_head ? 16 : map.n / 16) {
        memcpy(copy, map.at, n);
        try_damaged(copy, n, "a cut");
    }
    for (uint64_t i = 0; i < 60; i++) {
        memcpy(copy, map.at, map.n);
        copy[n_head + mb_rng_u64(3, 4, i) % (map.n - n_head)] ^= (uint8_t) (1 + i);
        put_delta_right(copy, map.n);
        try_damaged(copy, map.n, "the data");
    }
    mb_free(copy);
    mb_file_unmap(&map);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("delta");
    TCase *c = tcase_create("all");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, each_end_becomes_the_other);
    tcase_add_test(c, a_delta_says_how_far_its_ends_are_apart);
    tcase_add_test(c, no_difference_is_a_small_delta);
    tcase_add_test(c, a_mapping_costs_the_pages_that_differ);
    tcase_add_test(c, a_delta_fits_nothing_else);
    tcase_add_test(c, versions_of_another_model_are_refused);
    tcase_add_test(c, damage_is_refused_and_leaves_nothing);
    suite_add_tcase(s, c);
    return mb_run_suite(s);
}
