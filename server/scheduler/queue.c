#include "server/scheduler/queue.h"

#include <assert.h>
#include <stdlib.h>

enum mb_status mbd_queue_init(struct mbd_queue *q, uint32_t cap, struct mb_error *err)
{
    *q = (struct mbd_queue) { .cap = cap };
    q->ring = calloc(cap, sizeof q->ring[0]);
    if (!q->ring) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a queue of %u requests",
                       (unsigned) cap);
    }
    return MB_OK;
}

void mbd_queue_fini(struct mbd_queue *q)
{
    free(q->ring);
    *q = (struct mbd_queue) { 0 };
}

static struct mbd_waiting *at(const struct mbd_queue *q, uint32_t i)
{
    return &q->ring[((uint64_t) q->first + i) % q->cap];
}

bool mbd_queue_push(struct mbd_queue *q, const struct mbd_waiting *w)
{
    if (q->n == q->cap) {
        return false;
    }
    *at(q, q->n++) = *w;
    return true;
}

struct mbd_waiting mbd_queue_pop(struct mbd_queue *q)
{
    assert(q->n > 0);
    struct mbd_waiting w = *at(q, 0);
    q->first = (uint32_t) (((uint64_t) q->first + 1) % q->cap);
    q->n--;
    return w;
}
