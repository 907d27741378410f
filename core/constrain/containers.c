#include <stdlib.h>
#include <string.h>

#include "core/constrain/chars.h"
#include "core/constrain/compiler.h"

/* Schemas that apply to one member or element: at most one or two of each part. */
struct schemas {
    const struct mb_json_value *at[2 * MB_PARTS_MAX];
    size_t n;
};

static void put(struct schemas *s, const struct mb_json_value *v)
{
    if (v) {
        s->at[s->n++] = v;
    }
}

static const struct mb_json_value *get_object(struct mb_compiler *c,
                                              const struct mb_json_value *part,
                                              const char *keyword)
{
    const struct mb_json_value *v = mb_json_value_get(part, keyword);
    if (v && v->kind != MB_JSON_OBJECT) {
        mb_compiler_fail(c, MB_E_INVALID, "'%s' must be an object", keyword);
        return NULL;
    }
    return v;
}

static const struct mb_json_value *get_array(struct mb_compiler *c,
                                             const struct mb_json_value *part,
                                             const char *keyword)
{
    const struct mb_json_value *v = mb_json_value_get(part, keyword);
    if (v && v->kind != MB_JSON_ARRAY) {
        mb_compiler_fail(c, MB_E_INVALID, "'%s' must be an array", keyword);
        return NULL;
    }
    return v;
}

/* ---- objects ----------------------------------------------------------------------------- */

struct property {
    struct mb_name name;
    bool required;
};

struct object {
    struct property *at; /* [n], in the order in which they are named, and so written */
    size_t n, cap;
    bool open; /* members of other names may follow */
};

static struct property *find_property(struct mb_compiler *c, struct object *o, const char *name,
                                      size_t n)
{
    mb_compiler_work(c, 1 + o->n / 4);
    for (size_t i = 0; i < o->n; i++) {
        if (o->at[i].name.n == n && memcmp(o->at[i].name.at, name, n) == 0) {
            return &o->at[i];
        }
    }
    if (o->n == o->cap) {
        size_t cap = o->cap ? 2 * o->cap : 16;
        struct property *p = realloc(o->at, cap * sizeof *p);
        if (!p) {
            mb_compiler_fail(c, MB_E_NOMEM, "no memory");
            return NULL;
        }
        o->at = p;
        o->cap = cap;
    }
    o->at[o->n] = (struct property) { .name = { name, n } };
    return &o->at[o->n++];
}

static void gather(struct mb_compiler *c, const struct mb_rule_key *key, struct object *o)
{
    bool closed = false;
    for (uint32_t i = 0; i < key->n; i++) {
        const struct mb_json_value *properties = get_object(c, key->at[i], "properties");
        for (size_t j = 0; properties && j < properties->n && !mb_compiler_stopped(c); j++) {
            const struct mb_json_member *m = &properties->members[j];
            (void) find_property(c, o, m->name, m->n_name);
        }
        closed = closed || (properties && properties->n > 0);
        o->open = o->open || mb_json_value_get(key->at[i], "additionalProperties");
    }
    o->open = o->open || !closed;
    for (uint32_t i = 0; i < key->n && !mb_compiler_stopped(c); i++) {
        const struct mb_json_value *required = get_array(c, key->at[i], "required");
        for (size_t j = 0; required && j < required->n && !mb_compiler_stopped(c); j++) {
            const struct mb_json_value *name = &required->items[j];
            if (name->kind != MB_JSON_STRING || memchr(name->text, '\0', name->n)) {
                mb_compiler_fail(c, MB_E_INVALID, "'required' must hold names, without zeros");
                return;
            }
            struct property *p = find_property(c, o, name->text, name->n);
            if (p) {
                p->required = true;
            }
        }
    }
}

/* The schemas of a member: where a part does not name it, its additionalProperties. */
static struct schemas member_schemas(struct mb_compiler *c, const struct mb_rule_key *key,
                                     const char *name)
{
    struct schemas s = { .n = 0 };
    for (uint32_t i = 0; i < key->n; i++) {
        const struct mb_json_value *properties = mb_json_value_get(key->at[i], "properties");
        mb_compiler_work(c, key->at[i]->n + (name && properties ? properties->n / 4 : 0));
        const struct mb_json_value *own =
            name && properties ? mb_json_value_get(properties, name) : NULL;
        put(&s, own ? own : mb_json_value_get(key->at[i], "additionalProperties"));
    }
    return s;
}

/* A member from either of two states (before the first, behind a comma) to a state after. */
static void member_paths(struct mb_compiler *c, uint32_t rule, uint32_t first, uint32_t next,
                         uint32_t name_rule, const struct schemas *s, uint32_t after)
{
    uint32_t named = mb_grammar_state(c->g, rule, MB_NFA_GAP);
    uint32_t value = mb_grammar_state(c->g, rule, MB_NFA_GAP);
    mb_grammar_call(c->g, first, name_rule, named);
    if (next != first) {
        mb_grammar_call(c->g, next, name_rule, named);
    }
    mb_grammar_byte(c->g, named, ':', value);
    mb_value_paths(c, s->at, s->n, value, after);
}

static void other_members(struct mb_compiler *c, const struct mb_rule_key *key, uint32_t rule,
                          const struct object *o, uint32_t first, uint32_t next, uint32_t after)
{
    struct mb_name *names = calloc(o->n + 1, sizeof *names);
    if (!names) {
        mb_compiler_fail(c, MB_E_NOMEM, "no memory");
        return;
    }
    for (size_t i = 0; i < o->n; i++) {
        names[i] = o->at[i].name;
    }
    struct schemas s = member_schemas(c, key, NULL);
    uint32_t name_rule = mb_other_name_rule(c->g, names, o->n);
    free(names);
    if (!mb_compiler_stopped(c)) {
        mb_grammar_byte(c->g, after, ',', next);
        member_paths(c, rule, first, next, name_rule, &s, after);
    }
}

/* For member i of n: first[i] is before it when there was none yet, next[i] behind a comma, and after[i]
 * where the one before it ended. A member that is not required may be passed over:
 *
 *     first[i] -> first[i+1]     next[i] -> next[i+1]     first[i], next[i] --i--> after[i+1]
 *     after[i] -,-> next[i]      after[i] closes when none of i.. is required */
static void write_object(struct mb_compiler *c, const struct mb_rule_key *key, uint32_t rule,
                         const struct object *o)
{
    struct mb_grammar *g = c->g;
    uint32_t first = g->rules[rule].entry, next = first, after = first;
    size_t last_required = 0; /* 1 + its number */
    for (size_t i = 0; i < o->n; i++) {
        last_required = o->at[i].required ? i + 1 : last_required;
    }
    bool none_yet = true; /* so far all could be passed over, so that first[i] is reached */
    for (size_t i = 0; i < o->n && !mb_compiler_stopped(c); i++) {
        const struct property *p = &o->at[i];
        struct schemas s = member_schemas(c, key, p->name.at);
        uint32_t name_rule = mb_literal_rule(g, p->name.at, p->name.n);
        uint32_t end =
            mb_grammar_state(g, rule, MB_NFA_GAP | (i + 1 >= last_required ? MB_NFA_CLOSE : 0));
        member_paths(c, rule, none_yet ? first : next, next, name_rule, &s, end);
        uint32_t then = mb_grammar_state(g, rule, MB_NFA_GAP);
        if (!p->required && next != g->rules[rule].entry) {
            mb_grammar_epsilon(g, next, then);
        }
        if (!p->required && none_yet) {
            uint32_t skipped = mb_grammar_state(g, rule, MB_NFA_GAP);
            mb_grammar_epsilon(g, first, skipped);
            first = skipped;
        }
        none_yet = none_yet && !p->required;
        mb_grammar_byte(g, end, ',', then);
        next = then;
        after = end;
    }
    if (none_yet) {
        g->states[first].flags |= MB_NFA_CLOSE;
    }
    if (o->open) {
        bool any = o->n > 0;
        after = any ? after : mb_grammar_state(g, rule, MB_NFA_GAP | MB_NFA_CLOSE);
        next = any ? next : mb_grammar_state(g, rule, MB_NFA_GAP);
        other_members(c, key, rule, o, none_yet ? first : next, next, after);
    }
}

void mb_object_body(struct mb_compiler *c, const struct mb_rule_key *key, uint32_t rule)
{
    struct object o = { 0 };
    gather(c, key, &o);
    if (!mb_compiler_stopped(c)) {
        write_object(c, key, rule, &o);
    }
    free(o.at);
}

/* ---- arrays ------------------------------------------------------------------------------ */

struct array {
    uint32_t n_prefix; /* elements with schemas of their own */
    uint32_t min, max; /* max UINT32_MAX: no limit */
};

/* Elements that have their own schemas in a part: "prefixItems", or "items" in its old form. */
static const struct mb_json_value *prefix_of(const struct mb_json_value *part)
{
    const struct mb_json_value *items = mb_json_value_get(part, "items");
    return items && items->kind == MB_JSON_ARRAY ? items
                                                 : mb_json_value_get(part, "prefixItems");
}

static struct array gather_array(struct mb_compiler *c, const struct mb_rule_key *key)
{
    struct array a = { .max = UINT32_MAX };
    for (uint32_t i = 0; i < key->n; i++) {
        (void) get_array(c, key->at[i], "prefixItems");
        const struct mb_json_value *prefix = prefix_of(key->at[i]);
        uint32_t n = 0;
        if (prefix && prefix->n > a.n_prefix) {
            a.n_prefix = prefix->n < UINT32_MAX ? (uint32_t) prefix->n : UINT32_MAX;
        }
        if (mb_part_count(c, key->at[i], "minItems", &n) && n > a.min) {
            a.min = n;
        }
        if (mb_part_count(c, key->at[i], "maxItems", &n) && n < a.max) {
            a.max = n;
        }
    }
    return a;
}

static struct schemas element_schemas(const struct mb_rule_key *key, uint32_t at)
{
    struct schemas s = { .n = 0 };
    for (uint32_t i = 0; i < key->n; i++) {
        const struct mb_json_value *prefix = prefix_of(key->at[i]);
        const struct mb_json_value *items = mb_json_value_get(key->at[i], "items");
        if (items && items->kind == MB_JSON_ARRAY) {
            items = mb_json_value_get(key->at[i], "additionalItems");
        }
        put(&s, prefix && at < prefix->n ? &prefix->items[at] : items);
    }
    return s;
}

void mb_array_body(struct mb_compiler *c, const struct mb_rule_key *key, uint32_t rule)
{
    struct mb_grammar *g = c->g;
    struct array a = gather_array(c, key);
    uint32_t n = a.n_prefix > a.min ? a.n_prefix : a.min; /* elements that are told apart */
    n = a.max != UINT32_MAX ? a.max : n;
    uint32_t before = g->rules[rule].entry;
    g->states[before].flags |= a.min == 0 ? MB_NFA_CLOSE : 0;
    uint32_t end = before;
    for (uint32_t i = 0; i < n && !mb_compiler_stopped(c); i++) {
        struct schemas s = element_schemas(key, i);
        end = mb_grammar_state(g, rule, MB_NFA_GAP | (i + 1 >= a.min ? MB_NFA_CLOSE : 0));
        mb_value_paths(c, s.at, s.n, before, end);
        if (i + 1 < a.max) {
            before = mb_grammar_state(g, rule, MB_NFA_GAP);
            mb_grammar_byte(g, end, ',', before);
        }
    }
    if (a.max == UINT32_MAX && !mb_compiler_stopped(c)) {
        struct schemas s = element_schemas(key, UINT32_MAX);
        uint32_t more = mb_grammar_state(g, rule, MB_NFA_GAP | MB_NFA_CLOSE);
        uint32_t then = mb_grammar_state(g, rule, MB_NFA_GAP);
        mb_value_paths(c, s.at, s.n, before, more);
        mb_grammar_byte(g, more, ',', then);
        mb_value_paths(c, s.at, s.n, then, more);
    }
}
