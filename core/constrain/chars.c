#include "core/constrain/chars.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- sets -------------------------------------------------------------------------------- */

bool mb_char_set_add(struct mb_char_set *s, uint32_t lo, uint32_t hi)
{
    assert(lo <= hi && hi <= MB_CHAR_MAX);
    size_t first = 0;
    while (first < s->n && s->at[first].hi + 1 < lo) {
        first++;
    }
    size_t last = first; /* [first, last) touch lo..hi, and melt into it */
    while (last < s->n && s->at[last].lo <= hi + 1) {
        lo = s->at[last].lo < lo ? s->at[last].lo : lo;
        hi = s->at[last].hi > hi ? s->at[last].hi : hi;
        last++;
    }
    if (first == last && s->n == MB_CHAR_RANGES_MAX) {
        return false;
    }
    memmove(&s->at[first + 1], &s->at[last], (s->n - last) * sizeof s->at[0]);
    s->at[first] = (struct mb_char_range) { lo, hi };
    s->n = s->n - (last - first) + 1;
    return true;
}

bool mb_char_set_invert(struct mb_char_set *s)
{
    struct mb_char_set r = { .n = 0 };
    uint32_t at = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (s->at[i].lo > at && !mb_char_set_add(&r, at, s->at[i].lo - 1)) {
            return false;
        }
        at = s->at[i].hi + 1;
    }
    if (at <= MB_CHAR_MAX && !mb_char_set_add(&r, at, MB_CHAR_MAX)) {
        return false;
    }
    *s = r;
    return true;
}

/* ---- paths ------------------------------------------------------------------------------- */

/* Paths from one state to another; tail[k] is the state before k bytes that go on with a
 * character and may be anything, which all its paths share. */
struct path {
    struct mb_grammar *g;
    uint32_t rule, from, to;
    uint32_t tail[4];
    bool has_tail[4];
};

static uint32_t state(struct path *p)
{
    return mb_grammar_state(p->g, p->rule, 0);
}

static uint32_t tail(struct path *p, unsigned k)
{
    if (k == 0) {
        return p->to;
    }
    if (!p->has_tail[k]) {
        p->tail[k] = state(p);
        p->has_tail[k] = true;
        mb_grammar_bytes(p->g, p->tail[k], 0x80, 0xbf, tail(p, k - 1));
    }
    return p->tail[k];
}

static unsigned encode(uint32_t c, uint8_t ret[4])
{
    if (c < 0x80) {
        ret[0] = (uint8_t) c;
        return 1;
    }
    unsigned n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (unsigned i = n - 1; i > 0; i--, c >>= 6) {
        ret[i] = (uint8_t) (0x80 | (c & 0x3f));
    }
    ret[0] = (uint8_t) (c | (0xf00u >> n));
    return n;
}

/* All of lo..hi have as many bytes, and each byte ranges on its own. */
static void spell_range(struct path *p, uint32_t lo, uint32_t hi)
{
    uint8_t a[4], b[4];
    unsigned n = encode(lo, a), whole = n;
    (void) encode(hi, b);
    while (whole > 1 && a[whole - 1] == 0x80 && b[whole - 1] == 0xbf) {
        whole--;
    }
    uint32_t at = p->from;
    for (unsigned i = 0; i < whole; i++) {
        uint32_t next = i + 1 == whole ? tail(p, n - whole) : state(p);
        mb_grammar_bytes(p->g, at, a[i], b[i], next);
        at = next;
    }
}

/* Cuts lo..hi where the number of bytes changes, where surrogates are, and until every byte ranges
 * on its own. The stack holds what is left to do; each cut makes at most two of it, and there are
 * at most four levels. */
static void utf8_range(struct path *p, uint32_t lo, uint32_t hi)
{
    static const uint32_t ends[] = { 0x7f, 0x7ff, 0xd7ff, 0xdfff, 0xffff, MB_CHAR_MAX };
    struct mb_char_range left[32] = { { lo, hi } };
    size_t n_left = 1;
    while (n_left > 0) {
        struct mb_char_range r = left[--n_left];
        uint32_t cut = 0; /* the first of the second half */
        for (size_t i = 0; i < sizeof ends / sizeof ends[0] && cut == 0; i++) {
            cut = r.lo <= ends[i] && r.hi > ends[i] ? ends[i] + 1 : 0;
        }
        for (unsigned bits = 6; bits <= 18 && cut == 0 && r.lo > 0x7f; bits += 6) {
            uint32_t mask = (1u << bits) - 1;
            if ((r.lo & ~mask) != (r.hi & ~mask)) {
                cut = r.lo & mask             ? (r.lo | mask) + 1
                      : (r.hi & mask) != mask ? r.hi & ~mask
                                              : 0;
            }
        }
        if (cut != 0) {
            assert(n_left + 2 <= sizeof left / sizeof left[0]);
            left[n_left++] = (struct mb_char_range) { cut, r.hi };
            left[n_left++] = (struct mb_char_range) { r.lo, cut - 1 };
        } else if (r.lo < 0xd800 || r.lo > 0xdfff) {
            spell_range(p, r.lo, r.hi);
        }
    }
}

static bool has(const struct mb_char_set *s, uint32_t c)
{
    for (size_t i = 0; i < s->n; i++) {
        if (c >= s->at[i].lo && c <= s->at[i].hi) {
            return true;
        }
    }
    return false;
}

static void hex(struct path *p, uint32_t from, const char *digits, uint32_t to)
{
    for (; *digits; digits++) {
        mb_grammar_byte(p->g, from, (uint8_t) *digits, to);
    }
}

/* \u1234 but for \u0000, which C programs can not read, and half surrogates; and whole pairs of
 * these. after is the state behind "\u". */
static void unicode_escapes(struct path *p, uint32_t after)
{
    static const char any[] = "0123456789abcdefABCDEF", nonzero[] = "123456789abcdefABCDEF";
    uint32_t last = state(p), second = state(p), third = state(p);
    hex(p, after, "123456789abcefABCEF", second); /* not 0, not d */
    hex(p, second, any, third);
    hex(p, third, any, last);
    hex(p, last, any, p->to);

    uint32_t zero[3] = { state(p), state(p), state(p) }; /* after 0, 00, 000 */
    hex(p, after, "0", zero[0]);
    hex(p, zero[0], "0", zero[1]);
    hex(p, zero[1], "0", zero[2]);
    hex(p, zero[0], nonzero, third);
    hex(p, zero[1], nonzero, last);
    hex(p, zero[2], nonzero, p->to);

    uint32_t d = state(p);
    hex(p, after, "dD", d);
    hex(p, d, "01234567", third);
    uint32_t high = state(p), chain[6];
    hex(p, d, "89abAB", high);
    for (size_t i = 0; i < 6; i++) {
        chain[i] = state(p);
    }
    hex(p, high, any, chain[0]);
    hex(p, chain[0], any, chain[1]);
    mb_grammar_byte(p->g, chain[1], '\\', chain[2]);
    mb_grammar_byte(p->g, chain[2], 'u', chain[3]);
    hex(p, chain[3], "dD", chain[4]);
    hex(p, chain[4], "cdefCDEF", chain[5]);
    hex(p, chain[5], any, last);
}

static const struct {
    uint8_t c, letter;
} short_escapes[] = {
    { '"', '"' },  { '\\', '\\' }, { '\b', 'b' }, { '\f', 'f' },
    { '\n', 'n' }, { '\r', 'r' },  { '\t', 't' },
};

static void escapes_path(struct path *p, const struct mb_char_set *s, bool any)
{
    uint32_t escape = 0;
    bool used = any;
    for (size_t i = 0; i < sizeof short_escapes / sizeof short_escapes[0]; i++) {
        used = used || has(s, short_escapes[i].c);
    }
    if (!used) {
        return;
    }
    escape = state(p);
    mb_grammar_byte(p->g, p->from, '\\', escape);
    for (size_t i = 0; i < sizeof short_escapes / sizeof short_escapes[0]; i++) {
        if (has(s, short_escapes[i].c)) {
            mb_grammar_byte(p->g, escape, short_escapes[i].letter, p->to);
        }
    }
    if (any) {
        mb_grammar_byte(p->g, escape, '/', p->to);
        uint32_t after = state(p);
        mb_grammar_byte(p->g, escape, 'u', after);
        unicode_escapes(p, after);
    }
}

void mb_chars_path(struct mb_grammar *g, uint32_t from, const struct mb_char_set *s,
                   enum mb_char_escapes escapes, uint32_t to)
{
    struct path p = { .g = g, .rule = g->states[from].rule, .from = from, .to = to };
    static const struct mb_char_range raw[] = { { 0x20, 0x21 },
                                                { 0x23, 0x5b },
                                                { 0x5d, MB_CHAR_MAX } };
    for (size_t i = 0; i < s->n; i++) {
        for (size_t j = 0; j < sizeof raw / sizeof raw[0]; j++) {
            uint32_t lo = s->at[i].lo > raw[j].lo ? s->at[i].lo : raw[j].lo;
            uint32_t hi = s->at[i].hi < raw[j].hi ? s->at[i].hi : raw[j].hi;
            if (lo <= hi) {
                utf8_range(&p, lo, hi);
            }
        }
    }
    if (escapes != MB_CHARS_RAW) {
        escapes_path(&p, s, escapes == MB_CHARS_ANY);
    }
}

static size_t escaped(uint8_t c, char ret[8])
{
    for (size_t i = 0; i < sizeof short_escapes / sizeof short_escapes[0]; i++) {
        if (short_escapes[i].c == c) {
            ret[0] = '\\';
            ret[1] = (char) short_escapes[i].letter;
            return 2;
        }
    }
    if (c < 0x20) {
        return (size_t) snprintf(ret, 8, "\\u%04x", c);
    }
    ret[0] = (char) c;
    return 1;
}

void mb_chars_literal(struct mb_grammar *g, uint32_t from, const char *text, size_t n,
                      uint32_t to)
{
    for (size_t i = 0; i < n; i++) {
        char bytes[8];
        size_t n_bytes = escaped((uint8_t) text[i], bytes);
        uint32_t next = i + 1 == n ? to : mb_grammar_state(g, g->states[from].rule, 0);
        mb_grammar_spell(g, from, bytes, n_bytes, next);
        from = next;
    }
    if (n == 0) {
        mb_grammar_epsilon(g, from, to);
    }
}

/* ---- rules ------------------------------------------------------------------------------- */

static const struct mb_char_set any_char = { .at = { { 0, MB_CHAR_MAX } }, .n = 1 };

static uint16_t free_after(uint32_t n_max, uint32_t n)
{
    uint32_t left = n_max - n;
    return n_max == UINT32_MAX      ? MB_GRAMMAR_FREE
           : left < MB_GRAMMAR_FREE ? (uint16_t) left
                                    : MB_GRAMMAR_FREE - 1;
}

uint32_t mb_string_rule(struct mb_grammar *g, uint32_t n_min, uint32_t n_max)
{
    uint32_t rule = mb_grammar_rule(g, MB_RULE_STRING);
    uint32_t at = g->rules[rule].entry;
    uint32_t n_steps = n_max == UINT32_MAX ? n_min : n_max;
    for (uint32_t i = 0; i < n_steps && !g->overflow && !g->no_memory; i++) {
        g->states[at].flags |= i >= n_min ? MB_NFA_CLOSE : 0;
        g->states[at].free = free_after(n_max, i);
        uint32_t next = mb_grammar_state(g, rule, 0);
        mb_chars_path(g, at, &any_char, MB_CHARS_ESCAPED, next);
        at = next;
    }
    g->states[at].flags |= MB_NFA_CLOSE;
    g->states[at].free = free_after(n_max, n_steps);
    if (n_max == UINT32_MAX) {
        mb_chars_path(g, at, &any_char, MB_CHARS_ANY, at);
    }
    return rule;
}

uint32_t mb_literal_rule(struct mb_grammar *g, const char *text, size_t n)
{
    uint32_t rule = mb_grammar_rule(g, MB_RULE_STRING);
    uint32_t end = mb_grammar_state(g, rule, MB_NFA_CLOSE);
    mb_chars_literal(g, g->rules[rule].entry, text, n, end);
    return rule;
}

/* ---- names that are not others ------------------------------------------------------------ */

/* A node of the tree of names: what they spell so far. */
struct node {
    uint32_t c;              /* that leads here */
    uint32_t child, sibling; /* 0 is none */
    uint32_t state;
    bool is_name;
};

/* The first character of text, which is UTF-8, and how long it is. */
static uint32_t first_char(const char *text, size_t *ret_n)
{
    const uint8_t *b = (const uint8_t *) text;
    size_t n = b[0] < 0x80 ? 1 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : 4;
    uint32_t c = n == 1 ? b[0] : b[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        c = c << 6 | (b[i] & 0x3fu);
    }
    *ret_n = n;
    return c;
}

/* The nodes of name, those that are new made. Returns how many there are now. */
static uint32_t grow_tree(struct node *nodes, uint32_t n_nodes, const struct mb_name *name)
{
    uint32_t at = 0;
    for (size_t i = 0, n_char; i < name->n; i += n_char) {
        uint32_t c = first_char(name->at + i, &n_char);
        uint32_t child = nodes[at].child;
        while (child != 0 && nodes[child].c != c) {
            child = nodes[child].sibling;
        }
        if (child == 0) {
            child = n_nodes++;
            nodes[child] = (struct node) { .c = c, .sibling = nodes[at].child };
            nodes[at].child = child;
        }
        at = child;
    }
    nodes[at].is_name = true;
    return n_nodes;
}

static void tree_paths(struct mb_grammar *g, uint32_t rule, struct node *nodes,
                       uint32_t n_nodes)
{
    uint32_t other = mb_grammar_state(g, rule, MB_NFA_CLOSE);
    mb_chars_path(g, other, &any_char, MB_CHARS_RAW, other);
    g->states[other].free = MB_GRAMMAR_FREE;
    nodes[0].state = g->rules[rule].entry;
    for (uint32_t i = 1; i < n_nodes; i++) {
        nodes[i].state = mb_grammar_state(g, rule, 0);
    }
    for (uint32_t i = 0; i < n_nodes && !g->overflow; i++) {
        struct mb_char_set leaves = { .n = 0 };
        g->states[nodes[i].state].flags |= nodes[i].is_name ? 0 : MB_NFA_CLOSE;
        for (uint32_t j = nodes[i].child; j != 0; j = nodes[j].sibling) {
            struct mb_char_set one = { .at = { { nodes[j].c, nodes[j].c } }, .n = 1 };
            mb_chars_path(g, nodes[i].state, &one, MB_CHARS_RAW, nodes[j].state);
            g->overflow |= !mb_char_set_add(&leaves, nodes[j].c, nodes[j].c);
        }
        g->overflow |= !mb_char_set_invert(&leaves);
        mb_chars_path(g, nodes[i].state, &leaves, MB_CHARS_RAW, other);
    }
}

uint32_t mb_other_name_rule(struct mb_grammar *g, const struct mb_name *names, size_t n)
{
    uint32_t rule = mb_grammar_rule(g, MB_RULE_STRING);
    size_t n_max = 1;
    for (size_t i = 0; i < n; i++) {
        n_max += names[i].n;
    }
    if (n_max > MB_GRAMMAR_STATES_MAX) {
        g->overflow = true;
        return rule;
    }
    struct node *nodes = calloc(n_max, sizeof *nodes);
    if (!nodes) {
        g->no_memory = true;
        return rule;
    }
    uint32_t n_nodes = 1;
    for (size_t i = 0; i < n; i++) {
        n_nodes = grow_tree(nodes, n_nodes, &names[i]);
    }
    tree_paths(g, rule, nodes, n_nodes);
    free(nodes);
    return rule;
}
