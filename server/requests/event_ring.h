/* A ring of records between one writer and one reader, without locks.
 *
 * A record is a length (uint32_t) and that many bytes, wrapped around the end where it falls.
 * head counts the bytes ever written and tail those ever read; each side stores its own counter
 * and loads the other's, so a record is seen whole or not at all.
 *
 * Memory:  bytes at _init, never more.
 * Threads: room and put from the writer's thread; take from the reader's. Stores and loads of
 *          the counters are sequentially consistent, so that a writer that finds no room, says
 *          so, and looks again can not miss a reader that made room and looks for the word. */
#ifndef MBD_EVENT_RING_H
#define MBD_EVENT_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/memory.h"

#define MBD_RECORD_HEAD_BYTES sizeof(uint32_t)

struct mbd_event_ring {
    uint8_t *bytes;
    size_t n_bytes;                        /* a power of two */
    _Alignas(MB_ALIGN) atomic_size_t head; /* apart: each is written by another thread */
    _Alignas(MB_ALIGN) atomic_size_t tail;
};

/* Borrows bytes, n_bytes of them, a power of two. */
void mbd_event_ring_init(struct mbd_event_ring *r, uint8_t *bytes, size_t n_bytes);

/* The largest record that put would take now; 0 when none. */
size_t mbd_event_ring_room(struct mbd_event_ring *r);
/* Writes one record of the n_a bytes at a and then the n_b bytes at b; false, and nothing
 * written, when it does not fit. */
bool mbd_event_ring_put(struct mbd_event_ring *r, const void *a, size_t n_a, const void *b,
                        size_t n_b);
/* Moves the oldest record to ret, which has room for cap bytes: at least the largest that the
 * writer puts. Returns its size, or false when there is none. */
bool mbd_event_ring_take(struct mbd_event_ring *r, void *ret, size_t cap, size_t *ret_n);

#endif
