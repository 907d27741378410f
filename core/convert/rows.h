/* Inside a fit: some rows of one matrix, which one worker takes from weights to coefficients.
 *
 * Given the statistics of the inputs, rows do not depend on each other. So a fit is cut into
 * parts of MB_FIT_ROWS rows, each fit from beginning to end by one thread with single-threaded
 * products of fixed sizes: the result can not depend on the number of threads.
 *
 * Shapes here: R rows of the part, n columns, G columns of a group, K kernels. */
#ifndef MB_CORE_ROWS_H
#define MB_CORE_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include "core/convert/coefs.h"
#include "core/convert/factor.h"
#include "core/convert/fit.h"
#include "core/convert/levels.h"
#include "core/convert/svid.h"

enum {
    MB_FIT_ROWS = 2 * MB_TILE_ROWS, /* tall enough for a fast product, and whole tiles */
    MB_FIT_BLOCK = 64,              /* columns decided between two products */
};

/* What all parts of a fit share. */
struct mb_fit_frame {
    const struct mb_fit_options *options;
    struct mb_bool_shape shape;
    const float *h;                 /* [n][n], or NULL for the identity */
    const struct mb_factor *factor; /* of h, or NULL with it */
    const struct mb_svid *svid;     /* for MB_INIT_SVD, else NULL */
    float unit;                     /* 2^-e: weights times unit are at most 1 */
};

/* One worker's memory. */
struct mb_fit_rows {
    size_t row, n_rows;      /* R rows from this one */
    float *w;                /* [R][n]: what is to be approximated, in units */
    float *q;                /* [R][n]: the approximation */
    float *u, *rest;         /* [R][n]: scratch; rest is w - q where columns are decided */
    uint8_t *pattern;        /* [R][n] */
    struct mb_coefs *coefs;  /* [R][groups] */
    struct mb_levels *level; /* [R] of the group in hand */
    float *sign, *product;   /* [R][K][G]: the group's signs, and times h */
    float *local, *before;   /* [R][G]: (w - q) H in the group; q when it was entered */
};

/* Coefficients of row r's group g for weights x [G] of importance d (NULL for 1): start, then
 * alternate signs and coefficients until neither changes, then round. alternate.c */
void mb_fit_group(const struct mb_fit_frame *f, struct mb_fit_rows *p, size_t r, size_t g,
                  const float *x, const float *d);

/* Decides all columns left to right, feeding errors forward. feedback.c */
void mb_fit_feedback(const struct mb_fit_frame *f, struct mb_fit_rows *p);

/* Turns of coordinate descent on the whole error, groups left to right: coefficients given
 * signs, then signs given coefficients. Never makes the error larger. refine.c */
void mb_fit_refine(const struct mb_fit_frame *f, struct mb_fit_rows *p);

#endif
