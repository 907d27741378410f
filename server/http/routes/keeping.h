/* What the routes of files and jobs have in common.
 *
 * Threads: the control thread. */
#ifndef MBD_KEEPING_H
#define MBD_KEEPING_H

#include "server/http/exchange.h"
#include "server/store/store.h"

/* Has the daemon a store? If not, it is answered. */
bool mbd_keeps(struct mbd_exchange *x);
/* What a call of the store could not do: 404 with code for MB_E_NOTFOUND, else 503. */
void mbd_reply_store_error(struct mbd_exchange *x, const struct mb_error *why,
                           const char *not_found_code);
/* after, limit (1..max, or otherwise) and order of a list. false: it is answered. */
bool mbd_take_page(struct mbd_exchange *x, uint32_t limit, uint32_t max, struct mbd_page *ret);
/* A list was asked for behind what is not there: 400, else as above. */
void mbd_reply_page_error(struct mbd_exchange *x, const struct mb_error *why);

#endif
