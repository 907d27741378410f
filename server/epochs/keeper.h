/* The keeper: what takes long about epochs, away from the threads that answer. It loads them, one
 * after the other, at the lowest priority there is; and unmaps those that nobody holds any more.
 *
 *     load -> the keeper's thread -> notify -> mbd_keeper_next      (one at a time, in order)
 *     bury -> the keeper's other thread
 *
 * Two threads, since they must not share a priority: who unmaps holds the lock of the process's
 * address space, and would keep it from everybody while it waits for a processor that an engine uses.
 *
 * Life:    _new starts the threads; _free ends what is being loaded, buries the rest.
 * Threads: the control thread calls; notify is called on the keeper's. */
#ifndef MBD_KEEPER_H
#define MBD_KEEPER_H

#include "server/epochs/epoch.h"
#include "server/epochs/weights.h"

struct mbd_keeper;

/* One epoch to be loaded; what asks for it puts it into something of its own. */
struct mbd_loading {
    struct mbd_loading *next;
    const struct mbd_weights *weights; /* borrowed */
    const char *delta;                 /* a file; borrowed */
    uint64_t began_ns;
    /* Once it is handed back: */
    enum mb_status status;
    struct mb_error error;
    struct mbd_epoch *epoch; /* when the status is MB_OK: a reference */
};

enum mb_status mbd_keeper_new(void (*notify)(void *arg), void *arg, struct mbd_keeper **ret,
                              struct mb_error *err);
void mbd_keeper_free(struct mbd_keeper *k); /* NULL is allowed; nothing is left with it */

/* l is the keeper's until mbd_keeper_next hands it back. */
void mbd_keeper_load(struct mbd_keeper *k, struct mbd_loading *l);
/* One that is done, in the order of their coming, or NULL. */
struct mbd_loading *mbd_keeper_next(struct mbd_keeper *k);
/* Ends what is being loaded and what waits for it with MB_E_CANCELLED; waits for that. All are then
 * to be had from mbd_keeper_next, and nothing more may come to be loaded. */
void mbd_keeper_stop(struct mbd_keeper *k);
/* Drops the last reference on another thread. */
void mbd_keeper_bury(struct mbd_keeper *k, struct mbd_epoch *e);

#endif
