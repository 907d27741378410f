/* The alphabet of byte-level tokenizers: each of the 256 bytes as one printable character, so
 * that a vocabulary of any bytes is a list of readable words (Radford et al. 2019, GPT-2).
 * Printable bytes of Latin-1 stand for themselves, the other 68 for U+0100 and up, in order.
 *
 * Threads: pure. */
#ifndef MB_CORE_BYTE_LEVEL_H
#define MB_CORE_BYTE_LEVEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The character for a byte. */
uint32_t mb_byte_level_char(uint8_t byte);

/* The byte for a character, or false. */
bool mb_byte_level_byte(uint32_t c, uint8_t *ret);

/* Is byte i, token "<0xNN>" of six characters? The spelling of byte-fallback vocabularies. */
bool mb_byte_token(const uint8_t *at, size_t n, uint8_t *ret);

#endif
