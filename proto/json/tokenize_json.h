/* POST /tokenize and POST /detokenize, as vLLM has them.
 *
 * Owns:    _fini frees what a decoder allocated; what an encoder returns is malloc'ed and the
 *          caller's, NULL when memory is refused.
 * Threads: pure, once mb_json_init has run. */
#ifndef MB_PROTO_TOKENIZE_JSON_H
#define MB_PROTO_TOKENIZE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/wire_error.h"

struct mb_tokenize {
    char *model;  /* NULL: the only one there is */
    char *prompt; /* UTF-8, n_prompt bytes */
    size_t n_prompt;
    bool add_special_tokens; /* what the tokenizer puts before and after: BOS. Default true */
    bool return_token_strs;  /* the tokens' texts, too. Default false */
};

/* ret is written on success only. Errors: MB_E_INVALID or MB_E_NOMEM, with *err filled. */
enum mb_status mb_tokenize_decode(const char *text, size_t n, struct mb_tokenize *ret,
                                  struct mb_wire_error *err);
void mb_tokenize_fini(struct mb_tokenize *t);

struct mb_tokenize_reply {
    const uint32_t *tokens; /* [n] */
    size_t n;
    uint32_t context_max; /* "max_model_len" */
    /* Of token i, which need not be UTF-8: then each byte that is none shows as U+FFFD. NULL: null. */
    const char *(*text_of)(void *arg, size_t i, size_t *ret_n);
    void *arg;
};
char *mb_tokenize_encode(const struct mb_tokenize_reply *r);

struct mb_detokenize {
    char *model;
    uint32_t *tokens; /* [n] */
    size_t n;
};
enum mb_status mb_detokenize_decode(const char *text, size_t n, struct mb_detokenize *ret,
                                    struct mb_wire_error *err);
void mb_detokenize_fini(struct mb_detokenize *d);
char *mb_detokenize_encode(const char *prompt, size_t n);

#endif
