/* For kernels that are one body and several constants: block sizes, planes, element types.
 *
 * Threads: none. */
#ifndef MB_CORE_KERNELS_X86_INLINE_H
#define MB_CORE_KERNELS_X86_INLINE_H

/* Inlined at every call, so that constant arguments unroll the body's loops. */
#define MB_INLINE static inline __attribute__((always_inline))

#endif
