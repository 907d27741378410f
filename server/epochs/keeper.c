#include "server/epochs/keeper.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>

#include "server/clock.h"
#include "server/epochs/load.h"

/* What one thread leaves for another: pushed one by one, taken all at once. No lock: the thread that
 * loads may be kept from its processor at any place, and nobody may wait for it there. */
struct mbd_keeper {
    void (*notify)(void *arg);
    void *arg;
    _Atomic(struct mbd_loading *) waiting, done;
    _Atomic(struct mbd_epoch *) dead;
    sem_t to_load, to_bury;
    atomic_bool stop;              /* loading */
    atomic_bool over;              /* nothing more comes to be buried */
    struct mbd_loading *mine;      /* taken by the loader, oldest first */
    struct mbd_loading *delivered; /* taken by the control thread, oldest first */
    pthread_t loader, undertaker;
    bool loads, buries; /* those that run */
};

static void push(_Atomic(struct mbd_loading *) *stack, struct mbd_loading *l)
{
    l->next = atomic_load_explicit(stack, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(stack, &l->next, l, memory_order_release,
                                                  memory_order_relaxed)) {
    }
}

/* The oldest of list, which is filled from stack when it is empty; or NULL. */
static struct mbd_loading *take(struct mbd_loading **list, _Atomic(struct mbd_loading *) *stack)
{
    if (!*list && atomic_load_explicit(stack, memory_order_relaxed)) {
        struct mbd_loading *all = atomic_exchange_explicit(stack, NULL, memory_order_acquire);
        while (all) { /* the newest is first */
            struct mbd_loading *next = all->next;
            all->next = *list;
            *list = all;
            all = next;
        }
    }
    struct mbd_loading *l = *list;
    *list = l ? l->next : NULL;
    return l;
}

static void await(sem_t *s)
{
    while (sem_wait(s) != 0 && errno == EINTR) {
    }
}

/* ---- loading ----------------------------------------------------------------------------- */

static bool go_on(void *self, const char *what, uint64_t done, uint64_t total)
{
    const struct mbd_keeper *k = self;
    return !atomic_load_explicit(&k->stop, memory_order_relaxed);
}

static void load(struct mbd_keeper *k, struct mbd_loading *l)
{
    struct mb_progress p = { go_on, k };
    l->status = atomic_load(&k->stop)
                    ? mb_fail(&l->error, MB_E_CANCELLED, 0, "the server is shutting down")
                    : mbd_load_delta(l->weights, l->delta, &p, &l->epoch, &l->error);
}

static void *load_all(void *arg)
{
    struct mbd_keeper *k = arg;
    struct sched_param none = { 0 };
    /* It runs when nobody else wants to; where that is not to be had, it shares. */
    (void) pthread_setschedparam(pthread_self(), SCHED_IDLE, &none);
    for (;;) {
        struct mbd_loading *l = take(&k->mine, &k->waiting);
        if (l) {
            load(k, l);
            push(&k->done, l);
            k->notify(k->arg);
        } else if (atomic_load(&k->stop)) {
            return NULL;
        } else {
            await(&k->to_load);
        }
    }
}

void mbd_keeper_load(struct mbd_keeper *k, struct mbd_loading *l)
{
    l->began_ns = mbd_now_ns();
    push(&k->waiting, l);
    (void) sem_post(&k->to_load);
}

struct mbd_loading *mbd_keeper_next(struct mbd_keeper *k)
{
    return take(&k->delivered, &k->done);
}

void mbd_keeper_stop(struct mbd_keeper *k)
{
    atomic_store(&k->stop, true);
    if (k->loads) {
        (void) sem_post(&k->to_load);
        (void) pthread_join(k->loader, NULL);
        k->loads = false;
    }
}

/* ---- burying ----------------------------------------------------------------------------- */

static void *bury_all(void *arg)
{
    struct mbd_keeper *k = arg;
    for (;;) {
        bool last = atomic_load(&k->over); /* looked at before what was left until then */
        for (struct mbd_epoch *e = atomic_exchange(&k->dead, NULL), *next; e; e = next) {
            next = e->next;
            mbd_epoch_unref(e);
        }
        if (last) {
            return NULL;
        }
        await(&k->to_bury);
    }
}

void mbd_keeper_bury(struct mbd_keeper *k, struct mbd_epoch *e)
{
    e->next = atomic_load(&k->dead);
    while (!atomic_compare_exchange_weak(&k->dead, &e->next, e)) {
    }
    (void) sem_post(&k->to_bury);
}

/* ---- life -------------------------------------------------------------------------------- */

enum mb_status mbd_keeper_new(void (*notify)(void *arg), void *arg, struct mbd_keeper **ret,
                              struct mb_error *err)
{
    struct mbd_keeper *k = calloc(1, sizeof *k);
    if (!k) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a keeper of epochs");
    }
    k->notify = notify;
    k->arg = arg;
    (void) sem_init(&k->to_load, 0, 0);
    (void) sem_init(&k->to_bury, 0, 0);
    int sys = pthread_create(&k->loader, NULL, load_all, k);
    k->loads = sys == 0;
    if (sys == 0) {
        sys = pthread_create(&k->undertaker, NULL, bury_all, k);
        k->buries = sys == 0;
    }
    if (sys != 0) {
        mbd_keeper_free(k);
        return mb_fail(err, MB_E_NOMEM, sys, "start the keeper of epochs");
    }
    *ret = k;
    return MB_OK;
}

void mbd_keeper_free(struct mbd_keeper *k)
{
    if (!k) {
        return;
    }
    mbd_keeper_stop(k);
    assert(!atomic_load(&k->waiting) && !atomic_load(&k->done) && !k->mine && !k->delivered);
    atomic_store(&k->over, true);
    if (k->buries) {
        (void) sem_post(&k->to_bury);
        (void) pthread_join(k->undertaker, NULL);
    }
    (void) sem_destroy(&k->to_load);
    (void) sem_destroy(&k->to_bury);
    free(k);
}
