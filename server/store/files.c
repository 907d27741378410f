#include "server/store/database.h"

#define COLUMNS "id, name, details, bytes, created, expires"

static enum mb_status read_file(sqlite3_stmt *q, void *row, struct mb_error *err)
{
    struct mbd_file_row *f = row;
    (void) err;
    mbd_db_text(q, 0, f->id, sizeof f->id);
    mbd_db_text(q, 1, f->name, sizeof f->name);
    mbd_db_text(q, 2, f->details, sizeof f->details);
    f->bytes = (uint64_t) sqlite3_column_int64(q, 3);
    f->created = sqlite3_column_int64(q, 4);
    f->expires = sqlite3_column_int64(q, 5);
    return MB_OK;
}

enum mb_status mbd_store_add_file(struct mbd_store *s, const struct mbd_file_row *f,
                                  struct mb_error *err)
{
    return mbd_db_run(s, NULL, err, "INSERT INTO files (" COLUMNS ") VALUES (?, ?, ?, ?, ?, ?)",
                      "tttiii", f->id, f->name, f->details, (int64_t) f->bytes, f->created,
                      f->expires);
}

enum mb_status mbd_store_file(struct mbd_store *s, const char *id, struct mbd_file_row *ret,
                              struct mb_error *err)
{
    sqlite3_stmt *q = NULL;
    enum mb_status st =
        mbd_db_query(s, &q, err, "SELECT " COLUMNS " FROM files WHERE id = ?", "t", id);
    return st == MB_OK ? mbd_db_one(s, q, read_file, ret, "such file", err) : st;
}

/* A job that may still read the file keeps it. */
#define UNUSED                                                                        \
    " AND NOT EXISTS (SELECT 1 FROM jobs WHERE (training = files.id OR validation = " \
    "files.id) AND status NOT IN ('succeeded', 'failed', 'cancelled'))"

enum mb_status mbd_store_delete_file(struct mbd_store *s, const char *id, struct mb_error *err)
{
    int changes = 0;
    struct mbd_file_row row;
    enum mb_status st = mbd_store_file(s, id, &row, err);
    if (st == MB_OK) {
        st = mbd_db_run(s, &changes, err, "DELETE FROM files WHERE id = ?" UNUSED, "t", id);
    }
    if (st == MB_OK && changes == 0) {
        st = mb_fail(err, MB_E_UNAVAILABLE, 0, "a job that is not done yet needs this file");
    }
    return st;
}

enum mb_status mbd_store_files(struct mbd_store *s, const struct mbd_page *page,
                               struct mbd_file_row **ret, size_t *ret_n, bool *ret_more,
                               struct mb_error *err)
{
    int64_t after;
    sqlite3_stmt *q = NULL;
    void *rows = NULL;
    const struct mbd_db_rows how = { sizeof **ret, page->limit, read_file, NULL };
    enum mb_status st = mbd_db_after(s, "files", page, &after, err);
    if (st == MB_OK) {
        st = mbd_db_query(
            s, &q, err,
            page->ascending ? "SELECT " COLUMNS " FROM files WHERE seq > ? ORDER BY seq LIMIT ?"
                            : "SELECT " COLUMNS
                              " FROM files WHERE seq < ? ORDER BY seq DESC LIMIT ?",
            "ii", after, (int64_t) page->limit + 1);
    }
    if (st == MB_OK && (st = mbd_db_rows(s, q, &how, &rows, ret_n, ret_more, err)) == MB_OK) {
        *ret = rows;
    }
    return st;
}

struct total {
    int64_t n, bytes;
};

static enum mb_status read_total(sqlite3_stmt *q, void *row, struct mb_error *err)
{
    struct total *t = row;
    (void) err;
    t->n = sqlite3_column_int64(q, 0);
    t->bytes = sqlite3_column_int64(q, 1);
    return MB_OK;
}

enum mb_status mbd_store_files_total(struct mbd_store *s, uint64_t *ret_n, uint64_t *ret_bytes,
                                     struct mb_error *err)
{
    struct total t;
    sqlite3_stmt *q = NULL;
    enum mb_status st =
        mbd_db_query(s, &q, err, "SELECT count(*), coalesce(sum(bytes), 0) FROM files", "");
    if (st == MB_OK && (st = mbd_db_one(s, q, read_total, &t, "total", err)) == MB_OK) {
        *ret_n = (uint64_t) t.n;
        *ret_bytes = (uint64_t) t.bytes;
    }
    return st;
}

enum mb_status mbd_store_expired_file(struct mbd_store *s, int64_t now,
                                      struct mbd_file_row *ret, struct mb_error *err)
{
    sqlite3_stmt *q = NULL;
    enum mb_status st = mbd_db_query(s, &q, err,
                                     "SELECT " COLUMNS " FROM files WHERE expires > 0 AND "
                                     "expires <= ?" UNUSED " LIMIT 1",
                                     "i", now);
    return st == MB_OK ? mbd_db_one(s, q, read_file, ret, "such file", err) : st;
}
