/* A text as the token sequences that a model is measured or calibrated on.
 *
 * Documents are separated by lines "<|endoftext|>"; white space around a document is not part
 * of it, and an empty one is none. Each document is BOS (where the tokenizer has one) and its
 * tokens, cut into windows that do not overlap. A window of one token predicts nothing and is
 * left out.
 *
 * Life:    _of_text/_fini. Threads: a value. */
#ifndef MB_CORE_WINDOWS_H
#define MB_CORE_WINDOWS_H

#include <stddef.h>
#include <stdint.h>

#include "core/tokenizer/tokenizer.h"

struct mb_windows {
    struct mb_ids ids; /* of all windows, end to end */
    size_t *start;     /* [n + 1]: window i is ids [start[i], start[i + 1]) */
    size_t n;
};

#define MB_DOCUMENT_END "<|endoftext|>"

/* Cuts the first document off rest; what is left of it without white space around may be empty. */
struct mb_text {
    const char *at;
    size_t n;
};
struct mb_text mb_text_document(struct mb_text *rest);

/* At most tokens_max tokens, the last window cut short if need be; 0 is no limit.
 * Errors: MB_E_INVALID when window is below 2 or the text gives no window, MB_E_NOMEM. */
enum mb_status mb_windows_of_text(const struct mb_tokenizer *t, const char *text, size_t n,
                                  size_t window, size_t tokens_max, struct mb_windows *ret,
                                  struct mb_error *err);
/* The same of a text in which special tokens are written out, e.g. "<|end|>" of a chat. */
enum mb_status mb_windows_of_marked_text(const struct mb_tokenizer *t, const char *text,
                                         size_t n, size_t window, size_t tokens_max,
                                         struct mb_windows *ret, struct mb_error *err);
void mb_windows_fini(struct mb_windows *w);

static inline size_t mb_windows_tokens(const struct mb_windows *w)
{
    return w->n > 0 ? w->start[w->n] : 0;
}

#endif
