/* Parts that bodies of several routes have in common: a model's name, texts, lists of token ids.
 * Each returns false, with *err filled and *ret as it was, for what may not be. What is returned is
 * malloc'ed and the caller's.
 *
 * Threads: pure. Private to proto/json. */
#ifndef MB_PROTO_INPUT_JSON_H
#define MB_PROTO_INPUT_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/wire_error.h"

/* 'name' what: HTTP 400. Always false. */
bool mb_field_refuse(struct mb_wire_error *err, const char *name, const char *what);
bool mb_field_refuse_memory(struct mb_wire_error *err);

/* Of a value that is a string, a terminated copy; of one that is an array, its token ids; of any,
 * the name of a model. */
bool mb_copy_string(const json_t *v, char **ret, size_t *ret_n, struct mb_wire_error *err);
bool mb_copy_ids(const char *name, const json_t *list, uint32_t **ret, size_t *ret_n,
                 struct mb_wire_error *err);
bool mb_copy_model(const json_t *v, char **ret, struct mb_wire_error *err);

/* "model": absent or null leaves NULL. */
bool mb_input_model(const json_t *root, char **ret, struct mb_wire_error *err);
/* A string, terminated. */
bool mb_input_text(const json_t *v, const char *name, char **ret, size_t *ret_n,
                   struct mb_wire_error *err);
/* An array of 1..MB_PROMPT_IDS_MAX ids. */
bool mb_input_ids(const json_t *v, const char *name, uint32_t **ret, size_t *ret_n,
                  struct mb_wire_error *err);
/* true or false; absent or null leaves *ret. */
bool mb_input_bool(const json_t *root, const char *name, bool *ret, struct mb_wire_error *err);

#endif
