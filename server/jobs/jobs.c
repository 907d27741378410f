#include "server/jobs/jobs.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/checksum.h"
#include "proto/json/job_json.h"
#include "server/clock.h"
#include "server/jobs/parts.h"

int64_t mbd_jobs_now(void)
{
    return (int64_t) time(NULL);
}

struct mbd_loop *mbd_jobs_loop(const struct mbd_jobs *j)
{
    return j->service->loop;
}

void mbd_job_log(const struct mbd_job *job, enum mbd_log_level level, const char *message)
{
    struct mbd_line line;
    mbd_line_begin(&line, job->owner->service->log, level, "job");
    mbd_line_text(&line, "id", job->row.id);
    mbd_line_text(&line, "status", mb_job_status_name(job->row.status));
    mbd_line_text(&line, "message", message);
    mbd_line_end(&line);
}

/* ---- the states -------------------------------------------------------------------------- */

void mbd_job_enter(struct mbd_job *job, enum mb_job_status status)
{
    assert(!mb_job_is_final(job->row.status));
    job->row.status = status;
    job->dirty = true;
    if (mb_job_is_final(status)) {
        job->row.finished = mbd_jobs_now();
    }
}

struct mbd_job *mbd_job_find(const struct mbd_jobs *j, const char *id)
{
    struct mbd_job *job = j->first;
    while (job && strcmp(job->row.id, id) != 0) {
        job = job->next;
    }
    return job;
}

size_t mbd_jobs_trainers(const struct mbd_jobs *j)
{
    size_t n = 0;
    for (const struct mbd_job *job = j->first; job; job = job->next) {
        n += job->process != NULL;
    }
    return n;
}

/* ---- looking at trainers, and at who waits ----------------------------------------------- */

static bool requests_wait(const struct mbd_jobs *j)
{
    const struct mbd_registry *r = j->service->registry;
    for (size_t i = 0; i < mbd_registry_bases(r); i++) {
        struct mbd_engine_stats stats;
        mbd_engine_stats(mbd_registry_base(r, i)->engine, &stats);
        if (stats.waiting > 0) {
            return true;
        }
    }
    return false;
}

static void look_at(struct mbd_job *job, bool wait, uint64_t now)
{
    uint64_t hang_ns =
        (uint64_t) job->owner->service->options->finetune_hang_ms * (MBD_SECOND_NS / 1000);
    mbd_job_throttle(job, wait, now);
    if (job->stopped_ns == 0 && now > job->heard_ns + hang_ns) {
        mbd_job_kill(job, "said nothing for too long (--finetune-hang)");
    }
}

static void on_look(void *arg)
{
    struct mbd_jobs *j = arg;
    uint64_t now = mbd_now_ns();
    bool wait = requests_wait(j), due = false;
    for (struct mbd_job *job = j->first; job; job = job->next) {
        if (job->process) {
            look_at(job, wait, now);
        } else if (job->row.status == MB_JOB_QUEUED) {
            due |= now >= job->retry_ns;
        }
    }
    if (due) {
        mbd_jobs_schedule(j);
    }
}

/* Only while there is something to look at. */
static void look_or_not(struct mbd_jobs *j)
{
    bool any = false;
    for (const struct mbd_job *job = j->first; job; job = job->next) {
        any |= job->process || job->row.status == MB_JOB_QUEUED;
    }
    if (any && !j->looking) {
        mbd_timer_start(j->look, LOOK_MS, LOOK_MS);
    } else if (!any && j->looking) {
        mbd_timer_stop(j->look);
    }
    j->looking = any;
}

/* The oldest that waits, and whose time to be tried again has come. */
static struct mbd_job *next_job(const struct mbd_jobs *j)
{
    uint64_t now = mbd_now_ns();
    struct mbd_job *job = j->first;
    while (job && (job->row.status != MB_JOB_QUEUED || job->process || job->retry_ns > now)) {
        job = job->next;
    }
    return job;
}

void mbd_jobs_schedule(struct mbd_jobs *j)
{
    struct mb_error err;
    struct mbd_job *job;
    while (!j->draining && mbd_jobs_trainers(j) < j->service->options->finetune_slots &&
           (job = next_job(j))) {
        if (mbd_job_run(job, &err) != MB_OK) {
            mbd_job_log(job, MBD_LOG_ERROR, err.what);
            job->retry_ns =
                mbd_now_ns() + 5 * MBD_SECOND_NS; /* the system is short of something */
            break;
        }
        (void) mbd_jobs_record(j, NULL);
    }
    look_or_not(j);
}

/* ---- posting ----------------------------------------------------------------------------- */

static bool refuse(struct mb_wire_error *err, int http, const char *code, const char *param,
                   const char *what)
{
    mb_wire_error_fill(err, http, code, param, "%s", what);
    return false;
}

/* What the store could not do. */
static bool refuse_store(const struct mbd_jobs *j, const struct mb_error *why,
                         struct mb_wire_error *err)
{
    mbd_log_message(j->service->log, MBD_LOG_ERROR, "jobs", "%s", why->what);
    return refuse(err, 503, "storage_full", NULL, "the server can not keep this just now");
}

static bool check_file(struct mbd_jobs *j, const char *id, const char *param, double bad_share,
                       struct mb_wire_error *err)
{
    struct mbd_file_row f;
    struct mb_error why;
    enum mb_status st = mbd_store_file(j->service->store, id, &f, &why);
    if (st == MB_E_NOTFOUND) {
        mb_wire_error_fill(err, 400, "file_not_found", param, "there is no file '%s'", id);
        return false;
    }
    if (st == MB_OK && f.details[0] && bad_share <= 0) {
        mb_wire_error_fill(err, 400, "invalid_file", param, "'%s' can not be used: %s", id,
                           f.details);
        return false;
    }
    return st == MB_OK || refuse_store(j, &why, err);
}

static bool check_request(struct mbd_jobs *j, const struct mb_job_request *r,
                          struct mb_wire_error *err)
{
    const struct mbd_options *o = j->service->options;
    bool known = !r->teacher[0];
    for (size_t i = 0; i < o->n_teachers; i++) {
        known |= strcmp(o->teachers[i].name, r->teacher) == 0;
    }
    if (!known) {
        mb_wire_error_fill(err, 400, NULL, "mbool.teacher",
                           "there is no teacher '%s' here (--teacher)", r->teacher);
        return false;
    }
    return check_file(j, r->training_file, "training_file", r->invalid_sample_skip_percentage,
                      err) &&
           (!r->validation_file || check_file(j, r->validation_file, "validation_file",
                                              r->invalid_sample_skip_percentage, err));
}

static bool has_room(const struct mbd_jobs *j, struct mb_wire_error *err)
{
    size_t n = 0;
    for (const struct mbd_job *job = j->first; job; job = job->next) {
        n++;
    }
    if (n >= (size_t) j->service->options->finetune_queue) {
        return refuse(err, 429, "queue_full", NULL,
                      "too many jobs are not done yet (--finetune-queue)");
    }
    return true;
}

/* The job that was posted under key before, if any. */
static bool is_known(struct mbd_jobs *j, const char *key, uint64_t hash,
                     char ret_id[MB_JOB_ID_MAX + 1], bool *ret_refused,
                     struct mb_wire_error *err)
{
    bool same = true;
    struct mb_error why;
    enum mb_status st =
        key ? mbd_store_key(j->service->store, key, mbd_jobs_now() - KEY_SECONDS, hash, ret_id,
                            &same, &why)
            : MB_E_NOTFOUND;
    *ret_refused = false;
    if (st == MB_OK && !same) {
        *ret_refused = true;
        return refuse(err, 400, "idempotency_key_reused", NULL,
                      "this Idempotency-Key came with another body before");
    }
    if (st != MB_OK && st != MB_E_NOTFOUND) {
        *ret_refused = true;
        return refuse_store(j, &why, err);
    }
    return st == MB_OK;
}

static struct mbd_job *job_new(struct mbd_jobs *j, struct mbd_job_row *row)
{
    struct mb_wire_error ignored;
    struct mbd_job *job = calloc(1, sizeof *job);
    if (!job || mb_job_request_decode(row->body, strlen(row->body), &job->request, &ignored)) {
        free(job);
        return NULL;
    }
    job->owner = j;
    job->row = *row;
    job->told = MB_TASK_EVENTS;
    job->metrics = (struct mb_job_metrics) { .train_loss = (double) NAN,
                                             .valid_loss = (double) NAN,
                                             .tokens_per_s = (double) NAN,
                                             .eta_s = (double) NAN };
    *row = (struct mbd_job_row) { 0 };
    return job;
}

static void append(struct mbd_jobs *j, struct mbd_job *job)
{
    struct mbd_job **end = &j->first;
    while (*end) {
        end = &(*end)->next;
    }
    *end = job;
}

static void job_free(struct mbd_job *job)
{
    mbd_process_free(job->process);
    mbd_job_row_fini(&job->row);
    mb_job_request_fini(&job->request);
    free(job);
}

/* The name of what comes of a job: the last digits of its id make it one of its own. */
static bool name_result(const struct mb_job_request *r, struct mbd_job_row *row,
                        struct mb_wire_error *err)
{
    const char *digits = row->id + strlen(row->id) - 8;
    int n =
        snprintf(row->result, sizeof row->result, "ft:%s:%s:%s", row->base, r->suffix, digits);
    /* ":ckpt-step-" and ten digits still have to go behind it. */
    if (n < 0 || n > MB_MODEL_NAME_MAX - 21) {
        return refuse(err, 400, NULL, "suffix",
                      "'suffix' and the model's name are too long to make a name of");
    }
    return true;
}

static bool fill_row(struct mbd_jobs *j, const char *body, const struct mb_job_request *r,
                     struct mbd_job_row *row, struct mb_wire_error *err)
{
    struct mb_error why;
    uint64_t seed = r->seed;
    if (!mbd_jobs_find_model(j, r->model, row, err)) {
        return false;
    }
    if (mbd_store_new_id("ftjob-", row->id, &why) != MB_OK) {
        return refuse_store(j, &why, err);
    }
    if (!r->has_seed) { /* drawn once, so that a retry has the same */
        seed = strtoull(row->id + 6, NULL, 16) & INT32_MAX;
    }
    row->body = strdup(body);
    if (!row->body) {
        return refuse(err, 503, "out_of_memory", NULL, "no memory for this request");
    }
    (void) snprintf(row->training, sizeof row->training, "%s", r->training_file);
    (void) snprintf(row->validation, sizeof row->validation, "%s",
                    r->validation_file ? r->validation_file : "");
    row->seed = (uint32_t) seed;
    row->created = mbd_jobs_now();
    row->status = MB_JOB_QUEUED;
    row->first_valid = row->best_valid = (double) NAN;
    return name_result(r, row, err);
}

static enum mb_status write_job(struct mbd_jobs *j, const struct mbd_job_row *row,
                                const char *key, uint64_t hash, struct mb_error *err)
{
    char text[] = "Created fine-tuning job";
    struct mbd_store *s = j->service->store;
    const struct mbd_event_row e = { .created = row->created, .message = text };
    enum mb_status st = mbd_store_begin(s, err);
    if (st == MB_OK && (st = mbd_store_add_job(s, row, err)) == MB_OK) {
        st = mbd_store_add_event(s, row->id, &e, err);
    }
    if (st == MB_OK && key) {
        st = mbd_store_add_key(s, key, row->created, row->created - KEY_SECONDS, hash, row->id,
                               err);
    }
    if (st == MB_OK) {
        return mbd_store_commit(s, err);
    }
    mbd_store_rollback(s);
    return st;
}

bool mbd_jobs_create(struct mbd_jobs *j, const char *body, const struct mb_job_request *r,
                     const char *key, char ret_id[MB_JOB_ID_MAX + 1], struct mb_wire_error *err)
{
    struct mb_error why;
    bool refused;
    struct mbd_job_row row = { 0 };
    uint64_t hash = mb_checksum(body, strlen(body));
    if (is_known(j, key, hash, ret_id, &refused, err)) {
        return true;
    }
    if (refused || !has_room(j, err) || !check_request(j, r, err) ||
        !fill_row(j, body, r, &row, err)) {
        mbd_job_row_fini(&row);
        return false;
    }
    memcpy(ret_id, row.id, sizeof row.id);
    enum mb_status st = write_job(j, &row, key, hash, &why);
    struct mbd_job *job = st == MB_OK ? job_new(j, &row) : NULL;
    mbd_job_row_fini(&row);
    if (!job) {
        return st == MB_OK ? refuse(err, 503, "out_of_memory", NULL, "no memory for this job")
                           : refuse_store(j, &why, err);
    }
    append(j, job);
    mbd_job_log(job, MBD_LOG_INFO, "created");
    mbd_jobs_schedule(j);
    return true;
}

/* ---- transitions by request -------------------------------------------------------------- */

/* The job, when it is not final: only in the store is what is. */
static struct mbd_job *find_open(struct mbd_jobs *j, const char *id, struct mb_wire_error *err)
{
    struct mb_error why;
    struct mbd_job_row row;
    struct mbd_job *job = mbd_job_find(j, id);
    if (job && !mb_job_is_final(job->row.status)) {
        return job;
    }
    enum mb_status st = mbd_store_job(j->service->store, id, &row, &why);
    if (st == MB_OK) {
        mb_wire_error_fill(err, 409, "invalid_transition", NULL, "the job has %s",
                           mb_job_status_name(row.status));
        mbd_job_row_fini(&row);
    } else if (st == MB_E_NOTFOUND) {
        mb_wire_error_fill(err, 404, "job_not_found", NULL, "there is no job '%.32s'", id);
    } else {
        (void) refuse_store(j, &why, err);
    }
    return NULL;
}

static bool commit(struct mbd_jobs *j, struct mb_wire_error *err)
{
    struct mb_error why;
    bool ok = mbd_jobs_record(j, &why) == MB_OK || refuse_store(j, &why, err);
    mbd_jobs_schedule(j);
    return ok;
}

bool mbd_jobs_cancel(struct mbd_jobs *j, const char *id, struct mb_wire_error *err)
{
    struct mbd_job *job = find_open(j, id, err);
    if (!job) {
        return false;
    }
    mbd_job_enter(job, MB_JOB_CANCELLED);
    mbd_job_note(job, MB_EVENT_INFO, "The job was cancelled");
    bool runs = job->process != NULL;
    if (runs) {
        mbd_job_kill(job, "was cancelled"); /* its end removes what it leaves */
    }
    bool ok = commit(j, err);
    if (ok && !runs) {
        mbd_jobs_remove_work(j, id);
    }
    return ok;
}

bool mbd_jobs_pause(struct mbd_jobs *j, const char *id, struct mb_wire_error *err)
{
    struct mbd_job *job = find_open(j, id, err);
    if (!job) {
        return false;
    }
    if (job->row.status == MB_JOB_PAUSED || job->row.status == MB_JOB_PAUSING) {
        mb_wire_error_fill(err, 409, "invalid_transition", NULL, "the job is %s already",
                           mb_job_status_name(job->row.status));
        return false;
    }
    if (job->process) {
        mbd_job_enter(job, MB_JOB_PAUSING);
        mbd_job_note(job, MB_EVENT_INFO, "The job pauses after its step");
        mbd_job_stop(job);
    } else {
        mbd_job_enter(job, MB_JOB_PAUSED);
        mbd_job_note(job, MB_EVENT_INFO, "The job is paused");
    }
    return commit(j, err);
}

bool mbd_jobs_resume(struct mbd_jobs *j, const char *id, struct mb_wire_error *err)
{
    struct mbd_job *job = find_open(j, id, err);
    if (!job) {
        return false;
    }
    if (job->row.status != MB_JOB_PAUSED) {
        mb_wire_error_fill(err, 409, "invalid_transition", NULL, "the job is %s, not paused",
                           mb_job_status_name(job->row.status));
        return false;
    }
    job->retry_ns = 0;
    job->row.failures = 0;
    mbd_job_enter(job, MB_JOB_QUEUED);
    mbd_job_note(job, MB_EVENT_INFO, "The job goes on from step %llu",
                 (unsigned long long) job->row.snapshot_step);
    return commit(j, err);
}

/* ---- telling ----------------------------------------------------------------------------- */

void mbd_jobs_progress(const struct mbd_jobs *j, struct mb_job_view *v)
{
    v->n_queued_before = 0;
    for (const struct mbd_job *job = j->first; job; job = job->next) {
        if (strcmp(job->row.id, v->id) != 0) {
            v->n_queued_before += job->row.status == MB_JOB_QUEUED;
            continue;
        }
        if (job->process && job->metrics.step > 0) {
            v->step = job->metrics.step;
            v->trained_tokens = job->metrics.trained_tokens;
            v->throttled = job->stopped_ns != 0;
        }
        if (job->process && job->metrics.eta_s >= 0) {
            v->estimated_finish = mbd_jobs_now() + (int64_t) job->metrics.eta_s;
        }
        if (v->status != MB_JOB_QUEUED) {
            v->n_queued_before = 0;
        }
        return;
    }
    v->n_queued_before = 0;
}

void mbd_jobs_follow(struct mbd_jobs *j, struct mbd_follower *f)
{
    f->next = j->followers;
    f->link = &j->followers;
    if (f->next) {
        f->next->link = &f->next;
    }
    j->followers = f;
}

void mbd_jobs_unfollow(struct mbd_follower *f)
{
    if (f->link) {
        *f->link = f->next;
        if (f->next) {
            f->next->link = f->link;
        }
        f->link = NULL;
    }
}

/* ---- life -------------------------------------------------------------------------------- */

static void on_record(void *arg)
{
    struct mbd_jobs *j = arg;
    j->recording = false;
    (void) mbd_jobs_record(j, NULL);
}

enum mb_status mbd_jobs_new(struct mbd_service *service, struct mbd_jobs **ret,
                            struct mb_error *err)
{
    struct mbd_jobs *j = calloc(1, sizeof *j);
    if (!j) {
        return mb_fail(err, MB_E_NOMEM, 0, "jobs: no memory");
    }
    j->service = service;
    j->records_end = &j->records;
    j->going_live_end = &j->going_live;
    enum mb_status st = mbd_timer_new(service->loop, on_look, j, &j->look, err);
    if (st == MB_OK) {
        st = mbd_timer_new(service->loop, on_record, j, &j->record, err);
    }
    if (st != MB_OK) {
        mbd_jobs_free(j);
        return st;
    }
    *ret = j;
    return MB_OK;
}

/* Was the result announced, and the daemon ended before it was published? */
static bool has_result(struct mbd_jobs *j, struct mbd_job *job)
{
    struct mbd_checkpoint_row c;
    if (mbd_store_find_model(j->service->store, job->row.result, &c, NULL) != MB_OK) {
        return false;
    }
    job->told = MB_TASK_DONE; /* it is settled when its result is published */
    mbd_jobs_publish(j, &c);
    free(c.metrics);
    return true;
}

/* A daemon ended while this one's trainer ran, or was about to. */
static void take_up(struct mbd_jobs *j, struct mbd_job *job)
{
    enum mb_job_status was = job->row.status;
    append(j, job);
    if (has_result(j, job)) {
        return;
    }
    if (was == MB_JOB_PAUSING) {
        mbd_job_enter(job, MB_JOB_PAUSED);
    } else if (was == MB_JOB_RUNNING || was == MB_JOB_VALIDATING_FILES) {
        mbd_job_enter(job, MB_JOB_QUEUED);
        mbd_job_note(job, MB_EVENT_WARN,
                     "The server was started again; the job goes on from step %llu",
                     (unsigned long long) job->row.snapshot_step);
    }
}

/* Uploads that a daemon did not live to acknowledge. */
static void remove_strays(const struct mbd_jobs *j)
{
    char path[4096];
    struct mbd_file_row row;
    (void) snprintf(path, sizeof path, "%s/files", mbd_store_folder(j->service->store));
    DIR *d = opendir(path);
    for (const struct dirent *e; d && (e = readdir(d));) {
        bool is_dot = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
        if (!is_dot &&
            mbd_store_file(j->service->store, e->d_name, &row, NULL) == MB_E_NOTFOUND) {
            (void) unlinkat(dirfd(d), e->d_name, 0);
        }
    }
    if (d) {
        (void) closedir(d);
    }
}

enum mb_status mbd_jobs_start(struct mbd_jobs *j, struct mb_error *err)
{
    struct mbd_job_row *rows = NULL;
    size_t n = 0;
    remove_strays(j);
    enum mb_status st = mbd_store_open_jobs(j->service->store, &rows, &n, err);
    for (size_t i = 0; st == MB_OK && i < n; i++) {
        char id[MB_JOB_ID_MAX + 1];
        memcpy(id, rows[i].id, sizeof id);
        struct mbd_job *job = job_new(j, &rows[i]);
        if (job) {
            take_up(j, job);
        } else {
            st = mb_fail(err, MB_E_FORMAT, 0, "state: what asked for job %s can not be read",
                         id);
        }
    }
    mbd_job_rows_free(rows, n);
    if (st == MB_OK) {
        st = mbd_jobs_publish_all(j, err);
    }
    if (st == MB_OK) {
        st = mbd_jobs_record(j, err);
    }
    if (st == MB_OK) {
        mbd_jobs_schedule(j);
    }
    return st;
}

void mbd_jobs_drain(struct mbd_jobs *j)
{
    j->draining = true;
    for (struct mbd_job *job = j->first; job; job = job->next) {
        if (job->process) {
            mbd_job_stop(job);
        }
    }
}

void mbd_jobs_free(struct mbd_jobs *j)
{
    if (!j) {
        return;
    }
    if (j->records) {
        (void) mbd_jobs_record(j, NULL);
    }
    mbd_jobs_drop_records(j);
    mbd_jobs_forget_live(j);
    for (struct mbd_job *job = j->first, *next; job; job = next) {
        next = job->next;
        job_free(job);
    }
    mbd_timer_free(j->look);
    mbd_timer_free(j->record);
    free(j);
}
