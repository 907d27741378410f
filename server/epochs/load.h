/* From a file to an epoch that can be served: opened, every byte verified, and so warm.
 *
 * Threads: any; one thread at a time per call. It takes as long as reading the whole model does. */
#ifndef MBD_LOAD_H
#define MBD_LOAD_H

#include "core/base/progress.h"
#include "server/epochs/epoch.h"
#include "server/epochs/weights.h"

/* The epoch that delta, a file, makes of the weights. Reading every byte for its checksum also maps
 * every page, so that the first token finds them.
 * Errors: MB_E_NOTFOUND, MB_E_IO; MB_E_FORMAT for a damaged delta or what is not what it promised;
 *         MB_E_INVALID when it is of other weights, or another model (S4); MB_E_NOMEM;
 *         MB_E_CANCELLED when p said so. */
enum mb_status mbd_load_delta(const struct mbd_weights *w, const char *delta,
                              const struct mb_progress *p, struct mbd_epoch **ret,
                              struct mb_error *err);

#endif
