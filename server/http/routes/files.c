/* /v1/files: uploads, and what becomes of them.
 *
 * The bytes are written as they come (upload.h). Then, on the loop's other thread, the file is read
 * line by line, synced, and gets its name; then its row is committed; then it is answered: who
 * has an id, has the file. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/import/examples.h"
#include "proto/json/file_json.h"
#include "server/http/router.h"
#include "server/http/routes/keeping.h"
#include "server/http/upload.h"

enum { PATH_BYTES = 4096, RETRY_S = 5 };

/* A file on its way from an upload to a row. */
struct arrival {
    struct mbd_service *service;
    struct mbd_exchange *exchange; /* NULL when the client left meanwhile */
    struct mbd_work *work;
    struct mbd_file_row row;
    char from[PATH_BYTES], to[PATH_BYTES], folder[PATH_BYTES];
    enum mb_status status;
    struct mb_error error;
};

static void path_of(const struct mbd_service *s, const char *id, char ret[PATH_BYTES])
{
    (void) snprintf(ret, PATH_BYTES, "%s/files/%s", mbd_store_folder(s->store), id);
}

static struct mb_file_card card_of(const struct mbd_file_row *f)
{
    return (struct mb_file_card) { .id = f->id,
                                   .name = f->name,
                                   .details = f->details[0] ? f->details : NULL,
                                   .bytes = f->bytes,
                                   .created = f->created,
                                   .expires = f->expires };
}

static void refuse(struct mbd_exchange *x, int http, const char *code, const char *param,
                   const char *what)
{
    struct mb_wire_error e;
    mb_wire_error_fill(&e, http, code, param, "%s", what);
    mbd_reply_error(x, &e, http == 503 ? RETRY_S : 0);
}

/* ---- on the other thread ----------------------------------------------------------------- */

static enum mb_status sync_at(const char *path, struct mb_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    int why = errno;
    if (fd >= 0) {
        (void) close(fd);
    }
    return ok ? MB_OK : mb_fail(err, MB_E_IO, why, "sync '%s'", path);
}

/* Says in the row what is wrong with the file, which is kept: a job may be told to leave out bad
 * lines. */
static void check_lines(struct arrival *a)
{
    struct mb_examples_report report;
    struct mb_error why;
    if (mb_examples_check(a->from, &report, &why) != MB_OK) {
        (void) snprintf(a->row.details, sizeof a->row.details, "%s", why.what);
    }
}

static void settle(void *arg)
{
    struct arrival *a = arg;
    check_lines(a);
    a->status = sync_at(a->from, &a->error);
    if (a->status == MB_OK && rename(a->from, a->to) != 0) {
        a->status = mb_fail(&a->error, MB_E_IO, errno, "rename '%s'", a->from);
    }
    if (a->status == MB_OK) {
        a->status = sync_at(a->folder, &a->error);
    }
}

/* ---- and back ---------------------------------------------------------------------------- */

static void on_exchange_end(void *arg)
{
    struct arrival *a = arg;
    a->exchange = NULL;
}

static void on_settled(void *arg, bool ran)
{
    struct arrival *a = arg;
    struct mbd_exchange *x = a->exchange;
    (void) ran; /* it is never taken back */
    a->service->n_works--;
    if (a->status == MB_OK && x) { /* nobody could know the id of what nobody was told of */
        a->status = mbd_store_add_file(a->service->store, &a->row, &a->error);
    }
    if (a->status != MB_OK || !x) {
        (void) unlink(a->from);
        (void) unlink(a->to);
    }
    if (x) {
        mbd_exchange_on_end(x, NULL, NULL);
    }
    if (x && a->status == MB_OK) {
        struct mb_file_card card = card_of(&a->row);
        mbd_reply_json(x, 200, mb_file_encode(&card));
    } else if (x) {
        mbd_reply_store_error(x, &a->error, NULL);
    }
    free(a);
}

/* ---- POST /v1/files ---------------------------------------------------------------------- */

static bool take_expiry(struct mbd_exchange *x, const struct mbd_upload *u, int64_t now,
                        int64_t *ret)
{
    const char *anchor = mbd_upload_field(u, "expires_after[anchor]");
    const char *text = mbd_upload_field(u, "expires_after[seconds]");
    char *end = NULL;
    *ret = 0;
    if (!anchor && !text) {
        return true;
    }
    unsigned long n = text ? strtoul(text, &end, 10) : 0;
    if (!anchor || strcmp(anchor, "created_at") != 0) {
        refuse(x, 400, NULL, "expires_after[anchor]",
               "'expires_after[anchor]' must be created_at");
        return false;
    }
    if (!text || text[0] < '0' || text[0] > '9' || *end || n < MB_FILE_EXPIRES_MIN ||
        n > MB_FILE_EXPIRES_MAX) {
        refuse(x, 400, NULL, "expires_after[seconds]",
               "'expires_after[seconds]' must be an integer in 3600..2592000");
        return false;
    }
    *ret = now + (int64_t) n;
    return true;
}

static bool check_purpose(struct mbd_exchange *x, const struct mbd_upload *u)
{
    const char *purpose = mbd_upload_field(u, "purpose");
    if (!purpose || strcmp(purpose, "fine-tune") != 0) {
        refuse(x, 400, NULL, "purpose", "'purpose' must be fine-tune");
        return false;
    }
    return true;
}

/* All files together are bounded, too. */
static bool has_room(struct mbd_exchange *x, const struct mbd_upload *u)
{
    struct mb_error why;
    uint64_t n, bytes;
    const struct mbd_service *s = mbd_exchange_service(x);
    if (mbd_store_files_total(s->store, &n, &bytes, &why) != MB_OK) {
        mbd_reply_store_error(x, &why, NULL);
        return false;
    }
    if (bytes + mbd_upload_bytes(u) > s->options->file_bytes_total || n >= MB_FILES_PAGE_MAX) {
        refuse(x, 400, "storage_full", "file",
               "with this file there would be more than this server keeps "
               "(--file-bytes-total, or 10000 files): delete some");
        return false;
    }
    return true;
}

static struct arrival *arrival_new(struct mbd_exchange *x, const struct mbd_upload *u)
{
    struct mb_error why;
    struct arrival *a = calloc(1, sizeof *a);
    if (!a || mbd_store_new_id("file-", a->row.id, &why) != MB_OK) {
        free(a);
        return NULL;
    }
    a->service = mbd_exchange_service(x);
    a->exchange = x;
    a->row.created = (int64_t) time(NULL);
    a->row.bytes = mbd_upload_bytes(u);
    (void) snprintf(a->row.name, sizeof a->row.name, "%s",
                    mbd_upload_name(u)[0] ? mbd_upload_name(u) : a->row.id);
    (void) snprintf(a->from, sizeof a->from, "%s", mbd_upload_path(u));
    path_of(a->service, a->row.id, a->to);
    path_of(a->service, "", a->folder);
    return a;
}

/* What has expired goes when somebody brings something new. */
static void remove_expired(const struct mbd_service *s)
{
    struct mbd_file_row f;
    char path[PATH_BYTES];
    while (mbd_store_expired_file(s->store, (int64_t) time(NULL), &f, NULL) == MB_OK &&
           mbd_store_delete_file(s->store, f.id, NULL) == MB_OK) {
        path_of(s, f.id, path);
        (void) unlink(path);
    }
}

void mbd_route_create_file(struct mbd_exchange *x)
{
    struct mb_error err;
    struct mbd_upload *u = mbd_exchange_upload(x);
    struct mbd_service *s = mbd_exchange_service(x);
    if (!u) {
        refuse(x, 415, NULL, NULL, "the body must be multipart/form-data");
        return;
    }
    remove_expired(s);
    if (!check_purpose(x, u) || !has_room(x, u)) {
        return;
    }
    struct arrival *a = arrival_new(x, u);
    if (!a) {
        mbd_reply_json(x, 503, NULL);
        return;
    }
    if (!take_expiry(x, u, a->row.created, &a->row.expires)) {
        free(a);
        return;
    }
    if (mbd_work_start(s->loop, settle, on_settled, a, &a->work, &err) != MB_OK) {
        free(a);
        mbd_reply_json(x, 503, NULL);
        return;
    }
    mbd_upload_keep(u);
    s->n_works++;
    mbd_exchange_on_end(x, on_exchange_end, a);
    mbd_exchange_wait(x);
}

/* ---- the others -------------------------------------------------------------------------- */

void mbd_route_files(struct mbd_exchange *x)
{
    struct mbd_page page;
    struct mbd_file_row *rows = NULL;
    struct mb_error err;
    size_t n = 0;
    bool more = false;
    const char *purpose = mbd_exchange_query(x, "purpose");
    if (!mbd_keeps(x) || !mbd_take_page(x, MB_FILES_PAGE_MAX, MB_FILES_PAGE_MAX, &page)) {
        return;
    }
    if (!purpose || strcmp(purpose, "fine-tune") == 0) { /* there are no others */
        if (mbd_store_files(mbd_exchange_service(x)->store, &page, &rows, &n, &more, &err) !=
            MB_OK) {
            mbd_reply_page_error(x, &err);
            return;
        }
    }
    struct mb_file_card *cards = calloc(n ? n : 1, sizeof *cards);
    for (size_t i = 0; cards && i < n; i++) {
        cards[i] = card_of(&rows[i]);
    }
    mbd_reply_json(x, 200, cards ? mb_file_list_encode(cards, n, more) : NULL);
    free(cards);
    free(rows);
}

/* The file of the path; false: it is answered. */
static bool find(struct mbd_exchange *x, struct mbd_file_row *ret)
{
    struct mb_error err;
    if (!mbd_keeps(x)) {
        return false;
    }
    if (mbd_store_file(mbd_exchange_service(x)->store, mbd_exchange_tail(x), ret, &err) !=
        MB_OK) {
        mbd_reply_store_error(x, &err, "file_not_found");
        return false;
    }
    return true;
}

void mbd_route_file(struct mbd_exchange *x)
{
    struct mbd_file_row row;
    if (find(x, &row)) {
        struct mb_file_card card = card_of(&row);
        mbd_reply_json(x, 200, mb_file_encode(&card));
    }
}

void mbd_route_file_content(struct mbd_exchange *x)
{
    struct mbd_file_row row;
    char path[PATH_BYTES];
    if (!find(x, &row)) {
        return;
    }
    path_of(mbd_exchange_service(x), row.id, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        struct mb_error err;
        (void) mb_fail(&err, MB_E_IO, errno, "open '%s'", path);
        mbd_reply_store_error(x, &err, NULL);
        return;
    }
    mbd_reply_file(x, fd, row.bytes, row.name);
}

void mbd_route_delete_file(struct mbd_exchange *x)
{
    struct mbd_file_row row;
    struct mb_error err;
    char path[PATH_BYTES];
    if (!find(x, &row)) {
        return;
    }
    struct mbd_service *s = mbd_exchange_service(x);
    enum mb_status st = mbd_store_delete_file(s->store, row.id, &err);
    if (st == MB_E_UNAVAILABLE) {
        refuse(x, 409, "file_in_use", NULL, err.what);
        return;
    }
    if (st != MB_OK) {
        mbd_reply_store_error(x, &err, "file_not_found");
        return;
    }
    path_of(s, row.id, path);
    (void) unlink(path);
    mbd_reply_json(x, 200, mb_deleted_encode(row.id, "file"));
}
