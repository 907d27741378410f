#include "core/constrain/grammar.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Makes room for one more of n; false on overflow, which is noted. */
static bool grow(struct mb_grammar *g, void **at, uint32_t *cap, uint32_t n, size_t size,
                 uint32_t max)
{
    if (n < *cap) {
        return true;
    }
    if (n >= max) {
        g->overflow = true;
        return false;
    }
    uint32_t larger = *cap ? 2 * *cap : 64;
    larger = larger < max ? larger : max;
    void *p = realloc(*at, larger * size);
    if (!p) {
        g->no_memory = true;
        return false;
    }
    *at = p;
    *cap = larger;
    return true;
}

bool mb_grammar_init(struct mb_grammar *g)
{
    *g = (struct mb_grammar) { .n_edges = 1 };
    g->states = calloc(64, sizeof g->states[0]);
    g->edges = calloc(64, sizeof g->edges[0]);
    g->rules = calloc(64, sizeof g->rules[0]);
    if (!g->states || !g->edges || !g->rules) {
        mb_grammar_fini(g);
        g->no_memory = true;
        return false;
    }
    g->states_cap = g->edges_cap = g->rules_cap = 64;
    (void) mb_grammar_rule(g, MB_RULE_ROOT);
    return true;
}

void mb_grammar_fini(struct mb_grammar *g)
{
    free(g->states);
    free(g->edges);
    free(g->rules);
    *g = (struct mb_grammar) { 0 };
}

uint32_t mb_grammar_rule(struct mb_grammar *g, enum mb_rule_kind kind)
{
    if (!grow(g, (void **) &g->rules, &g->rules_cap, g->n_rules, sizeof g->rules[0],
              MB_GRAMMAR_STATES_MAX)) {
        return 0;
    }
    uint32_t rule = g->n_rules++;
    g->rules[rule] = (struct mb_rule) { .kind = kind };
    uint32_t entry = mb_grammar_state(g, rule, kind == MB_RULE_STRING ? 0 : MB_NFA_GAP);
    g->rules[rule].entry = entry;
    return rule;
}

uint32_t mb_grammar_state(struct mb_grammar *g, uint32_t rule, unsigned flags)
{
    if (!grow(g, (void **) &g->states, &g->states_cap, g->n_states, sizeof g->states[0],
              MB_GRAMMAR_STATES_MAX)) {
        return 0;
    }
    g->states[g->n_states] = (struct mb_nfa_state) { .rule = rule, .flags = (uint8_t) flags };
    return g->n_states++;
}

static void edge(struct mb_grammar *g, uint32_t from, struct mb_nfa_edge e)
{
    if (g->overflow || !grow(g, (void **) &g->edges, &g->edges_cap, g->n_edges,
                             sizeof g->edges[0], MB_GRAMMAR_EDGES_MAX)) {
        return;
    }
    e.next = g->states[from].edges;
    g->edges[g->n_edges] = e;
    g->states[from].edges = g->n_edges++;
}

void mb_grammar_epsilon(struct mb_grammar *g, uint32_t from, uint32_t to)
{
    edge(g, from, (struct mb_nfa_edge) { .to = to, .kind = MB_NFA_EPSILON });
}

void mb_grammar_bytes(struct mb_grammar *g, uint32_t from, uint8_t lo, uint8_t hi, uint32_t to)
{
    assert(lo <= hi);
    edge(g, from, (struct mb_nfa_edge) { .to = to, .kind = MB_NFA_BYTES, .lo = lo, .hi = hi });
}

void mb_grammar_byte(struct mb_grammar *g, uint32_t from, uint8_t byte, uint32_t to)
{
    mb_grammar_bytes(g, from, byte, byte, to);
}

void mb_grammar_call(struct mb_grammar *g, uint32_t from, uint32_t rule, uint32_t to)
{
    edge(g, from, (struct mb_nfa_edge) { .to = to, .kind = MB_NFA_CALL, .rule = rule });
}

void mb_grammar_spell(struct mb_grammar *g, uint32_t from, const void *at, size_t n,
                      uint32_t to)
{
    const uint8_t *text = at;
    if (n == 0) {
        mb_grammar_epsilon(g, from, to);
        return;
    }
    for (size_t i = 0; i + 1 < n; i++) {
        uint32_t next = mb_grammar_state(g, g->states[from].rule, 0);
        mb_grammar_byte(g, from, text[i], next);
        from = next;
    }
    mb_grammar_byte(g, from, text[n - 1], to);
}

/* ---- need -------------------------------------------------------------------------------- */

/* Edges by where they lead, and calls by the rule they call: to walk backwards. */
struct backward {
    uint32_t *from;       /* [n_edges] the state that an edge leaves */
    uint32_t *of_state;   /* [n_states] the first edge that leads there */
    uint32_t *next_state; /* [n_edges] */
    uint32_t *of_rule;    /* [n_rules] the first edge that calls it */
    uint32_t *next_rule;  /* [n_edges] */
    uint32_t *work;       /* [n_states] */
    uint8_t *rule_need;   /* [n_rules] */
};

static void backward_fini(struct backward *b)
{
    free(b->from);
    free(b->of_state);
    free(b->next_state);
    free(b->of_rule);
    free(b->next_rule);
    free(b->work);
    free(b->rule_need);
}

static bool backward_init(struct backward *b, const struct mb_grammar *g)
{
    *b = (struct backward) {
        .from = calloc(g->n_edges, sizeof(uint32_t)),
        .of_state = calloc(g->n_states, sizeof(uint32_t)),
        .next_state = calloc(g->n_edges, sizeof(uint32_t)),
        .of_rule = calloc(g->n_rules, sizeof(uint32_t)),
        .next_rule = calloc(g->n_edges, sizeof(uint32_t)),
        .work = calloc(g->n_states, sizeof(uint32_t)),
        .rule_need = malloc(g->n_rules),
    };
    if (!b->from || !b->of_state || !b->next_state || !b->of_rule || !b->next_rule ||
        !b->work || !b->rule_need) {
        backward_fini(b);
        return false;
    }
    memset(b->rule_need, MB_GRAMMAR_NEVER, g->n_rules);
    for (uint32_t s = 0; s < g->n_states; s++) {
        for (uint32_t i = g->states[s].edges; i != 0; i = g->edges[i].next) {
            const struct mb_nfa_edge *e = &g->edges[i];
            b->from[i] = s;
            b->next_state[i] = b->of_state[e->to];
            b->of_state[e->to] = i;
            if (e->kind == MB_NFA_CALL) {
                b->next_rule[i] = b->of_rule[e->rule];
                b->of_rule[e->rule] = i;
            }
        }
    }
    return true;
}

/* Can the edge be gone with at most need frames? Its end can. */
static bool passable(const struct mb_grammar *g, const struct backward *b, uint32_t edge,
                     unsigned need)
{
    const struct mb_nfa_edge *e = &g->edges[edge];
    return e->kind != MB_NFA_CALL || b->rule_need[e->rule] < need;
}

static uint32_t reach(struct mb_grammar *g, struct backward *b, uint32_t state, unsigned need,
                      uint32_t n_work)
{
    if (g->states[state].need == MB_GRAMMAR_NEVER) {
        g->states[state].need = (uint8_t) need;
        b->work[n_work++] = state;
    }
    return n_work;
}

/* The states whose need is this, when those of less are known: what reaches an end, or one of
 * them, over edges that need no more. */
static void need_level(struct mb_grammar *g, struct backward *b, unsigned need)
{
    uint32_t n_work = 0;
    for (uint32_t s = 0; s < g->n_states && need == 0; s++) {
        if (g->states[s].flags & (MB_NFA_CLOSE | MB_NFA_ACCEPT)) {
            n_work = reach(g, b, s, need, n_work);
        }
    }
    for (uint32_t r = 0; r < g->n_rules && need > 0; r++) {
        for (uint32_t i = b->of_rule[r]; i != 0 && b->rule_need[r] == need - 1;
             i = b->next_rule[i]) {
            if (g->states[g->edges[i].to].need != MB_GRAMMAR_NEVER) {
                n_work = reach(g, b, b->from[i], need, n_work);
            }
        }
    }
    while (n_work > 0) {
        uint32_t s = b->work[--n_work];
        for (uint32_t i = b->of_state[s]; i != 0; i = b->next_state[i]) {
            if (passable(g, b, i, need)) {
                n_work = reach(g, b, b->from[i], need, n_work);
            }
        }
    }
    for (uint32_t r = 0; r < g->n_rules; r++) {
        if (b->rule_need[r] == MB_GRAMMAR_NEVER) {
            b->rule_need[r] = g->states[g->rules[r].entry].need;
        }
    }
}

/* need[s] = min over ways from s to the end of its rule of the max over their calls of
 * 1 + need[entry of the rule called]. */
static bool find_needs(struct mb_grammar *g)
{
    struct backward b;
    if (!backward_init(&b, g)) {
        return false;
    }
    for (uint32_t s = 0; s < g->n_states; s++) {
        g->states[s].need = MB_GRAMMAR_NEVER;
    }
    for (unsigned need = 0; need <= MB_GRAMMAR_DEPTH_MAX; need++) {
        need_level(g, &b, need);
    }
    g->need_max = 0;
    for (uint32_t s = 0; s < g->n_states; s++) {
        uint8_t need = g->states[s].need;
        g->need_max = need != MB_GRAMMAR_NEVER && need > g->need_max ? need : g->need_max;
    }
    backward_fini(&b);
    return true;
}

/* ---- classes ----------------------------------------------------------------------------- */

static void find_classes(struct mb_grammar *g)
{
    /* Bytes that mean something without an edge: brackets and white space. */
    static const uint8_t apart[] = "{}[]\" \n\t";
    bool begins[257] = { false };
    for (size_t i = 0; i + 1 < sizeof apart; i++) {
        begins[apart[i]] = begins[apart[i] + 1] = true;
    }
    for (uint32_t i = 1; i < g->n_edges; i++) {
        const struct mb_nfa_edge *e = &g->edges[i];
        if (e->kind == MB_NFA_BYTES) {
            begins[e->lo] = begins[e->hi + 1] = true;
        }
    }
    g->n_classes = 0;
    for (unsigned byte = 0; byte < 256; byte++) {
        if (byte == 0 || begins[byte]) {
            g->class_byte[g->n_classes++] = (uint8_t) byte;
        }
        g->class_of[byte] = (uint8_t) (g->n_classes - 1);
    }
}

enum mb_status mb_grammar_finish(struct mb_grammar *g, struct mb_error *err)
{
    if (g->no_memory) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for the grammar of a schema");
    }
    if (g->overflow) {
        return mb_fail(err, MB_E_LIMIT, 0,
                       "the schema is too large: its automaton has more than %u states",
                       MB_GRAMMAR_STATES_MAX);
    }
    if (!find_needs(g)) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for the grammar of a schema");
    }
    if (g->states[g->rules[0].entry].need >= MB_GRAMMAR_DEPTH_MAX) {
        return mb_fail(err, MB_E_INVALID, 0,
                       "no value of at most %d levels is valid: the schema contradicts itself, "
                       "or its recursion has no end",
                       MB_GRAMMAR_DEPTH_MAX);
    }
    find_classes(g);
    return MB_OK;
}
