/* The KV cache: a pool of blocks of MB_KV_BLOCK positions, and sequences that own lists of
 * them.
 *
 * A block holds, for every layer and key head, K as [2][d][16] and V as [MB_KV_BLOCK][d] (see
 * kernels.h), in float16 or float32. A block is free, or in the tables of sequences, and held beside
 * them: as often as its count says (J2). More than one holder only reads it: a step stores behind a
 * sequence's n_positions, and a block that is shared is stored whole.
 *
 * Memory:  the whole pool at _new: n_blocks * mb_kv_block_bytes, touched only when written.
 *          Reserving and releasing allocate nothing.
 * Threads: one thread at a time; a step's workers read tables that nobody changes meanwhile. */
#ifndef MB_CORE_KV_CACHE_H
#define MB_CORE_KV_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "core/kernels/kernels.h"
#include "core/model/shape.h"

enum mb_kv_type { MB_KV_F16, MB_KV_F32 };

struct mb_kv_cache;

/* A sequence's positions [0, n) and where they are. blocks has room for the cache's
 * positions_max. */
struct mb_kv_seq {
    uint32_t *blocks; /* [n_blocks], owned by the cache's tables */
    uint32_t n_blocks;
    uint32_t n_positions; /* stored so far; a step adds to it */
};

size_t mb_kv_block_bytes(const struct mb_shape *s, enum mb_kv_type type);

/* n_seqs sequences, each of at most positions_max positions, sharing n_blocks blocks.
 * Errors: MB_E_INVALID, MB_E_NOMEM. */
enum mb_status mb_kv_new(const struct mb_shape *s, enum mb_kv_type type, uint32_t n_blocks,
                         uint32_t n_seqs, uint32_t positions_max, struct mb_kv_cache **ret,
                         struct mb_error *err);
void mb_kv_free(struct mb_kv_cache *c);

/* Sequence i, i < n_seqs. Stable for the cache's life. */
struct mb_kv_seq *mb_kv_seq(struct mb_kv_cache *c, uint32_t i);

/* Blocks for positions [0, n_positions). All or nothing.
 * Errors: MB_E_LIMIT when too few blocks are free or n_positions > positions_max. */
enum mb_status mb_kv_reserve(struct mb_kv_cache *c, uint32_t seq, uint32_t n_positions,
                             struct mb_error *err);
/* Gives the sequence's references on its blocks back, and sets n_positions to 0. */
void mb_kv_release(struct mb_kv_cache *c, uint32_t seq);

/* ---- blocks of several holders ----------------------------------------------------------- */

uint32_t mb_kv_refs(const struct mb_kv_cache *c, uint32_t block); /* 0: free */
/* A reference more, or less, on a block that is not free; at 0 it is. */
void mb_kv_hold(struct mb_kv_cache *c, uint32_t block);
void mb_kv_drop(struct mb_kv_cache *c, uint32_t block);
/* Adds a block that is stored whole to the sequence, all of whose blocks are. */
void mb_kv_share(struct mb_kv_cache *c, uint32_t seq, uint32_t block);
/* Puts block into place i of the sequence's table. It holds the same bits as the one there. */
void mb_kv_replace(struct mb_kv_cache *c, uint32_t seq, uint32_t i, uint32_t block);

enum mb_kv_type mb_kv_type(const struct mb_kv_cache *c);
uint32_t mb_kv_seqs(const struct mb_kv_cache *c);
uint32_t mb_kv_layers(const struct mb_kv_cache *c);
uint32_t mb_kv_blocks(const struct mb_kv_cache *c);
uint32_t mb_kv_blocks_free(const struct mb_kv_cache *c);
static inline uint32_t mb_kv_blocks_for(uint32_t n_positions)
{
    return (n_positions + MB_KV_BLOCK - 1) / MB_KV_BLOCK;
}

/* K and V of (block, layer, kv head); V follows K. */
void *mb_kv_k(struct mb_kv_cache *c, uint32_t block, uint32_t layer, uint32_t kv_head);
void *mb_kv_v(struct mb_kv_cache *c, uint32_t block, uint32_t layer, uint32_t kv_head);

#endif
