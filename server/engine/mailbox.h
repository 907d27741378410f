/* The mailbox: where the control thread leaves requests for the engine, within bounds.
 *
 * It counts what waits, here and in the engine's queue alike, and refuses what would exceed the
 * bounds; so what it took is never judged again. The lock is off the token path: the engine
 * takes it once after the bell rang, and submitting once per request.
 *
 * Threads: put from the control thread; take and left from the engine's; counts from any. */
#ifndef MBD_MAILBOX_H
#define MBD_MAILBOX_H

#include <pthread.h>
#include <stdatomic.h>

#include "proto/status.h"
#include "server/requests/bell.h"
#include "server/scheduler/fair_queue.h"

struct mbd_mailbox {
    struct mbd_bell *bell;
    uint32_t requests_max;
    uint64_t tokens_max;
    atomic_uint waiting;                 /* submitted, and not yet in a slot */
    atomic_uint_fast64_t waiting_tokens; /* of their prompts */
    pthread_mutex_t lock;
    struct mbd_queue letters; /* under lock */
};

enum mb_status mbd_mailbox_init(struct mbd_mailbox *m, uint32_t requests_max,
                                uint64_t tokens_max, struct mb_error *err);
void mbd_mailbox_fini(struct mbd_mailbox *m);

/* Leaves w and rings. A request that finds nobody waiting is taken whatever its length, or it
 * could never run. Errors: MB_E_LIMIT, saying which bound. */
enum mb_status mbd_mailbox_put(struct mbd_mailbox *m, const struct mbd_waiting *w,
                               struct mb_error *err);
/* Moves everything to the end of queue, whose cap is at least requests_max. */
void mbd_mailbox_take(struct mbd_mailbox *m, struct mbd_fair_queue *queue);
/* w no longer waits: it has a slot, or it ended. */
void mbd_mailbox_left(struct mbd_mailbox *m, const struct mbd_waiting *w);

#endif
