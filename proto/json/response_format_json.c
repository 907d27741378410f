#include "proto/json/response_format_json.h"

#include <string.h>

#include "proto/json/input_json.h"
#include "proto/json/value_from_json.h"
#include "proto/json/value_json.h"

#define NAME_MAX_BYTES 64 /* OpenAI's limit */

static bool is_name(const json_t *v)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t n = json_string_length(v);
    return json_is_string(v) && n >= 1 && n <= NAME_MAX_BYTES &&
           strspn(json_string_value(v), letters) == n;
}

static bool take_schema(const json_t *v, struct mb_response_format *ret,
                        struct mb_wire_error *err)
{
    static const char param[] = "response_format.json_schema";
    if (!json_is_object(v)) {
        return mb_field_refuse(err, param, "must be an object");
    }
    if (!is_name(json_object_get(v, "name"))) {
        return mb_field_refuse(err, "response_format.json_schema.name",
                               "must be 1 to 64 of A-Z a-z 0-9 _ -");
    }
    const json_t *schema = json_object_get(v, "schema");
    if (!json_is_object(schema)) {
        return mb_field_refuse(err, "response_format.json_schema.schema", "must be an object");
    }
    enum mb_json_copy st = mb_json_value_of(schema, &ret->schema);
    if (st == MB_JSON_NO_MEMORY) {
        return mb_field_refuse_memory(err);
    }
    if (st == MB_JSON_TOO_DEEP) {
        mb_wire_error_fill(err, 400, NULL, "response_format.json_schema.schema",
                           "'response_format.json_schema.schema' has more than %d levels",
                           MB_JSON_VALUE_DEPTH_MAX);
        return false;
    }
    ret->kind = MB_RESPONSE_JSON_SCHEMA;
    return true;
}

bool mb_response_format_take(const json_t *v, struct mb_response_format *ret,
                             struct mb_wire_error *err)
{
    const json_t *type = json_is_object(v) ? json_object_get(v, "type") : NULL;
    const char *name = json_is_string(type) ? json_string_value(type) : "";
    if (strcmp(name, "text") == 0) {
        ret->kind = MB_RESPONSE_TEXT;
        return true;
    }
    if (strcmp(name, "json_object") == 0) {
        ret->kind = MB_RESPONSE_JSON_OBJECT;
        return true;
    }
    if (strcmp(name, "json_schema") == 0) {
        return take_schema(json_object_get(v, "json_schema"), ret, err);
    }
    return mb_field_refuse(err, "response_format",
                           "must be an object whose type is text, json_object or json_schema");
}
