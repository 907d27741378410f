#include "server/engine/prefix_cache.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checksum.h"

#define NONE UINT32_MAX

/* Compared as bytes, so that nothing of it is left out: no padding. */
struct key {
    uint64_t seed;
    struct mbd_prefix_root root; /* of a first block; else zero */
    uint32_t parent;             /* a block; NONE for a first one */
    uint32_t tokens[MB_KV_BLOCK];
    uint32_t zero;
};
_Static_assert(sizeof(struct key) == 8 + 8 + MBD_SALT_BYTES + 4 + 4 * MB_KV_BLOCK + 4,
               "a key has no padding");

struct mbd_prefix_entry {
    struct key key;
    uint32_t next;         /* in its bucket */
    uint32_t older, newer; /* among those that are idle */
    uint32_t n_children;
    bool known;
};

/* ---- life -------------------------------------------------------------------------------- */

enum mb_status mbd_prefix_init(struct mbd_prefix_cache *p, struct mb_kv_cache *kv, bool on,
                               uint64_t seed, struct mb_error *err)
{
    uint32_t n = mb_kv_blocks(kv), buckets = 16;
    while (buckets < n && buckets < UINT32_C(1) << 31) {
        buckets *= 2;
    }
    *p = (struct mbd_prefix_cache) {
        .kv = kv, .on = on, .mask = buckets - 1, .oldest = NONE, .newest = NONE, .seed = seed
    };
    p->entries = calloc(n, sizeof p->entries[0]);
    p->buckets = malloc(buckets * sizeof p->buckets[0]);
    p->n_known = calloc(mb_kv_seqs(kv), sizeof p->n_known[0]);
    if (!p->entries || !p->buckets || !p->n_known) {
        mbd_prefix_fini(p);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory to know %u blocks by", (unsigned) n);
    }
    memset(p->buckets, 0xff, buckets * sizeof p->buckets[0]);
    return MB_OK;
}

void mbd_prefix_fini(struct mbd_prefix_cache *p)
{
    free(p->entries);
    free(p->buckets);
    free(p->n_known);
    *p = (struct mbd_prefix_cache) { 0 };
}

uint32_t mbd_prefix_available(const struct mbd_prefix_cache *p)
{
    return mb_kv_blocks_free(p->kv) + p->n_idle;
}

/* ---- those that are idle ----------------------------------------------------------------- */

static void idle_push(struct mbd_prefix_cache *p, uint32_t block)
{
    struct mbd_prefix_entry *e = &p->entries[block];
    e->older = p->newest;
    e->newer = NONE;
    *(p->newest == NONE ? &p->oldest : &p->entries[p->newest].newer) = block;
    p->newest = block;
    p->n_idle++;
}

static void idle_remove(struct mbd_prefix_cache *p, uint32_t block)
{
    const struct mbd_prefix_entry *e = &p->entries[block];
    *(e->older == NONE ? &p->oldest : &p->entries[e->older].newer) = e->newer;
    *(e->newer == NONE ? &p->newest : &p->entries[e->newer].older) = e->older;
    p->n_idle--;
}

/* ---- finding ----------------------------------------------------------------------------- */

static struct key key_of(const struct mbd_prefix_cache *p, const struct mbd_prefix_root *root,
                         uint32_t parent, const uint32_t *tokens)
{
    struct key k = { .seed = p->seed, .parent = parent };
    if (parent == NONE) {
        k.root = *root;
    }
    memcpy(k.tokens, tokens, sizeof k.tokens);
    return k;
}

static uint32_t *bucket_of(const struct mbd_prefix_cache *p, const struct key *k)
{
    return &p->buckets[mb_checksum(k, sizeof *k) & p->mask];
}

static uint32_t find(const struct mbd_prefix_cache *p, const struct key *k)
{
    uint32_t block = *bucket_of(p, k);
    while (block != NONE && memcmp(&p->entries[block].key, k, sizeof *k) != 0) {
        block = p->entries[block].next;
    }
    return block;
}

/* ---- making room ------------------------------------------------------------------------- */

static void evict_oldest(struct mbd_prefix_cache *p)
{
    uint32_t block = p->oldest;
    struct mbd_prefix_entry *e = &p->entries[block];
    assert(e->known);
    assert(e->n_children == 0);
    idle_remove(p, block);
    uint32_t *link = bucket_of(p, &e->key);
    while (*link != block) {
        link = &p->entries[*link].next;
    }
    *link = e->next;
    if (e->key.parent != NONE) {
        p->entries[e->key.parent].n_children--;
    }
    e->known = false;
    mb_kv_drop(p->kv, block);
    p->n_evicted++;
}

/* ---- sequences --------------------------------------------------------------------------- */

static uint32_t parent_of(const struct mbd_prefix_cache *p, uint32_t seq)
{
    uint32_t n = p->n_known[seq];
    return n == 0 ? NONE : mb_kv_seq(p->kv, seq)->blocks[n - 1];
}

uint32_t mbd_prefix_start(struct mbd_prefix_cache *p, uint32_t seq,
                          const struct mbd_prefix_root *root, const uint32_t *tokens,
                          uint32_t n_tokens, uint32_t n_positions)
{
    assert(mb_kv_seq(p->kv, seq)->n_blocks == 0);
    assert(n_tokens > 0);
    uint32_t shared_max = p->on && root ? (n_tokens - 1) / MB_KV_BLOCK : 0;
    while (p->n_known[seq] < shared_max) {
        struct key k =
            key_of(p, root, parent_of(p, seq), tokens + p->n_known[seq] * MB_KV_BLOCK);
        uint32_t block = find(p, &k);
        if (block == NONE) {
            break;
        }
        if (mb_kv_refs(p->kv, block) == 1) {
            idle_remove(p, block);
        }
        mb_kv_share(p->kv, seq, block);
        p->n_known[seq]++;
    }
    uint32_t want = mb_kv_blocks_for(n_positions) - p->n_known[seq];
    while (mb_kv_blocks_free(p->kv) < want) {
        assert(p->n_idle > 0); /* there are blocks enough */
        evict_oldest(p);
    }
    enum mb_status st = mb_kv_reserve(p->kv, seq, n_positions, NULL);
    assert(st == MB_OK);
    (void) st;
    return p->n_known[seq] * MB_KV_BLOCK;
}

void mbd_prefix_add(struct mbd_prefix_cache *p, uint32_t seq,
                    const struct mbd_prefix_root *root, const uint32_t *tokens)
{
    if (!p->on) {
        return;
    }
    struct mb_kv_seq *s = mb_kv_seq(p->kv, seq);
    uint32_t at = p->n_known[seq], block = s->blocks[at];
    assert(at < s->n_blocks);
    struct key k = key_of(p, root, parent_of(p, seq), tokens);
    uint32_t same = find(p, &k);
    p->n_known[seq]++;
    if (same != NONE) { /* another computed it meanwhile: the same bits (A1) */
        if (mb_kv_refs(p->kv, same) == 1) {
            idle_remove(p, same);
        }
        mb_kv_replace(p->kv, seq, at, same);
        return;
    }
    struct mbd_prefix_entry *e = &p->entries[block];
    uint32_t *bucket = bucket_of(p, &k);
    *e = (struct mbd_prefix_entry) { .key = k, .next = *bucket, .known = true };
    *bucket = block;
    if (k.parent != NONE) {
        p->entries[k.parent].n_children++;
    }
    mb_kv_hold(p->kv, block);
}

void mbd_prefix_release(struct mbd_prefix_cache *p, uint32_t seq)
{
    const struct mb_kv_seq *s = mb_kv_seq(p->kv, seq);
    uint32_t n = p->n_known[seq];
    for (uint32_t i = n; i-- > 0;) {
        if (mb_kv_refs(p->kv, s->blocks[i]) == 2) { /* its own, and the cache's */
            idle_push(p, s->blocks[i]);
        }
    }
    p->n_known[seq] = 0;
    mb_kv_release(p->kv, seq);
}
