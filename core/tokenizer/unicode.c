#include "core/tokenizer/unicode.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "core/tokenizer/utf8.h"

enum {
    EXPANSION_MAX = 18, /* characters of the longest decomposition (U+FDFA, compatibility) */
    CLASSES = 256,      /* canonical combining classes */
    SHORT_RUN = 16,     /* of marks: sorted by insertion, which needs no second buffer */
};

/* Characters being normalized. */
struct characters {
    utf8proc_int32_t *at;
    size_t len, cap;
};

static bool reserve(struct characters *c, size_t n)
{
    if (c->cap - c->len >= n) {
        return true;
    }
    size_t cap = 2 * c->cap + n + 256;
    utf8proc_int32_t *p = realloc(c->at, cap * sizeof *p);
    if (!p) {
        return false;
    }
    c->at = p;
    c->cap = cap;
    return true;
}

static unsigned class_of(utf8proc_int32_t c)
{
    return (unsigned) utf8proc_get_property(c)->combining_class & (CLASSES - 1);
}

/* Stable, by combining class. */
static void sort_short(utf8proc_int32_t *at, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        utf8proc_int32_t c = at[i];
        unsigned k = class_of(c);
        size_t j = i;
        for (; j > 0 && class_of(at[j - 1]) > k; j--) {
            at[j] = at[j - 1];
        }
        at[j] = c;
    }
}

static void sort_long(utf8proc_int32_t *at, size_t n, utf8proc_int32_t *scratch)
{
    size_t start[CLASSES + 1] = { 0 };
    for (size_t i = 0; i < n; i++) {
        start[class_of(at[i]) + 1]++;
    }
    for (size_t k = 0; k < CLASSES; k++) {
        start[k + 1] += start[k];
    }
    for (size_t i = 0; i < n; i++) {
        scratch[start[class_of(at[i])]++] = at[i];
    }
    memcpy(at, scratch, n * sizeof *at);
}

/* Puts the marks after each starter in canonical order. */
static bool order_marks(struct characters *c)
{
    for (size_t i = 0; i < c->len; i++) {
        size_t n = 0;
        while (i + n < c->len && class_of(c->at[i + n]) != 0) {
            n++;
        }
        if (n > SHORT_RUN) {
            if (!reserve(c, n)) {
                return false;
            }
            sort_long(c->at + i, n, c->at + c->len);
        } else if (n > 1) {
            sort_short(c->at + i, n);
        }
        i += n;
    }
    return true;
}

static bool decompose(struct characters *c, const uint8_t *at, size_t n, int options)
{
    for (size_t i = 0; i < n;) {
        struct mb_utf8 u = mb_utf8_first(at + i, n - i);
        assert(u.kind == MB_UTF8_CHAR);
        i += u.n;
        if (!reserve(c, EXPANSION_MAX)) {
            return false;
        }
        utf8proc_ssize_t wrote =
            utf8proc_decompose_char((utf8proc_int32_t) u.c, c->at + c->len, EXPANSION_MAX,
                                    (utf8proc_option_t) options, NULL);
        assert(wrote > 0);
        assert(wrote <= EXPANSION_MAX);
        c->len += (size_t) wrote;
    }
    return true;
}

/* Below U+0300 everything is in NFC; below U+0080, in every form. */
static bool is_normal(enum mb_normal_form form, const uint8_t *at, size_t n)
{
    uint8_t lead_max = form == MB_NFC ? 0xcb : 0x7f;
    for (size_t i = 0; i < n; i++) {
        if (at[i] > lead_max) {
            return false;
        }
    }
    return true;
}

void mb_normal_form(enum mb_normal_form form, const uint8_t *at, size_t n, struct mb_bytes *ret)
{
    if (is_normal(form, at, n)) {
        mb_bytes_put(ret, at, n);
        return;
    }
    bool compose = form == MB_NFC || form == MB_NFKC;
    bool compat = form == MB_NFKC || form == MB_NFKD;
    struct characters c = { 0 };
    if (!decompose(&c, at, n, UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0)) ||
        !order_marks(&c)) {
        ret->failed = true;
        free(c.at);
        return;
    }
    if (compose) {
        utf8proc_ssize_t len = utf8proc_normalize_utf32(c.at, (utf8proc_ssize_t) c.len,
                                                        UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        assert(len >= 0);
        c.len = (size_t) len;
    }
    for (size_t i = 0; i < c.len; i++) {
        uint8_t bytes[MB_UTF8_MAX];
        mb_bytes_put(ret, bytes, mb_utf8_put((uint32_t) c.at[i], bytes));
    }
    free(c.at);
}

bool mb_is_space(uint32_t c)
{
    if (c < 0x80) {
        return c == ' ' || (c >= '\t' && c <= '\r');
    }
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t) c);
    return c == 0x85 || k == UTF8PROC_CATEGORY_ZS || k == UTF8PROC_CATEGORY_ZL ||
           k == UTF8PROC_CATEGORY_ZP;
}

bool mb_is_word(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t) c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NO) ||
           k == UTF8PROC_CATEGORY_PC;
}

static utf8proc_category_t category(uint32_t c)
{
    return utf8proc_category((utf8proc_int32_t) c);
}

bool mb_is_letter(uint32_t c)
{
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool mb_is_digit(uint32_t c)
{
    return category(c) == UTF8PROC_CATEGORY_ND;
}

bool mb_is_printable(uint32_t c)
{
    utf8proc_category_t k = category(c);
    return c == ' ' || (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_SO);
}

uint32_t mb_to_upper(uint32_t c)
{
    return (uint32_t) utf8proc_toupper((utf8proc_int32_t) c);
}

uint32_t mb_to_lower(uint32_t c)
{
    return (uint32_t) utf8proc_tolower((utf8proc_int32_t) c);
}

bool mb_is_upper(uint32_t c)
{
    return category(c) == UTF8PROC_CATEGORY_LU;
}

bool mb_is_lower(uint32_t c)
{
    return category(c) == UTF8PROC_CATEGORY_LL;
}
