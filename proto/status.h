/* Statuses: the whole vocabulary of failure, shared by every layer.
 *
 * A function that can fail returns enum mb_status and, where a person will read it, fills
 * a struct mb_error. Outputs are named ret, come last but err, and are written on success
 * only.
 *
 * Threads: values; no shared state. */
#ifndef MB_PROTO_STATUS_H
#define MB_PROTO_STATUS_H

enum mb_status {
    MB_OK = 0,
    MB_E_NOMEM,       /* allocation refused                             -> HTTP 503 */
    MB_E_LIMIT,       /* a stated bound would be exceeded               -> HTTP 429 */
    MB_E_INVALID,     /* the caller's request makes no sense            -> HTTP 400 */
    MB_E_FORMAT,      /* bytes on disk or on the wire are not ours      -> HTTP 400 */
    MB_E_UNSUPPORTED, /* understood, and deliberately not offered       -> HTTP 501 */
    MB_E_NOTFOUND,    /* no such file, model, route                     -> HTTP 404 */
    MB_E_IO,          /* the operating system said no; see sys          -> HTTP 500 */
    MB_E_CANCELLED,   /* the client left, or a deadline passed          -> logged only */
    MB_E_UNAVAILABLE, /* loading or draining; try again later           -> HTTP 503 */
    MB_E_CONFLICT,    /* not as things are now: it is pinned, or there  -> HTTP 409 */
    MB_STATUSES
};

/* What failed, for a person. Caller-owned, usually on the stack. */
struct mb_error {
    enum mb_status code;
    int sys;        /* errno at the point of failure, or 0 */
    char what[400]; /* "checkpoint: header: magic is not MBOOL"; always terminated */
};

/* Fills *err (which may be NULL) and returns code, so that a failing line is one line.
 * When sys is not 0 its strerror text is appended to what. */
enum mb_status mb_fail(struct mb_error *err, enum mb_status code, int sys, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* "nomem", "limit", ...: stable, lower case, for logs and metrics. */
const char *mb_status_name(enum mb_status s);

/* The HTTP status that reports s; 200 for MB_OK. */
int mb_status_http(enum mb_status s);

#endif
