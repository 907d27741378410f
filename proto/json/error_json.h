/* Errors to JSON.
 *
 * Owns:    what is returned is malloc'ed, terminated, and the caller's; NULL when memory is
 *          refused.
 * Threads: pure. */
#ifndef MB_PROTO_ERROR_JSON_H
#define MB_PROTO_ERROR_JSON_H

#include "proto/wire_error.h"

/* {"error":{"message","type","param","code"}}, all four always there. What is not UTF-8 in a
 * message shows as U+FFFD. */
char *mb_error_encode(const struct mb_wire_error *e);

#endif
