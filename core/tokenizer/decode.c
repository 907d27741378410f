/* Decoding: what each token's text becomes is worked out once, when the tokenizer is built; a
 * text is then its tokens' bytes, less at most one leading space. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/tokenizer/byte_level.h"
#include "core/tokenizer/compiled.h"
#include "core/tokenizer/utf8.h"

/* The bytes that a byte-level token spells. One with characters outside the alphabet was added
 * as plain text, and is that. */
static void put_byte_level(struct mb_text text, struct mb_bytes *ret)
{
    size_t before = ret->len;
    for (size_t i = 0; i < text.n;) {
        struct mb_utf8 u = mb_utf8_first(text.at + i, text.n - i);
        uint8_t byte;
        if (u.kind != MB_UTF8_CHAR || !mb_byte_level_byte(u.c, &byte)) {
            ret->len = before;
            mb_bytes_put(ret, text.at, text.n);
            return;
        }
        mb_bytes_put_u8(ret, byte);
        i += u.n;
    }
}

static struct mb_text of_spec(const struct mb_bpe_spec *spec, struct mb_bpe_text t)
{
    return (struct mb_text) { mb_bpe_at(spec, t), t.n };
}

/* One decoder step on one token's text. */
static void apply(const struct mb_bpe_spec *spec, const struct mb_bpe_step *step,
                  uint32_t flags, struct mb_text text, size_t n_max, struct mb_bytes *ret)
{
    const struct mb_text blank = { (const uint8_t *) " ", 1 };
    uint8_t byte;
    if (step->kind == MB_BPE_REPLACE) {
        mb_replace(text, of_spec(spec, step->pattern), of_spec(spec, step->content), n_max,
                   ret);
    } else if (step->kind == MB_BPE_METASPACE) {
        mb_replace(text, of_spec(spec, step->pattern), blank, n_max, ret);
    } else if (step->kind == MB_BPE_BYTE_LEVEL && !(flags & MB_TOKEN_ADDED)) {
        put_byte_level(text, ret);
    } else if (step->kind == MB_BPE_BYTE_TOKENS && mb_byte_token(text.at, text.n, &byte)) {
        mb_bytes_put_u8(ret, byte);
    } else {
        mb_bytes_put(ret, text.at,
                     text.n); /* a step on the whole text, or not for this token */
    }
}

/* False when all tokens together outgrow n_max, or memory is refused. */
static bool decode_token(struct mb_tokenizer *t, uint32_t id, size_t n_max,
                         struct mb_rewrite *r)
{
    const struct mb_bpe_steps *steps = &t->spec->stages[MB_BPE_DECODER];
    const struct mb_bpe_token *token = &t->spec->tokens[id];
    struct mb_text text = of_spec(t->spec, token->text);
    for (uint32_t i = 0; i < steps->n; i++) {
        struct mb_bytes *out = mb_rewrite_next(r);
        apply(t->spec, &steps->at[i], token->flags, text, n_max, out);
        if (out->failed || out->len > n_max) {
            t->decoded.failed = out->failed;
            return false;
        }
        text = (struct mb_text) { out->at, out->len };
    }
    size_t at = t->decoded.len;
    mb_bytes_put(&t->decoded, text.at, text.n);
    t->decoded_of[id] = (struct mb_bpe_text) { (uint32_t) at, (uint32_t) text.n };
    return !t->decoded.failed && t->decoded.len <= n_max;
}

enum mb_status mb_decode_compile(struct mb_tokenizer *t, struct mb_error *err)
{
    const struct mb_bpe_spec *spec = t->spec;
    const struct mb_bpe_steps *steps = &spec->stages[MB_BPE_DECODER];
    t->decoded_of = calloc(spec->n_tokens ? spec->n_tokens : 1, sizeof *t->decoded_of);
    if (!t->decoded_of) {
        return mb_fail(err, MB_E_NOMEM, 0, "tokenizer: no memory for decoded tokens");
    }
    size_t n_max = MB_NORMAL_GROWTH_MAX * spec->text.len + MB_NORMAL_GROWTH_BYTES;
    n_max = n_max < UINT32_MAX ? n_max : UINT32_MAX;
    struct mb_rewrite r = { 0 };
    bool ok = true;
    for (uint32_t id = 0; id < spec->n_tokens && ok; id++) {
        ok = decode_token(t, id, n_max, &r);
    }
    mb_rewrite_fini(&r);
    if (t->decoded.failed) {
        return mb_fail(err, MB_E_NOMEM, 0, "tokenizer: no memory for decoded tokens");
    }
    if (!ok) {
        return mb_fail(err, MB_E_LIMIT, 0,
                       "tokenizer: its decoder makes tokens of more than %zu bytes", n_max);
    }
    for (uint32_t i = 0; i < steps->n; i++) {
        const struct mb_bpe_step *p = &steps->at[i];
        if (p->kind == MB_BPE_STRIP && p->count_start > 0) {
            t->strips_first = true;
            t->strip_byte = *mb_bpe_at(spec, p->content);
        } else if (p->kind == MB_BPE_METASPACE && p->mode != MB_BPE_PREPEND_NEVER) {
            t->strips_first = true;
            t->strip_byte = ' ';
        }
    }
    return MB_OK;
}

const uint8_t *mb_tokenizer_token_bytes(const struct mb_tokenizer *t, uint32_t id,
                                        size_t *ret_n)
{
    if (id >= t->spec->n_tokens || !t->decoded.at) {
        *ret_n = 0;
        return (const uint8_t *) "";
    }
    *ret_n = t->decoded_of[id].n;
    return t->decoded.at + t->decoded_of[id].at;
}

/* The bytes that id adds to a text; *started says whether the text has any yet. */
static struct mb_text text_of(const struct mb_tokenizer *t, uint32_t id, bool skip_special,
                              bool *started)
{
    struct mb_text text = { (const uint8_t *) "", 0 };
    if (skip_special && mb_tokenizer_is_special(t, id)) {
        return text;
    }
    text.at = mb_tokenizer_token_bytes(t, id, &text.n);
    if (text.n > 0 && !*started) {
        *started = true;
        if (t->strips_first && text.at[0] == t->strip_byte) {
            text.at++;
            text.n--;
        }
    }
    return text;
}

enum mb_status mb_tokenizer_decode(const struct mb_tokenizer *t, const uint32_t *ids, size_t n,
                                   bool skip_special, struct mb_bytes *ret,
                                   struct mb_error *err)
{
    bool started = false;
    for (size_t i = 0; i < n; i++) {
        struct mb_text text = text_of(t, ids[i], skip_special, &started);
        mb_bytes_put(ret, text.at, text.n);
    }
    return ret->failed ? mb_fail(err, MB_E_NOMEM, 0, "tokenizer: no memory to decode") : MB_OK;
}

void mb_decoder_init(struct mb_decoder *d, const struct mb_tokenizer *t, bool skip_special,
                     bool continuing)
{
    *d = (struct mb_decoder) {
        .tokenizer = t,
        .started = continuing,
        .skip_special = skip_special,
    };
}

/* Gives what held is known to be: characters, and U+FFFD for what can not become one. */
static void release(struct mb_decoder *d, struct mb_bytes *ret)
{
    while (d->n_held > 0) {
        struct mb_utf8 u = mb_utf8_first(d->held, d->n_held);
        if (u.kind == MB_UTF8_CUT) {
            return;
        }
        if (u.kind == MB_UTF8_CHAR) {
            mb_bytes_put(ret, d->held, u.n);
        } else {
            mb_bytes_put(ret, MB_REPLACEMENT, sizeof MB_REPLACEMENT - 1);
        }
        d->n_held = (uint8_t) (d->n_held - u.n);
        memmove(d->held, d->held + u.n, d->n_held);
    }
}

void mb_decoder_push(struct mb_decoder *d, uint32_t id, struct mb_bytes *ret)
{
    struct mb_text text = text_of(d->tokenizer, id, d->skip_special, &d->started);
    for (size_t i = 0; i < text.n; i++) {
        assert(d->n_held < MB_UTF8_MAX);
        d->held[d->n_held++] = text.at[i];
        release(d, ret);
    }
}

void mb_decoder_finish(struct mb_decoder *d, struct mb_bytes *ret)
{
    if (d->n_held > 0) {
        mb_bytes_put(ret, MB_REPLACEMENT, sizeof MB_REPLACEMENT - 1);
        d->n_held = 0;
    }
}
