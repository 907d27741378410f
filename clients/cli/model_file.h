/* A model and its tokenizer from whatever the user named: an .mbool file or a Hugging Face
 * folder. */
#ifndef MBC_MODEL_FILE_H
#define MBC_MODEL_FILE_H

#include "core/kernels/cpu.h"
#include "core/model/model.h"
#include "core/tokenizer/tokenizer.h"

struct mbc_model_file {
    struct mb_model *model;
    struct mb_tokenizer *tokenizer; /* NULL when the model came with none */
};

enum mb_status mbc_model_file_open(const char *path, struct mbc_model_file *ret,
                                   struct mb_error *err);
void mbc_model_file_close(struct mbc_model_file *f); /* leaves it empty; an empty one is allowed */

#endif
