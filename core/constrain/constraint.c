/* How a mask is found: a walk over the vocabulary's tree with the automaton at each node. What it
 * finds depends on the frame on top, the white space before, and how deep the text is; and only for
 * tokens that close that frame on what lies below. So the walk stops where the frame is
 * closed, the rest is kept under these three, and from the places where it stopped it goes on each
 * time with the frames that really lie below. Most tokens are settled by the first part. */
#include "core/constrain/constraint.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/constrain/automaton.h"

enum {
    MASKS_MAX = 64,     /* kept; a power of two */
    EXITS_MAX = 4096,   /* of a mask that is kept */
    WORK_MAX = 4 << 20, /* states and edges of the grammar looked at for a mask: some 20 ms */
    FRAMES_MAX = MB_GRAMMAR_DEPTH_MAX + MB_TRIE_DEPTH_MAX,
    NO_FRAME = FRAMES_MAX,        /* below the root */
    UNKNOWN_FRAME = NO_FRAME + 1, /* below the frame that a kept mask is for */
};

/* White space so far: none, one space, or a new line and some spaces. */
enum { SPACE_NONE, SPACE_BLANK, SPACE_LINE };

/* A frame that waits for the one above it. */
struct frame {
    uint32_t state;
    uint16_t below; /* a frame, or NO_FRAME */
};

/* Where a text stands. */
struct place {
    uint32_t state;
    uint16_t below;
    uint8_t depth; /* frames below */
    uint8_t space;
};

/* A node whose byte closes the frame, which then is in state. */
struct exit {
    uint32_t node, state;
};

struct kept {
    bool used;
    uint32_t state;
    uint8_t space, room;
    uint32_t n_exits;
    struct exit *exits; /* [EXITS_MAX] */
    uint64_t *mask;     /* [n_words] */
};

struct mb_constraint {
    struct mb_grammar grammar;
    struct mb_automaton automaton;
    const struct mb_token_trie *trie;
    uint32_t n_vocab, n_words;

    struct frame frames[FRAMES_MAX]; /* the text's own first, then those of a walk */
    struct place at;
    struct place *path; /* [trie depth + 1] of a walk: where each byte led */
    uint16_t *n_frames; /* [trie depth + 1] frames in use there */
    struct kept kept[MASKS_MAX];
    uint32_t n_replaced;
    struct exit *exits; /* [MASKS_MAX][EXITS_MAX] */
    uint64_t *masks;    /* [MASKS_MAX][n_words] */
    uint64_t *mask;     /* [n_words] what is returned */
};

/* ---- life -------------------------------------------------------------------------------- */

static enum mb_status make(struct mb_constraint *c, const struct mb_grammar *g,
                           struct mb_error *err)
{
    size_t n_path = c->trie->depth + 1;
    c->path = calloc(n_path, sizeof c->path[0]);
    c->n_frames = calloc(n_path, sizeof c->n_frames[0]);
    c->exits = calloc((size_t) MASKS_MAX * EXITS_MAX, sizeof c->exits[0]);
    c->masks = calloc((size_t) MASKS_MAX * c->n_words, sizeof c->masks[0]);
    c->mask = calloc(c->n_words, sizeof c->mask[0]);
    if (!c->path || !c->n_frames || !c->exits || !c->masks || !c->mask) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a constraint");
    }
    for (size_t i = 0; i < MASKS_MAX; i++) {
        c->kept[i].exits = c->exits + i * EXITS_MAX;
        c->kept[i].mask = c->masks + i * c->n_words;
    }
    enum mb_status st = mb_automaton_init(&c->automaton, g, err);
    if (st == MB_OK) {
        c->automaton.budget = WORK_MAX;
        c->at =
            (struct place) { .state = mb_automaton_start(&c->automaton), .below = NO_FRAME };
        assert(c->at.state != MB_DFA_DEAD); /* a finished grammar has a text */
    }
    return st;
}

enum mb_status mb_constraint_new(struct mb_grammar *g, const struct mb_token_trie *trie,
                                 uint32_t n_vocab, struct mb_constraint **ret,
                                 struct mb_error *err)
{
    if (trie->json_ids == 0 || trie->json_ids > n_vocab) {
        return mb_fail(err, MB_E_UNSUPPORTED, 0,
                       "this model's vocabulary has no token for every byte, so its output can "
                       "not be held to a format");
    }
    struct mb_constraint *c = calloc(1, sizeof *c);
    if (!c) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a constraint");
    }
    c->trie = trie;
    c->n_vocab = n_vocab;
    c->n_words = n_vocab / 64 + (n_vocab % 64 != 0);
    c->grammar = *g;
    enum mb_status st = make(c, &c->grammar, err);
    if (st != MB_OK) {
        c->grammar = (struct mb_grammar) { 0 }; /* still the caller's */
        mb_constraint_free(c);
        return st;
    }
    *g = (struct mb_grammar) { 0 };
    *ret = c;
    return MB_OK;
}

void mb_constraint_free(struct mb_constraint *c)
{
    if (!c) {
        return;
    }
    mb_automaton_fini(&c->automaton);
    mb_grammar_fini(&c->grammar);
    free(c->path);
    free(c->n_frames);
    free(c->exits);
    free(c->masks);
    free(c->mask);
    free(c);
}

size_t mb_constraint_bytes(const struct mb_constraint *c)
{
    const struct mb_grammar *g = &c->grammar;
    return sizeof *c + (size_t) MASKS_MAX * EXITS_MAX * sizeof c->exits[0] +
           (MASKS_MAX + (size_t) 1) * c->n_words * sizeof c->mask[0] +
           g->states_cap * sizeof g->states[0] + g->edges_cap * sizeof g->edges[0] +
           g->rules_cap * sizeof g->rules[0] + mb_automaton_bytes(&c->automaton);
}

/* ---- a byte ------------------------------------------------------------------------------ */

enum outcome { DEAD, LIVE, LEFT /* the frame was closed, and what is below is not known */ };

static enum outcome go(struct place *p, uint32_t state)
{
    p->state = state;
    p->space = SPACE_NONE;
    return state == MB_DFA_DEAD ? DEAD : LIVE;
}

static enum outcome open_frame(struct mb_constraint *c, struct place *p, uint16_t *n_frames,
                               enum mb_rule_kind kind)
{
    unsigned left = MB_GRAMMAR_DEPTH_MAX - 1 - p->depth;
    if (left == 0) {
        return DEAD;
    }
    uint8_t room = (uint8_t) (left - 1 < c->grammar.need_max ? left - 1 : c->grammar.need_max);
    uint32_t inner = mb_automaton_open(&c->automaton, p->state, kind, room);
    if (inner != MB_DFA_DEAD) {
        assert(*n_frames < FRAMES_MAX);
        c->frames[*n_frames] = (struct frame) { p->state, p->below };
        p->below = (*n_frames)++;
        p->depth++;
    }
    return go(p, inner);
}

static enum outcome close_frame(struct mb_constraint *c, struct place *p)
{
    if (p->below == UNKNOWN_FRAME) {
        return LEFT;
    }
    assert(p->below != NO_FRAME); /* the root has no bracket */
    const struct frame *f = &c->frames[p->below];
    uint32_t state = mb_automaton_after(&c->automaton, f->state, p->state);
    p->below = f->below;
    p->depth--;
    return go(p, state);
}

static enum outcome space(struct mb_constraint *c, struct place *p, uint8_t byte)
{
    unsigned before = p->space;
    bool may = before == SPACE_NONE ||
               (byte == ' ' && before >= SPACE_LINE && before < SPACE_LINE + MB_INDENT_MAX);
    if (!may) {
        return DEAD;
    }
    enum outcome o = go(p, mb_automaton_gap(&c->automaton, p->state));
    p->space = (uint8_t) (before != SPACE_NONE ? before + 1
                          : byte == ' '        ? SPACE_BLANK
                                               : SPACE_LINE);
    return o;
}

static enum outcome advance(struct mb_constraint *c, struct place *p, uint16_t *n_frames,
                            uint8_t byte)
{
    const struct mb_dfa_state *s = &c->automaton.states[p->state];
    if (s->kind == MB_RULE_STRING) {
        return byte == '"' && s->closes
                   ? close_frame(c, p)
                   : go(p, mb_automaton_step(&c->automaton, p->state, byte));
    }
    switch (byte) {
    case ' ':
    case '\n':
        return space(c, p, byte);
    case '"':
        return open_frame(c, p, n_frames, MB_RULE_STRING);
    case '{':
        return open_frame(c, p, n_frames, MB_RULE_OBJECT);
    case '[':
        return open_frame(c, p, n_frames, MB_RULE_ARRAY);
    case '}':
        return s->kind == MB_RULE_OBJECT && s->closes ? close_frame(c, p) : DEAD;
    case ']':
        return s->kind == MB_RULE_ARRAY && s->closes ? close_frame(c, p) : DEAD;
    default:
        return go(p, mb_automaton_step(&c->automaton, p->state, byte));
    }
}

/* ---- the automaton's room ---------------------------------------------------------------- */

static size_t add_chain(struct mb_constraint *c, struct place *p, uint32_t **states, size_t n)
{
    states[n++] = &p->state;
    for (uint16_t f = p->below; f != NO_FRAME; f = c->frames[f].below) {
        states[n++] = &c->frames[f].state;
    }
    return n;
}

/* Forgets all but the text's own states, and those of another place. */
static void make_room(struct mb_constraint *c, struct place *other)
{
    uint32_t *states[2 * MB_GRAMMAR_DEPTH_MAX];
    size_t n = add_chain(c, &c->at, states, 0);
    if (other) {
        n = add_chain(c, other, states, n);
    }
    mb_automaton_reset(&c->automaton, states, n);
    for (size_t i = 0; i < MASKS_MAX; i++) {
        c->kept[i].used = false;
    }
}

/* ---- masks ------------------------------------------------------------------------------- */

static void allow(const struct mb_constraint *c, uint64_t *mask, uint32_t node)
{
    const struct mb_trie_node *n = &c->trie->nodes[node];
    for (uint32_t i = n->token; i < n[1].token; i++) {
        uint32_t token = c->trie->tokens[i];
        if (token < c->n_vocab) {
            mask[token / 64] |= UINT64_C(1) << token % 64;
        }
    }
}

/* The nodes [first, end) below one that path knows, but for those whose rest has no bit in common with
 * wanted. kept takes the exits; without it there are none. */
static void walk(struct mb_constraint *c, uint32_t first, uint32_t end, uint8_t wanted,
                 uint64_t *mask, struct kept *kept)
{
    const struct mb_automaton *a = &c->automaton;
    for (uint32_t i = first; i < end;) {
        const struct mb_trie_node *n = &c->trie->nodes[i];
        if (!(n->rest & wanted)) {
            i = n->end;
            continue;
        }
        struct place *p = &c->path[n->depth];
        uint16_t *n_frames = &c->n_frames[n->depth];
        *p = c->path[n->depth - 1];
        *n_frames = c->n_frames[n->depth - 1];
        /* Most nodes are characters of a string that were met before. */
        uint32_t known = a->next[(size_t) p->state * a->g->n_classes + a->g->class_of[n->byte]];
        bool quick = known != MB_DFA_UNKNOWN && a->states[p->state].kind == MB_RULE_STRING &&
                     n->byte != '"';
        enum outcome o = quick ? go(p, known) : advance(c, p, n_frames, n->byte);
        if (o == LIVE) {
            allow(c, mask, i);
            i++;
            continue;
        }
        if (o == LEFT) {
            if (kept->n_exits < EXITS_MAX) {
                kept->exits[kept->n_exits] = (struct exit) { i, c->path[n->depth - 1].state };
            }
            kept->n_exits++;
        }
        i = n->end;
    }
}

/* What need not be walked: all plain tokens where any string of that many characters may come. Returns the
 * bit of the nodes that are left. */
static uint8_t put_plain(const struct mb_constraint *c, struct place from, uint64_t *mask)
{
    unsigned free_chars = c->automaton.states[from.state].free;
    for (unsigned k = MB_TRIE_PLAINS; k-- > 0;) {
        if (free_chars >= mb_trie_plain_chars[k]) {
            uint32_t n = c->n_words < c->trie->n_words ? c->n_words : c->trie->n_words;
            memcpy(mask, c->trie->plain[k], n * sizeof *mask);
            if (n == c->n_words && c->n_vocab % 64 != 0) { /* ids that the model lacks */
                mask[n - 1] &= (UINT64_C(1) << c->n_vocab % 64) - 1;
            }
            return (uint8_t) (1u << k);
        }
    }
    return MB_TRIE_ALL;
}

/* All tokens from a place. The single bytes first, whatever they cost: something must be said. */
static void walk_all(struct mb_constraint *c, struct place from, uint64_t *mask,
                     struct kept *kept)
{
    memset(mask, 0, c->n_words * sizeof *mask);
    c->automaton.budget = INT64_MAX;
    for (uint32_t i = 0; i < c->trie->n_nodes; i = c->trie->nodes[i].end) {
        struct place p = from;
        uint16_t n_frames = c->at.depth;
        (void) advance(c, &p, &n_frames, c->trie->nodes[i].byte);
    }
    c->automaton.budget = WORK_MAX;
    c->path[0] = from;
    c->n_frames[0] = c->at.depth;
    uint8_t wanted = put_plain(c, from, mask);
    walk(c, 0, c->trie->n_nodes, wanted, mask, kept);
}

/* The frame below is known now: what an exit leads to. */
static void walk_exit(struct mb_constraint *c, const struct exit *e)
{
    const struct mb_trie_node *n = &c->trie->nodes[e->node];
    struct place p = c->at;
    p.state = e->state;
    if (close_frame(c, &p) == LIVE) {
        allow(c, c->mask, e->node);
        c->path[n->depth] = p;
        c->n_frames[n->depth] = c->at.depth;
        walk(c, e->node + 1, n->end, MB_TRIE_ALL, c->mask, NULL);
    }
}

/* Frames that may be opened, as far as it makes a difference to any token. */
static uint8_t room_that_matters(const struct mb_constraint *c)
{
    unsigned left = MB_GRAMMAR_DEPTH_MAX - 1 - c->at.depth;
    unsigned enough = c->grammar.need_max + c->trie->brackets;
    return (uint8_t) (left < enough ? left : enough);
}

static struct kept *find_kept(struct mb_constraint *c)
{
    uint8_t room = room_that_matters(c);
    struct kept *free_one = NULL;
    for (size_t i = 0; i < MASKS_MAX; i++) {
        struct kept *k = &c->kept[i];
        if (k->used && k->state == c->at.state && k->space == c->at.space && k->room == room) {
            return k;
        }
        free_one = !k->used && !free_one ? k : free_one;
    }
    if (!free_one) {
        free_one = &c->kept[c->n_replaced++ % MASKS_MAX];
    }
    free_one->used = false;
    free_one->state = c->at.state;
    free_one->space = c->at.space;
    free_one->room = room;
    free_one->n_exits = 0;
    return free_one;
}

static void find_mask(struct mb_constraint *c)
{
    struct kept *k = find_kept(c);
    if (!k->used) {
        struct place from = c->at;
        from.below = from.below == NO_FRAME ? NO_FRAME : UNKNOWN_FRAME;
        walk_all(c, from, k->mask, k);
        k->used = k->n_exits <= EXITS_MAX;
    }
    if (!k->used) { /* more exits than are kept: with the frames below, there are none */
        walk_all(c, c->at, c->mask, NULL);
        return;
    }
    memcpy(c->mask, k->mask, c->n_words * sizeof c->mask[0]);
    c->automaton.budget = WORK_MAX;
    for (uint32_t i = 0; i < k->n_exits; i++) {
        walk_exit(c, &k->exits[i]);
    }
}

static bool is_empty(const struct mb_constraint *c)
{
    uint64_t any = 0;
    for (uint32_t i = 0; i < c->n_words; i++) {
        any |= c->mask[i];
    }
    return any == 0;
}

/* The single bytes, each with all the room that there is. */
static void find_bytes(struct mb_constraint *c)
{
    for (uint32_t i = 0; i < c->trie->n_nodes; i = c->trie->nodes[i].end) {
        make_room(c, NULL);
        c->automaton.budget = INT64_MAX;
        struct place p = c->at;
        uint16_t n_frames = c->at.depth;
        if (advance(c, &p, &n_frames, c->trie->nodes[i].byte) == LIVE) {
            allow(c, c->mask, i);
        }
    }
}

static void allow_eos(struct mb_constraint *c)
{
    const uint32_t *eos;
    size_t n = mb_tokenizer_eos(c->trie->tokenizer, &eos);
    for (size_t i = 0; i < n; i++) {
        if (eos[i] < c->n_vocab) {
            c->mask[eos[i] / 64] |= UINT64_C(1) << eos[i] % 64;
        }
    }
}

const uint64_t *mb_constraint_mask(struct mb_constraint *c, bool without_eos)
{
    c->automaton.full = false;
    if (mb_automaton_is_crowded(&c->automaton)) {
        make_room(c, NULL);
    }
    if (mb_constraint_is_complete(c)) {
        memset(c->mask, 0, c->n_words * sizeof c->mask[0]);
    } else {
        find_mask(c);
        if (is_empty(c)) {
            find_bytes(c);
        }
    }
    if (!without_eos && mb_constraint_may_end(c)) {
        allow_eos(c);
    }
    return c->mask;
}

void mb_mask_logits(const uint64_t *mask, float *logits, uint32_t n_vocab)
{
    for (uint32_t i = 0; i < n_vocab; i += 64) {
        uint32_t n = n_vocab - i < 64 ? n_vocab - i : 64;
        uint64_t allowed = mask[i / 64];
        for (uint32_t j = 0; j < n && ~allowed != 0; j++) {
            logits[i + j] = allowed >> j & 1 ? logits[i + j] : -INFINITY;
        }
    }
}

/* ---- tokens ------------------------------------------------------------------------------ */

/* The text's frames move to the front, so that a walk has the rest. */
static void settle(struct mb_constraint *c, struct place p)
{
    struct frame chain[MB_GRAMMAR_DEPTH_MAX];
    size_t n = 0;
    for (uint16_t f = p.below; f != NO_FRAME; f = c->frames[f].below) {
        chain[n++] = c->frames[f];
    }
    assert(n == p.depth);
    for (size_t i = 0; i < n; i++) {
        uint16_t below = (uint16_t) i;
        c->frames[i] = (struct frame) { chain[n - 1 - i].state, i ? below - 1 : NO_FRAME };
    }
    p.below = (uint16_t) (n ? n - 1 : NO_FRAME);
    c->at = p;
}

static bool is_eos(const struct mb_constraint *c, uint32_t token)
{
    const uint32_t *eos;
    size_t n = mb_tokenizer_eos(c->trie->tokenizer, &eos);
    for (size_t i = 0; i < n; i++) {
        if (eos[i] == token) {
            return true;
        }
    }
    return false;
}

bool mb_constraint_accept(struct mb_constraint *c, uint32_t token)
{
    if (is_eos(c, token)) {
        return mb_constraint_may_end(c);
    }
    size_t n_bytes;
    const uint8_t *bytes = mb_tokenizer_token_bytes(c->trie->tokenizer, token, &n_bytes);
    struct place p = c->at;
    uint16_t n_frames = c->at.depth;
    if (n_bytes == 0 || n_bytes > MB_TRIE_DEPTH_MAX) {
        return false;
    }
    for (size_t i = 0; i < n_bytes; i++) {
        struct place before = p;
        c->automaton.full = false;
        c->automaton.budget = INT64_MAX;
        if (advance(c, &p, &n_frames, bytes[i]) == LIVE) {
            continue;
        }
        if (!c->automaton.full) {
            return false;
        }
        p = before;
        make_room(c, &p);
        if (advance(c, &p, &n_frames, bytes[i]) != LIVE) {
            return false;
        }
    }
    settle(c, p);
    return true;
}

bool mb_constraint_may_end(const struct mb_constraint *c)
{
    return c->at.below == NO_FRAME && c->automaton.states[c->at.state].accepts;
}

bool mb_constraint_is_complete(const struct mb_constraint *c)
{
    return mb_constraint_may_end(c) && c->automaton.states[c->at.state].n_set == 1;
}
