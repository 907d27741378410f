#include "core/import/gguf_tokenizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/tokenizer/vocabulary.h"

/* tokenizer.ggml.token_type, as the file numbers it. */
enum token_type { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };

#define SPACE_MARK "\xe2\x96\x81" /* U+2581, SentencePiece's character for a space */

struct source {
    const struct mb_gguf *g;
    const struct mb_gguf_value *types; /* or NULL: all are normal */
    const struct mb_gguf_value *scores;
    struct mb_bpe_spec *spec;
};

static uint32_t type_of(const struct source *from, uint32_t id)
{
    if (!from->types) {
        return NORMAL;
    }
    struct mb_cursor c = mb_cursor_of(from->types->at + 4 * (size_t) id, 4);
    return mb_cursor_u32(&c);
}

static float score_of(const struct source *from, uint32_t id)
{
    struct mb_cursor c = mb_cursor_of(from->scores->at + 4 * (size_t) id, 4);
    return mb_cursor_f32(&c);
}

/* A list of one item a token. */
static enum mb_status get_parallel(const struct source *from, const char *key,
                                   enum mb_gguf_need need, enum mb_gguf_type item_type,
                                   size_t n_tokens, const struct mb_gguf_value **ret,
                                   struct mb_error *err)
{
    enum mb_status st = mb_gguf_list(from->g, key, need, item_type, ret, err);
    if (st == MB_OK && *ret && (*ret)->n != n_tokens) {
        return mb_fail(err, MB_E_FORMAT, 0, "key '%s': %zu items for %zu tokens", key,
                       (*ret)->n, n_tokens);
    }
    return st;
}

static enum mb_status read_token(const struct source *from, uint32_t id, const uint8_t *at,
                                 size_t n, struct mb_error *err)
{
    uint32_t flags = 0, type = type_of(from, id);
    if (type < NORMAL || type > BYTE) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "key 'tokenizer.ggml.token_type': item %u: %u is "
                       "not in 1..6",
                       (unsigned) id, (unsigned) type);
    }
    if (type == CONTROL || type == UNKNOWN) {
        flags = MB_TOKEN_ADDED | MB_TOKEN_SPECIAL;
    } else if (type == USER_DEFINED) {
        flags = MB_TOKEN_ADDED;
    }
    if (n > (flags ? MB_BPE_ADDED_BYTES_MAX : MB_BPE_TOKEN_BYTES_MAX)) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "key 'tokenizer.ggml.tokens': item %u: %zu bytes "
                       "are too long",
                       (unsigned) id, n);
    }
    return mb_bpe_spec_token(from->spec, id, at, n, flags, err);
}

static enum mb_status read_tokens(struct source *from, struct mb_error *err)
{
    const struct mb_gguf_value *tokens = NULL;
    enum mb_status st = mb_gguf_list(from->g, "tokenizer.ggml.tokens", MB_GGUF_REQUIRED,
                                     MB_GGUF_TEXT, &tokens, err);
    if (st == MB_OK && tokens->n > MB_BPE_TOKENS_MAX) {
        st = mb_fail(err, MB_E_LIMIT, 0,
                     "key 'tokenizer.ggml.tokens': %zu items are more than "
                     "%u",
                     tokens->n, MB_BPE_TOKENS_MAX);
    }
    if (st == MB_OK) {
        st = get_parallel(from, "tokenizer.ggml.token_type", MB_GGUF_OPTIONAL, MB_GGUF_I32,
                          tokens->n, &from->types, err);
    }
    if (st != MB_OK) {
        return st;
    }
    struct mb_cursor c = mb_cursor_of(tokens->at, tokens->bytes);
    for (uint32_t i = 0; i < tokens->n && st == MB_OK; i++) {
        size_t n;
        const uint8_t *at = mb_gguf_next_text(&c, &n);
        st = read_token(from, i, at, n, err);
    }
    return st;
}

/* A merge and what it is ranked by. */
struct candidate {
    struct mb_bpe_merge merge;
    float score; /* of the result */
};

struct candidates {
    struct candidate *at;
    size_t n, cap;
};

/* SentencePiece always merges the pair whose token has the best score. One token can come of
 * several pairs, and scores can be equal: then the pair goes first whose left part has the
 * smaller id, then the right. That is the order of the merges that were published for Llama 2,
 * all 61249 of them. */
static int by_rank(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->score != y->score) {
        return x->score > y->score ? -1 : 1;
    }
    if (x->merge.left != y->merge.left) {
        return x->merge.left < y->merge.left ? -1 : 1;
    }
    return x->merge.right < y->merge.right ? -1 : x->merge.right > y->merge.right;
}

static bool add_candidate(struct candidates *c, struct candidate add)
{
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 4096; /* bounded by MB_BPE_MERGES_MAX */
        struct candidate *grown = realloc(c->at, cap * sizeof *grown);
        if (!grown) {
            return false;
        }
        c->at = grown;
        c->cap = cap;
    }
    c->at[c->n++] = add;
    return true;
}

/* What merges are looked for in. */
struct pieces {
    const struct source *from;
    struct mb_vocabulary by_text;
    bool of_length[MB_BPE_TOKEN_BYTES_MAX + 1]; /* is a normal token this long? */
};

static uint32_t find_normal(const struct pieces *p, const uint8_t *at, size_t n)
{
    uint32_t id = p->of_length[n] ? mb_vocabulary_find(&p->by_text, at, n) : MB_NO_ID;
    return id != MB_NO_ID && type_of(p->from, id) == NORMAL ? id : MB_NO_ID;
}

/* Every pair of normal tokens that makes this one. */
static enum mb_status split_token(const struct pieces *p, uint32_t id, struct candidates *ret,
                                  struct mb_error *err)
{
    struct mb_bpe_text text = p->from->spec->tokens[id].text;
    const uint8_t *at = mb_bpe_at(p->from->spec, text);
    float score = score_of(p->from, id);
    if (!isfinite(score)) {
        return mb_fail(err, MB_E_FORMAT, 0, "key 'tokenizer.ggml.scores': item %u: not finite",
                       (unsigned) id);
    }
    for (uint32_t cut = 1; cut < text.n; cut++) {
        uint32_t left, right;
        if ((left = find_normal(p, at, cut)) == MB_NO_ID ||
            (right = find_normal(p, at + cut, text.n - cut)) == MB_NO_ID) {
            continue;
        }
        if (ret->n == MB_BPE_MERGES_MAX) {
            return mb_fail(err, MB_E_LIMIT, 0,
                           "key 'tokenizer.ggml.tokens': more than %u merges",
                           MB_BPE_MERGES_MAX);
        }
        struct candidate c = { { left, right, id }, score };
        if (!add_candidate(ret, c)) {
            return mb_fail(err, MB_E_NOMEM, 0, "no memory for the merges");
        }
    }
    return MB_OK;
}

static enum mb_status split_tokens(struct pieces *p, struct candidates *ret,
                                   struct mb_error *err)
{
    const struct mb_bpe_spec *s = p->from->spec;
    enum mb_status st = mb_vocabulary_init(&p->by_text, s, err);
    for (uint32_t i = 0; i < s->n_tokens; i++) {
        if (type_of(p->from, i) == NORMAL) {
            p->of_length[s->tokens[i].text.n] = true;
        }
    }
    for (uint32_t i = 0; i < s->n_tokens && st == MB_OK; i++) {
        if (type_of(p->from, i) == NORMAL) {
            st = split_token(p, i, ret, err);
        }
    }
    mb_vocabulary_fini(&p->by_text);
    return st;
}

static enum mb_status derive_merges(struct source *from, struct mb_error *err)
{
    struct pieces p = { .from = from };
    struct candidates all = { 0 };
    enum mb_status st = get_parallel(from, "tokenizer.ggml.scores", MB_GGUF_REQUIRED,
                                     MB_GGUF_F32, from->spec->n_tokens, &from->scores, err);
    if (st == MB_OK) {
        st = split_tokens(&p, &all, err);
    }
    if (st == MB_OK && all.n > 0) {
        qsort(all.at, all.n, sizeof *all.at, by_rank);
    }
    for (size_t i = 0; i < all.n && st == MB_OK; i++) {
        st = mb_bpe_spec_merge(from->spec, all.at[i].merge, err);
    }
    free(all.at);
    return st;
}

static struct mb_bpe_text copy(struct source *from, const char *text)
{
    return mb_bpe_spec_text(from->spec, text, strlen(text));
}

static enum mb_status add_step(struct source *from, enum mb_bpe_stage stage,
                               struct mb_bpe_step step, struct mb_error *err)
{
    return mb_bpe_spec_step(from->spec, stage, step, err);
}

/* Spaces are marks; one is put before a text, and taken from before what is decoded. */
static enum mb_status add_sentencepiece_steps(struct source *from, struct mb_error *err)
{
    bool prefix = true;
    enum mb_status st = mb_gguf_bool(from->g, "tokenizer.ggml.add_space_prefix",
                                     MB_GGUF_OPTIONAL, &prefix, err);
    struct mb_bpe_text mark = copy(from, SPACE_MARK), space = copy(from, " ");
    const struct {
        enum mb_bpe_stage stage;
        bool wanted;
        struct mb_bpe_step step;
    } rows[] = {
        { MB_BPE_NORMALIZER, prefix, { .kind = MB_BPE_PREPEND, .content = mark } },
        { MB_BPE_NORMALIZER,
          true,
          { .kind = MB_BPE_REPLACE, .pattern = space, .content = mark } },
        { MB_BPE_DECODER, true, { .kind = MB_BPE_REPLACE, .pattern = mark, .content = space } },
        { MB_BPE_DECODER, true, { .kind = MB_BPE_BYTE_TOKENS } },
        { MB_BPE_DECODER, true, { .kind = MB_BPE_FUSE } },
        { MB_BPE_DECODER,
          prefix,
          { .kind = MB_BPE_STRIP, .count_start = 1, .content = space } },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && st == MB_OK; i++) {
        if (rows[i].wanted) {
            st = add_step(from, rows[i].stage, rows[i].step, err);
        }
    }
    return st;
}

/* The token of a key, or as it was when the key is absent. */
static enum mb_status read_id(const struct source *from, const char *key, uint32_t *ret,
                              struct mb_error *err)
{
    uint32_t id = MB_NO_ID;
    enum mb_status st = mb_gguf_u32(from->g, key, MB_GGUF_OPTIONAL, 0, UINT32_MAX, &id, err);
    if (st != MB_OK || id == MB_NO_ID) {
        return st; /* the largest number says in the file, too, that there is none */
    }
    if (id >= from->spec->n_tokens) {
        return mb_fail(err, MB_E_FORMAT, 0, "key '%s': %u is no token", key, (unsigned) id);
    }
    *ret = id;
    return MB_OK;
}

static enum mb_status read_sentencepiece(struct source *from, struct mb_error *err)
{
    from->spec->flags = MB_BPE_BYTE_FALLBACK | MB_BPE_FUSE_UNK;
    enum mb_status st = derive_merges(from, err);
    if (st == MB_OK) {
        st = read_id(from, "tokenizer.ggml.unknown_token_id", &from->spec->unk, err);
    }
    return st == MB_OK ? add_sentencepiece_steps(from, err) : st;
}

/* Patterns as the authors of the models publish them, in their tokenizer.json. */
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
#define WORDS        "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define OTHERS       "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct splitter {
    const char *name;
    const char *pattern; /* NULL: GPT-2's */
    bool digits;         /* each alone, before the pattern */
    bool nfc, ignore_merges, bos;
} splitters[] = {
    { "gpt-2", NULL, false, false, false, false },
    { "smollm", NULL, true, false, false, false },
    { "llama-bpe", CONTRACTIONS WORDS "\\p{N}{1,3}" OTHERS, false, false, true, true },
    { "llama3", CONTRACTIONS WORDS "\\p{N}{1,3}" OTHERS, false, false, true, true },
    { "llama-v3", CONTRACTIONS WORDS "\\p{N}{1,3}" OTHERS, false, false, true, true },
    { "qwen2", CONTRACTIONS WORDS "\\p{N}" OTHERS, false, true, false, false },
    { "deepseek-r1-qwen", CONTRACTIONS WORDS "\\p{N}" OTHERS, false, true, false, false },
};
enum { N_SPLITTERS = sizeof splitters / sizeof splitters[0] };

static enum mb_status find_splitter(const struct source *from, const struct splitter **ret,
                                    struct mb_error *err)
{
    const struct mb_gguf_value *pre = NULL;
    enum mb_status st =
        mb_gguf_text(from->g, "tokenizer.ggml.pre", MB_GGUF_REQUIRED, &pre, err);
    if (st != MB_OK) {
        return st;
    }
    for (size_t i = 0; i < N_SPLITTERS; i++) {
        if (mb_gguf_text_is(pre, splitters[i].name)) {
            *ret = &splitters[i];
            return MB_OK;
        }
    }
    return mb_fail(err, MB_E_UNSUPPORTED, 0,
                   "tokenizer.ggml.pre %.*s is not supported; supported: gpt-2, smollm, "
                   "llama-bpe, llama3, llama-v3, qwen2, deepseek-r1-qwen",
                   (int) (pre->bytes < 60 ? pre->bytes : 60), (const char *) pre->at);
}

static enum mb_status add_byte_level_steps(struct source *from, const struct splitter *how,
                                           struct mb_error *err)
{
    struct mb_bpe_step nfc = { .kind = MB_BPE_NFC };
    struct mb_bpe_step digits = { .kind = MB_BPE_DIGITS, .flags = MB_BPE_EACH };
    struct mb_bpe_step split = { .kind = MB_BPE_SPLIT,
                                 .flags = MB_BPE_REGEX,
                                 .mode = MB_BPE_ISOLATED };
    struct mb_bpe_step bytes = { .kind = MB_BPE_BYTE_LEVEL,
                                 .flags = how->pattern ? 0 : MB_BPE_WORDS };
    enum mb_status st = MB_OK;
    if (how->nfc) {
        st = add_step(from, MB_BPE_NORMALIZER, nfc, err);
    }
    if (how->digits && st == MB_OK) {
        st = add_step(from, MB_BPE_PRE_TOKENIZER, digits, err);
    }
    if (how->pattern && st == MB_OK) {
        split.pattern = copy(from, how->pattern);
        st = add_step(from, MB_BPE_PRE_TOKENIZER, split, err);
    }
    if (st == MB_OK) {
        st = add_step(from, MB_BPE_PRE_TOKENIZER, bytes, err);
    }
    bytes.flags = 0;
    return st == MB_OK ? add_step(from, MB_BPE_DECODER, bytes, err) : st;
}

/* "a b": cut at the first space, for a byte-level token has none. */
static bool parse_merge(const struct mb_vocabulary *v, const uint8_t *at, size_t n,
                        struct mb_bpe_merge *ret)
{
    const uint8_t *space = n > 0 ? memchr(at, ' ', n) : NULL;
    uint8_t both[2 * MB_BPE_TOKEN_BYTES_MAX];
    if (!space || n - 1 > sizeof both) {
        return false;
    }
    size_t n_left = (size_t) (space - at), n_right = n - n_left - 1;
    memcpy(both, at, n_left);
    memcpy(both + n_left, space + 1, n_right);
    ret->left = mb_vocabulary_find(v, both, n_left);
    ret->right = mb_vocabulary_find(v, both + n_left, n_right);
    ret->result = mb_vocabulary_find(v, both, n - 1);
    return ret->left != MB_NO_ID && ret->right != MB_NO_ID && ret->result != MB_NO_ID;
}

static enum mb_status read_merges(struct source *from, struct mb_error *err)
{
    const struct mb_gguf_value *merges = NULL;
    struct mb_vocabulary v = { 0 };
    enum mb_status st = mb_gguf_list(from->g, "tokenizer.ggml.merges", MB_GGUF_REQUIRED,
                                     MB_GGUF_TEXT, &merges, err);
    if (st == MB_OK) {
        st = mb_vocabulary_init(&v, from->spec, err);
    }
    struct mb_cursor c =
        st == MB_OK ? mb_cursor_of(merges->at, merges->bytes) : (struct mb_cursor) { 0 };
    for (size_t i = 0; st == MB_OK && i < merges->n; i++) {
        struct mb_bpe_merge m;
        size_t n;
        const uint8_t *at = mb_gguf_next_text(&c, &n);
        st = parse_merge(&v, at, n, &m)
                 ? mb_bpe_spec_merge(from->spec, m, err)
                 : mb_fail(err, MB_E_FORMAT, 0,
                           "key 'tokenizer.ggml.merges': item %zu: not two tokens that make a "
                           "third",
                           i);
    }
    mb_vocabulary_fini(&v);
    return st;
}

static enum mb_status read_byte_level(struct source *from, bool *ret_bos, struct mb_error *err)
{
    const struct splitter *how = NULL;
    enum mb_status st = find_splitter(from, &how, err);
    if (st == MB_OK) {
        from->spec->flags = how->ignore_merges ? MB_BPE_IGNORE_MERGES : 0;
        *ret_bos = how->bos;
        st = read_merges(from, err);
    }
    return st == MB_OK ? add_byte_level_steps(from, how, err) : st;
}

/* Which tokens begin and end a text: add_bos is what holds when the file does not say. */
static enum mb_status read_ends(struct source *from, bool add_bos, struct mb_error *err)
{
    static const char *const ends[] = { "tokenizer.ggml.eos_token_id",
                                        "tokenizer.ggml.eot_token_id",
                                        "tokenizer.ggml.eom_token_id" };
    struct mb_bpe_spec *s = from->spec;
    bool add_eos = false;
    enum mb_status st = read_id(from, "tokenizer.ggml.bos_token_id", &s->bos, err);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0] && st == MB_OK; i++) {
        uint32_t id = MB_NO_ID;
        st = read_id(from, ends[i], &id, err);
        if (st == MB_OK && id != MB_NO_ID && !mb_bpe_ids_has(&s->eos, id)) {
            st = mb_bpe_ids_add(&s->eos, id, err);
        }
    }
    if (st == MB_OK) {
        st = mb_gguf_bool(from->g, "tokenizer.ggml.add_bos_token", MB_GGUF_OPTIONAL, &add_bos,
                          err);
    }
    if (st == MB_OK) {
        st = mb_gguf_bool(from->g, "tokenizer.ggml.add_eos_token", MB_GGUF_OPTIONAL, &add_eos,
                          err);
    }
    if (st == MB_OK && add_bos && s->bos != MB_NO_ID) {
        st = mb_bpe_ids_add(&s->prefix, s->bos, err);
    }
    if (st == MB_OK && add_eos && s->eos.n > 0) {
        st = mb_bpe_ids_add(&s->suffix, s->eos.at[0], err);
    }
    return st;
}

static enum mb_status fill(struct source *from, const struct mb_gguf_value *model,
                           struct mb_error *err)
{
    bool is_llama = mb_gguf_text_is(model, "llama"), add_bos = is_llama;
    if (!is_llama && !mb_gguf_text_is(model, "gpt2")) {
        return mb_fail(err, MB_E_UNSUPPORTED, 0,
                       "tokenizer.ggml.model %.*s is not supported; supported: llama, gpt2",
                       (int) (model->bytes < 60 ? model->bytes : 60), (const char *) model->at);
    }
    enum mb_status st = read_tokens(from, err);
    if (st == MB_OK) {
        st = is_llama ? read_sentencepiece(from, err) : read_byte_level(from, &add_bos, err);
    }
    if (st == MB_OK) {
        st = read_ends(from, add_bos, err);
    }
    if (st == MB_OK && from->spec->text.failed) {
        st = mb_fail(err, MB_E_NOMEM, 0, "no memory for the tokenizer");
    }
    return st == MB_OK ? mb_bpe_spec_check(from->spec, err) : st;
}

enum mb_status mb_gguf_tokenizer(const struct mb_gguf *g, struct mb_bpe_spec **ret,
                                 struct mb_error *err)
{
    const struct mb_gguf_value *model = NULL;
    enum mb_status st = mb_gguf_text(g, "tokenizer.ggml.model", MB_GGUF_OPTIONAL, &model, err);
    if (st != MB_OK || !model) {
        return st != MB_OK ? st : mb_fail(err, MB_E_NOTFOUND, 0, "no tokenizer");
    }
    struct source from = { .g = g, .spec = mb_bpe_spec_new() };
    if (!from.spec) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for the tokenizer");
    }
    st = fill(&from, model, err);
    if (st != MB_OK) {
        mb_bpe_spec_free(from.spec);
        return st;
    }
    *ret = from.spec;
    return MB_OK;
}
