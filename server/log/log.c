#include "server/log/log.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The last three bytes are kept for '"', '}' and the end of the line. */
enum { LIMIT = MBD_LOG_LINE_MAX - 3 };

static const char *const level_names[] = { "debug", "info", "warn", "error" };

/* All of it or nothing, so that an escape is never cut. */
static void put(struct mbd_line *line, const char *text, size_t n)
{
    if (line->n + n <= LIMIT) {
        memcpy(line->text + line->n, text, n);
        line->n += n;
    }
}

static void put_text(struct mbd_line *line, const char *text)
{
    put(line, text, strlen(text));
}

/* Escapes as JSON does, in both formats; what is not printable ASCII or UTF-8's upper half
 * becomes \u00xx, so that no value can start a line or an escape sequence of its own. */
static void put_escaped(struct mbd_line *line, const char *text)
{
    for (const unsigned char *c = (const unsigned char *) text; *c; c++) {
        char code[8];
        if (*c == '"' || *c == '\\') {
            code[0] = '\\';
            code[1] = (char) *c;
            put(line, code, 2);
        } else if (*c < 0x20 || *c == 0x7f) {
            put(line, code, (size_t) snprintf(code, sizeof code, "\\u%04x", (unsigned) *c));
        } else {
            put(line, (const char *) c, 1);
        }
    }
}

static bool is_plain(const char *text)
{
    for (const char *c = text; *c; c++) {
        if (*c <= ' ' || *c == '"' || *c == '=' || *c == '\\' || *c > '~') {
            return false;
        }
    }
    return *text != '\0';
}

/* false when the line is full: the field is then left out. */
static bool put_key(struct mbd_line *line, const char *key, size_t n_value)
{
    if (!line->log || line->n + strlen(key) + n_value + 6 > LIMIT) {
        return false;
    }
    bool json = line->log->format == MBD_LOG_JSON;
    put_text(line, json ? (line->n ? ",\"" : "{\"") : (line->n ? " " : ""));
    put_text(line, key);
    put_text(line, json ? "\":" : "=");
    return true;
}

void mbd_line_begin(struct mbd_line *line, const struct mbd_log *log, enum mbd_log_level level,
                    const char *event)
{
    line->n = 0;
    line->log = log && level >= log->level ? log : NULL;
    if (!line->log) {
        return;
    }
    struct timespec now;
    struct tm utc;
    char date[32], stamp[48];
    (void) clock_gettime(CLOCK_REALTIME, &now);
    (void) gmtime_r(&now.tv_sec, &utc);
    (void) strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
    (void) snprintf(stamp, sizeof stamp, "%s.%03dZ", date, (int) (now.tv_nsec / 1000000));
    mbd_line_text(line, "time", stamp);
    mbd_line_text(line, "level", level_names[level]);
    mbd_line_text(line, "event", event);
}

void mbd_line_text(struct mbd_line *line, const char *key, const char *value)
{
    if (!put_key(line, key, 0)) {
        return;
    }
    bool quoted = line->log->format == MBD_LOG_JSON || !is_plain(value);
    put_text(line, quoted ? "\"" : "");
    put_escaped(line, value);
    if (quoted) { /* what was opened is closed, even when the value was cut */
        line->text[line->n++] = '"';
    }
}

static void put_bare(struct mbd_line *line, const char *key, const char *value)
{
    if (put_key(line, key, strlen(value))) {
        put_text(line, value);
    }
}

void mbd_line_u64(struct mbd_line *line, const char *key, uint64_t value)
{
    char text[24];
    (void) snprintf(text, sizeof text, "%llu", (unsigned long long) value);
    put_bare(line, key, text);
}

void mbd_line_ms(struct mbd_line *line, const char *key, uint64_t ns)
{
    char text[32];
    (void) snprintf(text, sizeof text, "%.3f", (double) ns / 1e6);
    put_bare(line, key, text);
}

void mbd_line_end(struct mbd_line *line)
{
    if (!line->log) {
        return;
    }
    if (line->log->format == MBD_LOG_JSON) {
        line->text[line->n++] = '}';
    }
    line->text[line->n++] = '\n';
    assert(line->n <= MBD_LOG_LINE_MAX);
    /* Nowhere to complain when standard error is gone. */
    ssize_t n = write(line->log->fd, line->text, line->n);
    (void) n;
}

void mbd_log_message(const struct mbd_log *log, enum mbd_log_level level, const char *event,
                     const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(text, sizeof text, fmt, args) < 0) {
        text[0] = '\0';
    }
    va_end(args);

    struct mbd_line line;
    mbd_line_begin(&line, log, level, event);
    mbd_line_text(&line, "message", text);
    mbd_line_end(&line);
}
