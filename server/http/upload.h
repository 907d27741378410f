/* A form that brings a file (multipart/form-data): its fields in memory, the file on disk as it
 * comes. Private to server/http, but for what a route reads of it.
 *
 *     _new at the header -> _feed each piece -> _end -> _keep by the route, or not -> _free
 *
 * Bound:   --file-bytes-max for the file; MBD_UPLOAD_FIELD for a field; MBD_UPLOADS_MAX at once.
 * Life:    the exchange's. What was not kept is removed by _free.
 * Threads: the control thread. */
#ifndef MBD_UPLOAD_H
#define MBD_UPLOAD_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/file.h"
#include "proto/wire_error.h"

#define MBD_UPLOAD_FIELD 64         /* bytes of a field's value: all that are known are short */
#define MBD_FORM_BYTES   65536      /* of a form beside its file */
#define MBD_UPLOAD_PACE  (1u << 20) /* bytes that have --body-timeout */
#define MBD_UPLOADS_MAX  16 /* each is a file half written, and a connection that is busy */

struct mbd_upload;

/* The file goes to a new one in folder. Errors: *err is what the client is told. */
bool mbd_upload_new(struct MHD_Connection *mhd, const char *folder, uint64_t bytes_max,
                    struct mbd_upload **ret, struct mb_wire_error *err);
void mbd_upload_free(struct mbd_upload *u); /* NULL is allowed */
bool mbd_upload_feed(struct mbd_upload *u, const char *at, size_t n, struct mb_wire_error *err);
/* The form is whole, and has a file. */
bool mbd_upload_end(struct mbd_upload *u, struct mb_wire_error *err);

/* ---- what came --------------------------------------------------------------------------- */
const char *mbd_upload_path(const struct mbd_upload *u); /* of the file, for now */
const char *mbd_upload_name(const struct mbd_upload *u); /* as the client calls it */
uint64_t mbd_upload_bytes(const struct mbd_upload *u);
/* A field's value; NULL when there was none. */
const char *mbd_upload_field(const struct mbd_upload *u, const char *name);
void mbd_upload_keep(struct mbd_upload *u); /* somebody else has the file now */

#endif
