#include "core/base/arena.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"

enum {
    BLOCK_BYTES = 16 * 1024, /* of the usual block; larger objects have one of their own */
    ALIGN = 16,
};

struct mb_arena_block {
    struct mb_arena_block *next;
    _Alignas(ALIGN) uint8_t bytes[];
};

void mb_arena_init(struct mb_arena *a, size_t bytes_max)
{
    *a = (struct mb_arena) { .max = bytes_max };
}

void mb_arena_fini(struct mb_arena *a)
{
    if (!a) {
        return;
    }
    while (a->blocks) {
        struct mb_arena_block *b = a->blocks;
        a->blocks = b->next;
        free(b);
    }
    mb_arena_init(a, a->max);
}

/* Makes a block with room for bytes the newest one. What was left of the last is lost,
 * unless the new block is for one large object only. */
static uint8_t *take_block(struct mb_arena *a, size_t bytes)
{
    bool alone = bytes > BLOCK_BYTES / 4;
    size_t n = alone ? bytes : BLOCK_BYTES;
    struct mb_arena_block *b = malloc(sizeof *b + n);
    if (!b) {
        a->refused = true;
        return NULL;
    }
    b->next = a->blocks;
    a->blocks = b;
    if (!alone) {
        a->at = b->bytes + bytes;
        a->left = n - bytes;
    }
    return b->bytes;
}

void *mb_arena_alloc(struct mb_arena *a, size_t n, size_t size)
{
    size_t bytes;
    if (!mb_checked_mul(n, size, &bytes) ||
        !mb_checked_align(bytes ? bytes : 1, ALIGN, &bytes) || bytes > a->max - a->used) {
        a->full = true;
        return NULL;
    }
    uint8_t *p = a->at;
    if (bytes <= a->left) {
        a->at += bytes;
        a->left -= bytes;
    } else {
        p = take_block(a, bytes);
    }
    if (p) {
        a->used += bytes;
        memset(p, 0, bytes);
    }
    return p;
}

char *mb_arena_text(struct mb_arena *a, const char *text, size_t n)
{
    char *copy = mb_arena_alloc(a, n + 1, 1);
    if (copy && n > 0) {
        memcpy(copy, text, n);
    }
    return copy;
}
