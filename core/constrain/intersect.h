/* Strings that two rules both allow.
 *
 * Threads: as the grammar. */
#ifndef MB_CORE_INTERSECT_H
#define MB_CORE_INTERSECT_H

#include "core/constrain/grammar.h"

/* A string rule of what string rules a and b spell alike: pairs of their states. */
uint32_t mb_rule_intersect(struct mb_grammar *g, uint32_t a, uint32_t b);

#endif
