/* JSON text to struct mb_json_value.
 *
 * Bound:   at most MB_JSON_VALUE_DEPTH_MAX levels.
 * Threads: pure, once mb_json_init has run. */
#ifndef MB_PROTO_VALUE_JSON_H
#define MB_PROTO_VALUE_JSON_H

#include <stddef.h>

#include "proto/json_value.h"
#include "proto/status.h"

#define MB_JSON_VALUE_DEPTH_MAX 64 /* of a schema: far more than people write, and no danger */

/* Errors: MB_E_INVALID for what is not JSON or too deep, MB_E_NOMEM. */
enum mb_status mb_json_value_parse(const char *text, size_t n, struct mb_json_value *ret,
                                   struct mb_error *err);

#endif
