/* The model that a request names. Private to the routes.
 *
 * Threads: the control thread. */
#ifndef MBD_FIND_MODEL_H
#define MBD_FIND_MODEL_H

#include "proto/wire_error.h"
#include "server/http/service.h"

/* name NULL: the only one there is. NULL, with *err filled, when there is none. */
const struct mbd_entry *mbd_find_model(const struct mbd_service *s, const char *name,
                                       struct mb_wire_error *err);

#endif
