#include <stdlib.h>
#include <string.h>

#include "core/constrain/compiler.h"

/* ---- keywords ---------------------------------------------------------------------------- */

/* What a keyword speaks of; 0 for those that speak of any value, or of none. */
static const struct keyword {
    const char *name;
    unsigned types;
} keywords[] = {
    { "$ref", 0 },
    { "$defs", 0 },
    { "definitions", 0 },
    { "type", 0 },
    { "nullable", 0 },
    { "enum", 0 },
    { "const", 0 },
    { "anyOf", 0 },
    { "oneOf", 0 },
    { "allOf", 0 },
    { "properties", MB_TYPE_OBJECT },
    { "required", MB_TYPE_OBJECT },
    { "additionalProperties", MB_TYPE_OBJECT },
    { "items", MB_TYPE_ARRAY },
    { "prefixItems", MB_TYPE_ARRAY },
    { "additionalItems", MB_TYPE_ARRAY },
    { "minItems", MB_TYPE_ARRAY },
    { "maxItems", MB_TYPE_ARRAY },
    { "minLength", MB_TYPE_STRING },
    { "maxLength", MB_TYPE_STRING },
    { "pattern", MB_TYPE_STRING },
    { "format", MB_TYPE_STRING },
    { "minimum", MB_TYPE_INTEGER | MB_TYPE_NUMBER },
    { "maximum", MB_TYPE_INTEGER | MB_TYPE_NUMBER },
    { "exclusiveMinimum", MB_TYPE_INTEGER | MB_TYPE_NUMBER },
    { "exclusiveMaximum", MB_TYPE_INTEGER | MB_TYPE_NUMBER },
    /* Annotations. */
    { "title", 0 },
    { "description", 0 },
    { "default", 0 },
    { "example", 0 },
    { "examples", 0 },
    { "deprecated", 0 },
    { "readOnly", 0 },
    { "writeOnly", 0 },
    { "discriminator", 0 },
    { "$schema", 0 },
    { "$id", 0 },
    { "$comment", 0 },
};

static const struct keyword *find_keyword(const char *name)
{
    for (size_t i = 0; i < sizeof keywords / sizeof keywords[0]; i++) {
        if (strcmp(keywords[i].name, name) == 0) {
            return &keywords[i];
        }
    }
    return NULL;
}

static void check_keywords(struct mb_compiler *c, const struct mb_json_value *schema)
{
    mb_compiler_work(c, MB_KEYWORD_WORK * schema->n);
    for (size_t i = 0; i < schema->n; i++) {
        const char *name = schema->members[i].name;
        bool vacuous = strcmp(name, "uniqueItems") == 0 &&
                       schema->members[i].value.kind == MB_JSON_BOOL &&
                       !schema->members[i].value.boolean;
        if (!find_keyword(name) && strncmp(name, "x-", 2) != 0 && !vacuous) {
            mb_compiler_fail(c, MB_E_UNSUPPORTED, "'%.64s' is not supported", name);
        }
    }
}

bool mb_part_number(struct mb_compiler *c, const struct mb_json_value *part,
                    const char *keyword, double *ret)
{
    const struct mb_json_value *v = mb_json_value_get(part, keyword);
    if (!v) {
        return false;
    }
    if (v->kind != MB_JSON_INTEGER && v->kind != MB_JSON_REAL) {
        mb_compiler_fail(c, MB_E_INVALID, "'%s' must be a number", keyword);
        return false;
    }
    *ret = v->kind == MB_JSON_INTEGER ? (double) v->integer : v->real;
    return true;
}

bool mb_part_count(struct mb_compiler *c, const struct mb_json_value *part, const char *keyword,
                   uint32_t *ret)
{
    double x;
    if (!mb_part_number(c, part, keyword, &x)) {
        return false;
    }
    if (x < 0 || x > INT32_MAX || x != (double) (uint32_t) x) {
        mb_compiler_fail(c, MB_E_INVALID, "'%s' must be an integer of at least 0", keyword);
        return false;
    }
    *ret = (uint32_t) x;
    return true;
}

/* ---- types ------------------------------------------------------------------------------- */

static unsigned type_of_name(struct mb_compiler *c, const struct mb_json_value *name)
{
    static const struct {
        const char *name;
        unsigned types;
    } types[] = {
        { "null", MB_TYPE_NULL },       { "boolean", MB_TYPE_BOOLEAN },
        { "integer", MB_TYPE_INTEGER }, { "number", MB_TYPE_INTEGER | MB_TYPE_NUMBER },
        { "string", MB_TYPE_STRING },   { "array", MB_TYPE_ARRAY },
        { "object", MB_TYPE_OBJECT },
    };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (mb_json_value_is_text(name, types[i].name)) {
            return types[i].types;
        }
    }
    mb_compiler_fail(c, MB_E_INVALID, "'type' must be one of JSON Schema's seven, or several");
    return 0;
}

/* The types that a schema's keywords speak of, any when they speak of none. */
static unsigned types_spoken_of(const struct mb_json_value *part)
{
    unsigned types = 0;
    for (size_t i = 0; i < part->n; i++) {
        const struct keyword *k = find_keyword(part->members[i].name);
        types |= k ? k->types : 0;
    }
    return types ? types : MB_TYPE_ANY;
}

static unsigned types_declared(struct mb_compiler *c, const struct mb_json_value *type)
{
    unsigned types = 0;
    if (type->kind != MB_JSON_ARRAY) {
        return type_of_name(c, type);
    }
    mb_compiler_work(c, type->n);
    for (size_t i = 0; i < type->n; i++) {
        types |= type_of_name(c, &type->items[i]);
    }
    return types;
}

static unsigned types_of(struct mb_compiler *c, const struct mb_json_value *part)
{
    const struct mb_json_value *type = mb_json_value_get(part, "type");
    const struct mb_json_value *nullable = mb_json_value_get(part, "nullable");
    unsigned types = type ? types_declared(c, type) : types_spoken_of(part);
    if (nullable && nullable->kind == MB_JSON_BOOL && nullable->boolean) {
        types |= MB_TYPE_NULL;
    }
    return types;
}

unsigned mb_parts_types(struct mb_compiler *c, const struct mb_parts *p)
{
    unsigned types = MB_TYPE_ANY;
    for (size_t i = 0; i < p->n; i++) {
        types &= types_of(c, p->at[i]);
    }
    return types;
}

bool mb_part_allows_type(struct mb_compiler *c, const struct mb_json_value *part,
                         const struct mb_json_value *v)
{
    static const unsigned types[MB_JSON_KINDS] = {
        [MB_JSON_NULL] = MB_TYPE_NULL,       [MB_JSON_BOOL] = MB_TYPE_BOOLEAN,
        [MB_JSON_INTEGER] = MB_TYPE_INTEGER, [MB_JSON_REAL] = MB_TYPE_NUMBER,
        [MB_JSON_STRING] = MB_TYPE_STRING,   [MB_JSON_ARRAY] = MB_TYPE_ARRAY,
        [MB_JSON_OBJECT] = MB_TYPE_OBJECT,
    };
    return !mb_json_value_get(part, "type") || (types_of(c, part) & types[v->kind]);
}

/* ---- references -------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* A step of a JSON pointer (RFC 6901) in a fragment: %xx, then ~1 is '/' and ~0 is '~'. Returns where
 * it ends. */
static const char *take_step(const char *at, char *ret, size_t n_max)
{
    size_t n = 0;
    for (; *at && *at != '/' && n + 1 < n_max; at++) {
        char c = *at;
        if (c == '%' && hex_digit(at[1]) >= 0 && hex_digit(at[2]) >= 0) {
            c = (char) (hex_digit(at[1]) << 4 | hex_digit(at[2]));
            at += 2;
        } else if (c == '~' && (at[1] == '0' || at[1] == '1')) {
            c = at[1] == '0' ? '~' : '/';
            at++;
        }
        ret[n++] = c;
    }
    ret[n] = '\0';
    return at;
}

static const struct mb_json_value *step_into(const struct mb_json_value *v, const char *step)
{
    if (v->kind != MB_JSON_ARRAY) {
        return mb_json_value_get(v, step);
    }
    char *end;
    unsigned long i = strtoul(step, &end, 10);
    return *step >= '0' && *step <= '9' && !*end && i < v->n ? &v->items[i] : NULL;
}

static const struct mb_json_value *resolve(struct mb_compiler *c,
                                           const struct mb_json_value *ref)
{
    const struct mb_json_value *v = c->root;
    if (ref->kind != MB_JSON_STRING || ref->n == 0 || ref->text[0] != '#') {
        mb_compiler_fail(c, MB_E_UNSUPPORTED,
                         "'$ref' must be a place in the same schema, such as #/$defs/name");
        return NULL;
    }
    for (const char *at = ref->text + 1; v && *at;) {
        char step[512];
        if (*at != '/') {
            v = NULL;
            break;
        }
        at = take_step(at + 1, step, sizeof step);
        mb_compiler_work(c, v->n);
        v = step_into(v, step);
    }
    if (!v) {
        mb_compiler_fail(c, MB_E_INVALID, "'$ref' to '%.100s': there is no such place",
                         ref->text);
    }
    return v;
}

/* ---- parts ------------------------------------------------------------------------------- */

static bool is_ancestor(const struct mb_parts *p, unsigned of,
                        const struct mb_json_value *schema)
{
    for (; of != MB_PARTS_MAX; of = p->parent[of]) {
        if (p->at[of] == schema) {
            return true;
        }
    }
    return false;
}

static bool is_there(const struct mb_parts *p, const struct mb_json_value *schema)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->at[i] == schema) {
            return true;
        }
    }
    return false;
}

/* A schema that is reached from itself without a value in between says x = x, or x = x or y: it
 * adds nothing, so this way of reaching it is valid for nothing. */
void mb_parts_add(struct mb_compiler *c, struct mb_parts *p, const struct mb_json_value *schema,
                  unsigned parent)
{
    if (schema->kind == MB_JSON_BOOL) {
        p->never = p->never || !schema->boolean;
        return;
    }
    if (schema->kind != MB_JSON_OBJECT) {
        mb_compiler_fail(c, MB_E_INVALID, "a schema must be an object, true or false");
    }
    if (is_ancestor(p, parent, schema)) {
        p->never = true;
    }
    if (mb_compiler_stopped(c) || p->never || is_there(p, schema)) {
        return;
    }
    if (p->n == MB_PARTS_MAX) {
        mb_compiler_fail(c, MB_E_LIMIT, "more than %d schemas apply to one value",
                         MB_PARTS_MAX);
        return;
    }
    unsigned self = p->n++;
    p->at[self] = schema;
    p->parent[self] = (uint8_t) parent;
    check_keywords(c, schema);
    const struct mb_json_value *ref = mb_json_value_get(schema, "$ref");
    const struct mb_json_value *target = ref ? resolve(c, ref) : NULL;
    if (target) {
        mb_parts_add(c, p, target, self);
    }
    const struct mb_json_value *all = mb_json_value_get(schema, "allOf");
    if (all && all->kind != MB_JSON_ARRAY) {
        mb_compiler_fail(c, MB_E_INVALID, "'allOf' must be an array");
    }
    for (size_t i = 0; all && i < all->n && !mb_compiler_stopped(c); i++) {
        mb_parts_add(c, p, &all->items[i], self);
    }
}

static bool is_taken(const struct mb_parts *p, const struct mb_json_value *choice)
{
    for (size_t i = 0; i < p->n_taken; i++) {
        if (p->taken[i] == choice) {
            return true;
        }
    }
    return false;
}

const struct mb_json_value *mb_parts_choice(struct mb_parts *p, unsigned *ret_owner)
{
    static const char *const names[] = { "anyOf", "oneOf" };
    for (unsigned i = 0; i < p->n; i++) {
        for (size_t j = 0; j < 2; j++) {
            const struct mb_json_value *choice = mb_json_value_get(p->at[i], names[j]);
            if (choice && !is_taken(p, choice) && p->n_taken < MB_PARTS_MAX) {
                p->taken[p->n_taken++] = choice;
                *ret_owner = i;
                return choice;
            }
        }
    }
    return NULL;
}
