#include "server/requests/event_ring.h"

#include <assert.h>
#include <string.h>

void mbd_event_ring_init(struct mbd_event_ring *r, uint8_t *bytes, size_t n_bytes)
{
    assert(n_bytes >= 2 * MBD_RECORD_HEAD_BYTES && (n_bytes & (n_bytes - 1)) == 0);
    assert(n_bytes <= UINT32_MAX);
    r->bytes = bytes;
    r->n_bytes = n_bytes;
    atomic_init(&r->head, 0);
    atomic_init(&r->tail, 0);
}

size_t mbd_event_ring_room(struct mbd_event_ring *r)
{
    size_t head = atomic_load_explicit(&r->head, memory_order_relaxed); /* our own */
    size_t left = r->n_bytes - (head - atomic_load(&r->tail));
    return left > MBD_RECORD_HEAD_BYTES ? left - MBD_RECORD_HEAD_BYTES : 0;
}

/* Bytes [at, at + n) of the endless sequence that the ring is a window of. */
static void copy_in(struct mbd_event_ring *r, size_t at, const void *from, size_t n)
{
    size_t first = at & (r->n_bytes - 1);
    size_t to_end = r->n_bytes - first;
    size_t n_first = n < to_end ? n : to_end;
    if (n > 0) {
        memcpy(r->bytes + first, from, n_first);
        memcpy(r->bytes, (const uint8_t *) from + n_first, n - n_first);
    }
}

static void copy_out(const struct mbd_event_ring *r, size_t at, void *ret, size_t n)
{
    size_t first = at & (r->n_bytes - 1);
    size_t to_end = r->n_bytes - first;
    size_t n_first = n < to_end ? n : to_end;
    memcpy(ret, r->bytes + first, n_first);
    memcpy((uint8_t *) ret + n_first, r->bytes, n - n_first);
}

bool mbd_event_ring_put(struct mbd_event_ring *r, const void *a, size_t n_a, const void *b,
                        size_t n_b)
{
    size_t room = mbd_event_ring_room(r);
    if (n_a > room || n_b > room - n_a || n_a + n_b == 0) {
        return false;
    }
    uint32_t n = (uint32_t) (n_a + n_b);
    size_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    copy_in(r, head, &n, sizeof n);
    copy_in(r, head + sizeof n, a, n_a);
    copy_in(r, head + sizeof n + n_a, b, n_b);
    atomic_store(&r->head, head + sizeof n + n);
    return true;
}

bool mbd_event_ring_take(struct mbd_event_ring *r, void *ret, size_t cap, size_t *ret_n)
{
    size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed); /* our own */
    if (atomic_load(&r->head) == tail) {
        return false;
    }
    uint32_t n;
    copy_out(r, tail, &n, sizeof n);
    assert(n <= cap);
    copy_out(r, tail + sizeof n, ret, n);
    atomic_store(&r->tail, tail + sizeof n + n);
    *ret_n = n;
    return true;
}
