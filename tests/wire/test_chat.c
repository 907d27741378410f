/* Goal:   /v1/chat/completions writes the conversation as the model's template says,
 *         answers as OpenAI does, whole and as a stream, and finds calls of tools.
 * Method: a model of random weights with a small template; the same prompt written by hand
 *         for /v1/completions must give the same text; a response_format makes the model
 *         write calls. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/model_file.h"
#include "tests/wire/stream.h"

static struct wire_daemon d;
static char bare_path[1024];

static void setup(void)
{
    static char bare[1200];
    (void) snprintf(bare, sizeof bare, "--model=bare=%s", bare_path);
    const char *const flags[] = { bare, "--max-sequences=4", "--queue-requests=64",
                                  "--kv-memory=64M", NULL };
    d = wire_start(flags);
}

static void teardown(void)
{
    wire_stop(&d);
}

static json_t *ask(const char *path, const char *json, int status)
{
    struct wire_reply r = wire_ask(&d, path, json);
    ck_assert_msg(r.status == status, "%s: %s%s", json, r.head, r.body);
    json_t *root = json_loads(r.body, JSON_ALLOW_NUL, NULL);
    ck_assert_msg(root != NULL, "%s", r.body);
    wire_reply_free(&r);
    return root;
}

static json_t *chat(const char *more, int status)
{
    char body[4096];
    (void) snprintf(
        body, sizeof body,
        "{\"model\":\"tiny\",\"messages\":[{\"role\":\"system\",\"content\":\"Be brief\"},"
        "{\"role\":\"user\",\"content\":\"Hi\"}],\"seed\":3%s}",
        more);
    return ask("/v1/chat/completions", body, status);
}

static const json_t *choice_of(const json_t *root, size_t i)
{
    return json_array_get(json_object_get(root, "choices"), i);
}

static const json_t *message_of(const json_t *root, size_t i)
{
    return json_object_get(choice_of(root, i), "message");
}

static const char *string_of(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

static json_int_t usage_of(const json_t *root, const char *name)
{
    return json_integer_value(json_object_get(json_object_get(root, "usage"), name));
}

START_TEST(a_chat_is_the_completion_of_its_template)
{
    json_t *a = chat(",\"max_completion_tokens\":40,\"ignore_eos\":true", 200);
    json_t *b =
        ask("/v1/completions",
            "{\"model\":\"tiny\",\"prompt\":\"<system>Be brief\\n<user>Hi\\n<assistant>\","
            "\"seed\":3,\"max_tokens\":40,\"ignore_eos\":true}",
            200);
    ck_assert_str_eq(string_of(message_of(a, 0), "content"),
                     string_of(choice_of(b, 0), "text"));
    ck_assert_int_eq(usage_of(a, "prompt_tokens"), usage_of(b, "prompt_tokens"));
    ck_assert_int_eq(usage_of(a, "completion_tokens"), 40);
    ck_assert_str_eq(string_of(a, "object"), "chat.completion");
    ck_assert_int_eq(strncmp(string_of(a, "id"), "chatcmpl-", 9), 0);
    ck_assert_str_eq(string_of(a, "system_fingerprint"), string_of(b, "system_fingerprint"));
    ck_assert_str_eq(string_of(message_of(a, 0), "role"), "assistant");
    ck_assert(json_is_null(json_object_get(message_of(a, 0), "refusal")));
    ck_assert_str_eq(string_of(choice_of(a, 0), "finish_reason"), "length");
    json_decref(a);
    json_decref(b);
}
END_TEST

START_TEST(variables_reach_the_template)
{
    json_t *a = chat(
        ",\"max_tokens\":1,\"chat_template_kwargs\":{\"add_generation_prompt\":false}", 200);
    json_t *b = chat(",\"max_tokens\":1", 200);
    ck_assert_int_eq(usage_of(b, "prompt_tokens") - usage_of(a, "prompt_tokens"), 11);
    json_decref(a);
    json_decref(b);
}
END_TEST

START_TEST(without_max_tokens_there_is_room)
{
    json_t *a = chat(",\"temperature\":2", 200); /* until the end of a sequence is drawn */
    ck_assert_str_eq(string_of(choice_of(a, 0), "finish_reason"), "stop");
    ck_assert_int_gt(usage_of(a, "completion_tokens"), 16);
    json_decref(a);
}
END_TEST

START_TEST(a_stream_is_the_same_chat_in_pieces)
{
    json_t *whole = chat(",\"max_tokens\":60,\"n\":2,\"logprobs\":true,\"top_logprobs\":20,"
                         "\"ignore_eos\":true",
                         200);
    struct wire_reply r = wire_ask(
        &d, "/v1/chat/completions",
        "{\"model\":\"tiny\",\"messages\":[{\"role\":\"system\",\"content\":\"Be brief\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}]}],\"seed\":3,"
        "\"max_tokens\":60,\"n\":2,\"logprobs\":true,\"top_logprobs\":1,\"stream\":true,"
        "\"ignore_eos\":true,\"stream_options\":{\"include_usage\":true}}");
    struct stream s = stream_of(&r);
    for (size_t i = 0; i < 2; i++) {
        ck_assert_str_eq(s.choice[i].text, string_of(message_of(whole, i), "content"));
        ck_assert_str_eq(s.choice[i].finish, "length");
        ck_assert_uint_eq(s.choice[i].n_roles, 1);
        ck_assert_uint_eq(s.choice[i].n_tokens, 60);
        const json_t *lp =
            json_object_get(json_object_get(choice_of(whole, i), "logprobs"), "content");
        ck_assert_uint_eq(json_array_size(lp), 60);
        const json_t *top = json_object_get(json_array_get(lp, 7), "top_logprobs");
        ck_assert_uint_eq(json_array_size(top), 20);
        ck_assert(json_real_value(json_object_get(json_array_get(top, 0), "logprob")) >=
                  json_real_value(json_object_get(json_array_get(top, 19), "logprob")));
    }
    ck_assert_str_ne(s.choice[0].text, s.choice[1].text);
    ck_assert_uint_eq(s.n_usage, 1);
    ck_assert_uint_eq(s.n_done, 1);
    ck_assert_int_eq(json_integer_value(json_object_get(s.usage, "completion_tokens")), 120);
    stream_free(&s);
    wire_reply_free(&r);
    json_decref(whole);
}
END_TEST

/* ---- calls of tools ---------------------------------------------------------------------- */

#define TOOLS                                                                                      \
    ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":"    \
    "\"object\"}}}],\"max_tokens\":500,\"response_format\":{\"type\":\"json_schema\","             \
    "\"json_schema\":{\"name\":\"call\",\"schema\":{\"type\":\"object\",\"properties\":{\"name\":" \
    "{\"const\":\"f\"},\"parameters\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":"       \
    "\"integer\",\"minimum\":0,\"maximum\":9}},\"required\":[\"a\"],\"additionalProperties\":"     \
    "false}},\"required\":[\"name\",\"parameters\"],\"additionalProperties\":false}}}"

static void check_call(const json_t *calls)
{
    const json_t *call = json_array_get(calls, 0), *f = json_object_get(call, "function");
    ck_assert_uint_eq(json_array_size(calls), 1);
    ck_assert_str_eq(string_of(call, "type"), "function");
    ck_assert_int_eq(strncmp(string_of(call, "id"), "call_", 5), 0);
    ck_assert_str_eq(string_of(f, "name"), "f");
    json_t *arguments = json_loads(string_of(f, "arguments"), 0, NULL);
    ck_assert(json_is_integer(json_object_get(arguments, "a")));
    json_decref(arguments);
}

START_TEST(calls_are_taken_out_of_the_text)
{
    json_t *root = chat(TOOLS, 200);
    ck_assert_str_eq(string_of(choice_of(root, 0), "finish_reason"), "tool_calls");
    ck_assert(json_is_null(json_object_get(message_of(root, 0), "content")));
    check_call(json_object_get(message_of(root, 0), "tool_calls"));
    json_decref(root);
    /* Not asked for, they stay text, and the template shows no tools. */
    json_t *none = chat(TOOLS ",\"tool_choice\":\"none\"", 200);
    ck_assert_ptr_null(json_object_get(message_of(none, 0), "tool_calls"));
    ck_assert_ptr_nonnull(strchr(string_of(message_of(none, 0), "content"), '{'));
    json_decref(none);
}
END_TEST

START_TEST(calls_in_a_stream)
{
    struct wire_reply r = wire_ask(
        &d, "/v1/chat/completions",
        "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},"
        "{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\","
        "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},{\"role\":\"tool\","
        "\"tool_call_id\":\"1\",\"content\":\"7\"}],\"seed\":3,\"stream\":true" TOOLS "}");
    struct stream s = stream_of(&r);
    ck_assert_str_eq(s.choice[0].text, "");
    ck_assert_str_eq(s.choice[0].finish, "tool_calls");
    check_call(s.choice[0].calls);
    ck_assert_int_eq(
        json_integer_value(json_object_get(json_array_get(s.choice[0].calls, 0), "index")), 0);
    ck_assert_uint_eq(s.n_done, 1);
    stream_free(&s);
    wire_reply_free(&r);
}
END_TEST

/* Text that is no call goes through. */
START_TEST(text_with_tools_is_text)
{
    json_t *with =
        chat(",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":"
             "{}}}],\"max_tokens\":30,\"ignore_eos\":true",
             200);
    ck_assert_str_eq(string_of(choice_of(with, 0), "finish_reason"), "length");
    ck_assert_uint_gt(strlen(string_of(message_of(with, 0), "content")), 0);
    json_decref(with);
}
END_TEST

/* ---- what is refused --------------------------------------------------------------------- */

static const struct {
    const char *json, *param, *code, *says;
} refused[] = {
    { "{\"model\":\"tiny\",\"messages\":[]}", "messages", "", "not empty" },
    { "{\"model\":\"tiny\",\"messages\":[{\"role\":\"judge\",\"content\":\"x\"}]}", "messages",
      "", "there is no role judge" },
    { "{\"model\":\"bare\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", "model",
      "no_chat_template", "'bare' can not chat" },
    { "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"max_tokens\":70000}",
      "messages", "context_length_exceeded", "context" },
    { "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],"
      "\"tool_choice\":\"required\"}",
      "tool_choice", "", "can not be forced" },
    { "{\"model\":\"tiny\",\"prompt\":\"x\"}", "messages", "", "required" },
};

START_TEST(bad_chats)
{
    json_t *root = ask("/v1/chat/completions", refused[_i].json, 400);
    const json_t *e = json_object_get(root, "error");
    const char *code = string_of(e, "code");
    ck_assert_str_eq(string_of(e, "param"), refused[_i].param);
    ck_assert_str_eq(code ? code : "", refused[_i].code);
    ck_assert_msg(strstr(string_of(e, "message"), refused[_i].says) != NULL, "%s",
                  string_of(e, "message"));
    json_decref(root);
}
END_TEST

START_TEST(a_bare_model_completes)
{
    json_t *root =
        ask("/v1/completions", "{\"model\":\"bare\",\"prompt\":\"x\",\"max_tokens\":2}", 200);
    json_decref(root);
}
END_TEST

/* Written and tokenized on another thread. */
START_TEST(long_chats)
{
    enum { LONG = MB_SANITIZED ? 2000 : 20000 };
    char *json = malloc(LONG + 300);
    size_t n =
        (size_t) sprintf(json, "{\"model\":\"tiny\",\"max_tokens\":2,\"ignore_eos\":true,"
                               "\"messages\":[{\"role\":\"user\",\"content\":\"");
    memset(json + n, 'a', LONG);
    strcpy(json + n + LONG, "\"}]}");
    json_t *root = ask("/v1/chat/completions", json, 200);
    ck_assert_int_eq(usage_of(root, "prompt_tokens"), LONG + 19);
    json_decref(root);
    free(json);
}
END_TEST

int main(void)
{
    wire_folder_make();
    (void) snprintf(bare_path, sizeof bare_path, "%s.bare", wire_model_path());
    model_file_write(bare_path, 4096, NULL);
    Suite *s = suite_create("wire_chat");
    TCase *t = tcase_create("chat");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_chat_is_the_completion_of_its_template);
    tcase_add_test(t, variables_reach_the_template);
    tcase_add_test(t, without_max_tokens_there_is_room);
    tcase_add_test(t, a_stream_is_the_same_chat_in_pieces);
    tcase_add_test(t, calls_are_taken_out_of_the_text);
    tcase_add_test(t, calls_in_a_stream);
    tcase_add_test(t, text_with_tools_is_text);
    tcase_add_loop_test(t, bad_chats, 0, sizeof refused / sizeof refused[0]);
    tcase_add_test(t, a_bare_model_completes);
    tcase_add_test(t, long_chats);
    suite_add_tcase(s, t);
    int status = mb_run_suite(s);
    (void) unlink(bare_path);
    wire_folder_remove();
    return status;
}
