/* Goal:   bodies of /v1/chat/completions become what templates expect, bad ones are refused
 *         by name, replies and chunks have OpenAI's shape, and calls of tools are found in
 *         what models write.
 * Method: literal JSON both ways. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json/chat_json.h"
#include "proto/json/tool_calls_json.h"
#include "tests/proto/body.h"

#define USER "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"

/* ---- requests ---------------------------------------------------------------------------- */

START_TEST(defaults)
{
    take(USER "}");
    ck_assert(c.is_chat && !c.has_max_tokens && !c.has_logprobs && c.n == 1 &&
              c.n_prompts == 0);
    ck_assert_str_eq(c.chat.messages, "[{\"role\":\"user\",\"content\":\"Hi\"}]");
    ck_assert_ptr_null(c.chat.tools);
    ck_assert_int_eq(c.chat.tool_choice, MB_TOOLS_NONE);
    ck_assert_int_eq(c.response_format.kind, MB_RESPONSE_TEXT);
}
END_TEST

START_TEST(every_field)
{
    take(USER
         ",\"max_tokens\":5,\"max_completion_tokens\":7,\"logprobs\":true,\"top_logprobs\":20,"
         "\"n\":128,\"temperature\":0,\"stop\":\"x\",\"seed\":1,\"stream\":true,"
         "\"stream_options\":{\"include_usage\":true},\"parallel_tool_calls\":false,"
         "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],"
         "\"chat_template_kwargs\":{\"enable_thinking\":false},\"user\":\"u\","
         "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\","
         "\"schema\":{\"type\":\"object\"}}}}");
    ck_assert(c.has_max_tokens && c.max_tokens == 7);
    ck_assert(c.has_logprobs && c.logprobs == 20 && c.n == 128);
    ck_assert_str_eq(c.chat.tools, "[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]");
    ck_assert_int_eq(c.chat.tool_choice, MB_TOOLS_AUTO);
    ck_assert_str_eq(c.chat.variables, "{\"enable_thinking\":false}");
    ck_assert_int_eq(c.response_format.kind, MB_RESPONSE_JSON_SCHEMA);
    take(USER ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],"
              "\"tool_choice\":\"none\",\"response_format\":{\"type\":\"json_object\"}}");
    ck_assert_int_eq(c.chat.tool_choice, MB_TOOLS_NONE);
    ck_assert_int_eq(c.response_format.kind, MB_RESPONSE_JSON_OBJECT);
    take(USER ",\"tools\":[],\"tool_choice\":null}");
    ck_assert_ptr_null(c.chat.tools);
}
END_TEST

START_TEST(messages_come_out_as_templates_expect)
{
    take(
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\\u00e9\\u0000c\"},"
        "{\"type\":\"text\",\"text\":\"b\"}],\"name\":\"n\"},"
        "{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\",\"function\":"
        "{\"name\":\"f\",\"arguments\":\"{\\\"z\\\": 1.50, \\\"a\\\": null}\"}}]},"
        "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
        "\"arguments\":\"not JSON\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"ok\",\"tool_calls\":null}]}");
    ck_assert_str_eq(
        c.chat.messages,
        "[{\"role\":\"user\",\"content\":\"a\xc3\xa9\\u0000c\\nb\",\"name\":\"n\"},"
        "{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\",\"function\":"
        "{\"name\":\"f\",\"arguments\":{\"z\":1.5,\"a\":null}}}],\"content\":null},"
        "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
        "\"arguments\":\"not JSON\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"ok\"}]");
}
END_TEST

/* As many bytes as a body may have, in which a quadratic way would take minutes. */
START_TEST(long_content_in_parts)
{
    enum { PARTS = 5000, EACH = 1500 };
    static char text[PARTS * (EACH + 64)];
    char *at = text + sprintf(text, "{\"messages\":[{\"role\":\"user\",\"content\":[");
    for (int i = 0; i < PARTS; i++) {
        at += sprintf(at, "%s{\"type\":\"text\",\"text\":\"%0*d\"}", i > 0 ? "," : "", EACH, i);
    }
    (void) sprintf(at, "]}]}");
    take(text);
    ck_assert_uint_eq(strlen(c.chat.messages),
                      strlen("[{'role':'user','content':''}]") + PARTS * (EACH + 2) - 2);
}
END_TEST

/* The arguments of calls are documents within strings, and bounded as those around them. */
START_TEST(arguments_are_bounded)
{
    static char text[4 << 20];
    char *at = text + sprintf(text, "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[");
    for (int k = 0; k < 2; k++) { /* neither goes too far alone */
        at += sprintf(at, "%s{\"function\":{\"name\":\"f\",\"arguments\":\"{", k ? "," : "");
        for (int i = 0; i < 40000; i++) {
            at += sprintf(at, "%s\\\"%d\\\":0", i > 0 ? "," : "", i);
        }
        at += sprintf(at, "}\"}}");
    }
    (void) sprintf(at, "]}]}");
    mb_completion_fini(&c);
    ck_assert_int_eq(mb_chat_decode(text, strlen(text), &c, &err), MB_E_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "members of objects"));
}
END_TEST

static const struct bad_body bad[] = {
    { "{}", "messages", "required" },
    { "{\"messages\":[]}", "messages", "not empty" },
    { "{\"messages\":\"Hi\"}", "messages", "an array" },
    { "{\"messages\":[1]}", "messages[0]", "an object" },
    { "{\"messages\":[{\"content\":\"x\"}]}", "messages[0].role", "string" },
    { "{\"messages\":[{\"role\":\"user\"}]}", "messages[0].content", "required" },
    { "{\"messages\":[{\"role\":\"user\",\"content\":null}]}", "messages[0].content",
      "required" },
    { "{\"messages\":[{\"role\":\"user\",\"content\":7}]}", "messages[0].content",
      "a string or" },
    { "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
      "messages[0].content", "must be text" },
    { "{\"messages\":[{\"role\":\"a\",\"tool_calls\":[]}]}", "messages[0].tool_calls",
      "not empty" },
    { "{\"messages\":[{\"role\":\"a\",\"tool_calls\":[{}]}]}", "messages[0].tool_calls",
      "a name" },
    { USER ",\"top_logprobs\":1}", "top_logprobs", "only with" },
    { USER ",\"logprobs\":true,\"top_logprobs\":21}", "top_logprobs", "0..20" },
    { USER ",\"logprobs\":1}", "logprobs", "true or false" },
    { USER ",\"tools\":{}}", "tools", "an array" },
    { USER ",\"tools\":[{\"type\":\"x\"}]}", "tools", "a function" },
    { USER ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"\"}}]}", "tools",
      "a name" },
    { USER ",\"tool_choice\":\"required\"}", "tool_choice", "can not be forced" },
    { USER ",\"tool_choice\":{\"type\":\"function\"}}", "tool_choice", "can not be forced" },
    { USER ",\"response_format\":{}}", "response_format", "must be" },
    { USER ",\"response_format\":{\"type\":\"json_schema\"}}", "response_format.json_schema",
      "must be" },
    { USER ",\"functions\":[{\"name\":\"f\"}]}", "functions", "not supported" },
    { USER ",\"chat_template_kwargs\":[]}", "chat_template_kwargs", "an object" },
    { USER ",\"stream_options\":{}}", "stream_options", "only with" },
    { USER ",\"max_completion_tokens\":-1}", "max_completion_tokens", "0..1048576" },
};

START_TEST(bad_requests_are_refused_by_name)
{
    refuse(&bad[_i]);
}
END_TEST

/* ---- replies ----------------------------------------------------------------------------- */

static json_t *parse(char *text)
{
    json_t *root = json_loads(text, JSON_ALLOW_NUL, NULL);
    ck_assert_msg(root != NULL, "%s", text);
    free(text);
    return root;
}

static json_t *encode(const struct mb_wire_choice *choice, bool chunk)
{
    struct mb_completion_reply r = {
        .id = "chatcmpl-1", .model = "m", .fingerprint = "f", .choices = choice, .n_choices = 1
    };
    return parse(chunk ? mb_chat_chunk_encode(&r) : mb_chat_encode(&r));
}

static void expect(json_t *got, const char *want)
{
    json_t *w = json_loads(want, 0, NULL);
    ck_assert_msg(w != NULL, "%s", want);
    char *text = json_dumps(got, 0);
    ck_assert_msg(json_equal(got, w), "want %s\ngot  %s", want, text);
    free(text);
    json_decref(w);
    json_decref(got);
}

#define HEAD(object)                                                                  \
    "{\"id\":\"chatcmpl-1\",\"object\":\"" object "\",\"created\":0,\"model\":\"m\"," \
    "\"system_fingerprint\":\"f\",\"choices\":[{\"index\":0,"

START_TEST(whole_replies)
{
    struct mb_wire_choice k = { .text = "hi", .n_text = 2, .finish = MB_FINISH_STOP };
    expect(
        encode(&k, false),
        HEAD(
            "chat.completion") "\"message\":{\"role\":\"assistant\",\"content\":\"hi\","
                               "\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}]}");
    struct mb_wire_token t = { .token = { "\xc3", 1, -1 },
                               .n_top = 1,
                               .top = { { "a", 1, -0.5f } } };
    k.has_logprobs = true;
    k.tokens = &t;
    k.n_tokens = 1;
    expect(
        encode(&k, false),
        HEAD("chat.completion") "\"message\":{\"role\":\"assistant\",\"content\":\"hi\","
                                "\"refusal\":null},\"logprobs\":{\"content\":[{\"token\":"
                                "\"bytes:\\\\xc3\",\"logprob\":-1.0,\"bytes\":[195],"
                                "\"top_logprobs\":[{\"token\":\"a\",\"logprob\":-0.5,\"bytes\":"
                                "[97]}]}],\"refusal\":null},\"finish_reason\":\"stop\"}]}");
}
END_TEST

START_TEST(calls_in_replies)
{
    char name[] = "f", arguments[] = "{\"a\": 1}";
    struct mb_wire_tool_call call = { .id = "call_1", .name = name, .arguments = arguments };
    struct mb_wire_choice k = {
        .text = "", .finish = MB_FINISH_TOOL_CALLS, .calls = &call, .n_calls = 1
    };
    expect(
        encode(&k, false),
        HEAD("chat.completion") "\"message\":{\"role\":\"assistant\",\"content\":null,"
                                "\"refusal\":null,\"tool_calls\":[{\"id\":\"call_1\",\"type\":"
                                "\"function\",\"function\":{\"name\":\"f\",\"arguments\":"
                                "\"{\\\"a\\\": 1}\"}}]},\"logprobs\":null,\"finish_reason\":"
                                "\"tool_calls\"}]}");
    expect(
        encode(&k, true),
        HEAD(
            "chat.completion.chunk") "\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"call_1\","
                                     "\"type\":\"function\",\"function\":{\"name\":\"f\","
                                     "\"arguments\":\"{\\\"a\\\": 1}\"}}]},\"logprobs\":null,"
                                     "\"finish_reason\":\"tool_calls\"}]}");
}
END_TEST

START_TEST(chunks)
{
    struct mb_wire_choice k = { .text = "", .begins = true };
    expect(encode(&k, true),
           HEAD("chat.completion.chunk") "\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                                         "\"logprobs\":null,\"finish_reason\":null}]}");
    k = (struct mb_wire_choice) { .text = "x", .n_text = 1 };
    expect(encode(&k, true), HEAD("chat.completion.chunk") "\"delta\":{\"content\":\"x\"},"
                                                           "\"logprobs\":null,"
                                                           "\"finish_reason\":null}]}");
    k = (struct mb_wire_choice) { .text = "", .finish = MB_FINISH_LENGTH };
    expect(encode(&k, true), HEAD("chat.completion.chunk") "\"delta\":{},\"logprobs\":null,"
                                                           "\"finish_reason\":\"length\"}]}");
}
END_TEST

/* ---- calls of tools ---------------------------------------------------------------------- */

static const struct {
    enum mb_call_form form;
    const char *text;
    size_t n_text, n_calls;       /* what is left, when there are calls; how many */
    const char *name, *arguments; /* of the last */
} written[] = {
    { MB_CALLS_MARKED, "just text", 0, 0, NULL, NULL },
    { MB_CALLS_MARKED,
      "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>", 0, 1, "f",
      "{\"a\": 1}" },
    { MB_CALLS_MARKED,
      "Let me see.\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n"
      "<tool_call>\n{\"name\":\"g\",\"arguments\":{\"b\":[1,\"x\"]}}\n</tool_call>\n",
      11, 2, "g", "{\"b\": [1, \"x\"]}" },
    { MB_CALLS_MARKED, "<tool_call>{\"name\":\"f\"}", 0, 1, "f", "{}" }, /* the end closes it */
    { MB_CALLS_MARKED,
      "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":[0.1,-2e30]}}"
      "</tool_call>",
      0, 1, "f", "{\"a\": [0.1, -2e30]}" },
    { MB_CALLS_MARKED, "<tool_call>{\"name\":\"f\",\"arguments\":\"{}\"}</tool_call>", 0, 1,
      "f", "{}" },
    { MB_CALLS_MARKED, "<tool_call>{\"name\":", 0, 0, NULL, NULL }, /* cut: stays text */
    { MB_CALLS_MARKED, "<tool_call>{\"nam\":1}</tool_call>", 0, 0, NULL, NULL },
    { MB_CALLS_MARKED, "<tool_call>{\"name\":\"f\"}</tool_call> and more", 0, 0, NULL, NULL },
    { MB_CALLS_BARE, "{\"name\": \"f\", \"parameters\": {\"a\": null}}", 0, 1, "f",
      "{\"a\": null}" },
    { MB_CALLS_BARE, " {\"name\":\"f\",\"parameters\":{}}; {\"name\":\"g\",\"parameters\":{}}",
      0, 2, "g", "{}" },
    { MB_CALLS_BARE, "text {\"name\":\"f\",\"parameters\":{}}", 0, 0, NULL, NULL },
    { MB_CALLS_BARE, "{\"a\": 1}", 0, 0, NULL, NULL },
    { MB_CALLS_NONE, "<tool_call>{\"name\":\"f\"}</tool_call>", 0, 0, NULL, NULL },
};

START_TEST(calls_are_found)
{
    struct mb_wire_tool_call *calls;
    size_t n, n_text;
    const char *text = written[_i].text;
    ck_assert(
        mb_tool_calls_take(written[_i].form, "7", text, strlen(text), &calls, &n, &n_text));
    size_t left = written[_i].n_calls == 0 ? strlen(text) : written[_i].n_text;
    ck_assert_msg(n == written[_i].n_calls && n_text == left, "%s: %zu calls, %zu", text, n,
                  n_text);
    if (n > 0) {
        ck_assert_str_eq(calls[n - 1].name, written[_i].name);
        ck_assert_str_eq(calls[n - 1].arguments, written[_i].arguments);
        ck_assert_int_eq(strncmp(calls[n - 1].id, "call_7_", 7), 0);
    }
    mb_tool_calls_free(calls, n);
}
END_TEST

START_TEST(what_may_become_a_call_is_held)
{
    ck_assert_uint_eq(mb_tool_calls_before(MB_CALLS_MARKED, "abc", 3), 3);
    ck_assert_uint_eq(mb_tool_calls_before(MB_CALLS_MARKED, "abc <tool", 9), 4);
    ck_assert_uint_eq(mb_tool_calls_before(MB_CALLS_MARKED, "a<tool_call>x", 13), 1);
    ck_assert_uint_eq(mb_tool_calls_before(MB_CALLS_MARKED, "a <tools>", 9), 9);
    ck_assert_uint_eq(mb_tool_calls_before(MB_CALLS_BARE, "  ", 2), 0);
    ck_assert_uint_eq(mb_tool_calls_before(MB_CALLS_BARE, " {", 2), 0);
    ck_assert_uint_eq(mb_tool_calls_before(MB_CALLS_BARE, "ab {", 4), 4);
    ck_assert_uint_eq(mb_tool_calls_before(MB_CALLS_NONE, "<tool_call>", 11), 11);
}
END_TEST

int main(void)
{
    decode = mb_chat_decode;
    mb_json_init();
    Suite *s = suite_create("chat_json");
    TCase *t = tcase_create("requests");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, defaults);
    tcase_add_test(t, every_field);
    tcase_add_test(t, messages_come_out_as_templates_expect);
    tcase_add_test(t, long_content_in_parts);
    tcase_add_test(t, arguments_are_bounded);
    tcase_add_loop_test(t, bad_requests_are_refused_by_name, 0, sizeof bad / sizeof bad[0]);
    suite_add_tcase(s, t);
    t = tcase_create("replies");
    tcase_add_test(t, whole_replies);
    tcase_add_test(t, calls_in_replies);
    tcase_add_test(t, chunks);
    suite_add_tcase(s, t);
    t = tcase_create("calls");
    tcase_add_loop_test(t, calls_are_found, 0, sizeof written / sizeof written[0]);
    tcase_add_test(t, what_may_become_a_call_is_held);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
