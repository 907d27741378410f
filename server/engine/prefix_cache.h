/* Prefixes of sequences that ended, or run, for those that begin alike: whole blocks of the KV cache,
 * shared instead of computed again.
 *
 * What a block holds depends on the weights and on all tokens up to its end, and on nothing else: not
 * on how the prompt was cut, nor on who else was in the batch (A1). So a block may stand for
 * another that would hold the same bits, and no output changes. They are known by comparison, never
 * by a hash alone: a block is an entry under its parent, the block before it, and is found by the
 * tokens that it holds; a first block also by the weights (their digest: S2) and a salt, which keeps
 * apart whom others may not learn from, by how soon they are answered, what somebody else has asked.
 *
 *     held       blocks of a sequence's table, one reference each: those that it shares come first
 *     entry      a held or idle block that is full and known; the cache has a reference of its own
 *     idle       an entry that no sequence uses: given back to the pool when a sequence needs blocks
 *
 * A sequence that uses a block uses its parent, too. When one ends, its blocks become idle from the
 * last to the first; so an idle block is never older than its children, the oldest has none, and
 * blocks are given up from the oldest on: least recently used first.
 *
 * J1: what a finished request leaves is idle at once, and counts as free. Bound: the pool.
 *
 * Memory:  arrays by block at _init: some 200 bytes each; afterwards none.
 * Threads: the engine's. */
#ifndef MBD_PREFIX_CACHE_H
#define MBD_PREFIX_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/infer/kv_cache.h"
#include "server/requests/request.h"

#define MBD_SALT_BYTES MBD_REQUEST_SALT_BYTES

struct mbd_prefix_entry;

struct mbd_prefix_cache {
    struct mb_kv_cache *kv;           /* borrowed */
    bool on;                          /* false: nothing is ever known */
    struct mbd_prefix_entry *entries; /* [blocks], by block */
    uint32_t *buckets;                /* [mask + 1] chains of entries */
    uint32_t mask;
    uint32_t *n_known; /* [sequences] blocks of its table, from the first, that are entries */
    uint32_t oldest, newest, n_idle;
    uint64_t seed;
    uint64_t n_evicted;
};

/* Where a sequence's blocks hang. */
struct mbd_prefix_root {
    uint64_t digest; /* of the weights */
    uint8_t salt[MBD_SALT_BYTES];
};

/* seed is anything that those who ask do not know. */
enum mb_status mbd_prefix_init(struct mbd_prefix_cache *p, struct mb_kv_cache *kv, bool on,
                               uint64_t seed, struct mb_error *err);
void mbd_prefix_fini(struct mbd_prefix_cache *p); /* NULL members are allowed */

/* Blocks that a sequence can get: free, or idle. */
uint32_t mbd_prefix_available(const struct mbd_prefix_cache *p);
/* The table of seq, which is empty, gets what is known of its first n_tokens, and then blocks of its own
 * up to n_positions. At least one token is left to be computed. Returns how many positions need not be.
 * root NULL: nothing is looked for. There are blocks enough: mbd_prefix_available. */
uint32_t mbd_prefix_start(struct mbd_prefix_cache *p, uint32_t seq,
                          const struct mbd_prefix_root *root, const uint32_t *tokens,
                          uint32_t n_tokens, uint32_t n_positions);
/* The sequence's next block that is no entry yet is stored whole, and holds these tokens
 * [MB_KV_BLOCK]: it becomes one; or the one of another sequence that holds the same takes its place. */
void mbd_prefix_add(struct mbd_prefix_cache *p, uint32_t seq,
                    const struct mbd_prefix_root *root, const uint32_t *tokens);
static inline uint32_t mbd_prefix_known(const struct mbd_prefix_cache *p, uint32_t seq)
{
    return p->n_known[seq];
}
/* The sequence ends; its table is empty again. */
void mbd_prefix_release(struct mbd_prefix_cache *p, uint32_t seq);

#endif
