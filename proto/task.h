/* What the daemon and its trainer (mboold --trainer) say to each other, a JSON object a line:
 * once the task, into the trainer's standard input, then words; out of its standard output,
 * what happens. Both ends are the same program, so that this may change from one to the next.
 *
 * Life:    a task has _fini; an event's texts are the decoder's caller's, see task_json.h.
 * Threads: values. */
#ifndef MB_PROTO_TASK_H
#define MB_PROTO_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/job.h"

struct mb_task {
    char *base;           /* the checkpoint's file */
    uint64_t base_digest; /* which it must have: a file may have been replaced */
    char *start;          /* a delta of base to begin with, or NULL */
    char *training, *validation, *teacher; /* files and a folder; the last two may be NULL */
    char *folder;                          /* of its own: what it writes is there */
    char *body; /* of the request that made the job: its options, as JSON */
    uint32_t seed;
    uint32_t threads;
    uint64_t memory; /* bytes of its own that it may allocate; 0: any */
    char *isa;
    char *priority; /* idle, nice or normal: whom it lets go before */
    bool resume;    /* from the last snapshot in folder, when there is one */
};
void mb_task_fini(struct mb_task *t);

/* A word to a trainer that works: one line. */
#define MB_TASK_STOP "stop" /* take a snapshot after this step, and end */

enum mb_task_event_kind {
    MB_TASK_READY, /* everything is read: counts */
    MB_TASK_STEP,
    MB_TASK_VALID,    /* losses on the validation file, after this step */
    MB_TASK_SNAPSHOT, /* file is durable, and goes on from here */
    MB_TASK_STOPPED,  /* as it was told; what it goes on from is durable */
    MB_TASK_DONE,     /* file is durable: the result. Of a dry run there is none. */
    MB_TASK_FAILED,   /* status and message say why */
    MB_TASK_EVENTS
};

#define MB_TASK_FILE_MAX 64

struct mb_task_event {
    enum mb_task_event_kind kind;
    uint64_t step, total_steps;
    uint64_t tokens;                       /* of the step */
    double loss;                           /* of the step, or on the validation file */
    uint64_t flips, total_flips;           /* of the step; of all */
    uint64_t moved, weights;               /* how many ever changed, of how many */
    uint64_t examples, learned, bad_lines; /* of the training file */
    double state_bytes;                    /* of training, per weight */
    char file[MB_TASK_FILE_MAX];           /* in the task's folder */
    uint64_t bytes;                        /* of file */
    char epoch[17];                        /* the digest of what it makes, in hexadecimal */
    enum mb_status status;
    bool is_users;  /* the failure is of what the user gave */
    char param[32]; /* then: of which field; "" when of none */
    char message[400];
};

#endif
