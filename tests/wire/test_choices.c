/* Goal:   several prompts and several choices are each what they would be alone; scores of
 *         a prompt are those that the same tokens had when they were drawn; biases, early
 *         ends and time limits do what they say.
 * Method: the same request in different shapes, compared to the last digit (A1). */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/model_file.h"
#include "tests/wire/stream.h"

static struct wire_daemon d;

static void setup(void)
{
    static const char *const flags[] = { "--max-sequences=4", "--queue-requests=64",
                                         "--step-tokens=24", "--kv-memory=64M", NULL };
    d = wire_start(flags);
}

static void teardown(void)
{
    wire_stop(&d);
}

static json_t *ask(const char *json, int status)
{
    struct wire_reply r = wire_ask(&d, "/v1/completions", json);
    ck_assert_msg(r.status == status, "%s: %s%s", json, r.head, r.body);
    json_t *root = json_loads(r.body, JSON_ALLOW_NUL, NULL);
    ck_assert_msg(root != NULL, "%s", r.body);
    wire_reply_free(&r);
    return root;
}

static json_t *complete(const char *prompt, unsigned seed, const char *more)
{
    char body[2048];
    (void) snprintf(body, sizeof body, "{\"prompt\":%s,\"seed\":%u,\"ignore_eos\":true%s}",
                    prompt, seed, more);
    return ask(body, 200);
}

static const json_t *choice_of(const json_t *root, size_t i)
{
    const json_t *choice = json_array_get(json_object_get(root, "choices"), i);
    ck_assert_int_eq(json_integer_value(json_object_get(choice, "index")), (json_int_t) i);
    return choice;
}

static const char *text_of(const json_t *root, size_t i)
{
    return json_string_value(json_object_get(choice_of(root, i), "text"));
}

static const json_t *logprobs_of(const json_t *root, size_t i, const char *part)
{
    return json_object_get(json_object_get(choice_of(root, i), "logprobs"), part);
}

static json_int_t usage_of(const json_t *root, const char *name)
{
    return json_integer_value(json_object_get(json_object_get(root, "usage"), name));
}

/* ---- choices ----------------------------------------------------------------------------- */

START_TEST(choices_are_what_their_seeds_give)
{
    json_t *all = complete("[\"one\",[257,98,99]]", 7, ",\"n\":3,\"max_tokens\":20");
    for (size_t i = 0; i < 6; i++) {
        json_t *alone =
            complete(i < 3 ? "\"one\"" : "\"bc\"", 7 + (unsigned) i % 3, ",\"max_tokens\":20");
        ck_assert_str_eq(text_of(all, i), text_of(alone, 0));
        json_decref(alone);
    }
    ck_assert_uint_eq(json_array_size(json_object_get(all, "choices")), 6);
    ck_assert_int_eq(usage_of(all, "prompt_tokens"), 4 + 3);
    ck_assert_int_eq(usage_of(all, "completion_tokens"), 120);
    json_decref(all);
}
END_TEST

START_TEST(streams_of_several)
{
    json_t *all = complete("[\"one\",\"two\"]", 7, ",\"n\":2,\"max_tokens\":20,\"echo\":true");
    struct wire_reply r =
        wire_ask(&d, "/v1/completions",
                 "{\"prompt\":[\"one\",\"two\"],\"seed\":7,\"ignore_eos\":true,\"n\":2,"
                 "\"max_tokens\":20,\"echo\":true,\"logprobs\":1,\"stream\":true,"
                 "\"stream_options\":{\"include_usage\":true}}");
    struct stream s = stream_of(&r);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_str_eq(s.choice[i].text, text_of(all, i));
        ck_assert_str_eq(s.choice[i].finish, "length");
        ck_assert_uint_eq(s.choice[i].n_tokens, 4 + 20); /* the prompt's, with its start */
    }
    ck_assert_uint_eq(s.n_done, 1);
    ck_assert_int_eq(json_integer_value(json_object_get(s.usage, "completion_tokens")), 80);
    stream_free(&s);
    wire_reply_free(&r);
    json_decref(all);
}
END_TEST

static double mean_logprob(const json_t *root, size_t i)
{
    const json_t *list = logprobs_of(root, i, "token_logprobs");
    double sum = 0;
    for (size_t k = 0; k < json_array_size(list); k++) {
        sum += json_real_value(json_array_get(list, k));
    }
    return sum / (double) json_array_size(list);
}

START_TEST(the_best_are_the_likeliest)
{
    double best[2] = { -1e9, -1e9 };
    const char more[] = ",\"max_tokens\":15,\"logprobs\":0";
    for (unsigned i = 0; i < 5; i++) {
        json_t *alone = complete("\"x\"", 40 + i, more);
        double m = mean_logprob(alone, 0);
        best[1] = m > best[0] ? best[0] : m > best[1] ? m : best[1];
        best[0] = m > best[0] ? m : best[0];
        json_decref(alone);
    }
    json_t *all =
        complete("\"x\"", 40, ",\"max_tokens\":15,\"logprobs\":0,\"n\":2,\"best_of\":5");
    ck_assert_uint_eq(json_array_size(json_object_get(all, "choices")), 2);
    ck_assert(mean_logprob(all, 0) == best[0] && mean_logprob(all, 1) == best[1]);
    ck_assert_int_eq(usage_of(all, "completion_tokens"), 75); /* all five were made */
    json_decref(all);
    json_t *silent = complete("\"x\"", 40, ",\"max_tokens\":15,\"best_of\":5");
    ck_assert(json_is_null(json_object_get(choice_of(silent, 0), "logprobs")));
    json_decref(silent);
}
END_TEST

/* ---- scores of prompts ------------------------------------------------------------------- */

/* [257, 104, 105, and what was drawn after it] as text of JSON. */
static char *with_drawn(const json_t *root)
{
    json_t *ids = json_copy(json_object_get(choice_of(root, 0), "prompt_token_ids"));
    ck_assert_int_eq(json_array_extend(ids, json_object_get(choice_of(root, 0), "token_ids")),
                     0);
    char *text = json_dumps(ids, JSON_COMPACT);
    json_decref(ids);
    return text;
}

static void check_scores(const json_t *drawn, const json_t *read, size_t n_prompt)
{
    const json_t *a = logprobs_of(drawn, 0, "token_logprobs"),
                 *b = logprobs_of(read, 0, "token_logprobs");
    const json_t *tops_a = logprobs_of(drawn, 0, "top_logprobs"),
                 *tops_b = logprobs_of(read, 0, "top_logprobs");
    ck_assert(json_is_null(json_array_get(b, 0)) && json_is_null(json_array_get(tops_b, 0)));
    for (size_t i = 0; i < json_array_size(a); i++) {
        ck_assert(json_equal(json_array_get(a, i), json_array_get(b, n_prompt + i)));
        ck_assert(json_equal(json_array_get(tops_a, i), json_array_get(tops_b, n_prompt + i)));
    }
}

START_TEST(a_prompt_is_scored_as_it_was_drawn)
{
    json_t *drawn =
        complete("\"hi\"", 9, ",\"max_tokens\":70,\"logprobs\":3,\"return_token_ids\":true");
    char *ids = with_drawn(drawn), body[2048];
    for (int more = 0; more < 2; more++) {
        (void) snprintf(body, sizeof body,
                        "{\"prompt\":%s,\"echo\":true,\"logprobs\":3,\"max_tokens\":%d,"
                        "\"ignore_eos\":true}",
                        ids, more);
        json_t *read = ask(body, 200);
        const json_t *tokens = logprobs_of(read, 0, "tokens");
        ck_assert_uint_eq(json_array_size(tokens), (size_t) (73 + more));
        ck_assert_int_eq(usage_of(read, "completion_tokens"), more);
        ck_assert_int_eq(usage_of(read, "prompt_tokens"), 73);
        ck_assert_str_eq(json_string_value(json_array_get(tokens, 1)), "h");
        ck_assert_int_eq(
            json_integer_value(json_array_get(logprobs_of(read, 0, "text_offset"), 2)), 1);
        check_scores(drawn, read, 3);
        json_decref(read);
    }
    free(ids);
    json_decref(drawn);
}
END_TEST

/* Several prompts at once, as an evaluation asks for them, while others run. */
START_TEST(many_prompts_are_scored_at_once)
{
    json_t *together =
        ask("{\"prompt\":[\"some words\",\"others, and more of them than before\","
            "\"x\"],\"echo\":true,\"logprobs\":1,\"max_tokens\":0}",
            200);
    static const char *const alone[] = { "\"some words\"",
                                         "\"others, and more of them than before\"", "\"x\"" };
    for (size_t i = 0; i < 3; i++) {
        json_t *one = complete(alone[i], 1, ",\"echo\":true,\"logprobs\":1,\"max_tokens\":0");
        ck_assert(json_equal(json_object_get(choice_of(together, i), "logprobs"),
                             json_object_get(choice_of(one, 0), "logprobs")));
        ck_assert_str_eq(text_of(together, i), text_of(one, 0));
        json_decref(one);
    }
    json_decref(together);
}
END_TEST

/* ---- what is drawn, and when it ends ----------------------------------------------------- */

START_TEST(biases)
{
    json_t *a = complete("\"x\"", 1, ",\"max_tokens\":5,\"logit_bias\":{\"65\":100}");
    ck_assert_str_eq(text_of(a, 0), "AAAAA");
    json_decref(a);
    a = complete("\"x\"", 1,
                 ",\"max_tokens\":5,\"temperature\":0,\"logit_bias\":{\"65\":100,"
                 "\"66\":100,\"999999\":100},\"frequency_penalty\":1");
    ck_assert_uint_eq(strspn(text_of(a, 0), "AB"), 5);
    json_decref(a);
}
END_TEST

START_TEST(tokens_that_end_it)
{
    const char bias[] =
        ",\"max_tokens\":9,\"logit_bias\":{\"65\":100},\"stop_token_ids\":[70,65]";
    char more[256];
    json_t *a = complete("\"x\"", 1, bias);
    ck_assert_str_eq(text_of(a, 0), "");
    ck_assert_int_eq(usage_of(a, "completion_tokens"), 1);
    ck_assert_str_eq(json_string_value(json_object_get(choice_of(a, 0), "finish_reason")),
                     "stop");
    json_decref(a);
    (void) snprintf(more, sizeof more, "%s,\"min_tokens\":4", bias);
    a = complete("\"x\"", 1, more);
    ck_assert_int_eq(usage_of(a, "completion_tokens"), 5);
    ck_assert_ptr_null(strchr(text_of(a, 0), 'A'));
    json_decref(a);
    /* The model's own end is held off, too. */
    a = ask("{\"prompt\":\"x\",\"seed\":1,\"max_tokens\":9,\"min_tokens\":9,"
            "\"logit_bias\":{\"256\":100}}",
            200);
    ck_assert_int_eq(usage_of(a, "completion_tokens"), 9);
    json_decref(a);
}
END_TEST

START_TEST(ids_are_told)
{
    json_t *a = complete("\"hi\"", 1, ",\"max_tokens\":4,\"return_token_ids\":true");
    json_t *want = json_pack("[i,i,i]", MODEL_FILE_BOS, 'h', 'i');
    ck_assert(json_equal(json_object_get(choice_of(a, 0), "prompt_token_ids"), want));
    ck_assert_uint_eq(json_array_size(json_object_get(choice_of(a, 0), "token_ids")), 4);
    json_decref(want);
    json_decref(a);
}
END_TEST

START_TEST(time_limits)
{
    json_t *a = complete("\"x\"", 1, ",\"max_tokens\":60000,\"time_limit\":0.5");
    ck_assert_str_eq(json_string_value(json_object_get(choice_of(a, 0), "finish_reason")),
                     "length");
    ck_assert_int_gt(usage_of(a, "completion_tokens"), 0);
    ck_assert_int_lt(usage_of(a, "completion_tokens"), 60000);
    json_decref(a);
    struct wire_reply r = wire_ask(&d, "/v1/completions",
                                   "{\"prompt\":\"x\",\"max_tokens\":60000,\"time_limit\":0.2,"
                                   "\"ignore_eos\":true,\"stream\":true}");
    struct stream s = stream_of(&r);
    ck_assert_str_eq(s.choice[0].finish, "length");
    ck_assert_uint_eq(s.n_done, 1);
    stream_free(&s);
    wire_reply_free(&r);
    /* Too little for a single token. */
    char *body = malloc(40100);
    size_t n = (size_t) sprintf(body, "{\"max_tokens\":5,\"time_limit\":0.001,\"prompt\":\"");
    memset(body + n, 'a', 30000);
    strcpy(body + n + 30000, "\"}");
    a = ask(body, 504);
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(a, "error"), "code")),
                     "time_limit");
    json_decref(a);
    free(body);
    (void) wire_metric_becomes(&d, "mboold_requests_running", 0);
}
END_TEST

/* More choices than the queue holds: all or none. */
START_TEST(all_choices_or_none)
{
    json_t *a =
        ask("{\"prompt\":\"x\",\"n\":128,\"max_tokens\":2000,\"ignore_eos\":true}", 429);
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(a, "error"), "code")),
                     "queue_full");
    json_decref(a);
    (void) wire_metric_becomes(&d, "mboold_requests_running", 0);
    (void) wire_metric_becomes(&d, "mboold_requests_waiting", 0);
}
END_TEST

int main(void)
{
    wire_folder_make();
    Suite *s = suite_create("wire_choices");
    TCase *t = tcase_create("choices");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, choices_are_what_their_seeds_give);
    tcase_add_test(t, streams_of_several);
    tcase_add_test(t, the_best_are_the_likeliest);
    tcase_add_test(t, a_prompt_is_scored_as_it_was_drawn);
    tcase_add_test(t, many_prompts_are_scored_at_once);
    tcase_add_test(t, biases);
    tcase_add_test(t, tokens_that_end_it);
    tcase_add_test(t, ids_are_told);
    tcase_add_test(t, time_limits);
    tcase_add_test(t, all_choices_or_none);
    suite_add_tcase(s, t);
    int status = mb_run_suite(s);
    wire_folder_remove();
    return status;
}
