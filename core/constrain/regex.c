/* Two passes: the text becomes a tree, and the tree paths; a repetition walks its part of the tree
 * as often as it says. Anchors are known to the tree's top alternatives only, which get a loop of
 * any character at the end that has none. */
#include "core/constrain/regex.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/constrain/chars.h"
#include "core/tokenizer/utf8.h"

enum kind {
    SET,    /* a character */
    JOIN,   /* a, then b */
    EITHER, /* a or b */
    REPEAT, /* a, min..max times */
    EMPTY,
    START, /* ^ */
    END,   /* $ */
};

#define NO_MAX UINT32_MAX

struct node {
    enum kind kind;
    uint32_t a, b; /* nodes; of SET: a is a place in sets */
    uint32_t min, max;
};

struct regex {
    const char *pattern;
    size_t n, at;
    unsigned depth;
    struct node *nodes; /* [2 n + 16]: a byte makes at most two */
    uint32_t n_nodes;
    struct mb_char_set **sets; /* [n + 1] */
    uint32_t n_sets;
    enum mb_status status; /* sticky */
    struct mb_error *err;
    struct mb_grammar *g;
    uint32_t rule;
};

static uint32_t fail(struct regex *r, enum mb_status st, const char *what)
{
    if (r->status == MB_OK) {
        r->status = mb_fail(r->err, st, 0, "pattern: at byte %zu: %s", r->at, what);
    }
    r->at = r->n; /* nothing is read any more */
    return 0;
}

static uint32_t node(struct regex *r, struct node n)
{
    r->nodes[r->n_nodes] = n;
    return r->n_nodes++;
}

/* ---- reading ----------------------------------------------------------------------------- */

static bool more(const struct regex *r)
{
    return r->at < r->n;
}

static char peek(const struct regex *r)
{
    return more(r) ? r->pattern[r->at] : '\0';
}

static bool take(struct regex *r, char c)
{
    bool is = more(r) && r->pattern[r->at] == c;
    r->at += is;
    return is;
}

static uint32_t take_char(struct regex *r)
{
    struct mb_utf8 u = mb_utf8_first((const uint8_t *) r->pattern + r->at, r->n - r->at);
    if (u.kind != MB_UTF8_CHAR) {
        return fail(r, MB_E_INVALID, "not UTF-8");
    }
    r->at += u.n;
    return u.c;
}

static uint32_t take_hex(struct regex *r, unsigned n_digits)
{
    uint32_t c = 0;
    for (unsigned i = 0; i < n_digits; i++) {
        char d = peek(r);
        int v = d >= '0' && d <= '9'   ? d - '0'
                : d >= 'a' && d <= 'f' ? d - 'a' + 10
                : d >= 'A' && d <= 'F' ? d - 'A' + 10
                                       : -1;
        if (v < 0) {
            return fail(r, MB_E_INVALID, "hexadecimal digits are missing");
        }
        c = c << 4 | (uint32_t) v;
        r->at++;
    }
    return c;
}

static void add(struct regex *r, struct mb_char_set *s, uint32_t lo, uint32_t hi)
{
    if (!mb_char_set_add(s, lo, hi)) {
        (void) fail(r, MB_E_UNSUPPORTED, "the set has too many ranges");
    }
}

/* \d \w \s and their opposites, of ASCII; false for another letter. */
static bool add_class(struct regex *r, struct mb_char_set *s, char letter)
{
    struct mb_char_set c = { .n = 0 };
    switch (letter | 0x20) {
    case 'd':
        add(r, &c, '0', '9');
        break;
    case 'w':
        add(r, &c, '0', '9');
        add(r, &c, 'A', 'Z');
        add(r, &c, '_', '_');
        add(r, &c, 'a', 'z');
        break;
    case 's':
        add(r, &c, '\t', '\r');
        add(r, &c, ' ', ' ');
        break;
    default:
        return false;
    }
    if (letter < 'a') {
        add(r, &c, 0x80, MB_CHAR_MAX);
        (void) mb_char_set_invert(&c);
    }
    for (size_t i = 0; i < c.n; i++) {
        add(r, s, c.at[i].lo, c.at[i].hi);
    }
    return true;
}

/* The character behind a backslash that is no class. */
static uint32_t escaped_char(struct regex *r)
{
    static const char from[] = "tnrfv0", to[] = "\t\n\r\f\v";
    char c = peek(r);
    const char *plain = c ? strchr(from, c) : NULL;
    if (plain) {
        r->at++;
        return (uint32_t) to[plain - from];
    }
    if (take(r, 'x')) {
        return take_hex(r, 2);
    }
    if (take(r, 'u')) {
        uint32_t u = take_hex(r, 4);
        return u >= 0xd800 && u <= 0xdfff
                   ? fail(r, MB_E_UNSUPPORTED, "half a surrogate pair is not supported")
                   : u;
    }
    if (take(r, 'c')) {
        return more(r) ? (uint32_t) (r->pattern[r->at++] & 0x1f)
                       : fail(r, MB_E_INVALID, "\\c lacks its letter");
    }
    if (!more(r)) {
        return fail(r, MB_E_INVALID, "a backslash at the end");
    }
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '1' && c <= '9')) {
        return fail(r, MB_E_UNSUPPORTED,
                    "this escape (\\b, \\B, \\p, a back reference...) is not supported");
    }
    return take_char(r);
}

static uint32_t set_node(struct regex *r, const struct mb_char_set *s)
{
    struct mb_char_set *copy = malloc(sizeof *copy);
    if (!copy) {
        r->status = mb_fail(r->err, MB_E_NOMEM, 0, "no memory for a pattern");
        r->at = r->n;
        return 0;
    }
    *copy = *s;
    r->sets[r->n_sets] = copy;
    return node(r, (struct node) { .kind = SET, .a = r->n_sets++ });
}

/* One end of a range of a set, or a class of its own. */
static bool set_item(struct regex *r, struct mb_char_set *s, uint32_t *ret, bool *ret_ascii)
{
    if (!take(r, '\\')) {
        *ret = take_char(r);
        return true;
    }
    if (add_class(r, s, peek(r))) {
        r->at++;
        *ret_ascii = true;
        return false;
    }
    *ret = take(r, 'b') ? '\b' : escaped_char(r);
    return true;
}

/* Behind '['. */
static uint32_t read_set(struct regex *r)
{
    struct mb_char_set s = { .n = 0 };
    bool negated = take(r, '^'), ascii = false;
    while (more(r) && peek(r) != ']') {
        uint32_t lo, hi;
        if (!set_item(r, &s, &lo, &ascii)) {
            continue;
        }
        hi = lo;
        bool range = r->at + 1 < r->n && peek(r) == '-' && r->pattern[r->at + 1] != ']';
        if (range) {
            r->at++;
            if (!set_item(r, &s, &hi, &ascii)) {
                return fail(r, MB_E_INVALID, "a class is no end of a range");
            }
        }
        if (r->status != MB_OK || lo > hi) {
            return fail(r, MB_E_INVALID, "the range of a set is backwards");
        }
        add(r, &s, lo, hi);
    }
    if (!take(r, ']')) {
        return fail(r, MB_E_INVALID, "a set has no ']'");
    }
    if (negated && ascii) {
        add(r, &s, 0x80, MB_CHAR_MAX);
    }
    if (negated && !mb_char_set_invert(&s)) {
        return fail(r, MB_E_UNSUPPORTED, "the set has too many ranges");
    }
    return set_node(r, &s);
}

static uint32_t read_any(struct regex *r)
{
    struct mb_char_set s = { .n = 0 };
    add(r, &s, '\n', '\n');
    add(r, &s, '\r', '\r');
    add(r, &s, 0x85, 0x85);
    add(r, &s, 0x2028, 0x2029);
    (void) mb_char_set_invert(&s);
    return set_node(r, &s);
}

static uint32_t read_alternatives(struct regex *r);

static uint32_t read_group(struct regex *r)
{
    if (take(r, '?') && !take(r, ':')) {
        return fail(r, MB_E_UNSUPPORTED, "(?= (?! (?< are not supported");
    }
    if (++r->depth > MB_REGEX_DEPTH_MAX) {
        return fail(r, MB_E_UNSUPPORTED, "groups are nested too deeply");
    }
    uint32_t n = read_alternatives(r);
    r->depth--;
    return take(r, ')') || r->status != MB_OK ? n : fail(r, MB_E_INVALID, "')' is missing");
}

static uint32_t read_atom(struct regex *r)
{
    struct mb_char_set s = { .n = 0 };
    switch (peek(r)) {
    case '(':
        r->at++;
        return read_group(r);
    case '[':
        r->at++;
        return read_set(r);
    case '.':
        r->at++;
        return read_any(r);
    case '^':
        r->at++;
        return node(r, (struct node) { .kind = START });
    case '$':
        r->at++;
        return node(r, (struct node) { .kind = END });
    case '*':
    case '+':
    case '?':
    case '{':
        return fail(r, MB_E_INVALID, "nothing to repeat (a '{' itself is '\\{')");
    case '\\':
        r->at++;
        if (add_class(r, &s, peek(r))) {
            r->at++;
        } else {
            uint32_t c = escaped_char(r);
            add(r, &s, c, c);
        }
        return set_node(r, &s);
    default:;
        uint32_t c = take_char(r);
        add(r, &s, c, c);
        return set_node(r, &s);
    }
}

static uint32_t read_count(struct regex *r)
{
    uint32_t n = 0;
    if (peek(r) < '0' || peek(r) > '9') {
        return fail(r, MB_E_INVALID, "a number is missing in { }");
    }
    while (peek(r) >= '0' && peek(r) <= '9') {
        n = 10 * n + (uint32_t) (r->pattern[r->at++] - '0');
        if (n > MB_REGEX_REPEAT_MAX) {
            return fail(r, MB_E_UNSUPPORTED, "{ } of more than 1000 is not supported");
        }
    }
    return n;
}

static uint32_t read_repeated(struct regex *r)
{
    uint32_t atom = read_atom(r), min, max;
    for (;;) {
        if (take(r, '*')) {
            min = 0, max = NO_MAX;
        } else if (take(r, '+')) {
            min = 1, max = NO_MAX;
        } else if (take(r, '?')) {
            min = 0, max = 1;
        } else if (take(r, '{')) {
            min = max = read_count(r);
            if (take(r, ',')) {
                max = peek(r) == '}' ? NO_MAX : read_count(r);
            }
            if (r->status == MB_OK && (!take(r, '}') || max < min)) {
                return fail(r, MB_E_INVALID, "{ } must be {m}, {m,} or {m,n} with m <= n");
            }
        } else {
            return atom;
        }
        if (r->nodes[atom].kind == START || r->nodes[atom].kind == END) {
            return fail(r, MB_E_INVALID, "an anchor can not be repeated");
        }
        (void) take(r, '?'); /* lazy: the same strings */
        atom = node(r, (struct node) { .kind = REPEAT, .a = atom, .min = min, .max = max });
    }
}

static uint32_t read_sequence(struct regex *r)
{
    uint32_t all = node(r, (struct node) { .kind = EMPTY });
    bool first = true;
    while (more(r) && peek(r) != '|' && peek(r) != ')') {
        uint32_t next = read_repeated(r);
        if (first) {
            all = next;
        } else {
            all = node(r, (struct node) { .kind = JOIN, .a = all, .b = next });
        }
        first = false;
    }
    return all;
}

static uint32_t read_alternatives(struct regex *r)
{
    uint32_t all = read_sequence(r);
    while (take(r, '|')) {
        uint32_t next = read_sequence(r);
        all = node(r, (struct node) { .kind = EITHER, .a = all, .b = next });
    }
    return all;
}

/* ---- paths ------------------------------------------------------------------------------- */

static uint32_t state(struct regex *r)
{
    return mb_grammar_state(r->g, r->rule, 0);
}

static bool full(const struct regex *r)
{
    return r->g->overflow || r->g->no_memory;
}

static void walk(struct regex *r, uint32_t at, uint32_t from, uint32_t to);

static void walk_repeat(struct regex *r, const struct node *n, uint32_t from, uint32_t to)
{
    uint32_t min = n->min, max = n->max;
    for (uint32_t i = 0; i < min && !full(r); i++) {
        uint32_t next = state(r);
        walk(r, n->a, from, next);
        from = next;
    }
    if (max == NO_MAX) {
        uint32_t loop = state(r), end = state(r);
        mb_grammar_epsilon(r->g, from, loop);
        walk(r, n->a, loop, end);
        mb_grammar_epsilon(r->g, end, loop);
        mb_grammar_epsilon(r->g, loop, to);
        return;
    }
    for (uint32_t i = min; i < max && !full(r); i++) {
        uint32_t next = state(r);
        mb_grammar_epsilon(r->g, from, to);
        walk(r, n->a, from, next);
        from = next;
    }
    mb_grammar_epsilon(r->g, from, to);
}

/* Paths of the tree below node `at`. Recursion: JOIN and EITHER lean to the left and are walked in a
 * loop, so that it is as deep as groups and repetitions. */
static void walk(struct regex *r, uint32_t at, uint32_t from, uint32_t to)
{
    const struct node *n = &r->nodes[at];
    for (; !full(r) && (n->kind == JOIN || n->kind == EITHER); n = &r->nodes[n->a]) {
        if (n->kind == JOIN) {
            uint32_t middle = state(r);
            walk(r, n->b, middle, to);
            to = middle;
        } else {
            walk(r, n->b, from, to);
        }
    }
    switch (n->kind) {
    case SET:
        mb_chars_path(r->g, from, r->sets[n->a], MB_CHARS_ESCAPED, to);
        break;
    case REPEAT:
        walk_repeat(r, n, from, to);
        break;
    case EMPTY:
        mb_grammar_epsilon(r->g, from, to);
        break;
    case START:
    case END:
        (void) fail(r, MB_E_UNSUPPORTED,
                    "^ and $ are supported at the start and the end of the pattern, or of its "
                    "alternatives");
        break;
    default:
        break; /* full: nothing matters any more */
    }
}

static void any_chars(struct regex *r, uint32_t from, uint32_t to)
{
    struct mb_char_set any = { .at = { { 0, MB_CHAR_MAX } }, .n = 1 };
    uint32_t loop = state(r);
    mb_grammar_epsilon(r->g, from, loop);
    mb_chars_path(r->g, loop, &any, MB_CHARS_ESCAPED, loop);
    r->g->states[loop].free = MB_GRAMMAR_FREE;
    mb_grammar_epsilon(r->g, loop, to);
}

/* Takes an anchor off the left or the right end of a sequence, which becomes empty there. */
static bool take_anchor(struct regex *r, uint32_t at, enum kind kind)
{
    while (r->nodes[at].kind == JOIN) {
        at = kind == START ? r->nodes[at].a : r->nodes[at].b;
    }
    if (r->nodes[at].kind != kind) {
        return false;
    }
    r->nodes[at].kind = EMPTY;
    return true;
}

/* The alternatives of the whole: each with its anchors, or any characters around it. */
static void walk_top(struct regex *r, uint32_t at, uint32_t from, uint32_t to)
{
    bool last = false;
    while (!last && r->status == MB_OK) {
        last = r->nodes[at].kind != EITHER;
        uint32_t one = last ? at : r->nodes[at].b;
        uint32_t start = state(r), end = state(r);
        if (take_anchor(r, one, START)) {
            mb_grammar_epsilon(r->g, from, start);
        } else {
            any_chars(r, from, start);
        }
        if (take_anchor(r, one, END)) {
            mb_grammar_epsilon(r->g, end, to);
        } else {
            any_chars(r, end, to);
        }
        walk(r, one, start, end);
        at = r->nodes[at].a;
    }
}

enum mb_status mb_regex_rule(struct mb_grammar *g, const char *pattern, size_t n,
                             uint32_t *ret_rule, struct mb_error *err)
{
    if (n > MB_REGEX_BYTES_MAX) {
        return mb_fail(err, MB_E_UNSUPPORTED, 0, "pattern: longer than %d bytes",
                       MB_REGEX_BYTES_MAX);
    }
    struct regex r = { .pattern = pattern, .n = n, .err = err, .g = g };
    r.nodes = calloc(3 * n + 16, sizeof r.nodes[0]);
    r.sets = calloc(n + 1, sizeof r.sets[0]);
    if (!r.nodes || !r.sets) {
        r.status = mb_fail(err, MB_E_NOMEM, 0, "no memory for a pattern");
    } else {
        uint32_t top = read_alternatives(&r);
        if (more(&r)) {
            (void) fail(&r, MB_E_INVALID, "')' without '('");
        }
        if (r.status == MB_OK) {
            r.rule = mb_grammar_rule(g, MB_RULE_STRING);
            uint32_t end = mb_grammar_state(g, r.rule, MB_NFA_CLOSE);
            walk_top(&r, top, g->rules[r.rule].entry, end);
            *ret_rule = r.rule;
        }
    }
    for (uint32_t i = 0; i < r.n_sets; i++) {
        free(r.sets[i]);
    }
    free(r.sets);
    free(r.nodes);
    return r.status;
}
