#include "clients/cli/jobs_watch.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/command.h"
#include "proto/json/answer_json.h"

enum {
    CURVE = 32, /* columns */
    TRIES = 10, /* connections that break without an event in between */
};

struct watching {
    bool json, on_terminal, done, drawn;
    char last[40]; /* id of the last event */
    unsigned tries;
    double
        losses[CURVE]; /* of steps that are so far apart that all fit; [n] the one under way */
    size_t n, every, skipped;
};

/* ---- the curve --------------------------------------------------------------------------- */

/* Twice as far apart, when there is no room for another. */
static void halve(struct watching *w)
{
    for (size_t i = 0; 2 * i < w->n; i++) {
        w->losses[i] = w->losses[2 * i];
    }
    w->n = (w->n + 1) / 2;
    w->every *= 2;
}

static void add_loss(struct watching *w, double loss)
{
    if (w->skipped++ % w->every != 0) {
        return;
    }
    if (w->n == CURVE) {
        halve(w);
    }
    w->losses[w->n++] = loss;
}

static void draw_curve(const struct watching *w)
{
    static const char *const bars[] = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
    double least = w->losses[0], most = w->losses[0];
    for (size_t i = 0; i < w->n; i++) {
        least = w->losses[i] < least ? w->losses[i] : least;
        most = w->losses[i] > most ? w->losses[i] : most;
    }
    for (size_t i = 0; i < w->n; i++) {
        double at = most > least ? (w->losses[i] - least) / (most - least) : 0;
        fputs(bars[(size_t) (at * 7 + 0.5)], stderr);
    }
}

/* ---- events ------------------------------------------------------------------------------ */

static void clear_line(struct watching *w)
{
    if (w->drawn) {
        fputs("\r\033[K", stderr);
        w->drawn = false;
    }
}

static void draw_step(struct watching *w, const json_t *data)
{
    double loss = json_number_value(json_object_get(data, "train_loss"));
    double eta = json_number_value(json_object_get(data, "eta_seconds"));
    add_loss(w, loss);
    clear_line(w);
    draw_curve(w);
    fprintf(stderr, "  step %" PRId64 " of %" PRId64 "  loss %.4f  flips %" PRId64,
            (int64_t) json_integer_value(json_object_get(data, "step")),
            (int64_t) json_integer_value(json_object_get(data, "total_steps")), loss,
            (int64_t) json_integer_value(json_object_get(data, "total_flips")));
    if (json_is_number(json_object_get(data, "eta_seconds"))) {
        fprintf(stderr, "  %d:%02d left", (int) (eta / 60), (int) eta % 60);
    }
    (void) fflush(stderr);
    w->drawn = true;
}

static void show(struct watching *w, const json_t *event)
{
    const json_t *data = json_object_get(event, "data");
    const char *message = json_string_value(json_object_get(event, "message"));
    bool is_step = json_is_number(json_object_get(data, "train_loss")) &&
                   !json_is_number(json_object_get(data, "valid_loss"));
    if (is_step && w->on_terminal) {
        draw_step(w, data);
        return;
    }
    clear_line(w);
    for (; message && *message; message++) { /* an error may quote what somebody wrote */
        (void) putchar((unsigned char) *message < ' ' || *message == 127 ? '?' : *message);
    }
    (void) putchar('\n');
    (void) fflush(stdout);
}

static bool on_event(void *self, const char *text, size_t n)
{
    struct watching *w = self;
    if (n == 6 && memcmp(text, "[DONE]", 6) == 0) {
        w->done = true;
        return true;
    }
    json_t *event = json_loadb(text, n, 0, NULL);
    const char *id = json_string_value(json_object_get(event, "id"));
    if (id) {
        (void) snprintf(w->last, sizeof w->last, "%s", id);
        w->tries = 0;
    }
    if (w->json) {
        printf("%.*s\n", (int) n, text);
        (void) fflush(stdout);
    } else if (event) {
        show(w, event);
    }
    json_decref(event);
    return !mbc_interrupted();
}

/* One connection, for as long as it holds. */
static enum mb_status follow(struct mbc_transport *t, const char *job, struct watching *w,
                             struct mb_error *err)
{
    char path[256], code[48];
    struct mbc_reply reply;
    (void) snprintf(path, sizeof path, "/v1/fine_tuning/jobs/%.64s/events?stream=true%s%s", job,
                    w->last[0] ? "&after=" : "", w->last);
    const struct mbc_request r = { .path = path, .stream = true, .event = on_event };
    enum mb_status st = mbc_transport_ask(t, &r, w, &reply, err);
    if (st == MB_OK && reply.status != 200) {
        mb_answer_error(reply.status, (const char *) reply.body.at, reply.body.len, code,
                        sizeof code, err);
        st = err->code;
        w->tries = TRIES; /* it was told */
    }
    mbc_reply_fini(&reply);
    return st;
}

enum mb_status mbc_jobs_watch(struct mbc_transport *t, const char *job, bool json,
                              struct mb_error *err)
{
    struct watching w = { .json = json, .every = 1, .on_terminal = isatty(STDERR_FILENO) };
    enum mb_status st = MB_OK;
    mbc_catch_interrupt();
    while (!w.done) {
        st = follow(t, job, &w, err);
        if (w.done || st == MB_E_CANCELLED || mbc_interrupted() || ++w.tries > TRIES) {
            break;
        }
        (void) sleep(1); /* the daemon is started again, perhaps */
    }
    clear_line(&w);
    if (mbc_interrupted()) {
        st = mb_fail(err, MB_E_CANCELLED, 0, "the job goes on");
    } else if (w.done) {
        st = MB_OK;
    } else if (st == MB_OK) {
        st = mb_fail(err, MB_E_IO, 0, "the events end before the job does");
    }
    return st;
}
