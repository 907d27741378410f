/* Server-sent events: how a stream is cut into events (WHATWG HTML, section 9.2).
 *
 * Threads: pure. */
#ifndef MBD_SSE_H
#define MBD_SSE_H

#include "core/base/bytes.h"

/* "data: <json>\n\n". json is on one line, as every encoder of proto/json leaves it. */
void mbd_sse_data(struct mb_bytes *ret, const char *json);
void mbd_sse_ping(struct mb_bytes *ret); /* ":\n\n": a comment, which clients skip */
void mbd_sse_done(struct mb_bytes *ret); /* "data: [DONE]\n\n", OpenAI's end of a stream */

#endif
