/* What every fuzz target defines; libFuzzer or replay.c calls it. */
#ifndef MB_TESTS_FUZZ_H
#define MB_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* A broken law ends the run, with and without a fuzzer. */
#define fuzz_assert(law) ((law) ? (void) 0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t n);

#endif
