#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/jobs/parts.h"

static void record_free(struct mbd_record *r)
{
    free(r->event.message);
    free(r->event.data);
    free(r->checkpoint.metrics);
    free(r);
}

/* ---- adding ------------------------------------------------------------------------------ */

/* From now on, what is pending is committed by the timer, if not before. */
static void record_soon(struct mbd_jobs *j)
{
    if (!j->recording) {
        j->recording = true;
        mbd_timer_start(j->record, RECORD_MS, 0);
    }
}

static struct mbd_record *add(struct mbd_jobs *j, const char *job)
{
    struct mbd_record *r = calloc(1, sizeof *r);
    if (!r) {
        mbd_log_message(j->service->log, MBD_LOG_ERROR, "jobs", "no memory for an event");
        return NULL;
    }
    (void) snprintf(r->job, sizeof r->job, "%s", job);
    *j->records_end = r;
    j->records_end = &r->next;
    j->n_records++;
    record_soon(j);
    return r;
}

static void note(struct mbd_jobs *j, const char *job, enum mb_event_level level,
                 const char *fmt, va_list args)
{
    char text[EVENT_TEXT];
    struct mbd_line line;
    (void) vsnprintf(text, sizeof text, fmt, args);
    mbd_line_begin(&line, j->service->log, level == MB_EVENT_INFO ? MBD_LOG_INFO : MBD_LOG_WARN,
                   "job");
    mbd_line_text(&line, "id", job);
    mbd_line_text(&line, "message", text);
    mbd_line_end(&line);
    struct mbd_record *r = add(j, job);
    if (r) {
        r->event = (struct mbd_event_row) { .created = mbd_jobs_now(),
                                            .level = level,
                                            .message = strdup(text) };
    }
}

void mbd_jobs_note(struct mbd_jobs *j, const char *job, enum mb_event_level level,
                   const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    note(j, job, level, fmt, args);
    va_end(args);
}

void mbd_job_note(struct mbd_job *job, enum mb_event_level level, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    note(job->owner, job->row.id, level, fmt, args);
    va_end(args);
}

/* Takes data. Steps are what there may be too many of, when the disk refuses them. */
void mbd_job_note_step(struct mbd_job *job, const char *message, char *data)
{
    struct mbd_record *r =
        job->owner->n_records < PENDING_MAX ? add(job->owner, job->row.id) : NULL;
    if (!r) {
        free(data);
        return;
    }
    r->event = (struct mbd_event_row) {
        .created = mbd_jobs_now(), .is_metrics = true, .message = strdup(message), .data = data
    };
}

void mbd_job_add_checkpoint(struct mbd_job *job, const struct mb_task_event *e, bool is_result,
                            bool promote, char *metrics)
{
    struct mbd_record *r = add(job->owner, job->row.id);
    if (!r) {
        free(metrics);
        return;
    }
    struct mbd_checkpoint_row *c = &r->checkpoint;
    r->is_checkpoint = true;
    *c = (struct mbd_checkpoint_row) { .created = mbd_jobs_now(),
                                       .step = e->step,
                                       .is_result = is_result,
                                       .promote = promote,
                                       .metrics = metrics };
    memcpy(c->job, job->row.id, sizeof c->job);
    memcpy(c->base, job->row.base, sizeof c->base);
    memcpy(c->epoch, e->epoch, sizeof c->epoch);
    (void) snprintf(c->model, sizeof c->model, "%s", job->row.result);
    if (!is_result) {
        size_t n = strlen(c->model);
        (void) snprintf(c->model + n, sizeof c->model - n, ":ckpt-step-%llu",
                        (unsigned long long) e->step);
    }
    (void) snprintf(c->file, sizeof c->file, "models/%s/%s", job->row.id, e->file);
}

/* ---- committing -------------------------------------------------------------------------- */

static enum mb_status write_one(struct mbd_store *s, const struct mbd_record *r,
                                struct mb_error *err)
{
    if (r->is_checkpoint) {
        return r->checkpoint.metrics ? mbd_store_add_checkpoint(s, &r->checkpoint, err)
                                     : mb_fail(err, MB_E_NOMEM, 0, "no memory for metrics");
    }
    return r->event.message ? mbd_store_add_event(s, r->job, &r->event, err)
                            : mb_fail(err, MB_E_NOMEM, 0, "no memory for an event");
}

static enum mb_status write_all(struct mbd_jobs *j, struct mb_error *err)
{
    struct mbd_store *s = j->service->store;
    enum mb_status st = mbd_store_begin(s, err);
    for (struct mbd_job *job = j->first; st == MB_OK && job; job = job->next) {
        st = job->dirty ? mbd_store_update_job(s, &job->row, err) : MB_OK;
    }
    for (const struct mbd_record *r = j->records; st == MB_OK && r; r = r->next) {
        st = write_one(s, r, err);
    }
    if (st == MB_OK) {
        return mbd_store_commit(s, err);
    }
    mbd_store_rollback(s);
    return st;
}

static void tell_followers(struct mbd_jobs *j, const char *job)
{
    for (struct mbd_follower *f = j->followers, *next; f; f = next) {
        next = f->next; /* it may leave */
        if (strcmp(f->job, job) == 0) {
            f->fn(f->arg);
        }
    }
}

/* What was committed may be seen now, and served. */
static void let_go(struct mbd_jobs *j, struct mbd_record *first)
{
    for (struct mbd_record *r = first, *next; r; r = next) {
        next = r->next;
        if (r->is_checkpoint) {
            mbd_jobs_publish(j, &r->checkpoint);
        }
        tell_followers(j, r->job);
        record_free(r);
    }
}

/* A job that is final is only in the store from now on. */
static void forget_final(struct mbd_jobs *j)
{
    for (struct mbd_job **at = &j->first; *at;) {
        struct mbd_job *job = *at;
        job->dirty = false;
        if (!mb_job_is_final(job->row.status) || job->process) {
            at = &job->next;
            continue;
        }
        *at = job->next;
        mbd_job_row_fini(&job->row);
        mb_job_request_fini(&job->request);
        free(job);
    }
}

enum mb_status mbd_jobs_record(struct mbd_jobs *j, struct mb_error *err)
{
    struct mb_error why;
    enum mb_status st = write_all(j, &why);
    if (st != MB_OK) {
        if (!j->refused) {
            mbd_log_message(j->service->log, MBD_LOG_ERROR, "jobs", "%s", why.what);
        }
        j->refused = true;
        record_soon(j);
        if (err) {
            *err = why;
        }
        return st;
    }
    struct mbd_record *first = j->records;
    j->records = NULL;
    j->records_end = &j->records;
    j->n_records = 0;
    j->refused = j->recording = false;
    mbd_timer_stop(j->record);
    forget_final(j);
    let_go(j, first);
    return MB_OK;
}

void mbd_jobs_drop_records(struct mbd_jobs *j)
{
    for (struct mbd_record *r = j->records, *next; r; r = next) {
        next = r->next;
        record_free(r);
    }
    j->records = NULL;
    j->records_end = &j->records;
    j->n_records = 0;
}
