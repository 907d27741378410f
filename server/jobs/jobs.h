/* Fine-tuning jobs: who waits, who runs, what became of each. The trainers are processes
 * (server/trainer); all that must outlive this one is in the store.
 *
 *     queued -> validating_files -> running -> succeeded
 *       ^ |            |             | |  |
 *       | |            +------+------+ |  +--> failed     the files, or too many trainers, ended badly
 *       | |                   |        |
 *       | |      (a trainer ended badly: again, from the last snapshot)
 *       | |
 *       | +---> cancelled <--- any that is not final
 *       |
 *     paused <- pausing <- running, validating_files      by request; resumed by request
 *
 * S3: what is told of a job (a status, an event, a checkpoint) was committed before. A transition
 * is made in memory, and told by record.c, which commits what is pending in its order, tries
 * again when the disk refuses, and then lets it be seen and served.
 *
 * A trainer goes on from its last snapshot when it was killed, crashed, hung (--finetune-hang
 * without an event), ran out of memory, or when this daemon was: to the same bits. RETRIES_MAX
 * times without a new snapshot in between, and the job has failed.
 *
 * While requests wait for a slot, trainers are stopped (SIGSTOP), and go on when none does: that
 * takes effect within a step of a trainer, which may be minutes long, and needs no word of it.
 * THROTTLE_MAX_MS at a time, so that a job ends some day even on a server that is never idle.
 *
 * Life:    _new, _start when the models are there, _drain, _free. Threads: the control thread. */
#ifndef MBD_JOBS_H
#define MBD_JOBS_H

#include "core/base/bytes.h"
#include "proto/wire_error.h"
#include "server/http/service.h"
#include "server/store/store.h"

struct mbd_jobs;

/* service has the store, the loop, the registry, log and options; borrowed. */
enum mb_status mbd_jobs_new(struct mbd_service *service, struct mbd_jobs **ret,
                            struct mb_error *err);
/* Before the engines start: each model of the daemon is again the epoch that it was promoted to. */
enum mb_status mbd_jobs_restore(struct mbd_jobs *j, struct mb_error *err);
/* Serves again what was published, and goes on with what is not done. */
enum mb_status mbd_jobs_start(struct mbd_jobs *j, struct mb_error *err);
/* Trainers are asked to take a snapshot and end; nothing new begins. */
void mbd_jobs_drain(struct mbd_jobs *j);
size_t mbd_jobs_trainers(const struct mbd_jobs *j); /* that run */
void mbd_jobs_free(struct mbd_jobs *j);             /* NULL is allowed; kills what still runs */

/* Which epochs the models of the daemon are has changed: durable when it returns. */
enum mb_status mbd_jobs_remember(struct mbd_jobs *j, struct mb_error *err);

/* ---- what routes do: false with *err filled ---------------------------------------------- */

/* body is what r was decoded from. key: Idempotency-Key, or NULL; with one that was used for the
 * same body before, *ret_id is the job of then. */
bool mbd_jobs_create(struct mbd_jobs *j, const char *body, const struct mb_job_request *r,
                     const char *key, char ret_id[MB_JOB_ID_MAX + 1],
                     struct mb_wire_error *err);
bool mbd_jobs_cancel(struct mbd_jobs *j, const char *id, struct mb_wire_error *err);
bool mbd_jobs_pause(struct mbd_jobs *j, const char *id, struct mb_wire_error *err);
bool mbd_jobs_resume(struct mbd_jobs *j, const char *id, struct mb_wire_error *err);

/* Adds to v, which has what the row says, how far it is just now. */
void mbd_jobs_progress(const struct mbd_jobs *j, struct mb_job_view *v);

/* ---- following: fn is called when a job has new events in the store ----------------------- */
struct mbd_follower {
    char job[MB_JOB_ID_MAX + 1];
    void (*fn)(void *arg);
    void *arg;
    struct mbd_follower *next, **link;
};
void mbd_jobs_follow(struct mbd_jobs *j, struct mbd_follower *f);
void mbd_jobs_unfollow(struct mbd_follower *f); /* a zeroed one is allowed */
struct mbd_loop *mbd_jobs_loop(const struct mbd_jobs *j);

/* mboold_finetune_*, for /metrics. */
void mbd_jobs_metrics(const struct mbd_jobs *j, struct mb_bytes *ret);

#endif
