#include "server/scheduler/pace.h"

#include <stdbool.h>

/* What is aimed at, of the budget: steps that should take the same time differ (aiming at 15/16,
 * a tenth of them took up to 9 % more than the budget), and it is a bound to all of them. */
enum { AIM = 7, AIM_OF = 8 };

static uint64_t within(uint64_t v, uint64_t min, uint64_t max)
{
    return v < min ? min : v > max ? max : v;
}

void mbd_pace_init(struct mbd_pace *p, uint64_t budget_ns, uint32_t tokens_max)
{
    uint32_t first = budget_ns == 0 ? UINT32_MAX : MBD_PACE_TOKENS_MIN;
    *p = (struct mbd_pace) {
        .budget_ns = budget_ns,
        .tokens = first < tokens_max ? first : tokens_max,
        .tokens_max = tokens_max,
    };
}

void mbd_pace_observe(struct mbd_pace *p, uint32_t n_decoding, uint32_t n_prompt,
                      uint64_t took_ns)
{
    if (p->budget_ns == 0 || n_decoding == 0 || n_prompt == 0) {
        return; /* says nothing of the two together */
    }
    uint64_t aim_ns = p->budget_ns / AIM_OF * AIM;
    uint64_t fit = (uint64_t) ((double) n_prompt * (double) aim_ns / (double) (took_ns + 1));
    fit = within(fit, n_prompt / 2, 2 * (uint64_t) n_prompt);
    /* A prompt that ended in the step had less than the pace allows: that less fits is no
     * reason to slow down, and that it took too long is none to speed up. */
    bool slower = took_ns > aim_ns;
    if (slower ? fit < p->tokens : fit > p->tokens) {
        uint64_t min =
            MBD_PACE_TOKENS_MIN < p->tokens_max ? MBD_PACE_TOKENS_MIN : p->tokens_max;
        p->tokens = (uint32_t) within(fit, min, p->tokens_max);
    }
}
