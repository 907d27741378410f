/* Checkpoints as models that are served: published one after the other, in the order in which they
 * were made; promoted when their job says so; and all of it again after a restart. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/jobs/parts.h"

enum {
    PATH_BYTES = 4096,
    /* Published again at a start, newest first: half of the names that there may be. */
    RESTORED_MAX = MBD_NAMES_MAX / 2,
};

/* A checkpoint on its way to a name. */
struct mbd_going_live {
    struct mbd_going_live *next;
    struct mbd_jobs *owner;
    struct mbd_checkpoint_row row; /* metrics NULL */
    bool is_old;                   /* it was published before this start */
};

static void path_of(const struct mbd_jobs *j, const char *file, char ret[PATH_BYTES])
{
    (void) snprintf(ret, PATH_BYTES, "%s/%s", mbd_store_folder(j->service->store), file);
}

/* ---- what a job begins with -------------------------------------------------------------- */

/* A checkpoint of an earlier job, to go on from. */
static bool find_fine_tuned(struct mbd_jobs *j, const char *model, struct mbd_job_row *ret)
{
    struct mbd_checkpoint_row c;
    if (mbd_store_find_model(j->service->store, model, &c, NULL) != MB_OK) {
        return false;
    }
    memcpy(ret->base, c.base, sizeof ret->base);
    (void) snprintf(ret->start, sizeof ret->start, "%s", c.file);
    free(c.metrics);
    return true;
}

bool mbd_jobs_find_model(struct mbd_jobs *j, const char *model, struct mbd_job_row *ret,
                         struct mb_wire_error *err)
{
    const struct mbd_registry *r = j->service->registry;
    if (!find_fine_tuned(j, model, ret)) {
        (void) snprintf(ret->base, sizeof ret->base, "%s", model);
    }
    const struct mbd_entry *e = mbd_registry_find(r, ret->base);
    if (!e || strcmp(e->base->name, ret->base) != 0) {
        mb_wire_error_fill(err, 404, "model_not_found", "model",
                           "there is no model '%.128s' here that can be trained", model);
        return false;
    }
    (void) snprintf(ret->model, sizeof ret->model, "%s", model);
    ret->base_digest = e->base->epochs[0]->model->digest; /* its checkpoint's own */
    return true;
}

/* ---- going live -------------------------------------------------------------------------- */

static void publish_next(struct mbd_jobs *j);

/* The daemon keeps which epoch each of its models is: nobody would want another one back after a
 * restart than the one that was promoted. */
enum mb_status mbd_jobs_remember(struct mbd_jobs *j, struct mb_error *err)
{
    enum mb_status st = mbd_store_begin(j->service->store, err);
    const struct mbd_registry *r = j->service->registry;
    for (size_t i = 0; st == MB_OK && i < mbd_registry_count(r); i++) {
        const struct mbd_entry *e = mbd_registry_at(r, i);
        if (!e->published) {
            st = mbd_store_set_name(j->service->store, e->name, e->epoch->id, e->pinned, err);
        }
    }
    if (st == MB_OK) {
        return mbd_store_commit(j->service->store, err);
    }
    mbd_store_rollback(j->service->store);
    return st;
}

static void promote(struct mbd_jobs *j, const struct mbd_checkpoint_row *c)
{
    struct mb_error err;
    enum mb_status st =
        mbd_registry_promote(j->service->registry, c->base, c->model, true, &err);
    if (st == MB_OK) {
        st = mbd_jobs_remember(j, &err);
    }
    if (st == MB_OK) {
        mbd_jobs_note(j, c->job, MB_EVENT_INFO, "'%s' is '%s' from now on", c->base, c->model);
    } else {
        mbd_jobs_note(j, c->job, MB_EVENT_WARN, "'%s' did not become '%s': %s", c->base,
                      c->model, err.what);
    }
}

static void on_published(void *arg, enum mb_status st, const struct mb_error *err,
                         const struct mbd_epoch *epoch)
{
    struct mbd_jobs *j = arg;
    struct mbd_going_live *g = j->going_live;
    (void) epoch;
    j->going_live = g->next;
    if (!j->going_live) {
        j->going_live_end = &j->going_live;
    }
    j->publishing = false;
    if (st != MB_OK && st != MB_E_CANCELLED) {
        mbd_jobs_note(j, g->row.job, MB_EVENT_WARN, "'%s' can not be served: %s", g->row.model,
                      err->what);
    } else if (st == MB_OK && g->row.promote && !g->is_old) {
        promote(j, &g->row);
    }
    if (g->row.is_result && !g->is_old && st != MB_E_CANCELLED) {
        mbd_job_settle(mbd_job_find(j, g->row.job), st, err);
    }
    free(g);
    if (st != MB_E_CANCELLED) {
        publish_next(j);
        (void) mbd_jobs_record(j, NULL);
    }
}

static void publish_next(struct mbd_jobs *j)
{
    struct mb_error err;
    char path[PATH_BYTES];
    while (j->going_live && !j->publishing) {
        const struct mbd_checkpoint_row *c = &j->going_live->row;
        path_of(j, c->file, path);
        const struct mbd_publication p = { .model = c->base,
                                           .name = c->model,
                                           .delta = path,
                                           .automatic = true,
                                           .done = on_published,
                                           .arg = j };
        j->publishing = true;
        enum mb_status st = mbd_registry_publish(j->service->registry, &p, &err);
        if (st != MB_OK) {
            on_published(j, st, &err, NULL);
        }
    }
}

static void go_live(struct mbd_jobs *j, const struct mbd_checkpoint_row *c, bool is_old)
{
    struct mbd_going_live *g = calloc(1, sizeof *g);
    if (!g) {
        mbd_log_message(j->service->log, MBD_LOG_ERROR, "jobs", "no memory to publish '%s'",
                        c->model);
        return;
    }
    g->owner = j;
    g->row = *c;
    g->row.metrics = NULL;
    g->is_old = is_old;
    *j->going_live_end = g;
    j->going_live_end = &g->next;
}

void mbd_jobs_publish(struct mbd_jobs *j, const struct mbd_checkpoint_row *c)
{
    go_live(j, c, false);
    publish_next(j);
}

void mbd_jobs_forget_live(struct mbd_jobs *j)
{
    for (struct mbd_going_live *g = j->going_live, *next; g; g = next) {
        next = g->next;
        free(g);
    }
    j->going_live = NULL;
}

/* ---- after a restart --------------------------------------------------------------------- */

/* What a model of the daemon was when it ended, if that is a checkpoint of ours: before anybody may
 * ask for it. */
static void restore_name(struct mbd_jobs *j, const struct mbd_name_row *name,
                         const struct mbd_checkpoint_row *rows, size_t n)
{
    struct mbd_registry *r = j->service->registry;
    struct mb_error err;
    const struct mbd_entry *e = mbd_registry_find(r, name->model);
    if (!e || e->published) {
        return; /* this daemon serves no such model any more */
    }
    enum mb_status st = MB_E_NOTFOUND;
    for (size_t i = 0; i < n && st != MB_OK && strcmp(e->epoch->id, name->epoch) != 0; i++) {
        struct mbd_epoch_option o = { 0 };
        char path[PATH_BYTES];
        if (strcmp(rows[i].epoch, name->epoch) != 0 || strcmp(rows[i].base, name->model) != 0) {
            continue;
        }
        path_of(j, rows[i].file, path);
        (void) snprintf(o.name, sizeof o.name, "%s", rows[i].model);
        (void) snprintf(o.model, sizeof o.model, "%s", rows[i].base);
        o.delta = path;
        st = mbd_registry_add_epoch(r, &o, &err);
        if (st == MB_OK) {
            st = mbd_registry_promote(r, name->model, rows[i].model, false, &err);
        }
    }
    if (st != MB_OK && strcmp(e->epoch->id, name->epoch) != 0) {
        mbd_log_message(j->service->log, MBD_LOG_ERROR, "jobs",
                        "model '%s' was epoch %s, which can not be had again: %s", name->model,
                        name->epoch, st == MB_E_NOTFOUND ? "its file is not known" : err.what);
    }
    (void) mbd_registry_pin(r, name->model, name->pinned, NULL);
}

enum mb_status mbd_jobs_restore(struct mbd_jobs *j, struct mb_error *err)
{
    size_t n = 0, n_names = 0;
    struct mbd_checkpoint_row *rows = NULL;
    struct mbd_name_row *names = NULL;
    enum mb_status st = mbd_store_all_checkpoints(j->service->store, &rows, &n, err);
    if (st == MB_OK) {
        st = mbd_store_names(j->service->store, &names, &n_names, err);
    }
    for (size_t i = 0; st == MB_OK && i < n_names; i++) {
        restore_name(j, &names[i], rows, n);
    }
    free(names);
    mbd_checkpoint_rows_free(rows, n);
    return st;
}

enum mb_status mbd_jobs_publish_all(struct mbd_jobs *j, struct mb_error *err)
{
    size_t n = 0;
    struct mbd_checkpoint_row *rows = NULL;
    enum mb_status st = mbd_store_all_checkpoints(j->service->store, &rows, &n, err);
    for (size_t i = n > RESTORED_MAX ? n - RESTORED_MAX : 0; st == MB_OK && i < n; i++) {
        if (!mbd_registry_find(j->service->registry, rows[i].model)) {
            go_live(j, &rows[i], true);
        }
    }
    mbd_checkpoint_rows_free(rows, n);
    if (st == MB_OK) {
        publish_next(j);
    }
    return st;
}
