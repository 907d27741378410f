/* The stages of tokenizer.json (normalizer, pre_tokenizer, decoder) into the steps of a spec.
 *
 * Threads: pure. */
#ifndef MB_CORE_TOKENIZER_STAGES_H
#define MB_CORE_TOKENIZER_STAGES_H

#include <jansson.h>

#include "core/tokenizer/spec.h"

/* Appends the three stages of the file's root to s.
 * Errors: MB_E_UNSUPPORTED and MB_E_FORMAT, naming the stage and the type of step; MB_E_NOMEM.
 *         */
enum mb_status mb_tokenizer_stages(const json_t *root, struct mb_bpe_spec *s,
                                   struct mb_error *err);

/* Puts "where: " before what err says, unless st is MB_OK; returns st. */
enum mb_status mb_tokenizer_inside(const char *where, enum mb_status st, struct mb_error *err);

#endif
