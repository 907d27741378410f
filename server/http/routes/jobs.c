/* /v1/fine_tuning/jobs: posting, looking, and steering. */
#include <stdlib.h>
#include <string.h>

#include "proto/json/job_json.h"
#include "server/http/router.h"
#include "server/http/routes/keeping.h"
#include "server/jobs/jobs.h"

enum { KEY_MAX = 255, LIST_DEFAULT = 20, LIST_MAX = 1000, RETRY_S = 5 };

static void reply(struct mbd_exchange *x, const struct mb_wire_error *e)
{
    mbd_reply_error(x, e, e->http == 503 || e->http == 429 ? RETRY_S : 0);
}

/* The row of a job with what its body says, as the wire shows it. */
struct shown {
    struct mb_job_view view;
    struct mb_job_request request;
};

static void shown_fini(struct shown *s)
{
    mb_job_request_fini(&s->request);
}

static const char *or_null(const char *text)
{
    return text[0] ? text : NULL;
}

static bool show(const struct mbd_jobs *j, const struct mbd_job_row *row, struct shown *ret)
{
    struct mb_wire_error ignored;
    mb_job_request_init(&ret->request);
    if (mb_job_request_decode(row->body, strlen(row->body), &ret->request, &ignored) != MB_OK) {
        return false;
    }
    bool has_result = row->status == MB_JOB_SUCCEEDED && !ret->request.dry_run;
    ret->view = (struct mb_job_view) {
        .id = row->id,
        .model = row->model,
        .training_file = row->training,
        .validation_file = or_null(row->validation),
        .fine_tuned_model = has_result ? row->result : NULL,
        .error_code = or_null(row->error_code),
        .error_message = row->error_message,
        .error_param = or_null(row->error_param),
        .created = row->created,
        .finished = row->finished,
        .status = row->status,
        .seed = row->seed,
        .request = &ret->request,
        .trained_tokens = row->trained_tokens,
        .step = row->step,
        .total_steps = row->total_steps,
        .attempts = row->attempts,
    };
    mbd_jobs_progress(j, &ret->view);
    return true;
}

static void reply_job(struct mbd_exchange *x, const char *id)
{
    struct mbd_job_row row;
    struct mb_error err;
    struct shown s;
    const struct mbd_service *service = mbd_exchange_service(x);
    if (mbd_store_job(service->store, id, &row, &err) != MB_OK) {
        mbd_reply_store_error(x, &err, "job_not_found");
        return;
    }
    bool ok = show(service->jobs, &row, &s);
    mbd_reply_json(x, 200, ok ? mb_job_encode(&s.view) : NULL);
    shown_fini(&s);
    mbd_job_row_fini(&row);
}

/* ---- POST /v1/fine_tuning/jobs ----------------------------------------------------------- */

static bool take_key(struct mbd_exchange *x, const char **ret)
{
    const char *key = mbd_exchange_header(x, "Idempotency-Key");
    size_t n = key ? strlen(key) : 0;
    *ret = key;
    if (key && (n == 0 || n > KEY_MAX)) {
        struct mb_wire_error e;
        mb_wire_error_fill(&e, 400, NULL, NULL, "Idempotency-Key must have 1 to %d bytes",
                           KEY_MAX);
        mbd_reply_error(x, &e, 0);
        return false;
    }
    return true;
}

void mbd_route_create_job(struct mbd_exchange *x)
{
    struct mb_job_request r;
    struct mb_wire_error e;
    const char *key;
    char id[MB_JOB_ID_MAX + 1];
    struct mbd_service *s = mbd_exchange_service(x);
    const struct mb_bytes *body = mbd_exchange_body(x);
    if (!mbd_keeps(x) || !take_key(x, &key)) {
        return;
    }
    if (s->draining) {
        mb_wire_error_fill(&e, 503, "unavailable", NULL, "the server is shutting down");
        reply(x, &e);
        return;
    }
    if (mb_job_request_decode((const char *) body->at, body->len, &r, &e) != MB_OK) {
        reply(x, &e);
        return;
    }
    char *text = strndup((const char *) body->at, body->len);
    if (!text) {
        mbd_reply_json(x, 503, NULL);
    } else if (mbd_jobs_create(s->jobs, text, &r, key, id, &e)) {
        reply_job(x, id);
    } else {
        reply(x, &e);
    }
    free(text);
    mb_job_request_fini(&r);
}

/* ---- looking ----------------------------------------------------------------------------- */

void mbd_route_job(struct mbd_exchange *x)
{
    if (mbd_keeps(x)) {
        reply_job(x, mbd_exchange_tail(x));
    }
}

void mbd_route_jobs(struct mbd_exchange *x)
{
    struct mbd_page page;
    struct mbd_job_row *rows = NULL;
    struct mb_error err;
    size_t n = 0;
    bool more = false, ok = true;
    const struct mbd_service *s = mbd_exchange_service(x);
    if (!mbd_keeps(x) || !mbd_take_page(x, LIST_DEFAULT, LIST_MAX, &page)) {
        return;
    }
    if (mbd_store_jobs(s->store, &page, &rows, &n, &more, &err) != MB_OK) {
        mbd_reply_page_error(x, &err);
        return;
    }
    struct shown *shown = calloc(n ? n : 1, sizeof *shown);
    struct mb_job_view *views = calloc(n ? n : 1, sizeof *views);
    for (size_t i = 0; shown && views && ok && i < n; i++) {
        ok = show(s->jobs, &rows[i], &shown[i]);
        views[i] = shown[i].view;
    }
    mbd_reply_json(x, 200, shown && views && ok ? mb_job_list_encode(views, n, more) : NULL);
    for (size_t i = 0; shown && i < n; i++) {
        shown_fini(&shown[i]);
    }
    free(shown);
    free(views);
    mbd_job_rows_free(rows, n);
}

/* ---- steering ---------------------------------------------------------------------------- */

typedef bool act_fn(struct mbd_jobs *j, const char *id, struct mb_wire_error *err);

static void act(struct mbd_exchange *x, act_fn *fn)
{
    struct mb_wire_error e;
    if (!mbd_keeps(x)) {
        return;
    }
    if (fn(mbd_exchange_service(x)->jobs, mbd_exchange_tail(x), &e)) {
        reply_job(x, mbd_exchange_tail(x));
    } else {
        reply(x, &e);
    }
}

void mbd_route_cancel_job(struct mbd_exchange *x)
{
    act(x, mbd_jobs_cancel);
}

void mbd_route_pause_job(struct mbd_exchange *x)
{
    act(x, mbd_jobs_pause);
}

void mbd_route_resume_job(struct mbd_exchange *x)
{
    act(x, mbd_jobs_resume);
}
