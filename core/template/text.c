#include "core/template/text.h"

#include <string.h>

#include "core/template/render.h"
#include "core/tokenizer/unicode.h"
#include "core/tokenizer/utf8.h"

static struct mb_utf8 first_of(struct mb_jinja_value text, size_t at)
{
    return mb_utf8_first((const uint8_t *) text.text + at, text.n - at);
}

static struct mb_jinja_value part_of(struct mb_jinja_value text, size_t from, size_t to)
{
    return mb_jinja_value_string(text.text + from, to - from);
}

static bool put_character(struct mb_render *r, uint32_t c)
{
    uint8_t bytes[MB_UTF8_MAX];
    size_t n = mb_utf8_put(c, bytes);
    return mb_render_put(r, (const char *) bytes, n);
}

bool mb_text_is_blank(uint32_t c)
{
    return mb_is_space(c) || (c >= 0x1c && c <= 0x1f);
}

/* ---- case -------------------------------------------------------------------------------- */

static bool starts_heading(uint32_t before)
{
    return mb_text_is_blank(before) ||
           (before < 0x80 && before && strchr("-({[<", (int) before));
}

bool mb_text_recase(struct mb_render *r, struct mb_jinja_value text, enum mb_letter_case to,
                    struct mb_jinja_value *ret)
{
    size_t mark = mb_render_mark(r);
    uint32_t before = ' ';
    for (size_t i = 0; i < text.n;) {
        struct mb_utf8 u = first_of(text, i);
        bool upper = to == MB_CASE_UPPER;
        if (to == MB_CASE_SWAPPED) {
            upper = mb_is_lower(u.c);
        } else if (to == MB_CASE_CAPITAL) {
            upper = i == 0;
        } else if (to == MB_CASE_TITLE) {
            upper = !mb_is_upper(before) && !mb_is_lower(before);
        } else if (to == MB_CASE_HEADING) {
            upper = starts_heading(before);
        }
        before = u.c;
        i += u.n;
        if (upper &&
            u.c == 0xdf) { /* the sharp s: the one that occurs of those that become two */
            if (!mb_render_put(r, to == MB_CASE_UPPER || to == MB_CASE_SWAPPED ? "SS" : "Ss",
                               2)) {
                return false;
            }
            continue;
        }
        if (!put_character(r, upper ? mb_to_upper(u.c) : mb_to_lower(u.c))) {
            return false;
        }
    }
    return mb_render_work(r, text.n / 4) && mb_render_cut(r, mark, ret);
}

bool mb_text_all(struct mb_jinja_value text, mb_character_fn *has)
{
    for (size_t i = 0; i < text.n;) {
        struct mb_utf8 u = first_of(text, i);
        if (!has(u.c)) {
            return false;
        }
        i += u.n;
    }
    return text.n > 0;
}

bool mb_text_is_cased(struct mb_jinja_value text, mb_character_fn *wanted,
                      mb_character_fn *other)
{
    bool found = false;
    for (size_t i = 0; i < text.n;) {
        struct mb_utf8 u = first_of(text, i);
        if (other(u.c)) {
            return false;
        }
        found = found || wanted(u.c);
        i += u.n;
    }
    return found;
}

/* ---- stripping --------------------------------------------------------------------------- */

/* false, too, when the work is at its bound. */
static bool is_stripped(struct mb_render *r, struct mb_jinja_value chars, const char *at,
                        struct mb_utf8 u)
{
    if (chars.kind != MB_VALUE_STRING) {
        return mb_text_is_blank(u.c) && mb_render_work(r, 1);
    }
    return mb_render_work(r, 1 + chars.n / 16) && memmem(chars.text, chars.n, at, u.n) != NULL;
}

bool mb_text_strip(struct mb_render *r, struct mb_jinja_value text, struct mb_jinja_value chars,
                   unsigned sides, struct mb_jinja_value *ret)
{
    size_t from = 0, to = text.n;
    if (chars.kind > MB_VALUE_NONE && chars.kind != MB_VALUE_STRING) {
        return mb_render_fail(r, MB_E_INVALID, "characters to strip are a str, not a %s",
                              mb_jinja_value_type(chars));
    }
    while ((sides & MB_LEFT) && from < to) {
        struct mb_utf8 u = first_of(text, from);
        if (!is_stripped(r, chars, text.text + from, u)) {
            break;
        }
        from += u.n;
    }
    while ((sides & MB_RIGHT) && to > from) {
        size_t at = to - 1;
        while (at > from && ((uint8_t) text.text[at] & 0xc0) == 0x80) {
            at--;
        }
        if (!is_stripped(r, chars, text.text + at, first_of(text, at))) {
            break;
        }
        to = at;
    }
    *ret = part_of(text, from, to);
    return r->status == MB_OK;
}

/* ---- finding ----------------------------------------------------------------------------- */

ptrdiff_t mb_text_find(struct mb_jinja_value text, struct mb_jinja_value part, bool backward)
{
    if (part.n == 0) {
        return backward ? (ptrdiff_t) text.n : 0;
    }
    if (!backward) {
        const char *p = text.n ? memmem(text.text, text.n, part.text, part.n) : NULL;
        return p ? p - text.text : -1;
    }
    for (size_t at = text.n; at >= part.n; at--) {
        if (memcmp(text.text + at - part.n, part.text, part.n) == 0) {
            return (ptrdiff_t) (at - part.n);
        }
    }
    return -1;
}

uint64_t mb_text_find_work(struct mb_jinja_value text, struct mb_jinja_value part,
                           bool backward)
{
    return text.n / 16 * (backward ? 1 + part.n / 16 : 1); /* backward it is the plain way */
}

bool mb_text_starts(struct mb_jinja_value text, struct mb_jinja_value part)
{
    return part.n <= text.n && (part.n == 0 || memcmp(text.text, part.text, part.n) == 0);
}

bool mb_text_ends(struct mb_jinja_value text, struct mb_jinja_value part)
{
    return part.n <= text.n &&
           (part.n == 0 || memcmp(text.text + text.n - part.n, part.text, part.n) == 0);
}

/* Between all characters, and at both ends. */
static bool interleave(struct mb_render *r, struct mb_jinja_value text,
                       struct mb_jinja_value other, int64_t times, struct mb_jinja_value *ret)
{
    size_t mark = mb_render_mark(r);
    for (size_t i = 0; i <= text.n;) {
        size_t n = i < text.n ? mb_utf8_len((uint8_t) text.text[i]) : 1;
        if ((times != 0 && !mb_render_put(r, other.text, other.n)) ||
            (i < text.n && !mb_render_put(r, text.text + i, n)) || !mb_render_work(r, 1)) {
            return false;
        }
        times -= times > 0;
        i += n;
    }
    return mb_render_cut(r, mark, ret);
}

bool mb_text_replace(struct mb_render *r, struct mb_jinja_value text, struct mb_jinja_value old,
                     struct mb_jinja_value other, int64_t times, struct mb_jinja_value *ret)
{
    if (old.n == 0) {
        return interleave(r, text, other, times, ret);
    }
    size_t mark = mb_render_mark(r);
    struct mb_jinja_value rest = text;
    for (; times != 0; times--) {
        ptrdiff_t at = mb_text_find(rest, old, false);
        if (at < 0) {
            break;
        }
        if (!mb_render_put(r, rest.text, (size_t) at) ||
            !mb_render_put(r, other.text, other.n)) {
            return false;
        }
        rest = part_of(rest, (size_t) at + old.n, rest.n);
        if (!mb_render_work(r, 1)) {
            return false;
        }
    }
    return mb_render_put(r, rest.text, rest.n) && mb_render_cut(r, mark, ret);
}

/* ---- splitting --------------------------------------------------------------------------- */

static void turn_around(struct mb_list *l)
{
    for (size_t i = 0, j = l->len; i + 1 < j; i++) {
        j--;
        struct mb_jinja_value v = l->at[i];
        l->at[i] = l->at[j];
        l->at[j] = v;
    }
}

/* The first blank in text from byte at on, or where the first that is none starts. */
static size_t next_blank(struct mb_jinja_value text, size_t at, bool blank)
{
    while (at < text.n) {
        struct mb_utf8 u = first_of(text, at);
        if (mb_text_is_blank(u.c) == blank) {
            break;
        }
        at += u.n;
    }
    return at;
}

static bool split_blanks(struct mb_render *r, struct mb_jinja_value text, int64_t times,
                         struct mb_list *ret)
{
    size_t at = next_blank(text, 0, false);
    for (; at < text.n && times != 0; times--) {
        size_t end = next_blank(text, at, true);
        if (!mb_list_push(r, ret, part_of(text, at, end))) {
            return false;
        }
        at = next_blank(text, end, false);
    }
    return at >= text.n || mb_list_push(r, ret, part_of(text, at, text.n));
}

/* From the right; the list is in that order, too. */
static bool split_blanks_backward(struct mb_render *r, struct mb_jinja_value text,
                                  int64_t times, struct mb_list *ret)
{
    struct mb_jinja_value none = mb_jinja_value_none();
    bool ok = mb_text_strip(r, text, none, MB_RIGHT, &text);
    for (; ok && text.n > 0 && times != 0; times--) {
        size_t at = 0, word = 0; /* where the last word starts */
        if (!mb_render_work(r, text.n / 8)) {
            return false;
        }
        while (at < text.n) {
            word = next_blank(text, at, false);
            at = next_blank(text, word, true);
        }
        ok = mb_list_push(r, ret, part_of(text, word, text.n)) &&
             mb_text_strip(r, part_of(text, 0, word), none, MB_RIGHT, &text);
    }
    return ok && (text.n == 0 || mb_list_push(r, ret, text));
}

static bool split_at(struct mb_render *r, struct mb_jinja_value text,
                     struct mb_jinja_value separator, int64_t times, bool backward,
                     struct mb_list *ret)
{
    for (; times != 0; times--) {
        ptrdiff_t at = mb_text_find(text, separator, backward);
        if (at < 0) {
            break;
        }
        size_t left = (size_t) at, right = left + separator.n;
        struct mb_jinja_value piece =
            backward ? part_of(text, right, text.n) : part_of(text, 0, left);
        text = backward ? part_of(text, 0, left) : part_of(text, right, text.n);
        if (!mb_list_push(r, ret, piece) || !mb_render_work(r, piece.n / 16)) {
            return false;
        }
    }
    return mb_list_push(r, ret, text);
}

bool mb_text_split(struct mb_render *r, struct mb_jinja_value text,
                   struct mb_jinja_value separator, int64_t times, bool backward,
                   struct mb_jinja_value *ret)
{
    if (!mb_list_new(r, MB_LIST, 4, ret) ||
        !mb_render_work(r, mb_text_find_work(text, separator, backward))) {
        return false;
    }
    bool ok;
    if (separator.kind <= MB_VALUE_NONE) {
        ok = backward ? split_blanks_backward(r, text, times, ret->list)
                      : split_blanks(r, text, times, ret->list);
    } else if (separator.kind != MB_VALUE_STRING || separator.n == 0) {
        return mb_render_fail(r, MB_E_INVALID, "a separator is a str that is not empty");
    } else {
        ok = split_at(r, text, separator, times, backward, ret->list);
    }
    if (ok && backward) {
        turn_around(ret->list);
    }
    return ok;
}

static bool ends_line(uint32_t c)
{
    return (c >= '\n' && c <= '\r') || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

bool mb_text_lines(struct mb_render *r, struct mb_jinja_value text, bool keep_ends,
                   struct mb_jinja_value *ret)
{
    if (!mb_list_new(r, MB_LIST, 4, ret)) {
        return false;
    }
    size_t from = 0;
    for (size_t i = 0; i < text.n;) {
        struct mb_utf8 u = first_of(text, i);
        size_t end = i;
        i += u.n;
        if (!ends_line(u.c)) {
            continue;
        }
        if (u.c == '\r' && i < text.n && text.text[i] == '\n') {
            i++;
        }
        if (!mb_list_push(r, ret->list, part_of(text, from, keep_ends ? i : end))) {
            return false;
        }
        from = i;
    }
    return mb_render_work(r, text.n / 8) &&
           (from == text.n || mb_list_push(r, ret->list, part_of(text, from, text.n)));
}

/* ---- padding, escapes -------------------------------------------------------------------- */

static bool put_times(struct mb_render *r, struct mb_jinja_value text, int64_t times)
{
    for (; times > 0; times--) {
        if (!mb_render_put(r, text.text, text.n) || !mb_render_work(r, 1)) {
            return false;
        }
    }
    return true;
}

bool mb_text_pad(struct mb_render *r, struct mb_jinja_value text, int64_t width,
                 struct mb_jinja_value fill, unsigned sides, struct mb_jinja_value *ret)
{
    int64_t n, n_fill;
    if (!mb_jinja_value_length(r, text, &n) || !mb_jinja_value_length(r, fill, &n_fill)) {
        return false;
    }
    if (n_fill != 1) {
        return mb_render_fail(r, MB_E_INVALID, "what fills is one character");
    }
    int64_t pad = width > n ? width - n : 0;
    int64_t left = sides == (MB_LEFT | MB_RIGHT)
                       ? pad / 2 + (pad & width & 1) /* as Python has it */
                   : sides == MB_LEFT ? pad
                                      : 0;
    size_t mark = mb_render_mark(r);
    return put_times(r, fill, left) && mb_render_put(r, text.text, text.n) &&
           put_times(r, fill, pad - left) && mb_render_cut(r, mark, ret);
}

bool mb_text_escape(struct mb_render *r, struct mb_jinja_value text, struct mb_jinja_value *ret)
{
    static const struct {
        char c;
        const char *entity;
    } escapes[] = {
        { '&', "&amp;" }, { '<', "&lt;" }, { '>', "&gt;" }, { '\'', "&#39;" }, { '"', "&#34;" },
    };
    size_t mark = mb_render_mark(r);
    for (size_t i = 0; i < text.n; i++) {
        const char *entity = NULL;
        for (size_t k = 0; k < sizeof escapes / sizeof escapes[0]; k++) {
            entity = text.text[i] == escapes[k].c ? escapes[k].entity : entity;
        }
        if (!(entity ? mb_render_put_text(r, entity) : mb_render_put(r, text.text + i, 1))) {
            return false;
        }
    }
    return mb_render_work(r, text.n / 4) && mb_render_cut(r, mark, ret);
}
