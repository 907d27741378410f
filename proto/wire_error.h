/* An error as the wire shows it: an HTTP status and OpenAI's four fields.
 *
 *     {"error": {"message": ..., "type": ..., "param": ... or null, "code": ... or null}}
 *
 * Threads: a value. */
#ifndef MB_PROTO_WIRE_ERROR_H
#define MB_PROTO_WIRE_ERROR_H

#include "proto/status.h"

struct mb_wire_error {
    int http;
    const char *type; /* a constant, by http: see mb_wire_error_type */
    const char *code; /* a constant for programs to compare, or NULL */
    char param[64];   /* the request's field that is wrong; "" is null on the wire */
    char message[480];
};

/* Fills *e; code and param may be NULL. */
void mb_wire_error_fill(struct mb_wire_error *e, int http, const char *code, const char *param,
                        const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* What a failed call means on the wire: the status by mb_status_http, the text as it is. */
void mb_wire_error_of(struct mb_wire_error *e, const struct mb_error *err);

/* "invalid_request_error" for 4xx but 401, 403 and 429; "server_error" for 5xx. */
const char *mb_wire_error_type(int http);

#endif
