/* A value that jansson holds to struct mb_json_value.
 *
 * Threads: pure. Private to proto/json. */
#ifndef MB_PROTO_VALUE_FROM_JSON_H
#define MB_PROTO_VALUE_FROM_JSON_H

#include <jansson.h>

#include "proto/json_value.h"

enum mb_json_copy { MB_JSON_COPIED, MB_JSON_TOO_DEEP, MB_JSON_NO_MEMORY };

/* A copy of v, at most MB_JSON_VALUE_DEPTH_MAX levels deep; *ret changes on success only. */
enum mb_json_copy mb_json_value_of(const json_t *v, struct mb_json_value *ret);

#endif
