/* Numbers between bounds, as paths of a grammar.
 *
 * Threads: as the grammar. */
#ifndef MB_CORE_NUMBER_H
#define MB_CORE_NUMBER_H

#include <stdbool.h>

#include "core/constrain/grammar.h"

struct mb_number_bounds {
    bool integer;        /* no fraction, no exponent */
    bool has_lo, has_hi; /* else no bound */
    bool lo_open, hi_open;
    double lo, hi; /* finite */
};

/* Paths that spell the numbers in bounds: of at most 15 significant digits, so that a reader's double
 * tells every two of them apart and none is rounded over a bound. Without bounds: up to 15 digits
 * before the point, 15 behind it, and an exponent of two digits.
 * Errors: MB_E_UNSUPPORTED for a bound that needs more than 15 digits. */
enum mb_status mb_number_path(struct mb_grammar *g, uint32_t from,
                              const struct mb_number_bounds *bounds, uint32_t to,
                              struct mb_error *err);

#endif
