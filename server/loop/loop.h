/* The control thread's event loop: timers, signals, descriptors, and waking it from elsewhere.
 * The only user of libuv.
 *
 * Life:    objects are _new'ed on a loop and _free'd before it. _free may be called from any
 *          callback, the object's own included; the callback is not called again.
 * Threads: the loop's own thread, but for mbd_wake_send. */
#ifndef MBD_LOOP_H
#define MBD_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/status.h"

struct mbd_loop;

enum mb_status mbd_loop_new(struct mbd_loop **ret, struct mb_error *err);
void mbd_loop_free(struct mbd_loop *l); /* NULL is allowed */
/* Until mbd_loop_stop. */
void mbd_loop_run(struct mbd_loop *l);
void mbd_loop_stop(struct mbd_loop *l);
/* Waits for one thing to happen, and handles it. */
void mbd_loop_turn(struct mbd_loop *l);

/* ---- timers: ms from now; then every repeat_ms, when that is not 0 ----------------------- */
struct mbd_timer;
typedef void mbd_timer_fn(void *arg);
enum mb_status mbd_timer_new(struct mbd_loop *l, mbd_timer_fn *fn, void *arg,
                             struct mbd_timer **ret, struct mb_error *err);
void mbd_timer_free(struct mbd_timer *t); /* NULL is allowed */
void mbd_timer_start(struct mbd_timer *t, uint64_t ms, uint64_t repeat_ms); /* or starts anew */
void mbd_timer_stop(struct mbd_timer *t);

/* ---- signals ----------------------------------------------------------------------------- */
struct mbd_signal;
typedef void mbd_signal_fn(void *arg, int signal);
enum mb_status mbd_signal_new(struct mbd_loop *l, int signal, mbd_signal_fn *fn, void *arg,
                              struct mbd_signal **ret, struct mb_error *err);
void mbd_signal_free(struct mbd_signal *s); /* NULL is allowed */

/* ---- descriptors: the owner of fd stops or frees the watch before closing it ------------- */
enum {
    MBD_WATCH_READABLE = 1,
    MBD_WATCH_HANGUP = 2 /* the peer closed its sending side, or all */
};
struct mbd_watch;
/* The state stays until something is done about it: fn is called again on every turn. */
typedef void mbd_watch_fn(void *arg);
enum mb_status mbd_watch_new(struct mbd_loop *l, int fd, mbd_watch_fn *fn, void *arg,
                             struct mbd_watch **ret, struct mb_error *err);
void mbd_watch_free(struct mbd_watch *w); /* NULL is allowed */
enum mb_status mbd_watch_start(struct mbd_watch *w, int what, struct mb_error *err);
void mbd_watch_stop(struct mbd_watch *w);

/* ---- waking: any number of sends before a turn are one call of fn ------------------------ */
struct mbd_wake;
typedef void mbd_wake_fn(void *arg);
enum mb_status mbd_wake_new(struct mbd_loop *l, mbd_wake_fn *fn, void *arg,
                            struct mbd_wake **ret, struct mb_error *err);
void mbd_wake_free(struct mbd_wake *w); /* NULL is allowed; no thread may still send */
void mbd_wake_send(struct mbd_wake *w); /* from any thread; cheap */

/* ---- work: on a thread beside the loop's, one at a time, in the order of starting -------- */
struct mbd_work;
typedef void mbd_work_fn(void *arg);                /* there */
typedef void mbd_work_done_fn(void *arg, bool ran); /* here; the work is gone then */
enum mb_status mbd_work_start(struct mbd_loop *l, mbd_work_fn *fn, mbd_work_done_fn *done,
                              void *arg, struct mbd_work **ret, struct mb_error *err);
/* Takes back what has not begun. done is called in any case, ran false when it never did. */
void mbd_work_cancel(struct mbd_work *w);

#endif
