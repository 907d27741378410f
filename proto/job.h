/* Fine-tuning jobs as the wire means them: OpenAI's POST /v1/fine_tuning/jobs and what it answers,
 * with what is ours under "mbool". JSON is in proto/json/job_json.
 *
 * Life:    a request has _init and _fini; the rest are views of what somebody else holds.
 * Threads: values. */
#ifndef MB_PROTO_JOB_H
#define MB_PROTO_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/status.h"

/* Bounds of the wire, each with its reason. */
#define MB_JOB_BODY_BYTES_MAX   (64u << 10) /* it is kept with the job */
#define MB_JOB_SUFFIX_MAX       64          /* OpenAI's limit */
#define MB_JOB_EPOCHS_MAX       1000     /* far beyond where models begin to repeat the data */
#define MB_JOB_BATCH_MAX        4096     /* examples */
#define MB_JOB_RATE_MAX         100      /* beyond it steps are larger than distances */
#define MB_JOB_STEPS_MAX        10000000 /* years */
#define MB_JOB_CHECKPOINTS_MAX  64       /* of a job: each is a file, and a name among models */
#define MB_JOB_METADATA_MAX     16       /* OpenAI's limits: pairs, and bytes of each */
#define MB_JOB_METADATA_KEY     64
#define MB_JOB_METADATA_VALUE   512
#define MB_JOB_THREADS_MAX      256 /* as of --threads */
#define MB_JOB_BATCH_TOKENS_MAX (1u << 20)
#define MB_JOB_ID_MAX           32 /* bytes of "ftjob-" and 16 digits, and its like */

enum mb_job_status {
    MB_JOB_VALIDATING_FILES,
    MB_JOB_QUEUED,
    MB_JOB_RUNNING,
    MB_JOB_SUCCEEDED,
    MB_JOB_FAILED,
    MB_JOB_CANCELLED,
    MB_JOB_PAUSING, /* told to, and at its step still */
    MB_JOB_PAUSED,
    MB_JOB_STATUSES
};
const char *mb_job_status_name(enum mb_job_status s); /* "validating_files", ... */
/* false when there is none of this name. */
bool mb_job_status_of(const char *name, enum mb_job_status *ret);
bool mb_job_is_final(enum mb_job_status s);

/* What goes live by itself. */
enum mb_job_promote {
    MB_PROMOTE_MANUAL,
    MB_PROMOTE_ALWAYS,
    MB_PROMOTE_IF_BETTER, /* by a margin of validation loss */
    MB_PROMOTES
};
const char *mb_job_promote_name(enum mb_job_promote p);

/* 0 is "auto". */
struct mb_hyperparameters {
    uint32_t n_epochs;
    uint32_t batch_size; /* examples of a batch, at most */
    double learning_rate_multiplier;
};

struct mb_job_request {
    char *model;           /* what is trained further */
    char *training_file;   /* ids of files */
    char *validation_file; /* or NULL */
    char suffix[MB_JOB_SUFFIX_MAX + 1];
    bool has_seed;
    uint32_t seed;
    struct mb_hyperparameters hyper;
    char *metadata; /* an object, as JSON; NULL: none */

    /* Of "mbool". 0 is the default of core/finetune, or of the option that says so. */
    bool stochastic;  /* the optimizer, instead of accumulate */
    bool last_kernel; /* kernels_trained: last, instead of all */
    bool vocabulary;  /* train embedding and head too */
    double flip_rate; /* share of a matrix's weights that may flip in a step */
    char teacher[65]; /* a name that --teacher gave; "": none */
    uint32_t threads; /* at most --finetune-threads */
    uint64_t steps;   /* instead of epochs */
    uint32_t batch_tokens, window;
    uint64_t snapshot_every, valid_every; /* steps */
    double invalid_sample_skip_percentage;
    enum mb_job_promote promote;
    double promote_margin; /* of validation loss, in nats a token */
    bool dry_run;          /* read and count, and train nothing */
};

void mb_job_request_init(struct mb_job_request *r);
void mb_job_request_fini(struct mb_job_request *r);

/* Measures of a training after a step; a double that is not known is NaN. */
struct mb_job_metrics {
    uint64_t step, total_steps;
    double train_loss, valid_loss; /* nats a token */
    uint64_t flips;                /* of this step: weights that changed their level */
    uint64_t total_flips;
    double moved_share;      /* of all weights: those that ever changed */
    double tokens_per_s;     /* lately */
    double eta_s;            /* until the last step, at this rate */
    uint64_t trained_tokens; /* so far */
};

/* What a job says of itself. */
struct mb_job_view {
    const char *id, *model, *training_file;
    const char *validation_file;  /* or NULL, as all below */
    const char *fine_tuned_model; /* when there is one */
    const char *error_code, *error_message, *error_param;
    int64_t created, finished, estimated_finish; /* seconds since 1970; 0: null */
    enum mb_job_status status;
    uint32_t seed;
    const struct mb_job_request *request;
    uint64_t trained_tokens; /* 0: null */
    uint64_t step, total_steps;
    uint32_t attempts; /* times that a trainer was started for it */
    uint32_t n_queued_before;
    bool throttled; /* stands still, because requests wait */
};

enum mb_event_level { MB_EVENT_INFO, MB_EVENT_WARN, MB_EVENT_ERROR };

struct mb_job_event {
    const char *id, *message;
    const char *data; /* a JSON object, or NULL */
    int64_t created;
    enum mb_event_level level;
    bool is_metrics; /* its type, instead of message */
};

struct mb_job_checkpoint {
    const char *id, *job, *model; /* model: the name that it is served under */
    int64_t created;
    uint64_t step;
    const char *metrics; /* a JSON object */
};

#endif
