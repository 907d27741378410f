/* What happened to a job: its events, as a list or as a stream, and its checkpoints. */
#include <stdlib.h>
#include <string.h>

#include "proto/json/job_json.h"
#include "server/http/router.h"
#include "server/http/routes/keeping.h"
#include "server/jobs/jobs.h"

enum {
    EVENTS_DEFAULT = 20,
    CHECKPOINTS_DEFAULT = 10, /* both as OpenAI's */
    LIST_MAX = 1000,
    BATCH = 64,              /* events of a stream that are read at a time */
    PENDING_MAX = 32 * 1024, /* of a stream: the others wait in the store */
};

static struct mb_job_event event_of(const struct mbd_event_row *e, char id[MB_JOB_ID_MAX + 1])
{
    mbd_event_id(e->seq, id);
    return (struct mb_job_event) { .id = id,
                                   .message = e->message,
                                   .data = e->data,
                                   .created = e->created,
                                   .level = e->level,
                                   .is_metrics = e->is_metrics };
}

/* Is there a job of the path? false: it is answered. *ret_done: nothing will happen to it. */
static bool find(struct mbd_exchange *x, bool *ret_done)
{
    struct mb_error err;
    struct mbd_job_row row;
    if (!mbd_keeps(x)) {
        return false;
    }
    if (mbd_store_job(mbd_exchange_service(x)->store, mbd_exchange_tail(x), &row, &err) !=
        MB_OK) {
        mbd_reply_store_error(x, &err, "job_not_found");
        return false;
    }
    *ret_done = mb_job_is_final(row.status);
    mbd_job_row_fini(&row);
    return true;
}

/* ---- a stream ---------------------------------------------------------------------------- */

struct stream {
    struct mbd_exchange *exchange;
    struct mbd_service *service;
    struct mbd_follower follower;
    struct mbd_timer *ping;
    int64_t seq; /* of the last event that was put */
    bool pumping, ended;
};

static void on_end(void *arg)
{
    struct stream *s = arg;
    mbd_jobs_unfollow(&s->follower);
    mbd_timer_free(s->ping);
    free(s);
}

/* Is the job done, and the stream with its last event? */
static bool is_done(const struct stream *s)
{
    struct mbd_job_row row;
    if (mbd_store_job(s->service->store, s->follower.job, &row, NULL) != MB_OK) {
        return true;
    }
    bool done = mb_job_is_final(row.status);
    mbd_job_row_fini(&row);
    return done;
}

static void put_events(struct stream *s, const struct mbd_event_row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char id[MB_JOB_ID_MAX + 1];
        struct mb_job_event e = event_of(&rows[i], id);
        char *json = mb_job_event_encode(&e);
        if (!json) {
            s->ended = true; /* it can be asked for again, from the last one that came */
            mbd_stream_end(s->exchange, false);
            return;
        }
        s->seq = rows[i].seq;
        mbd_stream_put_id(s->exchange, id, json);
        free(json);
    }
}

/* Puts what there is behind the last event, as far as the client keeps up. */
static void pump(void *arg)
{
    struct stream *s = arg;
    if (s->pumping || s->ended) {
        return; /* putting wakes the connection, which asks for more */
    }
    s->pumping = true;
    bool done = is_done(s), more = true; /* asked first: its last event is committed with it */
    while (more && !s->ended && mbd_stream_pending(s->exchange) < PENDING_MAX) {
        char after[MB_JOB_ID_MAX + 1];
        const struct mbd_page page = { after, BATCH, true };
        struct mbd_event_row *rows = NULL;
        size_t n = 0;
        mbd_event_id(s->seq, after);
        if (mbd_store_events(s->service->store, s->follower.job, &page, &rows, &n, &more,
                             NULL) != MB_OK) {
            break; /* the next event asks again */
        }
        put_events(s, rows, n);
        mbd_event_rows_free(rows, n);
    }
    if (done && !more && !s->ended) {
        s->ended = true;
        mbd_stream_end(s->exchange, true);
    }
    s->pumping = false;
}

static void on_ping(void *arg)
{
    const struct stream *s = arg;
    if (mbd_stream_pending(s->exchange) == 0) {
        mbd_stream_ping(s->exchange);
    }
}

/* A client that comes again says which event was its last. */
static bool take_last(struct mbd_exchange *x, int64_t *ret)
{
    struct mb_wire_error e;
    const char *last = mbd_exchange_header(x, "Last-Event-ID");
    const char *after = mbd_exchange_query(x, "after");
    last = last ? last : after;
    *ret = 0;
    if (last && !mbd_event_seq(last, ret)) {
        mb_wire_error_fill(&e, 400, NULL, "after", "'%.40s' is no id of an event", last);
        mbd_reply_error(x, &e, 0);
        return false;
    }
    return true;
}

static void reply_stream(struct mbd_exchange *x)
{
    struct mb_error err;
    int64_t last;
    if (!take_last(x, &last)) {
        return;
    }
    struct mbd_service *service = mbd_exchange_service(x);
    struct stream *s = calloc(1, sizeof *s);
    if (!s || mbd_timer_new(service->loop, on_ping, s, &s->ping, &err) != MB_OK) {
        free(s);
        mbd_reply_json(x, 503, NULL);
        return;
    }
    s->exchange = x;
    s->service = service;
    s->seq = last;
    s->follower.fn = pump;
    s->follower.arg = s;
    strncpy(s->follower.job, mbd_exchange_tail(x), sizeof s->follower.job - 1);
    mbd_jobs_follow(service->jobs, &s->follower);
    uint64_t ms = service->options->ping_interval_ms;
    mbd_timer_start(s->ping, ms, ms);
    mbd_exchange_on_end(x, on_end, s);
    mbd_reply_stream(x, pump, s);
    pump(s);
}

/* ---- lists ------------------------------------------------------------------------------- */

static void reply_list(struct mbd_exchange *x)
{
    struct mbd_page page;
    struct mbd_event_row *rows = NULL;
    struct mb_error err;
    size_t n = 0;
    bool more = false;
    if (!mbd_take_page(x, EVENTS_DEFAULT, LIST_MAX, &page)) {
        return;
    }
    if (mbd_store_events(mbd_exchange_service(x)->store, mbd_exchange_tail(x), &page, &rows, &n,
                         &more, &err) != MB_OK) {
        mbd_reply_page_error(x, &err);
        return;
    }
    struct mb_job_event *events = calloc(n ? n : 1, sizeof *events);
    char(*ids)[MB_JOB_ID_MAX + 1] = calloc(n ? n : 1, sizeof *ids);
    for (size_t i = 0; events && ids && i < n; i++) {
        events[i] = event_of(&rows[i], ids[i]);
    }
    mbd_reply_json(x, 200, events && ids ? mb_job_event_list_encode(events, n, more) : NULL);
    free(events);
    free(ids);
    mbd_event_rows_free(rows, n);
}

void mbd_route_job_events(struct mbd_exchange *x)
{
    bool done;
    const char *stream = mbd_exchange_query(x, "stream");
    if (!find(x, &done)) {
        return;
    }
    if (stream && strcmp(stream, "true") == 0) {
        reply_stream(x);
    } else if (!stream || strcmp(stream, "false") == 0) {
        reply_list(x);
    } else {
        struct mb_wire_error e;
        mb_wire_error_fill(&e, 400, NULL, "stream", "'stream' must be true or false");
        mbd_reply_error(x, &e, 0);
    }
}

void mbd_route_job_checkpoints(struct mbd_exchange *x)
{
    struct mbd_page page;
    struct mbd_checkpoint_row *rows = NULL;
    struct mb_error err;
    size_t n = 0;
    bool more = false, done;
    if (!find(x, &done) || !mbd_take_page(x, CHECKPOINTS_DEFAULT, LIST_MAX, &page)) {
        return;
    }
    if (mbd_store_checkpoints(mbd_exchange_service(x)->store, mbd_exchange_tail(x), &page,
                              &rows, &n, &more, &err) != MB_OK) {
        mbd_reply_page_error(x, &err);
        return;
    }
    struct mb_job_checkpoint *cards = calloc(n ? n : 1, sizeof *cards);
    char(*ids)[MB_JOB_ID_MAX + 1] = calloc(n ? n : 1, sizeof *ids);
    for (size_t i = 0; cards && ids && i < n; i++) {
        mbd_checkpoint_id(rows[i].seq, ids[i]);
        cards[i] = (struct mb_job_checkpoint) { .id = ids[i],
                                                .job = rows[i].job,
                                                .model = rows[i].model,
                                                .created = rows[i].created,
                                                .step = rows[i].step,
                                                .metrics = rows[i].metrics };
    }
    mbd_reply_json(x, 200, cards && ids ? mb_job_checkpoint_list_encode(cards, n, more) : NULL);
    free(cards);
    free(ids);
    mbd_checkpoint_rows_free(rows, n);
}
