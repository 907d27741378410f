#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/constrain/compiler.h"

static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ (h >> 29);
}

static uint32_t hash(const struct mb_rule_key *k)
{
    uint64_t h = mix(mix(mix(k->kind, k->min), k->max), k->n);
    for (uint32_t i = 0; i < k->n; i++) {
        h = mix(h, (uintptr_t) k->at[i]);
    }
    return (uint32_t) (h >> 32);
}

static bool equal(const struct mb_rule_key *a, const struct mb_rule_key *b)
{
    return a->kind == b->kind && a->min == b->min && a->max == b->max && a->n == b->n &&
           memcmp(a->at, b->at, a->n * sizeof a->at[0]) == 0;
}

static uint32_t slot_of(const struct mb_rule_memo *m, const struct mb_rule_key *key)
{
    uint32_t mask = 2 * m->cap - 1, i = hash(key) & mask;
    while (m->slots[i] != 0 && !equal(m->at[m->slots[i] - 1].key, key)) {
        i = (i + 1) & mask;
    }
    return i;
}

static bool grow(struct mb_rule_memo *m)
{
    uint32_t cap = m->cap ? 2 * m->cap : 64;
    struct mb_memo_entry *at = realloc(m->at, cap * sizeof *at);
    if (!at) {
        return false;
    }
    m->at = at;
    uint32_t *slots = calloc(2 * (size_t) cap, sizeof *slots);
    if (!slots) {
        return false;
    }
    free(m->slots);
    m->slots = slots;
    m->cap = cap;
    for (uint32_t i = 0; i < m->n; i++) {
        m->slots[slot_of(m, m->at[i].key)] = i + 1;
    }
    return true;
}

/* A key as small as it is: most have one schema. */
static struct mb_rule_key *copy_of(const struct mb_rule_key *key)
{
    size_t n = offsetof(struct mb_rule_key, at) + key->n * sizeof key->at[0];
    struct mb_rule_key *copy = malloc(n);
    if (copy) {
        memcpy(copy, key, n);
    }
    return copy;
}

static uint32_t new_rule(struct mb_compiler *c, const struct mb_rule_key *key)
{
    switch (key->kind) {
    case MB_KEY_OBJECT:
        return mb_grammar_rule(c->g, MB_RULE_OBJECT);
    case MB_KEY_ARRAY:
        return mb_grammar_rule(c->g, MB_RULE_ARRAY);
    case MB_KEY_CONSTANT:
        return mb_grammar_rule(c->g, key->at[0]->kind == MB_JSON_OBJECT ? MB_RULE_OBJECT
                                                                        : MB_RULE_ARRAY);
    default:
        return mb_string_body(c, key);
    }
}

uint32_t mb_memo_rule(struct mb_compiler *c, const struct mb_rule_key *key)
{
    struct mb_rule_memo *m = &c->memo;
    if (m->n == m->cap && !grow(m)) {
        mb_compiler_fail(c, MB_E_NOMEM, "no memory");
        return 0;
    }
    uint32_t slot = slot_of(m, key);
    if (m->slots[slot] != 0) {
        return m->at[m->slots[slot] - 1].rule;
    }
    struct mb_rule_key *copy = copy_of(key);
    if (!copy) {
        mb_compiler_fail(c, MB_E_NOMEM, "no memory");
        return 0;
    }
    m->slots[slot] = m->n + 1;
    m->at[m->n] = (struct mb_memo_entry) { copy, 0 };
    uint32_t i = m->n++;
    m->at[i].rule = new_rule(c, copy);
    return m->at[i].rule;
}
