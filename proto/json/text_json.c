#include "proto/json/text_json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of the well-formed character that starts at s (Unicode, table 3-7), or 0. */
static size_t character(const uint8_t *s, size_t n)
{
    uint8_t c = s[0];
    if (c < 0x80) {
        return 1;
    }
    size_t len = c >= 0xc2 && c <= 0xdf   ? 2
                 : (c & 0xf0) == 0xe0     ? 3
                 : c >= 0xf0 && c <= 0xf4 ? 4
                                          : 0;
    if (len == 0 || len > n) {
        return 0;
    }
    uint8_t lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    uint8_t hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < lo || s[1] > hi) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return len;
}

bool mb_json_is_utf8(const char *text, size_t n)
{
    const uint8_t *s = (const uint8_t *) text;
    for (size_t i = 0; i < n;) {
        size_t len = character(s + i, n - i);
        if (len == 0) {
            return false;
        }
        i += len;
    }
    return true;
}

json_t *mb_json_string_of(const char *text, size_t n)
{
    if (mb_json_is_utf8(text, n)) {
        return json_stringn_nocheck(text, n);
    }
    static const char replacement[] = "\xef\xbf\xbd";
    if (n > SIZE_MAX / 3) {
        return NULL;
    }
    char *clean = malloc(n * 3);
    if (!clean) {
        return NULL;
    }
    size_t out = 0;
    for (size_t i = 0; i < n;) {
        size_t len = character((const uint8_t *) text + i, n - i);
        if (len == 0) {
            memcpy(clean + out, replacement, 3);
            out += 3;
            i++;
        } else {
            memcpy(clean + out, text + i, len);
            out += len;
            i += len;
        }
    }
    json_t *ret = json_stringn_nocheck(clean, out);
    free(clean);
    return ret;
}
