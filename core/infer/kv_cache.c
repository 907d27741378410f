#include "core/infer/kv_cache.h"

#include <assert.h>
#include <sys/mman.h>

#include "core/base/checked.h"
#include "core/base/memory.h"

struct mb_kv_cache {
    enum mb_kv_type type;
    uint32_t n_layers, n_kv_heads;
    uint32_t n_blocks, n_seqs, positions_max;
    size_t half_bytes; /* K, or V, of one (block, layer, head) */
    size_t block_bytes;

    uint8_t *pool; /* mapped: [n_blocks][n_layers][n_kv_heads][2][half_bytes] */
    size_t pool_bytes;
    uint32_t *tables;       /* [n_seqs][blocks for positions_max] */
    struct mb_kv_seq *seqs; /* [n_seqs] */
    uint32_t *free_list;    /* a stack: the block released last is the one still in a cache */
    uint32_t n_free;
    uint32_t *refs; /* [n_blocks] */
};

static size_t half_bytes(const struct mb_shape *s, enum mb_kv_type type)
{
    size_t element = type == MB_KV_F16 ? sizeof(uint16_t) : sizeof(float);
    return element * MB_KV_BLOCK * s->head_width;
}

/* The bounds of shape.h keep this below 2^38. */
size_t mb_kv_block_bytes(const struct mb_shape *s, enum mb_kv_type type)
{
    return half_bytes(s, type) * 2 * s->n_kv_heads * s->n_layers;
}

static enum mb_status check_counts(const struct mb_shape *s, enum mb_kv_type type,
                                   uint32_t n_blocks, uint32_t n_seqs, uint32_t positions_max,
                                   struct mb_error *err)
{
    if (type != MB_KV_F16 && type != MB_KV_F32) {
        return mb_fail(err, MB_E_INVALID, 0, "kv cache: type %d is unknown", (int) type);
    }
    if (n_blocks < 1 || n_seqs < 1) {
        return mb_fail(err, MB_E_INVALID, 0, "kv cache: needs at least one %s",
                       n_blocks < 1 ? "block" : "sequence");
    }
    if (positions_max < 1 || positions_max > MB_CONTEXT_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "kv cache: %u positions is outside 1..%u",
                       (unsigned) positions_max, MB_CONTEXT_MAX);
    }
    return mb_shape_check(s, err);
}

/* Everything a new cache holds; on failure the caller frees what was got. */
static enum mb_status acquire(struct mb_kv_cache *c, struct mb_error *err)
{
    size_t table = mb_kv_blocks_for(c->positions_max), entries;
    if (!mb_checked_mul(c->n_blocks, c->block_bytes, &c->pool_bytes) ||
        !mb_checked_mul(c->n_seqs, table, &entries)) {
        return mb_fail(err, MB_E_NOMEM, 0, "kv cache: %u blocks of %zu bytes are too many",
                       (unsigned) c->n_blocks, c->block_bytes);
    }
    c->tables = mb_alloc(entries, sizeof *c->tables);
    c->seqs = mb_alloc(c->n_seqs, sizeof *c->seqs);
    c->free_list = mb_alloc(c->n_blocks, sizeof *c->free_list);
    c->refs = mb_alloc(c->n_blocks, sizeof *c->refs);
    if (!c->tables || !c->seqs || !c->free_list || !c->refs) {
        return mb_fail(err, MB_E_NOMEM, 0, "kv cache: no memory for the tables of %u sequences",
                       (unsigned) c->n_seqs);
    }
    /* Mapped, so that a block costs no memory before its first position is stored. */
    void *pool =
        mmap(NULL, c->pool_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pool == MAP_FAILED) {
        return mb_fail(err, MB_E_NOMEM, 0, "kv cache: no memory for %zu bytes", c->pool_bytes);
    }
    c->pool = pool;
    /* A wish: reading a long past meets a new page with every few blocks. */
    (void) madvise(pool, c->pool_bytes, MADV_HUGEPAGE);
    for (uint32_t i = 0; i < c->n_seqs; i++) {
        c->seqs[i].blocks = c->tables + i * table;
    }
    for (uint32_t i = 0; i < c->n_blocks; i++) {
        c->free_list[i] = c->n_blocks - 1 - i; /* block 0 goes first */
    }
    c->n_free = c->n_blocks;
    return MB_OK;
}

enum mb_status mb_kv_new(const struct mb_shape *s, enum mb_kv_type type, uint32_t n_blocks,
                         uint32_t n_seqs, uint32_t positions_max, struct mb_kv_cache **ret,
                         struct mb_error *err)
{
    enum mb_status st = check_counts(s, type, n_blocks, n_seqs, positions_max, err);
    if (st != MB_OK) {
        return st;
    }
    struct mb_kv_cache *c = mb_alloc(1, sizeof *c);
    if (!c) {
        return mb_fail(err, MB_E_NOMEM, 0, "kv cache: no memory");
    }
    *c = (struct mb_kv_cache) {
        .type = type,
        .n_layers = s->n_layers,
        .n_kv_heads = s->n_kv_heads,
        .n_blocks = n_blocks,
        .n_seqs = n_seqs,
        .positions_max = positions_max,
        .half_bytes = half_bytes(s, type),
        .block_bytes = mb_kv_block_bytes(s, type),
    };
    st = acquire(c, err);
    if (st != MB_OK) {
        mb_kv_free(c);
        return st;
    }
    *ret = c;
    return MB_OK;
}

void mb_kv_free(struct mb_kv_cache *c)
{
    if (!c) {
        return;
    }
    if (c->pool) {
        (void) munmap(c->pool, c->pool_bytes);
    }
    mb_free(c->free_list);
    mb_free(c->refs);
    mb_free(c->seqs);
    mb_free(c->tables);
    mb_free(c);
}

struct mb_kv_seq *mb_kv_seq(struct mb_kv_cache *c, uint32_t i)
{
    assert(i < c->n_seqs);
    return &c->seqs[i];
}

enum mb_status mb_kv_reserve(struct mb_kv_cache *c, uint32_t seq, uint32_t n_positions,
                             struct mb_error *err)
{
    struct mb_kv_seq *s = mb_kv_seq(c, seq);
    if (n_positions > c->positions_max) {
        return mb_fail(err, MB_E_LIMIT, 0, "kv cache: %u positions; a sequence has at most %u",
                       (unsigned) n_positions, (unsigned) c->positions_max);
    }
    uint32_t want = mb_kv_blocks_for(n_positions);
    if (want <= s->n_blocks) {
        return MB_OK;
    }
    if (want - s->n_blocks > c->n_free) {
        return mb_fail(err, MB_E_LIMIT, 0, "kv cache: %u more blocks are needed, %u are free",
                       (unsigned) (want - s->n_blocks), (unsigned) c->n_free);
    }
    while (s->n_blocks < want) {
        uint32_t block = c->free_list[--c->n_free];
        assert(c->refs[block] == 0);
        c->refs[block] = 1;
        s->blocks[s->n_blocks++] = block;
    }
    return MB_OK;
}

void mb_kv_release(struct mb_kv_cache *c, uint32_t seq)
{
    struct mb_kv_seq *s = mb_kv_seq(c, seq);
    while (s->n_blocks > 0) {
        mb_kv_drop(c, s->blocks[--s->n_blocks]);
    }
    s->n_positions = 0;
}

uint32_t mb_kv_refs(const struct mb_kv_cache *c, uint32_t block)
{
    assert(block < c->n_blocks);
    return c->refs[block];
}

void mb_kv_hold(struct mb_kv_cache *c, uint32_t block)
{
    assert(mb_kv_refs(c, block) > 0);
    c->refs[block]++;
}

void mb_kv_drop(struct mb_kv_cache *c, uint32_t block)
{
    assert(mb_kv_refs(c, block) > 0);
    if (--c->refs[block] == 0) {
        assert(c->n_free < c->n_blocks);
        c->free_list[c->n_free++] = block;
    }
}

void mb_kv_share(struct mb_kv_cache *c, uint32_t seq, uint32_t block)
{
    struct mb_kv_seq *s = mb_kv_seq(c, seq);
    assert(s->n_positions == s->n_blocks * MB_KV_BLOCK);
    assert(s->n_positions + MB_KV_BLOCK <= c->positions_max);
    mb_kv_hold(c, block);
    s->blocks[s->n_blocks++] = block;
    s->n_positions += MB_KV_BLOCK;
}

void mb_kv_replace(struct mb_kv_cache *c, uint32_t seq, uint32_t i, uint32_t block)
{
    struct mb_kv_seq *s = mb_kv_seq(c, seq);
    assert((i + 1) * MB_KV_BLOCK <= s->n_positions);
    mb_kv_hold(c, block);
    mb_kv_drop(c, s->blocks[i]);
    s->blocks[i] = block;
}

enum mb_kv_type mb_kv_type(const struct mb_kv_cache *c)
{
    return c->type;
}

uint32_t mb_kv_seqs(const struct mb_kv_cache *c)
{
    return c->n_seqs;
}

uint32_t mb_kv_layers(const struct mb_kv_cache *c)
{
    return c->n_layers;
}

uint32_t mb_kv_blocks(const struct mb_kv_cache *c)
{
    return c->n_blocks;
}

uint32_t mb_kv_blocks_free(const struct mb_kv_cache *c)
{
    return c->n_free;
}

void *mb_kv_k(struct mb_kv_cache *c, uint32_t block, uint32_t layer, uint32_t kv_head)
{
    assert(block < c->n_blocks);
    assert(layer < c->n_layers);
    assert(kv_head < c->n_kv_heads);
    size_t pair = (size_t) layer * c->n_kv_heads + kv_head;
    return c->pool + block * c->block_bytes + pair * 2 * c->half_bytes;
}

void *mb_kv_v(struct mb_kv_cache *c, uint32_t block, uint32_t layer, uint32_t kv_head)
{
    return (uint8_t *) mb_kv_k(c, block, layer, kv_head) + c->half_bytes;
}
