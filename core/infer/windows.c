#include "core/infer/windows.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct mb_text trim(struct mb_text t)
{
    while (t.n > 0 && is_space(t.at[0])) {
        t.at++;
        t.n--;
    }
    while (t.n > 0 && is_space(t.at[t.n - 1])) {
        t.n--;
    }
    return t;
}

/* Cuts the first line off rest. */
static struct mb_text take_line(struct mb_text *rest)
{
    const char *end = memchr(rest->at, '\n', rest->n);
    struct mb_text line = { rest->at, end ? (size_t) (end - rest->at) + 1 : rest->n };
    rest->at += line.n;
    rest->n -= line.n;
    return line;
}

static bool is_separator(struct mb_text line)
{
    struct mb_text t = trim(line);
    return t.n == strlen(MB_DOCUMENT_END) && memcmp(t.at, MB_DOCUMENT_END, t.n) == 0;
}

struct mb_text mb_text_document(struct mb_text *rest)
{
    struct mb_text document = { rest->at, 0 };
    while (rest->n > 0) {
        struct mb_text line = take_line(rest);
        if (is_separator(line)) {
            break;
        }
        document.n += line.n;
    }
    return trim(document);
}

static bool add_window(struct mb_windows *w, size_t *cap, size_t end)
{
    if (w->n + 2 > *cap) {
        size_t more = *cap > 0 ? *cap * 2 : 256;
        size_t *start = realloc(w->start, more * sizeof *start);
        if (!start) {
            return false;
        }
        w->start = start;
        *cap = more;
    }
    w->start[0] = 0;
    w->start[++w->n] = end;
    return true;
}

/* Cuts the ids that were added after first into windows. What is one token is taken away
 * again. */
static bool cut(struct mb_windows *w, size_t *cap, size_t first, size_t window)
{
    while (w->ids.len - first >= 2) {
        size_t left = w->ids.len - first;
        first += left < window ? left : window;
        if (!add_window(w, cap, first)) {
            return false;
        }
    }
    w->ids.len = first;
    return true;
}

static enum mb_status add_document(struct mb_windows *w, size_t *cap,
                                   const struct mb_tokenizer *t, unsigned flags,
                                   struct mb_text document, size_t window, size_t tokens_max,
                                   struct mb_error *err)
{
    size_t first = w->ids.len;
    uint32_t bos;
    if (mb_tokenizer_bos(t, &bos) && !mb_ids_push(&w->ids, bos)) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for the tokens of a text");
    }
    enum mb_status st =
        mb_tokenizer_encode(t, document.at, document.n, flags, SIZE_MAX, &w->ids, err);
    if (st != MB_OK) {
        return st;
    }
    if (tokens_max > 0 && w->ids.len > tokens_max) {
        w->ids.len = tokens_max;
    }
    return cut(w, cap, first, window)
               ? MB_OK
               : mb_fail(err, MB_E_NOMEM, 0, "no memory for the windows of a text");
}

static enum mb_status windows_of(const struct mb_tokenizer *t, unsigned flags, const char *text,
                                 size_t n, size_t window, size_t tokens_max,
                                 struct mb_windows *ret, struct mb_error *err)
{
    if (window < 2) { /* a model's context may be 1 */
        return mb_fail(err, MB_E_INVALID, 0, "a window of %zu tokens predicts nothing", window);
    }
    struct mb_windows w = { 0 };
    struct mb_text rest = { text, n };
    size_t cap = 0;
    enum mb_status st = MB_OK;
    while (st == MB_OK && rest.n > 0 && (tokens_max == 0 || w.ids.len + 2 <= tokens_max)) {
        struct mb_text document = mb_text_document(&rest);
        if (document.n > 0) {
            st = add_document(&w, &cap, t, flags, document, window, tokens_max, err);
        }
    }
    if (st == MB_OK && w.n == 0) {
        st = mb_fail(err, MB_E_INVALID, 0, "the text has no two tokens that follow each other");
    }
    if (st != MB_OK) {
        mb_windows_fini(&w);
        return st;
    }
    *ret = w;
    return MB_OK;
}

enum mb_status mb_windows_of_text(const struct mb_tokenizer *t, const char *text, size_t n,
                                  size_t window, size_t tokens_max, struct mb_windows *ret,
                                  struct mb_error *err)
{
    return windows_of(t, 0, text, n, window, tokens_max, ret, err);
}

enum mb_status mb_windows_of_marked_text(const struct mb_tokenizer *t, const char *text,
                                         size_t n, size_t window, size_t tokens_max,
                                         struct mb_windows *ret, struct mb_error *err)
{
    return windows_of(t, MB_ENCODE_PARSE_SPECIAL, text, n, window, tokens_max, ret, err);
}

void mb_windows_fini(struct mb_windows *w)
{
    mb_ids_fini(&w->ids);
    free(w->start);
    *w = (struct mb_windows) { 0 };
}
