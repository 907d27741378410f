#include "server/scheduler/fair_queue.h"

#include <assert.h>
#include <stdlib.h>

#define NONE UINT32_MAX

struct mbd_fair_node {
    struct mbd_waiting waiting;
    uint64_t order; /* of coming */
    uint32_t next;  /* of the flow, or of those that are free */
};

struct mbd_fair_flow {
    uint64_t spent;       /* its account, in tokens by their weights */
    uint32_t first, last; /* nodes, when it has any */
    uint32_t n;
};

enum mb_status mbd_fair_queue_init(struct mbd_fair_queue *q, uint32_t cap, struct mb_error *err)
{
    uint32_t n_flows = 2 * MBD_TENANTS_MAX;
    *q = (struct mbd_fair_queue) { .cap = cap };
    q->nodes = calloc(cap, sizeof q->nodes[0]);
    q->flows = calloc(n_flows, sizeof q->flows[0]);
    q->waiting = calloc(n_flows, sizeof q->waiting[0]);
    if (!q->nodes || !q->flows || !q->waiting) {
        mbd_fair_queue_fini(q);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a queue of %u requests",
                       (unsigned) cap);
    }
    for (uint32_t i = 0; i < cap; i++) {
        q->nodes[i].next = i + 1 < cap ? i + 1 : NONE;
    }
    q->free = cap > 0 ? 0 : NONE;
    return MB_OK;
}

void mbd_fair_queue_fini(struct mbd_fair_queue *q)
{
    free(q->nodes);
    free(q->flows);
    free(q->waiting);
    *q = (struct mbd_fair_queue) { 0 };
}

static uint32_t flow_of(uint32_t tenant, bool low)
{
    assert(tenant < MBD_TENANTS_MAX);
    return 2 * tenant + low;
}

static uint64_t weight_of(bool low)
{
    return low ? MBD_FAIR_LOW : 1;
}

bool mbd_fair_queue_push(struct mbd_fair_queue *q, const struct mbd_waiting *w)
{
    if (q->n == q->cap) {
        return false;
    }
    uint32_t at = q->free, id = flow_of(w->tenant, w->low);
    struct mbd_fair_flow *f = &q->flows[id];
    q->free = q->nodes[at].next;
    q->nodes[at] = (struct mbd_fair_node) { *w, q->n_pushed++, NONE };
    if (f->n == 0) { /* level with the others: what it did not ask for it did not save */
        f->spent = f->spent < q->served ? q->served : f->spent;
        f->first = at;
        q->waiting[q->n_waiting++] = id;
    } else {
        q->nodes[f->last].next = at;
    }
    f->last = at;
    f->n++;
    q->n++;
    return true;
}

/* The place in waiting of the flow that is next. */
static uint32_t next_place(const struct mbd_fair_queue *q)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < q->n_waiting; i++) {
        const struct mbd_fair_flow *f = &q->flows[q->waiting[i]];
        const struct mbd_fair_flow *b = &q->flows[q->waiting[best]];
        bool older = q->nodes[f->first].order < q->nodes[b->first].order;
        if (f->spent < b->spent || (f->spent == b->spent && older)) {
            best = i;
        }
    }
    return best;
}

const struct mbd_waiting *mbd_fair_queue_next(const struct mbd_fair_queue *q)
{
    if (q->n == 0) {
        return NULL;
    }
    return &q->nodes[q->flows[q->waiting[next_place(q)]].first].waiting;
}

/* The flow at this place has no more entries. */
static void stop_waiting(struct mbd_fair_queue *q, uint32_t place)
{
    q->waiting[place] = q->waiting[--q->n_waiting];
}

static void free_node(struct mbd_fair_queue *q, uint32_t at)
{
    q->nodes[at].next = q->free;
    q->free = at;
    q->n--;
}

struct mbd_waiting mbd_fair_queue_pop(struct mbd_fair_queue *q)
{
    assert(q->n > 0);
    uint32_t place = next_place(q);
    struct mbd_fair_flow *f = &q->flows[q->waiting[place]];
    uint32_t at = f->first;
    struct mbd_waiting w = q->nodes[at].waiting;
    f->first = q->nodes[at].next;
    free_node(q, at);
    if (--f->n == 0) {
        stop_waiting(q, place);
    }
    q->served = f->spent > q->served ? f->spent : q->served;
    f->spent += w.n_prompt * weight_of(w.low);
    return w;
}

void mbd_fair_queue_drawn(struct mbd_fair_queue *q, uint32_t tenant, bool low, uint64_t n)
{
    q->flows[flow_of(tenant, low)].spent += n * MBD_FAIR_DRAWN * weight_of(low);
}

void mbd_fair_queue_spared(struct mbd_fair_queue *q, uint32_t tenant, bool low, uint64_t n)
{
    struct mbd_fair_flow *f = &q->flows[flow_of(tenant, low)];
    assert(f->spent >= n * weight_of(low));
    f->spent -= n * weight_of(low);
}

static void filter_flow(struct mbd_fair_queue *q, struct mbd_fair_flow *f,
                        bool (*drop)(void *arg, const struct mbd_waiting *w), void *arg)
{
    uint32_t *link = &f->first, last = NONE;
    for (uint32_t at = f->first, next; at != NONE; at = next) {
        next = q->nodes[at].next;
        if (drop(arg, &q->nodes[at].waiting)) {
            *link = next;
            free_node(q, at);
            f->n--;
        } else {
            link = &q->nodes[at].next;
            last = at;
        }
    }
    f->last = last;
}

void mbd_fair_queue_filter(struct mbd_fair_queue *q,
                           bool (*drop)(void *arg, const struct mbd_waiting *w), void *arg)
{
    for (uint32_t i = 0; i < q->n_waiting;) {
        struct mbd_fair_flow *f = &q->flows[q->waiting[i]];
        filter_flow(q, f, drop, arg);
        if (f->n == 0) {
            stop_waiting(q, i);
        } else {
            i++;
        }
    }
}
