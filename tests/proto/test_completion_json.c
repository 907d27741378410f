/* Goal:   every field of a completion request is taken when it is good and refused by name when
 * it is not; and replies are what OpenAI's clients expect. Method: one line of JSON per case;
 * replies are parsed again with jansson and looked at. */
#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json/completion_json.h"
#include "proto/json/error_json.h"
#include "proto/json/models_json.h"
#include "tests/proto/body.h"

START_TEST(defaults)
{
    take("{\"prompt\":\"x\"}");
    ck_assert_ptr_null(c.model);
    ck_assert_uint_eq(c.n_prompts, 1);
    ck_assert_str_eq(c.prompts[0].text, "x");
    ck_assert_uint_eq(c.max_tokens, 16);
    ck_assert(!c.has_max_tokens && !c.has_seed && !c.has_logprobs);
    ck_assert(!c.low_priority);
    ck_assert(!c.echo && !c.stream && !c.include_usage && !c.ignore_eos);
    ck_assert(c.temperature == 1.0f && c.top_p == 1.0f && c.min_p == 0.0f && c.top_k == 0);
    ck_assert(c.repetition_penalty == 1.0f && c.presence_penalty == 0.0f);
    ck_assert_uint_eq(c.n_stops, 0);
}
END_TEST

START_TEST(every_field)
{
    take("{\"model\":\"m/a\",\"prompt\":\"a\\u0000b\",\"max_tokens\":7,\"temperature\":0.5,"
         "\"top_p\":0.25,\"min_p\":0.125,\"top_k\":40,\"presence_penalty\":-2,"
         "\"frequency_penalty\":2,\"repetition_penalty\":1.5,\"seed\":-1,"
         "\"stop\":[\"\\n\",\"\xc3\xa9\"],\"logprobs\":5,\"echo\":false,\"ignore_eos\":true,"
         "\"stream\":true,\"stream_options\":{\"include_usage\":true,\"other\":1},\"n\":1,"
         "\"best_of\":1,\"suffix\":\"\",\"logit_bias\":{\"7\":-100,\"0\":1.5},"
         "\"min_tokens\":3,\"stop_token_ids\":[4,5],\"return_token_ids\":true,"
         "\"time_limit\":1.5,\"priority\":\"low\",\"user\":\"someone\",\"unknown\":[1]"
         "}");
    ck_assert_str_eq(c.model, "m/a");
    ck_assert_uint_eq(c.prompts[0].n_text, 3);
    ck_assert_mem_eq(c.prompts[0].text, "a\0b", 4);
    ck_assert(c.has_max_tokens && c.max_tokens == 7);
    ck_assert(c.temperature == 0.5f && c.top_p == 0.25f && c.min_p == 0.125f);
    ck_assert_uint_eq(c.top_k, 40);
    ck_assert(c.presence_penalty == -2.0f && c.frequency_penalty == 2.0f);
    ck_assert(c.repetition_penalty == 1.5f);
    ck_assert(c.has_seed && c.seed == UINT64_MAX);
    ck_assert_uint_eq(c.n_stops, 2);
    ck_assert_str_eq(c.stop[0], "\n");
    ck_assert_uint_eq(c.n_stop_bytes[1], 2);
    ck_assert(c.has_logprobs && c.logprobs == 5);
    ck_assert(c.ignore_eos && c.stream && c.include_usage && !c.echo);
    ck_assert_uint_eq(c.n_bias, 2);
    ck_assert(c.bias[0].token == 7 && c.bias[0].bias == -100.0f && c.bias[1].bias == 1.5f);
    ck_assert(c.min_tokens == 3 && c.n_stop_ids == 2 && c.stop_ids[1] == 5);
    ck_assert(c.low_priority);
    ck_assert(c.return_token_ids && c.time_limit == 1.5 && c.n == 1 && c.best_of == 1);
}
END_TEST

START_TEST(null_is_absent)
{
    take("{\"prompt\":\"x\",\"max_tokens\":0}");
    ck_assert(c.has_max_tokens && c.max_tokens == 0);
    take("{\"model\":null,\"prompt\":\"x\",\"max_tokens\":null,\"temperature\":null,"
         "\"top_p\":null,\"min_p\":null,\"top_k\":null,\"presence_penalty\":null,"
         "\"frequency_penalty\":null,\"repetition_penalty\":null,\"seed\":null,\"stop\":null,"
         "\"logprobs\":null,\"echo\":null,\"ignore_eos\":null,\"stream\":null,"
         "\"stream_options\":null,\"n\":null,\"best_of\":null,\"suffix\":null,"
         "\"logit_bias\":null}");
    ck_assert(!c.has_max_tokens && !c.has_seed && !c.has_logprobs && c.temperature == 1.0f);
}
END_TEST

START_TEST(prompts_have_several_forms)
{
    take("{\"prompt\":\"\"}");
    ck_assert_ptr_nonnull(c.prompts[0].text);
    ck_assert_uint_eq(c.prompts[0].n_text, 0);
    take("{\"prompt\":[\"only\"]}");
    ck_assert_str_eq(c.prompts[0].text, "only");
    take("{\"prompt\":[1,0,4294967295]}");
    ck_assert_uint_eq(c.n_prompts, 1);
    ck_assert_ptr_null(c.prompts[0].text);
    ck_assert_uint_eq(c.prompts[0].n_ids, 3);
    ck_assert_uint_eq(c.prompts[0].ids[2], UINT32_MAX);
    take("{\"prompt\":[[5,6]]}");
    ck_assert_uint_eq(c.prompts[0].n_ids, 2);
    take("{\"prompt\":[\"a\",[1,2,3],\"\"],\"n\":2,\"best_of\":3}");
    ck_assert_uint_eq(c.n_prompts, 3);
    ck_assert_str_eq(c.prompts[0].text, "a");
    ck_assert_uint_eq(c.prompts[1].ids[2], 3);
    ck_assert_str_eq(c.prompts[2].text, "");
    ck_assert(c.n == 2 && c.best_of == 3);
    take("{\"prompt\":\"x\",\"stop\":\"one\"}");
    ck_assert_uint_eq(c.n_stops, 1);
    take("{\"prompt\":\"x\",\"stop\":[]}");
    ck_assert_uint_eq(c.n_stops, 0);
    take("{\"prompt\":\"x\",\"top_k\":-1}");
    ck_assert_uint_eq(c.top_k, 0);
    take("{\"prompt\":\"x\",\"top_p\":0,\"temperature\":0}");
    ck_assert(c.top_p == FLT_MIN && c.temperature == 0.0f);
    take("{\"prompt\":\"x\",\"seed\":9223372036854775807,\"max_tokens\":1048576}");
    ck_assert_uint_eq(c.seed, INT64_MAX);
}
END_TEST

static const struct bad_body bad[] = {
    { "{", "", "not JSON" },
    { "{\"prompt\":\"x\"} trailing", "", "not JSON" },
    { "{\"prompt\":\"\xff\"}", "", "not JSON" },
    { "{\"prompt\":\"\\ud800\"}", "", "not JSON" },
    { "{\"prompt\":\"x\",\"prompt\":\"y\"}", "", "duplicate" },
    { "{\"prompt\":\"x\",\"temperature\":NaN}", "", "not JSON" },
    { "{\"prompt\":\"x\",\"temperature\":Infinity}", "", "not JSON" },
    { "{\"prompt\":\"x\",\"temperature\":1e999}", "temperature", "out of range" },
    { "{\"prompt\":\"x\",\"max_tokens\":99999999999999999999}", "max_tokens", "out of range" },
    { "[]", "", "must be a JSON object" },
    { "null", "", "not JSON" },
    { "{}", "prompt", "required" },
    { "{\"prompt\":null}", "prompt", "required" },
    { "{\"prompt\":1}", "prompt", "must be a string or an array" },
    { "{\"prompt\":{}}", "prompt", "must be a string or an array" },
    { "{\"prompt\":[]}", "prompt", "not empty" },
    { "{\"prompt\":[[]]}", "prompt", "not empty" },
    { "{\"prompt\":[null]}", "prompt", "must be a string or an array" },
    { "{\"prompt\":[\"a\",7]}", "prompt", "must be a string or an array" },
    { "{\"prompt\":[[1],[]]}", "prompt", "not empty" },
    { "{\"prompt\":[1,\"a\"]}", "prompt", "element 1" },
    { "{\"prompt\":[1,-2]}", "prompt", "element 1" },
    { "{\"prompt\":[1,4294967296]}", "prompt", "element 1" },
    { "{\"prompt\":[1,2.0]}", "prompt", "element 1" },
    { "{\"prompt\":\"x\",\"model\":1}", "model", "name" },
    { "{\"prompt\":\"x\",\"model\":\"\"}", "model", "name" },
    { "{\"prompt\":\"x\",\"model\":\"a\\u0000b\"}", "model", "name" },
    { "{\"prompt\":\"x\",\"max_tokens\":-1}", "max_tokens", "0..1048576" },
    { "{\"prompt\":\"x\",\"max_tokens\":1048577}", "max_tokens", "0..1048576" },
    { "{\"prompt\":\"x\",\"max_tokens\":9223372036854775807}", "max_tokens", "0..1048576" },
    { "{\"prompt\":\"x\",\"max_tokens\":16.0}", "max_tokens", "integer" },
    { "{\"prompt\":\"x\",\"max_tokens\":\"16\"}", "max_tokens", "integer" },
    { "{\"prompt\":\"x\",\"max_tokens\":true}", "max_tokens", "integer" },
    { "{\"prompt\":\"x\",\"temperature\":2.1}", "temperature", "0..2" },
    { "{\"prompt\":\"x\",\"temperature\":-0.1}", "temperature", "0..2" },
    { "{\"prompt\":\"x\",\"temperature\":\"1\"}", "temperature", "number" },
    { "{\"prompt\":\"x\",\"top_p\":1.1}", "top_p", "0..1" },
    { "{\"prompt\":\"x\",\"min_p\":-1}", "min_p", "0..1" },
    { "{\"prompt\":\"x\",\"top_k\":-2}", "top_k", "integer" },
    { "{\"prompt\":\"x\",\"top_k\":1.5}", "top_k", "integer" },
    { "{\"prompt\":\"x\",\"presence_penalty\":-2.5}", "presence_penalty", "-2..2" },
    { "{\"prompt\":\"x\",\"frequency_penalty\":3}", "frequency_penalty", "-2..2" },
    { "{\"prompt\":\"x\",\"repetition_penalty\":0}", "repetition_penalty", "above 0" },
    { "{\"prompt\":\"x\",\"repetition_penalty\":-1}", "repetition_penalty", "0..10" },
    { "", "", "the body is empty" },
    { "{\"prompt\":\"x\",\"seed\":18446744073709551616}", "seed", "out of range" },
    { "{\"prompt\":\"x\", \"seed\" : -99999999999999999999 ,\"n\":1}", "seed", "out of range" },
    { "{\"prompt\":[7,18446744073709551616]}", "prompt", "out of range" },
    { "{\"prompt\":\"x\",\"other\":1e400}", "", "out of range" },
    { "[18446744073709551616", "", "out of range" },
    { "{\"prompt\":\"x\",\"seed\":1.5}", "seed", "integer" },
    { "{\"prompt\":\"x\",\"seed\":\"1\"}", "seed", "integer" },
    { "{\"prompt\":\"x\",\"stop\":\"\"}", "stop", "1 to 1024" },
    { "{\"prompt\":\"x\",\"stop\":1}", "stop", "1 to 1024" },
    { "{\"prompt\":\"x\",\"stop\":[\"a\",1]}", "stop", "1 to 1024" },
    { "{\"prompt\":\"x\",\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]}", "stop", "at most 4" },
    { "{\"prompt\":\"x\",\"logprobs\":6}", "logprobs", "0..5" },
    { "{\"prompt\":\"x\",\"logprobs\":true}", "logprobs", "integer" },
    { "{\"prompt\":\"x\",\"echo\":1}", "echo", "true or false" },
    { "{\"prompt\":\"x\",\"ignore_eos\":\"yes\"}", "ignore_eos", "true or false" },
    { "{\"prompt\":\"x\",\"stream\":\"true\"}", "stream", "true or false" },
    { "{\"prompt\":\"x\",\"stream\":true,\"stream_options\":1}", "stream_options", "object" },
    { "{\"prompt\":\"x\",\"stream\":true,\"stream_options\":{\"include_usage\":1}}",
      "stream_options.include_usage", "true or false" },
    { "{\"prompt\":\"x\",\"stream_options\":{}}", "stream_options", "only with" },
    { "{\"prompt\":\"x\",\"n\":0}", "n", "1..128" },
    { "{\"prompt\":\"x\",\"n\":129}", "n", "1..128" },
    { "{\"prompt\":[\"x\",\"y\"],\"n\":65}", "n", "more than 128" },
    { "{\"prompt\":\"x\",\"best_of\":0}", "best_of", "1..20" },
    { "{\"prompt\":\"x\",\"best_of\":2,\"n\":3}", "best_of", "below 'n'" },
    { "{\"prompt\":\"x\",\"best_of\":2,\"stream\":true}", "best_of", "can not be streamed" },
    { "{\"prompt\":\"x\",\"min_tokens\":8,\"max_tokens\":7}", "min_tokens",
      "above 'max_tokens'" },
    { "{\"prompt\":\"x\",\"stop_token_ids\":7}", "stop_token_ids", "array" },
    { "{\"prompt\":\"x\",\"stop_token_ids\":[-1]}", "stop_token_ids", "element 0" },
    { "{\"prompt\":\"x\",\"priority\":1}", "priority", "low" },
    { "{\"prompt\":\"x\",\"priority\":\"high\"}", "priority", "low" },
    { "{\"prompt\":\"x\",\"time_limit\":0}", "time_limit", "above 0" },
    { "{\"prompt\":\"x\",\"time_limit\":86401}", "time_limit", "to 86400" },
    { "{\"prompt\":\"x\",\"return_token_ids\":1}", "return_token_ids", "true or false" },
    { "{\"prompt\":\"x\",\"suffix\":\"end\"}", "suffix", "not supported" },
    { "{\"prompt\":\"x\",\"logit_bias\":[]}", "logit_bias", "an object" },
    { "{\"prompt\":\"x\",\"logit_bias\":{\"a\":2}}", "logit_bias", "-100..100" },
    { "{\"prompt\":\"x\",\"logit_bias\":{\"-1\":2}}", "logit_bias", "-100..100" },
    { "{\"prompt\":\"x\",\"logit_bias\":{\"7\":2,\"07\":2}}", "logit_bias", "-100..100" },
    { "{\"prompt\":\"x\",\"logit_bias\":{\"1\":101}}", "logit_bias", "-100..100" },
    { "{\"prompt\":\"x\",\"logit_bias\":{\"1\":\"2\"}}", "logit_bias", "-100..100" },
    { "{\"prompt\":\"x\",\"logit_bias\":{\"4294967296\":2}}", "logit_bias", "-100..100" },
};

START_TEST(bad_requests_are_refused_by_name)
{
    refuse(&bad[_i]);
}
END_TEST

/* A body that would cost much more than its size is refused before it is parsed. */
START_TEST(bombs_are_refused)
{
    static const char *const pieces[] = { "[",  "{\"a\":", "[],",
                                          "1,", "{},",     "{\"a\":1,\"b\":2}," };
    for (size_t p = 0; p < sizeof pieces / sizeof pieces[0]; p++) {
        size_t n_piece = strlen(pieces[p]), n = 4u << 20;
        char *text = malloc(n);
        size_t at = (size_t) snprintf(text, n, "{\"prompt\":[");
        for (; at + n_piece < n; at += n_piece) {
            memcpy(text + at, pieces[p], n_piece);
        }
        ck_assert_int_eq(mb_completion_decode(text, at, &c, &err), MB_E_INVALID);
        ck_assert_ptr_nonnull(strstr(err.message, "more than 72 levels"));
        free(text);
    }
    /* Keys of one object that is flat. */
    char *flat = malloc(4u << 20);
    size_t n = (size_t) sprintf(flat, "{\"prompt\":\"x\"");
    for (unsigned i = 0; i < 2 * MB_JSON_MEMBERS_MAX; i++) {
        n += (size_t) sprintf(flat + n, ",\"%u\":1", i);
        if (i == MB_JSON_MEMBERS_MAX / 2) {
            n += (size_t) sprintf(flat + n, "}"); /* so many are allowed */
            take(flat);
            n--;
        }
    }
    mb_completion_fini(&c);
    ck_assert_int_eq(mb_completion_decode(flat, n, &c, &err), MB_E_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "65536 members of objects"));
    free(flat);
    /* Brackets and commas in strings are none, and an escaped quote does not end one. */
    take("{\"prompt\":\"::::[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[[[[[[[[[[[[[[[[[\"}");
}
END_TEST

/* ---- replies ----------------------------------------------------------------------------- */

static json_t *parse(char *text)
{
    json_error_t where;
    ck_assert_ptr_nonnull(text);
    ck_assert_ptr_null(strpbrk(text, "\r\n"));
    json_t *root = json_loads(text, JSON_ALLOW_NUL, &where);
    ck_assert_msg(root != NULL, "%s: %s", where.text, text);
    free(text);
    return root;
}

static struct mb_wire_choice choice;

static struct mb_completion_reply plain_reply(void)
{
    choice = (struct mb_wire_choice) { .text = "hi", .n_text = 2 };
    return (struct mb_completion_reply) { .id = "cmpl-1",
                                          .model = "m",
                                          .fingerprint = "mbool-0",
                                          .created = 1700000000,
                                          .choices = &choice,
                                          .n_choices = 1 };
}

START_TEST(a_reply_has_openai_s_shape)
{
    struct mb_completion_reply r = plain_reply();
    struct mb_usage u = { .prompt_tokens = 3, .completion_tokens = 4294967295u };
    choice.finish = MB_FINISH_STOP;
    r.usage = &u;
    json_t *root = parse(mb_completion_encode(&r));
    const char *id, *object, *model, *print, *text, *finish;
    json_int_t created, index, prompt, completion, total, cached;
    json_t *logprobs;
    ck_assert_int_eq(
        json_unpack_ex(
            root, NULL, JSON_STRICT,
            "{s:s,s:s,s:I,s:s,s:s,s:[{s:I,s:s,s:o,s:s!}!],s:{s:I,s:I,s:I,s:{s:I!}!}!}", "id",
            &id, "object", &object, "created", &created, "model", &model, "system_fingerprint",
            &print, "choices", "index", &index, "text", &text, "logprobs", &logprobs,
            "finish_reason", &finish, "usage", "prompt_tokens", &prompt, "completion_tokens",
            &completion, "total_tokens", &total, "prompt_tokens_details", "cached_tokens",
            &cached),
        0);
    ck_assert_str_eq(object, "text_completion");
    ck_assert_str_eq(text, "hi");
    ck_assert_str_eq(finish, "stop");
    ck_assert(json_is_null(logprobs));
    ck_assert_int_eq(total, 4294967298);
    json_decref(root);
}
END_TEST

START_TEST(chunks_say_null)
{
    struct mb_completion_reply r = plain_reply();
    r.usage_null = true;
    json_t *root = parse(mb_completion_encode(&r));
    json_t *first = json_array_get(json_object_get(root, "choices"), 0);
    ck_assert(json_is_null(json_object_get(first, "finish_reason")));
    ck_assert(json_is_null(json_object_get(root, "usage")));
    json_decref(root);

    r.usage_null = false;
    r.n_choices = 0;
    root = parse(mb_completion_encode(&r));
    ck_assert_uint_eq(json_array_size(json_object_get(root, "choices")), 0);
    ck_assert_ptr_null(json_object_get(root, "usage"));
    json_decref(root);
}
END_TEST

/* Every character comes back as it was; what is none becomes U+FFFD. */
START_TEST(text_survives)
{
    static const char good[] =
        "\"\\/\b\f\n\r\t\x01\x1f\x7f</script>\xc2\x80\xc3\xa9\xe2\x82\xac"
        "\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\xf0\x9f\x98\x80"
        "\xf4\x8f\xbf\xbf\0end";
    static const char *const broken[][2] = {
        { "a\xff", "a\xef\xbf\xbd" },
        { "\xc3", "\xef\xbf\xbd" },
        { "\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd" },
        { "\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd" },                 /* overlong */
        { "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" }, /* a surrogate */
        { "\xf5z", "\xef\xbf\xbdz" },
    };
    struct mb_completion_reply r = plain_reply();
    choice.text = good;
    choice.n_text = sizeof good - 1;
    json_t *root = parse(mb_completion_encode(&r));
    json_t *text = json_object_get(json_array_get(json_object_get(root, "choices"), 0), "text");
    ck_assert_uint_eq(json_string_length(text), sizeof good - 1);
    ck_assert_mem_eq(json_string_value(text), good, sizeof good - 1);
    json_decref(root);
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        choice.text = broken[i][0];
        choice.n_text = strlen(choice.text);
        root = parse(mb_completion_encode(&r));
        text = json_object_get(json_array_get(json_object_get(root, "choices"), 0), "text");
        ck_assert_str_eq(json_string_value(text), broken[i][1]);
        json_decref(root);
    }
}
END_TEST

START_TEST(logprobs_have_the_old_shape)
{
    struct mb_wire_token tokens[3] = {
        { .token = { " a", 2, -0.12345679f },
          .text_offset = 3,
          .n_top = 2,
          .top = { { " a", 2, -0.12345679f }, { "\xe2\x82", 2, -INFINITY } } },
        { .token = { "y", 1, -7 },
          .text_offset = 5,
          .n_top = 2,
          .top = { { "x", 1, -1 }, { "x", 1, -2 } } },
        { .token = { "", 0, NAN } },
    };
    struct mb_completion_reply r = plain_reply();
    choice.has_logprobs = true;
    choice.tokens = tokens;
    choice.n_tokens = 3;
    json_t *root = parse(mb_completion_encode(&r));
    json_t *lp =
        json_object_get(json_array_get(json_object_get(root, "choices"), 0), "logprobs");
    ck_assert_str_eq(json_string_value(json_array_get(json_object_get(lp, "tokens"), 0)), " a");
    json_t *numbers = json_object_get(lp, "token_logprobs");
    ck_assert((float) json_real_value(json_array_get(numbers, 0)) == -0.12345679f);
    ck_assert(json_real_value(json_array_get(numbers, 2)) == -9999.0);
    json_t *tops = json_object_get(lp, "top_logprobs");
    json_t *odd = json_object_get(json_array_get(tops, 0), "bytes:\\xe2\\x82");
    ck_assert(json_real_value(odd) == -9999.0);
    ck_assert_uint_eq(json_object_size(json_array_get(tops, 0)), 2); /* " a" is there once */
    /* What was drawn outside of the top is one more. */
    ck_assert_uint_eq(json_object_size(json_array_get(tops, 1)), 2);
    ck_assert(json_real_value(json_object_get(json_array_get(tops, 1), "y")) == -7.0);
    ck_assert(json_real_value(json_object_get(json_array_get(tops, 1), "x")) == -1.0);
    ck_assert_int_eq(json_integer_value(json_array_get(json_object_get(lp, "text_offset"), 1)),
                     5);
    json_decref(root);
}
END_TEST

START_TEST(choices_and_ids)
{
    static const uint32_t ids[] = { 3, 4294967295u }, prompt[] = { 1 };
    struct mb_wire_token first = { .token = { "p", 1, 0 }, .no_logprob = true };
    const struct mb_wire_choice choices[2] = {
        { .text = "a",
          .n_text = 1,
          .has_ids = true,
          .ids = ids,
          .n_ids = 2,
          .prompt_ids = prompt,
          .n_prompt_ids = 1 },
        { .index = 1,
          .text = "b",
          .n_text = 1,
          .has_logprobs = true,
          .tokens = &first,
          .n_tokens = 1,
          .finish = MB_FINISH_LENGTH },
    };
    struct mb_completion_reply r = plain_reply();
    r.choices = choices;
    r.n_choices = 2;
    json_t *root = parse(mb_completion_encode(&r)), *list = json_object_get(root, "choices");
    json_int_t a, b, p;
    ck_assert_int_eq(json_unpack(json_array_get(list, 0), "{s:[I,I!],s:[I!]}", "token_ids", &a,
                                 &b, "prompt_token_ids", &p),
                     0);
    ck_assert(a == 3 && b == 4294967295 && p == 1);
    const json_t *lp = json_object_get(json_array_get(list, 1), "logprobs");
    ck_assert(json_is_null(json_array_get(json_object_get(lp, "token_logprobs"), 0)));
    ck_assert(json_is_null(json_array_get(json_object_get(lp, "top_logprobs"), 0)));
    ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(list, 1), "index")), 1);
    json_decref(root);
}
END_TEST

START_TEST(errors_have_four_fields)
{
    struct mb_wire_error e;
    mb_wire_error_fill(&e, 429, "queue_full", NULL, "the queue is full: %d \xff", 7);
    json_t *root = parse(mb_error_encode(&e));
    json_t *message, *param;
    const char *type, *code;
    ck_assert_int_eq(json_unpack_ex(root, NULL, JSON_STRICT, "{s:{s:o,s:s,s:o,s:s!}!}", "error",
                                    "message", &message, "type", &type, "param", &param, "code",
                                    &code),
                     0);
    ck_assert_str_eq(json_string_value(message), "the queue is full: 7 \xef\xbf\xbd");
    ck_assert_str_eq(type, "rate_limit_error");
    ck_assert(json_is_null(param));
    ck_assert_str_eq(code, "queue_full");
    json_decref(root);

    struct mb_error from;
    (void) mb_fail(&from, MB_E_IO, 0, "disk");
    mb_wire_error_of(&e, &from);
    ck_assert_int_eq(e.http, 500);
    ck_assert_str_eq(e.type, "server_error");
    ck_assert_ptr_null(e.code);
}
END_TEST

START_TEST(models_are_listed)
{
    struct mb_model_card cards[2] = { { "a", 1, 256, "f" }, { "b\"", 2, 1u << 20, "g" } };
    json_t *root = parse(mb_model_list_encode(cards, 2));
    ck_assert_str_eq(json_string_value(json_object_get(root, "object")), "list");
    json_t *second = json_array_get(json_object_get(root, "data"), 1);
    ck_assert_str_eq(json_string_value(json_object_get(second, "id")), "b\"");
    ck_assert_str_eq(json_string_value(json_object_get(second, "object")), "model");
    ck_assert_str_eq(json_string_value(json_object_get(second, "owned_by")), "mboold");
    ck_assert_int_eq(json_integer_value(json_object_get(second, "created")), 2);
    json_decref(root);
    root = parse(mb_model_list_encode(NULL, 0));
    ck_assert_uint_eq(json_array_size(json_object_get(root, "data")), 0);
    json_decref(root);
}
END_TEST

int main(void)
{
    decode = mb_completion_decode;
    mb_json_init();
    Suite *s = suite_create("completion_json");
    TCase *t = tcase_create("requests");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, defaults);
    tcase_add_test(t, every_field);
    tcase_add_test(t, null_is_absent);
    tcase_add_test(t, prompts_have_several_forms);
    tcase_add_loop_test(t, bad_requests_are_refused_by_name, 0, sizeof bad / sizeof bad[0]);
    tcase_add_test(t, bombs_are_refused);
    suite_add_tcase(s, t);
    t = tcase_create("replies");
    tcase_add_test(t, a_reply_has_openai_s_shape);
    tcase_add_test(t, chunks_say_null);
    tcase_add_test(t, text_survives);
    tcase_add_test(t, logprobs_have_the_old_shape);
    tcase_add_test(t, choices_and_ids);
    tcase_add_test(t, errors_have_four_fields);
    tcase_add_test(t, models_are_listed);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
