/* A growing string of bytes, and a cursor that reads one back without trusting it.
 * All numbers are little endian, as in the checkpoint format.
 *
 * Life:    _init/_fini on the caller's memory; a zeroed struct mb_bytes is initialized.
 * Threads: one thread at a time per object. */
#ifndef MB_CORE_BYTES_H
#define MB_CORE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mb_bytes {
    uint8_t *at;
    size_t len;
    size_t cap;
    bool failed; /* sticky: an append was refused memory; checked once at the end */
};

void mb_bytes_fini(struct mb_bytes *b);  /* leaves it initialized and empty */
void mb_bytes_clear(struct mb_bytes *b); /* keeps the memory */

/* Appends. On refused memory, sets failed and leaves the rest as it was. */
void mb_bytes_put(struct mb_bytes *b, const void *at, size_t n);
void mb_bytes_put_u8(struct mb_bytes *b, uint8_t v);
void mb_bytes_put_u16(struct mb_bytes *b, uint16_t v);
void mb_bytes_put_u32(struct mb_bytes *b, uint32_t v);
void mb_bytes_put_u64(struct mb_bytes *b, uint64_t v);
void mb_bytes_put_f32(struct mb_bytes *b, float v);
void mb_bytes_put_f64(struct mb_bytes *b, double v);
void mb_bytes_put_text(struct mb_bytes *b, const char *text); /* without the terminator */
void mb_bytes_printf(struct mb_bytes *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* A terminator after the last byte, not counted in len: at may be used as a C string.
 * Returns "" when nothing was ever put. */
const char *mb_bytes_text(struct mb_bytes *b);

/* Reads left to right. A read past the end gives zero and sets failed, which is sticky:
 * a decoder reads a whole record and asks once. */
struct mb_cursor {
    const uint8_t *at;
    size_t left;
    bool failed;
};

struct mb_cursor mb_cursor_of(const void *at, size_t n);
const uint8_t *mb_cursor_take(struct mb_cursor *c, size_t n); /* NULL when failed */
uint8_t mb_cursor_u8(struct mb_cursor *c);
uint16_t mb_cursor_u16(struct mb_cursor *c);
uint32_t mb_cursor_u32(struct mb_cursor *c);
uint64_t mb_cursor_u64(struct mb_cursor *c);
float mb_cursor_f32(struct mb_cursor *c);
double mb_cursor_f64(struct mb_cursor *c);

#endif
