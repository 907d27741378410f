#include "core/import/json.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>

#include "core/base/file.h"

/* The deepest nesting outside strings. jansson recurses once a level; asked before it does. */
static size_t depth_of(const uint8_t *at, size_t n)
{
    size_t depth = 0, deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = at[i];
        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
            deepest = depth > deepest ? depth : deepest;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return deepest;
}

enum mb_status mb_json_parse(const uint8_t *at, size_t n, const char *file, json_t **ret,
                             struct mb_error *err)
{
    if (n > MB_JSON_BYTES_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, "%s: %zu bytes are more than the %u that are read",
                       file, n, MB_JSON_BYTES_MAX);
    }
    if (depth_of(at, n) > MB_JSON_DEPTH_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, "%s: nested deeper than %d", file,
                       MB_JSON_DEPTH_MAX);
    }
    json_error_t why;
    json_t *root = json_loadb(n ? (const char *) at : "", n, JSON_REJECT_DUPLICATES, &why);
    if (!root) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: line %d, column %d: %s", file, why.line,
                       why.column, why.text);
    }
    if (!json_is_object(root)) {
        json_decref(root);
        return mb_fail(err, MB_E_FORMAT, 0, "%s: not a JSON object", file);
    }
    *ret = root;
    return MB_OK;
}

enum mb_status mb_json_load(const char *path, json_t **ret, struct mb_error *err)
{
    struct mb_file_map m;
    enum mb_status st = mb_file_map(path, &m, err);
    if (st != MB_OK) {
        return st;
    }
    st = mb_json_parse(m.at, m.n, path, ret, err);
    mb_file_unmap(&m);
    return st;
}

enum mb_status mb_json_where(enum mb_status st, const char *where, struct mb_error *err)
{
    if (st != MB_OK && err) {
        char what[sizeof err->what];
        (void) snprintf(what, sizeof what, "%s", err->what);
        (void) snprintf(err->what, sizeof err->what, "%.150s: %.240s", where, what);
    }
    return st;
}

/* *ret is the field, or NULL when it is absent or null and need not be there. */
static enum mb_status get(const json_t *obj, const char *field, enum mb_json_need need,
                          const json_t **ret, struct mb_error *err)
{
    const json_t *v = json_object_get(obj, field);
    if (!v || json_is_null(v)) {
        if (need == MB_JSON_REQUIRED) {
            return mb_fail(err, MB_E_FORMAT, 0, "%s: missing", field);
        }
        v = NULL;
    }
    *ret = v;
    return MB_OK;
}

enum mb_status mb_json_u32(const json_t *obj, const char *field, enum mb_json_need need,
                           uint32_t min, uint32_t max, uint32_t *ret, struct mb_error *err)
{
    const json_t *v;
    enum mb_status st = get(obj, field, need, &v, err);
    if (st != MB_OK || !v) {
        return st;
    }
    if (!json_is_integer(v)) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: not an integer", field);
    }
    json_int_t i = json_integer_value(v);
    if (i < (json_int_t) min || i > (json_int_t) max) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: %lld is outside %u..%u", field, (long long) i,
                       min, max);
    }
    *ret = (uint32_t) i;
    return MB_OK;
}

enum mb_status mb_json_f64(const json_t *obj, const char *field, enum mb_json_need need,
                           double min, double max, double *ret, struct mb_error *err)
{
    const json_t *v;
    enum mb_status st = get(obj, field, need, &v, err);
    if (st != MB_OK || !v) {
        return st;
    }
    if (!json_is_number(v)) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: not a number", field);
    }
    double x = json_number_value(v);
    if (!(x >= min && x <= max)) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: %g is outside %g..%g", field, x, min, max);
    }
    *ret = x;
    return MB_OK;
}

enum mb_status mb_json_bool(const json_t *obj, const char *field, enum mb_json_need need,
                            int *ret, struct mb_error *err)
{
    const json_t *v;
    enum mb_status st = get(obj, field, need, &v, err);
    if (st != MB_OK || !v) {
        return st;
    }
    if (!json_is_boolean(v)) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: neither true nor false", field);
    }
    *ret = json_is_true(v);
    return MB_OK;
}

enum mb_status mb_json_text(const json_t *obj, const char *field, enum mb_json_need need,
                            const char **ret, struct mb_error *err)
{
    const json_t *v;
    enum mb_status st = get(obj, field, need, &v, err);
    if (st != MB_OK || !v) {
        return st;
    }
    if (!json_is_string(v)) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: not a string", field);
    }
    *ret = json_string_value(v);
    return MB_OK;
}
