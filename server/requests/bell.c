#include "server/requests/bell.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "server/clock.h"

struct mbd_bell {
    atomic_uint n_refs;
    atomic_bool rung;
    pthread_mutex_t lock; /* only for sleeping */
    pthread_cond_t wake;
};

struct mbd_bell *mbd_bell_new(void)
{
    struct mbd_bell *b = calloc(1, sizeof *b);
    if (!b) {
        return NULL;
    }
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&b->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&b->lock, NULL);
    atomic_init(&b->n_refs, 1);
    return b;
}

struct mbd_bell *mbd_bell_ref(struct mbd_bell *b)
{
    unsigned before = atomic_fetch_add_explicit(&b->n_refs, 1, memory_order_relaxed);
    assert(before > 0);
    (void) before;
    return b;
}

void mbd_bell_unref(struct mbd_bell *b)
{
    if (!b || atomic_fetch_sub_explicit(&b->n_refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    pthread_cond_destroy(&b->wake);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

void mbd_bell_ring(struct mbd_bell *b)
{
    if (atomic_exchange(&b->rung, true)) {
        return; /* whoever rang before has woken the listener, or is about to */
    }
    pthread_mutex_lock(&b->lock); /* orders the signal after the listener's decision to sleep */
    pthread_cond_signal(&b->wake);
    pthread_mutex_unlock(&b->lock);
}

bool mbd_bell_heard(struct mbd_bell *b)
{
    return atomic_exchange(&b->rung, false);
}

void mbd_bell_wait(struct mbd_bell *b, uint64_t timeout_ns)
{
    uint64_t until = mbd_now_ns() + timeout_ns;
    struct timespec t = {
        .tv_sec = (time_t) (until / MBD_SECOND_NS),
        .tv_nsec = (long) (until % MBD_SECOND_NS),
    };
    pthread_mutex_lock(&b->lock);
    while (!atomic_load(&b->rung)) {
        if (pthread_cond_timedwait(&b->wake, &b->lock, &t) != 0) {
            break;
        }
    }
    pthread_mutex_unlock(&b->lock);
}
