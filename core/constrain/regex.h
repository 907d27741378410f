/* Regular expressions as rules of a grammar: the part of ECMA 262's syntax that JSON Schema's
 * "pattern" is advised to keep to, and that is regular.
 *
 *     alternation |   groups ( ) (?: )   * + ? {m} {m,} {m,n}, each also lazy   ^ at the start, $ at
 *     the end of an alternative of the whole   .   [a-z] [^a-z]   \d \w \s \D \W \S   \t \n \r \f \v
 *     \xhh \uhhhh \cX and escaped punctuation
 *
 * Where dialects differ, what is spelled suits all of them: \d \w \s and their opposites, and negated
 * sets that hold one of them, are ASCII only; . spells no end of a line of Unicode's.
 * Refused: look around, back references, \b, \B, \p, other anchors.
 *
 * Threads: as the grammar. */
#ifndef MB_CORE_REGEX_H
#define MB_CORE_REGEX_H

#include "core/constrain/grammar.h"

#define MB_REGEX_BYTES_MAX  4096
#define MB_REGEX_DEPTH_MAX  32   /* of groups */
#define MB_REGEX_REPEAT_MAX 1000 /* {m,n}: n */

/* A string rule: the strings in which pattern is found, as "pattern" means it. Cost: in the states that it makes, which are bounded.
 * Errors: MB_E_INVALID for what is no expression, MB_E_UNSUPPORTED for what is refused, each with the
 *         place; MB_E_NOMEM. */
enum mb_status mb_regex_rule(struct mb_grammar *g, const char *pattern, size_t n,
                             uint32_t *ret_rule, struct mb_error *err);

#endif
