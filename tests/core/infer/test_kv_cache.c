/* Goal:   J2: a block belongs to whom the table says, whatever is reserved and released.
 * Method: random reserving and releasing against a plain table of owners; limits by hand. */
#include "core/infer/kv_cache.h"

#include <stdbool.h>
#include <string.h>

#include "core/base/rng.h"
#include "tests/check_main.h"

enum { BLOCKS = 37, SEQS = 7, POSITIONS_MAX = 400, NOBODY = -1 };

static const struct mb_shape shape = {
    .n_layers = 3,
    .width = 32,
    .n_heads = 4,
    .n_kv_heads = 2,
    .head_width = 8,
    .ffn_width = 64,
    .n_vocab = 10,
    .context = 400,
    .n_planes = 8,
    .norm_eps = 1e-5f,
};

static struct mb_kv_cache *make(enum mb_kv_type type)
{
    struct mb_error err = { 0 };
    struct mb_kv_cache *c = NULL;
    mb_assert_ok(mb_kv_new(&shape, type, BLOCKS, SEQS, POSITIONS_MAX, &c, &err), &err);
    return c;
}

/* Every block has one owner or none, and the counts agree with the owners. */
static void check_owners(struct mb_kv_cache *c, const uint32_t *reserved)
{
    int owner[BLOCKS];
    memset(owner, NOBODY, sizeof owner);
    uint32_t n_owned = 0;
    for (uint32_t s = 0; s < SEQS; s++) {
        struct mb_kv_seq *seq = mb_kv_seq(c, s);
        ck_assert_uint_eq(seq->n_blocks, reserved[s]);
        for (uint32_t i = 0; i < seq->n_blocks; i++) {
            ck_assert_uint_lt(seq->blocks[i], BLOCKS);
            ck_assert_int_eq(owner[seq->blocks[i]], NOBODY);
            owner[seq->blocks[i]] = (int) s;
            n_owned++;
        }
    }
    ck_assert_uint_eq(mb_kv_blocks_free(c), BLOCKS - n_owned);
}

START_TEST(random_reserving_and_releasing_keeps_owners)
{
    struct mb_kv_cache *c = make(MB_KV_F16);
    uint32_t reserved[SEQS] = { 0 }, n_free = BLOCKS;
    for (uint64_t i = 0; i < 3000; i++) {
        uint32_t s = (uint32_t) (mb_rng_u64(1, 0, i) % SEQS);
        if (mb_rng_u64(1, 1, i) % 4 == 0) {
            mb_kv_release(c, s);
            n_free += reserved[s];
            reserved[s] = 0;
        } else {
            uint32_t n = (uint32_t) (mb_rng_u64(1, 2, i) % (POSITIONS_MAX + 50));
            uint32_t want = mb_kv_blocks_for(n);
            bool fits =
                n <= POSITIONS_MAX && (want <= reserved[s] || want - reserved[s] <= n_free);
            enum mb_status st = mb_kv_reserve(c, s, n, NULL);
            ck_assert_int_eq(st, fits ? MB_OK : MB_E_LIMIT);
            if (fits && want > reserved[s]) {
                n_free -= want - reserved[s];
                reserved[s] = want;
            }
        }
        check_owners(c, reserved);
    }
    mb_kv_free(c);
}
END_TEST

START_TEST(reserving_more_keeps_what_is_stored)
{
    struct mb_kv_cache *c = make(MB_KV_F32);
    ck_assert_int_eq(mb_kv_reserve(c, 2, 40, NULL), MB_OK);
    struct mb_kv_seq *seq = mb_kv_seq(c, 2);
    uint32_t first = seq->blocks[0], second = seq->blocks[1];
    seq->n_positions = 40;
    ck_assert_int_eq(mb_kv_reserve(c, 2, 10, NULL), MB_OK); /* fewer: nothing changes */
    ck_assert_uint_eq(seq->n_blocks, 2);
    ck_assert_int_eq(mb_kv_reserve(c, 2, 100, NULL), MB_OK);
    ck_assert_uint_eq(seq->blocks[0], first);
    ck_assert_uint_eq(seq->blocks[1], second);
    ck_assert_uint_eq(seq->n_positions, 40);
    mb_kv_release(c, 2);
    ck_assert_uint_eq(seq->n_positions, 0);
    mb_kv_free(c);
}
END_TEST

/* Writing one head's K and V everywhere touches no other's. */
START_TEST(blocks_layers_and_heads_do_not_overlap)
{
    enum mb_kv_type type = _i ? MB_KV_F32 : MB_KV_F16;
    struct mb_kv_cache *c = make(type);
    size_t half = (size_t) MB_KV_BLOCK * shape.head_width * (type == MB_KV_F16 ? 2 : 4);
    ck_assert_uint_eq(mb_kv_block_bytes(&shape, type), half * 2 * 2 * 3);
    for (int pass = 0; pass < 2; pass++) {
        uint8_t mark = 0;
        for (uint32_t b = 0; b < BLOCKS; b++) {
            for (uint32_t l = 0; l < shape.n_layers; l++) {
                for (uint32_t h = 0; h < shape.n_kv_heads; h++, mark++) {
                    uint8_t *k = mb_kv_k(c, b, l, h), *v = mb_kv_v(c, b, l, h);
                    ck_assert_uint_eq((uintptr_t) k % 64, 0);
                    ck_assert_uint_eq((uintptr_t) v % 64, 0);
                    if (pass == 0) {
                        memset(k, mark, half);
                        memset(v, mark ^ 0x80, half);
                    }
                    bool kept = true;
                    for (size_t i = 0; i < half; i++) {
                        kept &= k[i] == mark && v[i] == (mark ^ 0x80);
                    }
                    ck_assert(kept);
                }
            }
        }
    }
    mb_kv_free(c);
}
END_TEST

START_TEST(nonsense_is_refused)
{
    struct mb_kv_cache *c = NULL;
    ck_assert_int_eq(mb_kv_new(&shape, MB_KV_F16, 0, 1, 1, &c, NULL), MB_E_INVALID);
    ck_assert_int_eq(mb_kv_new(&shape, MB_KV_F16, 1, 0, 1, &c, NULL), MB_E_INVALID);
    ck_assert_int_eq(mb_kv_new(&shape, MB_KV_F16, 1, 1, 0, &c, NULL), MB_E_INVALID);
    ck_assert_int_eq(mb_kv_new(&shape, (enum mb_kv_type) 7, 1, 1, 1, &c, NULL), MB_E_INVALID);
    ck_assert_int_eq(mb_kv_new(&shape, MB_KV_F16, 1, 1, MB_CONTEXT_MAX + 1, &c, NULL),
                     MB_E_INVALID);
    struct mb_shape broken = shape;
    broken.n_kv_heads = 3;
    ck_assert_int_eq(mb_kv_new(&broken, MB_KV_F16, 1, 1, 1, &c, NULL), MB_E_INVALID);
    ck_assert_ptr_null(c);
    mb_kv_free(NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kv_cache");
    TCase *t = tcase_create("kv_cache");
    tcase_add_test(t, random_reserving_and_releasing_keeps_owners);
    tcase_add_test(t, reserving_more_keeps_what_is_stored);
    tcase_add_loop_test(t, blocks_layers_and_heads_do_not_overlap, 0, 2);
    tcase_add_test(t, nonsense_is_refused);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
