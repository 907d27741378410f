#include "core/template/lexer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/template/text.h"
#include "core/tokenizer/utf8.h"

void mb_lexer_init(struct mb_lexer *l, const char *text, size_t n, struct mb_arena *arena,
                   struct mb_error *err)
{
    *l = (struct mb_lexer) {
        .text = text, .n = n, .line = 1, .line_starting = true, .arena = arena, .err = err
    };
}

static enum mb_status fail(const struct mb_lexer *l, const char *what)
{
    return mb_fail(l->err, MB_E_FORMAT, 0, "chat template: line %u: %s", (unsigned) l->line,
                   what);
}

static bool has(const struct mb_lexer *l, size_t at, const char *text)
{
    size_t n = strlen(text);
    return n <= l->n - at && memcmp(l->text + at, text, n) == 0;
}

/* Bytes of the blank character at this place; 0 when there is none. */
static size_t blank_at(const struct mb_lexer *l, size_t at)
{
    if (at >= l->n) {
        return 0;
    }
    struct mb_utf8 u = mb_utf8_first((const uint8_t *) l->text + at, l->n - at);
    return mb_text_is_blank(u.c) ? u.n : 0;
}

static size_t skip_blanks(const struct mb_lexer *l, size_t at)
{
    for (size_t n; (n = blank_at(l, at)) > 0;) {
        at += n;
    }
    return at;
}

/* Moves on, counting lines. */
static void advance(struct mb_lexer *l, size_t to)
{
    for (; l->at < to; l->at++) {
        l->line += l->text[l->at] == '\n';
    }
}

/* ---- ends of tags ------------------------------------------------------------------------ */

/* Where the closing mark at this place ends, with the white space that it takes away: all
 * that follows after a minus, and in a tag or a comment, but after a plus, a line break.
 * false when there is no such mark here. */
static bool ends_here(const struct mb_lexer *l, size_t at, const char *mark, bool trims,
                      size_t *ret)
{
    char sign = at < l->n ? l->text[at] : '\0';
    bool signed_end = sign == '-' || (sign == '+' && trims);
    if (!has(l, at + signed_end, mark)) {
        return false;
    }
    at += signed_end + strlen(mark);
    if (signed_end && sign == '-') {
        at = skip_blanks(l, at);
    } else if (!signed_end && trims && at < l->n && l->text[at] == '\n') {
        at++;
    }
    *ret = at;
    return true;
}

static void end_tag(struct mb_lexer *l, size_t to)
{
    l->line_starting = to > 0 && l->text[to - 1] == '\n';
    advance(l, to);
}

/* ---- between tags ------------------------------------------------------------------------ */

/* Text before a tag, without the white space that the tag takes away: all of it for a
 * minus, else the blanks between the start of the line and a tag or a comment. */
static size_t strip_before(const struct mb_lexer *l, size_t from, size_t to, char sign,
                           bool output)
{
    if (sign == '-') {
        size_t last = from; /* behind the last character that is no blank */
        for (size_t at = from; at < to;) {
            struct mb_utf8 u = mb_utf8_first((const uint8_t *) l->text + at, to - at);
            at += u.n;
            last = mb_text_is_blank(u.c) ? last : at;
        }
        return last;
    }
    if (sign == '+' || output) {
        return to;
    }
    size_t start = to;
    while (start > from && l->text[start - 1] != '\n') {
        start--;
    }
    bool whole_line = start > from || l->line_starting;
    size_t blank = start;
    for (size_t n; blank < to && (n = blank_at(l, blank)) > 0;) {
        blank += n;
    }
    return whole_line && blank >= to ? start : to;
}

static bool is_sign(char c)
{
    return c == '-' || c == '+';
}

/* After "{%" and its sign: does "raw" and the end of a tag follow? */
static bool raw_follows(const struct mb_lexer *l, size_t at, const char *name, bool trims,
                        size_t *ret)
{
    at = skip_blanks(l, at);
    if (!has(l, at, name)) {
        return false;
    }
    return ends_here(l, skip_blanks(l, at + strlen(name)), "%}", trims, ret);
}

/* {% raw %}: what follows is text, up to {% endraw %}. */
static enum mb_status raw_text(struct mb_lexer *l, size_t from, struct mb_token *ret)
{
    l->line_starting = l->text[from - 1] == '\n';
    for (size_t at = from; at < l->n; at++) {
        size_t end;
        if (!has(l, at, "{%")) {
            continue;
        }
        char sign = at + 2 < l->n && is_sign(l->text[at + 2]) ? l->text[at + 2] : '\0';
        if (raw_follows(l, at + 2 + (sign != '\0'), "endraw", true, &end)) {
            size_t to = strip_before(l, from, at, sign, false);
            ret->value = mb_jinja_value_string(l->text + from, to - from);
            end_tag(l, end);
            return MB_OK;
        }
    }
    return fail(l, "{% raw %} without {% endraw %}");
}

static enum mb_status skip_comment(struct mb_lexer *l, size_t from)
{
    for (size_t at = from; at < l->n; at++) {
        size_t end;
        if (ends_here(l, at, "#}", true, &end)) {
            end_tag(l, end);
            return MB_OK;
        }
    }
    return fail(l, "a comment that does not end");
}

/* The first {{, {% or {# from here on, or the end. */
static size_t next_tag(const struct mb_lexer *l, size_t at)
{
    while (at < l->n) {
        const char *p = memchr(l->text + at, '{', l->n - at);
        at = p ? (size_t) (p - l->text) : l->n;
        if (at + 1 < l->n && strchr("{%#", l->text[at + 1]) && l->text[at + 1]) {
            return at;
        }
        at += at < l->n;
    }
    return l->n;
}

/* One piece of text, which may be empty, and the tag after it is entered. */
static enum mb_status next_text(struct mb_lexer *l, struct mb_token *ret)
{
    size_t from = l->at, at = next_tag(l, from);
    *ret = (struct mb_token) { .kind = MB_TOKEN_TEXT, .line = l->line };
    if (at == l->n) {
        ret->value = mb_jinja_value_string(l->text + from, at - from);
        advance(l, at);
        return MB_OK;
    }
    char kind = l->text[at + 1];
    char sign = at + 2 < l->n && is_sign(l->text[at + 2]) ? l->text[at + 2] : '\0';
    size_t after = at + 2 + (sign != '\0'), raw;
    size_t to = strip_before(l, from, at, sign, kind == '{');
    ret->value = mb_jinja_value_string(l->text + from, to - from);
    if (kind == '%' && raw_follows(l, after, "raw", false, &raw)) {
        if (to > from) { /* come back for the raw text */
            advance(l, at);
            l->line_starting = false;
            return MB_OK;
        }
        advance(l, raw);
        return raw_text(l, raw, ret);
    }
    advance(l, after);
    if (kind == '#') {
        return skip_comment(l, after);
    }
    l->in_output = kind == '{';
    l->in_tag = kind == '%';
    return MB_OK;
}

/* ---- constants --------------------------------------------------------------------------- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool starts_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (uint8_t) c >= 0x80;
}

static size_t skip_digits(const struct mb_lexer *l, size_t at)
{
    while (at < l->n && (is_digit(l->text[at]) ||
                         (l->text[at] == '_' && at + 1 < l->n && is_digit(l->text[at + 1])))) {
        at++;
    }
    return at;
}

/* Is there a fraction or an exponent after the digits, and where does it end? Not after a
 * point: in a.0.1 these are two indexes. */
static bool is_float(const struct mb_lexer *l, size_t from, size_t digits, size_t *ret)
{
    size_t at = digits;
    if (from > 0 && l->text[from - 1] == '.') {
        return false;
    }
    if (at + 1 < l->n && l->text[at] == '.' && is_digit(l->text[at + 1])) {
        at = skip_digits(l, at + 1);
    }
    if (at < l->n && (l->text[at] == 'e' || l->text[at] == 'E')) {
        size_t exponent = at + 1;
        exponent += exponent < l->n && is_sign(l->text[exponent]);
        if (exponent < l->n && is_digit(l->text[exponent])) {
            at = skip_digits(l, exponent);
        }
    }
    *ret = at;
    return at > digits;
}

enum { NUMBER_MAX = 64 }; /* bytes of a number in a template */

/* Of 0x, 0o, 0b: 16, 8, 2; else 10. */
static int base_at(const struct mb_lexer *l, size_t at)
{
    if (l->text[at] != '0' || at + 2 >= l->n) {
        return 10;
    }
    char c = (char) (l->text[at + 1] | 0x20);
    return c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
}

static enum mb_status number(struct mb_lexer *l, struct mb_token *ret)
{
    char text[NUMBER_MAX + 1];
    size_t n = 0, end;
    int base = base_at(l, l->at);
    size_t digits = l->at + (base == 10 ? 0 : 2);
    size_t to = skip_digits(l, digits);
    while (base == 16 && to < l->n &&
           (is_digit(l->text[to]) || strchr("abcdefABCDEF_", l->text[to]))) {
        to++;
    }
    bool real = base == 10 && is_float(l, l->at, to, &end);
    to = real ? end : to;
    for (size_t i = digits; i < to && n <= NUMBER_MAX; i++) {
        if (l->text[i] != '_') {
            text[n++] = l->text[i];
        }
    }
    if (n > NUMBER_MAX || n == 0) {
        return fail(l, "a number of too many digits, or of none");
    }
    text[n] = '\0';
    errno = 0;
    char *stop;
    ret->value = real ? mb_jinja_value_float(strtod(text, &stop))
                      : mb_jinja_value_int(strtoll(text, &stop, base));
    if ((errno != 0 && !real) || *stop ||
        (!real && base == 10 && n > 1 && text[0] == '0' && strspn(text, "0") != n)) {
        return fail(l, "a number that is malformed or beyond 64 bits");
    }
    advance(l, to);
    return MB_OK;
}

/* The number of n hexadecimal digits, or -1. */
static int64_t hexadecimal(const char *at, const char *end, size_t n)
{
    int64_t v = 0;
    if ((size_t) (end - at) < n) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        char c = at[i];
        int digit = is_digit(c)            ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) {
            return -1;
        }
        v = v * 16 + digit;
    }
    return v;
}

/* \xNN, \uNNNN, \UNNNNNNNN, and a pair of surrogates as the one character they stand for.
 * *at is behind the letter, and moves on. -1 when it is malformed. */
static int64_t numbered(const char **at, const char *end, char letter)
{
    size_t n = letter == 'x' ? 2 : letter == 'u' ? 4 : 8;
    int64_t c = hexadecimal(*at, end, n);
    *at += c < 0 ? 0 : n;
    if (c >= 0xd800 && c < 0xdc00 && end - *at >= 6 && (*at)[0] == '\\' && (*at)[1] == 'u') {
        int64_t low = hexadecimal(*at + 2, end, 4);
        if (low >= 0xdc00 && low < 0xe000) {
            *at += 6;
            return 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        }
    }
    return c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? -1 : c;
}

/* What follows a backslash: puts it into out, and returns how many bytes; 0 when malformed.
 * Python keeps a backslash that starts no escape. */
static size_t unescape(const char **at, const char *end, char out[8])
{
    static const char letters[] = "abfnrtv\\'\"", means[] = "\a\b\f\n\r\t\v\\'\"";
    char c = *(*at)++;
    const char *p = c ? strchr(letters, c) : NULL;
    if (p) {
        out[0] = means[p - letters];
        return 1;
    }
    if (c == 'x' || c == 'u' || c == 'U') {
        int64_t v = numbered(at, end, c);
        return v < 0 ? 0 : mb_utf8_put((uint32_t) v, (uint8_t *) out);
    }
    if (c >= '0' && c <= '7') {
        uint32_t v = (uint32_t) (c - '0');
        for (int i = 0; i < 2 && *at < end && **at >= '0' && **at <= '7'; i++) {
            v = v * 8 + (uint32_t) (*(*at)++ - '0');
        }
        return mb_utf8_put(v, (uint8_t *) out);
    }
    if (c == 'N') {
        return 0; /* names of characters are left out */
    }
    if (c == '\n') {
        out[0] = '\0';
        return 8; /* a line that goes on: nothing */
    }
    out[0] = '\\';
    out[1] = c;
    return 2;
}

static enum mb_status string(struct mb_lexer *l, struct mb_token *ret)
{
    char quote = l->text[l->at];
    size_t to = l->at + 1;
    while (to < l->n && l->text[to] != quote) {
        to += l->text[to] == '\\' ? 2 : 1;
    }
    if (to >= l->n) {
        return fail(l, "a string that does not end");
    }
    const char *at = l->text + l->at + 1, *end = l->text + to;
    ret->value = mb_jinja_value_string(at, (size_t) (end - at));
    if (memchr(at, '\\', (size_t) (end - at))) {
        char *copy = mb_arena_alloc(l->arena, (size_t) (end - at) + 8, 1); /* never longer */
        size_t n = 0;
        if (!copy) {
            return mb_fail(l->err, MB_E_NOMEM, 0, "chat template: no memory");
        }
        while (at < end) {
            if (*at != '\\') {
                copy[n++] = *at++;
                continue;
            }
            at++;
            size_t k = unescape(&at, end, copy + n);
            if (k == 0) {
                return fail(l, "an escape of a string that is malformed");
            }
            n += k == 8 ? 0 : k;
        }
        ret->value = mb_jinja_value_string(copy, n);
    }
    ret->kind = MB_TOKEN_CONSTANT;
    advance(l, to + 1);
    return MB_OK;
}

/* ---- within tags ------------------------------------------------------------------------- */

static enum mb_status bracket(struct mb_lexer *l, char c)
{
    static const char opening[] = "([{", closing[] = ")]}";
    const char *p = strchr(opening, c);
    if (p) {
        if (l->n_open == MB_BRACKETS_MAX) {
            return mb_fail(l->err, MB_E_LIMIT, 0,
                           "chat template: line %u: more than %d brackets in each other",
                           (unsigned) l->line, MB_BRACKETS_MAX);
        }
        l->open[l->n_open++] = closing[p - opening];
    } else if (strchr(closing, c) && (l->n_open == 0 || l->open[--l->n_open] != c)) {
        return fail(l, "a closing bracket that closes none");
    }
    return MB_OK;
}

static enum mb_status sign(struct mb_lexer *l, struct mb_token *ret)
{
    static const char *const pairs[] = { "//", "**", "==", "!=", ">=", "<=" };
    char c = l->text[l->at];
    ret->kind = MB_TOKEN_SIGN;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        if (has(l, l->at, pairs[i])) {
            memcpy(ret->sign, pairs[i], 3);
            advance(l, l->at + 2);
            return MB_OK;
        }
    }
    if (!c || !strchr("+-/*%~[](){}><=.:|,;", c)) {
        return fail(l, "a character that means nothing here");
    }
    ret->sign[0] = c;
    advance(l, l->at + 1);
    return bracket(l, c);
}

static enum mb_status next_in_tag(struct mb_lexer *l, struct mb_token *ret)
{
    size_t end;
    advance(l, skip_blanks(l, l->at));
    *ret = (struct mb_token) { .line = l->line };
    if (l->at >= l->n) {
        return fail(l, "a tag that does not end");
    }
    if (l->n_open == 0 && ends_here(l, l->at, l->in_tag ? "%}" : "}}", l->in_tag, &end)) {
        ret->kind = l->in_tag ? MB_TOKEN_TAG_END : MB_TOKEN_OUTPUT_END;
        l->in_tag = l->in_output = l->entered = false;
        end_tag(l, end);
        return MB_OK;
    }
    char c = l->text[l->at];
    if (is_digit(c)) {
        ret->kind = MB_TOKEN_CONSTANT;
        return number(l, ret);
    }
    if (c == '"' || c == '\'') {
        return string(l, ret);
    }
    if (starts_name(c)) {
        size_t to = l->at;
        while (to < l->n && (starts_name(l->text[to]) || is_digit(l->text[to]))) {
            to++;
        }
        ret->kind = MB_TOKEN_NAME;
        ret->value = mb_jinja_value_string(l->text + l->at, to - l->at);
        advance(l, to);
        return MB_OK;
    }
    return sign(l, ret);
}

enum mb_status mb_lexer_next(struct mb_lexer *l, struct mb_token *ret)
{
    while (!l->in_output && !l->in_tag) {
        if (l->at >= l->n) {
            *ret = (struct mb_token) { .kind = MB_TOKEN_END, .line = l->line };
            return MB_OK;
        }
        enum mb_status st = next_text(l, ret);
        if (st != MB_OK || ret->value.n > 0) {
            return st;
        }
    }
    if (l->entered) {
        return next_in_tag(l, ret);
    }
    l->entered = true;
    *ret = (struct mb_token) { .kind = l->in_tag ? MB_TOKEN_TAG_BEGIN : MB_TOKEN_OUTPUT_BEGIN,
                               .line = l->line };
    return MB_OK;
}
