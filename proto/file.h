/* An uploaded file as the wire shows it: OpenAI's file object. JSON is in proto/json/file_json.
 *
 * Threads: a value. */
#ifndef MB_PROTO_FILE_H
#define MB_PROTO_FILE_H

#include <stdint.h>

#define MB_FILE_NAME_MAX    255  /* bytes: what file systems take */
#define MB_FILE_EXPIRES_MIN 3600 /* seconds: OpenAI's limits */
#define MB_FILE_EXPIRES_MAX 2592000
#define MB_FILES_PAGE_MAX   10000 /* OpenAI's limit of a list */

struct mb_file_card {
    const char *id, *name;
    const char
        *details; /* why it can not be used, or NULL: its status is error, or processed */
    uint64_t bytes;
    int64_t created, expires; /* seconds since 1970; expires 0: never */
};

#endif
