/* What the files of server/jobs share. */
#ifndef MBD_JOBS_PARTS_H
#define MBD_JOBS_PARTS_H

#include "proto/task.h"
#include "server/jobs/jobs.h"
#include "server/loop/process.h"

enum {
    RETRIES_MAX = 3,          /* trainers that end badly without a new snapshot */
    RETRY_MS = 1000,          /* before the first of them, twice as long before each next */
    LOOK_MS = 50,             /* between looks at trainers and at who waits */
    THROTTLE_MAX_MS = 10000,  /* a trainer stands still for so long at a time */
    THROTTLE_GRACE_MS = 1000, /* and then runs for so long, whoever waits */
    RECORD_MS = 1000,         /* between commits of what comes often */
    STEPS_ALL = 100,          /* the first steps of a run each are events; */
    STEPS_SPREAD = 2000,      /* then they are spread: about so many over its time */
    PENDING_MAX = 1024, /* of records while the disk refuses them: then steps are dropped */
    KEY_SECONDS = 24 * 3600, /* for which an Idempotency-Key is known */
    EVENT_TEXT = 480,
};

/* A job that is not final. Its row is ahead of the store's while it is dirty. */
struct mbd_job {
    struct mbd_jobs *owner;
    struct mbd_job_row row;
    struct mb_job_request request;
    bool dirty;
    struct mbd_job *next;
    uint64_t retry_ns; /* not started again before */

    /* Of the trainer that runs; process NULL: none does. */
    struct mbd_process *process;
    enum mb_task_event_kind told; /* how it said that it ended; MB_TASK_EVENTS: not yet */
    struct mb_task_event last;    /* that said so */
    const char *killed;           /* why we killed it; NULL: we did not */
    bool was_told_to_stop;
    uint64_t began_ns, heard_ns;   /* heard_ns: or the end of its standing still */
    uint64_t noted_ns;             /* when a step was an event */
    uint64_t stopped_ns;           /* since when it stands still; 0: it does not */
    uint64_t released_ns;          /* until when it may not be stopped */
    struct mb_job_metrics metrics; /* after its last step */
    uint64_t n_tokens, n_steps;    /* of this trainer */
    double valid_loss;             /* the last, after valid_step */
    uint64_t valid_step;
};

/* What waits to be committed, in its order. */
struct mbd_record {
    struct mbd_record *next;
    char job[MB_JOB_ID_MAX + 1];
    bool is_checkpoint;
    struct mbd_event_row event;
    struct mbd_checkpoint_row checkpoint;
};

struct mbd_going_live;

struct mbd_jobs {
    struct mbd_service *service;
    struct mbd_job *first; /* oldest first */
    struct mbd_follower *followers;
    struct mbd_record *records, **records_end;
    size_t n_records;
    bool refused; /* the last commit was; said once */
    struct mbd_timer *look, *record;
    struct mbd_going_live *going_live, **going_live_end; /* the first is being published */
    bool publishing;
    bool draining, looking, recording;
    uint64_t steps, tokens, flips, restarts, throttled_ms; /* counted since the start */
    uint64_t heard_ns;                                     /* of the last step of any */
};

/* jobs.c */
struct mbd_job *mbd_job_find(const struct mbd_jobs *j, const char *id);
void mbd_job_enter(struct mbd_job *job, enum mb_job_status status);
void mbd_jobs_schedule(struct mbd_jobs *j);
int64_t mbd_jobs_now(void); /* seconds since 1970 */
void mbd_job_log(const struct mbd_job *job, enum mbd_log_level level, const char *message);

/* run.c: a trainer and its events. */
enum mb_status mbd_job_run(struct mbd_job *job, struct mb_error *err);
void mbd_job_stop(struct mbd_job *job);                  /* with a snapshot, after its step */
void mbd_job_kill(struct mbd_job *job, const char *why); /* at once */
void mbd_jobs_remove_work(const struct mbd_jobs *j,
                          const char *id); /* of a job that is final */
void mbd_job_throttle(struct mbd_job *job, bool wanted, uint64_t now);

/* Its result is served from now on, or can not be. job NULL: it is not waited for. */
void mbd_job_settle(struct mbd_job *job, enum mb_status st, const struct mb_error *err);

/* record.c */
void mbd_job_note(struct mbd_job *job, enum mb_event_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same of a job that may be final. */
void mbd_jobs_note(struct mbd_jobs *j, const char *job, enum mb_event_level level,
                   const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void mbd_job_note_step(struct mbd_job *job, const char *message, char *data);
/* Takes metrics. */
void mbd_job_add_checkpoint(struct mbd_job *job, const struct mb_task_event *e, bool is_result,
                            bool promote, char *metrics);
/* Commits all that is pending, and lets it be seen. Errors: it stays pending. */
enum mb_status mbd_jobs_record(struct mbd_jobs *j, struct mb_error *err);
void mbd_jobs_drop_records(struct mbd_jobs *j);

/* live.c: checkpoints as models that are served. */
void mbd_jobs_publish(struct mbd_jobs *j, const struct mbd_checkpoint_row *c);
enum mb_status mbd_jobs_publish_all(struct mbd_jobs *j, struct mb_error *err);
void mbd_jobs_forget_live(struct mbd_jobs *j);
/* What a job with this model trains: of *ret, base, base_digest, start and model. */
bool mbd_jobs_find_model(struct mbd_jobs *j, const char *model, struct mbd_job_row *ret,
                         struct mb_wire_error *err);

#endif
