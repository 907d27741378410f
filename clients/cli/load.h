/* Opens what a command line names as a model: an .mbool file, or a Hugging Face folder or GGUF
 * file, which is run as the float model. A file is told by how it begins. */
#ifndef MBC_LOAD_H
#define MBC_LOAD_H

#include <stdbool.h>

#include "core/model/model.h"
#include "core/tokenizer/tokenizer.h"

struct mbc_model {
    struct mb_model *model;
    struct mb_tokenizer *tokenizer; /* NULL when the file or folder has none */
    bool is_float;                  /* it came from a folder or GGUF file */
};

/* Errors: those of the checkpoint's and the folder's readers; nothing to unload then. */
enum mb_status mbc_load(const char *path, struct mbc_model *ret, struct mb_error *err);
void mbc_unload(struct mbc_model *m); /* a zeroed one is allowed */

#endif
