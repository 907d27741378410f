/* What the attention kernels share: which positions a row of a tile sees, and what a merge does
 * with it.
 *
 * Threads: pure on disjoint tiles. */
#ifndef MB_CORE_KERNELS_ATTEND_ROWS_H
#define MB_CORE_KERNELS_ATTEND_ROWS_H

#include <stdbool.h>
#include <string.h>

#include "core/kernels/kernels.h"

static inline size_t mb_attend_clamp(size_t position, size_t base)
{
    size_t j = position > base ? position - base : 0;
    return j < MB_KV_BLOCK ? j : MB_KV_BLOCK;
}

/* Row r sees positions [first, end) of the block at base; nothing when first >= end. */
static inline size_t mb_attend_first(const struct mb_attend_tile *t, size_t r, size_t base)
{
    return mb_attend_clamp(t->begin[r], base);
}

static inline size_t mb_attend_end(const struct mb_attend_tile *t, size_t r, size_t base)
{
    return mb_attend_clamp(t->end[r], base);
}

/* The same for all rows, as vector kernels want it. */
struct mb_attend_view {
    size_t first[MB_ATTEND_ROWS], end[MB_ATTEND_ROWS];
    size_t all_first, all_end; /* the range that every row sees */
    bool even;                 /* nobody sees anything else */
};

static inline void mb_attend_view(struct mb_attend_view *ret, const struct mb_attend_tile *t,
                                  size_t base, size_t rows)
{
    size_t least = MB_KV_BLOCK, most = 0;
    ret->all_first = 0;
    ret->all_end = MB_KV_BLOCK;
    for (size_t r = 0; r < rows; r++) {
        size_t first = mb_attend_first(t, r, base), end = mb_attend_end(t, r, base);
        ret->first[r] = first;
        ret->end[r] = end;
        ret->all_first = first > ret->all_first ? first : ret->all_first;
        ret->all_end = end < ret->all_end ? end : ret->all_end;
        least = first < least ? first : least;
        most = end > most ? end : most;
    }
    ret->even = least == ret->all_first && most == ret->all_end;
}

/* A bit for each position that row r sees. */
static inline uint32_t mb_attend_seen(const struct mb_attend_view *see, size_t r)
{
    uint64_t before_end = (UINT64_C(1) << see->end[r]) - 1;
    return (uint32_t) (before_end & ~((UINT64_C(1) << see->first[r]) - 1));
}

typedef void mb_attend_merge_row_fn(struct mb_attend_tile *t, const struct mb_attend_tile *s,
                                    size_t r, size_t d);

/* A merge, but for the arithmetic of a row that both tiles have something of. */
static inline void mb_attend_merge_rows(struct mb_attend_tile *t,
                                        const struct mb_attend_tile *s, size_t d, size_t base,
                                        mb_attend_merge_row_fn *merge_row)
{
    for (size_t r = 0; r < t->n_rows; r++) {
        if (t->begin[r] >= base + MB_ATTEND_SEGMENT || t->end[r] <= base) {
            continue;
        }
        if (t->begin[r] < base) {
            merge_row(t, s, r, d);
            continue;
        }
        t->max[r] = s->max[r];
        memcpy(t->sum[r], s->sum[r], sizeof t->sum[r]);
        memcpy(t->out + r * d, s->out + r * d, d * sizeof *t->out);
    }
}

#endif
