#include "proto/json/field.h"

#include <stdlib.h>
#include <string.h>

#include "proto/json/completion_json.h"
#include "proto/json/text_json.h"

void mb_json_init(void)
{
    json_object_seed(0); /* from the system's random source */
}

/* ---- before parsing ---------------------------------------------------------------------- */

bool mb_json_bounded(const char *text, size_t n, struct mb_json_tally *t,
                     struct mb_wire_error *err)
{
    mb_json_tally(text, n, t);
    if (t->depth <= MB_JSON_DEPTH_MAX && t->containers <= MB_JSON_CONTAINERS_MAX &&
        t->members <= MB_JSON_MEMBERS_MAX && t->values <= MB_JSON_VALUES_MAX) {
        return true;
    }
    mb_wire_error_fill(err, 400, NULL, NULL,
                       "the body holds more than %d levels, %d arrays and objects, %d "
                       "members of objects, or %u values",
                       MB_JSON_DEPTH_MAX, MB_JSON_CONTAINERS_MAX, MB_JSON_MEMBERS_MAX,
                       MB_JSON_VALUES_MAX);
    return false;
}

/* ---- fields ------------------------------------------------------------------------------ */

static void *place(const struct mb_field *f, struct mb_completion *c)
{
    return (char *) c + f->offset;
}

bool mb_take_bool(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                  struct mb_wire_error *err)
{
    if (!json_is_boolean(v)) {
        return mb_field_refuse(err, f->name, "must be true or false");
    }
    *(bool *) place(f, c) = json_is_true(v);
    return true;
}

static bool in_range(const struct mb_field *f, const json_t *v, json_int_t *ret,
                     struct mb_wire_error *err)
{
    json_int_t i = json_integer_value(v);
    if (!json_is_integer(v) || i < (json_int_t) f->min || i > (json_int_t) f->max) {
        mb_wire_error_fill(err, 400, NULL, f->name, "'%s' must be an integer in %.0f..%.0f",
                           f->name, f->min, f->max);
        return false;
    }
    *ret = i;
    return true;
}

bool mb_take_u32(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                 struct mb_wire_error *err)
{
    json_int_t i;
    if (!in_range(f, v, &i, err)) {
        return false;
    }
    *(uint32_t *) place(f, c) = (uint32_t) i;
    return true;
}

static bool number(const struct mb_field *f, const json_t *v, double *ret,
                   struct mb_wire_error *err)
{
    *ret = json_number_value(v);
    if (!json_is_number(v) || !(*ret >= f->min && *ret <= f->max)) {
        mb_wire_error_fill(err, 400, NULL, f->name, "'%s' must be a number in %g..%g", f->name,
                           f->min, f->max);
        return false;
    }
    return true;
}

bool mb_take_float(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                   struct mb_wire_error *err)
{
    double x;
    if (!number(f, v, &x, err)) {
        return false;
    }
    *(float *) place(f, c) = (float) x;
    return true;
}

bool mb_take_max_tokens(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                        struct mb_wire_error *err)
{
    c->has_max_tokens = true;
    return mb_take_u32(f, v, c, err);
}

bool mb_take_nothing(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                     struct mb_wire_error *err)
{
    bool empty = (json_is_string(v) && json_string_length(v) == 0) ||
                 (json_is_object(v) && json_object_size(v) == 0) ||
                 (json_is_array(v) && json_array_size(v) == 0);
    return empty || mb_field_refuse(err, f->name, "is not supported");
}

bool mb_copy_json(const json_t *v, char **ret, struct mb_wire_error *err)
{
    *ret = json_dumps(v, JSON_COMPACT | JSON_REAL_PRECISION(17));
    return *ret || mb_field_refuse_memory(err);
}

/* ---- bodies ------------------------------------------------------------------------------ */

static bool take_table(const struct mb_fields *t, const json_t *root, struct mb_completion *c,
                       struct mb_wire_error *err)
{
    for (size_t i = 0; i < t->n; i++) {
        const json_t *v = json_object_get(root, t->at[i].name);
        if (v && !json_is_null(v) && !t->at[i].take(&t->at[i], v, c, err)) {
            return false;
        }
    }
    return true;
}

/* The field of t whose name ends before text[at] - 1, a quote. */
static const char *name_before(const struct mb_fields *t, const char *text, size_t at)
{
    for (size_t i = 0; i < t->n; i++) {
        size_t n = strlen(t->at[i].name);
        if (at >= n + 2 && text[at - n - 2] == '"' &&
            memcmp(text + at - n - 1, t->at[i].name, n) == 0) {
            return t->at[i].name;
        }
    }
    return NULL;
}

/* The field whose value ends at text[at]: the name before the colon before it. NULL when
 * there is none of that name. */
static const char *field_before(const struct mb_fields *own, const char *text, size_t at)
{
    while (at > 0 && text[at - 1] != ':' && text[at - 1] != '"') {
        at--;
    }
    while (at > 0 && text[at - 1] != '"') {
        at--;
    }
    const char *name = at > 0 ? name_before(own, text, at) : NULL;
    return name || at == 0 ? name : name_before(&mb_sampling_fields, text, at);
}

static void refuse_text(struct mb_wire_error *err, const struct mb_fields *own,
                        const char *text, size_t n, const json_error_t *where)
{
    size_t at = where->position > 0 ? (size_t) where->position : 0;
    if (json_error_code(where) != json_error_numeric_overflow) {
        mb_wire_error_fill(err, 400, NULL, NULL, "the body is not JSON: line %d, column %d: %s",
                           where->line, where->column, where->text);
        return;
    }
    const char *name = field_before(own, text, at < n ? at : n);
    mb_wire_error_fill(err, 400, NULL, name,
                       "%s%s%sline %d, column %d: the number is out of range", name ? "'" : "",
                       name ? name : "", name ? "': " : "", where->line, where->column);
}

/* The body as an object, or NULL with err filled. own helps to name a field in a message. */
static json_t *load(const char *text, size_t n, const struct mb_fields *own,
                    struct mb_wire_error *err)
{
    if (n == 0) {
        mb_wire_error_fill(err, 400, NULL, NULL, "the body is empty; it must be a JSON object");
        return NULL;
    }
    if (!mb_json_bounded(text, n, &(struct mb_json_tally) { 0 }, err)) {
        return NULL;
    }
    json_error_t where;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    if (!root) {
        refuse_text(err, own, text, n, &where);
    } else if (!json_is_object(root)) {
        mb_wire_error_fill(err, 400, NULL, NULL, "the body must be a JSON object");
        json_decref(root);
        root = NULL;
    }
    return root;
}

json_t *mb_json_load_body(const char *text, size_t n, struct mb_wire_error *err)
{
    return load(text, n, &(struct mb_fields) { .n = 0 }, err);
}

enum mb_status mb_body_decode(const char *text, size_t n, const struct mb_fields *own,
                              mb_agree_fn *agree, struct mb_completion *ret,
                              struct mb_wire_error *err)
{
    json_t *root = load(text, n, own, err);
    if (!root) {
        return MB_E_INVALID;
    }
    struct mb_completion c = *ret; /* the caller's defaults; it owns nothing yet */
    bool ok = take_table(&mb_sampling_fields, root, &c, err) &&
              take_table(own, root, &c, err) && agree(root, &c, err);
    json_decref(root);
    if (!ok) {
        mb_completion_fini(&c);
        return err->http == 503 ? MB_E_NOMEM : MB_E_INVALID;
    }
    *ret = c;
    return MB_OK;
}
