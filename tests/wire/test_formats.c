/* Goal:   an answer with a response_format is what the format says, whole or as a stream, whoever else
 *         runs; and what can not be honoured is refused before the answer begins.
 * Method: a model of random weights, which left alone never says JSON; jansson and counts by hand
 *         judge. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "tests/check_main.h"
#include "tests/support/model_file.h"
#include "tests/wire/daemon.h"

static struct wire_daemon d;

static void setup(void)
{
    static const char *const flags[] = { "--max-sequences=4", "--queue-requests=64",
                                         "--kv-memory=64M", NULL };
    d = wire_start(flags);
}

static void teardown(void)
{
    wire_stop(&d);
}

#define PERSON                                                                         \
    "{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"person\",\"strict\":true,"  \
    "\"schema\":{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\","   \
    "\"maxLength\":9},\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":120},"   \
    "\"kind\":{\"enum\":[\"cat\",\"dog\"]}},\"required\":[\"name\",\"age\",\"kind\"]," \
    "\"additionalProperties\":false}}}"

static json_t *ask(const char *format, const char *more, int status)
{
    char body[4096];
    (void) snprintf(body, sizeof body,
                    "{\"prompt\":\"x\",\"max_tokens\":3000,\"response_format\":%s%s}", format,
                    more);
    struct wire_reply r = wire_ask(&d, "/v1/completions", body);
    ck_assert_msg(r.status == status, "%s: %s%s", body, r.head, r.body);
    json_t *root = json_loads(r.body, 0, NULL);
    ck_assert_msg(root != NULL, "%s", r.body);
    wire_reply_free(&r);
    return root;
}

static const json_t *choice_of(const json_t *root)
{
    return json_array_get(json_object_get(root, "choices"), 0);
}

static const char *string_of(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

static void check_person(const char *text)
{
    json_t *person = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_msg(person != NULL, "%s", text);
    const char *kind = string_of(person, "kind");
    json_int_t age = json_integer_value(json_object_get(person, "age"));
    ck_assert_uint_eq(json_object_size(person), 3);
    ck_assert(json_is_string(json_object_get(person, "name")));
    ck_assert(json_is_integer(json_object_get(person, "age")) && age >= 0 && age <= 120);
    ck_assert(kind && (strcmp(kind, "cat") == 0 || strcmp(kind, "dog") == 0));
    json_decref(person);
}

START_TEST(a_schema_is_kept)
{
    for (int seed = 0; seed < 20; seed++) {
        char more[100];
        (void) snprintf(more, sizeof more, ",\"seed\":%d,\"temperature\":%s%s", seed,
                        seed % 2 ? "1.5" : "0", seed % 3 ? "" : ",\"ignore_eos\":true");
        json_t *root = ask(PERSON, more, 200);
        ck_assert_str_eq(string_of(choice_of(root), "finish_reason"), "stop");
        check_person(string_of(choice_of(root), "text"));
        json_decref(root);
    }
}
END_TEST

/* However the sampler filters what the mask leaves, something is left. */
START_TEST(filters_leave_something)
{
    static const char *const more[] = {
        ",\"top_k\":1,\"seed\":1",
        ",\"top_k\":50,\"top_p\":0.1,\"seed\":2",
        ",\"min_p\":0.5,\"temperature\":2,\"seed\":3",
        ",\"repetition_penalty\":10,\"presence_penalty\":2,\"frequency_penalty\":2,\"seed\":4",
        ",\"stop\":[\"zzzzzz\"],\"logprobs\":5,\"seed\":5",
    };
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++) {
        json_t *root = ask(PERSON, more[i], 200);
        check_person(string_of(choice_of(root), "text"));
        json_decref(root);
    }
}
END_TEST

/* A random model does not end a string by itself: then the answer is the start of an object, and says
 * that it was cut. */
START_TEST(any_object_or_its_start)
{
    for (int seed = 0; seed < 10; seed++) {
        char more[64];
        (void) snprintf(more, sizeof more, ",\"seed\":%d", seed);
        json_t *root = ask("{\"type\":\"json_object\"}", more, 200);
        const char *text = string_of(choice_of(root), "text");
        bool whole = strcmp(string_of(choice_of(root), "finish_reason"), "stop") == 0;
        json_t *object = json_loads(text, 0, NULL);
        ck_assert_msg(json_is_object(object) == whole, "%s", text);
        ck_assert_int_eq(text[strspn(text, " \n")], '{');
        json_decref(object);
        json_decref(root);
    }
    json_t *root = ask("{\"type\":\"text\"}", ",\"seed\":1", 200);
    json_decref(root);
}
END_TEST

/* A1: the text is the same alone, in a stream, and beside others. */
START_TEST(others_change_nothing)
{
    static const char more[] = ",\"seed\":7,\"logprobs\":3";
    json_t *alone = ask(PERSON, more, 200);
    const char *text = string_of(choice_of(alone), "text");
    int fds[4];
    for (int i = 0; i < 4; i++) {
        fds[i] = wire_open(&d);
        wire_post(fds[i], "/v1/completions",
                  i % 2 ? "{\"prompt\":\"other\",\"max_tokens\":200,\"ignore_eos\":true}"
                        : "{\"prompt\":\"x\",\"max_tokens\":200,\"response_format\":{\"type\":"
                          "\"json_object\"}}");
    }
    json_t *beside = ask(PERSON, more, 200);
    ck_assert_str_eq(string_of(choice_of(beside), "text"), text);
    ck_assert(json_equal(json_object_get(choice_of(beside), "logprobs"),
                         json_object_get(choice_of(alone), "logprobs")));
    for (int i = 0; i < 4; i++) {
        struct wire_reply r = wire_read(fds[i], false);
        ck_assert_int_eq(r.status, 200);
        wire_reply_free(&r);
    }
    json_decref(beside);
    json_decref(alone);
}
END_TEST

/* The probabilities are of what the mask leaves: where one token may come, it is certain. */
START_TEST(logprobs_are_of_the_masked_distribution)
{
    json_t *root = ask("{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"c\",\"schema\":{"
                       "\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"abcdef\"}},"
                       "\"required\":[\"k\"]}}}",
                       ",\"seed\":3,\"logprobs\":0", 200);
    const json_t *logprobs = json_object_get(choice_of(root), "logprobs");
    const json_t *tokens = json_object_get(logprobs, "tokens");
    const json_t *numbers = json_object_get(logprobs, "token_logprobs");
    size_t certain = 0;
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        const char *token = json_string_value(json_array_get(tokens, i));
        double p = json_real_value(json_array_get(numbers, i));
        ck_assert(p <= 1e-6);
        if (strchr("bcdef", token[0])) {
            certain++;
            ck_assert_msg(p > -1e-6, "%s: %g", token, p);
        }
    }
    ck_assert_uint_eq(certain, 5);
    json_decref(root);
}
END_TEST

START_TEST(a_stream_is_kept_too)
{
    int fd = wire_open(&d);
    wire_post(fd, "/v1/completions",
              "{\"prompt\":\"x\",\"max_tokens\":3000,\"seed\":5,\"stream\":true,"
              "\"response_format\":" PERSON "}");
    struct wire_reply r = wire_read(fd, false);
    ck_assert_int_eq(r.status, 200);
    char *text = calloc(1, r.n_body + 1);
    ck_assert_ptr_nonnull(text);
    for (char *at = r.body; (at = strstr(at, "data: {")); at++) {
        json_t *chunk = json_loads(at + 6, JSON_DISABLE_EOF_CHECK, NULL);
        ck_assert_ptr_nonnull(chunk);
        strcat(text, string_of(choice_of(chunk), "text"));
        json_decref(chunk);
    }
    check_person(text);
    free(text);
    wire_reply_free(&r);
}
END_TEST

static const struct {
    const char *format, *param, *why;
} refusals[] = {
    { "7", "response_format", "type" },
    { "{\"type\":\"xml\"}", "response_format", "json_schema" },
    { "{\"type\":\"json_schema\"}", "response_format.json_schema", "object" },
    { "{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{}}}",
      "response_format.json_schema.name", "A-Z" },
    { "{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"a\"}}",
      "response_format.json_schema.schema", "object" },
    { "{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"a\",\"schema\":{\"not\":{}}}}",
      "response_format", "'not'" },
    { "{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"a\",\"schema\":{\"type\":\"string\","
      "\"pattern\":\"((a{999}){999}){999}\"}}}",
      "response_format", "too large" },
};

START_TEST(what_can_not_be_honoured_is_refused)
{
    json_t *root = ask(refusals[_i].format, _i % 2 ? ",\"stream\":true" : "", 400);
    const json_t *error = json_object_get(root, "error");
    ck_assert_str_eq(string_of(error, "param"), refusals[_i].param);
    ck_assert_str_eq(string_of(error, "type"), "invalid_request_error");
    ck_assert_msg(strstr(string_of(error, "message"), refusals[_i].why), "%s",
                  string_of(error, "message"));
    json_decref(root);
}
END_TEST

int main(void)
{
    wire_folder_make();
    Suite *s = suite_create("formats");
    TCase *t = tcase_create("formats");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_schema_is_kept);
    tcase_add_test(t, filters_leave_something);
    tcase_add_test(t, any_object_or_its_start);
    tcase_add_test(t, others_change_nothing);
    tcase_add_test(t, logprobs_are_of_the_masked_distribution);
    tcase_add_test(t, a_stream_is_kept_too);
    tcase_add_loop_test(t, what_can_not_be_honoured_is_refused, 0,
                        sizeof refusals / sizeof refusals[0]);
    suite_add_tcase(s, t);
    int status = mb_run_suite(s);
    wire_folder_remove();
    return status;
}
