#include "clients/http/sse.h"

#include <assert.h>
#include <string.h>

static const char byte_order_mark[] = "\xef\xbb\xbf";
enum { MARK_BYTES = sizeof byte_order_mark - 1 };

void mbc_sse_init(struct mbc_sse *s, size_t data_max, mbc_sse_event_fn *event, void *self)
{
    assert(event);
    *s = (struct mbc_sse) { .event = event, .self = self, .data_max = data_max };
}

void mbc_sse_fini(struct mbc_sse *s)
{
    mb_bytes_fini(&s->data);
}

static bool is_data(const struct mbc_sse *s)
{
    return s->n_name == 4 && memcmp(s->name, "data", 4) == 0;
}

/* A field without a colon has an empty value; so "data" alone is a line of data. */
static void begin_data(struct mbc_sse *s)
{
    if (s->has_data) {
        mb_bytes_put_u8(&s->data, '\n');
    }
    s->has_data = true;
}

/* The empty line: the event is whole. One without data is none. */
static enum mb_status dispatch(struct mbc_sse *s, struct mb_error *err)
{
    if (!s->has_data) {
        return MB_OK;
    }
    const char *text = mb_bytes_text(&s->data);
    if (s->data.failed) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for an event of the stream");
    }
    bool more = s->event(s->self, text, s->data.len);
    mb_bytes_clear(&s->data);
    s->has_data = false;
    return more ? MB_OK : mb_fail(err, MB_E_CANCELLED, 0, "the stream was left");
}

static enum mb_status end_line(struct mbc_sse *s, struct mb_error *err)
{
    enum mb_status st = MB_OK;
    if (s->n_line == 0) {
        st = dispatch(s, err);
    } else if (!s->in_value && is_data(s)) {
        begin_data(s);
    }
    s->n_line = s->n_name = s->n_value = 0;
    s->in_value = false;
    return st;
}

static void take_name(struct mbc_sse *s, char c)
{
    s->n_line++;
    if (c == ':') {
        s->in_value = true;
        if (is_data(s)) {
            begin_data(s);
        }
    } else if (s->n_name < sizeof s->name) {
        s->name[s->n_name++] = c; /* longer names are none that matter */
    }
}

/* What of n bytes at is of the value under way, up to the line's end. Returns how many. */
static size_t take_value(struct mbc_sse *s, const char *at, size_t n)
{
    size_t len = 0;
    while (len < n && at[len] != '\n' && at[len] != '\r') {
        len++;
    }
    if (is_data(s)) {
        size_t skip = s->n_value == 0 && at[0] == ' ';
        mb_bytes_put(&s->data, at + skip, len - skip);
    }
    s->n_value += len;
    return len;
}

/* Bytes of a byte order mark at the stream's start. One that breaks off was none, but then its
 * first byte is no name that matters either. */
static size_t skip_mark(struct mbc_sse *s, const char *at, size_t n)
{
    size_t i = 0;
    while (s->bom_seen < MARK_BYTES && i < n) {
        if (at[i] != byte_order_mark[s->bom_seen]) {
            s->n_line = s->bom_seen;
            s->n_name = s->bom_seen;
            memcpy(s->name, byte_order_mark, s->bom_seen);
            s->bom_seen = MARK_BYTES;
            break;
        }
        s->bom_seen++;
        i++;
    }
    return i;
}

enum mb_status mbc_sse_feed(struct mbc_sse *s, const char *at, size_t n, struct mb_error *err)
{
    enum mb_status st = MB_OK;
    size_t i = skip_mark(s, at, n);
    while (i < n && st == MB_OK) {
        char c = at[i];
        if (c == '\n' && s->after_cr) {
            s->after_cr = false;
            i++;
        } else if (c == '\n' || c == '\r') {
            s->after_cr = c == '\r';
            st = end_line(s, err);
            i++;
        } else if (s->in_value) {
            s->after_cr = false;
            i += take_value(s, at + i, n - i);
        } else {
            s->after_cr = false;
            take_name(s, c);
            i++;
        }
        if (st == MB_OK && s->data.len > s->data_max) {
            st = mb_fail(err, MB_E_LIMIT, 0, "an event of the stream has more than %zu bytes",
                         s->data_max);
        }
    }
    return st;
}
