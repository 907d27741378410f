/* Size arithmetic that reports overflow. Every size that comes from a file, a socket or a
 * command line goes through here before it reaches an allocator or an index.
 *
 * Threads: pure. */
#ifndef MB_CORE_CHECKED_H
#define MB_CORE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* true and *ret = a op b, or false and *ret untouched when the result does not fit. */
static inline bool mb_checked_add(size_t a, size_t b, size_t *ret)
{
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum)) {
        return false;
    }
    *ret = sum;
    return true;
}

static inline bool mb_checked_mul(size_t a, size_t b, size_t *ret)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product)) {
        return false;
    }
    *ret = product;
    return true;
}

/* Rounds up to a multiple of unit, which is a power of two. */
static inline bool mb_checked_align(size_t a, size_t unit, size_t *ret)
{
    size_t sum;
    if (!mb_checked_add(a, unit - 1, &sum)) {
        return false;
    }
    *ret = sum & ~(unit - 1);
    return true;
}

/* Is [offset, offset + bytes) inside [0, whole)? */
static inline bool mb_extent_fits(uint64_t offset, uint64_t bytes, uint64_t whole)
{
    return offset <= whole && bytes <= whole - offset;
}

/* Rounds up; for counts that a bound already keeps small. */
static inline size_t mb_div_up(size_t a, size_t unit)
{
    return a / unit + (a % unit != 0);
}

#endif
