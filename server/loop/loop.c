#include "server/loop/loop.h"

#include <assert.h>
#include <stdlib.h>

#include "server/loop/loop_uv.h"

/* Every object is a libuv handle and what to call. libuv keeps a handle until its close
 * callback, so that is where the memory goes. */
struct mbd_timer {
    uv_timer_t uv;
    mbd_timer_fn *fn;
    void *arg;
};
struct mbd_signal {
    uv_signal_t uv;
    mbd_signal_fn *fn;
    void *arg;
};
struct mbd_watch {
    uv_poll_t uv;
    mbd_watch_fn *fn;
    void *arg;
};
struct mbd_wake {
    uv_async_t uv;
    mbd_wake_fn *fn;
    void *arg;
};
struct mbd_work {
    uv_work_t uv;
    mbd_work_fn *fn;
    mbd_work_done_fn *done;
    void *arg;
};

enum mb_status mbd_uv_fail(struct mb_error *err, int code, const char *what)
{
    return mb_fail(err, code == UV_ENOMEM ? MB_E_NOMEM : MB_E_IO, 0, "loop: %s: %s", what,
                   uv_strerror(code));
}

enum mb_status mbd_loop_new(struct mbd_loop **ret, struct mb_error *err)
{
    struct mbd_loop *l = calloc(1, sizeof *l);
    if (!l) {
        return mb_fail(err, MB_E_NOMEM, 0, "loop: no memory");
    }
    /* One thread for work: more would take processors from the engines. libuv asks at its first
     * use. */
    (void) setenv("UV_THREADPOOL_SIZE", "1", 1);
    int code = uv_loop_init(&l->uv);
    if (code < 0) {
        free(l);
        return mbd_uv_fail(err, code, "init");
    }
    *ret = l;
    return MB_OK;
}

void mbd_loop_free(struct mbd_loop *l)
{
    if (!l) {
        return;
    }
    (void) uv_run(&l->uv, UV_RUN_DEFAULT); /* the close callbacks of what was freed */
    int code = uv_loop_close(&l->uv);
    assert(code == 0); /* else an object was not freed before its loop */
    (void) code;
    free(l);
}

void mbd_loop_run(struct mbd_loop *l)
{
    (void) uv_run(&l->uv, UV_RUN_DEFAULT);
}

void mbd_loop_stop(struct mbd_loop *l)
{
    uv_stop(&l->uv);
}

void mbd_loop_turn(struct mbd_loop *l)
{
    (void) uv_run(&l->uv, UV_RUN_ONCE);
}

static void free_handle(uv_handle_t *h)
{
    free(h->data);
}

/* ---- timers ------------------------------------------------------------------------------ */

static void on_timer(uv_timer_t *uv)
{
    struct mbd_timer *t = uv->data;
    t->fn(t->arg);
}

enum mb_status mbd_timer_new(struct mbd_loop *l, mbd_timer_fn *fn, void *arg,
                             struct mbd_timer **ret, struct mb_error *err)
{
    struct mbd_timer *t = calloc(1, sizeof *t);
    if (!t) {
        return mb_fail(err, MB_E_NOMEM, 0, "loop: no memory");
    }
    t->fn = fn;
    t->arg = arg;
    (void) uv_timer_init(&l->uv, &t->uv); /* can not fail */
    t->uv.data = t;
    *ret = t;
    return MB_OK;
}

void mbd_timer_free(struct mbd_timer *t)
{
    if (t) {
        uv_close((uv_handle_t *) &t->uv, free_handle);
    }
}

void mbd_timer_start(struct mbd_timer *t, uint64_t ms, uint64_t repeat_ms)
{
    uv_update_time(t->uv.loop); /* a long callback leaves the loop's clock behind */
    (void) uv_timer_start(&t->uv, on_timer, ms, repeat_ms);
}

void mbd_timer_stop(struct mbd_timer *t)
{
    (void) uv_timer_stop(&t->uv);
}

/* ---- signals ----------------------------------------------------------------------------- */

static void on_signal(uv_signal_t *uv, int signal)
{
    struct mbd_signal *s = uv->data;
    s->fn(s->arg, signal);
}

enum mb_status mbd_signal_new(struct mbd_loop *l, int signal, mbd_signal_fn *fn, void *arg,
                              struct mbd_signal **ret, struct mb_error *err)
{
    struct mbd_signal *s = calloc(1, sizeof *s);
    if (!s) {
        return mb_fail(err, MB_E_NOMEM, 0, "loop: no memory");
    }
    s->fn = fn;
    s->arg = arg;
    int code = uv_signal_init(&l->uv, &s->uv);
    if (code < 0) {
        free(s);
        return mbd_uv_fail(err, code, "signal");
    }
    s->uv.data = s;
    code = uv_signal_start(&s->uv, on_signal, signal);
    if (code < 0) {
        mbd_signal_free(s);
        return mbd_uv_fail(err, code, "signal");
    }
    *ret = s;
    return MB_OK;
}

void mbd_signal_free(struct mbd_signal *s)
{
    if (s) {
        uv_close((uv_handle_t *) &s->uv, free_handle);
    }
}

/* ---- descriptors ------------------------------------------------------------------------- */

static void on_poll(uv_poll_t *uv, int status, int events)
{
    (void) events;
    struct mbd_watch *w = uv->data;
    if (status < 0) {
        (void) uv_poll_stop(uv); /* the descriptor is broken; whoever reads it will find out */
    }
    w->fn(w->arg);
}

enum mb_status mbd_watch_new(struct mbd_loop *l, int fd, mbd_watch_fn *fn, void *arg,
                             struct mbd_watch **ret, struct mb_error *err)
{
    struct mbd_watch *w = calloc(1, sizeof *w);
    if (!w) {
        return mb_fail(err, MB_E_NOMEM, 0, "loop: no memory");
    }
    w->fn = fn;
    w->arg = arg;
    int code = uv_poll_init(&l->uv, &w->uv, fd);
    if (code < 0) {
        free(w);
        return mbd_uv_fail(err, code, "watch");
    }
    w->uv.data = w;
    *ret = w;
    return MB_OK;
}

void mbd_watch_free(struct mbd_watch *w)
{
    if (w) {
        uv_close((uv_handle_t *) &w->uv, free_handle);
    }
}

enum mb_status mbd_watch_start(struct mbd_watch *w, int what, struct mb_error *err)
{
    int events = (what & MBD_WATCH_READABLE ? UV_READABLE : 0) |
                 (what & MBD_WATCH_HANGUP ? UV_DISCONNECT : 0);
    int code = uv_poll_start(&w->uv, events, on_poll);
    return code < 0 ? mbd_uv_fail(err, code, "watch") : MB_OK;
}

void mbd_watch_stop(struct mbd_watch *w)
{
    (void) uv_poll_stop(&w->uv);
}

/* ---- waking ------------------------------------------------------------------------------ */

static void on_async(uv_async_t *uv)
{
    struct mbd_wake *w = uv->data;
    w->fn(w->arg);
}

enum mb_status mbd_wake_new(struct mbd_loop *l, mbd_wake_fn *fn, void *arg,
                            struct mbd_wake **ret, struct mb_error *err)
{
    struct mbd_wake *w = calloc(1, sizeof *w);
    if (!w) {
        return mb_fail(err, MB_E_NOMEM, 0, "loop: no memory");
    }
    w->fn = fn;
    w->arg = arg;
    w->uv.data = w;
    int code = uv_async_init(&l->uv, &w->uv, on_async);
    if (code < 0) {
        free(w);
        return mbd_uv_fail(err, code, "wake");
    }
    *ret = w;
    return MB_OK;
}

void mbd_wake_free(struct mbd_wake *w)
{
    if (w) {
        uv_close((uv_handle_t *) &w->uv, free_handle);
    }
}

void mbd_wake_send(struct mbd_wake *w)
{
    (void) uv_async_send(&w->uv);
}

/* ---- work -------------------------------------------------------------------------------- */

static void on_work(uv_work_t *uv)
{
    struct mbd_work *w = uv->data;
    w->fn(w->arg);
}

static void on_work_done(uv_work_t *uv, int status)
{
    struct mbd_work *w = uv->data;
    w->done(w->arg, status != UV_ECANCELED);
    free(w);
}

enum mb_status mbd_work_start(struct mbd_loop *l, mbd_work_fn *fn, mbd_work_done_fn *done,
                              void *arg, struct mbd_work **ret, struct mb_error *err)
{
    struct mbd_work *w = calloc(1, sizeof *w);
    if (!w) {
        return mb_fail(err, MB_E_NOMEM, 0, "loop: no memory");
    }
    w->fn = fn;
    w->done = done;
    w->arg = arg;
    w->uv.data = w;
    int code = uv_queue_work(&l->uv, &w->uv, on_work, on_work_done);
    if (code < 0) {
        free(w);
        return mbd_uv_fail(err, code, "work");
    }
    *ret = w;
    return MB_OK;
}

void mbd_work_cancel(struct mbd_work *w)
{
    (void) uv_cancel((uv_req_t *) &w->uv); /* refused once it began */
}
