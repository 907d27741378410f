#include "server/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/store/database.h"

enum {
    APPLICATION = 0x4d42734a, /* "MBsJ": which program's database it is */
    VERSION = 1,              /* of the schema; a later one is brought up from it here */
};

static const char schema[] =
    "CREATE TABLE files (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " name TEXT NOT NULL, details TEXT NOT NULL, bytes INTEGER NOT NULL,"
    " created INTEGER NOT NULL, expires INTEGER NOT NULL) STRICT;"
    "CREATE TABLE jobs (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " base TEXT NOT NULL, base_digest INTEGER NOT NULL, start TEXT NOT NULL,"
    " model TEXT NOT NULL, result TEXT NOT NULL UNIQUE, training TEXT NOT NULL,"
    " validation TEXT NOT NULL, body TEXT NOT NULL, seed INTEGER NOT NULL,"
    " created INTEGER NOT NULL, status TEXT NOT NULL, finished INTEGER NOT NULL,"
    " attempts INTEGER NOT NULL, failures INTEGER NOT NULL, step INTEGER NOT NULL,"
    " total_steps INTEGER NOT NULL, trained_tokens INTEGER NOT NULL,"
    " snapshot_step INTEGER NOT NULL, first_valid REAL, best_valid REAL,"
    " error_code TEXT NOT NULL, error_param TEXT NOT NULL,"
    " error_message TEXT NOT NULL) STRICT;"
    "CREATE INDEX jobs_by_status ON jobs (status);"
    "CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    " job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, created INTEGER NOT NULL,"
    " level INTEGER NOT NULL, is_metrics INTEGER NOT NULL, message TEXT NOT NULL,"
    " data TEXT) STRICT;"
    "CREATE INDEX events_by_job ON events (job, seq);"
    "CREATE TABLE checkpoints (seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    " job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, model TEXT NOT NULL UNIQUE,"
    " file TEXT NOT NULL, epoch TEXT NOT NULL, created INTEGER NOT NULL, step INTEGER NOT NULL,"
    " is_result INTEGER NOT NULL, promote INTEGER NOT NULL, metrics TEXT NOT NULL,"
    " UNIQUE (job, step)) STRICT;"
    "CREATE TABLE names (model TEXT PRIMARY KEY, epoch TEXT NOT NULL,"
    " pinned INTEGER NOT NULL) STRICT;"
    "CREATE TABLE keys (key TEXT PRIMARY KEY, hash INTEGER NOT NULL, created INTEGER NOT NULL,"
    " job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE) STRICT;";

/* ---- the folder -------------------------------------------------------------------------- */

static enum mb_status make_folder(const char *path, struct mb_error *err)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return mb_fail(err, MB_E_IO, errno, "--state-dir: make '%s'", path);
    }
    return MB_OK;
}

static enum mb_status take_lock(struct mbd_store *s, struct mb_error *err)
{
    char path[4096];
    if (strlen(s->folder) > sizeof path - 64) {
        return mb_fail(err, MB_E_INVALID, 0, "--state-dir: the path is too long");
    }
    (void) snprintf(path, sizeof path, "%s/lock", s->folder);
    s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock < 0) {
        return mb_fail(err, MB_E_IO, errno, "--state-dir: '%s'", path);
    }
    if (flock(s->lock, LOCK_EX | LOCK_NB) != 0) {
        return mb_fail(err, MB_E_UNAVAILABLE, 0, "--state-dir: another daemon uses '%s'",
                       s->folder);
    }
    return MB_OK;
}

static void part(const struct mbd_store *s, const char *name, char ret[4096])
{
    (void) snprintf(ret, 4096, "%s/%s", s->folder, name);
}

static bool has_part(const struct mbd_store *s, const char *name)
{
    char path[4096];
    struct stat there;
    part(s, name, path);
    return stat(path, &there) == 0;
}

static enum mb_status make_part(const struct mbd_store *s, const char *name,
                                struct mb_error *err)
{
    char path[4096];
    part(s, name, path);
    return make_folder(path, err);
}

/* ---- the database ------------------------------------------------------------------------ */

static enum mb_status read_number(sqlite3_stmt *q, void *row, struct mb_error *err)
{
    (void) err;
    *(int64_t *) row = sqlite3_column_int64(q, 0);
    return MB_OK;
}

static enum mb_status number_of(struct mbd_store *s, const char *sql, int64_t *ret,
                                struct mb_error *err)
{
    sqlite3_stmt *q = NULL;
    enum mb_status st = mbd_db_query(s, &q, err, sql, "");
    return st == MB_OK ? mbd_db_one(s, q, read_number, ret, "number", err) : st;
}

static enum mb_status execute(struct mbd_store *s, const char *sql, struct mb_error *err)
{
    mbd_db_make_room(s);
    int code = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? MB_OK : mbd_db_fail(s, code, err);
}

struct verdict {
    char text[200];
};

static enum mb_status read_verdict(sqlite3_stmt *q, void *row, struct mb_error *err)
{
    struct verdict *v = row;
    (void) err;
    mbd_db_text(q, 0, v->text, sizeof v->text);
    return MB_OK;
}

/* Reads all of it: pages, their order, that rows and indexes agree, and what refers to what. */
static enum mb_status check(struct mbd_store *s, struct mb_error *err)
{
    sqlite3_stmt *q = NULL;
    struct verdict v;
    enum mb_status st = mbd_db_query(s, &q, err, "PRAGMA integrity_check(1)", "");
    if (st == MB_OK) {
        st = mbd_db_one(s, q, read_verdict, &v, "verdict", err);
    }
    if (st == MB_OK && strcmp(v.text, "ok") != 0) {
        return mb_fail(err, MB_E_FORMAT, 0, "'%s/mboold.sqlite' is damaged: %s", s->folder,
                       v.text);
    }
    bool row = false;
    if (st == MB_OK &&
        (st = mbd_db_query(s, &q, err, "PRAGMA foreign_key_check", "")) == MB_OK) {
        st = mbd_db_step(s, q, &row, err);
        (void) sqlite3_finalize(q);
    }
    return row ? mb_fail(err, MB_E_FORMAT, 0,
                         "'%s/mboold.sqlite' is damaged: a row has lost "
                         "what it refers to",
                         s->folder)
               : st;
}

static enum mb_status make_schema(struct mbd_store *s, struct mb_error *err)
{
    char versions[96];
    if (has_part(s, "files")) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "'%s/mboold.sqlite' is empty, and yet the folder has been used: restore "
                       "the file, or choose another folder",
                       s->folder);
    }
    (void) snprintf(versions, sizeof versions,
                    "PRAGMA application_id = %d; PRAGMA user_version = %d;", APPLICATION,
                    VERSION);
    enum mb_status st = execute(s, "BEGIN IMMEDIATE", err);
    if (st == MB_OK && (st = execute(s, schema, err)) == MB_OK &&
        (st = execute(s, versions, err)) == MB_OK) {
        st = execute(s, "COMMIT", err);
    }
    return st;
}

static enum mb_status check_version(struct mbd_store *s, struct mb_error *err)
{
    int64_t application, version;
    enum mb_status st = number_of(s, "PRAGMA application_id", &application, err);
    if (st == MB_OK) {
        st = number_of(s, "PRAGMA user_version", &version, err);
    }
    if (st != MB_OK) {
        return st;
    }
    if (application == 0 && version == 0) {
        return make_schema(s, err);
    }
    if (application != APPLICATION) {
        return mb_fail(err, MB_E_FORMAT, 0, "'%s/mboold.sqlite' is another program's",
                       s->folder);
    }
    if (version != VERSION) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "'%s/mboold.sqlite' has version %lld, and this program reads %d",
                       s->folder, (long long) version, VERSION);
    }
    return check(s, err);
}

static enum mb_status open_database(struct mbd_store *s, struct mb_error *err)
{
    char path[4096];
    part(s, "mboold.sqlite", path);
    int code = sqlite3_open_v2(path, &s->db,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                                   SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE,
                               NULL);
    if (code != SQLITE_OK) {
        return mbd_db_fail(s, code, err);
    }
    (void) sqlite3_extended_result_codes(s->db, 1);
    (void) sqlite3_busy_timeout(s->db, 1000); /* somebody looks at it with another program */
    enum mb_status st = execute(s,
                                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                                "PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;"
                                "PRAGMA cell_size_check = ON;"
                                "PRAGMA wal_autocheckpoint = 128;" /* pages: the log is small */
                                "PRAGMA journal_size_limit = 1048576;",
                                err);
    return st == MB_OK ? check_version(s, err) : st;
}

enum mb_status mbd_store_open(const char *folder, struct mbd_store **ret, struct mb_error *err)
{
    struct mbd_store *s = calloc(1, sizeof *s);
    if (!s || !(s->folder = strdup(folder))) {
        free(s);
        return mb_fail(err, MB_E_NOMEM, 0, "state: no memory");
    }
    s->lock = -1;
    enum mb_status st = make_folder(folder, err);
    if (st == MB_OK && (st = take_lock(s, err)) == MB_OK &&
        (st = open_database(s, err)) == MB_OK && (st = make_part(s, "files", err)) == MB_OK) {
        st = make_part(s, "models", err);
    }
    if (st != MB_OK) {
        mbd_store_close(s);
        return st;
    }
    *ret = s;
    return MB_OK;
}

void mbd_store_close(struct mbd_store *s)
{
    if (!s) {
        return;
    }
    (void) sqlite3_close(s->db);
    if (s->lock >= 0) {
        (void) close(s->lock);
    }
    free(s->folder);
    free(s);
}

const char *mbd_store_folder(const struct mbd_store *s)
{
    return s->folder;
}

enum mb_status mbd_store_begin(struct mbd_store *s, struct mb_error *err)
{
    return execute(s, "BEGIN IMMEDIATE", err);
}

enum mb_status mbd_store_commit(struct mbd_store *s, struct mb_error *err)
{
    enum mb_status st = execute(s, "COMMIT", err);
    if (st != MB_OK) {
        mbd_store_rollback(s);
    }
    return st;
}

void mbd_store_rollback(struct mbd_store *s)
{
    if (!sqlite3_get_autocommit(s->db)) { /* some errors have done so already */
        (void) sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    }
}

enum mb_status mbd_store_new_id(const char *prefix, char ret[MB_JOB_ID_MAX + 1],
                                struct mb_error *err)
{
    uint64_t id;
    if (getrandom(&id, sizeof id, 0) != (ssize_t) sizeof id) {
        return mb_fail(err, MB_E_IO, errno, "no random numbers");
    }
    (void) snprintf(ret, MB_JOB_ID_MAX + 1, "%s%016llx", prefix, (unsigned long long) id);
    return MB_OK;
}
