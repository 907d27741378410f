/* For the loops of peak.h: independent chains of one instruction, and a value that the compiler
 * can not see through.
 *
 * Threads: none. */
#ifndef MB_CORE_KERNELS_X86_CHAINS_H
#define MB_CORE_KERNELS_X86_CHAINS_H

/* A vector that may have changed: what is computed from it must be computed again, and two
 * vectors that are equal are not known to be. */
#define MB_OPAQUE(v) __asm__("" : "+v"(v))

/* One statement for each of twelve chains, more than the latency of any such instruction times
 * their number in a cycle. */
#define MB_TWELVE(CHAIN) \
    CHAIN(0)             \
    CHAIN(1)             \
    CHAIN(2) CHAIN(3) CHAIN(4) CHAIN(5) CHAIN(6) CHAIN(7) CHAIN(8) CHAIN(9) CHAIN(10) CHAIN(11)

enum { MB_CHAINS = 12 };

#endif
