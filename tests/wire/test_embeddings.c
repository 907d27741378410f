/* Goal:   embeddings, tokenizing and what mboold tells of itself are as OpenAI and vLLM have them.
 * Method: the whole daemon over a socket; vectors are compared with one another: as numbers and as
 *         base64, as text and as ids, alone and beside others; the tokenizer of the model knows
 *         bytes only, so that its ids are known. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/check_main.h"
#include "tests/support/model_file.h"
#include "tests/wire/daemon.h"

static struct wire_daemon d;

static void setup(void)
{
    static const char *const flags[] = { "--max-sequences=4", "--queue-requests=6",
                                         "--step-tokens=32", "--kv-memory=64M", NULL };
    d = wire_start(flags);
}

static void teardown(void)
{
    wire_stop(&d);
}

static json_t *ask(const char *path, const char *json, int status)
{
    struct wire_reply r = wire_ask(&d, path, json);
    ck_assert_msg(r.status == status, "%s %.200s: %s%.500s", path, json ? json : "", r.head,
                  r.body);
    json_t *root = json_loads(r.body, JSON_ALLOW_NUL, NULL);
    ck_assert_msg(root != NULL, "%s", r.body);
    wire_reply_free(&r);
    return root;
}

static const json_t *vector_of(const json_t *root, size_t i)
{
    const json_t *one = json_array_get(json_object_get(root, "data"), i);
    ck_assert_int_eq(json_integer_value(json_object_get(one, "index")), (json_int_t) i);
    ck_assert_str_eq(json_string_value(json_object_get(one, "object")), "embedding");
    return json_object_get(one, "embedding");
}

static double product(const json_t *a, const json_t *b)
{
    double sum = 0;
    ck_assert_uint_eq(json_array_size(a), json_array_size(b));
    for (size_t i = 0; i < json_array_size(a); i++) {
        sum += json_real_value(json_array_get(a, i)) * json_real_value(json_array_get(b, i));
    }
    return sum;
}

START_TEST(a_vector_is_one_long_and_the_texts_alone)
{
    json_t *several =
        ask("/v1/embeddings",
            "{\"model\":\"tiny\",\"input\":[\"hello\",\"another text, which is quite a "
            "bit longer than a step has tokens\",\"hello\",\"x\"]}",
            200);
    json_t *alone = ask("/v1/embeddings", "{\"input\":\"hello\"}", 200);
    json_t *ids = ask("/v1/embeddings", "{\"input\":[257,104,101,108,108,111]}", 200);
    json_t *lists =
        ask("/v1/embeddings", "{\"input\":[[257,120],[257,104,101,108,108,111]]}", 200);
    const json_t *v = vector_of(alone, 0);
    ck_assert(fabs(product(v, v) - 1) < 1e-6);
    ck_assert(json_equal(vector_of(several, 0), v));
    ck_assert(json_equal(vector_of(several, 2), v));
    ck_assert(json_equal(vector_of(ids, 0), v));
    ck_assert(json_equal(vector_of(lists, 1), v));
    ck_assert(json_equal(vector_of(lists, 0), vector_of(several, 3)));
    ck_assert(product(v, vector_of(several, 1)) < 0.999);
    const json_t *usage = json_object_get(several, "usage");
    ck_assert_int_eq(json_integer_value(json_object_get(usage, "prompt_tokens")),
                     6 + 65 + 6 + 2);
    ck_assert_str_eq(json_string_value(json_object_get(several, "object")), "list");
    ck_assert_str_eq(json_string_value(json_object_get(several, "model")), "tiny");
    json_decref(several);
    json_decref(alone);
    json_decref(ids);
    json_decref(lists);
}
END_TEST

static unsigned digit(char c)
{
    return c >= 'A' && c <= 'Z'   ? (unsigned) (c - 'A')
           : c >= 'a' && c <= 'z' ? (unsigned) (c - 'a' + 26)
           : c >= '0' && c <= '9' ? (unsigned) (c - '0' + 52)
           : c == '+'             ? 62
                                  : 63;
}

START_TEST(base64_is_the_same_numbers)
{
    json_t *a = ask("/v1/embeddings", "{\"input\":\"hello\"}", 200);
    json_t *b =
        ask("/v1/embeddings", "{\"input\":\"hello\",\"encoding_format\":\"base64\"}", 200);
    const json_t *numbers = vector_of(a, 0);
    const char *text = json_string_value(vector_of(b, 0));
    size_t n = json_array_size(numbers), n_text = strlen(text);
    ck_assert_uint_eq(n_text, (4 * n + 2) / 3 * 4);
    uint8_t *bytes = calloc(1, n_text);
    ck_assert_ptr_nonnull(bytes);
    for (size_t i = 0; i < n_text; i += 4) {
        unsigned three = 0;
        for (size_t j = 0; j < 4; j++) {
            three = three << 6 | (text[i + j] == '=' ? 0 : digit(text[i + j]));
        }
        bytes[i / 4 * 3] = (uint8_t) (three >> 16);
        bytes[i / 4 * 3 + 1] = (uint8_t) (three >> 8);
        bytes[i / 4 * 3 + 2] = (uint8_t) three;
    }
    for (size_t i = 0; i < n; i++) {
        float x;
        memcpy(&x, bytes + 4 * i, 4);
        ck_assert((double) x == (double) (float) json_real_value(json_array_get(numbers, i)));
    }
    free(bytes);
    json_decref(a);
    json_decref(b);
}
END_TEST

/* More inputs than may wait: those that were begun are not refused for it. */
START_TEST(many_inputs_pass_a_small_queue)
{
    char body[4000] = "{\"input\":[";
    for (int i = 0; i < 100; i++) {
        (void) snprintf(body + strlen(body), sizeof body - strlen(body), "%s\"text %d\"",
                        i ? "," : "", i);
    }
    (void) snprintf(body + strlen(body), sizeof body - strlen(body), "]}");
    int fds[3];
    for (int i = 0; i < 3; i++) {
        fds[i] = wire_open(&d);
        wire_post(fds[i], "/v1/embeddings", body);
    }
    for (int i = 0; i < 3; i++) {
        struct wire_reply r = wire_read(fds[i], false);
        ck_assert_msg(r.status == 200 || (r.status == 429 && i > 0), "%s%s", r.head, r.body);
        wire_reply_free(&r);
    }
}
END_TEST

/* Answers so far, whatever their status. */
static unsigned embeddings_answered(void)
{
    static const char series[] = "mboold_http_requests_total{route=\"embeddings\",code=";
    struct wire_reply r = wire_ask(&d, "/metrics", NULL);
    unsigned n = 0;
    for (const char *at = r.body; (at = strstr(at, series)); at++) {
        n += (unsigned) strtoul(strchr(at, '}') + 1, NULL, 10);
    }
    wire_reply_free(&r);
    return n;
}

START_TEST(a_client_that_leaves_leaves_nothing)
{
    enum { CLIENTS = 4 };
    unsigned before = embeddings_answered();
    for (int i = 0; i < CLIENTS; i++) {
        int fd = wire_open(&d);
        wire_post(fd, "/v1/embeddings",
                  "{\"input\":[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\"]}");
        (void) close(fd);
    }
    for (int i = 0; i < 2000 && embeddings_answered() < before + CLIENTS; i++) {
        (void) usleep(5000);
    }
    ck_assert_uint_eq(embeddings_answered(), before + CLIENTS);
    (void) wire_metric_becomes(&d, "mboold_requests_waiting", 0);
    (void) wire_metric_becomes(&d, "mboold_requests_running", 0);
    json_t *root = ask("/v1/embeddings", "{\"input\":\"hello\"}", 200);
    json_decref(root);
}
END_TEST

static const struct {
    const char *path, *json;
    int status;
    const char *param;
} refusals[] = {
    { "/v1/embeddings", "{}", 400, "input" },
    { "/v1/embeddings", "{\"input\":[]}", 400, "input" },
    { "/v1/embeddings", "{\"input\":\"\"}", 400, "input" },
    { "/v1/embeddings", "{\"input\":[\"a\",7]}", 400, "input" },
    { "/v1/embeddings", "{\"input\":[999]}", 400, "input" },
    { "/v1/embeddings", "{\"input\":{\"a\":1}}", 400, "input" },
    { "/v1/embeddings", "{\"input\":\"a\",\"encoding_format\":\"hex\"}", 400,
      "encoding_format" },
    { "/v1/embeddings", "{\"input\":\"a\",\"dimensions\":3}", 400, "dimensions" },
    { "/v1/embeddings", "{\"input\":\"a\",\"model\":\"other\"}", 404, "model" },
    { "/v1/embeddings", "[]", 400, NULL },
    { "/tokenize", "{}", 400, "prompt" },
    { "/tokenize", "{\"prompt\":7}", 400, "prompt" },
    { "/detokenize", "{}", 400, "tokens" },
    { "/detokenize", "{\"tokens\":[-1]}", 400, "tokens" },
};

START_TEST(nonsense_is_refused_by_name)
{
    json_t *root = ask(refusals[_i].path, refusals[_i].json, refusals[_i].status);
    const json_t *param = json_object_get(json_object_get(root, "error"), "param");
    if (refusals[_i].param) {
        ck_assert_str_eq(json_string_value(param), refusals[_i].param);
    } else {
        ck_assert(json_is_null(param));
    }
    json_decref(root);
}
END_TEST

START_TEST(tokens_there_and_back)
{
    json_t *a = ask("/tokenize", "{\"prompt\":\"h\xc3\xa9\",\"return_token_strs\":true}", 200);
    json_t *want = json_pack("[i,i,i,i]", MODEL_FILE_BOS, 'h', 0xc3, 0xa9);
    ck_assert(json_equal(json_object_get(a, "tokens"), want));
    ck_assert_int_eq(json_integer_value(json_object_get(a, "count")), 4);
    ck_assert_uint_eq(json_array_size(json_object_get(a, "token_strs")), 4);
    json_t *b = ask("/tokenize", "{\"prompt\":\"h\",\"add_special_tokens\":false}", 200);
    ck_assert_int_eq(json_integer_value(json_object_get(b, "count")), 1);
    ck_assert(json_is_null(json_object_get(b, "token_strs")));
    json_t *c = ask("/detokenize", "{\"tokens\":[257,104,195,169]}", 200);
    ck_assert_str_eq(json_string_value(json_object_get(c, "prompt")), "h\xc3\xa9");
    json_t *e = ask("/detokenize", "{\"tokens\":[]}", 200);
    ck_assert_str_eq(json_string_value(json_object_get(e, "prompt")), "");
    json_decref(want);
    json_decref(a);
    json_decref(b);
    json_decref(c);
    json_decref(e);
}
END_TEST

/* On the other thread. */
START_TEST(long_texts_are_tokenized_too)
{
    enum { N = 50000 };
    char *body = malloc(N + 100);
    ck_assert_ptr_nonnull(body);
    size_t at = (size_t) sprintf(body, "{\"prompt\":\"");
    memset(body + at, 'a', N);
    (void) sprintf(body + at + N, "\"}");
    json_t *root = ask("/tokenize", body, 200);
    ck_assert_int_eq(json_integer_value(json_object_get(root, "count")), N + 1);
    json_decref(root);
    int fd = wire_open(&d);
    wire_post(fd, "/tokenize", body);
    (void) close(fd); /* left while it works */
    free(body);
}
END_TEST

START_TEST(it_tells_of_itself)
{
    json_t *version = ask("/version", NULL, 200);
    ck_assert_ptr_nonnull(json_string_value(json_object_get(version, "version")));
    json_t *info = ask("/v1/mbool/info", NULL, 200);
    ck_assert_str_eq(json_string_value(json_object_get(info, "version")),
                     json_string_value(json_object_get(version, "version")));
    const json_t *m = json_array_get(json_object_get(info, "models"), 0);
    const json_t *shape = json_object_get(m, "shape");
    double bits = json_real_value(json_object_get(m, "bits_per_weight"));
    ck_assert_str_eq(json_string_value(json_object_get(m, "id")), "tiny");
    ck_assert_int_eq(json_integer_value(json_object_get(shape, "vocabulary")),
                     MODEL_FILE_VOCAB);
    ck_assert_uint_eq(strlen(json_string_value(json_object_get(m, "epoch"))), 16);
    ck_assert(bits > 1 && bits < 17);
    json_t *one = ask("/v1/models/tiny", NULL, 200);
    ck_assert_str_eq(json_string_value(json_object_get(one, "system_fingerprint")),
                     json_string_value(json_object_get(m, "system_fingerprint")));
    ck_assert_ptr_nonnull(strstr(json_string_value(json_object_get(one, "system_fingerprint")),
                                 json_string_value(json_object_get(m, "epoch"))));
    json_decref(one);
    json_decref(info);
    json_decref(version);
}
END_TEST

int main(void)
{
    wire_folder_make();
    Suite *s = suite_create("embeddings");
    TCase *t = tcase_create("routes");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_vector_is_one_long_and_the_texts_alone);
    tcase_add_test(t, base64_is_the_same_numbers);
    tcase_add_test(t, many_inputs_pass_a_small_queue);
    tcase_add_test(t, a_client_that_leaves_leaves_nothing);
    tcase_add_loop_test(t, nonsense_is_refused_by_name, 0,
                        sizeof refusals / sizeof refusals[0]);
    tcase_add_test(t, tokens_there_and_back);
    tcase_add_test(t, long_texts_are_tokenized_too);
    tcase_add_test(t, it_tells_of_itself);
    suite_add_tcase(s, t);
    int status = mb_run_suite(s);
    wire_folder_remove();
    return status;
}
