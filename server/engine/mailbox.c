#include "server/engine/mailbox.h"

#include <assert.h>

enum mb_status mbd_mailbox_init(struct mbd_mailbox *m, uint32_t requests_max,
                                uint64_t tokens_max, struct mb_error *err)
{
    *m = (struct mbd_mailbox) { .requests_max = requests_max, .tokens_max = tokens_max };
    m->bell = mbd_bell_new();
    if (!m->bell) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a mailbox");
    }
    enum mb_status st = mbd_queue_init(&m->letters, requests_max, err);
    if (st != MB_OK) {
        mbd_bell_unref(m->bell);
        m->bell = NULL;
        return st;
    }
    pthread_mutex_init(&m->lock, NULL);
    return MB_OK;
}

void mbd_mailbox_fini(struct mbd_mailbox *m)
{
    if (!m->bell) {
        return;
    }
    pthread_mutex_destroy(&m->lock);
    mbd_queue_fini(&m->letters);
    mbd_bell_unref(m->bell);
    m->bell = NULL;
}

enum mb_status mbd_mailbox_put(struct mbd_mailbox *m, const struct mbd_waiting *w,
                               struct mb_error *err)
{
    /* The engine only lowers the counts, so what fits now fits still below. */
    uint32_t n = atomic_load(&m->waiting);
    uint64_t tokens = atomic_load(&m->waiting_tokens);
    if (n >= m->requests_max) {
        return mb_fail(err, MB_E_LIMIT, 0, "the queue is full: %u requests wait", (unsigned) n);
    }
    if (n > 0 && (tokens > m->tokens_max || w->n_prompt > m->tokens_max - tokens)) {
        return mb_fail(err, MB_E_LIMIT, 0,
                       "the queue is full: %llu prompt tokens wait, and %u more exceed %llu",
                       (unsigned long long) tokens, (unsigned) w->n_prompt,
                       (unsigned long long) m->tokens_max);
    }
    atomic_fetch_add(&m->waiting, 1);
    atomic_fetch_add(&m->waiting_tokens, w->n_prompt);
    pthread_mutex_lock(&m->lock);
    bool fits = mbd_queue_push(&m->letters, w);
    pthread_mutex_unlock(&m->lock);
    assert(fits);
    (void) fits;
    mbd_bell_ring(m->bell);
    return MB_OK;
}

void mbd_mailbox_take(struct mbd_mailbox *m, struct mbd_fair_queue *queue)
{
    pthread_mutex_lock(&m->lock);
    while (m->letters.n > 0) {
        struct mbd_waiting w = mbd_queue_pop(&m->letters);
        bool fits = mbd_fair_queue_push(queue, &w);
        assert(fits);
        (void) fits;
    }
    pthread_mutex_unlock(&m->lock);
}

void mbd_mailbox_left(struct mbd_mailbox *m, const struct mbd_waiting *w)
{
    atomic_fetch_sub(&m->waiting_tokens, w->n_prompt);
    atomic_fetch_sub(&m->waiting, 1);
}
