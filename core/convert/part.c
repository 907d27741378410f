#include "core/convert/part.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/checksum.h"
#include "core/base/file.h"
#include "core/base/memory.h"

#define MAGIC "MBPART1\n"

struct record {
    const char *name; /* [name_len], in the mapping */
    size_t name_len;
    struct mb_part_piece data;
    uint64_t end; /* in the file */
};

struct mb_part {
    int fd;
    char path[PATH_MAX];
    struct mb_file_map map; /* as found */
    struct record *records; /* [found]; those before next are taken */
    size_t found, next, n_added;
    uint64_t end; /* of what is good and taken or added; writing goes on there */
};

/* Writes all of it where the file stands, and counts it. */
static enum mb_status put(struct mb_part *p, struct mb_checksum_state *sum, const void *at,
                          size_t n, struct mb_error *err)
{
    const uint8_t *from = at;
    mb_checksum_update(sum, at, n);
    while (n > 0) {
        ssize_t k = pwrite(p->fd, from, n, (off_t) p->end);
        if (k < 0 && errno == EINTR) {
            continue;
        }
        if (k <= 0) {
            return mb_fail(err, MB_E_IO, errno, "write '%s'", p->path);
        }
        from += k;
        n -= (size_t) k;
        p->end += (uint64_t) k;
    }
    return MB_OK;
}

/* The pieces and their checksum, synced; or the file as it was. */
static enum mb_status put_summed(struct mb_part *p, const struct mb_part_piece *pieces,
                                 size_t n_pieces, struct mb_error *err)
{
    uint64_t begin = p->end;
    struct mb_bytes tail = { 0 };
    struct mb_checksum_state *sum = mb_checksum_new();
    enum mb_status st =
        sum ? MB_OK : mb_fail(err, MB_E_NOMEM, 0, "no memory to write '%s'", p->path);
    for (size_t i = 0; st == MB_OK && i < n_pieces; i++) {
        st = put(p, sum, pieces[i].at, pieces[i].n, err);
    }
    if (st == MB_OK) {
        mb_bytes_put_u64(&tail, mb_checksum_digest(sum));
        st = tail.failed ? mb_fail(err, MB_E_NOMEM, 0, "no memory to write '%s'", p->path)
                         : put(p, sum, tail.at, tail.len, err);
    }
    if (st == MB_OK && fdatasync(p->fd) < 0) {
        st = mb_fail(err, MB_E_IO, errno, "sync '%s'", p->path);
    }
    if (st != MB_OK) {
        p->end = begin;
        (void) ftruncate(p->fd, (off_t) begin); /* a torn record would be dropped as well */
    }
    mb_bytes_fini(&tail);
    mb_checksum_free(sum);
    return st;
}

static enum mb_status begin_anew(struct mb_part *p, const struct mb_bytes *key,
                                 struct mb_error *err)
{
    struct mb_bytes head = { 0 };
    p->end = 0;
    mb_bytes_put_text(&head, MAGIC);
    mb_bytes_put_u64(&head, key->len);
    enum mb_status st = MB_OK;
    if (head.failed) {
        st = mb_fail(err, MB_E_NOMEM, 0, "no memory to write '%s'", p->path);
    } else if (ftruncate(p->fd, 0) < 0) {
        st = mb_fail(err, MB_E_IO, errno, "empty '%s'", p->path);
    } else {
        struct mb_part_piece pieces[] = { { head.at, head.len }, { key->at, key->len } };
        st = put_summed(p, pieces, 2, err);
    }
    mb_bytes_fini(&head);
    return st;
}

/* Is what lies between begin and the cursor followed by its checksum? Moves behind that. */
static bool is_whole(struct mb_cursor *c, const uint8_t *begin)
{
    if (c->failed) {
        return false;
    }
    uint64_t sum = mb_checksum(begin, (size_t) (c->at - begin));
    return mb_cursor_u64(c) == sum && !c->failed;
}

static bool read_header(struct mb_cursor *c, const struct mb_bytes *key)
{
    const uint8_t *begin = c->at, *magic = mb_cursor_take(c, strlen(MAGIC));
    if (!magic || memcmp(magic, MAGIC, strlen(MAGIC)) != 0 || mb_cursor_u64(c) != key->len) {
        return false;
    }
    const uint8_t *text = mb_cursor_take(c, key->len);
    return text && memcmp(text, key->at, key->len) == 0 && is_whole(c, begin);
}

static bool read_record(struct mb_cursor *c, struct record *ret)
{
    const uint8_t *begin = c->at;
    uint32_t name_len = mb_cursor_u32(c);
    uint64_t n = mb_cursor_u64(c);
    *ret = (struct record) { .name_len = name_len, .data.n = n };
    ret->name = (const char *) mb_cursor_take(c, name_len);
    ret->data.at = mb_cursor_take(c, n);
    return is_whole(c, begin);
}

/* Two walks: to count the whole records, and to keep them. */
static enum mb_status find_records(struct mb_part *p, struct mb_cursor c, struct mb_error *err)
{
    struct mb_cursor walk = c;
    struct record r;
    size_t n = 0;
    p->end = (uint64_t) (c.at - p->map.at);
    while (walk.left > 0 && read_record(&walk, &r)) {
        n++;
    }
    p->records = mb_alloc(n, sizeof *p->records);
    if (!p->records) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory to read '%s'", p->path);
    }
    for (; p->found < n; p->found++) {
        (void) read_record(&c, &p->records[p->found]);
        p->records[p->found].end = (uint64_t) (c.at - p->map.at);
    }
    return MB_OK;
}

/* Locked, so that two conversions to one output do not mix. */
static enum mb_status lock(struct mb_part *p, struct mb_error *err)
{
    struct stat sb;
    p->fd = open(p->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
    if (p->fd < 0 || fstat(p->fd, &sb) < 0) {
        return mb_fail(err, MB_E_IO, errno, "create '%s'", p->path);
    }
    if (!S_ISREG(sb.st_mode)) {
        return mb_fail(err, MB_E_INVALID, 0, "'%s' is not a regular file", p->path);
    }
    if (flock(p->fd, LOCK_EX | LOCK_NB) < 0) {
        return errno == EWOULDBLOCK ? mb_fail(err, MB_E_UNAVAILABLE, 0,
                                              "another conversion is at work on '%s'", p->path)
                                    : mb_fail(err, MB_E_IO, errno, "lock '%s'", p->path);
    }
    return MB_OK;
}

static void part_free(struct mb_part *p)
{
    mb_file_unmap(&p->map);
    mb_free(p->records);
    if (p->fd >= 0) {
        (void) close(p->fd); /* and unlock */
    }
    mb_free(p);
}

enum mb_status mb_part_open(const char *output, const struct mb_bytes *key, bool anew,
                            struct mb_part **ret, struct mb_error *err)
{
    struct mb_part *p = mb_alloc(1, sizeof *p);
    if (!p) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a part file");
    }
    p->fd = -1;
    int n = snprintf(p->path, sizeof p->path, "%s.part", output);
    enum mb_status st =
        n > 0 && (size_t) n < sizeof p->path
            ? lock(p, err)
            : mb_fail(err, MB_E_INVALID, 0, "the path is too long: '%.200s'", output);
    if (st == MB_OK) {
        st = mb_file_map(p->path, &p->map, err);
    }
    if (st == MB_OK) {
        struct mb_cursor c = mb_cursor_of(p->map.at, p->map.n);
        if (!anew && p->map.n > 0 && read_header(&c, key)) {
            st = find_records(p, c, err);
        } else {
            mb_file_unmap(&p->map); /* before it is cut short */
            st = begin_anew(p, key, err);
        }
    }
    if (st != MB_OK) {
        part_free(p);
        return st;
    }
    *ret = p;
    return MB_OK;
}

size_t mb_part_found(const struct mb_part *p)
{
    return p->found;
}

static bool is_named(const struct record *r, const char *name)
{
    return strlen(name) == r->name_len && memcmp(name, r->name, r->name_len) == 0;
}

struct mb_part_piece mb_part_next(const struct mb_part *p, const char *name)
{
    bool is_next = p->next < p->found && is_named(&p->records[p->next], name);
    return is_next ? p->records[p->next].data : (struct mb_part_piece) { 0 };
}

void mb_part_pass(struct mb_part *p)
{
    assert(p->next < p->found);
    p->end = p->records[p->next++].end;
}

enum mb_status mb_part_add(struct mb_part *p, const char *name,
                           const struct mb_part_piece *pieces, size_t n_pieces,
                           struct mb_error *err)
{
    struct mb_part_piece all[2 + MB_PART_PIECES_MAX];
    struct mb_bytes head = { 0 };
    uint64_t n = 0;
    assert(n_pieces <= MB_PART_PIECES_MAX);
    for (size_t i = 0; i < n_pieces; i++) {
        all[2 + i] = pieces[i];
        n += pieces[i].n;
    }
    mb_bytes_put_u32(&head, (uint32_t) strlen(name));
    mb_bytes_put_u64(&head, n);
    all[0] = (struct mb_part_piece) { head.at, head.len };
    all[1] = (struct mb_part_piece) { name, strlen(name) };
    p->found = p->next; /* the rest is cut off */
    enum mb_status st = MB_OK;
    if (head.failed) {
        st = mb_fail(err, MB_E_NOMEM, 0, "no memory to write '%s'", p->path);
    } else if (ftruncate(p->fd, (off_t) p->end) < 0) {
        st = mb_fail(err, MB_E_IO, errno, "shorten '%s'", p->path);
    } else {
        st = put_summed(p, all, 2 + n_pieces, err);
    }
    p->n_added += st == MB_OK;
    mb_bytes_fini(&head);
    return st;
}

void mb_part_keep(struct mb_part *p)
{
    if (p && p->found == 0 && p->n_added == 0) {
        mb_part_remove(p);
    } else if (p) {
        part_free(p);
    }
}

void mb_part_remove(struct mb_part *p)
{
    if (p) {
        (void) unlink(p->path); /* while locked: the name is still ours */
        part_free(p);
    }
}
