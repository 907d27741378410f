/* A bell: how other threads get the engine's attention. Rung any number of times, heard once.
 *
 * The engine looks at the bell once a step (one atomic exchange) and sleeps beside it when
 * there is nothing to do; so nobody takes a lock while the engine is busy and the bell is rung
 * already.
 *
 * Life:    counted, because a request may outlive the engine that it rings for.
 * Threads: ring, ref and unref from any; heard and wait from the one that listens. */
#ifndef MBD_BELL_H
#define MBD_BELL_H

#include <stdbool.h>
#include <stdint.h>

struct mbd_bell;

struct mbd_bell *mbd_bell_new(void); /* NULL when memory is refused */
struct mbd_bell *mbd_bell_ref(struct mbd_bell *b);
void mbd_bell_unref(struct mbd_bell *b); /* NULL is allowed */

/* What the caller wrote before is seen by the listener that hears this. */
void mbd_bell_ring(struct mbd_bell *b);
/* Was it rung since it was last heard? */
bool mbd_bell_heard(struct mbd_bell *b);
/* Sleeps until it is rung, or for timeout_ns; returns at once when it was rung already. Does
 * not count as hearing it. */
void mbd_bell_wait(struct mbd_bell *b, uint64_t timeout_ns);

#endif
