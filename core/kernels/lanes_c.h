/* The fixed order of a float sum, for the portable kernels: 16 partial sums and a tree.
 *
 * Threads: pure. */
#ifndef MB_CORE_KERNELS_LANES_C_H
#define MB_CORE_KERNELS_LANES_C_H

#define MB_LANES 16

/* lane l += lane l+8, then l+4, l+2, l+1; lane 0 is the result. Overwrites the lanes. */
static inline float mb_lanes_sum(float lane[MB_LANES])
{
    for (int half = MB_LANES / 2; half > 0; half /= 2) {
        for (int l = 0; l < half; l++) {
            lane[l] += lane[l + half];
        }
    }
    return lane[0];
}

#endif
