/* tokenizer.json, the Hugging Face tokenizers library's file, into a tokenizer's spec; with the
 * files beside it that say which tokens begin and end a text.
 *
 * Threads: pure. */
#ifndef MB_CORE_TOKENIZER_JSON_H
#define MB_CORE_TOKENIZER_JSON_H

#include <stddef.h>
#include <stdint.h>

#include "core/tokenizer/spec.h"
#include "proto/status.h"

/* Reads tokenizer.json and, where they are not NULL, the files that complete it:
 *
 *     around a text   the post-processor's TemplateProcessing; without one, add_bos_token and
 *                     add_eos_token of tokenizer_config.json
 *     bos             bos_token of tokenizer_config.json; without the file, bos_token_id of the
 *     others eos             eos_token_id of generation_config.json and config.json, and
 *     eos_token of
 *                     tokenizer_config.json: all of them
 *
 * Errors: MB_E_UNSUPPORTED by name ("tokenizer model Unigram is not supported; supported:
 *         BPE"),
 * MB_E_FORMAT naming the field, and those of mb_json_load. */
enum mb_status mb_tokenizer_json_read(const char *tokenizer_json_path,
                                      const char *tokenizer_config_path_or_NULL,
                                      const char *generation_config_path_or_NULL,
                                      const char *config_json_path_or_NULL,
                                      struct mb_bpe_spec **ret, struct mb_error *err);

/* The same of bytes; a NULL at is an absent file. */
struct mb_tokenizer_files {
    const uint8_t *tokenizer, *tokenizer_config, *generation_config, *config;
    size_t n_tokenizer, n_tokenizer_config, n_generation_config, n_config;
};
enum mb_status mb_tokenizer_json_parse(const struct mb_tokenizer_files *files,
                                       struct mb_bpe_spec **ret, struct mb_error *err);

#endif
