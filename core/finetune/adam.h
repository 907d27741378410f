/* AdamW on plain floats: for what is not Boolean (norms, input scales, coefficients), and for the
 * float models of pretraining and of the yardstick.
 *
 *     m = b1 m + (1 - b1) g;   v = b2 v + (1 - b2) g^2
 *     w = w - step (m^ / (sqrt(v^) + eps) + decay w),   m^, v^ without the bias of their start
 *
 * Source:  Kingma and Ba 2015; Loshchilov and Hutter 2019.
 * Threads: pure, on disjoint memory. */
#ifndef MB_CORE_FINETUNE_ADAM_H
#define MB_CORE_FINETUNE_ADAM_H

#include <stddef.h>
#include <stdint.h>

#define MB_ADAM_B1  0.9
#define MB_ADAM_B2  0.99 /* short runs: what it was a hundred steps ago says little */
#define MB_ADAM_EPS 1e-12

/* One step's constants. t counts steps from 1. */
struct mb_adam {
    float b1, b2, eps, step, decay;
    float m_unit, v_unit; /* 1 / (1 - b^t) */
};

struct mb_adam mb_adam_at(uint64_t t, double step, double decay); /* with the numbers above */
struct mb_adam mb_adam_with(double b1, double b2, double eps, uint64_t t, double step,
                            double decay);

/* The change of one weight but for decay, in units of step: -m^ / (sqrt(v^) + eps). */
float mb_adam_move(const struct mb_adam *a, float g, float *m, float *v);
void mb_adam_apply(const struct mb_adam *a, float *w, const float *g, float *m, float *v,
                   size_t n);

#endif
