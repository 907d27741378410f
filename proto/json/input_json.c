#include "proto/json/input_json.h"

#include <stdlib.h>
#include <string.h>

#include "proto/completion.h"

static bool refuse(struct mb_wire_error *err, const char *name, const char *what)
{
    mb_wire_error_fill(err, 400, NULL, name, "'%s' %s", name, what);
    return false;
}

static bool refuse_memory(struct mb_wire_error *err)
{
    mb_wire_error_fill(err, 503, "out_of_memory", NULL, "no memory for this request");
    return false;
}

bool mb_input_text(const json_t *v, const char *name, char **ret, size_t *ret_n,
                   struct mb_wire_error *err)
{
    if (!json_is_string(v)) {
        return refuse(err, name, "must be a string");
    }
    size_t n = json_string_length(v);
    char *copy = malloc(n + 1);
    if (!copy) {
        return refuse_memory(err);
    }
    memcpy(copy, json_string_value(v), n + 1);
    *ret = copy;
    *ret_n = n;
    return true;
}

bool mb_input_model(const json_t *root, char **ret, struct mb_wire_error *err)
{
    const json_t *v = json_object_get(root, "model");
    size_t n = json_string_length(v);
    if (!v || json_is_null(v)) {
        return true;
    }
    if (!json_is_string(v) || n == 0 || n > MB_MODEL_NAME_MAX ||
        strlen(json_string_value(v)) != n) {
        mb_wire_error_fill(err, 400, NULL, "model", "'model' must be a name of 1 to %d bytes",
                           MB_MODEL_NAME_MAX);
        return false;
    }
    return mb_input_text(v, "model", ret, &n, err);
}

bool mb_input_ids(const json_t *v, const char *name, uint32_t **ret, size_t *ret_n,
                  struct mb_wire_error *err)
{
    size_t n = json_array_size(v);
    if (n == 0) {
        return refuse(err, name, "must be an array of token ids, not empty");
    }
    if (n > MB_PROMPT_IDS_MAX) {
        return refuse(err, name, "has too many token ids");
    }
    uint32_t *ids = malloc(n * sizeof *ids);
    if (!ids) {
        return refuse_memory(err);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(v, i);
        json_int_t x = json_integer_value(id);
        if (!json_is_integer(id) || x < 0 || x > UINT32_MAX) {
            free(ids);
            mb_wire_error_fill(err, 400, NULL, name,
                               "'%s' must hold token ids only; element %zu is none", name, i);
            return false;
        }
        ids[i] = (uint32_t) x;
    }
    *ret = ids;
    *ret_n = n;
    return true;
}

bool mb_input_bool(const json_t *root, const char *name, bool *ret, struct mb_wire_error *err)
{
    const json_t *v = json_object_get(root, name);
    if (!v || json_is_null(v)) {
        return true;
    }
    if (!json_is_boolean(v)) {
        return refuse(err, name, "must be true or false");
    }
    *ret = json_is_true(v);
    return true;
}
