/* Server-sent events, read as they arrive: bytes in, cut anywhere, whole events out (the
 * "event stream" of the HTML standard, 9.2.6).
 *
 * Of an event its data is told: the values of its "data:" lines, with a line feed between two.
 * Comments, event names, ids and retry times are read over: OpenAI's streams have no use for
 * them. Lines end with LF, CR LF or CR. What the end of the connection leaves unfinished is no
 * event.
 *
 * Life:    _init/_fini on the caller's memory.
 * Bound:   an event holds at most data_max bytes, a field's name none; so a stream of any length
 *          needs so much memory and no more.
 * Threads: one at a time per object. */
#ifndef MBC_SSE_H
#define MBC_SSE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/bytes.h"
#include "proto/status.h"

/* data is n bytes, terminated, and valid until the call returns. false: no more, please. */
typedef bool mbc_sse_event_fn(void *self, const char *data, size_t n);

struct mbc_sse {
    mbc_sse_event_fn *event;
    void *self;
    size_t data_max;
    struct mb_bytes data; /* of the event under way */
    bool has_data;        /* it had a data line, maybe an empty one */
    bool after_cr;        /* a line feed that comes now ends no second line */
    size_t n_line;        /* bytes of the line so far */
    char name[8];         /* its field's name, as far as it matters */
    size_t n_name;
    bool in_value;  /* past the colon */
    size_t n_value; /* bytes of the value so far, the space after the colon among them */
    unsigned
        bom_seen; /* bytes of the byte order mark that a stream may begin with; 3: past it */
};

void mbc_sse_init(struct mbc_sse *s, size_t data_max, mbc_sse_event_fn *event, void *self);
void mbc_sse_fini(struct mbc_sse *s);

/* Reads n more bytes, and tells each event that they end.
 * Errors: MB_E_LIMIT for an event of more than data_max bytes; MB_E_CANCELLED when event said
 * false; MB_E_NOMEM. The object then can only be given to _fini. */
enum mb_status mbc_sse_feed(struct mbc_sse *s, const char *at, size_t n, struct mb_error *err);

#endif
