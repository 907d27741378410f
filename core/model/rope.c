#include <assert.h>
#include <math.h>

#include "core/model/model.h"

#define PI 3.14159265358979323846

/* Llama 3.1's correction of one frequency f, with L the context the model was first made for:
 * waves shorter than L / high keep their frequency, those longer than L / low are slowed by
 * factor, and between the two f is interpolated in the number of turns that L holds.
 *
 *     turns = L f / 2 pi,   s = (turns - low) / (high - low) clamped to [0, 1]
 *     f' = (1 - s) f / factor + s f
 *
 * Source: "The Llama 3 Herd of Models" (2024), and the rope_type "llama3" of transformers. */
static double stretch(const struct mb_rope_params *p, double f)
{
    double turns = p->original_context * f / (2 * PI);
    if (turns > p->high_freq_factor) {
        return f;
    }
    if (turns < p->low_freq_factor) {
        return f / p->factor;
    }
    double s = (turns - p->low_freq_factor) / (p->high_freq_factor - p->low_freq_factor);
    return (1 - s) * f / p->factor + s * f;
}

void mb_rope_frequencies(const struct mb_rope_params *p, uint32_t head_width, double *ret)
{
    assert(head_width % 2 == 0);
    assert(p->theta > 0);
    for (uint32_t i = 0; i < head_width / 2; i++) {
        double f = pow(p->theta, -2.0 * i / head_width);
        if (p->linear_factor != 0) {
            f /= p->linear_factor;
        }
        ret[i] = p->factor != 0 ? stretch(p, f) : f;
    }
}
