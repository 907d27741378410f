/* Inside core/infer: the scratch of a step, and the two ways its work is handed to the pool.
 *
 * Letters: T tokens of the step, D width, H d query heads, F width of the feed-forward. */
#ifndef MB_CORE_STEPPER_H
#define MB_CORE_STEPPER_H

#include <stdatomic.h>

#include "core/base/checked.h"
#include "core/base/memory.h"
#include "core/infer/step.h"

/* Scratch that one worker uses for the part it runs, in cache lines that no other writes. */
struct mb_step_worker {
    _Alignas(MB_ALIGN) void *expand; /* of the widest linear, see mb_bool_expand_scratch */
    struct mb_attend_tile *tiles, *segment; /* [tiles of a unit] */
    float *widened; /* [2][MB_KV_BLOCK][d]: a block of keys and values */

    /* The stepper's codes with tables of its own, for as many tokens as bool_popcount is used
     * for: building them again costs less than fetching what another core has just written. */
    struct mb_codes *codes;
    uint64_t tables_of; /* the job that they were built for */
};

/* Neighbouring tokens of the batch that belong to one sequence. */
struct mb_step_piece {
    uint32_t token, n_tokens;
};

/* Tiles of a unit of attention: what passes over a block of keys and values while it is in the
 * first-level cache, with as much state as stays there beside it. */
#define MB_STEP_UNIT_TILES 4

struct mb_stepper {
    const struct mb_kernels *kernels;
    struct mb_pool *pool;
    struct mb_shape shape;
    uint32_t tokens_max, logits_max;
    size_t part_work;

    float *x;         /* [T][D] the residual stream */
    float *in;        /* [T][widest input] what the next linears read; rows are packed */
    float *q, *k, *v; /* [T][H d], [T][KV d] twice */
    float *gate, *up; /* [T][F] */
    float *y;         /* [T][D] what o and down add to x */
    float *cos, *sin; /* [T][d / 2] of each token's position */

    struct mb_codes *codes; /* [T], the coded form of in */
    uint8_t *codes_u;       /* what codes points into */
    float *codes_a;
    uint8_t *codes_panels;
    uint64_t n_jobs;                              /* of products so far; names a job */
    size_t groups_max, panel_bytes, expand_bytes; /* sized so; asserts that a model fits */

    struct mb_step_worker *workers; /* [threads of pool] */
    uint8_t *workers_memory;
    struct mb_codes *workers_codes;

    struct mb_step_piece *pieces; /* [T], of the step's batch */
    size_t n_pieces;

    /* For units of attention that several threads share: tiles of segments before they are merged,
     * and how many of a unit's are done. The number of tiles is what a few segments for each
     * thread take, whatever the context. */
    struct mb_attend_tile *partials; /* [n_partials] */
    size_t n_partials;
    atomic_size_t *partials_done; /* [split_units_max] */
    size_t split_units_max;       /* more units than this are enough for the threads */
    float *tiles_memory;          /* what all tiles point into */

    uint64_t (*now_ns)(void);
    uint64_t mark_ns, waited_ns; /* of the clock and of the pool, at the last lap */
    uint64_t spent_ns[MB_PHASES];
};

/* Into how many parts a job of so many multiply-adds is cut: several a thread, so that the
 * slowest part does not hold up the rest for long, but none below part_work. */
size_t mb_step_parts(const struct mb_stepper *s, size_t work);

/* Runs fn for every token in [0, n), a chunk of neighbours per part. width is the number of
 * floats that fn turns into others. */
typedef void mb_token_fn(const void *args, size_t token);
void mb_step_for_tokens(struct mb_stepper *s, size_t n, size_t width, mb_token_fn *fn,
                        const void *args);

/* The time since the last lap (or start) goes to a phase, and to MB_PHASE_BARRIER what of it the
 * pool's threads waited for each other. */
void mb_step_lap_start(struct mb_stepper *s);
void mb_step_lap(struct mb_stepper *s, enum mb_phase p);

/* One linear layer of those that read the same input. */
struct mb_product {
    const struct mb_linear *w;
    float *y;      /* [T][w->n_rows] */
    float *add_to; /* NULL, or [T][w->n_rows] that y is added to */
};

#define MB_PRODUCTS_MAX 3 /* q, k, v */

/* Those that read the same input, and run as one job. */
struct mb_products {
    struct mb_product product[MB_PRODUCTS_MAX];
    size_t n;
};

/* y = W in for n tokens and each of the products, whose inputs are the same columns of s->in:
 * codes them once (when any layer is Boolean), then runs the rows of all layers as one job. The
 * products that will follow, or NULL, are fetched by threads that wait. The time goes to
 * MB_PHASE_CODE and phase. */
void mb_step_linears(struct mb_stepper *s, size_t n, const struct mb_products *now,
                     const struct mb_products *next, enum mb_phase phase);

/* in = norm(x) of n rows; row i of in is row rows[i] of x, or row i when rows is NULL. */
void mb_step_norm(struct mb_stepper *s, const float *x, const uint32_t *rows, size_t n,
                  const float *weight);

/* in *= t over n rows of width columns; nothing when t is NULL. */
void mb_step_scale(struct mb_stepper *s, const uint16_t *t, size_t n, size_t width);

/* What all layers share: sin and cos of the batch's positions, and its pieces. */
void mb_step_prepare(struct mb_stepper *s, const struct mb_model *m, const struct mb_batch *b);

/* Query heads that share a key head. */
static inline size_t mb_step_heads_per_key(const struct mb_stepper *s)
{
    return s->shape.n_heads / s->shape.n_kv_heads;
}

/* The most tiles that a unit has. */
static inline size_t mb_step_unit_tiles(const struct mb_stepper *s)
{
    size_t n = (mb_step_heads_per_key(s) + MB_ATTEND_ROWS - 1) / MB_ATTEND_ROWS;
    return n > MB_STEP_UNIT_TILES ? n : MB_STEP_UNIT_TILES;
}

/* Makes all rows of n tiles fresh. */
void mb_step_fresh_tiles(const struct mb_stepper *s, struct mb_attend_tile *tiles, size_t n);

/* Rotates q and k, stores k and v, and attends: in = attention's output. */
void mb_step_attend(struct mb_stepper *s, struct mb_kv_cache *kv, uint32_t kv_layer,
                    const struct mb_batch *b);

/* A block, after mb_step_prepare; the batch is valid. tap may be NULL. following is the block that
 * will be run next, or NULL.
 * Errors: MB_E_CANCELLED when the tap said so. */
enum mb_status mb_step_block_run(struct mb_stepper *s, const struct mb_model *m, uint32_t layer,
                                 const struct mb_block *following, struct mb_kv_cache *kv,
                                 uint32_t kv_layer, const struct mb_batch *b,
                                 const struct mb_tap *tap, float *x, struct mb_error *err);

#endif
