/* The certificate and key that a listener shows. What of TLS connections need is in connection.h.
 *
 * libmicrohttpd asks for them at every handshake, so that they can change while connections live. It
 * gets copies of its own: a handshake may take several turns of the loop, in which the files may be
 * read anew.
 *
 * Life:    _new/_free. Threads: the control thread. */
#ifndef MBD_TLS_H
#define MBD_TLS_H

#include "proto/status.h"
#include "server/log/log.h"

struct mbd_tls;

/* Reads both files, PEM: the certificate with its chain, then its key without a password. A certificate
 * that is not valid now is served, and log is told.
 * Errors: MB_E_NOTFOUND, MB_E_IO, MB_E_INVALID naming the file; MB_E_NOMEM. */
enum mb_status mbd_tls_new(const char *cert, const char *key, const struct mbd_log *log,
                           struct mbd_tls **ret, struct mb_error *err);
/* Both anew, or as before. */
enum mb_status mbd_tls_reload(struct mbd_tls *t, const struct mbd_log *log,
                              struct mb_error *err);
void mbd_tls_free(struct mbd_tls *t); /* NULL is allowed */

#endif
