/* How the variants of bool_expand cut their work: so many tiles and tokens at a time.
 *
 * Threads: pure. */
#ifndef MB_CORE_KERNELS_STRIP_H
#define MB_CORE_KERNELS_STRIP_H

#include "core/kernels/kernels.h"

/* Panels whose sums wait in scratch: 258 tokens of 4 tiles are 66 KB, a small part of a
 * second-level cache, and so many that what expanding costs is lost among them. */
#define MB_STRIP_PANELS 43

/* Floats that wait for n_tiles tiles. */
static inline size_t mb_strip_floats(size_t n_tiles)
{
    return n_tiles * MB_TILE_ROWS * MB_STRIP_PANELS * MB_PANEL_TOKENS;
}

/* n_tokens in strips of equal length, but for the last: whole panels, at most MB_STRIP_PANELS. */
static inline size_t mb_strip_tokens(size_t n_tokens)
{
    size_t panels = (n_tokens + MB_PANEL_TOKENS - 1) / MB_PANEL_TOKENS;
    size_t strips = (panels + MB_STRIP_PANELS - 1) / MB_STRIP_PANELS;
    return strips == 0 ? 0 : (panels + strips - 1) / strips * MB_PANEL_TOKENS;
}

#endif
