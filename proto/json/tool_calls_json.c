#include "proto/json/tool_calls_json.h"

#include <float.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char opening[] = "<tool_call>", closing[] = "</tool_call>";

enum { CALLS_MAX = 32 }; /* in an answer */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static size_t skip_blanks(const char *text, size_t n, size_t at)
{
    while (at < n && is_blank(text[at])) {
        at++;
    }
    return at;
}

size_t mb_tool_calls_before(enum mb_call_form form, const char *text, size_t n)
{
    if (form == MB_CALLS_NONE) {
        return n;
    }
    if (form == MB_CALLS_BARE) {
        size_t first = skip_blanks(text, n, 0);
        return first == n || text[first] == '{' ? 0 : n;
    }
    for (size_t i = 0; i < n; i++) {
        size_t left = n - i < sizeof opening - 1 ? n - i : sizeof opening - 1;
        if (memcmp(text + i, opening, left) == 0) {
            return i;
        }
    }
    return n;
}

void mb_tool_calls_free(struct mb_wire_tool_call *calls, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(calls[i].name);
        free(calls[i].arguments);
    }
    free(calls);
}

struct calls {
    struct mb_wire_tool_call *at;
    size_t n;
    const char *id;
    bool refused; /* memory was */
};

/* v with as few digits as bring all its numbers back: what was written as 0.1 leaves as 0.1. NULL
 * when memory is refused. */
static char *dump(const json_t *v)
{
    for (size_t digits = DBL_DIG;; digits++) {
        char *text = json_dumps(v, JSON_REAL_PRECISION(digits));
        json_t *back = text ? json_loads(text, JSON_ALLOW_NUL, NULL) : NULL;
        bool same = json_equal(v, back);
        json_decref(back);
        if (!text || same || digits == DBL_DECIMAL_DIG) {
            return text;
        }
        free(text);
    }
}

/* Adds the call that the JSON document at text says. *ret_used is where it ends. */
static bool take_one(struct calls *calls, const char *text, size_t n, size_t *ret_used)
{
    json_error_t where;
    json_t *root = json_loadb(text, n, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, &where);
    const json_t *name = json_object_get(root, "name");
    const json_t *arguments = json_object_get(root, "arguments");
    arguments = arguments ? arguments : json_object_get(root, "parameters");
    bool ok = json_is_string(name) &&
              strlen(json_string_value(name)) == json_string_length(name) &&
              (!arguments || json_is_object(arguments) || json_is_string(arguments)) &&
              calls->n < CALLS_MAX;
    if (ok) {
        struct mb_wire_tool_call *c = &calls->at[calls->n];
        (void) snprintf(c->id, sizeof c->id, "call_%.20s_%zu", calls->id, calls->n);
        c->name = strdup(json_string_value(name));
        c->arguments = json_is_string(arguments) ? strdup(json_string_value(arguments))
                       : arguments               ? dump(arguments)
                                                 : strdup("{}");
        calls->refused = !c->name || !c->arguments;
        calls->n++;
        *ret_used = (size_t) where.position;
    }
    json_decref(root);
    return ok && !calls->refused;
}

static bool take_marked(struct calls *calls, const char *text, size_t n)
{
    for (size_t at = 0; (at = skip_blanks(text, n, at)) < n;) {
        size_t used;
        if (n - at < sizeof opening - 1 ||
            memcmp(text + at, opening, sizeof opening - 1) != 0) {
            return false;
        }
        at += sizeof opening - 1;
        if (!take_one(calls, text + at, n - at, &used)) {
            return false;
        }
        at = skip_blanks(text, n, at + used);
        if (at == n) {
            break; /* the end of the answer closes it, too */
        }
        if (n - at < sizeof closing - 1 ||
            memcmp(text + at, closing, sizeof closing - 1) != 0) {
            return false;
        }
        at += sizeof closing - 1;
    }
    return true;
}

static bool take_bare(struct calls *calls, const char *text, size_t n)
{
    for (size_t at = 0; (at = skip_blanks(text, n, at)) < n;) {
        size_t used;
        if (text[at] != '{' || !take_one(calls, text + at, n - at, &used)) {
            return false;
        }
        at = skip_blanks(text, n, at + used);
        if (at < n && text[at++] != ';') {
            return false;
        }
    }
    return true;
}

bool mb_tool_calls_take(enum mb_call_form form, const char *id, const char *text, size_t n,
                        struct mb_wire_tool_call **ret, size_t *ret_n, size_t *ret_n_text)
{
    size_t before = mb_tool_calls_before(form, text, n);
    struct calls calls = { .at = calloc(CALLS_MAX, sizeof *calls.at), .id = id };
    if (!calls.at) {
        return false;
    }
    bool taken =
        before < n && (form == MB_CALLS_MARKED ? take_marked(&calls, text + before, n - before)
                                               : take_bare(&calls, text + before, n - before));
    if (!taken || calls.n == 0) {
        mb_tool_calls_free(calls.at, calls.n);
        calls.at = NULL;
        calls.n = 0;
        before = n;
    }
    while (calls.n > 0 && before > 0 && is_blank(text[before - 1])) {
        before--; /* the line break before the first call */
    }
    *ret = calls.at;
    *ret_n = calls.n;
    *ret_n_text = before;
    return !calls.refused;
}
