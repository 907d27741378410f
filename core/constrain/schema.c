#include "core/constrain/schema.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/constrain/compiler.h"

void mb_compiler_fail(struct mb_compiler *c, enum mb_status st, const char *fmt, ...)
{
    char what[300];
    va_list args;
    va_start(args, fmt);
    (void) vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    if (c->status == MB_OK) {
        c->status = mb_fail(c->err, st, 0, "schema: %s", what);
    }
}

void mb_compiler_work(struct mb_compiler *c, uint64_t units)
{
    c->work += units;
    if (c->work > MB_COMPILE_WORK_MAX) {
        mb_compiler_fail(c, MB_E_LIMIT, "too large: it takes too long to look through");
    }
}

bool mb_compiler_stopped(const struct mb_compiler *c)
{
    return c->status != MB_OK || c->g->overflow || c->g->no_memory;
}

/* ---- values ------------------------------------------------------------------------------ */

void mb_call_paths(struct mb_compiler *c, const struct mb_rule_key *key, uint32_t from,
                   uint32_t to)
{
    uint32_t rule = mb_memo_rule(c, key);
    if (!mb_compiler_stopped(c)) {
        mb_grammar_call(c->g, from, rule, to);
    }
}

/* Keys hold the parts in the order in which they were met, not by address: the order of members, and
 * so what a seed draws, is the schema's alone (A1). */
static void container_paths(struct mb_compiler *c, const struct mb_parts *p,
                            enum mb_key_kind kind, uint32_t from, uint32_t to)
{
    struct mb_rule_key key = { .kind = kind, .n = p->n };
    memcpy(key.at, p->at, p->n * sizeof p->at[0]);
    mb_call_paths(c, &key, from, to);
}

/* All references and choices are taken: what is left are the keywords of the parts. */
static void plain_paths(struct mb_compiler *c, const struct mb_parts *p, uint32_t from,
                        uint32_t to)
{
    for (size_t i = 0; i < p->n; i++) {
        mb_compiler_work(c, MB_KEYWORD_WORK * p->at[i]->n);
    }
    if (mb_parts_have_constants(p)) {
        mb_constant_paths(c, p, from, to);
        return;
    }
    unsigned types = mb_parts_types(c, p);
    if (types & MB_TYPE_NULL) {
        mb_grammar_spell(c->g, from, "null", 4, to);
    }
    if (types & MB_TYPE_BOOLEAN) {
        mb_grammar_spell(c->g, from, "true", 4, to);
        mb_grammar_spell(c->g, from, "false", 5, to);
    }
    if (types & (MB_TYPE_INTEGER | MB_TYPE_NUMBER)) {
        mb_number_paths(c, p, !(types & MB_TYPE_NUMBER), from, to);
    }
    if (types & MB_TYPE_STRING) {
        mb_string_paths(c, p, from, to);
    }
    if (types & MB_TYPE_ARRAY) {
        container_paths(c, p, MB_KEY_ARRAY, from, to);
    }
    if (types & MB_TYPE_OBJECT) {
        container_paths(c, p, MB_KEY_OBJECT, from, to);
    }
}

/* Depth of recursion: each level takes one more anyOf or oneOf of at most MB_PARTS_MAX parts. */
static void alternative_paths(struct mb_compiler *c, struct mb_parts *p, uint32_t from,
                              uint32_t to)
{
    if (mb_compiler_stopped(c)) {
        return;
    }
    unsigned owner;
    const struct mb_json_value *choice = p->never ? NULL : mb_parts_choice(p, &owner);
    if (!choice && ++c->n_alternatives > MB_ALTERNATIVES_MAX) {
        mb_compiler_fail(c, MB_E_LIMIT, "too many combinations of 'anyOf'");
        return;
    }
    if (p->never) {
        return;
    }
    if (!choice) {
        plain_paths(c, p, from, to);
        return;
    }
    if (choice->kind != MB_JSON_ARRAY || choice->n == 0) {
        mb_compiler_fail(c, MB_E_INVALID, "'anyOf' and 'oneOf' must be arrays, not empty");
        return;
    }
    for (size_t i = 0; i < choice->n && !mb_compiler_stopped(c); i++) {
        struct mb_parts one = *p;
        mb_parts_add(c, &one, &choice->items[i], owner);
        alternative_paths(c, &one, from, to);
    }
}

void mb_value_paths(struct mb_compiler *c, const struct mb_json_value *const *schemas, size_t n,
                    uint32_t from, uint32_t to)
{
    struct mb_parts p = { .n = 0 };
    for (size_t i = 0; i < n && !mb_compiler_stopped(c); i++) {
        mb_parts_add(c, &p, schemas[i], MB_PARTS_MAX);
    }
    alternative_paths(c, &p, from, to);
}

/* ---- the whole --------------------------------------------------------------------------- */

static void write_body(struct mb_compiler *c, const struct mb_rule_key *key, uint32_t rule)
{
    switch (key->kind) {
    case MB_KEY_OBJECT:
        mb_object_body(c, key, rule);
        break;
    case MB_KEY_ARRAY:
        mb_array_body(c, key, rule);
        break;
    case MB_KEY_CONSTANT:
        mb_constant_body(c, key, rule);
        break;
    case MB_KEY_STRING:
        break; /* written when it was made */
    }
}

static void compile(struct mb_compiler *c)
{
    struct mb_grammar *g = c->g;
    uint32_t end = mb_grammar_state(g, 0, MB_NFA_ACCEPT);
    mb_value_paths(c, &c->root, 1, g->rules[0].entry, end);
    struct mb_rule_memo *m = &c->memo;
    while (m->n_written < m->n && !mb_compiler_stopped(c)) {
        struct mb_memo_entry e = m->at[m->n_written++];
        write_body(c, e.key, e.rule);
    }
}

enum mb_status mb_schema_compile(const struct mb_json_value *schema, struct mb_grammar *ret,
                                 struct mb_error *err)
{
    static char type[] = "type", object[] = "object";
    struct mb_json_member any_member = { .name = type, .n_name = 4 };
    any_member.value =
        (struct mb_json_value) { .kind = MB_JSON_STRING, .n = 6, .text = object };
    struct mb_json_value any = { .kind = MB_JSON_OBJECT, .n = 1, .members = &any_member };

    struct mb_grammar g;
    struct mb_compiler c = { .root = schema ? schema : &any, .g = &g, .err = err };
    if (mb_grammar_init(&g)) {
        compile(&c);
    }
    for (uint32_t i = 0; i < c.memo.n; i++) {
        free(c.memo.at[i].key);
    }
    free(c.memo.at);
    free(c.memo.slots);
    enum mb_status st = c.status != MB_OK ? c.status : mb_grammar_finish(&g, err);
    if (st != MB_OK) {
        mb_grammar_fini(&g);
        return st;
    }
    *ret = g;
    return MB_OK;
}
