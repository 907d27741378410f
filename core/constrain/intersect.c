#include "core/constrain/intersect.h"

#include <assert.h>
#include <stdlib.h>

/* Pairs of states that were met, and the state of each: an open hash table, and the pairs in the
 * order of their states, which is the order in which they are worked on. */
struct pairs {
    struct mb_grammar *g;
    uint32_t rule, first; /* the first pair's state; the others follow */
    uint32_t n, cap;      /* cap is a power of two */
    uint64_t *pair;       /* [cap / 2] */
    uint32_t *slot;       /* [cap] 0 is empty, else 1 + the pair's number */
};

static uint32_t slot_of(const struct pairs *p, uint64_t pair)
{
    uint64_t h = pair * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t i = (uint32_t) (h >> 40) & (p->cap - 1);
    while (p->slot[i] != 0 && p->pair[p->slot[i] - 1] != pair) {
        i = (i + 1) & (p->cap - 1);
    }
    return i;
}

static bool grow(struct pairs *p)
{
    struct pairs larger = *p;
    larger.cap = p->cap ? 2 * p->cap : 1024;
    larger.pair = calloc(larger.cap / 2, sizeof larger.pair[0]);
    larger.slot = calloc(larger.cap, sizeof larger.slot[0]);
    if (!larger.pair || !larger.slot) {
        free(larger.pair);
        free(larger.slot);
        p->g->no_memory = true;
        return false;
    }
    for (uint32_t i = 0; i < p->n; i++) {
        larger.pair[i] = p->pair[i];
        larger.slot[slot_of(&larger, p->pair[i])] = i + 1;
    }
    free(p->pair);
    free(p->slot);
    *p = larger;
    return true;
}

/* The state of a pair, made when it is new. */
static uint32_t state_of(struct pairs *p, uint32_t a, uint32_t b)
{
    uint64_t pair = (uint64_t) a << 32 | b;
    if (p->g->overflow || p->g->no_memory || (p->n == p->cap / 2 && !grow(p))) {
        return p->first;
    }
    uint32_t i = slot_of(p, pair);
    if (p->slot[i] == 0) {
        unsigned flags = p->g->states[a].flags & p->g->states[b].flags;
        uint32_t s = p->n == 0 ? p->first : mb_grammar_state(p->g, p->rule, flags);
        if (p->g->overflow || p->g->no_memory) {
            return p->first;
        }
        assert(s == p->first + p->n);
        uint16_t x = p->g->states[a].free, y = p->g->states[b].free;
        p->g->states[s].flags = (uint8_t) flags;
        p->g->states[s].free = x < y ? x : y;
        p->pair[p->n++] = pair;
        p->slot[i] = p->n;
    }
    return p->first + p->slot[i] - 1;
}

/* What both can do from a pair: bytes together, steps without a byte each on its own. */
static void pair_edges(struct pairs *p, uint32_t from, uint32_t a, uint32_t b)
{
    struct mb_grammar *g = p->g;
    for (uint32_t i = g->states[a].edges; i != 0; i = g->edges[i].next) {
        const struct mb_nfa_edge x = g->edges[i]; /* a copy: edges may move */
        if (x.kind == MB_NFA_EPSILON) {
            mb_grammar_epsilon(g, from, state_of(p, x.to, b));
            continue;
        }
        for (uint32_t j = g->states[b].edges; j != 0; j = g->edges[j].next) {
            const struct mb_nfa_edge y = g->edges[j];
            uint8_t lo = x.lo > y.lo ? x.lo : y.lo, hi = x.hi < y.hi ? x.hi : y.hi;
            if (y.kind == MB_NFA_BYTES && lo <= hi) {
                mb_grammar_bytes(g, from, lo, hi, state_of(p, x.to, y.to));
            }
        }
    }
    for (uint32_t j = g->states[b].edges; j != 0; j = g->edges[j].next) {
        const struct mb_nfa_edge y = g->edges[j];
        if (y.kind == MB_NFA_EPSILON) {
            mb_grammar_epsilon(g, from, state_of(p, a, y.to));
        }
    }
}

uint32_t mb_rule_intersect(struct mb_grammar *g, uint32_t a, uint32_t b)
{
    uint32_t rule = mb_grammar_rule(g, MB_RULE_STRING);
    struct pairs p = { .g = g, .rule = rule, .first = g->rules[rule].entry };
    if (grow(&p)) {
        (void) state_of(&p, g->rules[a].entry, g->rules[b].entry);
        for (uint32_t i = 0; i < p.n && !g->overflow && !g->no_memory; i++) {
            pair_edges(&p, p.first + i, (uint32_t) (p.pair[i] >> 32), (uint32_t) p.pair[i]);
        }
    }
    free(p.pair);
    free(p.slot);
    return rule;
}
