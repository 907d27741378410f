/* Stop strings in a stream of text: what may be shown, and when to stop.
 *
 * Text that may yet become a stop string is held back until that is decided, so that no part of
 * a stop string is ever shown.
 *
 * Life:    _new/_free. Threads: one thread at a time per object.
 * Memory:  at _new, 3 bytes for each byte of the strings; feeding allocates in ret only. */
#ifndef MB_CORE_STOP_H
#define MB_CORE_STOP_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/bytes.h"
#include "proto/completion.h" /* MB_STOPS_MAX, MB_STOP_BYTES_MAX */
#include "proto/status.h"

struct mb_stop_text {
    const char *at; /* any bytes */
    size_t n;       /* 1..MB_STOP_BYTES_MAX */
};

struct mb_stops;

/* Copies the strings; none at all is allowed. Errors: MB_E_INVALID, MB_E_NOMEM. */
enum mb_status mb_stops_new(const struct mb_stop_text *texts, size_t n, struct mb_stops **ret,
                            struct mb_error *err);
void mb_stops_free(struct mb_stops *s); /* NULL is allowed */

/* Appends to ret what of the text so far may be shown. Returns true when a stop string was met,
 * the one that ends first: the text before it has then been appended, and what follows is
 * dropped. Not to be fed again after that. Cost: O(n) for each of the strings. */
bool mb_stops_feed(struct mb_stops *s, const char *text, size_t n, struct mb_bytes *ret);

/* The end of the text without a stop: appends what was held back. */
void mb_stops_finish(struct mb_stops *s, struct mb_bytes *ret);

#endif
