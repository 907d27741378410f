/* What tokenizers and chat templates ask of Unicode: normal forms, classes of characters,
 * case. The tables are those of libutf8proc.
 *
 * Threads: pure. */
#ifndef MB_CORE_UNICODE_H
#define MB_CORE_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/bytes.h"

enum mb_normal_form { MB_NFC, MB_NFD, MB_NFKC, MB_NFKD };

/* Appends the normal form (UAX #15) of well-formed UTF-8 to ret; refused memory sets
 * ret->failed. Cost: O(n), whatever the text: the library's own function is quadratic in the
 * length of a run of combining marks, so marks are put in order here. */
void mb_normal_form(enum mb_normal_form form, const uint8_t *at, size_t n,
                    struct mb_bytes *ret);

bool mb_is_space(uint32_t c); /* White_Space */
bool mb_is_word(uint32_t c);  /* letters, marks, numbers, connecting punctuation */
bool mb_is_letter(uint32_t c);
bool mb_is_digit(uint32_t c); /* decimal */
bool mb_is_printable(
    uint32_t c); /* a space, or none of: other, separators (Python's isprintable) */

/* Of one character to one character: what needs two ("SS" of the German sharp s) stays as
 * it is. */
uint32_t mb_to_upper(uint32_t c);
uint32_t mb_to_lower(uint32_t c);
bool mb_is_upper(uint32_t c);
bool mb_is_lower(uint32_t c);

#endif
