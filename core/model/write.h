/* A model's tensors into a checkpoint: the other direction of from_checkpoint.c.
 *
 * Threads: one thread at a time per writer. */
#ifndef MB_CORE_MODEL_WRITE_H
#define MB_CORE_MODEL_WRITE_H

#include "core/checkpoint/writer.h"
#include "core/model/model.h"

/* Adds the tensor of m that a checkpoint has under this name; linear layers are Boolean or
 * float16. Errors: MB_E_INVALID when m has none of this name; those of the writer. */
enum mb_status mb_model_write_tensor(struct mb_checkpoint_writer *w, const struct mb_model *m,
                                     const char *name, struct mb_error *err);

#endif
