#define PCRE2_CODE_UNIT_WIDTH 8

#include "core/tokenizer/pattern.h"

#include <assert.h>
#include <pcre2.h>
#include <stdlib.h>

#include "core/tokenizer/utf8.h"

enum {
    STEPS_GROWTH = 8,
    ACCOUNT_PER_BYTE = 64,  /* a long run of spaces costs about ten with real patterns */
    ACCOUNT_MIN = 16 << 20, /* steps; a tenth of a second */
    HEAP_KIB_MAX = 64 << 10,
};

struct mb_pattern {
    pcre2_code *code;
};

enum mb_status mb_pattern_new(const uint8_t *pattern, size_t n, struct mb_pattern **ret,
                              struct mb_error *err)
{
    struct mb_pattern *p = calloc(1, sizeof *p);
    if (!p) {
        return mb_fail(err, MB_E_NOMEM, 0, "tokenizer: no memory for a pattern");
    }
    /* Anchored, and moved along by mb_matcher_next: only so is the cost of a search that finds
     * nothing bounded place by place. */
    const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED | PCRE2_NEVER_BACKSLASH_C;
    int code;
    PCRE2_SIZE place;
    p->code = pcre2_compile(pattern, n, options, &code, &place, NULL);
    if (!p->code) {
        PCRE2_UCHAR why[160] = "";
        (void) pcre2_get_error_message(code, why, sizeof why);
        free(p);
        return mb_fail(err, MB_E_FORMAT, 0, "tokenizer: pattern, at byte %zu: %s",
                       (size_t) place, (const char *) why);
    }
    /* Where code may not be made at run time, the interpreter finds the same matches. */
    (void) pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE);
    *ret = p;
    return MB_OK;
}

void mb_pattern_free(struct mb_pattern *p)
{
    if (p) {
        pcre2_code_free(p->code);
        free(p);
    }
}

enum mb_status mb_matcher_init(struct mb_matcher *m, size_t n_text, struct mb_error *err)
{
    *m = (struct mb_matcher) {
        .data = pcre2_match_data_create(1, NULL),
        .context = pcre2_match_context_create(NULL),
        .account = (uint64_t) n_text * ACCOUNT_PER_BYTE + ACCOUNT_MIN,
    };
    if (!m->data || !m->context) {
        return mb_fail(err, MB_E_NOMEM, 0, "tokenizer: no memory to split a text");
    }
    (void) pcre2_set_heap_limit(m->context, HEAP_KIB_MAX);
    return MB_OK;
}

void mb_matcher_fini(struct mb_matcher *m)
{
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    *m = (struct mb_matcher) { 0 };
}

/* One attempt at one place, with more and more steps until it ends or the account is empty. */
static int match_at(struct mb_matcher *m, const struct mb_pattern *p, const uint8_t *at,
                    size_t n, size_t from)
{
    uint32_t steps = MB_PATTERN_STEPS;
    for (;;) {
        (void) pcre2_set_match_limit(m->context, steps);
        int rc = pcre2_match(p->code, at, n, from, PCRE2_NO_UTF_CHECK, m->data, m->context);
        if (rc ==
            PCRE2_ERROR_JIT_STACKLIMIT) { /* the interpreter keeps its stack on the heap */
            rc = pcre2_match(p->code, at, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, m->data,
                             m->context);
        }
        if (rc != PCRE2_ERROR_MATCHLIMIT || m->account < steps) {
            return rc;
        }
        m->account -= steps;
        steps = steps > UINT32_MAX / STEPS_GROWTH ? UINT32_MAX : steps * STEPS_GROWTH;
        if (steps > m->account) {
            return PCRE2_ERROR_MATCHLIMIT;
        }
    }
}

enum mb_status mb_matcher_next(struct mb_matcher *m, const struct mb_pattern *p,
                               const uint8_t *at, size_t n, size_t from, size_t *ret_start,
                               size_t *ret_end, struct mb_error *err)
{
    for (; from < n; from += mb_utf8_len(at[from])) {
        int rc = match_at(m, p, at, n, from);
        if (rc >= 0) {
            const PCRE2_SIZE *range = pcre2_get_ovector_pointer(m->data);
            /* \K may move the start of a match, even behind its end: such a match is empty. */
            *ret_start = from;
            *ret_end = range[1] > from ? range[1] : from;
            return MB_OK;
        }
        if (rc == PCRE2_ERROR_NOMATCH) {
            continue;
        }
        if (rc == PCRE2_ERROR_NOMEMORY) {
            return mb_fail(err, MB_E_NOMEM, 0, "tokenizer: no memory to match the pattern");
        }
        return mb_fail(err, MB_E_LIMIT, 0,
                       "tokenizer: its pattern takes too many steps on this text (%d)", rc);
    }
    *ret_start = n;
    *ret_end = n;
    return MB_OK;
}
