#include "server/trainer/trainer.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/file.h"
#include "core/checkpoint/delta.h"
#include "core/finetune/finetune.h"
#include "core/finetune/ops.h"
#include "proto/json/completion_json.h" /* mb_json_init */
#include "proto/json/job_json.h"
#include "proto/json/task_json.h"
#include "server/trainer/fault.h"

enum {
    TASK_BYTES_MAX = 1 << 20, /* of the line: a body of 64 KB in JSON, and paths */
    EPOCHS_AUTO = 3,          /* as OpenAI's of small files */
    SNAPSHOTS_AUTO = 3,       /* before the result, as OpenAI's checkpoints */
    EXIT_TOLD = 0,
    EXIT_UNTOLD = 3,
};

struct trainer {
    struct mb_task task;
    struct mb_job_request request;
    struct mb_finetune_options options;
    struct mb_bytes output, state, start;
    struct mb_pool *pool;
    struct mb_task_event event; /* filled anew for each that is told */
    char word[64];              /* of the daemon, as far as it came */
    size_t n_word;
    bool is_stopping, is_ready;
};

/* ---- telling ----------------------------------------------------------------------------- */

static const char *const kinds[MB_TASK_EVENTS] = { "ready",   "step", "valid", "snapshot",
                                                   "stopped", "done", "failed" };

/* To whom nobody listens ends: the daemon is gone. */
static void write_line(const char *line)
{
    size_t left = line ? strlen(line) : 0;
    while (left > 0) {
        ssize_t n = write(STDOUT_FILENO, line, left);
        if (n < 0 && errno != EINTR) {
            _exit(EXIT_UNTOLD);
        }
        line += n > 0 ? n : 0;
        left -= n > 0 ? (size_t) n : 0;
    }
}

static void tell(struct trainer *t, enum mb_task_event_kind kind)
{
    t->event.kind = kind;
    char *line = mb_task_event_encode(&t->event);
    write_line(line ? line : "{\"event\":\"failed\",\"status\":1,\"message\":\"no memory\"}\n");
    free(line);
    mbd_fault_after(&t->task, &t->event, kinds[kind]);
}

/* ---- making itself small ----------------------------------------------------------------- */

static void put_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "we");
    if (f) {
        (void) fputs(text, f);
        (void) fclose(f);
    }
}

static void outlive_nobody(void)
{
    static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGXFSZ };
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++) {
        (void) signal(ignored[i], SIG_IGN);
    }
    (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void) prctl(PR_SET_NAME, "mboold-trainer");
    put_text("/proc/self/oom_score_adj", "1000");
}

/* What the system forbids of this is no reason not to train. */
static void step_back(const char *priority)
{
    const struct sched_param none = { 0 };
    bool idle = strcmp(priority, "idle") == 0;
    if (strcmp(priority, "normal") == 0 ||
        (idle && sched_setscheduler(0, SCHED_IDLE, &none) == 0)) {
        return;
    }
    (void) setpriority(PRIO_PROCESS, 0, 19);
}

/* What is mapped from a checkpoint is not counted: it is shared, and can be read again. */
static void bound_memory(uint64_t bytes)
{
    struct rlimit limit = { bytes, bytes };
    if (bytes > 0) {
        (void) setrlimit(RLIMIT_DATA, &limit);
    }
}

/* ---- listening --------------------------------------------------------------------------- */

/* The first line of standard input. */
static bool read_task(struct mb_bytes *ret)
{
    char c;
    while (ret->len < TASK_BYTES_MAX && read(STDIN_FILENO, &c, 1) == 1) {
        if (c == '\n') {
            return !ret->failed;
        }
        mb_bytes_put_u8(ret, (uint8_t) c);
    }
    return false;
}

static void take_word(struct trainer *t, char c)
{
    if (c != '\n') {
        t->word[t->n_word] = c;
        t->n_word += t->n_word + 1 < sizeof t->word;
        return;
    }
    t->word[t->n_word] = '\0';
    t->n_word = 0;
    t->is_stopping |= strcmp(t->word, MB_TASK_STOP) == 0;
}

/* Between steps: did the daemon say that it is to stop? */
static bool is_stopped(void *self)
{
    struct trainer *t = self;
    struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
    char block[64];
    while (!t->is_stopping && poll(&in, 1, 0) == 1) {
        ssize_t n = read(STDIN_FILENO, block, sizeof block);
        if (n <= 0) {
            _exit(EXIT_UNTOLD); /* the daemon is gone */
        }
        for (ssize_t i = 0; i < n; i++) {
            take_word(t, block[i]);
        }
    }
    return t->is_stopping;
}

/* ---- snapshots --------------------------------------------------------------------------- */

/* What out.mbool changes in the base, as step-N.delta; the event tells of it. */
static enum mb_status make_delta(struct trainer *t, struct mb_error *err)
{
    struct mb_task_event *e = &t->event;
    struct mb_bytes path = { 0 };
    struct mb_checkpoint *base = NULL, *out = NULL;
    struct stat made = { 0 };
    (void) snprintf(e->file, sizeof e->file, "step-%llu.delta", (unsigned long long) e->step);
    mb_bytes_printf(&path, "%s/%s", t->task.folder, e->file);
    const char *name = mb_bytes_text(&path);
    enum mb_status st = path.failed ? mb_fail(err, MB_E_NOMEM, 0, "no memory for a path")
                                    : mb_checkpoint_open(t->task.base, &base, err);
    if (st == MB_OK && (st = mb_checkpoint_open(t->options.output, &out, err)) == MB_OK &&
        (st = mb_delta_make(base, out, name, NULL, err)) == MB_OK && stat(name, &made) != 0) {
        st = mb_fail(err, MB_E_IO, errno, "'%s'", e->file);
    }
    e->bytes = (uint64_t) made.st_size;
    if (st == MB_OK) {
        (void) snprintf(e->epoch, sizeof e->epoch, "%016llx",
                        (unsigned long long) mb_checkpoint_digest(out));
    }
    mb_checkpoint_free(out);
    mb_checkpoint_free(base);
    mb_bytes_fini(&path);
    return st;
}

/* Says why and is no more: from here there is no way to go on. */
static void fail(struct trainer *t, const struct mb_error *err)
{
    t->event.status = err->code;
    (void) snprintf(t->event.message, sizeof t->event.message, "%s", err->what);
    tell(t, MB_TASK_FAILED);
    _exit(EXIT_TOLD);
}

static void on_snapshot(struct trainer *t, enum mb_task_event_kind kind)
{
    struct mb_error err;
    if (t->is_stopping && kind == MB_TASK_SNAPSHOT) {
        return; /* only to go on from */
    }
    if (make_delta(t, &err) != MB_OK) {
        fail(t, &err);
    }
    tell(t, kind);
}

static void on_event(void *self, const struct mb_finetune_event *from)
{
    struct trainer *t = self;
    t->event = (struct mb_task_event) {
        .step = from->n_done,
        .total_steps = from->n_steps,
        .tokens = from->batch_tokens,
        .loss = from->kind == MB_FINETUNE_VALID ? from->valid.total : from->report.losses.total,
        .flips = from->report.flips.n_flips,
        .total_flips = from->report.total.n_flips,
        .moved = from->report.total.n_moved,
        .weights = from->report.n_weights,
        .examples = from->n_examples,
        .learned = from->n_learned,
        .bad_lines = from->lines.n_bad,
        .state_bytes = from->state_bytes,
    };
    switch (from->kind) {
    case MB_FINETUNE_READY:
        t->is_ready = true;
        tell(t, MB_TASK_READY);
        break;
    case MB_FINETUNE_STEP:
        tell(t, MB_TASK_STEP);
        break;
    case MB_FINETUNE_VALID:
        tell(t, MB_TASK_VALID);
        break;
    case MB_FINETUNE_SNAPSHOT:
        on_snapshot(t, MB_TASK_SNAPSHOT);
        break;
    case MB_FINETUNE_DONE:
        on_snapshot(t, MB_TASK_DONE);
        break;
    }
}

/* ---- options ----------------------------------------------------------------------------- */

static double at_most_1(double x)
{
    return x < 1 ? x : 1;
}

static void set_training(struct mb_train_options *o, const struct mb_job_request *r)
{
    double rate = r->hyper.learning_rate_multiplier > 0 ? r->hyper.learning_rate_multiplier : 1;
    o->flip.mode = r->stochastic ? MB_FLIP_STOCHASTIC : MB_FLIP_ACCUMULATE;
    o->flip.last_kernel = r->last_kernel;
    o->vocabulary = r->vocabulary;
    o->budget = r->flip_rate > 0 ? r->flip_rate : o->budget;
    o->step = at_most_1(o->step * rate);
    o->coef_step = at_most_1(o->coef_step * rate);
    o->vector_step = at_most_1(o->vector_step * rate);
    o->n_steps = r->steps;
}

static enum mb_status set_options(struct trainer *t, struct mb_error *err)
{
    mb_cpu_flags cpu;
    const struct mb_job_request *r = &t->request;
    struct mb_finetune_options *o = &t->options;
    *o = mb_finetune_defaults();
    set_training(&o->train, r);
    o->train.seed = t->task.seed;
    if (t->task.teacher) {
        o->train.gradient.ce = 0;
        o->train.gradient.kl = 1;
        o->train.gradient.match = 0.5f;
    }
    o->data = t->task.training;
    o->valid = t->task.validation;
    o->teacher = t->task.teacher;
    o->batch_tokens = r->batch_tokens ? r->batch_tokens : o->batch_tokens;
    o->batch_examples = r->hyper.batch_size;
    o->window = r->window;
    o->n_epochs = r->steps ? 0 : r->hyper.n_epochs ? r->hyper.n_epochs : EPOCHS_AUTO;
    o->snapshot_every = r->snapshot_every ? r->snapshot_every : 1;
    o->snapshots_max = r->snapshot_every ? MB_JOB_CHECKPOINTS_MAX : SNAPSHOTS_AUTO + 1;
    o->valid_every = r->valid_every;
    o->bad_share = r->invalid_sample_skip_percentage / 100;
    o->read_only = r->dry_run;
    enum mb_status st = mb_cpu_narrow(t->task.isa, mb_cpu_detect(), &cpu, err);
    if (st == MB_OK) {
        o->train.gradient.ops = mb_train_ops_select(cpu);
    }
    return st;
}

/* ---- running ----------------------------------------------------------------------------- */

static bool exists(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0;
}

/* The base is the file that the daemon serves, byte for byte, or its delta would fit nothing. */
static enum mb_status check_base(const struct trainer *t, struct mb_error *err)
{
    struct mb_checkpoint *c = NULL;
    enum mb_status st = mb_checkpoint_open(t->task.base, &c, err);
    if (st == MB_OK && mb_checkpoint_digest(c) != t->task.base_digest) {
        st = mb_fail(err, MB_E_UNAVAILABLE, 0,
                     "the file of the model was replaced since this daemon began to serve it");
    }
    mb_checkpoint_free(c);
    return st;
}

/* The model to begin with: the base, or what a delta makes of it. */
static enum mb_status make_start(struct trainer *t, struct mb_error *err)
{
    const char *path = mb_bytes_text(&t->start);
    t->options.model = t->task.start ? path : t->task.base;
    if (!t->task.start || exists(path)) {
        return MB_OK;
    }
    struct mb_delta *d = NULL;
    struct mb_checkpoint *base = NULL;
    enum mb_status st = mb_delta_open(t->task.start, &d, err);
    if (st == MB_OK && (st = mb_checkpoint_open(t->task.base, &base, err)) == MB_OK) {
        st = mb_delta_write(d, base, path, NULL, err);
    }
    mb_checkpoint_free(base);
    mb_delta_free(d);
    return st;
}

static enum mb_status prepare(struct trainer *t, struct mb_error *err)
{
    struct mb_wire_error why;
    const char *folder = t->task.folder;
    mb_bytes_printf(&t->output, "%s/out.mbool", folder);
    mb_bytes_printf(&t->state, "%s/out.mbool" MB_FINETUNE_STATE, folder);
    mb_bytes_printf(&t->start, "%s/start.mbool", folder);
    if (t->output.failed || t->state.failed || t->start.failed) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a path");
    }
    if (mb_job_request_decode(t->task.body, strlen(t->task.body), &t->request, &why) != MB_OK) {
        return mb_fail(err, MB_E_INVALID, 0, "%s", why.message);
    }
    enum mb_status st = set_options(t, err);
    t->options.output = mb_bytes_text(&t->output);
    if (st == MB_OK && (st = check_base(t, err)) == MB_OK &&
        (st = make_start(t, err)) == MB_OK) {
        st = mb_pool_new(t->task.threads, 0, &t->pool, err);
    }
    return st;
}

/* An error that begins with a file's path is about what is in it: its field of the request takes
 * the path's place. */
static bool blame(struct trainer *t, const char *path, const char *param, struct mb_error *err)
{
    size_t n = path ? strlen(path) : 0;
    if (n == 0 || strncmp(err->what, path, n) != 0) {
        return false;
    }
    char rest[sizeof err->what];
    (void) snprintf(rest, sizeof rest, "%s", err->what + n);
    (void) snprintf(err->what, sizeof err->what, "%s%.300s", param, rest);
    (void) snprintf(t->event.param, sizeof t->event.param, "%s", param);
    t->event.is_users = err->code != MB_E_IO && err->code != MB_E_NOMEM;
    return true;
}

/* Until the model before the first step is measured, the options and files are what can be wrong. */
static void report(struct trainer *t, struct mb_error *err)
{
    if (!blame(t, t->task.training, "training_file", err) &&
        !blame(t, t->task.validation, "validation_file", err)) {
        t->event.is_users = !t->is_ready && err->code == MB_E_INVALID;
    }
    fail(t, err);
}

static enum mb_status run(struct trainer *t, struct mb_error *err)
{
    const struct mb_finetune_watch watch = { on_event, is_stopped, t };
    const char *state = mb_bytes_text(&t->state);
    bool began = t->task.resume && exists(state);
    t->options.resume = began;
    enum mb_status st = mb_finetune(&t->options, t->pool, &watch, err);
    if (began && !t->is_ready && (st == MB_E_FORMAT || st == MB_E_INVALID)) {
        (void) unlink(state); /* damaged, or of other options: the same bits, from the start */
        t->options.resume = false;
        st = mb_finetune(&t->options, t->pool, &watch, err);
    }
    return st;
}

static void trainer_fini(struct trainer *t)
{
    mb_pool_free(t->pool);
    mb_bytes_fini(&t->output);
    mb_bytes_fini(&t->state);
    mb_bytes_fini(&t->start);
    mb_job_request_fini(&t->request);
    mb_task_fini(&t->task);
}

int mbd_trainer_main(void)
{
    struct trainer t = { 0 };
    struct mb_bytes line = { 0 };
    struct mb_error err = { 0 };
    outlive_nobody();
    if (!read_task(&line)) {
        return EXIT_UNTOLD; /* the daemon is gone, or has nothing to say */
    }
    mb_json_init();
    enum mb_status st = mb_task_decode((const char *) line.at, line.len, &t.task, &err);
    mb_bytes_fini(&line);
    if (st == MB_OK) {
        step_back(t.task.priority);
        bound_memory(t.task.memory);
        st = prepare(&t, &err);
    }
    if (st == MB_OK) {
        st = run(&t, &err);
    }
    if (st == MB_E_CANCELLED) {
        tell(&t, MB_TASK_STOPPED);
    } else if (st != MB_OK) {
        report(&t, &err);
    } else if (t.request.dry_run) {
        tell(&t, MB_TASK_DONE);
    }
    trainer_fini(&t);
    return EXIT_TOLD;
}
