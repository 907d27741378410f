#include "core/constrain/automaton.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    STATES_MAX = 4096,
    AFTER_MAX = 4096, /* a power of two */
    POOL_MIN = 1 << 17,
};

enum mb_status mb_automaton_init(struct mb_automaton *a, const struct mb_grammar *g,
                                 struct mb_error *err)
{
    *a = (struct mb_automaton) {
        .g = g,
        .n_states = MB_DFA_DEAD + 1,
        .states_max = STATES_MAX,
        .pool_max = 4 * g->n_states > POOL_MIN ? 4 * g->n_states : POOL_MIN,
        .states = calloc(STATES_MAX, sizeof a->states[0]),
        .next = calloc((size_t) STATES_MAX * g->n_classes, sizeof a->next[0]),
        .slots = calloc(2 * (size_t) STATES_MAX, sizeof a->slots[0]),
        .after = calloc(AFTER_MAX, sizeof a->after[0]),
        .state_stamp = calloc(g->n_states, sizeof a->state_stamp[0]),
        .rule_stamp = calloc(g->n_rules, sizeof a->rule_stamp[0]),
        .found = calloc(g->n_states, sizeof a->found[0]),
    };
    a->pool = calloc(a->pool_max, sizeof a->pool[0]);
    a->old_pool = calloc(a->pool_max, sizeof a->old_pool[0]);
    if (!a->states || !a->next || !a->slots || !a->after || !a->state_stamp || !a->rule_stamp ||
        !a->found || !a->pool || !a->old_pool) {
        mb_automaton_fini(a);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a schema's automaton");
    }
    return MB_OK;
}

void mb_automaton_fini(struct mb_automaton *a)
{
    free(a->states);
    free(a->next);
    free(a->slots);
    free(a->after);
    free(a->state_stamp);
    free(a->rule_stamp);
    free(a->found);
    free(a->pool);
    free(a->old_pool);
    *a = (struct mb_automaton) { 0 };
}

size_t mb_automaton_bytes(const struct mb_automaton *a)
{
    size_t state =
        sizeof a->states[0] + a->g->n_classes * sizeof a->next[0] + 2 * sizeof a->slots[0];
    return a->states_max * state + AFTER_MAX * sizeof a->after[0] +
           2 * (size_t) a->pool_max * sizeof a->pool[0] +
           a->g->n_states * (sizeof a->state_stamp[0] + sizeof a->found[0]) +
           a->g->n_rules * sizeof a->rule_stamp[0];
}

/* ---- sets -------------------------------------------------------------------------------- */

static void begin(struct mb_automaton *a)
{
    a->n_found = 0;
    if (++a->stamp == 0) { /* after 2^32 sets */
        memset(a->state_stamp, 0, a->g->n_states * sizeof a->state_stamp[0]);
        memset(a->rule_stamp, 0, a->g->n_rules * sizeof a->rule_stamp[0]);
        a->stamp = 1;
    }
}

/* Adds a state, and what it leads to without a byte, as far as there is room for it. found is its own
 * list of what is left to look at. */
static void add(struct mb_automaton *a, uint32_t state, uint8_t room)
{
    const struct mb_grammar *g = a->g;
    if (a->state_stamp[state] == a->stamp || g->states[state].need > room) {
        return;
    }
    uint32_t at = a->n_found;
    a->state_stamp[state] = a->stamp;
    a->found[a->n_found++] = state;
    for (; at < a->n_found; at++) {
        for (uint32_t i = g->states[a->found[at]].edges; i != 0; i = g->edges[i].next) {
            const struct mb_nfa_edge *e = &g->edges[i];
            a->budget--;
            if (e->kind == MB_NFA_EPSILON && a->state_stamp[e->to] != a->stamp &&
                g->states[e->to].need <= room) {
                a->state_stamp[e->to] = a->stamp;
                a->found[a->n_found++] = e->to;
            }
        }
    }
}

/* Does a state do anything but lead to others? */
static bool matters(const struct mb_grammar *g, uint32_t state)
{
    if (g->states[state].flags != 0) {
        return true;
    }
    for (uint32_t i = g->states[state].edges; i != 0; i = g->edges[i].next) {
        if (g->edges[i].kind != MB_NFA_EPSILON) {
            return true;
        }
    }
    return false;
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;
    return x < y ? -1 : x > y;
}

static uint32_t hash(const uint32_t *set, uint32_t n, uint8_t room)
{
    uint64_t h = room;
    for (uint32_t i = 0; i < n; i++) {
        h = (h ^ set[i]) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 29;
    }
    return (uint32_t) (h >> 20);
}

static uint32_t slot_of(const struct mb_automaton *a, const uint32_t *set, uint32_t n,
                        uint8_t room)
{
    uint32_t mask = 2 * a->states_max - 1, i = hash(set, n, room) & mask;
    for (; a->slots[i] != 0; i = (i + 1) & mask) {
        const struct mb_dfa_state *s = &a->states[a->slots[i]];
        if (s->n_set == n && s->room == room &&
            memcmp(&a->pool[s->set], set, n * sizeof *set) == 0) {
            break;
        }
    }
    return i;
}

/* The number of a set in ascending order. */
static uint32_t intern(struct mb_automaton *a, const uint32_t *set, uint32_t n, uint8_t room)
{
    uint32_t slot = slot_of(a, set, n, room);
    if (a->slots[slot] != 0) {
        return a->slots[slot];
    }
    if (a->n_states == a->states_max || n > a->pool_max - a->n_pool) {
        a->full = true;
        return MB_DFA_DEAD;
    }
    const struct mb_grammar *g = a->g;
    struct mb_dfa_state *s = &a->states[a->n_states];
    *s = (struct mb_dfa_state) { .set = a->n_pool, .n_set = n, .room = room };
    s->kind = (uint8_t) g->rules[g->states[set[0]].rule].kind;
    for (uint32_t i = 0; i < n; i++) {
        s->free = g->states[set[i]].free > s->free ? g->states[set[i]].free : s->free;
        s->closes = s->closes || (g->states[set[i]].flags & MB_NFA_CLOSE);
        s->accepts = s->accepts || (g->states[set[i]].flags & MB_NFA_ACCEPT);
        assert(g->rules[g->states[set[i]].rule].kind == s->kind);
    }
    memcpy(&a->pool[a->n_pool], set, n * sizeof *set);
    a->n_pool += n;
    a->slots[slot] = a->n_states;
    return a->n_states++;
}

/* The number of what was found. */
static uint32_t end(struct mb_automaton *a, uint8_t room)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < a->n_found; i++) {
        if (matters(a->g, a->found[i])) {
            a->found[n++] = a->found[i];
        }
    }
    if (n == 0) {
        return MB_DFA_DEAD;
    }
    qsort(a->found, n, sizeof a->found[0], ascending);
    return intern(a, a->found, n, room);
}

/* ---- moves ------------------------------------------------------------------------------- */

/* Remembers an answer, unless it was for want of room. */
static uint32_t remember(struct mb_automaton *a, uint32_t *place, uint32_t state)
{
    if (state != MB_DFA_DEAD || !a->full) {
        *place = state;
    }
    return state;
}

static bool spent(struct mb_automaton *a)
{
    a->full = a->full || a->budget <= 0;
    return a->budget <= 0;
}

uint32_t mb_automaton_start(struct mb_automaton *a)
{
    begin(a);
    add(a, a->g->rules[0].entry, a->g->need_max);
    return end(a, a->g->need_max);
}

uint32_t mb_automaton_step(struct mb_automaton *a, uint32_t state, uint8_t byte)
{
    const struct mb_grammar *g = a->g;
    uint32_t *place = &a->next[(size_t) state * g->n_classes + g->class_of[byte]];
    if (*place != MB_DFA_UNKNOWN) {
        return *place;
    }
    if (spent(a)) {
        return MB_DFA_DEAD;
    }
    const struct mb_dfa_state *s = &a->states[state];
    begin(a);
    for (uint32_t i = 0; i < s->n_set; i++) {
        uint32_t from = a->pool[s->set + i];
        for (uint32_t j = g->states[from].edges; j != 0; j = g->edges[j].next) {
            const struct mb_nfa_edge *e = &g->edges[j];
            a->budget--;
            if (e->kind == MB_NFA_BYTES && byte >= e->lo && byte <= e->hi) {
                add(a, e->to, s->room);
            }
        }
    }
    return remember(a, place, end(a, s->room));
}

/* Is it a call, and is there a way on behind it in a frame that has room? */
static bool callable(const struct mb_grammar *g, const struct mb_nfa_edge *e, uint8_t room)
{
    return e->kind == MB_NFA_CALL && g->states[e->to].need <= room;
}

uint32_t mb_automaton_open(struct mb_automaton *a, uint32_t state, enum mb_rule_kind kind,
                           uint8_t room)
{
    const struct mb_grammar *g = a->g;
    const struct mb_dfa_state *s = &a->states[state];
    assert(room == s->room || room + 1 == s->room);
    uint32_t *place = &a->states[state].open[kind][room == s->room];
    if (*place != MB_DFA_UNKNOWN) {
        return *place;
    }
    if (spent(a)) {
        return MB_DFA_DEAD;
    }
    begin(a);
    for (uint32_t i = 0; i < s->n_set; i++) {
        uint32_t from = a->pool[s->set + i];
        for (uint32_t j = g->states[from].edges; j != 0; j = g->edges[j].next) {
            const struct mb_nfa_edge *e = &g->edges[j];
            a->budget--;
            if (callable(g, e, s->room) && g->rules[e->rule].kind == kind) {
                add(a, g->rules[e->rule].entry, room);
            }
        }
    }
    return remember(a, place, end(a, room));
}

uint32_t mb_automaton_after(struct mb_automaton *a, uint32_t below, uint32_t top)
{
    const struct mb_grammar *g = a->g;
    uint32_t slot = (below * 0x9e3779b1u ^ top * 0x85ebca6bu) >> 20 & (AFTER_MAX - 1);
    struct mb_dfa_after *known = &a->after[slot];
    if (known->below == below && known->top == top) {
        return known->state;
    }
    if (spent(a)) {
        return MB_DFA_DEAD;
    }
    const struct mb_dfa_state *b = &a->states[below], *t = &a->states[top];
    begin(a);
    for (uint32_t i = 0; i < t->n_set; i++) {
        const struct mb_nfa_state *q = &g->states[a->pool[t->set + i]];
        if (q->flags & MB_NFA_CLOSE) {
            a->rule_stamp[q->rule] = a->stamp;
        }
    }
    for (uint32_t i = 0; i < b->n_set; i++) {
        uint32_t from = a->pool[b->set + i];
        for (uint32_t j = g->states[from].edges; j != 0; j = g->edges[j].next) {
            const struct mb_nfa_edge *e = &g->edges[j];
            a->budget--;
            if (callable(g, e, b->room) && a->rule_stamp[e->rule] == a->stamp) {
                add(a, e->to, b->room);
            }
        }
    }
    uint32_t state = end(a, b->room);
    if (state != MB_DFA_DEAD) {
        *known = (struct mb_dfa_after) { below, top, state };
    }
    return state;
}

uint32_t mb_automaton_gap(struct mb_automaton *a, uint32_t state)
{
    const struct mb_dfa_state *s = &a->states[state];
    if (s->gap != MB_DFA_UNKNOWN) {
        return s->gap;
    }
    if (spent(a)) {
        return MB_DFA_DEAD;
    }
    begin(a);
    for (uint32_t i = 0; i < s->n_set; i++) {
        uint32_t q = a->pool[s->set + i];
        if (a->g->states[q].flags & MB_NFA_GAP) {
            add(a, q, s->room);
        }
    }
    uint32_t gap = end(a, s->room);
    return remember(a, &a->states[state].gap, gap);
}

/* ---- room -------------------------------------------------------------------------------- */

bool mb_automaton_is_crowded(const struct mb_automaton *a)
{
    return a->n_states > a->states_max / 4 * 3 || a->n_pool > a->pool_max / 4 * 3;
}

void mb_automaton_reset(struct mb_automaton *a, uint32_t *const states[], size_t n)
{
    assert(n <= 2 * MB_GRAMMAR_DEPTH_MAX);
    struct {
        uint32_t set, n_set;
        uint8_t room;
    } kept[2 * MB_GRAMMAR_DEPTH_MAX];
    for (size_t i = 0; i < n; i++) {
        const struct mb_dfa_state *s = &a->states[*states[i]];
        kept[i].set = s->set;
        kept[i].n_set = s->n_set;
        kept[i].room = s->room;
    }
    uint32_t *pool = a->old_pool;
    a->old_pool = a->pool;
    a->pool = pool;
    a->n_pool = 0;
    memset(a->next, 0, (size_t) a->n_states * a->g->n_classes * sizeof a->next[0]);
    memset(a->slots, 0, 2 * (size_t) a->states_max * sizeof a->slots[0]);
    memset(a->after, 0, AFTER_MAX * sizeof a->after[0]);
    a->n_states = MB_DFA_DEAD + 1;
    a->full = false;
    for (size_t i = 0; i < n; i++) {
        *states[i] = intern(a, &a->old_pool[kept[i].set], kept[i].n_set, kept[i].room);
        assert(*states[i] != MB_DFA_DEAD);
    }
}
