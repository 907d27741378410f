/* A value that jansson holds to struct mb_value.
 *
 * Threads: pure. Private to proto/json. */
#ifndef MB_PROTO_VALUE_FROM_JSON_H
#define MB_PROTO_VALUE_FROM_JSON_H

#include <jansson.h>

#include "proto/value.h"

enum mb_value_copy { MB_VALUE_COPIED, MB_VALUE_TOO_DEEP, MB_VALUE_NO_MEMORY };

/* A copy of v, at most MB_VALUE_DEPTH_MAX levels deep; *ret changes on success only. */
enum mb_value_copy mb_value_of_json(const json_t *v, struct mb_value *ret);

#endif
