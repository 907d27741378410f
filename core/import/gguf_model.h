/* A GGUF file of the architecture "llama" as what a Hugging Face folder is (core/import/hf.h, of
 * which this is the part for files): the same names of tensors, the same order of their rows.
 *
 * Tensors are views into the mapped file, but for those that must be changed, which are copied
 * when opening: the query and key projections, whose rows are put back into the order of
 * transformers, in their own type; and Q8_0, which becomes float32, exactly, at 4 bytes a weight
 * (3.8 times its size in the file).
 *
 * Life:    _open/_free. Threads: immutable after _open. */
#ifndef MB_CORE_GGUF_MODEL_H
#define MB_CORE_GGUF_MODEL_H

#include "core/base/bytes.h"
#include "core/import/hf.h"

struct mb_gguf_model;

/* Errors: those of mb_file_map and mb_gguf_of_memory; MB_E_UNSUPPORTED by name; MB_E_FORMAT
 * naming the key or tensor. */
enum mb_status mb_gguf_model_open(const char *path, struct mb_gguf_model **ret,
                                  struct mb_error *err);
/* The same of bytes that outlive the result. */
enum mb_status mb_gguf_model_of_memory(const void *at, size_t n, struct mb_gguf_model **ret,
                                       struct mb_error *err);
void mb_gguf_model_free(struct mb_gguf_model *m); /* NULL is allowed */

/* What the functions of hf.h of the same names give. */
const struct mb_shape *mb_gguf_model_shape(const struct mb_gguf_model *m);
const double *mb_gguf_model_inv_freq(const struct mb_gguf_model *m);
const struct mb_hf_tensor *mb_gguf_model_tensor(const struct mb_gguf_model *m,
                                                const char *name);
enum mb_status mb_gguf_model_tokenizer(const struct mb_gguf_model *m, struct mb_bytes *ret,
                                       struct mb_error *err);
const char *mb_gguf_model_chat_template(const struct mb_gguf_model *m);

#endif
