/* The most that a thread of this processor can do of what limits the kernels, as loops of that
 * one instruction: on registers alone, in as many independent chains as hide its latency. What
 * a kernel reaches is judged by these.
 *
 *     popcount  counts the bits of a vector: VPOPCNTDQ; by AVX2, looks up half bytes
 *     u8s8      multiplies unsigned by signed bytes and adds neighbours: VNNI; by AVX2,
 *               vpmaddubsw, although it saturates and an exact product needs more than it
 *     fma       float32
 *     read      memory, in order
 *
 * The first three return how many operations they did, computed from what the operations left:
 * sums of products 1 * 1, or counts that each turn must reproduce from those before. A test thus
 * sees whether a compiler left any out. In portable C they are what its compiler makes of
 * plain loops.
 *
 * Threads: pure. */
#ifndef MB_CORE_PEAK_H
#define MB_CORE_PEAK_H

#include <stddef.h>
#include <stdint.h>

#include "core/kernels/cpu.h"

/* About ten microseconds, and no sum overflows. */
#define MB_PEAK_TURNS_MAX 4096

/* turns <= MB_PEAK_TURNS_MAX. Returns bits counted, bytes multiplied and added, or fma done. */
typedef uint64_t mb_peak_fn(size_t turns);

/* The sum of n words, n a multiple of 64; 64-byte aligned. */
typedef uint64_t mb_peak_read_fn(const uint64_t *at, size_t n);

struct mb_peaks {
    mb_peak_fn *popcount, *u8s8, *fma;
    mb_peak_read_fn *read;
};

/* The best that cpu allows, of each. Pure. */
void mb_peaks_select(struct mb_peaks *ret, mb_cpu_flags cpu);

mb_peak_fn mb_peak_popcount_c, mb_peak_popcount_avx2, mb_peak_popcount_avx512vpopcntdq;
mb_peak_fn mb_peak_u8s8_c, mb_peak_u8s8_avx2, mb_peak_u8s8_avx512vnni;
mb_peak_fn mb_peak_fma_c, mb_peak_fma_avx2, mb_peak_fma_avx512;
mb_peak_read_fn mb_peak_read_c, mb_peak_read_avx2, mb_peak_read_avx512;

#endif
