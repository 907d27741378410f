/* Each string has its own Knuth-Morris-Pratt automaton. Its state is the length of the longest
 * suffix of the text that is a prefix of the string; what must be held back is the largest
 * state of all. */
#include "core/infer/stop.h"

#include <assert.h>
#include <string.h>

#include "core/base/memory.h"

struct stop {
    uint16_t n;
    uint16_t state;
    uint8_t *text;  /* [n] */
    uint16_t *fail; /* [n]: fail[i] is the longest proper border of text[0..i] */
};

struct mb_stops {
    size_t n;
    struct stop stops[MB_STOPS_MAX];
    size_t n_held;
    uint8_t held[MB_STOP_BYTES_MAX];
};

/* The state after byte c. */
static uint16_t advance(const struct stop *s, uint16_t state, uint8_t c)
{
    while (state > 0 && s->text[state] != c) {
        state = s->fail[state - 1];
    }
    return (uint16_t) (state + (s->text[state] == c));
}

static bool stop_init(struct stop *s, const struct mb_stop_text *text)
{
    *s = (struct stop) {
        .n = (uint16_t) text->n,
        .text = mb_alloc(text->n, sizeof *s->text),
        .fail = mb_alloc(text->n, sizeof *s->fail),
    };
    if (!s->text || !s->fail) {
        return false;
    }
    memcpy(s->text, text->at, text->n);
    for (uint16_t i = 1; i < s->n; i++) {
        s->fail[i] = advance(s, s->fail[i - 1], s->text[i]);
    }
    return true;
}

enum mb_status mb_stops_new(const struct mb_stop_text *texts, size_t n, struct mb_stops **ret,
                            struct mb_error *err)
{
    if (n > MB_STOPS_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "stop: %zu strings; at most %d", n, MB_STOPS_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        if (texts[i].n < 1 || texts[i].n > MB_STOP_BYTES_MAX) {
            return mb_fail(err, MB_E_INVALID, 0,
                           "stop: string %zu has %zu bytes, outside 1..%u", i + 1, texts[i].n,
                           MB_STOP_BYTES_MAX);
        }
    }
    struct mb_stops *s = mb_alloc(1, sizeof *s);
    bool made = s != NULL;
    for (size_t i = 0; made && i < n; i++) {
        s->n = i + 1; /* counted first, so that a half-made one is freed too */
        made = stop_init(&s->stops[i], &texts[i]);
    }
    if (!made) {
        mb_stops_free(s);
        return mb_fail(err, MB_E_NOMEM, 0, "stop: no memory");
    }
    *ret = s;
    return MB_OK;
}

void mb_stops_free(struct mb_stops *s)
{
    if (!s) {
        return;
    }
    for (size_t i = 0; i < s->n; i++) {
        mb_free(s->stops[i].text);
        mb_free(s->stops[i].fail);
    }
    mb_free(s);
}

/* Feeds one byte to all automata; the length of the longest string that it completes, or 0. */
static size_t feed_byte(struct mb_stops *s, uint8_t c)
{
    size_t met = 0;
    for (size_t i = 0; i < s->n; i++) {
        struct stop *p = &s->stops[i];
        p->state = advance(p, p->state, c);
        met = p->state == p->n && p->n > met ? p->n : met;
    }
    return met;
}

bool mb_stops_feed(struct mb_stops *s, const char *text, size_t n, struct mb_bytes *ret)
{
    mb_bytes_put(ret, s->held, s->n_held);
    mb_bytes_put(ret, text, n);
    if (ret->failed) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        size_t met = feed_byte(s, (uint8_t) text[i]);
        if (met > 0) {
            ret->len -= n - 1 - i + met;
            s->n_held = 0;
            return true;
        }
    }
    s->n_held = 0;
    for (size_t i = 0; i < s->n; i++) {
        s->n_held = s->stops[i].state > s->n_held ? s->stops[i].state : s->n_held;
    }
    assert(s->n_held < MB_STOP_BYTES_MAX);
    if (s->n_held > 0) {
        ret->len -= s->n_held;
        memcpy(s->held, ret->at + ret->len, s->n_held);
    }
    return false;
}

void mb_stops_finish(struct mb_stops *s, struct mb_bytes *ret)
{
    mb_bytes_put(ret, s->held, s->n_held);
    s->n_held = 0;
}
