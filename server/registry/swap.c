/* What changes what a name is: publishing, promoting, rolling back; and what becomes of epochs that
 * no name is any more. Each change is made whole or not at all. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/completion.h"
#include "server/clock.h"
#include "server/epochs/load.h"
#include "server/metrics/metrics.h"
#include "server/registry/registry_private.h"

static enum mb_status no_model(const char *name, struct mb_error *err)
{
    return mb_fail(err, MB_E_NOTFOUND, 0, "there is no model '%.128s' here", name);
}

/* from NULL: the name is new. */
static void say(const struct mbd_registry *r, const char *what, const char *name,
                const struct mbd_epoch *from, const struct mbd_epoch *to)
{
    struct mbd_line line;
    if (!r->o.log) {
        return;
    }
    mbd_line_begin(&line, r->o.log, MBD_LOG_INFO, what);
    mbd_line_text(&line, "model", name);
    mbd_line_text(&line, "epoch", to->id);
    if (from) {
        mbd_line_text(&line, "before", from->id);
    }
    mbd_line_end(&line);
}

/* ---- what is not needed any more --------------------------------------------------------- */

static void tell_metrics(const struct mbd_registry *r)
{
    uint64_t n = 0, private_bytes = 0, shared_bytes = 0;
    for (size_t i = 0; i < r->n_bases; i++) {
        const struct mbd_base *b = r->bases[i];
        n += b->n_epochs;
        shared_bytes += b->bytes;
        for (size_t k = 0; k < b->n_epochs; k++) {
            private_bytes += b->epochs[k]->private_bytes;
        }
    }
    mbd_metrics_set(r->o.metrics, MBD_EPOCHS, n);
    mbd_metrics_set(r->o.metrics, MBD_EPOCH_PRIVATE_BYTES, private_bytes);
    mbd_metrics_set(r->o.metrics, MBD_EPOCH_SHARED_BYTES, shared_bytes);
}

/* Only here is a reference taken by who has none, so what has a last one is nobody's for good. */
static bool drop_unused(struct mbd_registry *r)
{
    bool any = false;
    for (size_t i = 0; i < r->n_bases; i++) {
        for (struct mbd_epoch *e; (e = mbd_base_take_unused(r->bases[i]));) {
            any = true;
            say(r, "epoch_retired", r->bases[i]->name, NULL, e);
            if (r->keeper) {
                mbd_keeper_bury(r->keeper, e);
            } else {
                mbd_epoch_unref(e);
            }
        }
    }
    return any;
}

void mbd_registry_sweep(struct mbd_registry *r)
{
    (void) drop_unused(r);
    tell_metrics(r);
}

/* ---- a swap ------------------------------------------------------------------------------ */

/* What e was comes to the end of its history, whose oldest falls out of a full one. */
static void remember(const struct mbd_registry *r, struct mbd_entry *e, struct mbd_epoch *was)
{
    e->history[e->n_history++] = was;
    if (e->n_history > r->o.epochs_max) {
        mbd_epoch_unref(e->history[0]);
        memmove(&e->history[0], &e->history[1], --e->n_history * sizeof(struct mbd_epoch *));
    }
}

/* The flip of a pointer. */
static void swap(struct mbd_registry *r, const char *what, struct mbd_entry *e,
                 struct mbd_epoch *to)
{
    struct mbd_epoch *was = e->epoch;
    if (was == to) {
        return;
    }
    e->epoch = mbd_epoch_ref(to);
    e->since = (int64_t) time(NULL);
    say(r, what, e->name, was, to);
    remember(r, e, was);
    mbd_metrics_add(r->o.metrics, MBD_SWAPS_OK, 1);
    mbd_registry_sweep(r);
}

static enum mb_status check_pin(const struct mbd_entry *e, bool automatic, struct mb_error *err)
{
    return e->pinned && automatic ? mb_fail(err, MB_E_CONFLICT, 0, "'%s' is pinned", e->name)
                                  : MB_OK;
}

/* The epoch that to names, among those of base. */
static enum mb_status find_target(const struct mbd_registry *r, const struct mbd_entry *e,
                                  const char *to, struct mbd_epoch **ret, struct mb_error *err)
{
    const struct mbd_entry *other = mbd_registry_entry(r, to);
    if (other && other->base != e->base) {
        return mb_fail(err, MB_E_CONFLICT, 0,
                       "'%s' is a version of '%s', and '%s' is one of '%s'", other->name,
                       other->base->name, e->name, e->base->name);
    }
    *ret = other ? other->epoch : mbd_base_find(e->base, to);
    return *ret ? MB_OK
                : mb_fail(err, MB_E_NOTFOUND, 0, "'%.128s' is no model, and no epoch of '%s'",
                          to, e->name);
}

enum mb_status mbd_registry_promote(struct mbd_registry *r, const char *name, const char *to,
                                    bool automatic, struct mb_error *err)
{
    struct mbd_entry *e = mbd_registry_entry(r, name);
    struct mbd_epoch *target = NULL;
    if (!e) {
        return no_model(name, err);
    }
    enum mb_status st = find_target(r, e, to, &target, err);
    if (st == MB_OK) {
        st = check_pin(e, automatic, err);
    }
    if (st == MB_OK) {
        swap(r, "epoch_promoted", e, target);
    }
    return st;
}

enum mb_status mbd_registry_rollback(struct mbd_registry *r, const char *name,
                                     struct mb_error *err)
{
    struct mbd_entry *e = mbd_registry_entry(r, name);
    if (!e) {
        return no_model(name, err);
    }
    if (e->n_history == 0) {
        return mb_fail(err, MB_E_CONFLICT, 0, "'%s' has been no other epoch that is kept",
                       e->name);
    }
    struct mbd_epoch *was = e->epoch;
    e->epoch = e->history[--e->n_history];
    e->since = (int64_t) time(NULL);
    say(r, "epoch_rolled_back", e->name, was, e->epoch);
    mbd_epoch_unref(was); /* the base holds it, at least until the sweep */
    mbd_metrics_add(r->o.metrics, MBD_SWAPS_OK, 1);
    mbd_registry_sweep(r);
    return MB_OK;
}

enum mb_status mbd_registry_pin(struct mbd_registry *r, const char *name, bool pinned,
                                struct mb_error *err)
{
    struct mbd_entry *e = mbd_registry_entry(r, name);
    if (!e) {
        return no_model(name, err);
    }
    e->pinned = pinned;
    return MB_OK;
}

enum mb_status mbd_registry_unpublish(struct mbd_registry *r, const char *name,
                                      struct mb_error *err)
{
    size_t i = 0;
    while (i < r->n && strcmp(r->entries[i]->name, name) != 0) {
        i++;
    }
    if (i == r->n) {
        return no_model(name, err);
    }
    struct mbd_entry *e = r->entries[i];
    if (!e->published) {
        return mb_fail(err, MB_E_CONFLICT, 0, "'%s' is a model of the daemon's own", e->name);
    }
    say(r, "epoch_unpublished", e->name, NULL, e->epoch);
    memmove(&r->entries[i], &r->entries[i + 1], (--r->n - i) * sizeof(struct mbd_entry *));
    mbd_entry_free(e);
    mbd_registry_sweep(r);
    return MB_OK;
}

/* ---- publishing -------------------------------------------------------------------------- */

/* May name become an epoch of base? Asked at the beginning, and again at the end. */
static enum mb_status check_name(const struct mbd_registry *r, const struct mbd_base *base,
                                 const char *name, bool automatic, struct mb_error *err)
{
    const struct mbd_entry *e = mbd_registry_entry(r, name);
    if (!mb_is_model_name(name, strlen(name))) {
        return mb_fail(err, MB_E_INVALID, 0,
                       "'%.128s' is no name: 1 to %d of A-Z a-z 0-9 . _ : / -", name,
                       MB_MODEL_NAME_MAX);
    }
    if (!e) {
        return r->n < MBD_NAMES_MAX
                   ? MB_OK
                   : mb_fail(err, MB_E_LIMIT, 0, "there are %d names of models already",
                             MBD_NAMES_MAX);
    }
    if (!e->published) {
        return mb_fail(err, MB_E_INVALID, 0,
                       "'%s' is a model of the daemon's own: publish under another name, and "
                       "promote it to that",
                       e->name);
    }
    if (e->base != base) {
        return mb_fail(err, MB_E_CONFLICT, 0, "'%s' is a version of another model, '%s'",
                       e->name, e->base->name);
    }
    return check_pin(e, automatic, err);
}

/* From a loaded epoch to a name. Takes over the reference on it. */
static enum mb_status make_visible(struct mbd_registry *r, struct mbd_base *base,
                                   const char *name, bool automatic, struct mbd_epoch *loaded,
                                   struct mbd_epoch **ret, struct mb_error *err)
{
    struct mbd_epoch *epoch = NULL;
    enum mb_status st = check_name(r, base, name, automatic, err);
    if (st == MB_OK) {
        st = mbd_base_add(base, loaded, &epoch, err);
    }
    if (st != MB_OK) {
        mbd_epoch_unref(loaded);
        return st;
    }
    struct mbd_entry *e = mbd_registry_entry(r, name);
    if (e) {
        swap(r, "epoch_published", e, epoch);
    } else {
        st = mbd_registry_put(r, name, base, epoch, true, err);
        if (st == MB_OK) {
            say(r, "epoch_published", name, NULL, epoch);
            mbd_metrics_add(r->o.metrics, MBD_SWAPS_OK, 1);
        }
        mbd_registry_sweep(r); /* it is there, or it is not needed */
    }
    *ret = epoch;
    return st;
}

enum mb_status mbd_registry_add_epoch(struct mbd_registry *r, const struct mbd_epoch_option *o,
                                      struct mb_error *err)
{
    const struct mbd_entry *model = mbd_registry_entry(r, o->model);
    struct mbd_epoch *e = NULL;
    struct mb_error why;
    enum mb_status st = model ? MB_OK : no_model(o->model, &why);
    if (st == MB_OK) {
        st = check_name(r, model->base, o->name, false, &why);
    }
    if (st == MB_OK) {
        st = mbd_load_delta(&model->base->weights, o->delta, NULL, &e, &why);
    }
    if (st == MB_OK) {
        st = make_visible(r, model->base, o->name, false, e, &e, &why);
    }
    return st == MB_OK ? st
                       : mb_fail(err, st, 0, "epoch '%s' from '%.160s': %s", o->name, o->delta,
                                 why.what);
}

static void publishing_free(struct mbd_publishing *p)
{
    free(p->delta);
    free(p);
}

enum mb_status mbd_registry_publish(struct mbd_registry *r, const struct mbd_publication *p,
                                    struct mb_error *err)
{
    const struct mbd_entry *model = mbd_registry_entry(r, p->model);
    if (!model) {
        return no_model(p->model, err);
    }
    enum mb_status st = check_name(r, model->base, p->name, p->automatic, err);
    if (st != MB_OK) {
        return st;
    }
    if (r->draining || !r->keeper) {
        return mb_fail(err, MB_E_UNAVAILABLE, 0, "the server is shutting down");
    }
    if (r->n_publishing == MBD_PUBLISHING_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, "%d epochs are being loaded already",
                       MBD_PUBLISHING_MAX);
    }
    struct mbd_publishing *q = calloc(1, sizeof *q);
    char *delta = strdup(p->delta);
    if (!q || !delta) {
        free(q);
        free(delta);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for an epoch");
    }
    q->loading.weights = &model->base->weights;
    q->loading.delta = q->delta = delta;
    q->base = model->base;
    memcpy(q->name, p->name, strlen(p->name) + 1); /* which check_name measured */
    q->automatic = p->automatic;
    q->done = p->done;
    q->arg = p->arg;
    r->n_publishing++;
    mbd_keeper_load(r->keeper, &q->loading);
    return MB_OK;
}

static void end_publishing(struct mbd_registry *r, struct mbd_publishing *p)
{
    struct mbd_epoch *e = NULL;
    struct mb_error err = p->loading.error;
    enum mb_status st = p->loading.status;
    r->n_publishing--;
    if (st == MB_OK) {
        st = make_visible(r, p->base, p->name, p->automatic, p->loading.epoch, &e, &err);
    }
    if (st == MB_OK) {
        mbd_metrics_set(r->o.metrics, MBD_SWAP_SECONDS,
                        (mbd_now_ns() - p->loading.began_ns) / 1000);
    } else {
        mbd_metrics_add(r->o.metrics, MBD_SWAPS_FAILED, 1);
        if (r->o.log) {
            mbd_log_message(r->o.log, MBD_LOG_WARN, "epoch_failed", "'%s' from '%.160s': %s",
                            p->name, p->delta, err.what);
        }
    }
    p->done(p->arg, st, &err, st == MB_OK ? e : NULL);
    publishing_free(p);
}

void mbd_registry_pump(struct mbd_registry *r)
{
    for (struct mbd_loading *l; r->keeper && (l = mbd_keeper_next(r->keeper));) {
        end_publishing(r, (struct mbd_publishing *) (void *) l);
    }
    if (drop_unused(r)) { /* this is called for every token */
        tell_metrics(r);
    }
}
