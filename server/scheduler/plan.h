/* What the next step does: who is admitted, and whose tokens are run.
 *
 * Admission is in the order of the queue (fair_queue.h), into free slots, and only when the KV blocks of
 * the request's whole need (prompt and all it may generate) are free. Who is next is never overtaken
 * for being large. So what was admitted never waits for memory, nothing is ever thrown out to be
 * computed again, and who is next starts as soon as enough of the running end.
 *
 * A step has a budget of tokens, which bounds its memory and how long anybody waits for it, and
 * of that a pace for prompts, when there are others who wait for their next token (pace.h):
 *
 *     1. Each decoding sequence gets one token. (A prompt ends with a token of the budget, so
 *        they are never more than the budget, but when readers come back whose sequences had
 *        stalled: then they take turns, from where the last step stopped.)
 *     2. Of what is left, and not above the pace when 1 gave any, half, rounded up, goes to the prompt that was admitted first. It ends
 *        after a known number of steps whatever comes later: no prompt starves.
 *     3. The rest goes to the prompt with the fewest tokens left, then to the next: a short
 *        prompt is not held up by a long one, and of equal prompts the older ends first, which
 *        is the least mean time to the first token. (Equal shares would let everybody wait for
 *        everybody's prompt.)
 *
 * A prompt's last token, and every decoding token, asks for logits. A sequence whose reader
 * does not keep up is not planned; it keeps its slot.
 *
 * Memory:  a plan's arrays are made at _init for n_slots; planning allocates nothing.
 * Threads: pure: the same slots, budget, pace and turn give the same plan. */
#ifndef MBD_PLAN_H
#define MBD_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/status.h"

enum mbd_plan_kind {
    MBD_PLAN_FREE,    /* no sequence here */
    MBD_PLAN_PROMPT,  /* prompt_left > 0 tokens are to be stored */
    MBD_PLAN_DECODE,  /* the token drawn last is to be stored, and the next drawn */
    MBD_PLAN_STALLED, /* as either, but its reader has no room */
};

struct mbd_plan_slot {
    enum mbd_plan_kind kind;
    uint32_t prompt_left;
    uint64_t order; /* of admission; all different */
};

/* A run of tokens of one sequence. */
struct mbd_plan_part {
    uint32_t slot;
    uint32_t n_tokens;
    bool logits; /* of the run's last token */
};

struct mbd_plan {
    struct mbd_plan_part *parts; /* [n_parts], each slot at most once, decoding ones first */
    uint32_t n_parts;
    uint32_t n_decoding; /* of the parts */
    uint32_t n_tokens;   /* of all parts, at most the budget */
    uint32_t turn;       /* the slot from which decoding sequences are looked at */
    uint32_t *by_length; /* scratch, [n_slots] */
    uint32_t n_slots;
};

enum mb_status mbd_plan_init(struct mbd_plan *p, uint32_t n_slots, struct mb_error *err);
void mbd_plan_fini(struct mbd_plan *p);

/* Writes parts and counts anew, and moves turn. slots is [n_slots]; budget and pace >= 1. */
void mbd_plan_step(struct mbd_plan *p, const struct mbd_plan_slot *slots, uint32_t budget,
                   uint32_t pace);

#endif
