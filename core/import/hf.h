/* A Hugging Face folder: config.json, model.safetensors or its sharded index, tokenizer.json,
 * tokenizer_config.json, generation_config.json, chat_template.jinja. Or one GGUF file, which
 * behaves as the folder that it was made from.
 *
 * Files are mapped; tensors are views (any alignment) and nothing is copied, but for what
 * gguf_model.h says of GGUF. Nothing in them is trusted.
 *
 * Life:    _open/_free. Threads: immutable after _open. */
#ifndef MB_CORE_HF_H
#define MB_CORE_HF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/bytes.h"
#include "core/model/model.h"

struct mb_hf;

/* dir is the folder, or the path of a GGUF file.
 * Errors: MB_E_UNSUPPORTED by name ("architecture FooForCausalLM is not supported; supported:
 * LlamaForCausalLM, MistralForCausalLM"), MB_E_FORMAT, MB_E_NOTFOUND. */
enum mb_status mb_hf_open(const char *dir, struct mb_hf **ret, struct mb_error *err);
void mb_hf_free(struct mb_hf *h);

const struct mb_shape *mb_hf_shape(const struct mb_hf *h);
const char *mb_hf_architecture(const struct mb_hf *h); /* "LlamaForCausalLM" */
const double *mb_hf_inv_freq(const struct mb_hf *h);   /* [head_width / 2] */

/* One of the tensors that the model is made of, e.g. "model.layers.0.mlp.up_proj.weight". A
 * vector is one row. Opening has found every one of them, of the size that the shape asks for:
 *
 *     model.embed_tokens.weight, model.norm.weight, lm_head.weight (absent when tied), and in
 *     model.layers.N.: input_layernorm, post_attention_layernorm,
 *     self_attn.{q,k,v,o}_proj, mlp.{gate,up,down}_proj, each with .weight */
struct mb_hf_tensor {
    enum mb_linear_kind kind; /* MB_LINEAR_F32, _F16 or _BF16 */
    uint32_t n_rows, n_cols;
    const void *data; /* row-major, any alignment; valid as long as the folder is open */
};
/* NULL for any other name. O(log n). */
const struct mb_hf_tensor *mb_hf_tensor(const struct mb_hf *h, const char *name);

/* Appends the tokenizer, as bytes for mb_tokenizer_from_bytes. Errors: MB_E_NOTFOUND when the
 * folder has none, and those of mb_tokenizer_json_read or mb_gguf_tokenizer. */
enum mb_status mb_hf_tokenizer(const struct mb_hf *h, struct mb_bytes *ret,
                               struct mb_error *err);
/* Chat template, or NULL; terminated. */
const char *mb_hf_chat_template(const struct mb_hf *h);

/* The float model over the mapped tensors: takes ownership of h on success. Reads them all once.
 * Errors: MB_E_FORMAT naming a tensor that holds an infinity or NaN; MB_E_NOMEM. */
enum mb_status mb_model_from_hf(struct mb_hf *h, struct mb_model **ret, struct mb_error *err);

#endif
