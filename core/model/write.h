/* A model's tensors into a checkpoint: the other direction of from_checkpoint.c.
 *
 * Threads: one thread at a time per writer. */
#ifndef MB_CORE_MODEL_WRITE_H
#define MB_CORE_MODEL_WRITE_H

#include "core/checkpoint/writer.h"
#include "core/model/model.h"

/* Adds every tensor of m, whose linear layers are Boolean or float16; what is made of bytes
 * (tokenizer, template, provenance) is the caller's. Errors: those of the writer. */
enum mb_status mb_model_write(struct mb_checkpoint_writer *w, const struct mb_model *m,
                              struct mb_error *err);

#endif
