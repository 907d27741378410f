#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/constrain/chars.h"
#include "core/constrain/compiler.h"

bool mb_parts_have_constants(const struct mb_parts *p)
{
    for (size_t i = 0; i < p->n; i++) {
        if (mb_json_value_get(p->at[i], "enum") || mb_json_value_get(p->at[i], "const")) {
            return true;
        }
    }
    return false;
}

/* What comparing v costs, in values and pieces of text. */
static uint64_t size_of(const struct mb_json_value *v)
{
    uint64_t n = 1;
    if (v->kind == MB_JSON_STRING) {
        n += v->n / 64;
    }
    for (size_t i = 0; v->kind == MB_JSON_ARRAY && i < v->n; i++) {
        n += size_of(&v->items[i]);
    }
    for (size_t i = 0; v->kind == MB_JSON_OBJECT && i < v->n; i++) {
        n += v->n + size_of(&v->members[i].value); /* searched for by name */
    }
    return n;
}

/* Is v, which is from the list all, among the constants of a schema, if it has any? */
static bool among(struct mb_compiler *c, const struct mb_json_value *part,
                  const struct mb_json_value *v, const struct mb_json_value *all)
{
    const struct mb_json_value *one = mb_json_value_get(part, "const");
    const struct mb_json_value *many = mb_json_value_get(part, "enum");
    bool found = !many || many == all;
    if (many && many->kind != MB_JSON_ARRAY) {
        mb_compiler_fail(c, MB_E_INVALID, "'enum' must be an array");
        return false;
    }
    mb_compiler_work(c, (1 + (found ? 0 : many->n)) * size_of(v));
    for (size_t i = 0; !found && i < many->n && !mb_compiler_stopped(c); i++) {
        found = mb_json_value_equal(&many->items[i], v);
    }
    return found && (!one || mb_json_value_equal(one, v));
}

/* What can not be decided here: whether a constant fits keywords that take an automaton to check. */
static void refuse_keywords(struct mb_compiler *c, const struct mb_parts *p,
                            const struct mb_json_value *v)
{
    static const char *const of_string[] = { "pattern", "format", NULL };
    static const char *const of_array[] = { "items",    "prefixItems", "additionalItems",
                                            "minItems", "maxItems",    NULL };
    static const char *const of_object[] = { "properties", "required", "additionalProperties",
                                             NULL };
    static const char *const of_others[] = { NULL };
    const char *const *names = v->kind == MB_JSON_STRING   ? of_string
                               : v->kind == MB_JSON_ARRAY  ? of_array
                               : v->kind == MB_JSON_OBJECT ? of_object
                                                           : of_others;
    for (; *names; names++) {
        for (size_t i = 0; i < p->n; i++) {
            if (mb_json_value_get(p->at[i], *names)) {
                mb_compiler_fail(c, MB_E_UNSUPPORTED,
                                 "'%s' together with 'enum' or 'const' is not supported",
                                 *names);
            }
        }
    }
}

static bool fits(struct mb_compiler *c, const struct mb_parts *p, const struct mb_json_value *v,
                 const struct mb_json_value *all)
{
    for (size_t i = 0; i < p->n; i++) {
        mb_compiler_work(c, MB_KEYWORD_WORK * p->at[i]->n);
        if (!among(c, p->at[i], v, all) || !mb_part_allows_type(c, p->at[i], v)) {
            return false;
        }
    }
    refuse_keywords(c, p, v);
    return mb_scalar_in_bounds(c, p, v);
}

/* The shortest text that reads back as x. */
static size_t spell_real(double x, char ret[40])
{
    int n = 0;
    for (int precision = 1; precision <= 17; precision++) {
        n = snprintf(ret, 40, "%.*g", precision, x);
        if (strtod(ret, NULL) == x) {
            break;
        }
    }
    return (size_t) n;
}

static void literal_paths(struct mb_compiler *c, const struct mb_json_value *v, uint32_t from,
                          uint32_t to)
{
    char text[40];
    switch (v->kind) {
    case MB_JSON_NULL:
        mb_grammar_spell(c->g, from, "null", 4, to);
        break;
    case MB_JSON_BOOL:
        mb_grammar_spell(c->g, from, v->boolean ? "true" : "false", v->boolean ? 4 : 5, to);
        break;
    case MB_JSON_INTEGER:
        mb_grammar_spell(c->g, from, text,
                         (size_t) snprintf(text, sizeof text, "%lld", (long long) v->integer),
                         to);
        break;
    case MB_JSON_REAL:
        mb_grammar_spell(c->g, from, text, spell_real(v->real, text), to);
        break;
    case MB_JSON_STRING:
        mb_grammar_call(c->g, from, mb_literal_rule(c->g, v->text, v->n), to);
        break;
    default:
        mb_call_paths(c, &(struct mb_rule_key) { .kind = MB_KEY_CONSTANT, .n = 1, .at = { v } },
                      from, to);
        break;
    }
}

void mb_constant_paths(struct mb_compiler *c, const struct mb_parts *p, uint32_t from,
                       uint32_t to)
{
    const struct mb_json_value *one = NULL, *many = NULL;
    for (size_t i = 0; i < p->n && !one; i++) {
        const struct mb_json_value *e = mb_json_value_get(p->at[i], "enum");
        one = mb_json_value_get(p->at[i], "const");
        many = e ? e : many;
    }
    if (one && fits(c, p, one, NULL)) {
        literal_paths(c, one, from, to);
    }
    if (!one && many->kind != MB_JSON_ARRAY) {
        mb_compiler_fail(c, MB_E_INVALID, "'enum' must be an array");
    }
    for (size_t i = 0; !one && many && i < many->n && !mb_compiler_stopped(c); i++) {
        if (fits(c, p, &many->items[i], many)) {
            literal_paths(c, &many->items[i], from, to);
        }
    }
}

void mb_constant_body(struct mb_compiler *c, const struct mb_rule_key *key, uint32_t rule)
{
    struct mb_grammar *g = c->g;
    const struct mb_json_value *v = key->at[0];
    uint32_t at = g->rules[rule].entry; /* before an element, or its name */
    g->states[at].flags |= v->n == 0 ? MB_NFA_CLOSE : 0;
    for (size_t i = 0; i < v->n && !mb_compiler_stopped(c); i++) {
        const struct mb_json_value *element = v->kind == MB_JSON_ARRAY ? &v->items[i] : NULL;
        if (v->kind == MB_JSON_OBJECT) {
            const struct mb_json_member *m = &v->members[i];
            uint32_t named = mb_grammar_state(g, rule, MB_NFA_GAP);
            uint32_t value = mb_grammar_state(g, rule, MB_NFA_GAP);
            mb_grammar_call(g, at, mb_literal_rule(g, m->name, m->n_name), named);
            mb_grammar_byte(g, named, ':', value);
            at = value;
            element = &m->value;
        }
        bool last = i + 1 == v->n;
        uint32_t end = mb_grammar_state(g, rule, MB_NFA_GAP | (last ? MB_NFA_CLOSE : 0));
        literal_paths(c, element, at, end);
        if (!last) {
            at = mb_grammar_state(g, rule, MB_NFA_GAP);
            mb_grammar_byte(g, end, ',', at);
        }
    }
}
