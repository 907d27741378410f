#include "core/finetune/state.h"

#include <string.h>

#include "core/base/checksum.h"
#include "core/base/file.h"

static const char MAGIC[8] = { 'M', 'B', 'T', 'R', 'A', 'I', 'N', '1' };

struct sink {
    struct mb_file_writer *w;
    struct mb_checksum_state *sum;
};

static enum mb_status put(void *self, const struct mb_bytes *piece, struct mb_error *err)
{
    struct sink *s = self;
    mb_checksum_update(s->sum, piece->at, piece->len);
    return mb_file_writer_put(s->w, piece->at, piece->len, err);
}

static enum mb_status put_all(struct sink *s, const struct mb_bytes *key,
                              const struct mb_batches *b, const struct mb_trainer *t,
                              struct mb_error *err)
{
    struct mb_bytes head = { 0 };
    mb_bytes_put(&head, MAGIC, sizeof MAGIC);
    mb_bytes_put_u64(&head, key->len);
    mb_bytes_put(&head, key->at, key->len);
    mb_bytes_put_u64(&head, b->epoch);
    mb_bytes_put_u64(&head, b->at);
    enum mb_status st = head.failed ? mb_fail(err, MB_E_NOMEM, 0, "no memory for a snapshot")
                                    : put(s, &head, err);
    if (st == MB_OK) {
        st = mb_trainer_save(t, put, s, err);
    }
    if (st == MB_OK) {
        mb_bytes_clear(&head);
        mb_bytes_put_u64(&head, mb_checksum_digest(s->sum));
        st = mb_file_writer_put(s->w, head.at, head.len, err);
    }
    mb_bytes_fini(&head);
    return st;
}

enum mb_status mb_train_state_write(const char *path, const struct mb_bytes *key,
                                    const struct mb_batches *b, const struct mb_trainer *t,
                                    struct mb_error *err)
{
    struct sink s = { .sum = mb_checksum_new() };
    enum mb_status st = s.sum ? mb_file_writer_open(path, &s.w, err)
                              : mb_fail(err, MB_E_NOMEM, 0, "no memory for a snapshot");
    if (st == MB_OK) {
        st = put_all(&s, key, b, t, err);
        if (st == MB_OK) {
            st = mb_file_writer_commit(s.w, err);
        } else {
            mb_file_writer_abort(s.w);
        }
    }
    mb_checksum_free(s.sum);
    return st;
}

/* The first line in which two keys differ, as this training has it. */
static enum mb_status differs(const struct mb_bytes *key, const uint8_t *found, size_t n,
                              const char *path, struct mb_error *err)
{
    size_t same = 0;
    while (same < key->len && same < n && key->at[same] == found[same]) {
        same++;
    }
    while (same > 0 && key->at[same - 1] != '\n') {
        same--;
    }
    const uint8_t *end = memchr(key->at + same, '\n', key->len - same);
    size_t len = end ? (size_t) (end - key->at) - same : key->len - same;
    return mb_fail(err, MB_E_INVALID, 0, "'%s' is of another training, without: %.*s", path,
                   (int) (len < 160 ? len : 160), (const char *) key->at + same);
}

static enum mb_status take(const struct mb_file_map *file, const char *path,
                           const struct mb_bytes *key, struct mb_batches *b,
                           struct mb_trainer *t, struct mb_error *err)
{
    const size_t sum_bytes = sizeof(uint64_t);
    size_t n = file->n > sum_bytes ? file->n - sum_bytes : 0;
    struct mb_cursor sum = mb_cursor_of(file->at + n, file->n - n);
    struct mb_cursor c = mb_cursor_of(file->at, n);
    const uint8_t *magic = mb_cursor_take(&c, sizeof MAGIC);
    if (!magic || memcmp(magic, MAGIC, sizeof MAGIC) != 0 ||
        mb_cursor_u64(&sum) != mb_checksum(file->at, n)) {
        return mb_fail(err, MB_E_FORMAT, 0, "'%s' is not a training's state, or is damaged",
                       path);
    }
    uint64_t key_len = mb_cursor_u64(&c);
    const uint8_t *found = key_len <= c.left ? mb_cursor_take(&c, key_len) : NULL;
    if (!found || key_len != key->len || memcmp(found, key->at, key->len) != 0) {
        return differs(key, found, found ? key_len : 0, path, err);
    }
    uint64_t epoch = mb_cursor_u64(&c), at = mb_cursor_u64(&c);
    if (c.failed || !mb_batches_seek(b, epoch, at)) {
        return mb_fail(err, MB_E_FORMAT, 0, "'%s' is beyond its data", path);
    }
    return mb_trainer_load(t, &c, err);
}

enum mb_status mb_train_state_read(const char *path, const struct mb_bytes *key,
                                   struct mb_batches *b, struct mb_trainer *t,
                                   struct mb_error *err)
{
    struct mb_file_map file;
    enum mb_status st = mb_file_map(path, &file, err);
    if (st == MB_OK) {
        st = take(&file, path, key, b, t, err);
        mb_file_unmap(&file);
    }
    return st;
}
