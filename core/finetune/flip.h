/* The Boolean optimizer of one matrix: weights move among the 2^K levels of their group, by
 * flipping bits, and no float copy of a weight exists.
 *
 * Each step's gradient G = d loss / d W becomes a wanted move of every weight,
 *
 *     x_ij = -step * unit * G_ij / sqrt(R_i C_j / mean(R))      clipped to MOVE_MAX steps
 *
 * with R and C running means of G^2 over rows and columns (free of the loss's scale), and unit half
 * the largest distance between neighbouring levels of a group, as a mean over the matrix at the
 * start: the finer the levels, the smaller the steps. Then, in either mode:
 *
 * MB_FLIP_ACCUMULATE  x_ij is added to the evidence e_ij, 8 bits, in units of 1/100 of half the
 *                     group's largest distance between levels; what is less than a unit is added
 *                     with the probability that makes it right on average. When e passes half the
 *                     distance to the neighbouring level, and hysteresis beyond it, the weight
 *                     moves there, which may flip several kernels' bits, and e is reduced by
 *                     the distance: what remains is not forgotten (or with reset, it is).
 * MB_FLIP_STOCHASTIC  no evidence: the weight moves to the neighbouring level with probability
 *                     |x_ij| / distance, so that it moves by x_ij on average.
 *
 * At most a budget of the weights flip per step, those that are furthest past their threshold
 * first. With last_kernel only bits of kernel K flip, as in the paper.
 *
 * Coefficients alpha_k of a row and group follow their own gradient, sum_j B_k G over the
 * group's columns, by AdamW relative to half the group's largest distance; kept as floats beside the integers
 * that they are stored as. They stay in their order, alpha_1 >= alpha_2 >= ... >= 0.
 *
 * Memory:  per weight 1 byte of evidence, 1 bit of what has moved; per row and group 12 K bytes.
 * Exact:   the same from the same, whatever the threads.
 * Life:    _init/_fini. Threads: one caller at a time; the pool's workers run inside. */
#ifndef MB_CORE_FINETUNE_FLIP_H
#define MB_CORE_FINETUNE_FLIP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/bytes.h"
#include "core/base/parallel.h"
#include "core/model/model.h"

enum mb_flip_mode { MB_FLIP_ACCUMULATE, MB_FLIP_STOCHASTIC };

struct mb_flip_options {
    enum mb_flip_mode mode;
    bool last_kernel;
    bool reset;        /* after a flip, forget the rest of the evidence */
    double hysteresis; /* 0..0.25: how much more than half the distance a move takes */
    double start;      /* 0..1: how near its threshold evidence may start */
    uint64_t seed;     /* of where it starts, when there is no target; this matrix's own */
};

/* One step's numbers, from the schedule. */
struct mb_flip_step {
    uint64_t t;  /* from 1 */
    double step; /* of weights, relative to unit */
    double
        coef_step; /* of coefficients, relative to half their group's largest distance; 0 leaves them */
    double budget;         /* share of weights that may flip */
    uint64_t seed, stream; /* of the random numbers: the run's, and this matrix's own */
};

struct mb_flip_counts {
    uint64_t n_flips; /* weights that changed their level; of all steps so far */
    uint64_t n_backs; /* of them: back to the level that they had at the start */
    uint64_t n_moved; /* weights that ever changed */
};

struct mb_flipper {
    struct mb_flip_options o;
    struct mb_bool_draft *w;           /* borrowed: the matrix that is trained */
    const struct mb_bool_matrix *base; /* borrowed: as it was at the start */
    float unit;
    int8_t *evidence; /* [m][n], or NULL */
    float *row, *col; /* [m], [n]: R, C */
    float *alpha;     /* [m][groups][K], and its moments */
    float *alpha_m, *alpha_v;
    uint32_t *moved; /* [m][words] */
    struct mb_flip_counts counts;
};

/* target is the float matrix that w approximates, row by row: evidence starts at what w leaves of
 * it. Or NULL: then nothing is known of what was rounded away, and evidence starts anywhere
 * within start of its thresholds, at random; so that a small move of all weights makes some of
 * them flip, at once, and as many as it should. Errors: MB_E_NOMEM. */
typedef void mb_flip_target_fn(const void *self, size_t row, float *ret);
enum mb_status mb_flipper_init(struct mb_flipper *f, const struct mb_flip_options *o,
                               struct mb_bool_draft *w, const struct mb_bool_matrix *base,
                               mb_flip_target_fn *target, const void *target_self,
                               struct mb_pool *pool, struct mb_error *err);
void mb_flipper_fini(struct mb_flipper *f); /* a zeroed one is allowed */

/* Errors: MB_E_INVALID when a gradient is not finite (nothing is changed then), MB_E_NOMEM. */
enum mb_status mb_flipper_step(struct mb_flipper *f, const struct mb_flip_step *s,
                               const float *dw, struct mb_pool *pool, struct mb_error *err);

/* Coefficients in closed form: least squares against what levels and evidence say together. */
void mb_flipper_refresh(struct mb_flipper *f, struct mb_pool *pool);

/* Bytes of state per weight, without the matrix itself. */
double mb_flipper_state_bytes(const struct mb_flipper *f);

/* What has to be kept to go on later, the matrix's bits and coefficients included. _load returns
 * false when the bytes are not of such a matrix; then f may not be used. */
void mb_flipper_save(const struct mb_flipper *f, struct mb_bytes *ret);
bool mb_flipper_load(struct mb_flipper *f, struct mb_cursor *from);

#endif
