#include "core/tokenizer/byte_level.h"

#include <string.h>

/* The three runs of bytes that are not printable in Latin-1, in order: controls and space;
 * delete, more controls and the no-break space; the soft hyphen. */
enum { RUN_A_END = 0x21, RUN_B = 0x7f, RUN_B_END = 0xa1, RUN_C = 0xad };
enum {
    MOVED_B = 0x100 + RUN_A_END,
    MOVED_C = MOVED_B + RUN_B_END - RUN_B,
    MOVED_END = MOVED_C + 1,
};

uint32_t mb_byte_level_char(uint8_t byte)
{
    if (byte < RUN_A_END) {
        return 0x100u + byte;
    }
    if (byte >= RUN_B && byte < RUN_B_END) {
        return (uint32_t) (MOVED_B + byte - RUN_B);
    }
    return byte == RUN_C ? (uint32_t) MOVED_C : byte;
}

bool mb_byte_level_byte(uint32_t c, uint8_t *ret)
{
    uint32_t byte = c;
    if (c >= MOVED_END) {
        return false;
    }
    if (c == MOVED_C) {
        byte = RUN_C;
    } else if (c >= MOVED_B) {
        byte = c - MOVED_B + RUN_B;
    } else if (c >= 0x100) {
        byte = c - 0x100;
    } else if (mb_byte_level_char((uint8_t) c) != c) {
        return false; /* it has another character */
    }
    *ret = (uint8_t) byte;
    return true;
}

static int hex_of(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool mb_byte_token(const uint8_t *at, size_t n, uint8_t *ret)
{
    if (n != 6 || memcmp(at, "<0x", 3) != 0 || at[5] != '>') {
        return false;
    }
    int high = hex_of(at[3]);
    int low = hex_of(at[4]);
    if (high < 0 || low < 0) {
        return false;
    }
    *ret = (uint8_t) (high << 4 | low);
    return true;
}
