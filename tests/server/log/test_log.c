/* Goal:   a log line is one line, whatever it is told, and JSON when that was asked for.
 * Method: lines are written into a pipe and read back; JSON with jansson. */
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "server/log/log.h"
#include "tests/check_main.h"

static int ends[2];
static char got[2 * MBD_LOG_LINE_MAX];

static struct mbd_log log_of(enum mbd_log_format format)
{
    return (struct mbd_log) { .level = MBD_LOG_INFO, .format = format, .fd = ends[1] };
}

static void setup(void)
{
    ck_assert_int_eq(pipe(ends), 0);
}

static const char *read_line(void)
{
    (void) close(ends[1]);
    ssize_t n = read(ends[0], got, sizeof got - 1);
    ck_assert_int_ge(n, 0);
    got[n] = '\0';
    (void) close(ends[0]);
    return got;
}

static const char nasty[] = "a \"quoted\"\n=\\line\x1b[31m\x7f \xc3\xa9";

static void write_nasty(const struct mbd_log *log)
{
    struct mbd_line line;
    mbd_line_begin(&line, log, MBD_LOG_WARN, "request");
    mbd_line_text(&line, "plain", "abc-1.2/x");
    mbd_line_text(&line, "nasty", nasty);
    mbd_line_text(&line, "empty", "");
    mbd_line_u64(&line, "status", 200);
    mbd_line_ms(&line, "total_ms", 12345678);
    mbd_line_end(&line);
}

START_TEST(text_is_key_and_value)
{
    struct mbd_log log = log_of(MBD_LOG_TEXT);
    write_nasty(&log);
    const char *line = read_line();
    ck_assert_uint_eq(strcspn(line, "\n"), strlen(line) - 1);
    ck_assert_ptr_null(strchr(line, 0x1b));
    ck_assert_int_eq(strncmp(line, "time=20", 7), 0);
    ck_assert_ptr_nonnull(strstr(line, "Z level=warn event=request plain=abc-1.2/x nasty=\"a "
                                       "\\\"quoted\\\"\\u000a=\\\\line\\u001b[31m\\u007f "
                                       "\xc3\xa9\" empty=\"\" status=200 total_ms=12.346\n"));
}
END_TEST

START_TEST(json_is_json)
{
    struct mbd_log log = log_of(MBD_LOG_JSON);
    write_nasty(&log);
    json_error_t where;
    json_t *root = json_loads(read_line(), 0, &where);
    ck_assert_msg(root != NULL, "%s: %s", where.text, got);
    ck_assert_str_eq(json_string_value(json_object_get(root, "nasty")), nasty);
    ck_assert_str_eq(json_string_value(json_object_get(root, "level")), "warn");
    ck_assert_int_eq(json_integer_value(json_object_get(root, "status")), 200);
    ck_assert(json_real_value(json_object_get(root, "total_ms")) == 12.346);
    json_decref(root);
}
END_TEST

/* A line that is full is cut between escapes, its quotes and braces closed. */
START_TEST(long_lines_are_cut)
{
    char full[MBD_LOG_LINE_MAX];
    struct mbd_log log = log_of(MBD_LOG_JSON);
    struct mbd_line line;
    memset(full, '\n', sizeof full - 1);
    full[sizeof full - 1] = '\0';
    mbd_line_begin(&line, &log, MBD_LOG_ERROR, "x");
    for (int i = 0; i < 8; i++) {
        mbd_line_text(&line, "key", full + (i ? sizeof full - 40 : 0));
        mbd_line_u64(&line, "number", 1);
    }
    mbd_line_end(&line);
    json_t *root = json_loads(read_line(), 0, NULL);
    ck_assert_msg(root != NULL, "%s", got);
    ck_assert_uint_le(strlen(got), MBD_LOG_LINE_MAX);
    json_decref(root);
}
END_TEST

START_TEST(below_the_level_nothing_is_written)
{
    struct mbd_log log = log_of(MBD_LOG_TEXT);
    mbd_log_message(&log, MBD_LOG_DEBUG, "x", "%d", 1);
    mbd_log_message(NULL, MBD_LOG_ERROR, "x", "%d", 1);
    ck_assert_str_eq(read_line(), "");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("log");
    TCase *t = tcase_create("log");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, text_is_key_and_value);
    tcase_add_test(t, json_is_json);
    tcase_add_test(t, long_lines_are_cut);
    tcase_add_test(t, below_the_level_nothing_is_written);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
