/* POST /v1/embeddings: for each input the mean over its tokens of the last hidden state (behind the
 * final norm), made one long: so the scalar product of two is their cosine.
 *
 *     decode -> find the model -> tokenize all -> a request for each, some at a time -> one reply
 *
 * A1: an input's embedding depends on its tokens alone.
 *
 * Life:    one object for all that are under way; the route finds it in the service.
 * Threads: the control thread. */
#ifndef MBD_EMBEDDINGS_H
#define MBD_EMBEDDINGS_H

#include "server/http/service.h"

enum mb_status mbd_embeddings_new(struct mbd_service *service, struct mbd_embeddings **ret,
                                  struct mb_error *err);
/* After the engines stopped, the listener is gone and no work is under way. NULL is allowed. */
void mbd_embeddings_free(struct mbd_embeddings *e);

/* Reads what the engines told. Called when an engine woke the loop. */
void mbd_embeddings_pump(struct mbd_embeddings *e);
void mbd_embeddings_cancel(struct mbd_embeddings *e); /* all of them */
size_t mbd_embeddings_count(const struct mbd_embeddings *e);

#endif
