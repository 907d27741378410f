/* Uploaded files as the wire shows them.
 *
 * Owns:    what is returned is malloc'ed and the caller's; NULL when memory is refused.
 * Threads: pure. */
#ifndef MB_PROTO_FILE_JSON_H
#define MB_PROTO_FILE_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/file.h"

char *mb_file_encode(const struct mb_file_card *f);
char *mb_file_list_encode(const struct mb_file_card *files, size_t n, bool has_more);
/* {"id", "object", "deleted": true} */
char *mb_deleted_encode(const char *id, const char *object);

#endif
