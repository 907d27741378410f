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
