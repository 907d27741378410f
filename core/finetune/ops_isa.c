/* ops.h in float32, for the instruction set that this file is compiled for: MB_OPS is the table's
 * name. The same source and no contraction give the same bits everywhere. */
#include "core/base/half.h"
#include "core/kernels/exp_constants.h"

/* exp of x <= 88, as mb_exp but with its fused steps apart, so that any compiler makes vectors of
 * it: relative error below 2^-22 for x in -87..88, 0 below. */
static inline float exp_lane(float x)
{
    float below = x < MB_EXP_MIN ? 0.0f : 1.0f;
    x = x < MB_EXP_MIN ? MB_EXP_MIN : x;
    float t = x * MB_EXP_LOG2_E + MB_EXP_TO_INTEGER;
    float n = t - MB_EXP_TO_INTEGER;
    float r = (x - n * MB_EXP_LN2_HIGH) - n * MB_EXP_LN2_LOW;
    float q = MB_EXP_C6 * r + MB_EXP_C5;
    q = q * r + MB_EXP_C4;
    q = q * r + MB_EXP_C3;
    q = q * r + MB_EXP_C2;
    float p = r * r * q + r + 1;
    return below * mb_f32_of_bits(mb_f32_bits(p) + (mb_f32_bits(t) << 23));
}

#define REAL       float
#define REAL_EXP   exp_lane
#define REAL_SGEMM mb_sgemm
#include "core/finetune/ops_template.h"

static struct mb_token_loss loss(float *z, float *teacher, size_t n, size_t target, float ce,
                                 float kl)
{
    struct loss_of l = token_loss(z, teacher, n, target, ce, kl);
    return (struct mb_token_loss) { l.cross_entropy, l.divergence };
}

#define TEXT_OF(x) #x
#define NAME_OF(x) TEXT_OF(x)
const struct mb_train_ops MB_OPS = {
    .name = NAME_OF(MB_OPS),
    .norm = norm,
    .norm_back = norm_back,
    .scale = scale,
    .scale_back = scale_back,
    .rope = rope,
    .gate = gate,
    .gate_back = gate_back,
    .loss = loss,
    .match = match,
    .code = code,
    .attend = attend,
    .attend_back = attend_back,
};
