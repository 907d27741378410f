#include "proto/status.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int http;
} statuses[MB_STATUSES] = {
    [MB_OK] = { "ok", 200 },
    [MB_E_NOMEM] = { "nomem", 503 },
    [MB_E_LIMIT] = { "limit", 429 },
    [MB_E_INVALID] = { "invalid", 400 },
    [MB_E_FORMAT] = { "format", 400 },
    [MB_E_UNSUPPORTED] = { "unsupported", 501 },
    [MB_E_NOTFOUND] = { "notfound", 404 },
    [MB_E_IO] = { "io", 500 },
    [MB_E_CANCELLED] = { "cancelled", 499 },
    [MB_E_UNAVAILABLE] = { "unavailable", 503 },
    [MB_E_CONFLICT] = { "conflict", 409 },
};

enum mb_status mb_fail(struct mb_error *err, enum mb_status code, int sys, const char *fmt, ...)
{
    assert(code != MB_OK);
    if (!err) {
        return code;
    }
    err->code = code;
    err->sys = sys;

    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(err->what, sizeof err->what, fmt, args);
    va_end(args);
    if (n < 0) {
        err->what[0] = '\0';
        n = 0;
    }
    if (sys != 0 && (size_t) n < sizeof err->what) {
        (void) snprintf(err->what + n, sizeof err->what - (size_t) n, ": %s", strerror(sys));
    }
    return code;
}

const char *mb_status_name(enum mb_status s)
{
    assert(s < MB_STATUSES);
    return statuses[s].name;
}

int mb_status_http(enum mb_status s)
{
    assert(s < MB_STATUSES);
    return statuses[s].http;
}
