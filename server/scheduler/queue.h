/* A queue of requests: first in, first out, bounded. Who waits for a slot is in fair_queue.h.
 *
 * Memory:  entries for cap requests at _init, never more.
 * Threads: one thread at a time; pure but for its own memory. */
#ifndef MBD_QUEUE_H
#define MBD_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/status.h"

struct mbd_request;

/* What the scheduler has to know of a request that waits. */
struct mbd_waiting {
    struct mbd_request *request; /* not looked into here */
    uint32_t n_prompt;           /* tokens */
    uint32_t n_blocks;           /* of KV, for its whole need */
    uint32_t tenant;             /* whose it is, and with which priority: fair_queue.h */
    bool low;
};

struct mbd_queue {
    struct mbd_waiting *ring; /* [cap] */
    uint32_t cap, first, n;
};

enum mb_status mbd_queue_init(struct mbd_queue *q, uint32_t cap, struct mb_error *err);
void mbd_queue_fini(struct mbd_queue *q);

bool mbd_queue_push(struct mbd_queue *q, const struct mbd_waiting *w); /* false when full */
/* The oldest, taken out; the queue is not empty. */
struct mbd_waiting mbd_queue_pop(struct mbd_queue *q);

#endif
