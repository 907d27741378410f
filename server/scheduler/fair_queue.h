/* The queue of requests that wait for a slot: fair between tenants, first in, first out within each.
 *
 * A tenant is an API key, and 0 is everybody without one; a tenant's requests of normal priority and
 * its low ones are two flows. Each flow has an account of the work that was done for it, in tokens: a
 * prompt's count when it starts, those of its completion as they are drawn. Whose account is lowest is
 * next (the Virtual Token Counter of Sheng et al., Fairness in Serving Large Language Models, 2024).
 * So:
 *
 *     - flows that always wait for something get the same share of the work, whatever the sizes and
 *       numbers of their requests; a low one gets 1/MBD_FAIR_LOW of that.
 *     - who comes seldom is next at once, however many of others wait: its account is low. But nobody
 *       saves up: a flow that had nothing waiting starts level with what was served last.
 *     - nobody starves, low flows included: the others' accounts grow as they are served, and who waits
 *       becomes the lowest. What else is served while the head of a flow waits is at most, for each
 *       other flow, what brings its account there, and one request more.
 *     - with one tenant, and one priority, it is first come, first served.
 *
 * Source:  https://arxiv.org/abs/2401.00588, algorithm 2.
 * Memory:  entries for cap requests, and all flows, at _init; never more.
 * Threads: one thread at a time; pure but for its own memory. */
#ifndef MBD_FAIR_QUEUE_H
#define MBD_FAIR_QUEUE_H

#include "server/scheduler/queue.h"

#define MBD_TENANTS_MAX 2048
#define MBD_FAIR_LOW    8 /* a token of a low flow counts as so many */
/* A token that is drawn reads all weights, and is not shared with sixteen others as those of a prompt
 * are: it counts as two, as in the paper. */
#define MBD_FAIR_DRAWN  2

struct mbd_fair_flow;
struct mbd_fair_node;

struct mbd_fair_queue {
    struct mbd_fair_node *nodes; /* [cap] */
    struct mbd_fair_flow *flows; /* [2 * MBD_TENANTS_MAX] */
    uint32_t *waiting;           /* [n_waiting], the flows that have entries */
    uint32_t n_waiting;
    uint32_t cap, n;
    uint32_t free;   /* the first node that is */
    uint64_t served; /* the account of the flow that was served last, before it was */
    uint64_t n_pushed;
};

enum mb_status mbd_fair_queue_init(struct mbd_fair_queue *q, uint32_t cap,
                                   struct mb_error *err);
void mbd_fair_queue_fini(struct mbd_fair_queue *q);

bool mbd_fair_queue_push(struct mbd_fair_queue *q,
                         const struct mbd_waiting *w); /* or is full */
/* Whose turn it is, until the next call of anything else here; NULL: nobody waits. */
const struct mbd_waiting *mbd_fair_queue_next(const struct mbd_fair_queue *q);
/* That one, taken out, and its prompt charged; the queue is not empty. */
struct mbd_waiting mbd_fair_queue_pop(struct mbd_fair_queue *q);
/* n tokens were drawn for one that was popped. */
void mbd_fair_queue_drawn(struct mbd_fair_queue *q, uint32_t tenant, bool low, uint64_t n);
/* n tokens of a prompt that was popped need not be computed after all. */
void mbd_fair_queue_spared(struct mbd_fair_queue *q, uint32_t tenant, bool low, uint64_t n);
/* Asks drop once for each, and removes those for which it says true; the others keep their order. */
void mbd_fair_queue_filter(struct mbd_fair_queue *q,
                           bool (*drop)(void *arg, const struct mbd_waiting *w), void *arg);

#endif
