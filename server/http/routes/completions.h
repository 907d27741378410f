/* POST /v1/completions: everything between a body of JSON and the engine, and back.
 *
 *     decode -> find the model -> tokenize -> admit     nothing was sent: errors are statuses
 *     -> wait for the whole, or stream it               errors of a stream are events in it
 *
 * Life:    one object for all that are running; the route finds it in the service.
 * Threads: the control thread, but for the wake that the engines are given. */
#ifndef MBD_COMPLETIONS_H
#define MBD_COMPLETIONS_H

#include "server/http/service.h"

struct mbd_completions;

enum mb_status mbd_completions_new(struct mbd_service *service, struct mbd_completions **ret,
                                   struct mb_error *err);
/* After the engines stopped and the listener is gone. NULL is allowed. */
void mbd_completions_free(struct mbd_completions *c);

/* Reads what the engines told of every running request. Called when an engine woke the loop. */
void mbd_completions_pump(struct mbd_completions *c);
void mbd_completions_cancel(struct mbd_completions *c); /* all of them */
size_t mbd_completions_count(const struct mbd_completions *c);

#endif
