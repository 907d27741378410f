#include "core/tokenizer/normalize.h"

#include <assert.h>
#include <string.h>

#include "core/tokenizer/unicode.h"

void mb_rewrite_fini(struct mb_rewrite *r)
{
    mb_bytes_fini(&r->buffer[0]);
    mb_bytes_fini(&r->buffer[1]);
}

struct mb_bytes *mb_rewrite_next(struct mb_rewrite *r)
{
    r->now = !r->now;
    mb_bytes_clear(&r->buffer[r->now]);
    return &r->buffer[r->now];
}

/* The first pattern in text, or NULL. A window at a time: an address sanitizer looks at all that
 * memmem is given, at every call, and made the time of a long text quadratic. */
static const uint8_t *find(struct mb_text text, struct mb_text pattern)
{
    enum { WINDOW = 256 };
    while (text.n >= pattern.n) {
        size_t n = text.n < WINDOW + pattern.n ? text.n : WINDOW + pattern.n;
        const uint8_t *hit = memmem(text.at, n, pattern.at, pattern.n);
        if (hit || n == text.n) {
            return hit;
        }
        text.at += WINDOW; /* a pattern that begins before this is in the window */
        text.n -= WINDOW;
    }
    return NULL;
}

void mb_replace(struct mb_text text, struct mb_text pattern, struct mb_text content,
                size_t n_max, struct mb_bytes *ret)
{
    assert(pattern.n > 0);
    while (text.n > 0 && ret->len <= n_max && !ret->failed) {
        const uint8_t *hit = find(text, pattern);
        if (!hit) {
            mb_bytes_put(ret, text.at, text.n);
            return;
        }
        size_t before = (size_t) (hit - text.at);
        mb_bytes_put(ret, text.at, before);
        mb_bytes_put(ret, content.at, content.n);
        text.at = hit + pattern.n;
        text.n -= before + pattern.n;
    }
}

static struct mb_text of_spec(const struct mb_bpe_spec *spec, struct mb_bpe_text t)
{
    return (struct mb_text) { mb_bpe_at(spec, t), t.n };
}

static void apply(const struct mb_bpe_spec *spec, const struct mb_bpe_step *step,
                  struct mb_text text, size_t n_max, struct mb_bytes *ret)
{
    switch (step->kind) {
    case MB_BPE_PREPEND:
        mb_bytes_put(ret, mb_bpe_at(spec, step->content), step->content.n);
        mb_bytes_put(ret, text.at, text.n);
        break;
    case MB_BPE_REPLACE:
        mb_replace(text, of_spec(spec, step->pattern), of_spec(spec, step->content), n_max,
                   ret);
        break;
    case MB_BPE_NFC:
        mb_normal_form(MB_NFC, text.at, text.n, ret);
        break;
    case MB_BPE_NFD:
        mb_normal_form(MB_NFD, text.at, text.n, ret);
        break;
    case MB_BPE_NFKC:
        mb_normal_form(MB_NFKC, text.at, text.n, ret);
        break;
    case MB_BPE_NFKD:
        mb_normal_form(MB_NFKD, text.at, text.n, ret);
        break;
    default:
        assert(!"a step that mb_bpe_spec_check refuses");
    }
}

enum mb_status mb_normalize(const struct mb_bpe_spec *spec, struct mb_text text,
                            struct mb_rewrite *r, struct mb_text *ret, struct mb_error *err)
{
    const struct mb_bpe_steps *steps = &spec->stages[MB_BPE_NORMALIZER];
    size_t n_max = MB_NORMAL_GROWTH_MAX * text.n + MB_NORMAL_GROWTH_BYTES;
    for (uint32_t i = 0; i < steps->n && text.n > 0; i++) {
        struct mb_bytes *out = mb_rewrite_next(r);
        apply(spec, &steps->at[i], text, n_max, out);
        if (out->failed) {
            return mb_fail(err, MB_E_NOMEM, 0, "tokenizer: no memory to normalize a text");
        }
        if (out->len > n_max) {
            return mb_fail(err, MB_E_LIMIT, 0,
                           "tokenizer: its normalizer makes a text of more than %zu bytes",
                           n_max);
        }
        text = (struct mb_text) { out->at, out->len };
    }
    *ret = text;
    return MB_OK;
}
