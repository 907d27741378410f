/* Normalization: the steps of a spec's first stage, one after the other.
 *
 * Threads: pure but for the caller's buffers. */
#ifndef MB_CORE_NORMALIZE_H
#define MB_CORE_NORMALIZE_H

#include <stddef.h>
#include <stdint.h>

#include "core/tokenizer/spec.h"

/* A text may grow to this many times its length and a little: real normalizers stay below 11
 * (NFKC of one ligature), and a file that asks for more is out to fill the memory. */
#define MB_NORMAL_GROWTH_MAX   16u
#define MB_NORMAL_GROWTH_BYTES 4096u

/* A borrowed text. */
struct mb_text {
    const uint8_t *at;
    size_t n;
};

/* Two buffers that steps write to by turns. A zeroed one is initialized. */
struct mb_rewrite {
    struct mb_bytes buffer[2];
    unsigned now;
};

void mb_rewrite_fini(struct mb_rewrite *r);
/* The buffer that the last step did not write: emptied, to be written now. */
struct mb_bytes *mb_rewrite_next(struct mb_rewrite *r);

/* *ret is text when there is nothing to do, else in r until its next use.
 * Errors: MB_E_LIMIT for a text that grows beyond the bound, MB_E_NOMEM. */
enum mb_status mb_normalize(const struct mb_bpe_spec *spec, struct mb_text text,
                            struct mb_rewrite *r, struct mb_text *ret, struct mb_error *err);

/* Appends text to ret with each occurrence of pattern, which is not empty, replaced by content.
 * Stops, having written more than n_max bytes, when the result is longer than that. */
void mb_replace(struct mb_text text, struct mb_text pattern, struct mb_text content,
                size_t n_max, struct mb_bytes *ret);

#endif
