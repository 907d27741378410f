/* UTF-8, one character at a time, by Unicode's table of well-formed sequences (no overlong
 * forms, no surrogates, nothing above U+10FFFF).
 *
 * Threads: pure. */
#ifndef MB_CORE_UTF8_H
#define MB_CORE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MB_UTF8_MAX    4              /* bytes of the longest character */
#define MB_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

enum mb_utf8_kind {
    MB_UTF8_CHAR,   /* the first n bytes are character c */
    MB_UTF8_BROKEN, /* the first n bytes can start no character: one U+FFFD stands for them
                       ("maximal subpart", as Unicode recommends and browsers do) */
    MB_UTF8_CUT,    /* all n bytes start a character that the end cut off */
};

struct mb_utf8 {
    enum mb_utf8_kind kind;
    size_t n;
    uint32_t c;
};

/* What at[0, n) starts with; n > 0. */
struct mb_utf8 mb_utf8_first(const uint8_t *at, size_t n);

/* Is the whole of it well-formed? */
bool mb_utf8_valid(const uint8_t *at, size_t n);

/* Writes c, which is no surrogate and at most U+10FFFF; returns the number of bytes. */
size_t mb_utf8_put(uint32_t c, uint8_t ret[MB_UTF8_MAX]);

/* Bytes of the character that starts with this byte, in text known to be well-formed. */
static inline size_t mb_utf8_len(uint8_t lead)
{
    return lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

#endif
