#include <jansson.h>
#include <string.h>

#include "core/template/json.h"
#include "core/template/render.h"

static bool take(struct mb_render *r, const json_t *j, uint32_t level,
                 struct mb_jinja_value *ret);

static bool take_text(struct mb_render *r, const char *text, size_t n,
                      struct mb_jinja_value *ret)
{
    size_t mark = mb_render_mark(r);
    return mb_render_put(r, text, n) && mb_render_cut(r, mark, ret);
}

static bool take_array(struct mb_render *r, const json_t *j, uint32_t level,
                       struct mb_jinja_value *ret)
{
    struct mb_jinja_value v;
    if (!mb_list_new(r, MB_LIST, json_array_size(j), ret)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(j); i++) {
        if (!take(r, json_array_get(j, i), level + 1, &v) || !mb_list_push(r, ret->list, v)) {
            return false;
        }
    }
    return true;
}

/* In the order of the document, which jansson keeps. */
static bool take_object(struct mb_render *r, const json_t *j, uint32_t level,
                        struct mb_jinja_value *ret)
{
    const char *name; /* without a zero byte: jansson takes none */
    json_t *member;
    if (!mb_dict_new(r, json_object_size(j), ret)) {
        return false;
    }
    json_object_foreach ((json_t *) j, name, member) {
        struct mb_jinja_value key, v;
        if (!take_text(r, name, strlen(name), &key) || !take(r, member, level + 1, &v) ||
            !mb_dict_add(r, ret->dict, key, v)) {
            return false;
        }
    }
    return true;
}

static bool take(struct mb_render *r, const json_t *j, uint32_t level,
                 struct mb_jinja_value *ret)
{
    if (level > MB_JSON_NESTING_MAX) {
        return mb_render_fail(r, MB_E_LIMIT, "a variable is nested deeper than %d levels",
                              MB_JSON_NESTING_MAX);
    }
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        return take_object(r, j, level, ret);
    case JSON_ARRAY:
        return take_array(r, j, level, ret);
    case JSON_STRING:
        return take_text(r, json_string_value(j), json_string_length(j), ret);
    case JSON_INTEGER:
        *ret = mb_jinja_value_int(json_integer_value(j));
        return true;
    case JSON_REAL:
        *ret = mb_jinja_value_float(json_real_value(j));
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        *ret = mb_jinja_value_bool(json_is_true(j));
        return true;
    case JSON_NULL:
        break;
    }
    *ret = mb_jinja_value_none();
    return true;
}

bool mb_json_read(struct mb_render *r, const char *text, size_t n, struct mb_jinja_value *ret)
{
    json_error_t where;
    json_t *root =
        json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &where);
    if (!root) {
        return mb_render_fail(r, MB_E_FORMAT, "a variable is no JSON: column %d: %s",
                              where.column, where.text);
    }
    bool ok = take(r, root, 0, ret);
    json_decref(root);
    return ok;
}
