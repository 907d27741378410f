#include "core/tokenizer/train.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/tokenizer/byte_level.h"
#include "core/tokenizer/split.h"
#include "core/tokenizer/utf8.h"

enum { BYTES = 256 };

/* A distinct piece of the text, and how often it occurs. Its symbols shrink as pairs merge. */
struct word {
    const uint8_t *at;
    uint32_t n;       /* bytes */
    uint32_t symbols; /* where its symbols start */
    uint32_t n_symbols;
    uint64_t count;
};

struct pair {
    uint32_t left, right;
    uint64_t count; /* 0: this place is free */
};

struct trainer {
    const struct mb_bpe_train *options;
    struct mb_bpe_spec *spec;
    struct word *words;
    size_t n_words;
    uint32_t *symbols; /* of all words */
    size_t n_symbols;
    struct pair *pairs; /* a hash table */
    size_t n_pairs;     /* its size, a power of two */
};

static int by_bytes(const void *a, const void *b)
{
    const struct word *x = a, *y = b;
    int order = memcmp(x->at, y->at, x->n < y->n ? x->n : y->n);
    return order != 0 ? order : (x->n > y->n) - (x->n < y->n);
}

/* Sorts the pieces and keeps one of each. */
static enum mb_status count_words(struct trainer *t, const struct mb_pieces *p,
                                  struct mb_error *err)
{
    size_t n = p->list.len;
    t->words = mb_alloc(n + 1, sizeof *t->words);
    if (!t->words) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for %zu words", n);
    }
    for (size_t i = 0; i < n; i++) {
        struct mb_piece piece = p->list.at[i];
        t->words[i] = (struct word) { .at = p->text.at + piece.at, .n = piece.n, .count = 1 };
    }
    qsort(t->words, n, sizeof *t->words, by_bytes);
    for (size_t i = 0; i < n; i++) {
        if (t->n_words > 0 && by_bytes(&t->words[t->n_words - 1], &t->words[i]) == 0) {
            t->words[t->n_words - 1].count++;
        } else {
            t->words[t->n_words++] = t->words[i];
        }
    }
    return MB_OK;
}

static enum mb_status lay_symbols(struct trainer *t, struct mb_error *err)
{
    for (size_t i = 0; i < t->n_words; i++) {
        t->n_symbols += t->words[i].n;
    }
    t->n_pairs = 64;
    while (t->n_pairs < 2 * t->n_symbols) {
        t->n_pairs *= 2;
    }
    t->symbols = mb_alloc(t->n_symbols + 1, sizeof *t->symbols);
    t->pairs = mb_alloc(t->n_pairs, sizeof *t->pairs);
    if (!t->symbols || !t->pairs) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for %zu symbols", t->n_symbols);
    }
    size_t at = 0;
    for (size_t i = 0; i < t->n_words; i++) {
        struct word *w = &t->words[i];
        w->symbols = (uint32_t) at;
        w->n_symbols = w->n;
        for (uint32_t k = 0; k < w->n; k++) {
            t->symbols[at++] = t->options->n_special + w->at[k];
        }
    }
    return MB_OK;
}

static struct pair *find_pair(struct trainer *t, uint32_t left, uint32_t right)
{
    size_t i = mb_rng_mix((uint64_t) left << 32 | right);
    for (;; i++) {
        struct pair *p = &t->pairs[i & (t->n_pairs - 1)];
        if (p->count == 0 || (p->left == left && p->right == right)) {
            return p;
        }
    }
}

/* A token has a bound, which a ruler of thousands of dashes would go beyond. */
static bool may_merge(const struct trainer *t, const struct pair *p)
{
    const struct mb_bpe_token *tokens = t->spec->tokens;
    return p->count > 0 &&
           tokens[p->left].text.n + tokens[p->right].text.n <= MB_BPE_TOKEN_BYTES_MAX;
}

static struct pair most_frequent(struct trainer *t)
{
    memset(t->pairs, 0, t->n_pairs * sizeof *t->pairs);
    for (size_t i = 0; i < t->n_words; i++) {
        const struct word *w = &t->words[i];
        const uint32_t *s = t->symbols + w->symbols;
        for (uint32_t k = 0; k + 1 < w->n_symbols; k++) {
            struct pair *p = find_pair(t, s[k], s[k + 1]);
            *p = (struct pair) { s[k], s[k + 1], p->count + w->count };
        }
    }
    struct pair best = { 0 };
    for (size_t i = 0; i < t->n_pairs; i++) {
        const struct pair *p = &t->pairs[i];
        bool before = p->left < best.left || (p->left == best.left && p->right < best.right);
        bool better = p->count > best.count || (p->count == best.count && before);
        if (better && may_merge(t, p)) {
            best = *p;
        }
    }
    return best;
}

static void merge_in_words(struct trainer *t, struct pair p, uint32_t id)
{
    for (size_t i = 0; i < t->n_words; i++) {
        struct word *w = &t->words[i];
        uint32_t *s = t->symbols + w->symbols;
        uint32_t n = 0;
        for (uint32_t k = 0; k < w->n_symbols; k++) {
            bool here = k + 1 < w->n_symbols && s[k] == p.left && s[k + 1] == p.right;
            s[n++] = here ? id : s[k];
            k += here;
        }
        w->n_symbols = n;
    }
}

/* The merged token's text is that of the two, one after the other. */
static enum mb_status add_merge(struct trainer *t, struct pair p, uint32_t id,
                                struct mb_error *err)
{
    struct mb_bpe_text left = t->spec->tokens[p.left].text;
    struct mb_bpe_text right = t->spec->tokens[p.right].text;
    struct mb_bytes text = { 0 };
    mb_bytes_put(&text, mb_bpe_at(t->spec, left), left.n);
    mb_bytes_put(&text, mb_bpe_at(t->spec, right), right.n);
    enum mb_status st = text.failed ? mb_fail(err, MB_E_NOMEM, 0, "no memory for a token")
                                    : mb_bpe_spec_token(t->spec, id, text.at, text.len, 0, err);
    mb_bytes_fini(&text);
    if (st == MB_OK) {
        st = mb_bpe_spec_merge(t->spec, (struct mb_bpe_merge) { p.left, p.right, id }, err);
    }
    return st;
}

static enum mb_status learn(struct trainer *t, struct mb_error *err)
{
    enum mb_status st = MB_OK;
    for (uint32_t id = t->options->n_special + BYTES; id < t->options->n_vocab; id++) {
        struct pair p = most_frequent(t);
        if (p.count < 2 || st != MB_OK) {
            break;
        }
        merge_in_words(t, p, id);
        st = add_merge(t, p, id, err);
    }
    return st;
}

/* A tokenizer of special tokens and bytes, without merges. */
static enum mb_status begin_spec(const struct mb_bpe_train *o, struct mb_bpe_spec *s,
                                 struct mb_error *err)
{
    enum mb_status st = MB_OK;
    for (uint32_t i = 0; i < o->n_special && st == MB_OK; i++) {
        st = mb_bpe_spec_token(s, i, o->special[i], strlen(o->special[i]),
                               MB_TOKEN_PRESENT | MB_TOKEN_ADDED | MB_TOKEN_SPECIAL, err);
    }
    for (uint32_t b = 0; b < BYTES && st == MB_OK; b++) {
        uint8_t text[MB_UTF8_MAX];
        size_t n = mb_utf8_put(mb_byte_level_char((uint8_t) b), text);
        st = mb_bpe_spec_token(s, o->n_special + b, text, n, MB_TOKEN_PRESENT, err);
    }
    struct mb_bpe_step step = { .kind = MB_BPE_BYTE_LEVEL, .flags = MB_BPE_WORDS };
    if (st == MB_OK) {
        st = mb_bpe_spec_step(s, MB_BPE_PRE_TOKENIZER, step, err);
    }
    if (st == MB_OK) {
        step.flags = 0;
        st = mb_bpe_spec_step(s, MB_BPE_DECODER, step, err);
    }
    s->bos = o->bos;
    if (st == MB_OK && o->bos != MB_NO_ID) {
        st = mb_bpe_ids_add(&s->prefix, o->bos, err);
    }
    if (st == MB_OK && o->eos != MB_NO_ID) {
        st = mb_bpe_ids_add(&s->eos, o->eos, err);
    }
    return st;
}

static enum mb_status train(struct trainer *t, const uint8_t *text, size_t n,
                            struct mb_error *err)
{
    struct mb_splitter splitter;
    struct mb_matcher matcher = { 0 };
    struct mb_pieces pieces = { 0 };
    enum mb_status st = mb_splitter_init(&splitter, t->spec, err);
    if (st == MB_OK) {
        st = mb_matcher_init(&matcher, n, err);
    }
    if (st == MB_OK) {
        st = mb_split(&splitter, (struct mb_text) { text, n }, true, &matcher, &pieces, err);
    }
    if (st == MB_OK) {
        st = count_words(t, &pieces, err);
    }
    if (st == MB_OK) {
        st = lay_symbols(t, err);
    }
    if (st == MB_OK) {
        st = learn(t, err);
    }
    mb_pieces_fini(&pieces);
    mb_matcher_fini(&matcher);
    mb_splitter_fini(&splitter);
    mb_free(t->pairs);
    mb_free(t->symbols);
    mb_free(t->words);
    return st == MB_OK ? mb_bpe_spec_check(t->spec, err) : st;
}

enum mb_status mb_bpe_train(const struct mb_bpe_train *o, const uint8_t *text, size_t n,
                            struct mb_bpe_spec **ret, struct mb_error *err)
{
    if (o->n_vocab < o->n_special + BYTES || o->n_vocab > MB_BPE_TRAIN_VOCAB_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "a vocabulary of %u is not within %u..%u",
                       (unsigned) o->n_vocab, (unsigned) o->n_special + BYTES,
                       MB_BPE_TRAIN_VOCAB_MAX);
    }
    if (n > MB_BPE_TRAIN_BYTES_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, "a text of %zu bytes; at most %zu", n,
                       MB_BPE_TRAIN_BYTES_MAX);
    }
    if (!mb_utf8_valid(text, n)) {
        return mb_fail(err, MB_E_INVALID, 0, "the text is not UTF-8");
    }
    struct trainer t = { .options = o, .spec = mb_bpe_spec_new() };
    enum mb_status st = t.spec ? begin_spec(o, t.spec, err)
                               : mb_fail(err, MB_E_NOMEM, 0, "no memory for a tokenizer");
    if (st == MB_OK) {
        st = train(&t, text, n, err);
    }
    if (st != MB_OK) {
        mb_bpe_spec_free(t.spec);
        return st;
    }
    *ret = t.spec;
    return MB_OK;
}
