/* For kernels that are one body and several constants: block sizes, planes, element types.
 *
 * Threads: none. */
#ifndef MB_CORE_KERNELS_X86_INLINE_H
#define MB_CORE_KERNELS_X86_INLINE_H

/* Inlined at every call, so that constant arguments unroll the body's loops. */
#define MB_INLINE static inline __attribute__((always_inline))

/* Before a loop with a constant count: unrolled at once and not by estimate. Without it gcc leaves
 * large blocks of sums in memory, because it unrolls their loops only after it has given out
 * registers to arrays. */
#ifdef __clang__
#define MB_UNROLL _Pragma("unroll")
#else
#define MB_UNROLL _Pragma("GCC unroll 32")
#endif

#endif
