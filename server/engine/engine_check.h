/* May an engine be made so? Everything that can be wrong with its options, said by name.
 *
 * Threads: any. */
#ifndef MBD_ENGINE_CHECK_H
#define MBD_ENGINE_CHECK_H

#include "server/engine/engine.h"

/* Bounds of the options: beyond any use that was thought of, and before any sum overflows. */
#define MBD_SEQUENCES_MAX 1024
#define MBD_STEP_TOKENS_MAX 65536
#define MBD_QUEUE_REQUESTS_MAX 65536

/* o->context_max is set. Errors: MB_E_INVALID, naming the option and its range;
 * MB_E_UNSUPPORTED when a token's text would not fit an event (request.h). */
enum mb_status mbd_engine_check(const struct mbd_engine_options *o,
                                const struct mb_shape *shape,
                                const struct mb_tokenizer *tokenizer, struct mb_error *err);

#endif
