/* What outlives the daemon: files, jobs, their events and checkpoints, and the keys under which
 * jobs were posted, in one SQLite database under --state-dir. A row is durable when its call
 * returns (write-ahead log, synchronous = FULL), or when the transaction around it is committed.
 *
 *     DIR/mboold.sqlite     the database, and its log beside it
 *     DIR/lock              held while a daemon uses DIR
 *     DIR/files/ID          what was uploaded
 *     DIR/models/JOB/...    what trainers write
 *
 * A commit is one fsync of the log; the control thread waits for it. Measured: 0.13 ms in the
 * median, 0.34 ms at the 99th percentile, on a cloud machine's disk; 5 to 20 ms is usual for a
 * spinning one. So what comes often (a training's steps) is gathered, and committed once a
 * second (server/jobs).
 *
 * A database that is damaged is refused at start, with the name of its file, and neither repaired
 * nor put aside: what was acknowledged is in it, and whoever restores a copy should decide. What is
 * checked is SQLite's structure and what refers to what; it has no checksums of texts.
 *
 * Life:    _open/_close. Threads: the control thread. */
#ifndef MBD_STORE_H
#define MBD_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/file.h"
#include "proto/job.h"

struct mbd_store;

/* Makes the folder when it is not there. Errors: MB_E_UNAVAILABLE when another daemon uses it;
 * MB_E_FORMAT for a database that is damaged, missing, or of a newer mboold; MB_E_IO. */
enum mb_status mbd_store_open(const char *folder, struct mbd_store **ret, struct mb_error *err);
void mbd_store_close(struct mbd_store *s); /* NULL is allowed */
const char *mbd_store_folder(const struct mbd_store *s);

/* Calls between these are one. All below may be called inside and outside. A commit that fails
 * has changed nothing. Not nested. */
enum mb_status mbd_store_begin(struct mbd_store *s, struct mb_error *err);
enum mb_status mbd_store_commit(struct mbd_store *s, struct mb_error *err);
void mbd_store_rollback(struct mbd_store *s);

/* "file-", "ftjob-" and 16 hexadecimal digits at random. Errors: MB_E_IO. */
enum mb_status mbd_store_new_id(const char *prefix, char ret[MB_JOB_ID_MAX + 1],
                                struct mb_error *err);

/* A page of a list: those behind the row with the id after (NULL: from the start), newest first
 * unless ascending. */
struct mbd_page {
    const char *after;
    uint32_t limit; /* 1 or more */
    bool ascending;
};

/* ---- files ------------------------------------------------------------------------------- */
struct mbd_file_row {
    char id[MB_JOB_ID_MAX + 1];
    char name[MB_FILE_NAME_MAX + 1];
    char details[400]; /* why it is no good; "": it is */
    uint64_t bytes;
    int64_t created, expires; /* expires 0: never */
};

enum mb_status mbd_store_add_file(struct mbd_store *s, const struct mbd_file_row *f,
                                  struct mb_error *err);
/* Errors: MB_E_NOTFOUND. */
enum mb_status mbd_store_file(struct mbd_store *s, const char *id, struct mbd_file_row *ret,
                              struct mb_error *err);
/* Errors: MB_E_NOTFOUND; MB_E_UNAVAILABLE while a job that is not final needs it. */
enum mb_status mbd_store_delete_file(struct mbd_store *s, const char *id, struct mb_error *err);
/* *ret is malloc'ed, of *ret_n rows. Errors: MB_E_NOTFOUND for after. */
enum mb_status mbd_store_files(struct mbd_store *s, const struct mbd_page *page,
                               struct mbd_file_row **ret, size_t *ret_n, bool *ret_more,
                               struct mb_error *err);
enum mb_status mbd_store_files_total(struct mbd_store *s, uint64_t *ret_n, uint64_t *ret_bytes,
                                     struct mb_error *err);
/* One that expired before now, or MB_E_NOTFOUND. */
enum mb_status mbd_store_expired_file(struct mbd_store *s, int64_t now,
                                      struct mbd_file_row *ret, struct mb_error *err);

/* ---- jobs -------------------------------------------------------------------------------- */
struct mbd_job_row {
    char id[MB_JOB_ID_MAX + 1];
    char base[129]; /* the served model whose file everything below is a delta of */
    uint64_t base_digest;
    char start[256];  /* a delta in DIR to begin with: "models/..."; "": the base itself */
    char model[129];  /* that was asked for: base, or a fine-tuned one */
    char result[256]; /* the name of what comes of it, also before it is there */
    char training[MB_JOB_ID_MAX + 1], validation[MB_JOB_ID_MAX + 1];
    char *body; /* of the request; the caller's to free */
    enum mb_job_status status;
    uint32_t seed;
    int64_t created, finished; /* finished 0: not yet */
    uint32_t attempts;         /* trainers that were started */
    uint32_t failures;         /* those that ended badly, since there was progress */
    uint64_t step, total_steps, trained_tokens;
    uint64_t snapshot_step; /* what a retry goes on from */
    double first_valid,
        best_valid; /* losses: before the first step, the best that went live; NaN */
    char error_code[64], error_param[32], error_message[480]; /* code "": none */
};
void mbd_job_row_fini(struct mbd_job_row *j);

enum mb_status mbd_store_add_job(struct mbd_store *s, const struct mbd_job_row *j,
                                 struct mb_error *err);
/* Writes what changes in the life of a job: from status on. */
enum mb_status mbd_store_update_job(struct mbd_store *s, const struct mbd_job_row *j,
                                    struct mb_error *err);
enum mb_status mbd_store_job(struct mbd_store *s, const char *id, struct mbd_job_row *ret,
                             struct mb_error *err);
enum mb_status mbd_store_jobs(struct mbd_store *s, const struct mbd_page *page,
                              struct mbd_job_row **ret, size_t *ret_n, bool *ret_more,
                              struct mb_error *err);
void mbd_job_rows_free(struct mbd_job_row *rows, size_t n);
/* All that are not final, oldest first. */
enum mb_status mbd_store_open_jobs(struct mbd_store *s, struct mbd_job_row **ret, size_t *ret_n,
                                   struct mb_error *err);
/* How many of each status. */
enum mb_status mbd_store_count_jobs(struct mbd_store *s, uint64_t ret[MB_JOB_STATUSES],
                                    struct mb_error *err);

/* ---- their events ------------------------------------------------------------------------ */
struct mbd_event_row {
    int64_t seq; /* its id, counted over all jobs */
    int64_t created;
    enum mb_event_level level;
    bool is_metrics;
    char *message, *data; /* malloc'ed; data may be NULL */
};
void mbd_event_rows_free(struct mbd_event_row *rows, size_t n);
void mbd_event_id(int64_t seq, char ret[MB_JOB_ID_MAX + 1]); /* "ftevent-0000000000000007" */
bool mbd_event_seq(const char *id, int64_t *ret);            /* false when it is no such id */

/* e->seq is not read. */
enum mb_status mbd_store_add_event(struct mbd_store *s, const char *job,
                                   const struct mbd_event_row *e, struct mb_error *err);
/* page->after is an event's id, which need not be there any more. */
enum mb_status mbd_store_events(struct mbd_store *s, const char *job,
                                const struct mbd_page *page, struct mbd_event_row **ret,
                                size_t *ret_n, bool *ret_more, struct mb_error *err);

/* ---- and checkpoints --------------------------------------------------------------------- */
struct mbd_checkpoint_row {
    int64_t seq;
    char job[MB_JOB_ID_MAX + 1];
    char base[129];             /* of the job; not written */
    char model[256], file[256]; /* file: in DIR */
    char epoch[17]; /* the digest of the checkpoint that it makes: 16 hexadecimal digits */
    int64_t created;
    uint64_t step;
    bool is_result;
    bool promote;  /* it is to go live by itself */
    char *metrics; /* malloc'ed */
};
void mbd_checkpoint_rows_free(struct mbd_checkpoint_row *rows, size_t n);
void mbd_checkpoint_id(int64_t seq, char ret[MB_JOB_ID_MAX + 1]); /* "ftckpt-..." */

/* One of the same job and step takes the place of that before it: a retry makes the same bits. */
enum mb_status mbd_store_add_checkpoint(struct mbd_store *s, const struct mbd_checkpoint_row *c,
                                        struct mb_error *err);
enum mb_status mbd_store_checkpoints(struct mbd_store *s, const char *job,
                                     const struct mbd_page *page,
                                     struct mbd_checkpoint_row **ret, size_t *ret_n,
                                     bool *ret_more, struct mb_error *err);
/* Of all jobs, oldest first. */
enum mb_status mbd_store_all_checkpoints(struct mbd_store *s, struct mbd_checkpoint_row **ret,
                                         size_t *ret_n, struct mb_error *err);
/* That of a model by its name. Errors: MB_E_NOTFOUND. */
enum mb_status mbd_store_find_model(struct mbd_store *s, const char *model,
                                    struct mbd_checkpoint_row *ret, struct mb_error *err);

/* ---- which epoch each model of the daemon is --------------------------------------------- */
struct mbd_name_row {
    char model[129], epoch[17];
    bool pinned;
};

enum mb_status mbd_store_set_name(struct mbd_store *s, const char *model, const char *epoch,
                                  bool pinned, struct mb_error *err);
enum mb_status mbd_store_names(struct mbd_store *s, struct mbd_name_row **ret, size_t *ret_n,
                               struct mb_error *err);

/* ---- keys under which jobs were posted --------------------------------------------------- */

/* The job that was posted under key since the time since, and whether with the same body.
 * Errors: MB_E_NOTFOUND. */
enum mb_status mbd_store_key(struct mbd_store *s, const char *key, int64_t since, uint64_t hash,
                             char ret_job[MB_JOB_ID_MAX + 1], bool *ret_same,
                             struct mb_error *err);
/* Forgets those before since. */
enum mb_status mbd_store_add_key(struct mbd_store *s, const char *key, int64_t now,
                                 int64_t since, uint64_t hash, const char *job,
                                 struct mb_error *err);

#endif
