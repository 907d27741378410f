#include "server/registry/registry.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/clock.h"
#include "server/engine/engine_check.h"
#include "server/metrics/metrics.h"
#include "server/registry/registry_private.h"

/* ---- life -------------------------------------------------------------------------------- */

enum mb_status mbd_registry_new(const struct mbd_registry_options *o, struct mbd_registry **ret,
                                struct mb_error *err)
{
    assert(o->epochs_max <= MBD_EPOCHS_MAX);
    struct mbd_registry *r = calloc(1, sizeof *r);
    if (!r) {
        return mb_fail(err, MB_E_NOMEM, 0, "registry: no memory");
    }
    r->o = *o;
    *ret = r;
    return MB_OK;
}

void mbd_entry_free(struct mbd_entry *e)
{
    for (size_t i = 0; i < e->n_history; i++) {
        mbd_epoch_unref(e->history[i]);
    }
    free(e->history);
    mbd_epoch_unref(e->epoch);
    free(e);
}

void mbd_registry_free(struct mbd_registry *r)
{
    if (!r) {
        return;
    }
    mbd_registry_stop(r);
    for (size_t i = 0; i < r->n; i++) {
        mbd_entry_free(r->entries[i]);
    }
    for (size_t i = 0; i < r->n_bases; i++) {
        mbd_base_free(r->bases[i]);
    }
    free(r);
}

enum mb_status mbd_registry_put(struct mbd_registry *r, const char *name, struct mbd_base *base,
                                struct mbd_epoch *epoch, bool published, struct mb_error *err)
{
    assert(!mbd_registry_find(r, name));
    if (r->n == MBD_NAMES_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, "there are %d names of models already",
                       MBD_NAMES_MAX);
    }
    struct mbd_entry *e = calloc(1, sizeof *e);
    struct mbd_epoch **history = calloc(r->o.epochs_max + 1, sizeof(struct mbd_epoch *));
    if (!e || !history) {
        free(e);
        free(history);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a model's name");
    }
    (void) snprintf(e->name, sizeof e->name, "%s", name);
    e->base = base;
    e->epoch = mbd_epoch_ref(epoch);
    e->history = history;
    e->since = (int64_t) time(NULL);
    e->published = published;
    r->entries[r->n++] = e;
    return MB_OK;
}

enum mb_status mbd_registry_add(struct mbd_registry *r, const struct mbd_model_option *m,
                                struct mb_error *err)
{
    assert(r->n_bases < MBD_MODELS_MAX && r->n_bases == r->n && !r->keeper);
    struct mbd_base *b;
    struct mb_error why;
    enum mb_status st = mbd_base_open(m->name, m->file, r->o.weights, &b, &why);
    if (st != MB_OK) {
        return mb_fail(err, st, 0, "model '%s' from '%.160s': %s", m->name, m->file, why.what);
    }
    st = mbd_registry_put(r, m->name, b, b->epochs[0], false, err);
    if (st != MB_OK) {
        mbd_base_free(b);
        return st;
    }
    r->bases[r->n_bases++] = b;
    return MB_OK;
}

/* ---- engines ----------------------------------------------------------------------------- */

enum mb_status mbd_registry_check(const struct mbd_registry *r,
                                  const struct mbd_engine_options *o, struct mb_error *err)
{
    for (size_t i = 0; i < r->n_bases; i++) {
        const struct mbd_base *b = r->bases[i];
        struct mb_error why;
        enum mb_status st = mbd_engine_check(o, &b->shape, b->tokenizer, &why);
        if (st != MB_OK) {
            return mb_fail(err, st, 0, "model '%s': %s", b->name, why.what);
        }
    }
    return MB_OK;
}

enum mb_status mbd_registry_start(struct mbd_registry *r, const struct mbd_engine_options *o,
                                  struct mb_error *err)
{
    for (size_t i = 0; i < r->n_bases; i++) {
        struct mbd_base *b = r->bases[i];
        struct mb_error why;
        enum mb_status st =
            mbd_engine_new(b->epochs[0]->model, b->tokenizer, o, &b->engine, &why);
        if (st != MB_OK) {
            return mb_fail(err, st, 0, "model '%s': %s", b->name, why.what);
        }
        struct mbd_engine_stats stats;
        mbd_engine_stats(b->engine, &stats);
        b->context_max = stats.context_max;
    }
    mbd_registry_sweep(r);
    return mbd_keeper_new(o->wake, o->wake_arg, &r->keeper, err);
}

void mbd_registry_drain(struct mbd_registry *r)
{
    r->draining = true;
    for (size_t i = 0; i < r->n_bases; i++) {
        mbd_engine_drain(r->bases[i]->engine);
    }
}

void mbd_registry_stop(struct mbd_registry *r)
{
    r->draining = true;
    if (r->keeper) {
        mbd_keeper_stop(r->keeper);
        mbd_registry_pump(r);
    }
    for (size_t i = 0; i < r->n_bases; i++) {
        mbd_engine_free(r->bases[i]->engine);
        r->bases[i]->engine = NULL;
    }
    mbd_keeper_free(r->keeper);
    r->keeper = NULL;
}

bool mbd_registry_alive(const struct mbd_registry *r, uint64_t timeout_ns)
{
    uint64_t now = mbd_now_ns();
    for (size_t i = 0; i < r->n_bases; i++) {
        struct mbd_engine_stats stats;
        mbd_engine_stats(r->bases[i]->engine, &stats);
        if (stats.heartbeat_ns + timeout_ns < now) {
            return false;
        }
    }
    return true;
}

/* ---- names ------------------------------------------------------------------------------- */

size_t mbd_registry_count(const struct mbd_registry *r)
{
    return r->n;
}

const struct mbd_entry *mbd_registry_at(const struct mbd_registry *r, size_t i)
{
    assert(i < r->n);
    return r->entries[i];
}

struct mbd_entry *mbd_registry_entry(const struct mbd_registry *r, const char *name)
{
    for (size_t i = 0; i < r->n; i++) {
        if (strcmp(r->entries[i]->name, name) == 0) {
            return r->entries[i];
        }
    }
    return NULL;
}

const struct mbd_entry *mbd_registry_find(const struct mbd_registry *r, const char *name)
{
    if (!name) {
        return r->n_bases == 1 ? r->entries[0] : NULL;
    }
    return mbd_registry_entry(r, name);
}

size_t mbd_registry_bases(const struct mbd_registry *r)
{
    return r->n_bases;
}

const struct mbd_base *mbd_registry_base(const struct mbd_registry *r, size_t i)
{
    assert(i < r->n_bases);
    return r->bases[i];
}

int mbd_registry_descriptor(const struct mbd_registry *r, const char *name)
{
    const struct mbd_entry *e = mbd_registry_entry(r, name);
    return e ? e->base->weights.fd : -1;
}
