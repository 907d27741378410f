/* config.json of a Hugging Face folder: what the model is made of.
 *
 * Supported: LlamaForCausalLM and MistralForCausalLM, by "architectures", else by "model_type".
 * Whatever would change the arithmetic and is not implemented is refused by name; defaults of
 * absent fields are those of the transformers library.
 *
 * Threads: pure. */
#ifndef MB_CORE_HF_CONFIG_H
#define MB_CORE_HF_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "core/model/model.h"
#include "core/model/shape.h"

struct mb_hf_config {
    struct mb_shape shape;
    struct mb_rope_params rope;
    const char *architecture; /* "LlamaForCausalLM"; static */
};

/* file names the bytes in errors. Errors: MB_E_UNSUPPORTED by name, MB_E_FORMAT naming the
 * field, MB_E_LIMIT. */
enum mb_status mb_hf_config_parse(const uint8_t *at, size_t n, const char *file,
                                  struct mb_hf_config *ret, struct mb_error *err);

#endif
