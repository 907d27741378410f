/* What happened, one line each, on standard error: key=value, or JSON.
 *
 *     time=2026-01-31T12:00:00.123Z level=info event=request id=4f... status=200 total_ms=12.3
 *
 * Never prompts, completions or keys. A line is one write; what does not fit is cut.
 *
 * Threads: lines may be written from any thread, each built on its own thread's stack. */
#ifndef MBD_LOG_H
#define MBD_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/config/options.h"

#define MBD_LOG_LINE_MAX 2048

struct mbd_log {
    enum mbd_log_level level; /* below it, nothing is written */
    enum mbd_log_format format;
    int fd;
};

/* A line being built. */
struct mbd_line {
    const struct mbd_log *log; /* NULL: it is not to be written, and all below do nothing */
    size_t n;
    char text[MBD_LOG_LINE_MAX];
};

void mbd_line_begin(struct mbd_line *line, const struct mbd_log *log, enum mbd_log_level level,
                    const char *event);
void mbd_line_text(struct mbd_line *line, const char *key, const char *value);
void mbd_line_u64(struct mbd_line *line, const char *key, uint64_t value);
void mbd_line_ms(struct mbd_line *line, const char *key, uint64_t ns); /* 12.345 */
void mbd_line_end(struct mbd_line *line);

/* A line with one text: event and message. */
void mbd_log_message(const struct mbd_log *log, enum mbd_log_level level, const char *event,
                     const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#endif
