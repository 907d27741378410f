/* Goal:   of every form of data exactly what an assistant says is learned; a bad line is named by
 *         file, line and field.
 * Method: small files, read with a byte tokenizer; the tokens marked to be learned are turned back
 *         into text, and so are those that are only read. */
#include "core/import/examples.h"

#include <string.h>
#include <unistd.h>

#include "tests/check_main.h"
#include "tests/core/tokenizer/small.h"

static char path[64];

static void write_file(const char *text)
{
    (void) snprintf(path, sizeof path, "/tmp/mbool-test-%d.jsonl", (int) getpid());
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs(text, f), 0);
    ck_assert_int_eq(fclose(f), 0);
}

/* A template as simple as they come: <role>content<end>, and <assistant> to speak. */
static enum mb_status chat_text(void *self, const char *messages, size_t n, bool prompt,
                                struct mb_bytes *ret, struct mb_error *err)
{
    const char *at = messages;
    while ((at = strstr(at, "\"role\":\"")) != NULL) {
        int role = 0, content = 0;
        (void) sscanf(at, "\"role\":\"%*[a-z]%n", &role);
        const char *text = strstr(at, "\"content\":\"");
        ck_assert_ptr_nonnull(text);
        (void) sscanf(text, "\"content\":\"%*[^\"]%n", &content);
        mb_bytes_printf(ret, "(%.*s)%.*s<end>", role - 8, at + 8, content - 11, text + 11);
        at = text;
    }
    if (prompt) {
        mb_bytes_put_text(ret, "(assistant)");
    }
    return ret->failed ? MB_E_NOMEM : MB_OK;
}

/* One that says nothing of who is about to speak: before the first message its text is empty. */
static enum mb_status quiet_text(void *self, const char *messages, size_t n, bool prompt,
                                 struct mb_bytes *ret, struct mb_error *err)
{
    return chat_text(self, messages, n, false, ret, err);
}

/* Keeps what it was given last. */
static char given[1024];

static enum mb_status noting_text(void *self, const char *messages, size_t n, bool prompt,
                                  struct mb_bytes *ret, struct mb_error *err)
{
    (void) snprintf(given, sizeof given, "%.*s", (int) n, messages);
    mb_bytes_printf(ret, "%.*s", (int) n - 1, messages);
    return MB_OK;
}

struct rig {
    struct mb_tokenizer *t;
    struct mb_dataset d;
    struct mb_examples_options o;
    struct mb_examples_report report;
    struct mb_error err;
};

static void rig_init(struct rig *r, bool with_template)
{
    memset(r, 0, sizeof *r);
    r->t = small_tokenizer(small_bytes());
    r->o = (struct mb_examples_options) { .tokenizer = r->t,
                                          .window = 200,
                                          .chat_text = with_template ? chat_text : NULL };
}

static void rig_fini(struct rig *r)
{
    mb_dataset_fini(&r->d);
    mb_tokenizer_free(r->t);
    (void) remove(path);
}

static enum mb_status read_text(struct rig *r, const char *text)
{
    write_file(text);
    return mb_examples_read(path, &r->o, &r->d, &r->report, &r->err);
}

/* The tokens of example i that are learned, or are not, as text. */
static void expect(const struct rig *r, size_t i, bool learned, const char *want)
{
    struct mb_bytes got = { 0 };
    ck_assert_uint_lt(i, r->d.n);
    for (size_t j = r->d.start[i]; j < r->d.start[i + 1]; j++) {
        if (r->d.learn[j] == learned) {
            size_t n;
            const uint8_t *at = mb_tokenizer_token_bytes(r->t, r->d.ids.at[j], &n);
            mb_bytes_put(&got, at, n);
        }
    }
    ck_assert_str_eq(mb_bytes_text(&got), want);
    mb_bytes_fini(&got);
}

START_TEST(a_prompt_is_read_and_a_completion_learned)
{
    struct rig r;
    rig_init(&r, false);
    mb_assert_ok(read_text(&r,
                           "\n{\"prompt\": \"say hello\", \"completion\": \" hello you\"}\r\n"
                           "{\"prompt\": \"\", \"completion\": \"all of it\"}"),
                 &r.err);
    ck_assert_uint_eq(r.report.n_lines, 2);
    expect(&r, 0, false, "say hello");
    expect(&r, 0, true, " hello you<end>");
    expect(&r, 1, true, "all of it<end>");
    rig_fini(&r);
}
END_TEST

START_TEST(what_assistants_say_is_learned)
{
    struct rig r;
    const char *chat = "{\"messages\": [{\"role\": \"system\", \"content\": \"be kind\"},"
                       "{\"role\": \"user\", \"content\": \"hi\"},"
                       "{\"role\": \"assistant\", \"content\": \"hello\"},"
                       "{\"role\": \"user\", \"content\": \"and\"},"
                       "{\"role\": \"assistant\", \"content\": \"not this\", \"weight\": 0},"
                       "{\"role\": \"user\", \"content\": \"again\"},"
                       "{\"role\": \"assistant\", \"content\": \"well\"}]}\n";
    rig_init(&r, _i);
    mb_assert_ok(read_text(&r, chat), &r.err);
    if (_i) {
        expect(&r, 0, true, "hello<end>well<end>");
        expect(&r, 0, false,
               "(system)be kind<end>(user)hi<end>(assistant)(user)and<end>"
               "(assistant)not this<end>(user)again<end>(assistant)");
    } else {
        expect(&r, 0, true, "hello\nwell<end>");
        expect(&r, 0, false, "be kind\nhi\nand\nnot this\nagain\n");
    }
    rig_fini(&r);
}
END_TEST

START_TEST(what_does_not_fit_is_cut_or_left_out)
{
    struct rig r;
    rig_init(&r, false);
    r.o.window = 12;
    mb_assert_ok(read_text(&r, "{\"prompt\": \"abcdefg\", \"completion\": \"hijklmnopqrs\"}\n"
                               "{\"prompt\": \"abcdefghijklmn\", \"completion\": \"o\"}\n"),
                 &r.err);
    ck_assert_uint_eq(r.report.n_lines, 1);
    ck_assert_uint_eq(r.report.n_skipped, 1);
    ck_assert_uint_eq(r.report.n_cut, 2);
    expect(&r, 0, true, "hijkl");
    rig_fini(&r);
}
END_TEST

/* Where there is no text yet, there is no memory for it either: sanitizers look. */
START_TEST(empty_texts_are_read)
{
    static const char *const texts[] = { "", "{\"prompt\": \"\", \"completion\": \"\"}\n" };
    for (size_t i = 0; i < 2; i++) {
        struct rig r;
        rig_init(&r, false);
        ck_assert_int_eq(read_text(&r, texts[i]), MB_E_INVALID);
        rig_fini(&r);
    }
    struct rig r;
    rig_init(&r, true);
    const char *first = "{\"messages\": [{\"role\": \"assistant\", \"content\": \"x\"}]}";
    r.o.chat_text = quiet_text;
    mb_assert_ok(read_text(&r, first), &r.err);
    expect(&r, 0, true, "(assistant)x<end>");
    rig_fini(&r);
}
END_TEST

START_TEST(calls_are_given_as_templates_expect)
{
    struct rig r;
    rig_init(&r, true);
    r.o.window = 2000;
    r.o.chat_text = noting_text;
    mb_assert_ok(
        read_text(&r, "{\"messages\": [{\"role\": \"assistant\", \"tool_calls\": ["
                      "{\"function\": {\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}},"
                      "{\"function\": {\"name\": \"g\", \"arguments\": \"none\"}}]}]}"),
        &r.err);
    ck_assert_str_eq(given, "[{\"role\":\"assistant\",\"tool_calls\":["
                            "{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}},"
                            "{\"function\":{\"name\":\"g\",\"arguments\":\"none\"}}],"
                            "\"content\":null}]");
    rig_fini(&r);
}
END_TEST

START_TEST(text_is_told_from_lines)
{
    struct rig r;
    rig_init(&r, false);
    mb_assert_ok(read_text(&r, "once upon a time\n<|endoftext|>\n{not json}\n"), &r.err);
    ck_assert_uint_eq(r.report.n_lines, 0);
    ck_assert_uint_eq(r.d.n, 2);
    expect(&r, 1, true, "{not json}<end>");
    rig_fini(&r);
}
END_TEST

static const struct bad {
    const char *text, *where; /* every word of where is in the message, parted by | */
    enum mb_status status;
} bad[] = {
    { "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": 3}\n", "line 2|prompt",
      MB_E_FORMAT },
    { "{\"prompt\": \"a\"}\n", "line 1|completion", MB_E_FORMAT },
    { "\n\n{\"text\": \"a\"}\n", "line 3|messages", MB_E_FORMAT },
    { "{\"messages\": []}\n", "line 1|messages", MB_E_FORMAT },
    { "{\"messages\": {}}\n", "line 1|messages", MB_E_FORMAT },
    { "{\"messages\": [3]}\n", "line 1|messages[0]|object", MB_E_FORMAT },
    { "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"bot\", "
      "\"content\": \"b\"}]}\n",
      "line 1|messages[1]|role|bot", MB_E_FORMAT },
    { "{\"messages\": [{\"role\": \"assistant\"}]}\n", "line 1|messages[0]|content",
      MB_E_FORMAT },
    { "{\"messages\": [{\"content\": \"a\"}]}\n", "line 1|messages[0]|role", MB_E_FORMAT },
    { "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\", \"weight\": 2}]}\n",
      "line 1|messages[0]|weight", MB_E_FORMAT },
    { "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n", "line 1|assistant",
      MB_E_FORMAT },
    { "{\"prompt\": \"a\", \"completion\": \"b\"}\n{oops\n", "line 2", MB_E_FORMAT },
    { "{\"prompt\": \"a\", \"completion\": \"b\"} x\n", "line 1", MB_E_FORMAT },
    { "", "two tokens", MB_E_INVALID },
    { "\n \n", "", MB_E_INVALID },
};

START_TEST(a_bad_line_is_named)
{
    struct rig r;
    char words[128];
    rig_init(&r, false);
    enum mb_status st = read_text(&r, bad[_i].text);
    ck_assert_msg(st == bad[_i].status ||
                      (bad[_i].status == MB_E_INVALID && st == MB_E_INVALID),
                  "case %d: %s: %s", _i, mb_status_name(st), r.err.what);
    ck_assert_ptr_nonnull(strstr(r.err.what, path));
    (void) snprintf(words, sizeof words, "%s", bad[_i].where);
    for (char *word = strtok(words, "|"); word; word = strtok(NULL, "|")) {
        ck_assert_msg(strstr(r.err.what, word) != NULL, "case %d: '%s' is not in: %s", _i, word,
                      r.err.what);
    }
    rig_fini(&r);
}
END_TEST

START_TEST(a_file_that_is_not_there_is_named)
{
    struct rig r;
    rig_init(&r, false);
    ck_assert_int_eq(mb_examples_read("no/such.jsonl", &r.o, &r.d, &r.report, &r.err),
                     MB_E_NOTFOUND);
    ck_assert_ptr_nonnull(strstr(r.err.what, "no/such.jsonl"));
    rig_fini(&r);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("examples");
    TCase *t = tcase_create("files");
    tcase_add_test(t, a_prompt_is_read_and_a_completion_learned);
    tcase_add_loop_test(t, what_assistants_say_is_learned, 0, 2);
    tcase_add_test(t, what_does_not_fit_is_cut_or_left_out);
    tcase_add_test(t, empty_texts_are_read);
    tcase_add_test(t, calls_are_given_as_templates_expect);
    tcase_add_test(t, text_is_told_from_lines);
    tcase_add_loop_test(t, a_bad_line_is_named, 0, sizeof bad / sizeof bad[0]);
    tcase_add_test(t, a_file_that_is_not_there_is_named);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
