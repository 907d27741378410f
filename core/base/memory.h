/* Memory for vectors: 64-byte aligned, zeroed, sizes checked.
 *
 * Owns:    the caller; free with mb_free.
 * Threads: any. */
#ifndef MB_CORE_MEMORY_H
#define MB_CORE_MEMORY_H

#include <stddef.h>

#define MB_ALIGN 64 /* one cache line, one AVX-512 register */

/* n * size zeroed bytes at a multiple of MB_ALIGN; NULL when refused, when the product
 * overflows, or never for n = 0 (one line is given, so that NULL always means refusal). */
void *mb_alloc(size_t n, size_t size);
void mb_free(void *p); /* NULL is allowed */

#endif
