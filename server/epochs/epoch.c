#include "server/epochs/epoch.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum mb_status mbd_epoch_new(struct mb_model *model, const char *source, int64_t created,
                             struct mbd_epoch **ret, struct mb_error *err)
{
    struct mbd_epoch *e = calloc(1, sizeof *e);
    char *copy = strdup(source);
    if (!e || !copy) {
        free(e);
        free(copy);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for an epoch");
    }
    e->model = model;
    e->source = copy;
    e->created = created;
    (void) snprintf(e->id, sizeof e->id, "%016" PRIx64, model->digest);
    (void) snprintf(e->fingerprint, sizeof e->fingerprint, "mbool-%s-%s", MB_VERSION, e->id);
    atomic_init(&e->n_refs, 1);
    *ret = e;
    return MB_OK;
}

struct mbd_epoch *mbd_epoch_ref(struct mbd_epoch *e)
{
    unsigned before = atomic_fetch_add_explicit(&e->n_refs, 1, memory_order_relaxed);
    assert(before > 0);
    (void) before;
    return e;
}

void mbd_epoch_unref(struct mbd_epoch *e)
{
    if (!e || atomic_fetch_sub_explicit(&e->n_refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    assert(mbd_epoch_requests(e) == 0);
    mb_model_unref(e->model);
    free(e->source);
    free(e);
}

bool mbd_epoch_is_last(const struct mbd_epoch *e)
{
    return atomic_load_explicit(&e->n_refs, memory_order_acquire) == 1;
}

struct mbd_epoch *mbd_epoch_begin(struct mbd_epoch *e)
{
    (void) atomic_fetch_add_explicit(&e->n_requests, 1, memory_order_relaxed);
    return mbd_epoch_ref(e);
}

void mbd_epoch_end(struct mbd_epoch *e)
{
    if (e) {
        unsigned before = atomic_fetch_sub_explicit(&e->n_requests, 1, memory_order_relaxed);
        assert(before > 0);
        (void) before;
        mbd_epoch_unref(e);
    }
}

unsigned mbd_epoch_requests(const struct mbd_epoch *e)
{
    return atomic_load_explicit(&e->n_requests, memory_order_relaxed);
}
