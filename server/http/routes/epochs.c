/* POST /v1/mbool/models/{model}/promote, rollback and pin, GET .../epochs and .../checkpoint: which of a
 * model's epochs answers, which are there, and the bytes of one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/checkpoint/reader.h"
#include "proto/json/epochs_json.h"
#include "server/http/exchange.h"
#include "server/http/router.h"
#include "server/http/routes/keeping.h"
#include "server/jobs/jobs.h"

static void refuse(struct mbd_exchange *x, const struct mb_error *err)
{
    struct mb_wire_error w;
    mb_wire_error_of(&w, err);
    if (err->code == MB_E_NOTFOUND) {
        w.code = "model_not_found";
    }
    mbd_reply_error(x, &w, 0);
}

/* The model of the path; answered with 404 when there is none. */
static const struct mbd_entry *find(struct mbd_exchange *x)
{
    const char *name = mbd_exchange_tail(x);
    const struct mbd_entry *e = mbd_registry_find(mbd_exchange_service(x)->registry, name);
    if (!e) {
        struct mb_wire_error w;
        mb_wire_error_fill(&w, 404, "model_not_found", "model",
                           "there is no model '%.128s' here", name);
        mbd_reply_error(x, &w, 0);
    }
    return e;
}

/* What the model is now; before: what it was. */
static void answer(struct mbd_exchange *x, const char *before)
{
    const struct mbd_entry *e = find(x);
    struct mbd_jobs *jobs = mbd_exchange_service(x)->jobs;
    struct mb_error err;
    if (e && jobs && mbd_jobs_remember(jobs, &err) != MB_OK) {
        mbd_reply_store_error(x, &err, NULL); /* it is so, but not after a restart */
    } else if (e) {
        struct mb_model_epoch m = { .model = e->name,
                                    .epoch = e->epoch->id,
                                    .fingerprint = e->epoch->fingerprint,
                                    .before = before,
                                    .pinned = e->pinned };
        mbd_reply_json(x, 200, mb_model_epoch_encode(&m));
    }
}

/* An epoch may be gone with the change. */
static void remember(const struct mbd_entry *e, char ret[MBD_EPOCH_ID_MAX + 1])
{
    memcpy(ret, e->epoch->id, MBD_EPOCH_ID_MAX + 1);
}

void mbd_route_promote(struct mbd_exchange *x)
{
    const struct mb_bytes *body = mbd_exchange_body(x);
    struct mbd_registry *r = mbd_exchange_service(x)->registry;
    struct mb_promotion p;
    struct mb_wire_error w;
    struct mb_error err;
    char before[MBD_EPOCH_ID_MAX + 1];
    if (mb_promotion_decode((const char *) body->at, body->len, &p, &w) != MB_OK) {
        mbd_reply_error(x, &w, 0);
        return;
    }
    const struct mbd_entry *e = find(x);
    if (!e) {
        return;
    }
    remember(e, before);
    if (mbd_registry_promote(r, e->name, p.to, false, &err) != MB_OK) {
        mb_wire_error_of(&w, &err);
        (void) strcpy(w.param, "to");
        w.code = err.code == MB_E_NOTFOUND ? "model_not_found" : w.code;
        mbd_reply_error(x, &w, 0);
        return;
    }
    answer(x, before);
}

void mbd_route_rollback(struct mbd_exchange *x)
{
    struct mbd_registry *r = mbd_exchange_service(x)->registry;
    struct mb_error err;
    char before[MBD_EPOCH_ID_MAX + 1];
    const struct mbd_entry *e = find(x);
    if (!e) {
        return;
    }
    remember(e, before);
    if (mbd_registry_rollback(r, e->name, &err) != MB_OK) {
        refuse(x, &err);
        return;
    }
    answer(x, before);
}

void mbd_route_pin(struct mbd_exchange *x)
{
    const struct mb_bytes *body = mbd_exchange_body(x);
    struct mbd_registry *r = mbd_exchange_service(x)->registry;
    struct mb_wire_error w;
    struct mb_error err;
    bool pinned;
    if (mb_pinning_decode((const char *) body->at, body->len, &pinned, &w) != MB_OK) {
        mbd_reply_error(x, &w, 0);
        return;
    }
    const struct mbd_entry *e = find(x);
    if (!e) {
        return;
    }
    if (mbd_registry_pin(r, e->name, pinned, &err) != MB_OK) {
        refuse(x, &err);
        return;
    }
    answer(x, e->epoch->id);
}

/* ---- the list ---------------------------------------------------------------------------- */

/* names has room for all there are; *ret_n grows. */
static void put_names(const struct mbd_registry *r, const struct mbd_epoch *epoch,
                      const char **names, size_t *ret_n)
{
    for (size_t i = 0; i < mbd_registry_count(r); i++) {
        const struct mbd_entry *e = mbd_registry_at(r, i);
        if (e->epoch == epoch) {
            names[(*ret_n)++] = e->name;
        }
    }
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void fill_card(const struct mbd_registry *r, const struct mbd_entry *e,
                      const struct mbd_epoch *epoch, const char **names,
                      struct mb_epoch_card *ret)
{
    *ret = (struct mb_epoch_card) { .id = epoch->id,
                                    .fingerprint = epoch->fingerprint,
                                    .parent = epoch->parent[0] ? epoch->parent : NULL,
                                    .source = base_name(epoch->source),
                                    .created = epoch->created,
                                    .current = epoch == e->epoch,
                                    .models = names,
                                    .requests = mbd_epoch_requests(epoch),
                                    .private_bytes = epoch->private_bytes };
    put_names(r, epoch, names, &ret->n_models);
}

void mbd_route_epochs(struct mbd_exchange *x)
{
    const struct mbd_registry *r = mbd_exchange_service(x)->registry;
    const struct mbd_entry *e = find(x);
    if (!e) {
        return;
    }
    const struct mbd_base *b = e->base;
    const char *names[MBD_NAMES_MAX]; /* each is one epoch's */
    struct mb_epoch_card *cards = calloc(b->n_epochs, sizeof *cards);
    size_t n_names = 0;
    for (size_t i = 0; cards && i < b->n_epochs; i++) {
        fill_card(r, e, b->epochs[i], names + n_names, &cards[i]);
        n_names += cards[i].n_models;
    }
    struct mb_epoch_list l = {
        .model = e->name,
        .base = b->name,
        .rollback_to = e->n_history > 0 ? e->history[e->n_history - 1]->id : NULL,
        .pinned = e->pinned,
        .epochs = cards,
        .n_epochs = b->n_epochs,
    };
    mbd_reply_json(x, 200, cards ? mb_epoch_list_encode(&l) : NULL);
    free(cards);
}

/* ---- the bytes --------------------------------------------------------------------------- */

static void release_epoch(void *arg)
{
    mbd_epoch_unref(arg);
}

/* What the model is now, and goes on to be for this reply. Sent from its mapping: a page that is
 * not in memory is read when its turn comes. */
void mbd_route_checkpoint(struct mbd_exchange *x)
{
    const struct mbd_entry *e = find(x);
    if (!e) {
        return;
    }
    const struct mb_checkpoint *c = mb_model_checkpoint(e->epoch->model);
    char name[MBD_EPOCH_ID_MAX + sizeof ".mbool"];
    (void) snprintf(name, sizeof name, "%s.mbool", e->epoch->id);
    mbd_exchange_set_epoch(x, e->epoch->id);
    mbd_reply_memory(x, mb_checkpoint_memory(c), mb_checkpoint_bytes(c), name, release_epoch,
                     mbd_epoch_ref(e->epoch));
}
