/* May an engine be made so? Everything that can be wrong with its options, said by name.
 *
 * Threads: any. */
#ifndef MBD_ENGINE_CHECK_H
#define MBD_ENGINE_CHECK_H

#include "server/engine/engine.h"

/* Bounds of the options: beyond any use that was thought of, and before any sum overflows. */
#define MBD_SEQUENCES_MAX      1024
#define MBD_STEP_TOKENS_MAX    65536
#define MBD_QUEUE_REQUESTS_MAX 65536

/* Positions of a sequence: o->context_max, or the model's own. */
uint32_t mbd_engine_context(const struct mbd_engine_options *o, const struct mb_shape *shape);
/* Blocks of the KV cache: enough for every sequence at its longest, as far as the memory goes.
 * Errors: MB_E_INVALID when that is none. */
enum mb_status mbd_engine_blocks(const struct mbd_engine_options *o,
                                 const struct mb_shape *shape, uint32_t *ret,
                                 struct mb_error *err);

/* Errors: MB_E_INVALID, naming the daemon's flag and its range; MB_E_UNSUPPORTED when a
 * token's text would not fit an event (request.h). */
enum mb_status mbd_engine_check(const struct mbd_engine_options *o,
                                const struct mb_shape *shape,
                                const struct mb_tokenizer *tokenizer, struct mb_error *err);

#endif
