/* The floor of a step: the least time that this machine could take for it. Three parts of a
 * step have one; they follow one another, and each takes what its own limit takes:
 *
 *     floor = sum over (products of the blocks, attention, head) of
 *             max(bytes / read,  u8s8 or popcount work / peak  +  fma work / peak)
 *
 * For T tokens, with rates of all threads together (bench_machine.h):
 *
 *     products, head    bytes  the weights, once: bits, scales and coefficients
 *                       work   Boolean, m x n with K kernels: the lesser of T m n products of
 *                              bytes and T m n K P bits counted, as a kernel may do either
 *                              dense: T m n multiply-adds
 *     attention         bytes  the keys and values of every sequence, once
 *                       work   2 H d multiply-adds a token and position that it sees, a layer
 *
 * Norms, coding, gating and sampling have no floor: nothing bounds them but skill.
 *
 * What this is not: a bound on a model that the caches hold, which is not read from memory; nor
 * on a kernel that finds a third way to do a product.
 *
 * Threads: pure. */
#ifndef MBC_BENCH_FLOOR_H
#define MBC_BENCH_FLOOR_H

#include "clients/cli/bench_machine.h"
#include "core/infer/kv_cache.h"
#include "core/model/model.h"

struct mbc_floor {
    double seconds;
    double unit_s[MBC_UNITS]; /* of those, by what was the limit */
};

/* A step of n_tokens, n_logits of which go through the head. */
struct mbc_floor_step {
    uint32_t n_tokens, n_logits;
    double positions_seen;   /* summed over tokens */
    double positions_stored; /* summed over sequences: whose keys and values are read */
};

/* Adds a step. f begins zeroed. */
void mbc_floor_add(struct mbc_floor *f, const struct mbc_machine *machine,
                   const struct mb_model *m, enum mb_kv_type kv_type,
                   const struct mbc_floor_step *step);

/* Where most of the floor's time goes. */
enum mbc_unit mbc_floor_limit(const struct mbc_floor *f);

/* Bytes of a matrix, and of all that a step reads: blocks and head. */
double mbc_linear_bytes(const struct mb_linear *l);
double mbc_weight_bytes(const struct mb_model *m);

#endif
