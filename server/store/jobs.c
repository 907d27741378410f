#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/store/database.h"

/* ---- jobs -------------------------------------------------------------------------------- */

#define FIXED \
    "id, base, base_digest, start, model, result, training, validation, body, seed, created"
#define MOVING                                                                                 \
    "status, finished, attempts, failures, step, total_steps, trained_tokens, snapshot_step, " \
    "first_valid, best_valid, error_code, error_param, error_message"

void mbd_job_row_fini(struct mbd_job_row *j)
{
    free(j->body);
    j->body = NULL;
}

static void free_job(void *row)
{
    mbd_job_row_fini(row);
}

void mbd_job_rows_free(struct mbd_job_row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mbd_job_row_fini(&rows[i]);
    }
    free(rows);
}

static enum mb_status read_job(sqlite3_stmt *q, void *row, struct mb_error *err)
{
    struct mbd_job_row *j = row;
    char status[32];
    mbd_db_text(q, 0, j->id, sizeof j->id);
    mbd_db_text(q, 1, j->base, sizeof j->base);
    j->base_digest = (uint64_t) sqlite3_column_int64(q, 2);
    mbd_db_text(q, 3, j->start, sizeof j->start);
    mbd_db_text(q, 4, j->model, sizeof j->model);
    mbd_db_text(q, 5, j->result, sizeof j->result);
    mbd_db_text(q, 6, j->training, sizeof j->training);
    mbd_db_text(q, 7, j->validation, sizeof j->validation);
    j->seed = (uint32_t) sqlite3_column_int64(q, 9);
    j->created = sqlite3_column_int64(q, 10);
    mbd_db_text(q, 11, status, sizeof status);
    j->finished = sqlite3_column_int64(q, 12);
    j->attempts = (uint32_t) sqlite3_column_int64(q, 13);
    j->failures = (uint32_t) sqlite3_column_int64(q, 14);
    j->step = (uint64_t) sqlite3_column_int64(q, 15);
    j->total_steps = (uint64_t) sqlite3_column_int64(q, 16);
    j->trained_tokens = (uint64_t) sqlite3_column_int64(q, 17);
    j->snapshot_step = (uint64_t) sqlite3_column_int64(q, 18);
    j->first_valid = mbd_db_real(q, 19);
    j->best_valid = mbd_db_real(q, 20);
    mbd_db_text(q, 21, j->error_code, sizeof j->error_code);
    mbd_db_text(q, 22, j->error_param, sizeof j->error_param);
    mbd_db_text(q, 23, j->error_message, sizeof j->error_message);
    if (!mb_job_status_of(status, &j->status)) {
        return mb_fail(err, MB_E_FORMAT, 0, "state: job %s has the status '%s'", j->id, status);
    }
    return mbd_db_copy(q, 8, &j->body, err);
}

enum mb_status mbd_store_add_job(struct mbd_store *s, const struct mbd_job_row *j,
                                 struct mb_error *err)
{
    return mbd_db_run(s, NULL, err,
                      "INSERT INTO jobs (" FIXED ", " MOVING
                      ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
                      "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                      "ttitttttt"
                      "ii"
                      "tiiiiiii"
                      "ddttt",
                      j->id, j->base, (int64_t) j->base_digest, j->start, j->model, j->result,
                      j->training, j->validation, j->body, (int64_t) j->seed, j->created,
                      mb_job_status_name(j->status), j->finished, (int64_t) j->attempts,
                      (int64_t) j->failures, (int64_t) j->step, (int64_t) j->total_steps,
                      (int64_t) j->trained_tokens, (int64_t) j->snapshot_step, j->first_valid,
                      j->best_valid, j->error_code, j->error_param, j->error_message);
}

enum mb_status mbd_store_update_job(struct mbd_store *s, const struct mbd_job_row *j,
                                    struct mb_error *err)
{
    return mbd_db_run(s, NULL, err,
                      "UPDATE jobs SET (" MOVING ") = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                      "WHERE id = ?",
                      "tiiiiiii"
                      "ddttt"
                      "t",
                      mb_job_status_name(j->status), j->finished, (int64_t) j->attempts,
                      (int64_t) j->failures, (int64_t) j->step, (int64_t) j->total_steps,
                      (int64_t) j->trained_tokens, (int64_t) j->snapshot_step, j->first_valid,
                      j->best_valid, j->error_code, j->error_param, j->error_message, j->id);
}

enum mb_status mbd_store_job(struct mbd_store *s, const char *id, struct mbd_job_row *ret,
                             struct mb_error *err)
{
    sqlite3_stmt *q = NULL;
    memset(ret, 0, sizeof *ret);
    enum mb_status st = mbd_db_query(
        s, &q, err, "SELECT " FIXED ", " MOVING " FROM jobs WHERE id = ?", "t", id);
    if (st == MB_OK && (st = mbd_db_one(s, q, read_job, ret, "such job", err)) != MB_OK) {
        mbd_job_row_fini(ret);
    }
    return st;
}

enum mb_status mbd_store_jobs(struct mbd_store *s, const struct mbd_page *page,
                              struct mbd_job_row **ret, size_t *ret_n, bool *ret_more,
                              struct mb_error *err)
{
    int64_t after;
    sqlite3_stmt *q = NULL;
    void *rows = NULL;
    const struct mbd_db_rows how = { sizeof **ret, page->limit, read_job, free_job };
    enum mb_status st = mbd_db_after(s, "jobs", page, &after, err);
    if (st == MB_OK) {
        st = mbd_db_query(s, &q, err,
                          "SELECT " FIXED ", " MOVING
                          " FROM jobs WHERE seq < ? ORDER BY seq DESC LIMIT ?",
                          "ii", after, (int64_t) page->limit + 1);
    }
    if (st == MB_OK && (st = mbd_db_rows(s, q, &how, &rows, ret_n, ret_more, err)) == MB_OK) {
        *ret = rows;
    }
    return st;
}

enum mb_status mbd_store_open_jobs(struct mbd_store *s, struct mbd_job_row **ret, size_t *ret_n,
                                   struct mb_error *err)
{
    sqlite3_stmt *q = NULL;
    void *rows = NULL;
    const struct mbd_db_rows how = { sizeof **ret, SIZE_MAX, read_job, free_job };
    enum mb_status st =
        mbd_db_query(s, &q, err,
                     "SELECT " FIXED ", " MOVING " FROM jobs WHERE status NOT IN "
                     "('succeeded', 'failed', 'cancelled') ORDER BY seq",
                     "");
    if (st == MB_OK && (st = mbd_db_rows(s, q, &how, &rows, ret_n, NULL, err)) == MB_OK) {
        *ret = rows;
    }
    return st;
}

struct count {
    char status[32];
    int64_t n;
};

static enum mb_status read_count(sqlite3_stmt *q, void *row, struct mb_error *err)
{
    struct count *c = row;
    (void) err;
    mbd_db_text(q, 0, c->status, sizeof c->status);
    c->n = sqlite3_column_int64(q, 1);
    return MB_OK;
}

enum mb_status mbd_store_count_jobs(struct mbd_store *s, uint64_t ret[MB_JOB_STATUSES],
                                    struct mb_error *err)
{
    sqlite3_stmt *q = NULL;
    void *rows = NULL;
    size_t n = 0;
    const struct mbd_db_rows how = { sizeof(struct count), MB_JOB_STATUSES, read_count, NULL };
    enum mb_status st =
        mbd_db_query(s, &q, err, "SELECT status, count(*) FROM jobs GROUP BY status", "");
    if (st != MB_OK || (st = mbd_db_rows(s, q, &how, &rows, &n, NULL, err)) != MB_OK) {
        return st;
    }
    memset(ret, 0, MB_JOB_STATUSES * sizeof *ret);
    for (size_t i = 0; i < n; i++) {
        enum mb_job_status status;
        const struct count *c = (const struct count *) rows + i;
        if (mb_job_status_of(c->status, &status)) {
            ret[status] = (uint64_t) c->n;
        }
    }
    free(rows);
    return MB_OK;
}

/* ---- events ------------------------------------------------------------------------------ */

static void free_event(void *row)
{
    struct mbd_event_row *e = row;
    free(e->message);
    free(e->data);
}

void mbd_event_rows_free(struct mbd_event_row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free_event(&rows[i]);
    }
    free(rows);
}

void mbd_event_id(int64_t seq, char ret[MB_JOB_ID_MAX + 1])
{
    (void) snprintf(ret, MB_JOB_ID_MAX + 1, "ftevent-%016llx", (unsigned long long) seq);
}

/* The number in an id that begins with prefix and has 16 digits behind it. */
static bool seq_of(const char *id, const char *prefix, int64_t *ret)
{
    size_t n = strlen(prefix);
    char *end = NULL;
    if (strncmp(id, prefix, n) != 0 || strlen(id + n) != 16 ||
        strspn(id + n, "0123456789abcdef") != 16) {
        return false;
    }
    unsigned long long v = strtoull(id + n, &end, 16);
    if (v > INT64_MAX) {
        return false;
    }
    *ret = (int64_t) v;
    return true;
}

bool mbd_event_seq(const char *id, int64_t *ret)
{
    return seq_of(id, "ftevent-", ret);
}

enum mb_status mbd_store_add_event(struct mbd_store *s, const char *job,
                                   const struct mbd_event_row *e, struct mb_error *err)
{
    return mbd_db_run(s, NULL, err,
                      "INSERT INTO events (job, created, level, is_metrics, message, data) "
                      "VALUES (?, ?, ?, ?, ?, ?)",
                      "tiiitt", job, e->created, (int64_t) e->level, (int64_t) e->is_metrics,
                      e->message, e->data);
}

static enum mb_status read_event(sqlite3_stmt *q, void *row, struct mb_error *err)
{
    struct mbd_event_row *e = row;
    e->seq = sqlite3_column_int64(q, 0);
    e->created = sqlite3_column_int64(q, 1);
    int64_t level = sqlite3_column_int64(q, 2);
    e->level =
        level >= 0 && level <= MB_EVENT_ERROR ? (enum mb_event_level) level : MB_EVENT_INFO;
    e->is_metrics = sqlite3_column_int64(q, 3) != 0;
    enum mb_status st = mbd_db_copy(q, 4, &e->message, err);
    return st == MB_OK ? mbd_db_copy(q, 5, &e->data, err) : st;
}

enum mb_status mbd_store_events(struct mbd_store *s, const char *job,
                                const struct mbd_page *page, struct mbd_event_row **ret,
                                size_t *ret_n, bool *ret_more, struct mb_error *err)
{
    static const char up[] =
        "SELECT seq, created, level, is_metrics, message, data FROM events "
        "WHERE job = ? AND seq > ? ORDER BY seq LIMIT ?";
    static const char down[] = "SELECT seq, created, level, is_metrics, message, data FROM "
                               "events WHERE job = ? AND seq < ? ORDER BY seq DESC LIMIT ?";
    int64_t after = page->ascending ? 0 : INT64_MAX;
    sqlite3_stmt *q = NULL;
    void *rows = NULL;
    const struct mbd_db_rows how = { sizeof **ret, page->limit, read_event, free_event };
    if (page->after && !mbd_event_seq(page->after, &after)) {
        return mb_fail(err, MB_E_NOTFOUND, 0, "there is no row with the id 'after'");
    }
    enum mb_status st = mbd_db_query(s, &q, err, page->ascending ? up : down, "tii", job, after,
                                     (int64_t) page->limit + 1);
    if (st == MB_OK && (st = mbd_db_rows(s, q, &how, &rows, ret_n, ret_more, err)) == MB_OK) {
        *ret = rows;
    }
    return st;
}

/* ---- checkpoints ------------------------------------------------------------------------- */

#define CHECKPOINTS                                                                     \
    "SELECT c.seq, c.job, jobs.base, c.model, c.file, c.created, c.step, c.is_result, " \
    "c.metrics, c.epoch, c.promote FROM checkpoints AS c JOIN jobs ON jobs.id = c.job "

static void free_checkpoint(void *row)
{
    free(((struct mbd_checkpoint_row *) row)->metrics);
}

void mbd_checkpoint_rows_free(struct mbd_checkpoint_row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free_checkpoint(&rows[i]);
    }
    free(rows);
}

void mbd_checkpoint_id(int64_t seq, char ret[MB_JOB_ID_MAX + 1])
{
    (void) snprintf(ret, MB_JOB_ID_MAX + 1, "ftckpt-%016llx", (unsigned long long) seq);
}

static enum mb_status read_checkpoint(sqlite3_stmt *q, void *row, struct mb_error *err)
{
    struct mbd_checkpoint_row *c = row;
    c->seq = sqlite3_column_int64(q, 0);
    mbd_db_text(q, 1, c->job, sizeof c->job);
    mbd_db_text(q, 2, c->base, sizeof c->base);
    mbd_db_text(q, 3, c->model, sizeof c->model);
    mbd_db_text(q, 4, c->file, sizeof c->file);
    c->created = sqlite3_column_int64(q, 5);
    c->step = (uint64_t) sqlite3_column_int64(q, 6);
    c->is_result = sqlite3_column_int64(q, 7) != 0;
    mbd_db_text(q, 9, c->epoch, sizeof c->epoch);
    c->promote = sqlite3_column_int64(q, 10) != 0;
    return mbd_db_copy(q, 8, &c->metrics, err);
}

enum mb_status mbd_store_add_checkpoint(struct mbd_store *s, const struct mbd_checkpoint_row *c,
                                        struct mb_error *err)
{
    return mbd_db_run(
        s, NULL, err,
        "INSERT INTO checkpoints (job, model, file, epoch, created, step, "
        "is_result, promote, metrics) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO "
        "UPDATE SET model = excluded.model, file = excluded.file, epoch = "
        "excluded.epoch, is_result = excluded.is_result, promote = excluded.promote, metrics = "
        "excluded.metrics",
        "ttttiiiit", c->job, c->model, c->file, c->epoch, c->created, (int64_t) c->step,
        (int64_t) c->is_result, (int64_t) c->promote, c->metrics);
}

enum mb_status mbd_store_checkpoints(struct mbd_store *s, const char *job,
                                     const struct mbd_page *page,
                                     struct mbd_checkpoint_row **ret, size_t *ret_n,
                                     bool *ret_more, struct mb_error *err)
{
    int64_t after = INT64_MAX;
    sqlite3_stmt *q = NULL;
    void *rows = NULL;
    const struct mbd_db_rows how = { sizeof **ret, page->limit, read_checkpoint,
                                     free_checkpoint };
    if (page->after && !seq_of(page->after, "ftckpt-", &after)) {
        return mb_fail(err, MB_E_NOTFOUND, 0, "there is no row with the id 'after'");
    }
    enum mb_status st = mbd_db_query(
        s, &q, err, CHECKPOINTS "WHERE c.job = ? AND c.seq < ? ORDER BY c.seq DESC LIMIT ?",
        "tii", job, after, (int64_t) page->limit + 1);
    if (st == MB_OK && (st = mbd_db_rows(s, q, &how, &rows, ret_n, ret_more, err)) == MB_OK) {
        *ret = rows;
    }
    return st;
}

enum mb_status mbd_store_all_checkpoints(struct mbd_store *s, struct mbd_checkpoint_row **ret,
                                         size_t *ret_n, struct mb_error *err)
{
    sqlite3_stmt *q = NULL;
    void *rows = NULL;
    const struct mbd_db_rows how = { sizeof **ret, SIZE_MAX, read_checkpoint, free_checkpoint };
    enum mb_status st = mbd_db_query(s, &q, err, CHECKPOINTS "ORDER BY c.seq", "");
    if (st == MB_OK && (st = mbd_db_rows(s, q, &how, &rows, ret_n, NULL, err)) == MB_OK) {
        *ret = rows;
    }
    return st;
}

enum mb_status mbd_store_find_model(struct mbd_store *s, const char *model,
                                    struct mbd_checkpoint_row *ret, struct mb_error *err)
{
    sqlite3_stmt *q = NULL;
    memset(ret, 0, sizeof *ret);
    enum mb_status st = mbd_db_query(s, &q, err, CHECKPOINTS "WHERE c.model = ?", "t", model);
    return st == MB_OK ? mbd_db_one(s, q, read_checkpoint, ret, "such model", err) : st;
}

/* ---- names ------------------------------------------------------------------------------- */

enum mb_status mbd_store_set_name(struct mbd_store *s, const char *model, const char *epoch,
                                  bool pinned, struct mb_error *err)
{
    return mbd_db_run(s, NULL, err,
                      "INSERT INTO names (model, epoch, pinned) VALUES (?, ?, ?) ON CONFLICT "
                      "DO UPDATE SET epoch = excluded.epoch, pinned = excluded.pinned",
                      "tti", model, epoch, (int64_t) pinned);
}

static enum mb_status read_name(sqlite3_stmt *q, void *row, struct mb_error *err)
{
    struct mbd_name_row *n = row;
    (void) err;
    mbd_db_text(q, 0, n->model, sizeof n->model);
    mbd_db_text(q, 1, n->epoch, sizeof n->epoch);
    n->pinned = sqlite3_column_int64(q, 2) != 0;
    return MB_OK;
}

enum mb_status mbd_store_names(struct mbd_store *s, struct mbd_name_row **ret, size_t *ret_n,
                               struct mb_error *err)
{
    sqlite3_stmt *q = NULL;
    void *rows = NULL;
    const struct mbd_db_rows how = { sizeof **ret, SIZE_MAX, read_name, NULL };
    enum mb_status st =
        mbd_db_query(s, &q, err, "SELECT model, epoch, pinned FROM names ORDER BY model", "");
    if (st == MB_OK && (st = mbd_db_rows(s, q, &how, &rows, ret_n, NULL, err)) == MB_OK) {
        *ret = rows;
    }
    return st;
}

/* ---- keys -------------------------------------------------------------------------------- */

struct key {
    char job[MB_JOB_ID_MAX + 1];
    int64_t hash;
};

static enum mb_status read_key(sqlite3_stmt *q, void *row, struct mb_error *err)
{
    struct key *k = row;
    (void) err;
    mbd_db_text(q, 0, k->job, sizeof k->job);
    k->hash = sqlite3_column_int64(q, 1);
    return MB_OK;
}

enum mb_status mbd_store_key(struct mbd_store *s, const char *key, int64_t since, uint64_t hash,
                             char ret_job[MB_JOB_ID_MAX + 1], bool *ret_same,
                             struct mb_error *err)
{
    struct key k;
    sqlite3_stmt *q = NULL;
    enum mb_status st =
        mbd_db_query(s, &q, err, "SELECT job, hash FROM keys WHERE key = ? AND created >= ?",
                     "ti", key, since);
    if (st == MB_OK && (st = mbd_db_one(s, q, read_key, &k, "such key", err)) == MB_OK) {
        memcpy(ret_job, k.job, sizeof k.job);
        *ret_same = (uint64_t) k.hash == hash;
    }
    return st;
}

enum mb_status mbd_store_add_key(struct mbd_store *s, const char *key, int64_t now,
                                 int64_t since, uint64_t hash, const char *job,
                                 struct mb_error *err)
{
    enum mb_status st =
        mbd_db_run(s, NULL, err, "DELETE FROM keys WHERE created < ?", "i", since);
    return st == MB_OK ? mbd_db_run(s, NULL, err,
                                    "INSERT INTO keys (key, hash, created, job) VALUES (?, ?, "
                                    "?, ?)",
                                    "tiit", key, (int64_t) hash, now, job)
                       : st;
}
