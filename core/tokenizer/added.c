#include "core/tokenizer/added.h"

#include <stdlib.h>
#include <string.h>

#include "core/tokenizer/unicode.h"
#include "core/tokenizer/utf8.h"

static bool belongs(uint32_t flags, enum mb_added_place place)
{
    if (!(flags & MB_TOKEN_ADDED)) {
        return false;
    }
    if (flags & MB_TOKEN_SPECIAL) {
        return place == MB_ADDED_PLAIN_OR_SPECIAL;
    }
    return (flags & MB_TOKEN_NORMALIZED) ? place == MB_ADDED_NORMALIZED
                                         : place != MB_ADDED_NORMALIZED;
}

/* qsort_r's order of tokens by text. */
static int compare(const void *x, const void *y, void *texts)
{
    const struct mb_added_token *a = x;
    const struct mb_added_token *b = y;
    const uint8_t *base = texts;
    uint32_t n = a->text.n < b->text.n ? a->text.n : b->text.n;
    int order = memcmp(base + a->text.at, base + b->text.at, n);
    return order ? order : (a->text.n > b->text.n) - (a->text.n < b->text.n);
}

static enum mb_status put(struct mb_added *a, const struct mb_bpe_spec *spec, uint32_t id,
                          bool normalized, struct mb_rewrite *r, struct mb_error *err)
{
    const struct mb_bpe_token *t = &spec->tokens[id];
    struct mb_text text = { mb_bpe_at(spec, t->text), t->text.n };
    if (normalized) {
        enum mb_status st = mb_normalize(spec, text, r, &text, err);
        if (st != MB_OK) {
            return st;
        }
    }
    if (text.n == 0) {
        return MB_OK; /* normalized away: it is nowhere in normalized text */
    }
    a->tokens[a->n++] = (struct mb_added_token) {
        .text = { (uint32_t) a->texts.len, (uint32_t) text.n },
        .id = id,
        .flags = t->flags,
    };
    a->leads[text.at[0]] = true;
    mb_bytes_put(&a->texts, text.at, text.n);
    return a->texts.failed
               ? mb_fail(err, MB_E_NOMEM, 0, "tokenizer: no memory for added tokens")
               : MB_OK;
}

enum mb_status mb_added_init(struct mb_added *a, const struct mb_bpe_spec *spec,
                             enum mb_added_place place, struct mb_error *err)
{
    *a = (struct mb_added) { 0 };
    size_t n = 0;
    for (uint32_t id = 0; id < spec->n_tokens; id++) {
        n += belongs(spec->tokens[id].flags, place);
    }
    a->tokens = calloc(n ? n : 1, sizeof *a->tokens);
    if (!a->tokens) {
        return mb_fail(err, MB_E_NOMEM, 0, "tokenizer: no memory for added tokens");
    }
    struct mb_rewrite r = { 0 };
    enum mb_status st = MB_OK;
    for (uint32_t id = 0; id < spec->n_tokens && st == MB_OK; id++) {
        if (belongs(spec->tokens[id].flags, place)) {
            st = put(a, spec, id, place == MB_ADDED_NORMALIZED, &r, err);
        }
    }
    mb_rewrite_fini(&r);
    if (st == MB_OK && a->n > 1) {
        qsort_r(a->tokens, a->n, sizeof *a->tokens, compare, a->texts.at);
    }
    return st;
}

void mb_added_fini(struct mb_added *a)
{
    free(a->tokens);
    mb_bytes_fini(&a->texts);
    a->tokens = NULL;
    a->n = 0;
}

/* The first token in [low, high) whose byte at depth is at least c; all are longer than depth
 * or equal so far. */
static size_t first_at_least(const struct mb_added *a, size_t low, size_t high, size_t depth,
                             unsigned c)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct mb_bpe_text t = a->tokens[middle].text;
        if (t.n > depth && a->texts.at[t.at + depth] >= c) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

/* The longest token that text starts with: the range of those that agree so far narrows byte by
 * byte, and the shortest of the range stands first. */
static const struct mb_added_token *longest(const struct mb_added *a, const uint8_t *at,
                                            size_t n)
{
    const struct mb_added_token *best = NULL;
    size_t low = 0, high = a->n;
    for (size_t depth = 0; low < high; depth++) {
        if (a->tokens[low].text.n == depth && depth > 0) {
            best = &a->tokens[low];
        }
        if (depth == n) {
            break;
        }
        low = first_at_least(a, low, high, depth, at[depth]);
        high = first_at_least(a, low, high, depth, at[depth] + 1u);
    }
    return best;
}

static struct mb_utf8 character_before(struct mb_text text, size_t end)
{
    size_t start = end - 1;
    while (start > 0 && (text.at[start] & 0xc0) == 0x80) {
        start--;
    }
    return mb_utf8_first(text.at + start, end - start);
}

/* Is there a word's character on either side? */
static bool inside_word(struct mb_text text, size_t start, size_t end)
{
    if (start > 0 && mb_is_word(character_before(text, start).c)) {
        return true;
    }
    return end < text.n && mb_is_word(mb_utf8_first(text.at + end, text.n - end).c);
}

static size_t strip_left(struct mb_text text, size_t start, size_t from)
{
    while (start > from) {
        struct mb_utf8 u = character_before(text, start);
        if (!mb_is_space(u.c) || start - from < u.n) {
            break;
        }
        start -= u.n;
    }
    return start;
}

static size_t strip_right(struct mb_text text, size_t end)
{
    while (end < text.n) {
        struct mb_utf8 u = mb_utf8_first(text.at + end, text.n - end);
        if (!mb_is_space(u.c)) {
            break;
        }
        end += u.n;
    }
    return end;
}

bool mb_added_next(const struct mb_added *a, struct mb_text text, size_t from,
                   size_t *ret_start, size_t *ret_end, uint32_t *ret_id)
{
    if (a->n == 0) {
        return false;
    }
    for (size_t at = from; at < text.n; at++) {
        if (!a->leads[text.at[at]]) {
            continue;
        }
        const struct mb_added_token *t = longest(a, text.at + at, text.n - at);
        if (!t) {
            continue;
        }
        size_t end = at + t->text.n;
        if (t->flags & MB_TOKEN_SINGLE_WORD && inside_word(text, at, end)) {
            at = end - 1;
            continue;
        }
        *ret_start = t->flags & MB_TOKEN_LSTRIP ? strip_left(text, at, from) : at;
        *ret_end = t->flags & MB_TOKEN_RSTRIP ? strip_right(text, end) : end;
        *ret_id = t->id;
        return true;
    }
    return false;
}
