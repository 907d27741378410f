#include "core/base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "checkpoints are mapped, not parsed: a little-endian machine is assumed"
#endif

enum { CAP_MIN = 64 };

/* Room for n more bytes and a terminator. */
static bool reserve(struct mb_bytes *b, size_t n)
{
    size_t need;
    if (b->failed || !mb_checked_add(b->len, n, &need) || !mb_checked_add(need, 1, &need)) {
        b->failed = true;
        return false;
    }
    if (need <= b->cap) {
        return true;
    }
    size_t cap = b->cap < CAP_MIN ? CAP_MIN : b->cap;
    while (cap < need) {
        if (!mb_checked_mul(cap, 2, &cap)) {
            cap = need;
        }
    }
    uint8_t *at = realloc(b->at, cap);
    if (!at) {
        b->failed = true;
        return false;
    }
    b->at = at;
    b->cap = cap;
    return true;
}

void mb_bytes_fini(struct mb_bytes *b)
{
    if (b) {
        free(b->at);
        *b = (struct mb_bytes) { 0 };
    }
}

void mb_bytes_clear(struct mb_bytes *b)
{
    b->len = 0;
    b->failed = false;
}

void mb_bytes_put(struct mb_bytes *b, const void *at, size_t n)
{
    if (n > 0 && reserve(b, n)) {
        memcpy(b->at + b->len, at, n);
        b->len += n;
    }
}

void mb_bytes_put_u8(struct mb_bytes *b, uint8_t v)
{
    mb_bytes_put(b, &v, sizeof v);
}

void mb_bytes_put_u16(struct mb_bytes *b, uint16_t v)
{
    mb_bytes_put(b, &v, sizeof v);
}

void mb_bytes_put_u32(struct mb_bytes *b, uint32_t v)
{
    mb_bytes_put(b, &v, sizeof v);
}

void mb_bytes_put_u64(struct mb_bytes *b, uint64_t v)
{
    mb_bytes_put(b, &v, sizeof v);
}

void mb_bytes_put_f32(struct mb_bytes *b, float v)
{
    mb_bytes_put(b, &v, sizeof v);
}

void mb_bytes_put_f64(struct mb_bytes *b, double v)
{
    mb_bytes_put(b, &v, sizeof v);
}

void mb_bytes_put_text(struct mb_bytes *b, const char *text)
{
    mb_bytes_put(b, text, strlen(text));
}

void mb_bytes_printf(struct mb_bytes *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0 || !reserve(b, (size_t) n)) {
        b->failed = true;
        return;
    }
    va_start(args, fmt);
    (void) vsnprintf((char *) b->at + b->len, (size_t) n + 1, fmt, args);
    va_end(args);
    b->len += (size_t) n;
}

const char *mb_bytes_text(struct mb_bytes *b)
{
    if (!b->at || b->len >= b->cap) {
        return "";
    }
    b->at[b->len] = '\0';
    return (const char *) b->at;
}

struct mb_cursor mb_cursor_of(const void *at, size_t n)
{
    return (struct mb_cursor) { .at = at, .left = n };
}

const uint8_t *mb_cursor_take(struct mb_cursor *c, size_t n)
{
    if (c->failed || n > c->left) {
        c->failed = true;
        return NULL;
    }
    const uint8_t *at = c->at;
    c->at += n;
    c->left -= n;
    return at;
}

static void take_into(struct mb_cursor *c, void *ret, size_t n)
{
    const uint8_t *at = mb_cursor_take(c, n);
    if (at) {
        memcpy(ret, at, n);
    }
}

uint8_t mb_cursor_u8(struct mb_cursor *c)
{
    uint8_t v = 0;
    take_into(c, &v, sizeof v);
    return v;
}

uint16_t mb_cursor_u16(struct mb_cursor *c)
{
    uint16_t v = 0;
    take_into(c, &v, sizeof v);
    return v;
}

uint32_t mb_cursor_u32(struct mb_cursor *c)
{
    uint32_t v = 0;
    take_into(c, &v, sizeof v);
    return v;
}

uint64_t mb_cursor_u64(struct mb_cursor *c)
{
    uint64_t v = 0;
    take_into(c, &v, sizeof v);
    return v;
}

float mb_cursor_f32(struct mb_cursor *c)
{
    float v = 0;
    take_into(c, &v, sizeof v);
    return v;
}

double mb_cursor_f64(struct mb_cursor *c)
{
    double v = 0;
    take_into(c, &v, sizeof v);
    return v;
}
