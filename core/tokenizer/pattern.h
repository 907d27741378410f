/* Splitting patterns: regular expressions as tokenizer.json writes them, run by PCRE2.
 *
 * Bound:   a match first gets MB_PATTERN_STEPS steps; one that needs more is tried again with
 *          eight times as many, and what it got is charged to the text's account. A pattern
 *          that goes wild is thus stopped after MB_PATTERN_STEPS a byte, and the account:
 *          MB_E_LIMIT.
 * Life:    mb_pattern _new/_free, immutable. mb_matcher _init/_fini, one thread at a time. */
#ifndef MB_CORE_PATTERN_H
#define MB_CORE_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/status.h"

#define MB_PATTERN_STEPS 1000u

struct mb_pattern;

/* pattern is well-formed UTF-8. Errors: MB_E_FORMAT with the reason and the place in the
 * pattern. */
enum mb_status mb_pattern_new(const uint8_t *pattern, size_t n, struct mb_pattern **ret,
                              struct mb_error *err);
void mb_pattern_free(struct mb_pattern *p); /* NULL is allowed */

/* The state of matching over one text, by any number of patterns. */
struct mb_matcher {
    void *data;    /* pcre2_match_data */
    void *context; /* pcre2_match_context */
    uint64_t account;
};

/* For a text of n_text bytes in all. Errors: MB_E_NOMEM. */
enum mb_status mb_matcher_init(struct mb_matcher *m, size_t n_text, struct mb_error *err);
void mb_matcher_fini(struct mb_matcher *m);

/* The leftmost match in at[0, n), which is well-formed UTF-8, starting at or after from. With
 * none, *ret_start is n. A match may be empty. Errors: MB_E_LIMIT, MB_E_NOMEM. */
enum mb_status mb_matcher_next(struct mb_matcher *m, const struct mb_pattern *p,
                               const uint8_t *at, size_t n, size_t from, size_t *ret_start,
                               size_t *ret_end, struct mb_error *err);

#endif
