#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/jobs/parts.h"

const char *mbd_jobs_base_file(const struct mbd_jobs *j, const char *base)
{
    const struct mbd_options *o = j->service->options;
    for (size_t i = 0; i < o->n_models; i++) {
        if (strcmp(o->models[i].name, base) == 0) {
            return o->models[i].file;
        }
    }
    return NULL;
}

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
    if (!e || !mbd_jobs_base_file(j, ret->base)) {
        mb_wire_error_fill(err, 404, "model_not_found", "model",
                           "there is no model '%.128s' here; GET /v1/models lists them", model);
        return false;
    }
    (void) snprintf(ret->model, sizeof ret->model, "%s", model);
    ret->base_digest = e->model->digest;
    return true;
}

void mbd_jobs_publish(struct mbd_jobs *j, const struct mbd_checkpoint_row *c, bool promote)
{
    (void) promote;
    mbd_log_message(j->service->log, MBD_LOG_INFO, "checkpoint", "%s", c->model);
}

enum mb_status mbd_jobs_publish_all(struct mbd_jobs *j, struct mb_error *err)
{
    size_t n = 0;
    struct mbd_checkpoint_row *rows = NULL;
    enum mb_status st = mbd_store_all_checkpoints(j->service->store, &rows, &n, err);
    for (size_t i = 0; st == MB_OK && i < n; i++) {
        mbd_jobs_publish(j, &rows[i], false);
    }
    mbd_checkpoint_rows_free(rows, n);
    return st;
}
