/* The file that an interrupted training goes on from: where in the data it was, and the trainer's
 * state. Written aside, synced, renamed; a reader finds the last one whole or none.
 *
 *     u8[8]  "MBTRAIN1"
 *     u64    length of the key, and the key: what the training is, in words
 *     u64    epoch;  u64 examples used up of it
 *     ...    the trainer's state (trainer.h)
 *     u64    checksum of all before it
 *
 * All numbers are little endian; arrays are in the machine's own order, as in a checkpoint.
 *
 * Threads: one at a time. */
#ifndef MB_CORE_FINETUNE_STATE_H
#define MB_CORE_FINETUNE_STATE_H

#include "core/base/bytes.h"
#include "core/finetune/dataset.h"
#include "core/finetune/trainer.h"

enum mb_status mb_train_state_write(const char *path, const struct mb_bytes *key,
                                    const struct mb_batches *b, const struct mb_trainer *t,
                                    struct mb_error *err);

/* Puts trainer and batches where they were. Errors: MB_E_NOTFOUND; MB_E_FORMAT for a damaged file;
 * MB_E_INVALID, naming the line of the key that differs: it is another training's. */
enum mb_status mb_train_state_read(const char *path, const struct mb_bytes *key,
                                   struct mb_batches *b, struct mb_trainer *t,
                                   struct mb_error *err);

#endif
