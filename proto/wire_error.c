#include "proto/wire_error.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

const char *mb_wire_error_type(int http)
{
    assert(http >= 400 && http < 600);
    switch (http) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 429:
        return "rate_limit_error";
    default:
        return http < 500 ? "invalid_request_error" : "server_error";
    }
}

void mb_wire_error_fill(struct mb_wire_error *e, int http, const char *code, const char *param,
                        const char *fmt, ...)
{
    e->http = http;
    e->type = mb_wire_error_type(http);
    e->code = code;
    (void) snprintf(e->param, sizeof e->param, "%s", param ? param : "");

    va_list args;
    va_start(args, fmt);
    if (vsnprintf(e->message, sizeof e->message, fmt, args) < 0) {
        e->message[0] = '\0';
    }
    va_end(args);
}

/* Names of the statuses that a program may want to tell apart. */
static const char *code_of(enum mb_status s)
{
    switch (s) {
    case MB_E_LIMIT:
        return "queue_full";
    case MB_E_UNAVAILABLE:
        return "unavailable";
    case MB_E_CONFLICT:
        return "conflict";
    case MB_E_NOMEM:
        return "out_of_memory";
    case MB_E_UNSUPPORTED:
        return "unsupported";
    default:
        return NULL;
    }
}

void mb_wire_error_of(struct mb_wire_error *e, const struct mb_error *err)
{
    assert(err->code != MB_OK);
    mb_wire_error_fill(e, mb_status_http(err->code), code_of(err->code), NULL, "%s", err->what);
}
