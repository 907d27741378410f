/* JSON from files that other people wrote: bounded, and with errors that name the field.
 *
 * The one place in core that parses JSON is this folder; a checkpoint needs none to run.
 *
 * Threads: pure. */
#ifndef MB_CORE_JSON_H
#define MB_CORE_JSON_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/status.h"

/* The largest tokenizer.json in the wild is under 40 MB. */
#define MB_JSON_BYTES_MAX (256u << 20)
#define MB_JSON_DEPTH_MAX 64 /* real ones nest less than 10 deep */

/* Parses n bytes; file names them in errors. *ret is an object, owned by the caller (json_decref).
 * Errors: MB_E_FORMAT (with line and column), MB_E_LIMIT for size or depth. */
enum mb_status mb_json_parse(const uint8_t *at, size_t n, const char *file, json_t **ret,
                             struct mb_error *err);
/* The same of a whole file. Errors: also those of mb_file_map. */
enum mb_status mb_json_load(const char *path, json_t **ret, struct mb_error *err);

/* Puts "where: " before what err says (err may be NULL), so that a field is named with its file;
 * returns st as it was. */
enum mb_status mb_json_where(enum mb_status st, const char *where, struct mb_error *err);

/* A field of obj. Absent or null leaves *ret as it is when optional, else MB_E_FORMAT. */
enum mb_json_need { MB_JSON_OPTIONAL, MB_JSON_REQUIRED };
enum mb_status mb_json_u32(const json_t *obj, const char *field, enum mb_json_need need,
                           uint32_t min, uint32_t max, uint32_t *ret, struct mb_error *err);
enum mb_status mb_json_f64(const json_t *obj, const char *field, enum mb_json_need need,
                           double min, double max, double *ret, struct mb_error *err);
enum mb_status mb_json_bool(const json_t *obj, const char *field, enum mb_json_need need,
                            int *ret, struct mb_error *err);
/* *ret is borrowed from obj. */
enum mb_status mb_json_text(const json_t *obj, const char *field, enum mb_json_need need,
                            const char **ret, struct mb_error *err);

#endif
