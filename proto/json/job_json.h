/* Fine-tuning jobs, their events and checkpoints, between JSON and proto/job.h.
 *
 * Owns:    what _encode returns is malloc'ed and the caller's; NULL when memory is refused.
 * Threads: pure, once mb_json_init has run. */
#ifndef MB_PROTO_JOB_JSON_H
#define MB_PROTO_JOB_JSON_H

#include "proto/job.h"
#include "proto/wire_error.h"

/* The body of POST /v1/fine_tuning/jobs. *ret is the caller's to fini, and changes on success
 * only. Fields that are null count as absent, unknown ones are ignored.
 * Errors: MB_E_INVALID or MB_E_NOMEM, with *err filled. */
enum mb_status mb_job_request_decode(const char *text, size_t n, struct mb_job_request *ret,
                                     struct mb_wire_error *err);

char *mb_job_encode(const struct mb_job_view *j);
char *mb_job_list_encode(const struct mb_job_view *jobs, size_t n, bool has_more);
char *mb_job_event_encode(const struct mb_job_event *e);
char *mb_job_event_list_encode(const struct mb_job_event *events, size_t n, bool has_more);
char *mb_job_checkpoint_list_encode(const struct mb_job_checkpoint *c, size_t n, bool has_more);

/* The object of an event's data and a checkpoint's metrics, as text: OpenAI's names, and ours.
 * What is NaN or 0 where 0 says nothing is left out of events, null in checkpoints. */
char *mb_job_metrics_encode(const struct mb_job_metrics *m, bool of_checkpoint);

#endif
