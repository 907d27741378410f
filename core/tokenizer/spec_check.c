/* mb_bpe_spec_check: what every later part of the tokenizer relies on, asked once. */
#include <string.h>

#include "core/tokenizer/spec.h"
#include "core/tokenizer/utf8.h"

#define BIT(x) (1u << (x))

/* What a step of each kind may carry, and in which stages it may stand. */
static const struct {
    const char *name;
    unsigned stages, flags, modes;
    bool pattern, content; /* must not be empty; else must be */
} kinds[MB_BPE_STEP_KINDS] = {
    [MB_BPE_PREPEND] = { "Prepend", BIT(MB_BPE_NORMALIZER), 0, BIT(0), false, true },
    [MB_BPE_REPLACE] = { "Replace", BIT(MB_BPE_NORMALIZER) | BIT(MB_BPE_DECODER), 0, BIT(0),
                         true, false },
    [MB_BPE_NFC] = { "NFC", BIT(MB_BPE_NORMALIZER), 0, BIT(0), false, false },
    [MB_BPE_NFD] = { "NFD", BIT(MB_BPE_NORMALIZER), 0, BIT(0), false, false },
    [MB_BPE_NFKC] = { "NFKC", BIT(MB_BPE_NORMALIZER), 0, BIT(0), false, false },
    [MB_BPE_NFKD] = { "NFKD", BIT(MB_BPE_NORMALIZER), 0, BIT(0), false, false },
    [MB_BPE_SPLIT] = { "Split", BIT(MB_BPE_PRE_TOKENIZER), MB_BPE_REGEX | MB_BPE_INVERT,
                       BIT(MB_BPE_ISOLATED) | BIT(MB_BPE_REMOVED) |
                           BIT(MB_BPE_MERGED_WITH_PREVIOUS) | BIT(MB_BPE_MERGED_WITH_NEXT) |
                           BIT(MB_BPE_CONTIGUOUS),
                       true, false },
    [MB_BPE_DIGITS] = { "Digits", BIT(MB_BPE_PRE_TOKENIZER), MB_BPE_EACH, BIT(0), false,
                        false },
    [MB_BPE_METASPACE] = { "Metaspace", BIT(MB_BPE_PRE_TOKENIZER) | BIT(MB_BPE_DECODER),
                           MB_BPE_WORDS,
                           BIT(MB_BPE_PREPEND_NEVER) | BIT(MB_BPE_PREPEND_FIRST) |
                               BIT(MB_BPE_PREPEND_ALWAYS),
                           true, false },
    [MB_BPE_BYTE_LEVEL] = { "ByteLevel", BIT(MB_BPE_PRE_TOKENIZER) | BIT(MB_BPE_DECODER),
                            MB_BPE_PREFIX_SPACE | MB_BPE_WORDS, BIT(0), false, false },
    [MB_BPE_BYTE_TOKENS] = { "ByteFallback", BIT(MB_BPE_DECODER), 0, BIT(0), false, false },
    [MB_BPE_FUSE] = { "Fuse", BIT(MB_BPE_DECODER), 0, BIT(0), false, false },
    [MB_BPE_STRIP] = { "Strip", BIT(MB_BPE_DECODER), 0, BIT(0), false, true },
};

static const char *const stage_names[MB_BPE_STAGES] = { "normalizer", "pre_tokenizer",
                                                        "decoder" };

static enum mb_status wrong(struct mb_error *err, const char *list, uint32_t i, const char *why)
{
    return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: %s %u: %s", list, i, why);
}

static bool is_token(const struct mb_bpe_spec *s, uint32_t id)
{
    return id < s->n_tokens && s->tokens[id].flags & MB_TOKEN_PRESENT;
}

static bool text_fits(const struct mb_bpe_spec *s, struct mb_bpe_text t, uint32_t n_max)
{
    return t.n <= n_max && t.at <= s->text.len && t.n <= s->text.len - t.at &&
           mb_utf8_valid(mb_bpe_at(s, t), t.n);
}

static enum mb_status check_tokens(const struct mb_bpe_spec *s, struct mb_error *err)
{
    for (uint32_t i = 0; i < s->n_tokens; i++) {
        const struct mb_bpe_token *t = &s->tokens[i];
        bool added = t->flags & MB_TOKEN_ADDED;
        if (t->flags & ~MB_TOKEN_FLAGS) {
            return wrong(err, "token", i, "unknown flags");
        }
        if (t->flags && !(t->flags & MB_TOKEN_PRESENT)) {
            return wrong(err, "token", i, "flags on a hole");
        }
        if (!added && t->flags & ~MB_TOKEN_PRESENT) {
            return wrong(err, "token", i, "flags of an added token on one that is not");
        }
        if (!text_fits(s, t->text, added ? MB_BPE_ADDED_BYTES_MAX : MB_BPE_TOKEN_BYTES_MAX)) {
            return wrong(err, "token", i, "its text is too long, or not UTF-8");
        }
        if (added && t->text.n == 0) {
            return wrong(err, "token", i, "an added token without text");
        }
    }
    return MB_OK;
}

/* A merge concatenates: no merge can then undo another, and the text of ids is the text
 * encoded. */
static enum mb_status check_merges(const struct mb_bpe_spec *s, struct mb_error *err)
{
    for (uint32_t i = 0; i < s->n_merges; i++) {
        const struct mb_bpe_merge *m = &s->merges[i];
        if (!is_token(s, m->left) || !is_token(s, m->right) || !is_token(s, m->result)) {
            return wrong(err, "merge", i, "of an id that is no token");
        }
        struct mb_bpe_text a = s->tokens[m->left].text;
        struct mb_bpe_text b = s->tokens[m->right].text;
        struct mb_bpe_text ab = s->tokens[m->result].text;
        const uint8_t *at = mb_bpe_at(s, ab);
        if (a.n == 0 || b.n == 0 || ab.n != a.n + b.n ||
            memcmp(at, mb_bpe_at(s, a), a.n) != 0 ||
            memcmp(at + a.n, mb_bpe_at(s, b), b.n) != 0) {
            return wrong(err, "merge", i, "its result is not the two parts put together");
        }
    }
    return MB_OK;
}

static enum mb_status check_step(const struct mb_bpe_spec *s, const struct mb_bpe_step *p,
                                 enum mb_bpe_stage stage, struct mb_error *err)
{
    if (p->kind == 0 || p->kind >= MB_BPE_STEP_KINDS || !(kinds[p->kind].stages & BIT(stage))) {
        return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: %s: no step of kind %u",
                       stage_names[stage], p->kind);
    }
    const char *name = kinds[p->kind].name;
    if (p->flags & ~kinds[p->kind].flags) {
        return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: %s: unknown flags", name);
    }
    if (p->mode >= MB_BPE_MODES || !(kinds[p->kind].modes & BIT(p->mode))) {
        return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: %s: no mode %u", name, p->mode);
    }
    if (!text_fits(s, p->pattern, MB_BPE_PATTERN_BYTES_MAX) ||
        !text_fits(s, p->content, MB_BPE_CONTENT_BYTES_MAX)) {
        return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: %s: a text too long, or not UTF-8",
                       name);
    }
    if (kinds[p->kind].pattern != (p->pattern.n > 0)) {
        return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: %s: pattern", name);
    }
    if (p->kind != MB_BPE_REPLACE && kinds[p->kind].content != (p->content.n > 0)) {
        return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: %s: content", name);
    }
    if (p->kind != MB_BPE_STRIP && (p->count_start || p->count_stop)) {
        return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: %s: counts", name);
    }
    return MB_OK;
}

/* Bytes are no text any more: only the merges may follow. */
static enum mb_status check_pre_tokenizer(const struct mb_bpe_steps *steps,
                                          struct mb_error *err)
{
    for (uint32_t i = 0; i + 1 < steps->n; i++) {
        if (steps->at[i].kind == MB_BPE_BYTE_LEVEL) {
            return mb_fail(err, MB_E_UNSUPPORTED, 0,
                           "pre_tokenizer ByteLevel is supported only as the last step");
        }
    }
    return MB_OK;
}

/* The whole text is never at hand while it is streamed: of the steps on it, only taking one
 * leading character away is offered, which is what real tokenizers do. */
static enum mb_status check_decoder(const struct mb_bpe_steps *steps, struct mb_error *err)
{
    bool fused = false;
    for (uint32_t i = 0; i < steps->n; i++) {
        const struct mb_bpe_step *p = &steps->at[i];
        if (fused && p->kind != MB_BPE_FUSE && p->kind != MB_BPE_STRIP) {
            return mb_fail(err, MB_E_UNSUPPORTED, 0,
                           "decoder %s after Fuse is not supported; supported: Strip",
                           kinds[p->kind].name);
        }
        if (p->kind == MB_BPE_STRIP &&
            (p->count_stop > 0 || p->count_start > 1 || p->content.n > 1 || !fused)) {
            return mb_fail(err, MB_E_UNSUPPORTED, 0,
                           "decoder Strip is supported only after Fuse, of at most one "
                           "character at the start");
        }
        fused = fused || p->kind == MB_BPE_FUSE;
    }
    return MB_OK;
}

static enum mb_status check_ids(const struct mb_bpe_spec *s, const char *name,
                                const struct mb_bpe_ids *ids, struct mb_error *err)
{
    if (ids->n > MB_BPE_IDS_MAX) {
        return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: %s: too many", name);
    }
    for (uint32_t i = 0; i < ids->n; i++) {
        if (!is_token(s, ids->at[i])) {
            return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: %s: %u is no token", name,
                           ids->at[i]);
        }
    }
    return MB_OK;
}

static enum mb_status check_all_ids(const struct mb_bpe_spec *s, struct mb_error *err)
{
    if (s->unk != MB_NO_ID && !is_token(s, s->unk)) {
        return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: unk: %u is no token", s->unk);
    }
    if (s->bos != MB_NO_ID && !is_token(s, s->bos)) {
        return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: bos: %u is no token", s->bos);
    }
    enum mb_status st = check_ids(s, "prefix", &s->prefix, err);
    if (st == MB_OK) {
        st = check_ids(s, "suffix", &s->suffix, err);
    }
    if (st == MB_OK) {
        st = check_ids(s, "eos", &s->eos, err);
    }
    return st;
}

enum mb_status mb_bpe_spec_check(const struct mb_bpe_spec *s, struct mb_error *err)
{
    if (s->n_tokens > MB_BPE_TOKENS_MAX || s->n_merges > MB_BPE_MERGES_MAX) {
        return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: too many tokens or merges");
    }
    if (s->flags & ~MB_BPE_FLAGS) {
        return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: unknown flags");
    }
    enum mb_status st = check_tokens(s, err);
    if (st == MB_OK) {
        st = check_merges(s, err);
    }
    for (unsigned stage = 0; stage < MB_BPE_STAGES && st == MB_OK; stage++) {
        const struct mb_bpe_steps *steps = &s->stages[stage];
        if (steps->n > MB_BPE_STEPS_MAX) {
            return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: %s: too many steps",
                           stage_names[stage]);
        }
        for (uint32_t i = 0; i < steps->n && st == MB_OK; i++) {
            st = check_step(s, &steps->at[i], (enum mb_bpe_stage) stage, err);
        }
    }
    if (st == MB_OK) {
        st = check_pre_tokenizer(&s->stages[MB_BPE_PRE_TOKENIZER], err);
    }
    if (st == MB_OK) {
        st = check_decoder(&s->stages[MB_BPE_DECODER], err);
    }
    return st == MB_OK ? check_all_ids(s, err) : st;
}
