/* Characters of JSON strings as paths of a grammar: well-formed UTF-8, no control character but
 * escaped, no zero.
 *
 * Threads: as the grammar. */
#ifndef MB_CORE_CHARS_H
#define MB_CORE_CHARS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/constrain/grammar.h"

#define MB_CHAR_MAX        0x10ffffu
#define MB_CHAR_RANGES_MAX 256 /* of a set */

/* A set of characters: ranges in ascending order that do not touch. */
struct mb_char_set {
    struct mb_char_range {
        uint32_t lo, hi;
    } at[MB_CHAR_RANGES_MAX];
    size_t n;
};

/* Adds lo..hi, lo <= hi <= MB_CHAR_MAX; false when there would be too many ranges. */
bool mb_char_set_add(struct mb_char_set *s, uint32_t lo, uint32_t hi);
/* All characters but those of s. */
bool mb_char_set_invert(struct mb_char_set *s);

enum mb_char_escapes {
    MB_CHARS_RAW,     /* what needs an escape is left out */
    MB_CHARS_ESCAPED, /* what needs one has it: \" \\ \b \f \n \r \t */
    MB_CHARS_ANY, /* any character may have one: \/ and \u1234 and pairs of surrogates too */
};

/* Paths that spell each character of s, one. Surrogates are left out, and so is what only
 * a longer escape could say. */
void mb_chars_path(struct mb_grammar *g, uint32_t from, const struct mb_char_set *s,
                   enum mb_char_escapes escapes, uint32_t to);

/* The path of a text between the quotes, as it is written with the fewest escapes. */
void mb_chars_literal(struct mb_grammar *g, uint32_t from, const char *text, size_t n,
                      uint32_t to);

/* Rules. Any string of n_min..n_max characters; n_max UINT32_MAX is no limit. */
uint32_t mb_string_rule(struct mb_grammar *g, uint32_t n_min, uint32_t n_max);
uint32_t mb_literal_rule(struct mb_grammar *g, const char *text, size_t n);
/* Any string of characters that need no escape, but none of these names. */
struct mb_name {
    const char *at; /* UTF-8 */
    size_t n;
};
uint32_t mb_other_name_rule(struct mb_grammar *g, const struct mb_name *names, size_t n);

#endif
