/* SQLite, as this folder uses it: statements with their values in one call. Private to
 * server/store, which has the only sqlite3.h.
 *
 * Threads: one. */
#ifndef MBD_DATABASE_H
#define MBD_DATABASE_H

#include <sqlite3.h>

#include "server/store/store.h"

struct mbd_store {
    sqlite3 *db;
    char *folder;
    int lock; /* a descriptor, or -1 */
    bool
        refused; /* the disk refused a write: the log may hold what could be elsewhere by now */
};

/* What SQLite says went wrong. A disk that is full is MB_E_IO with ENOSPC. */
enum mb_status mbd_db_fail(struct mbd_store *s, int code, struct mb_error *err);

/* Before a statement, after the disk refused one: the log is emptied into the database, as far as that
 * need not grow; then there is room again. */
void mbd_db_make_room(struct mbd_store *s);

/* A statement with its values bound: types has a letter for each, t const char * (NULL is null),
 * i int64_t, d double (NaN is null). */
enum mb_status mbd_db_query(struct mbd_store *s, sqlite3_stmt **ret, struct mb_error *err,
                            const char *sql, const char *types, ...);
/* The next row, in *ret_row; or its end. */
enum mb_status mbd_db_step(struct mbd_store *s, sqlite3_stmt *q, bool *ret_row,
                           struct mb_error *err);
/* A statement without rows. *ret_changes (may be NULL): rows that it changed. */
enum mb_status mbd_db_run(struct mbd_store *s, int *ret_changes, struct mb_error *err,
                          const char *sql, const char *types, ...);

/* A column's text, cut to n - 1 bytes; and a copy of all of it, NULL for null. */
void mbd_db_text(sqlite3_stmt *q, int column, char *ret, size_t n);
enum mb_status mbd_db_copy(sqlite3_stmt *q, int column, char **ret, struct mb_error *err);
double mbd_db_real(sqlite3_stmt *q, int column); /* NaN for null */

/* Reads the rows of q, and ends it: read fills one, of size bytes. *ret is malloc'ed, and holds at
 * most max rows: *ret_more says that there was another. free_row frees what a row holds, when
 * something goes wrong; it may be NULL. */
typedef enum mb_status mbd_db_read_fn(sqlite3_stmt *q, void *row, struct mb_error *err);
struct mbd_db_rows {
    size_t size, max;
    mbd_db_read_fn *read;
    void (*free_row)(void *row);
};
enum mb_status mbd_db_rows(struct mbd_store *s, sqlite3_stmt *q, const struct mbd_db_rows *how,
                           void **ret, size_t *ret_n, bool *ret_more, struct mb_error *err);
/* Reads the one row of q, and ends it. Errors: MB_E_NOTFOUND: "there is no <what>". */
enum mb_status mbd_db_one(struct mbd_store *s, sqlite3_stmt *q, mbd_db_read_fn *read, void *row,
                          const char *what, struct mb_error *err);

/* The bound that a page sets on seq: that of the row of table with the id page->after.
 * Errors: MB_E_NOTFOUND. */
enum mb_status mbd_db_after(struct mbd_store *s, const char *table, const struct mbd_page *page,
                            int64_t *ret, struct mb_error *err);

#endif
