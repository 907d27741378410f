#include "core/tokenizer/utf8.h"

#include <assert.h>

/* How many bytes follow this lead, and where the second must lie: the one byte on which all of
 * Unicode's restrictions fall. n is 0 for what can not lead. */
static size_t lead_of(uint8_t lead, uint8_t *ret_min, uint8_t *ret_max)
{
    *ret_min = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    *ret_max = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf) {
        return 1;
    }
    if (lead >= 0xe0 && lead <= 0xef) {
        return 2;
    }
    return lead >= 0xf0 && lead <= 0xf4 ? 3 : 0;
}

struct mb_utf8 mb_utf8_first(const uint8_t *at, size_t n)
{
    assert(n > 0);
    uint8_t lead = at[0];
    if (lead < 0x80) {
        return (struct mb_utf8) { MB_UTF8_CHAR, 1, lead };
    }
    uint8_t min, max;
    size_t follow = lead_of(lead, &min, &max);
    if (follow == 0) {
        return (struct mb_utf8) { MB_UTF8_BROKEN, 1, 0 };
    }
    uint32_t c = lead & (0x3fu >> follow);
    for (size_t i = 1; i <= follow; i++) {
        if (i == n) {
            return (struct mb_utf8) { MB_UTF8_CUT, n, 0 };
        }
        if (at[i] < min || at[i] > max) {
            return (struct mb_utf8) { MB_UTF8_BROKEN, i, 0 };
        }
        c = c << 6 | (at[i] & 0x3fu);
        min = 0x80;
        max = 0xbf;
    }
    return (struct mb_utf8) { MB_UTF8_CHAR, follow + 1, c };
}

bool mb_utf8_valid(const uint8_t *at, size_t n)
{
    for (size_t i = 0; i < n;) {
        if (at[i] < 0x80) {
            i++;
            continue;
        }
        struct mb_utf8 u = mb_utf8_first(at + i, n - i);
        if (u.kind != MB_UTF8_CHAR) {
            return false;
        }
        i += u.n;
    }
    return true;
}

size_t mb_utf8_put(uint32_t c, uint8_t ret[MB_UTF8_MAX])
{
    assert(c <= 0x10ffff);
    assert(c < 0xd800 || c > 0xdfff);
    if (c < 0x80) {
        ret[0] = (uint8_t) c;
        return 1;
    }
    if (c < 0x800) {
        ret[0] = (uint8_t) (0xc0 | c >> 6);
        ret[1] = (uint8_t) (0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        ret[0] = (uint8_t) (0xe0 | c >> 12);
        ret[1] = (uint8_t) (0x80 | (c >> 6 & 0x3f));
        ret[2] = (uint8_t) (0x80 | (c & 0x3f));
        return 3;
    }
    ret[0] = (uint8_t) (0xf0 | c >> 18);
    ret[1] = (uint8_t) (0x80 | (c >> 12 & 0x3f));
    ret[2] = (uint8_t) (0x80 | (c >> 6 & 0x3f));
    ret[3] = (uint8_t) (0x80 | (c & 0x3f));
    return 4;
}
