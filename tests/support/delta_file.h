/* A flip delta on disk for tests: another version of a checkpoint, as fine-tuning would make it. */
#ifndef MB_TESTS_DELTA_FILE_H
#define MB_TESTS_DELTA_FILE_H

#include <stdint.h>

/* Writes to delta what flips n_flips signs of the blocks of the checkpoint at base, or a few less,
 * and scales its final norm: another version for every seed. Aborts when it can not. */
void delta_file_write(const char *base, const char *delta, uint64_t seed, uint32_t n_flips);

/* Sets the checksums of a checkpoint in memory right, whatever was done to it. */
void delta_file_put_right(void *at, uint64_t n);

#endif
