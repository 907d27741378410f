#include "proto/json/input_json.h"

#include <stdlib.h>
#include <string.h>

#include "proto/completion.h"

bool mb_field_refuse(struct mb_wire_error *err, const char *name, const char *what)
{
    mb_wire_error_fill(err, 400, NULL, name, "'%s' %s", name, what);
    return false;
}

bool mb_field_refuse_memory(struct mb_wire_error *err)
{
    mb_wire_error_fill(err, 503, "out_of_memory", NULL, "no memory for this request");
    return false;
}

bool mb_copy_string(const json_t *v, char **ret, size_t *ret_n, struct mb_wire_error *err)
{
    size_t n = json_string_length(v);
    char *copy = malloc(n + 1);
    if (!copy) {
        return mb_field_refuse_memory(err);
    }
    memcpy(copy, json_string_value(v), n + 1);
    *ret = copy;
    *ret_n = n;
    return true;
}

bool mb_copy_ids(const char *name, const json_t *list, uint32_t **ret, size_t *ret_n,
                 struct mb_wire_error *err)
{
    size_t n = json_array_size(list);
    if (n > MB_PROMPT_IDS_MAX) {
        return mb_field_refuse(err, name, "has too many token ids");
    }
    uint32_t *ids = malloc((n ? n : 1) * sizeof *ids);
    if (!ids) {
        return mb_field_refuse_memory(err);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        json_int_t id = json_integer_value(v);
        if (!json_is_integer(v) || id < 0 || id > UINT32_MAX) {
            free(ids);
            mb_wire_error_fill(err, 400, NULL, name,
                               "'%s' must hold token ids only; element %zu is none", name, i);
            return false;
        }
        ids[i] = (uint32_t) id;
    }
    *ret = ids;
    *ret_n = n;
    return true;
}

bool mb_copy_model(const json_t *v, char **ret, struct mb_wire_error *err)
{
    size_t n = json_string_length(v);
    if (!json_is_string(v) || n == 0 || n > MB_MODEL_NAME_MAX ||
        strlen(json_string_value(v)) != n) {
        mb_wire_error_fill(err, 400, NULL, "model", "'model' must be a name of 1 to %d bytes",
                           MB_MODEL_NAME_MAX);
        return false;
    }
    return mb_copy_string(v, ret, &n, err);
}

bool mb_input_model(const json_t *root, char **ret, struct mb_wire_error *err)
{
    const json_t *v = json_object_get(root, "model");
    return !v || json_is_null(v) || mb_copy_model(v, ret, err);
}

bool mb_input_text(const json_t *v, const char *name, char **ret, size_t *ret_n,
                   struct mb_wire_error *err)
{
    return json_is_string(v) ? mb_copy_string(v, ret, ret_n, err)
                             : mb_field_refuse(err, name, "must be a string");
}

bool mb_input_ids(const json_t *v, const char *name, uint32_t **ret, size_t *ret_n,
                  struct mb_wire_error *err)
{
    return json_array_size(v) > 0
               ? mb_copy_ids(name, v, ret, ret_n, err)
               : mb_field_refuse(err, name, "must be an array of token ids, not empty");
}

bool mb_input_bool(const json_t *root, const char *name, bool *ret, struct mb_wire_error *err)
{
    const json_t *v = json_object_get(root, name);
    if (!v || json_is_null(v)) {
        return true;
    }
    if (!json_is_boolean(v)) {
        return mb_field_refuse(err, name, "must be true or false");
    }
    *ret = json_is_true(v);
    return true;
}
