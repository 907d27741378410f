#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/finetune/finetune.h"
#include "proto/json/job_json.h"
#include "proto/json/task_json.h"
#include "server/clock.h"
#include "server/engine/limits.h"
#include "server/jobs/parts.h"

/* ---- starting a trainer ------------------------------------------------------------------ */

enum { PATH_BYTES = 4096 };

/* The bytes of the base are a descriptor that the trainer inherits: the very file that is served,
 * whatever has its name by now, or the sealed copy of it in memory. */
static const char BASE_PATH[] = "/proc/self/fd/3";

static char *path_of(const struct mbd_jobs *j, const char *folder, const char *name)
{
    char text[PATH_BYTES];
    (void) snprintf(text, sizeof text, "%s/%s%s", mbd_store_folder(j->service->store), folder,
                    name);
    return strdup(text);
}

static const char *teacher_of(const struct mbd_options *o, const char *name)
{
    for (size_t i = 0; name[0] && i < o->n_teachers; i++) {
        if (strcmp(o->teachers[i].name, name) == 0) {
            return o->teachers[i].file;
        }
    }
    return NULL;
}

/* Half of the threads that serve, unless it was said: the idle class takes what is left anyway, but
 * every thread more is a pool that both wait for. */
static uint32_t threads_of(const struct mbd_job *job)
{
    const struct mbd_service *s = job->owner->service;
    uint32_t most = s->options->finetune_threads;
    most = most > 0 ? most : (s->threads + 1) / 2;
    return job->request.threads > 0 && job->request.threads < most ? job->request.threads
                                                                   : most;
}

/* In a build with sanitizers, their shadow of all memory counts as memory. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { COUNTED = 0 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { COUNTED = 0 };
#else
enum { COUNTED = 1 };
#endif
#else
enum { COUNTED = 1 };
#endif

static uint64_t memory_of(const struct mbd_options *o)
{
    uint64_t half = mbd_memory_limit() / 2;
    return !COUNTED ? 0 : o->finetune_memory > 0 ? o->finetune_memory : half;
}

/* false when memory was refused. */
static bool make_task(const struct mbd_job *job, struct mb_task *t)
{
    const struct mbd_jobs *j = job->owner;
    const struct mbd_options *o = j->service->options;
    const struct mbd_job_row *row = &job->row;
    const char *teacher = teacher_of(o, job->request.teacher);
    *t = (struct mb_task) {
        .base = strdup(BASE_PATH),
        .base_digest = row->base_digest,
        .start = row->start[0] ? path_of(j, "", row->start) : NULL,
        .training = path_of(j, "files/", row->training),
        .validation = row->validation[0] ? path_of(j, "files/", row->validation) : NULL,
        .teacher = teacher ? strdup(teacher) : NULL,
        .folder = path_of(j, "models/", row->id),
        .body = strdup(row->body),
        .isa = strdup(o->isa),
        .priority = strdup(o->finetune_priority),
        .seed = row->seed,
        .threads = threads_of(job),
        .memory = memory_of(o),
        .resume = row->attempts > 1,
    };
    return t->base && (t->start || !row->start[0]) && t->training &&
           (t->validation || !row->validation[0]) && (t->teacher || !teacher) && t->folder &&
           t->body && t->isa && t->priority;
}

static void on_line(void *arg, const char *text, size_t n);
static void on_end(void *arg, int status, int signal);

static enum mb_status start(struct mbd_job *job, const struct mb_task *t, struct mb_error *err)
{
    static const char *const argv[] = { "mboold", "--trainer", NULL };
    const struct mbd_process_calls calls = { on_line, on_end, job };
    int base = mbd_registry_descriptor(job->owner->service->registry, job->row.base);
    if (base < 0) {
        return mb_fail(err, MB_E_NOTFOUND, 0, "the model '%s' is not served any more",
                       job->row.base);
    }
    if (mkdir(t->folder, 0700) != 0 && errno != EEXIST) {
        return mb_fail(err, MB_E_IO, errno, "make the folder of a job");
    }
    char *line = mb_task_encode(t);
    if (!line) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory to describe a job");
    }
    enum mb_status st = mbd_process_new(job->owner->service->loop, "/proc/self/exe", argv, base,
                                        &calls, &job->process, err);
    if (st == MB_OK &&
        (st = mbd_process_send(job->process, line, strlen(line), err)) != MB_OK) {
        mbd_process_free(job->process);
        job->process = NULL;
    }
    free(line);
    return st;
}

enum mb_status mbd_job_run(struct mbd_job *job, struct mb_error *err)
{
    struct mb_task t;
    job->row.attempts++;
    enum mb_status st = make_task(job, &t)
                            ? start(job, &t, err)
                            : mb_fail(err, MB_E_NOMEM, 0, "no memory to describe a job");
    mb_task_fini(&t);
    if (st != MB_OK) {
        job->row.attempts--;
        return st;
    }
    job->told = MB_TASK_EVENTS;
    job->killed = NULL;
    job->was_told_to_stop = false;
    job->began_ns = job->heard_ns = mbd_now_ns();
    job->noted_ns = job->stopped_ns = job->released_ns = 0;
    job->n_tokens = job->n_steps = 0;
    job->metrics = (struct mb_job_metrics) { .train_loss = (double) NAN,
                                             .valid_loss = (double) NAN,
                                             .tokens_per_s = (double) NAN,
                                             .eta_s = (double) NAN };
    job->valid_loss = (double) NAN;
    mbd_job_enter(job, MB_JOB_VALIDATING_FILES);
    mbd_job_note(job, MB_EVENT_INFO,
                 job->row.attempts > 1 ? "Validating files; the last snapshot is of step %llu"
                                       : "Validating files",
                 (unsigned long long) job->row.snapshot_step);
    return MB_OK;
}

/* ---- speaking with it -------------------------------------------------------------------- */

void mbd_job_throttle(struct mbd_job *job, bool wanted, uint64_t now)
{
    const uint64_t ms = MBD_SECOND_NS / 1000;
    bool stands = job->stopped_ns != 0;
    if (stands && now - job->stopped_ns >= THROTTLE_MAX_MS * ms) {
        job->released_ns = now + THROTTLE_GRACE_MS * ms;
    }
    wanted = wanted && now >= job->released_ns && !job->was_told_to_stop;
    if (wanted && !stands) {
        job->stopped_ns = now;
        mbd_process_signal(job->process, SIGSTOP);
    } else if (!wanted && stands) {
        job->owner->throttled_ms += (now - job->stopped_ns) / ms;
        job->stopped_ns = 0;
        job->heard_ns = now; /* it could say nothing */
        mbd_process_signal(job->process, SIGCONT);
    }
}

void mbd_job_stop(struct mbd_job *job)
{
    struct mb_error err;
    static const char word[] = MB_TASK_STOP "\n";
    if (job->was_told_to_stop) {
        return;
    }
    job->was_told_to_stop = true;
    mbd_job_throttle(job, false, mbd_now_ns());
    if (mbd_process_send(job->process, word, sizeof word - 1, &err) != MB_OK) {
        mbd_job_kill(job, "could not be told to stop");
    }
}

void mbd_job_kill(struct mbd_job *job, const char *why)
{
    if (!job->killed) {
        job->killed = why;
        mbd_process_signal(job->process, SIGKILL);
    }
}

/* ---- its events -------------------------------------------------------------------------- */

static double seconds(uint64_t ns)
{
    return (double) ns / (double) MBD_SECOND_NS;
}

static void measure(struct mbd_job *job, const struct mb_task_event *e)
{
    struct mb_job_metrics *m = &job->metrics;
    double took = seconds(mbd_now_ns() - job->began_ns);
    m->step = e->step;
    m->total_steps = e->total_steps;
    m->train_loss = e->loss;
    m->flips = e->flips;
    m->total_flips = e->total_flips;
    m->moved_share = e->weights > 0 ? (double) e->moved / (double) e->weights : 0;
    m->trained_tokens = job->row.trained_tokens + job->n_tokens;
    m->tokens_per_s = took > 0 ? (double) job->n_tokens / took : (double) NAN;
    m->eta_s = job->n_steps > 0
                   ? took / (double) job->n_steps * (double) (e->total_steps - e->step)
                   : (double) NAN;
    m->valid_loss = job->valid_step == e->step ? job->valid_loss : (double) NAN;
}

/* The first steps each, then about as many again as fit the time that it takes in all, however
 * long that is; and the last. */
static bool is_noted(const struct mbd_job *job, const struct mb_task_event *e, uint64_t now)
{
    uint64_t every = (now - job->began_ns) / STEPS_SPREAD;
    every = every > MBD_SECOND_NS ? every : MBD_SECOND_NS;
    return job->n_steps <= STEPS_ALL || e->step == e->total_steps ||
           now - job->noted_ns >= every;
}

static void on_step(struct mbd_job *job, const struct mb_task_event *e)
{
    char text[EVENT_TEXT];
    struct mbd_jobs *j = job->owner;
    uint64_t now = mbd_now_ns();
    job->n_steps++;
    job->n_tokens += e->tokens;
    j->steps++;
    j->tokens += e->tokens;
    j->flips += e->flips;
    j->heard_ns = now;
    job->row.step = e->step;
    job->row.total_steps = e->total_steps;
    job->dirty = true;
    measure(job, e);
    if (!is_noted(job, e, now)) {
        return;
    }
    job->noted_ns = now;
    (void) snprintf(text, sizeof text, "Step %llu/%llu: training loss=%.4f, flips=%llu",
                    (unsigned long long) e->step, (unsigned long long) e->total_steps, e->loss,
                    (unsigned long long) e->flips);
    mbd_job_note_step(job, text, mb_job_metrics_encode(&job->metrics, false));
}

static void on_valid(struct mbd_job *job, const struct mb_task_event *e)
{
    char text[EVENT_TEXT];
    job->valid_loss = job->metrics.valid_loss = e->loss;
    job->valid_step = job->metrics.step = e->step;
    job->metrics.total_steps = e->total_steps;
    if (e->step == 0) {
        job->row.first_valid = job->row.best_valid = e->loss;
        job->dirty = true;
    }
    (void) snprintf(text, sizeof text, "Step %llu/%llu: validation loss=%.4f",
                    (unsigned long long) e->step, (unsigned long long) e->total_steps, e->loss);
    mbd_job_note_step(job, text, mb_job_metrics_encode(&job->metrics, false));
}

static void on_ready(struct mbd_job *job, const struct mb_task_event *e)
{
    job->row.total_steps = e->total_steps;
    job->began_ns = mbd_now_ns();
    if (!job->was_told_to_stop) {
        mbd_job_enter(job, MB_JOB_RUNNING);
    }
    mbd_job_note(job, MB_EVENT_INFO,
                 "Files validated: %llu examples, %llu tokens to learn, %llu lines left out; "
                 "%llu steps",
                 (unsigned long long) e->examples, (unsigned long long) e->learned,
                 (unsigned long long) e->bad_lines, (unsigned long long) e->total_steps);
}

/* What goes on from here when it ends badly. */
static void keep_snapshot(struct mbd_job *job, const struct mb_task_event *e)
{
    job->row.snapshot_step = e->step;
    job->row.trained_tokens += job->n_tokens;
    job->n_tokens = 0;
    job->row.failures = 0;
    job->dirty = true;
}

/* Should it go live by itself? */
static bool is_promoted(struct mbd_job *job, double valid_loss)
{
    switch (job->request.promote) {
    case MB_PROMOTE_ALWAYS:
        return true;
    case MB_PROMOTE_IF_BETTER:
        if (valid_loss <= job->row.best_valid - job->request.promote_margin) {
            job->row.best_valid = valid_loss;
            return true;
        }
        return false;
    default:
        return false;
    }
}

static void on_file(struct mbd_job *job, const struct mb_task_event *e, bool is_result)
{
    struct mb_job_metrics m = job->metrics;
    m.valid_loss = job->valid_step == e->step ? job->valid_loss : (double) NAN;
    m.step = e->step;
    m.total_steps = e->total_steps;
    keep_snapshot(job, e);
    mbd_job_add_checkpoint(job, e, is_result, is_promoted(job, m.valid_loss),
                           mb_job_metrics_encode(&m, true));
    mbd_job_note(job, MB_EVENT_INFO, "%s created at step %llu: %llu bytes",
                 is_result ? "New fine-tuned model" : "Checkpoint",
                 (unsigned long long) e->step, (unsigned long long) e->bytes);
}

/* The result is announced, and then published; the job has succeeded when it can be asked for. */
static void on_done(struct mbd_job *job, const struct mb_task_event *e)
{
    if (job->request.dry_run) {
        mbd_job_enter(job, MB_JOB_SUCCEEDED);
        mbd_job_note(job, MB_EVENT_INFO, "The job has been tried, and nothing was trained");
    } else {
        on_file(job, e, true);
    }
}

static void take(struct mbd_job *job, const struct mb_task_event *e)
{
    switch (e->kind) {
    case MB_TASK_READY:
        on_ready(job, e);
        break;
    case MB_TASK_STEP:
        on_step(job, e);
        return; /* committed with others, a little later */
    case MB_TASK_VALID:
        on_valid(job, e);
        return;
    case MB_TASK_SNAPSHOT:
        on_file(job, e, false);
        break;
    case MB_TASK_DONE:
        on_done(job, e);
        job->told = e->kind;
        break;
    case MB_TASK_STOPPED:
        keep_snapshot(job, e);
        job->told = e->kind;
        break;
    default:
        job->last = *e;
        job->told = e->kind;
        return;
    }
    (void) mbd_jobs_record(job->owner, NULL);
}

static void on_line(void *arg, const char *text, size_t n)
{
    struct mbd_job *job = arg;
    struct mb_task_event e;
    struct mb_error err;
    if (mb_job_is_final(job->row.status) || job->told != MB_TASK_EVENTS) {
        return;
    }
    job->heard_ns = mbd_now_ns();
    if (mb_task_event_decode(text, n, &e, &err) != MB_OK) {
        mbd_job_log(job, MBD_LOG_ERROR, err.what);
        mbd_job_kill(job, "said what is no event");
        return;
    }
    take(job, &e);
}

/* ---- its end ----------------------------------------------------------------------------- */

static void fail_job(struct mbd_job *job, const char *code, const char *param, const char *what)
{
    struct mbd_job_row *row = &job->row;
    (void) snprintf(row->error_code, sizeof row->error_code, "%s", code);
    (void) snprintf(row->error_param, sizeof row->error_param, "%s", param);
    (void) snprintf(row->error_message, sizeof row->error_message, "%s", what);
    mbd_job_enter(job, MB_JOB_FAILED);
    mbd_job_note(job, MB_EVENT_ERROR, "The job failed: %s", what);
}

static void why_it_ended(const struct mbd_job *job, int status, int signal, char *ret, size_t n)
{
    if (job->killed) {
        (void) snprintf(ret, n, "the trainer %s", job->killed);
    } else if (job->told == MB_TASK_FAILED) {
        (void) snprintf(ret, n, "%s", job->last.message);
    } else if (signal != 0) {
        (void) snprintf(ret, n, "the trainer was ended by signal %d (%s)%s", signal,
                        strsignal(signal),
                        signal == SIGKILL ? ", as when a machine has no memory left" : "");
    } else {
        (void) snprintf(ret, n, "the trainer ended with status %d, and without a word", status);
    }
}

static void try_again(struct mbd_job *job, const char *why)
{
    struct mbd_job_row *row = &job->row;
    row->failures++;
    if (row->failures > RETRIES_MAX) {
        fail_job(job, "trainer_failed", "", why);
        return;
    }
    job->owner->restarts++;
    uint64_t ms = (uint64_t) RETRY_MS << (row->failures - 1);
    job->retry_ns = mbd_now_ns() + ms * (MBD_SECOND_NS / 1000);
    mbd_job_enter(job, MB_JOB_QUEUED);
    mbd_job_note(job, MB_EVENT_WARN, "%s; it is started again from step %llu (%u of %d)", why,
                 (unsigned long long) row->snapshot_step, (unsigned) row->failures,
                 RETRIES_MAX);
}

static void judge_end(struct mbd_job *job, int status, int signal)
{
    char why[EVENT_TEXT - 80];
    bool is_users = job->told == MB_TASK_FAILED && job->last.is_users;
    if (mb_job_is_final(job->row.status) || job->told == MB_TASK_DONE) {
        return; /* done, perhaps not yet published; or cancelled */
    }
    why_it_ended(job, status, signal, why, sizeof why);
    if (is_users) {
        bool file = strcmp(job->last.param, "training_file") == 0 ||
                    strcmp(job->last.param, "validation_file") == 0;
        char code[64];
        (void) snprintf(code, sizeof code, "%s%s", file ? "invalid_" : "user_error",
                        file ? job->last.param : "");
        fail_job(job, code, job->last.param, why);
    } else if (job->row.status == MB_JOB_PAUSING) {
        mbd_job_enter(job, MB_JOB_PAUSED);
        mbd_job_note(job, MB_EVENT_INFO, "The job is paused at step %llu",
                     (unsigned long long) job->row.snapshot_step);
    } else if (job->told == MB_TASK_STOPPED || job->owner->draining) {
        mbd_job_enter(job, MB_JOB_QUEUED); /* the server is shutting down */
    } else {
        try_again(job, why);
    }
}

/* What only a trainer of this job could still have used. */
void mbd_jobs_remove_work(const struct mbd_jobs *j, const char *id)
{
    static const char *const names[] = { "out.mbool", ("out.mbool" MB_FINETUNE_STATE),
                                         "start.mbool", "fault" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[PATH_BYTES];
        (void) snprintf(path, sizeof path, "%s/models/%s/%s",
                        mbd_store_folder(j->service->store), id, names[i]);
        (void) unlink(path);
    }
}

void mbd_job_settle(struct mbd_job *job, enum mb_status st, const struct mb_error *err)
{
    if (!job || mb_job_is_final(job->row.status)) {
        return;
    }
    struct mbd_jobs *j = job->owner;
    char id[MB_JOB_ID_MAX + 1];
    memcpy(id, job->row.id, sizeof id);
    if (st == MB_OK) {
        mbd_job_enter(job, MB_JOB_SUCCEEDED);
        mbd_job_note(job, MB_EVENT_INFO, "The job has successfully completed");
    } else {
        fail_job(job, "publish_failed", "", err->what);
    }
    if (mbd_jobs_record(j, NULL) == MB_OK && !mbd_job_find(j, id)) {
        mbd_jobs_remove_work(j, id);
    }
}

static void on_end(void *arg, int status, int signal)
{
    struct mbd_job *job = arg;
    struct mbd_jobs *j = job->owner;
    char id[MB_JOB_ID_MAX + 1];
    memcpy(id, job->row.id, sizeof id);
    if (job->stopped_ns != 0) {
        mbd_job_throttle(job, false, mbd_now_ns());
    }
    judge_end(job, status, signal);
    mbd_process_free(job->process);
    job->process = NULL;
    bool is_final = mb_job_is_final(job->row.status);
    if (mbd_jobs_record(j, NULL) == MB_OK && is_final) { /* it is gone now */
        mbd_jobs_remove_work(j, id);
    }
    mbd_jobs_schedule(j);
}
