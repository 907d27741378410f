/* JSON text to struct mb_value.
 *
 * Bound:   at most MB_VALUE_DEPTH_MAX levels.
 * Threads: pure, once mb_json_init has run. */
#ifndef MB_PROTO_VALUE_JSON_H
#define MB_PROTO_VALUE_JSON_H

#include <stddef.h>

#include "proto/status.h"
#include "proto/value.h"

#define MB_VALUE_DEPTH_MAX 64 /* of a schema: far more than people write, and no danger */

/* Errors: MB_E_INVALID for what is not JSON or too deep, MB_E_NOMEM. */
enum mb_status mb_value_parse(const char *text, size_t n, struct mb_value *ret,
                              struct mb_error *err);

#endif
