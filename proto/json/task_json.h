/* The lines between the daemon and its trainer.
 *
 * Owns:    what _encode returns is malloc'ed, a line with its line feed, and the caller's; NULL
 *          when memory is refused.
 * Threads: pure. */
#ifndef MB_PROTO_TASK_JSON_H
#define MB_PROTO_TASK_JSON_H

#include <stddef.h>

#include "proto/task.h"

char *mb_task_encode(const struct mb_task *t);
/* *ret is the caller's to fini. Errors: MB_E_FORMAT naming the field, MB_E_NOMEM. */
enum mb_status mb_task_decode(const char *text, size_t n, struct mb_task *ret,
                              struct mb_error *err);

char *mb_task_event_encode(const struct mb_task_event *e);
/* Errors: MB_E_FORMAT. */
enum mb_status mb_task_event_decode(const char *text, size_t n, struct mb_task_event *ret,
                                    struct mb_error *err);

#endif
