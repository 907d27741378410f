#include "server/scheduler/plan.h"

#include <assert.h>
#include <stdlib.h>

enum mb_status mbd_plan_init(struct mbd_plan *p, uint32_t n_slots, struct mb_error *err)
{
    *p = (struct mbd_plan) { .n_slots = n_slots };
    p->parts = calloc(n_slots, sizeof p->parts[0]);
    p->by_length = calloc(n_slots, sizeof p->by_length[0]);
    if (!p->parts || !p->by_length) {
        mbd_plan_fini(p);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory to plan %u sequences",
                       (unsigned) n_slots);
    }
    return MB_OK;
}

void mbd_plan_fini(struct mbd_plan *p)
{
    free(p->parts);
    free(p->by_length);
    *p = (struct mbd_plan) { 0 };
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Gives slot n more tokens, and returns the part. */
static struct mbd_plan_part *add(struct mbd_plan *p, uint32_t slot, uint32_t n)
{
    struct mbd_plan_part *part = &p->parts[p->n_parts++];
    *part = (struct mbd_plan_part) { .slot = slot, .n_tokens = n };
    p->n_tokens += n;
    return part;
}

/* Rule 1. Leaves turn at the first that got nothing, or where it was when all got their
 * token. */
static void plan_decoding(struct mbd_plan *p, const struct mbd_plan_slot *slots,
                          uint32_t budget)
{
    uint32_t start = p->turn;
    for (uint32_t i = 0; i < p->n_slots; i++) {
        uint32_t slot = (uint32_t) (((uint64_t) start + i) % p->n_slots);
        if (slots[slot].kind != MBD_PLAN_DECODE) {
            continue;
        }
        if (p->n_tokens == budget) {
            p->turn = slot;
            break;
        }
        add(p, slot, 1)->logits = true;
    }
    p->n_decoding = p->n_parts;
}

/* Does slot a come before slot b, shortest prompt first, then the older? */
static bool shorter(const struct mbd_plan_slot *slots, uint32_t a, uint32_t b)
{
    if (slots[a].prompt_left != slots[b].prompt_left) {
        return slots[a].prompt_left < slots[b].prompt_left;
    }
    return slots[a].order < slots[b].order;
}

/* The slots with prompts into by_length, in order; returns how many. Insertion: they are
 * few. */
static uint32_t sort_prompts(struct mbd_plan *p, const struct mbd_plan_slot *slots)
{
    uint32_t n = 0;
    for (uint32_t slot = 0; slot < p->n_slots; slot++) {
        if (slots[slot].kind != MBD_PLAN_PROMPT) {
            continue;
        }
        assert(slots[slot].prompt_left > 0);
        uint32_t i = n++;
        for (; i > 0 && shorter(slots, slot, p->by_length[i - 1]); i--) {
            p->by_length[i] = p->by_length[i - 1];
        }
        p->by_length[i] = slot;
    }
    return n;
}

/* Rules 2 and 3. */
static void plan_prompts(struct mbd_plan *p, const struct mbd_plan_slot *slots, uint32_t budget)
{
    uint32_t n = sort_prompts(p, slots), left = budget - p->n_tokens;
    if (n == 0 || left == 0) {
        return;
    }
    uint32_t oldest = p->by_length[0];
    for (uint32_t i = 1; i < n; i++) {
        uint32_t slot = p->by_length[i];
        oldest = slots[slot].order < slots[oldest].order ? slot : oldest;
    }
    struct mbd_plan_part *promised =
        add(p, oldest, least(slots[oldest].prompt_left, left - left / 2));
    for (uint32_t i = 0; i < n && p->n_tokens < budget; i++) {
        uint32_t slot = p->by_length[i];
        left = budget - p->n_tokens;
        if (slot != oldest) {
            add(p, slot, least(slots[slot].prompt_left, left));
            continue;
        }
        uint32_t more = least(slots[slot].prompt_left - promised->n_tokens, left);
        promised->n_tokens += more;
        p->n_tokens += more;
    }
    for (uint32_t i = p->n_decoding; i < p->n_parts; i++) {
        p->parts[i].logits = p->parts[i].n_tokens == slots[p->parts[i].slot].prompt_left;
    }
}

void mbd_plan_step(struct mbd_plan *p, const struct mbd_plan_slot *slots, uint32_t budget,
                   uint32_t pace)
{
    assert(budget >= 1);
    assert(pace >= 1);
    p->n_parts = p->n_decoding = p->n_tokens = 0;
    plan_decoding(p, slots, budget);
    if (p->n_decoding > 0 && pace < budget - p->n_tokens) {
        budget = p->n_tokens + pace;
    }
    plan_prompts(p, slots, budget);
}
