/* The fit of one weight matrix to a sum of Boolean matrices (DESIGN 2.1, 4).
 *
 *     minimise  tr((W* - Q) H (W* - Q)^T)
 *     Q = scale_all * s * sum_k c_k B_k   per row and group
 *
 * H is the second moment of the layer's inputs, so this is the squared error of its output; W*
 * is W, moved to undo what earlier layers got wrong (below). Three stages, row by row:
 *
 *   1. group by group, left to right: K coefficients fit to the weights as they are by then
 *      (initial kernels, then signs and coefficients in turn, columns weighed by what can not
 *      be made good later), and each column's error fed forward to the columns that come
 *   2. n_turns of coordinate descent on the whole error: coefficients in closed form given the
 *      signs, kept only if better once rounded; then each weight to the level that is best
 *      given all others. The error never grows
 *   3. packing; coefficients have been integers with one float16 scale all along
 *
 * Without statistics H is the identity and stage 1 feeds nothing.
 *
 *     W* = W + follow * (W drift + owed) H^-1        (see statistics.h)
 *
 * is, for follow = 1, the weight that best maps the inputs as they have become to the output
 * that the float model has. Less than 1 trusts the calibration text less.
 *
 * Exact:   the same matrix, statistics, options and seed give the same bytes at any number of
 *          threads on one kind of processor.
 * Threads: one caller at a time per pool. */
#ifndef MB_CORE_FIT_H
#define MB_CORE_FIT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/parallel.h"
#include "core/convert/factor.h"
#include "core/convert/init.h"
#include "core/convert/source.h"
#include "core/convert/statistics.h"
#include "core/tensor/bool_matrix.h"

#define MB_FIT_GROUP_DEFAULT   128
#define MB_FIT_TURNS_DEFAULT   4
#define MB_FIT_TURNS_MAX       1000
#define MB_FIT_DAMPING_DEFAULT 0.01
#define MB_FIT_FOLLOW_DEFAULT  0.75f

struct mb_fit_options {
    uint32_t n_kernels; /* 1..MB_KERNELS_MAX */
    uint32_t group;     /* columns; 0 is the whole row */
    enum mb_fit_init init;
    uint64_t seed;
    uint32_t n_turns; /* of stage 2 */
    bool
        once; /* stage 1 leaves each group where it starts, as the nearest levels: to compare */
    float follow; /* 0..1 */
};

/* What H says of one layer input, for the layers that share it. */
struct mb_fit_inputs {
    const struct mb_statistics *statistics; /* finished */
    const struct mb_factor *factor;         /* of statistics->second */
};

struct mb_fit_errors {
    double output; /* tr((W - Q) H (W - Q)^T) / tr(W H W^T); 0 when W is 0 */
    double plain;  /* |W - Q|^2 / |W|^2 */
};

/* The group that a row of n_cols gets: whole rows are rounded up to a word. */
uint32_t mb_fit_group_cols(const struct mb_fit_options *o, uint32_t n_cols);
/* The shape that a fit of w has; not checked. */
struct mb_bool_shape mb_fit_shape(const struct mb_fit_options *o, const struct mb_linear *w);

/* owed, if the statistics have it, is for this layer's rows. inputs may be NULL; name is for
 * errors. Errors: MB_E_INVALID for options, or weights that are not finite; MB_E_NOMEM. */
enum mb_status mb_fit(const char *name, const struct mb_source *w,
                      const struct mb_fit_inputs *inputs, const struct mb_fit_options *o,
                      struct mb_pool *pool, struct mb_bool_draft *ret,
                      struct mb_fit_errors *ret_errors, struct mb_error *err);

#endif
