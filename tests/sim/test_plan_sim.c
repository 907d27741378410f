/* Goal:   the scheduler keeps its promises to a crowd: budget, decoding first, first come first
 *         served within a flow, nobody starves, everybody ends, no slot and no block is lost (J1) or shared
 *         (J2).
 * Method: a simulator with a clock of its own and a thousand clients: short and huge prompts,
 *         bursts, clients that leave in every state, readers that are slow. Everything follows
 *         from the seed; every invariant is checked at every step. */
#include <string.h>

#include "core/base/rng.h"
#include "server/scheduler/fair_queue.h"
#include "server/scheduler/plan.h"
#include "tests/check_main.h"

enum { CLIENTS = 1000, SLOTS_MAX = 16, BLOCK = 32, BLOCKS_MAX = 512, STEPS_MAX = 2000000 };
enum { NOBODY = -1, TENANTS = 3 };

/* Checks run millions of times here, and Check's own note each success in a file. */
#define must(condition)                     \
    do {                                    \
        if (!(condition)) {                 \
            ck_abort_msg("%s", #condition); \
        }                                   \
    } while (0)

enum { TO_COME, WAITING, RUNNING, ENDED };

struct client {
    uint64_t arrives, leaves;    /* on the clock; leaves is when the client cancels, or never */
    uint32_t n_prompt, n_tokens; /* tokens that it will make until its end of sequence */
    uint32_t max_tokens;
    uint32_t reads_every; /* ticks for an event */
    uint32_t ring;        /* events that fit its ring */
    uint32_t tenant;
    bool low;

    int state;
    uint32_t n_stored, n_made, n_read, n_blocks;
    uint64_t next_read, admitted_step, first_token_deadline;
    uint64_t served_step; /* the last with a token of its own, or without a claim to one */
};

struct sim {
    uint64_t seed, now, step, next_order;
    uint32_t n_slots, n_blocks, budget, pace;
    struct client clients[CLIENTS];
    int slot_client[SLOTS_MAX];
    uint64_t slot_order[SLOTS_MAX];
    int block_client[BLOCKS_MAX];
    uint32_t n_free;    /* blocks, by count; the table is the truth */
    uint32_t n_arrived; /* clients [0, n_arrived) have come; they are sorted by arrival */
    uint32_t n_ended, n_cancelled, n_stalls;
    int last_admitted[2 * TENANTS]; /* of each flow */
    struct mbd_fair_queue queue;
    struct mbd_plan plan;
    struct mbd_plan_slot slots[SLOTS_MAX];
};

static uint64_t draw(const struct sim *s, uint64_t stream, uint64_t i, uint64_t n)
{
    return mb_rng_u64(s->seed, stream, i) % n;
}

static uint32_t blocks_for(uint32_t n)
{
    return (n + BLOCK - 1) / BLOCK;
}

/* --- the crowd --- */

static void make_client(struct sim *s, uint64_t i, uint64_t arrives)
{
    struct client *c = &s->clients[i];
    uint32_t whole = s->n_blocks * BLOCK; /* the longest that can ever run */
    *c = (struct client) { .arrives = arrives, .leaves = UINT64_MAX, .state = TO_COME };
    uint32_t longest = draw(s, 1, i, 20) == 0 ? whole - 40 : 100;
    c->n_prompt = 1 + (uint32_t) draw(s, 2, i, longest);
    c->max_tokens = 1 + (uint32_t) draw(s, 3, i, 40);
    c->n_tokens = 1 + (uint32_t) draw(s, 4, i, c->max_tokens);
    c->n_blocks = blocks_for(c->n_prompt + c->max_tokens - 1);
    c->reads_every = draw(s, 5, i, 10) == 0 ? 200 : 0;
    c->ring = 1 + (uint32_t) draw(s, 6, i, 8);
    c->tenant = (uint32_t) draw(s, 11, i, TENANTS);
    c->low = draw(s, 12, i, 4) == 0;
    if (draw(s, 7, i, 4) == 0) {
        c->leaves = arrives + draw(s, 8, i, 3000);
    }
}

static void sim_init(struct sim *s, uint64_t seed)
{
    struct mb_error err = { 0 };
    memset(s, 0, sizeof *s);
    s->seed = seed;
    s->n_slots = 1 + (uint32_t) draw(s, 100, 0, SLOTS_MAX);
    s->n_blocks = 8 + (uint32_t) draw(s, 100, 1, BLOCKS_MAX - 8);
    /* Half of the time smaller than the number of slots: then the decoding take turns. */
    s->budget = 1 + (uint32_t) draw(s, 100, 2, seed % 2 ? 512 : 8);
    s->pace = draw(s, 100, 4, 2) ? s->budget : 1 + (uint32_t) draw(s, 100, 5, s->budget);
    s->n_free = s->n_blocks;
    for (int i = 0; i < 2 * TENANTS; i++) {
        s->last_admitted[i] = NOBODY;
    }
    uint64_t arrives = 0, gap = 1 + draw(s, 100, 3, 200);
    for (uint64_t i = 0; i < CLIENTS; i++) {
        arrives += draw(s, 9, i, 3) == 0 ? draw(s, 10, i, gap * 3) : 0; /* bursts */
        make_client(s, i, arrives);
    }
    for (uint32_t i = 0; i < SLOTS_MAX; i++) {
        s->slot_client[i] = NOBODY;
    }
    for (uint32_t i = 0; i < BLOCKS_MAX; i++) {
        s->block_client[i] = NOBODY;
    }
    mb_assert_ok(mbd_plan_init(&s->plan, s->n_slots, &err), &err);
    mb_assert_ok(mbd_fair_queue_init(&s->queue, CLIENTS, &err), &err);
}

/* The queue carries a pointer that it does not look into. */
static int client_of(const struct sim *s, const struct mbd_waiting *w)
{
    return (int) ((const struct client *) (const void *) w->request - s->clients);
}

/* --- ends --- */

static void end_client(struct sim *s, int i)
{
    must(s->clients[i].state != ENDED); /* once */
    s->clients[i].state = ENDED;
    s->n_ended++;
}

static void free_slot(struct sim *s, uint32_t slot)
{
    int client = s->slot_client[slot];
    for (uint32_t b = 0; b < s->n_blocks; b++) {
        if (s->block_client[b] == client) {
            s->block_client[b] = NOBODY;
            s->n_free++;
        }
    }
    s->slot_client[slot] = NOBODY;
    end_client(s, client);
}

static bool has_left(void *arg, const struct mbd_waiting *w)
{
    struct sim *s = arg;
    int i = client_of(s, w);
    if (s->clients[i].leaves > s->now) {
        return false;
    }
    s->n_cancelled++;
    end_client(s, i);
    return true;
}

static void cancel(struct sim *s)
{
    mbd_fair_queue_filter(&s->queue, has_left, s);
    for (uint32_t slot = 0; slot < s->n_slots; slot++) {
        if (s->slot_client[slot] != NOBODY &&
            s->clients[s->slot_client[slot]].leaves <= s->now) {
            s->n_cancelled++;
            free_slot(s, slot);
        }
    }
}

/* --- a step --- */

static void arrive(struct sim *s)
{
    while (s->n_arrived < CLIENTS && s->clients[s->n_arrived].arrives <= s->now) {
        struct client *c = &s->clients[s->n_arrived++];
        struct mbd_waiting w = { (struct mbd_request *) (void *) c, c->n_prompt, c->n_blocks,
                                 c->tenant, c->low };
        must(mbd_fair_queue_push(&s->queue, &w));
        c->state = WAITING;
    }
}

static void read_events(struct sim *s)
{
    for (uint32_t slot = 0; slot < s->n_slots; slot++) {
        int client = s->slot_client[slot];
        struct client *c = client == NOBODY ? NULL : &s->clients[client];
        if (c && c->next_read <= s->now) {
            c->n_read += c->reads_every == 0 ? c->n_made - c->n_read : c->n_made > c->n_read;
            c->next_read = s->now + c->reads_every;
        }
    }
}

/* When every slot has at least one token of budget left for prompts: each step gives at least
 * half of that to the oldest prompt, so this one's turn is known when it is admitted. */
static uint64_t deadline(const struct sim *s, const struct client *c)
{
    if (s->budget <= s->n_slots) {
        return UINT64_MAX;
    }
    uint32_t left = s->budget - s->n_slots;
    uint32_t share = ((left < s->pace ? left : s->pace) + 1) / 2;
    uint64_t steps = (c->n_prompt + share - 1) / share;
    for (uint32_t slot = 0; slot < s->n_slots; slot++) {
        if (s->slot_client[slot] != NOBODY) {
            const struct client *other = &s->clients[s->slot_client[slot]];
            steps += (other->n_prompt - other->n_stored + share - 1) / share;
        }
    }
    return s->step + steps;
}

static void start(struct sim *s, int client, uint32_t slot)
{
    struct client *c = &s->clients[client];
    uint32_t want = c->n_blocks;
    must(c->state == WAITING);
    c->first_token_deadline = deadline(s, c);
    for (uint32_t b = 0; b < s->n_blocks && want > 0; b++) {
        if (s->block_client[b] == NOBODY) { /* J2 */
            s->block_client[b] = client;
            s->n_free--;
            want--;
        }
    }
    must(want == 0); /* what was promised is there */
    c->state = RUNNING;
    c->admitted_step = c->served_step = s->step;
    s->slot_client[slot] = client;
    s->slot_order[slot] = s->next_order++;
}

static void admit(struct sim *s)
{
    const struct mbd_waiting *next;
    uint32_t slot = 0;
    while ((next = mbd_fair_queue_next(&s->queue)) && next->n_blocks <= s->n_free) {
        while (slot < s->n_slots && s->slot_client[slot] != NOBODY) {
            slot++;
        }
        if (slot == s->n_slots) {
            return;
        }
        struct mbd_waiting w = mbd_fair_queue_pop(&s->queue);
        int client = client_of(s, &w);
        int *last = &s->last_admitted[2 * w.tenant + w.low];
        must(client > *last); /* within a flow: first come, first served */
        *last = client;
        start(s, client, slot);
    }
}

static enum mbd_plan_kind kind_of(struct sim *s, uint32_t slot)
{
    if (s->slot_client[slot] == NOBODY) {
        return MBD_PLAN_FREE;
    }
    const struct client *c = &s->clients[s->slot_client[slot]];
    if (c->n_made - c->n_read >= c->ring) {
        s->n_stalls++;
        return MBD_PLAN_STALLED;
    }
    return c->n_stored < c->n_prompt ? MBD_PLAN_PROMPT : MBD_PLAN_DECODE;
}

static void plan(struct sim *s)
{
    for (uint32_t slot = 0; slot < s->n_slots; slot++) {
        int client = s->slot_client[slot];
        const struct client *c = client == NOBODY ? NULL : &s->clients[client];
        s->slots[slot] = (struct mbd_plan_slot) {
            .kind = kind_of(s, slot),
            .prompt_left = c && c->n_stored < c->n_prompt ? c->n_prompt - c->n_stored : 0,
            .order = s->slot_order[slot],
        };
    }
    mbd_plan_step(&s->plan, s->slots, s->budget, s->pace);
}

/* The plan against its rules, from the outside. */
static void check_plan(struct sim *s)
{
    uint32_t n_tokens = 0, n_decoding = 0, n_prompts_left = 0, given[SLOTS_MAX] = { 0 };
    for (uint32_t i = 0; i < s->plan.n_parts; i++) {
        const struct mbd_plan_part *part = &s->plan.parts[i];
        const struct mbd_plan_slot *slot = &s->slots[part->slot];
        must(given[part->slot] == 0); /* one part a slot */
        must(part->n_tokens > 0);
        given[part->slot] = part->n_tokens;
        n_tokens += part->n_tokens;
        if (slot->kind == MBD_PLAN_DECODE) {
            must(part->n_tokens == 1 && part->logits && i < s->plan.n_decoding);
            n_decoding++;
        } else {
            must(slot->kind == MBD_PLAN_PROMPT);
            must(part->n_tokens <= slot->prompt_left);
            must(part->logits == (part->n_tokens == slot->prompt_left));
        }
    }
    must(n_tokens == s->plan.n_tokens);
    must(n_tokens <= s->budget);
    bool skipped = false;
    for (uint32_t slot = 0; slot < s->n_slots; slot++) {
        skipped = skipped || (s->slots[slot].kind == MBD_PLAN_DECODE && given[slot] == 0);
        n_prompts_left += s->slots[slot].kind == MBD_PLAN_PROMPT
                              ? s->slots[slot].prompt_left - given[slot]
                              : 0;
    }
    /* Who decodes waits for nothing but others who decode. */
    must(!skipped || (n_decoding == s->budget && n_tokens == s->budget));
    uint32_t most = s->budget;
    if (n_decoding > 0 && s->pace < s->budget - n_decoding) {
        most = n_decoding + s->pace;
    }
    must(n_tokens <= most);
    if (n_tokens < most) { /* no budget is wasted */
        must(n_prompts_left == 0);
    }
}

/* No decoding sequence waits longer than a whole turn of the others. */
static void check_turns(struct sim *s)
{
    for (uint32_t slot = 0; slot < s->n_slots; slot++) {
        int client = s->slot_client[slot];
        if (client != NOBODY && s->slots[slot].kind == MBD_PLAN_DECODE) {
            uint64_t most = (s->n_slots + s->budget - 1) / s->budget;
            must(s->step - s->clients[client].served_step <= most + 1);
        } else if (client != NOBODY) {
            s->clients[client].served_step = s->step;
        }
    }
}

static void run(struct sim *s)
{
    for (uint32_t i = 0; i < s->plan.n_parts; i++) {
        const struct mbd_plan_part *part = &s->plan.parts[i];
        struct client *c = &s->clients[s->slot_client[part->slot]];
        c->served_step = s->step;
        c->n_stored += part->n_tokens;
        must(c->n_stored <= c->n_prompt + c->max_tokens - 1);
        if (!part->logits) {
            continue;
        }
        if (c->n_made++ == 0) {
            must(s->step <= c->first_token_deadline);
        }
        mbd_fair_queue_drawn(&s->queue, c->tenant, c->low, 1);
        if (c->n_made == c->n_tokens) {
            free_slot(s, part->slot);
        }
    }
}

/* Every block and slot belongs to whom the table says, and to nobody who ended. */
static void check_owners(const struct sim *s)
{
    uint32_t owned[CLIENTS] = { 0 }, n_owned = 0;
    for (uint32_t b = 0; b < s->n_blocks; b++) {
        if (s->block_client[b] != NOBODY) {
            owned[s->block_client[b]]++;
            n_owned++;
        }
    }
    must(n_owned + s->n_free == s->n_blocks);
    uint32_t n_running = 0;
    for (uint32_t slot = 0; slot < s->n_slots; slot++) {
        if (s->slot_client[slot] != NOBODY) {
            const struct client *c = &s->clients[s->slot_client[slot]];
            must(c->state == RUNNING);
            must(owned[s->slot_client[slot]] == c->n_blocks);
            n_owned -= c->n_blocks;
            n_running++;
        }
    }
    must(n_owned == 0);
    must(s->n_arrived == s->n_ended + s->queue.n + n_running);
}

/* A step costs time by its tokens; an idle one lasts until something may have changed. */
static void pass_time(struct sim *s)
{
    s->now += 5 + s->plan.n_tokens / 8;
    if (s->plan.n_parts == 0 && s->queue.n == 0 && s->n_arrived < CLIENTS &&
        s->n_ended == s->n_arrived) {
        s->now = s->clients[s->n_arrived].arrives;
    }
    s->step++;
}

START_TEST(a_crowd_is_served)
{
    static struct sim sim;
    struct sim *s = &sim;
    sim_init(s, (uint64_t) _i);
    while (s->n_ended < CLIENTS) {
        must(s->step < STEPS_MAX);
        arrive(s);
        read_events(s);
        cancel(s);
        admit(s);
        plan(s);
        check_plan(s);
        check_turns(s);
        run(s);
        check_owners(s);
        pass_time(s);
    }
    must(s->n_free == s->n_blocks && s->queue.n == 0);
    must(s->n_cancelled > 0 && s->n_cancelled < CLIENTS / 2);
    must(s->n_stalls > 0);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        const struct client *c = &s->clients[i];
        must(c->n_made == c->n_tokens || c->leaves <= s->now);
    }
    mbd_plan_fini(&s->plan);
    mbd_fair_queue_fini(&s->queue);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plan_sim");
    TCase *t = tcase_create("crowd");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, a_crowd_is_served, 0, 10);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
