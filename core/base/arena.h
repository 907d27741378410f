/* Many small objects with one end: they are taken one by one and freed all at once.
 *
 * Life:    _init/_fini on the caller's memory; what was taken lives until _fini.
 * Bound:   bytes_max of objects, counted with what alignment costs; what blocks leave unused adds
 *          a third at most, and one block of 16 KB.
 * Threads: one thread at a time per object. */
#ifndef MB_CORE_ARENA_H
#define MB_CORE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mb_arena_block;

struct mb_arena {
    struct mb_arena_block *blocks;
    uint8_t *at;
    size_t left;        /* bytes after at in the newest block */
    size_t used, max;   /* bytes */
    bool full, refused; /* sticky: an object did not fit in max; the system had no memory */
};

void mb_arena_init(struct mb_arena *a, size_t bytes_max);
void mb_arena_fini(struct mb_arena *a); /* leaves it empty, with the same bound */

/* n * size zeroed bytes, aligned for any object; NULL when they would go beyond the bound
 * or are refused. Never NULL otherwise, even for n = 0. */
void *mb_arena_alloc(struct mb_arena *a, size_t n, size_t size);

/* A terminated copy of text. */
char *mb_arena_text(struct mb_arena *a, const char *text, size_t n);

#endif
