/* Writes a float model as a Hugging Face folder, the other direction of hf.h: config.json,
 * generation_config.json, model.safetensors in float16, tokenizer.json, tokenizer_config.json.
 *
 * Threads: pure but for the files. */
#ifndef MB_CORE_HF_WRITE_H
#define MB_CORE_HF_WRITE_H

#include "core/model/model.h"
#include "core/tokenizer/spec.h"

struct mb_hf_write {
    const struct mb_model *model; /* linears are MB_LINEAR_F32 */
    double rope_theta;
    const struct mb_bpe_spec *tokenizer; /* byte-level, as mb_bpe_train makes them */
    const char *chat_template;           /* or NULL */
};

/* Makes dir when it is not there. Each file is written aside and renamed; the weights last.
 * The same input gives the same bytes.
 * Errors: MB_E_INVALID for a model or tokenizer of another kind, or a weight too large for
 * float16, naming the tensor; MB_E_IO, MB_E_NOMEM. */
enum mb_status mb_hf_write(const struct mb_hf_write *w, const char *dir, struct mb_error *err);

#endif
