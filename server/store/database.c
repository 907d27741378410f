#include "server/store/database.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum mb_status mbd_db_fail(struct mbd_store *s, int code, struct mb_error *err)
{
    s->refused |= code == SQLITE_FULL || (code & 0xff) == SQLITE_IOERR;
    const char *what = s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(code);
    switch (code & 0xff) {
    case SQLITE_NOMEM:
        return mb_fail(err, MB_E_NOMEM, 0, "state: no memory");
    case SQLITE_FULL:
        return mb_fail(err, MB_E_IO, ENOSPC, "state: '%s/mboold.sqlite'", s->folder);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return mb_fail(err, MB_E_FORMAT, 0, "state: '%s/mboold.sqlite' is damaged: %s",
                       s->folder, what);
    default:
        return mb_fail(err, MB_E_IO, 0, "state: '%s/mboold.sqlite': %s", s->folder, what);
    }
}

static int bind(sqlite3_stmt *q, int i, char type, va_list *values)
{
    const char *text;
    double x;
    switch (type) {
    case 't':
        text = va_arg(*values, const char *);
        return text ? sqlite3_bind_text(q, i, text, -1, SQLITE_TRANSIENT)
                    : sqlite3_bind_null(q, i);
    case 'd':
        x = va_arg(*values, double);
        return isnan(x) ? sqlite3_bind_null(q, i) : sqlite3_bind_double(q, i, x);
    default:
        return sqlite3_bind_int64(q, i, va_arg(*values, int64_t));
    }
}

void mbd_db_make_room(struct mbd_store *s)
{
    if (s->refused && sqlite3_get_autocommit(s->db)) {
        s->refused = false;
        (void) sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    }
}

static enum mb_status prepare(struct mbd_store *s, sqlite3_stmt **ret, struct mb_error *err,
                              const char *sql, const char *types, va_list *values)
{
    sqlite3_stmt *q = NULL;
    mbd_db_make_room(s);
    int code = sqlite3_prepare_v2(s->db, sql, -1, &q, NULL);
    for (int i = 0; code == SQLITE_OK && types[i]; i++) {
        code = bind(q, i + 1, types[i], values);
    }
    if (code != SQLITE_OK) {
        enum mb_status st = mbd_db_fail(s, code, err);
        (void) sqlite3_finalize(q);
        return st;
    }
    *ret = q;
    return MB_OK;
}

enum mb_status mbd_db_query(struct mbd_store *s, sqlite3_stmt **ret, struct mb_error *err,
                            const char *sql, const char *types, ...)
{
    va_list values;
    va_start(values, types);
    enum mb_status st = prepare(s, ret, err, sql, types, &values);
    va_end(values);
    return st;
}

enum mb_status mbd_db_step(struct mbd_store *s, sqlite3_stmt *q, bool *ret_row,
                           struct mb_error *err)
{
    int code = sqlite3_step(q);
    *ret_row = code == SQLITE_ROW;
    return code == SQLITE_ROW || code == SQLITE_DONE ? MB_OK : mbd_db_fail(s, code, err);
}

enum mb_status mbd_db_run(struct mbd_store *s, int *ret_changes, struct mb_error *err,
                          const char *sql, const char *types, ...)
{
    bool row;
    sqlite3_stmt *q = NULL;
    va_list values;
    va_start(values, types);
    enum mb_status st = prepare(s, &q, err, sql, types, &values);
    va_end(values);
    if (st == MB_OK) {
        st = mbd_db_step(s, q, &row, err);
        (void) sqlite3_finalize(q);
    }
    if (st == MB_OK && ret_changes) {
        *ret_changes = sqlite3_changes(s->db);
    }
    return st;
}

void mbd_db_text(sqlite3_stmt *q, int column, char *ret, size_t n)
{
    const char *text = (const char *) sqlite3_column_text(q, column);
    (void) snprintf(ret, n, "%s", text ? text : "");
}

enum mb_status mbd_db_copy(sqlite3_stmt *q, int column, char **ret, struct mb_error *err)
{
    const char *text = (const char *) sqlite3_column_text(q, column);
    *ret = text ? strdup(text) : NULL;
    return text && !*ret ? mb_fail(err, MB_E_NOMEM, 0, "state: no memory") : MB_OK;
}

double mbd_db_real(sqlite3_stmt *q, int column)
{
    return sqlite3_column_type(q, column) == SQLITE_NULL ? (double) NAN
                                                         : sqlite3_column_double(q, column);
}

static void free_rows(const struct mbd_db_rows *how, char *rows, size_t n)
{
    for (size_t i = 0; how->free_row && i < n; i++) {
        how->free_row(rows + i * how->size);
    }
    free(rows);
}

enum mb_status mbd_db_rows(struct mbd_store *s, sqlite3_stmt *q, const struct mbd_db_rows *how,
                           void **ret, size_t *ret_n, bool *ret_more, struct mb_error *err)
{
    char *rows = NULL;
    size_t n = 0, cap = 0;
    bool row = false;
    enum mb_status st;
    while ((st = mbd_db_step(s, q, &row, err)) == MB_OK && row && n < how->max) {
        if (n == cap) {
            cap = cap ? 2 * cap : 16;
            char *more = realloc(rows, cap * how->size);
            if (!more) {
                st = mb_fail(err, MB_E_NOMEM, 0, "state: no memory");
                break;
            }
            rows = more;
        }
        memset(rows + n * how->size, 0, how->size);
        n++;
        st = how->read(q, rows + (n - 1) * how->size, err);
        if (st != MB_OK) {
            break;
        }
    }
    (void) sqlite3_finalize(q);
    if (st != MB_OK) {
        free_rows(how, rows, n);
        return st;
    }
    *ret = rows;
    *ret_n = n;
    if (ret_more) {
        *ret_more = row;
    }
    return MB_OK;
}

enum mb_status mbd_db_one(struct mbd_store *s, sqlite3_stmt *q, mbd_db_read_fn *read, void *row,
                          const char *what, struct mb_error *err)
{
    bool has_row = false;
    enum mb_status st = mbd_db_step(s, q, &has_row, err);
    if (st == MB_OK && !has_row) {
        st = mb_fail(err, MB_E_NOTFOUND, 0, "there is no %s", what);
    } else if (st == MB_OK) {
        st = read(q, row, err);
    }
    (void) sqlite3_finalize(q);
    return st;
}

static enum mb_status read_seq(sqlite3_stmt *q, void *row, struct mb_error *err)
{
    (void) err;
    *(int64_t *) row = sqlite3_column_int64(q, 0);
    return MB_OK;
}

enum mb_status mbd_db_after(struct mbd_store *s, const char *table, const struct mbd_page *page,
                            int64_t *ret, struct mb_error *err)
{
    char sql[80];
    sqlite3_stmt *q = NULL;
    *ret = page->ascending ? 0 : INT64_MAX;
    if (!page->after) {
        return MB_OK;
    }
    (void) snprintf(sql, sizeof sql, "SELECT seq FROM %s WHERE id = ?", table);
    enum mb_status st = mbd_db_query(s, &q, err, sql, "t", page->after);
    return st == MB_OK ? mbd_db_one(s, q, read_seq, ret, "row with the id 'after'", err) : st;
}
