/* How much of a step prompts may have while other sequences decode, so that the time between two
 * tokens of a stream stays within a budget.
 *
 * What a token of a prompt costs depends on the model, the processor, the threads, how many
 * decode beside it, and how far into its prompt it is. None of that is computed: the pace is
 * what the last such step has shown. It took time t for n tokens of prompts, and a part of t
 * does not depend on n (those who decode, and the weights that a step reads for however many
 * tokens). So n * budget / t tokens take at most the budget when t was below it; from above
 * it is approached in few steps. One step may change the pace by a factor of 2, so that a single
 * slow one, as when the machine was busy, is soon forgotten.
 *
 * A1: the pace decides how prompts are cut into steps, which no result depends on.
 *
 * Threads: one thread at a time; pure: time is an argument. */
#ifndef MBD_PACE_H
#define MBD_PACE_H

#include <stdint.h>

/* Prompts get so many tokens in any step, or they would never end where decoding alone takes
 * the whole budget. Below it a step hardly gets shorter: it reads all weights for one token as
 * for sixteen. */
#define MBD_PACE_TOKENS_MIN 16

struct mbd_pace {
    uint64_t budget_ns; /* for a step; 0: none */
    uint32_t tokens;    /* of prompts, in the next step that has decoding ones, too */
    uint32_t tokens_max;
};

void mbd_pace_init(struct mbd_pace *p, uint64_t budget_ns, uint32_t tokens_max);
/* A step took so long that had n_prompt tokens of prompts, and n_decoding others. */
void mbd_pace_observe(struct mbd_pace *p, uint32_t n_decoding, uint32_t n_prompt,
                      uint64_t took_ns);

#endif
