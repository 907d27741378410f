/* Calls of functions in what a model wrote, in the two common ways:
 *
 *     MARKED  <tool_call>{"name": ..., "arguments": {...}}</tool_call>, any number of them, after
 *             text or none (Hermes, Qwen)
 *     BARE    {"name": ..., "parameters": {...}}, the whole answer (Llama 3); or several of them with
 *             ; between
 *
 * Threads: pure. */
#ifndef MB_PROTO_TOOL_CALLS_JSON_H
#define MB_PROTO_TOOL_CALLS_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/json/completion_json.h"

enum mb_call_form { MB_CALLS_NONE, MB_CALLS_MARKED, MB_CALLS_BARE };

/* How many bytes of text, which goes on, can not become part of a call. */
size_t mb_tool_calls_before(enum mb_call_form form, const char *text, size_t n);

/* Takes the calls out of a whole text: *ret is malloc'ed, *ret_n_text what is left before them.
 * What looks like a call and is none stays text: then there are no calls at all. id makes the
 * calls' ids: "call_<id>_<number>". false when memory is refused. */
bool mb_tool_calls_take(enum mb_call_form form, const char *id, const char *text, size_t n,
                        struct mb_wire_tool_call **ret, size_t *ret_n, size_t *ret_n_text);
void mb_tool_calls_free(struct mb_wire_tool_call *calls, size_t n);

#endif
