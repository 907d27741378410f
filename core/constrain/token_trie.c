#include "core/constrain/token_trie.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/tokenizer/utf8.h"

const uint16_t mb_trie_plain_chars[MB_TRIE_PLAINS] = { 4, 12, 32, MB_TRIE_DEPTH_MAX };

struct entry {
    const uint8_t *at;
    uint32_t n, id;
};

static int by_bytes(const void *x, const void *y)
{
    const struct entry *a = x, *b = y;
    uint32_t n = a->n < b->n ? a->n : b->n;
    int order = memcmp(a->at, b->at, n);
    if (order != 0) {
        return order;
    }
    if (a->n != b->n) {
        return a->n < b->n ? -1 : 1;
    }
    return a->id < b->id ? -1 : 1;
}

static uint32_t common_prefix(const struct entry *a, const struct entry *b)
{
    uint32_t n = 0;
    while (n < a->n && n < b->n && a->at[n] == b->at[n]) {
        n++;
    }
    return n;
}

static bool ends_text(const struct mb_tokenizer *t, uint32_t id)
{
    const uint32_t *eos;
    size_t n = mb_tokenizer_eos(t, &eos);
    for (size_t i = 0; i < n; i++) {
        if (eos[i] == id) {
            return true;
        }
    }
    return mb_tokenizer_is_special(t, id);
}

static unsigned brackets_of(const struct entry *e)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < e->n; i++) {
        n += e->at[i] == '{' || e->at[i] == '[' || e->at[i] == '"';
    }
    return n;
}

/* The tokens that have text, in order; returns how many, and counts their nodes. */
static uint32_t gather(const struct mb_tokenizer *t, struct entry *entries, size_t *ret_nodes)
{
    uint32_t n = 0;
    for (uint32_t id = 0; id < mb_tokenizer_n_vocab(t); id++) {
        size_t n_bytes;
        const uint8_t *bytes = mb_tokenizer_token_bytes(t, id, &n_bytes);
        if (n_bytes > 0 && n_bytes <= MB_TRIE_DEPTH_MAX && !ends_text(t, id)) {
            entries[n++] = (struct entry) { bytes, (uint32_t) n_bytes, id };
        }
    }
    qsort(entries, n, sizeof entries[0], by_bytes);
    *ret_nodes = 0;
    for (uint32_t i = 0; i < n; i++) {
        *ret_nodes += entries[i].n - (i > 0 ? common_prefix(&entries[i - 1], &entries[i]) : 0);
    }
    return n;
}

/* The nodes of sorted entries: each adds what it does not share with the one before. A node begins at the
 * entry that made it; those that end there are the first of its subtree, and the next node begins
 * behind them. */
static void build(struct mb_token_trie *t, const struct entry *entries)
{
    uint32_t open[MB_TRIE_DEPTH_MAX + 1]; /* the path of the entry before */
    uint32_t n_open = 0;
    for (uint32_t i = 0; i < t->n_tokens; i++) {
        const struct entry *e = &entries[i];
        uint32_t shared = i > 0 ? common_prefix(&entries[i - 1], e) : 0;
        while (n_open > shared) {
            t->nodes[open[--n_open]].end = t->n_nodes;
        }
        for (; n_open < e->n; n_open++) {
            open[n_open] = t->n_nodes;
            t->nodes[t->n_nodes++] = (struct mb_trie_node) {
                .token = i,
                .depth = (uint16_t) (n_open + 1),
                .byte = e->at[n_open],
            };
        }
        unsigned brackets = brackets_of(e);
        t->depth = e->n > t->depth ? e->n : t->depth;
        t->brackets = brackets > t->brackets ? brackets : t->brackets;
        t->tokens[i] = e->id;
    }
    while (n_open > 0) {
        t->nodes[open[--n_open]].end = t->n_nodes;
    }
    t->nodes[t->n_nodes].token = t->n_tokens;
}

/* Whatever text goes on with, it can go on with one byte: ASCII but control characters, and what UTF-8
 * is made of. Returns how many ids it takes to have them all; 0 when there is none for some. */
static uint32_t json_ids(const struct mb_token_trie *t)
{
    uint32_t id_of[256] = { 0 }; /* 1 + the lowest id */
    for (uint32_t i = 0; i < t->n_nodes; i = t->nodes[i].end) {
        const struct mb_trie_node *n = &t->nodes[i];
        id_of[n->byte] = n[1].token > n->token ? 1 + t->tokens[n->token] : 0;
    }
    uint32_t most = 0;
    for (unsigned byte = 0x20; byte <= 0xf4; byte++) {
        if (id_of[byte] == 0 && byte != 0xc0 && byte != 0xc1) {
            return 0;
        }
        most = id_of[byte] > most ? id_of[byte] : most;
    }
    return most;
}

/* How many characters a token has, when it is plain; else 0. */
static uint32_t plain_chars(const struct entry *e)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < e->n; i++) {
        if (e->at[i] < 0x20 || e->at[i] == '"' || e->at[i] == '\\') {
            return 0;
        }
        n += (e->at[i] & 0xc0) != 0x80;
    }
    return mb_utf8_valid(e->at, e->n) ? n : 0;
}

/* The masks of plain tokens, and in each node whether others are below. Nodes in reverse: what is below
 * comes before. */
static void find_plain(struct mb_token_trie *t, const struct entry *entries)
{
    for (uint32_t i = t->n_nodes; i-- > 0;) {
        struct mb_trie_node *n = &t->nodes[i];
        n->rest = MB_TRIE_ALL;
        for (uint32_t j = n->token; j < n[1].token; j++) {
            uint32_t chars = plain_chars(&entries[j]), id = entries[j].id;
            for (unsigned k = 0; k < MB_TRIE_PLAINS; k++) {
                if (chars > 0 && chars <= mb_trie_plain_chars[k]) {
                    t->plain[k][id / 64] |= UINT64_C(1) << id % 64;
                } else {
                    n->rest |= (uint8_t) (1u << k);
                }
            }
        }
        for (uint32_t child = i + 1; child < n->end; child = t->nodes[child].end) {
            n->rest |= t->nodes[child].rest;
        }
    }
}

static enum mb_status fill(struct mb_token_trie *t, struct entry *entries, struct mb_error *err)
{
    size_t n_nodes;
    t->n_tokens = gather(t->tokenizer, entries, &n_nodes);
    t->nodes = n_nodes < UINT32_MAX ? calloc(n_nodes + 1, sizeof t->nodes[0]) : NULL;
    t->tokens = calloc((size_t) t->n_tokens + 1, sizeof t->tokens[0]);
    if (!t->nodes || !t->tokens) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a vocabulary's tree");
    }
    t->n_words = mb_tokenizer_n_vocab(t->tokenizer) / 64 + 1;
    for (unsigned k = 0; k < MB_TRIE_PLAINS; k++) {
        t->plain[k] = calloc(t->n_words, sizeof *t->plain[k]);
        if (!t->plain[k]) {
            return mb_fail(err, MB_E_NOMEM, 0, "no memory for a vocabulary's tree");
        }
    }
    build(t, entries);
    find_plain(t, entries);
    assert(t->n_nodes == n_nodes);
    t->json_ids = json_ids(t);
    return MB_OK;
}

enum mb_status mb_token_trie_new(const struct mb_tokenizer *t, struct mb_token_trie **ret,
                                 struct mb_error *err)
{
    struct mb_token_trie *trie = calloc(1, sizeof *trie);
    struct entry *entries = calloc((size_t) mb_tokenizer_n_vocab(t) + 1, sizeof *entries);
    enum mb_status st = MB_E_NOMEM;
    if (trie && entries) {
        trie->tokenizer = t;
        st = fill(trie, entries, err);
    } else {
        (void) mb_fail(err, st, 0, "no memory for a vocabulary's tree");
    }
    free(entries);
    if (st != MB_OK) {
        mb_token_trie_free(trie);
        return st;
    }
    *ret = trie;
    return MB_OK;
}

void mb_token_trie_free(struct mb_token_trie *t)
{
    if (t) {
        for (unsigned k = 0; k < MB_TRIE_PLAINS; k++) {
            free(t->plain[k]);
        }
        free(t->nodes);
        free(t->tokens);
        free(t);
    }
}
