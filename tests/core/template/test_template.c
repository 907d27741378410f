/* Goal:   templates of models are rendered as transformers renders them, and no template and no
 *         conversation goes beyond the stated bounds.
 * Method: the cases of this folder against what Jinja made of them (compare.py wrote it,
 *         and compares again where there is a Jinja); each bound by a template that would
 *         pass it; each error by its words; many threads with one template. */
#include "core/template/template.h"

#include <pthread.h>
#include <stdio.h>

#include "core/base/file.h"
#include "tests/check_main.h"
#include "tests/core/template/cases.h"

static const char *in_folder(const char *name)
{
    static char path[4096];
    (void) snprintf(path, sizeof path, "%s/tests/core/template/%s", getenv("MB_SOURCE"), name);
    return path;
}

static json_t *load(const char *name)
{
    json_error_t why;
    json_t *j = json_load_file(in_folder(name), JSON_DECODE_ANY, &why);
    ck_assert_msg(j != NULL, "%s: %s", name, why.text);
    return j;
}

static char *text_of(const char *name)
{
    FILE *f = fopen(in_folder(name), "rb");
    ck_assert_msg(f != NULL, "%s is missing", name);
    char *text = calloc(1, 1 << 20);
    size_t n = fread(text, 1, (1 << 20) - 1, f);
    ck_assert_uint_gt(n, 0);
    (void) fclose(f);
    return text;
}

/* ---- against Jinja ----------------------------------------------------------------------- */

/* One case: want is a string, or null where Jinja refuses. */
static void check_case(const char *template, const json_t *variables, const json_t *want)
{
    struct mb_bytes out = { 0 };
    struct mb_error err = { 0 };
    json_t *c = json_pack("{s:s,s:O}", "template", template, "variables", variables);
    enum mb_status st = render_case(c, &out, &err);
    if (json_is_null(want)) {
        ck_assert_msg(st != MB_OK, "%s: Jinja refuses it; got %s", template,
                      mb_bytes_text(&out));
    } else {
        ck_assert_msg(st == MB_OK, "%s: %s", template, err.what);
        ck_assert_msg(strcmp(mb_bytes_text(&out), json_string_value(want)) == 0,
                      "%s:\nwant %s\ngot  %s", template, json_string_value(want),
                      mb_bytes_text(&out));
    }
    json_decref(c);
    mb_bytes_fini(&out);
}

static size_t check_small(const char *name, const char *between, const char *form,
                          const json_t *variables, const json_t *wanted, size_t at)
{
    char *text = text_of(name);
    for (char *one = text; one && *one; at++) {
        char *end = strstr(one, between), whole[8192];
        if (end) {
            *end = '\0';
        }
        (void) snprintf(whole, sizeof whole, form, one);
        check_case(whole, variables, json_array_get(wanted, at));
        one = end ? end + strlen(between) : NULL;
    }
    free(text);
    return at;
}

static const char *const chats[] = { "chatml",        "deepseek",      "gemma",
                                     "granite_style", "hermes_types",  "llama2",
                                     "llama3_tools",  "mistral_tools", "phi",
                                     "qwen_tools",    "thinking",      "zephyr" };

START_TEST(templates_are_rendered_as_jinja_renders_them)
{
    json_t *variables = load("variables.json"), *wanted = load("expected.json");
    size_t at = check_small("expressions.txt", "\n", "{{ %s }}", variables, wanted, 0);
    at = check_small("templates.txt", "\n---\n", "%s", variables, wanted, at);
    json_t *conversations = load("chats/conversations.json"), *one;
    for (size_t i = 0; i < sizeof chats / sizeof chats[0]; i++) {
        char name[100];
        size_t k;
        (void) snprintf(name, sizeof name, "chats/%s.jinja", chats[i]);
        char *text = text_of(name);
        json_array_foreach (conversations, k, one) {
            check_case(text, one, json_array_get(wanted, at++));
        }
        free(text);
    }
    ck_assert_uint_eq(at, json_array_size(wanted));
    json_decref(conversations);
    json_decref(variables);
    json_decref(wanted);
}
END_TEST

/* ---- errors and bounds ------------------------------------------------------------------- */

static const struct {
    const char *template;
    enum mb_status status;
    const char *says;
} refused[] = {
    { "a\n{% if x %}b", MB_E_FORMAT, "line 2: the template ends before {% endif %}" },
    { "{% endfor %}", MB_E_FORMAT, "expected a statement, not 'endfor'" },
    { "{{ 1", MB_E_FORMAT, "a tag that does not end" },
    { "{{ 'a }}", MB_E_FORMAT, "a string that does not end" },
    { "{# a", MB_E_FORMAT, "a comment that does not end" },
    { "{% raw %}", MB_E_FORMAT, "without {% endraw %}" },
    { "{{ ) }}", MB_E_FORMAT, "a closing bracket that closes none" },
    { "{{ 1 + }}", MB_E_FORMAT, "expected a value, not }}" },
    { "{{ a b }}", MB_E_FORMAT, "expected }}, not 'b'" },
    { "{{ 99999999999999999999 }}", MB_E_FORMAT, "beyond 64 bits" },
    { "{{ '\\ud800' }}", MB_E_FORMAT, "an escape of a string" },
    { "{% set none = 1 %}", MB_E_FORMAT, "'none' can not be set" },
    { "{% break %}", MB_E_FORMAT, "in loops only" },
    { "{% for x in y %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}", MB_E_FORMAT,
      "in loops only" },
    { "{{ f(a=1, 2) }}", MB_E_FORMAT, "without a name after one with" },
    { "{% macro m(a=1, b) %}{% endmacro %}", MB_E_FORMAT, "without a default" },
    { "{{ $ }}", MB_E_FORMAT, "means nothing here" },
    { "{% include 'x' %}", MB_E_UNSUPPORTED, "{% include %} is not offered" },
    { "{% for x in y recursive %}{% endfor %}", MB_E_UNSUPPORTED, "recursive" },
    { "{{ f(*a) }}", MB_E_UNSUPPORTED, "not offered" },
    { "a\n\n{{ raise_exception('no ' ~ 'good') }}", MB_E_INVALID, "line 3: no good" },
    { "{{ a.b }}", MB_E_INVALID, "'a' is undefined" },
    { "{{ a() }}", MB_E_INVALID, "'a' is undefined" },
    { "{{ 'x'.nothing() }}", MB_E_INVALID, "'nothing' is undefined" },
    { "{{ 1 + 'a' }}", MB_E_INVALID, "a int + a str is not defined" },
    { "{{ 1 | quux }}", MB_E_INVALID, "there is no filter 'quux'" },
    { "{{ 1 is quux }}", MB_E_INVALID, "there is no test 'quux'" },
    { "{{ 'a'|replace('b') }}", MB_E_INVALID, "needs the argument 'new'" },
    { "{{ 'a'|trim(1, 2) }}", MB_E_INVALID, "takes 1 arguments at most" },
    { "{{ 'a'|trim(x=2) }}", MB_E_INVALID, "no argument 'x'" },
    { "{{ 9223372036854775807 + 1 }}", MB_E_INVALID, "beyond 64 bits" },
    { "{{ -9223372036854775807 - 1 - 1 }}", MB_E_INVALID, "beyond 64 bits" },
    { "{{ (-9223372036854775807 - 1) // -1 }}", MB_E_INVALID, "beyond 64 bits" },
    { "{% set x.y = 1 %}", MB_E_INVALID, "attributes of a namespace only" },
    { "{% set l = [] %}{% set _ = l.append(l) %}{{ l }}", MB_E_LIMIT, "nested deeper" },
    { "{% set l = [] %}{% set _ = l.append(l) %}{{ l|tojson }}", MB_E_LIMIT, "nested deeper" },
    { "{% set l = [] %}{% set _ = l.append(l) %}{% set k = [] %}{% set _ = k.append(k) %}"
      "{{ l == k }}",
      MB_E_LIMIT, "nested deeper" },
    { "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", MB_E_LIMIT, "nested deeper" },
    { "{{ 'xxxxxxxxxx' * 100000000 }}", MB_E_LIMIT, "it writes more than" },
    { "{{ 'x' * 1000000000000 }}", MB_E_LIMIT, "" },
    { "{{ '' * 9000000000000000000 ~ [0] * 9000000000000000000 }}", MB_E_LIMIT, "" },
    { "{{ 'x'.center(1000000000000) }}", MB_E_LIMIT, "" },
    { "{{ '%1000000d' % 1 }}", MB_E_LIMIT, "wider than" },
    { "{{ range(100001) }}", MB_E_LIMIT, "more than 100000 elements" },
    { "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
      MB_E_LIMIT, "more than" },
    { "{% set r = range(100000) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
      MB_E_LIMIT, "" },
    { "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set ns.l = [ns.l] %}{% endfor %}"
      "{{ ns.l }}",
      MB_E_LIMIT, "nested deeper" },
    { "{% set l = range(90000)|list %}{{ l|map('string')|unique|list|length }}", MB_E_LIMIT,
      "more work" },
    { "{% set s = 'x' * 1000000 %}{% for i in range(99999) %}{{ s|upper|length }}{% endfor %}",
      MB_E_LIMIT, "" },
    /* What is looked for and not found is work, too. */
    { "{% set s = 'a' * 1000000 %}{% for i in range(99999) %}{{ s.split('b')|length }}{% endfor %}",
      MB_E_LIMIT, "more work" },
    { "{% set s = 'a' * 1000000 %}{% set p = 'b' ~ 'a' * 1000 %}{% for i in range(99999) %}"
      "{% if s.rfind(p) > 0 %}{% endif %}{% endfor %}",
      MB_E_LIMIT, "more work" },
    { "{% set a = 'a' * 1000000 ~ 'b' %}{% set b = 'a' * 1000000 ~ 'c' %}"
      "{% for i in range(99999) %}{% if a == b %}{% endif %}{% endfor %}",
      MB_E_LIMIT, "more work" },
    { "{{ ('a' * 1000000).strip('b' * 1000000 ~ 'a') }}", MB_E_LIMIT, "more work" },
    { "{{ [1]|map('map', 'map', 'map')|list }}", MB_E_INVALID, "" },
    { "{{ 9223372036854775807|round(-19) }}", MB_E_INVALID, "beyond 64 bits" },
    { "{{ range(0, 9223372036854775807, 4611686018427387904) }}", MB_E_INVALID,
      "a range can not be written" },
};

START_TEST(what_is_refused_says_why)
{
    json_t *c =
        json_pack("{s:s,s:{s:i}}", "template", refused[_i].template, "variables", "x", 1);
    struct mb_bytes out = { 0 };
    struct mb_error err = { 0 };
    enum mb_status st = render_case(c, &out, &err);
    ck_assert_msg(st == refused[_i].status && strstr(err.what, refused[_i].says) != NULL,
                  "%s: want %s '%s', got %s '%s'", refused[_i].template,
                  mb_status_name(refused[_i].status), refused[_i].says, mb_status_name(st),
                  st == MB_OK ? mb_bytes_text(&out) : err.what);
    mb_bytes_fini(&out);
    json_decref(c);
}
END_TEST

/* n times a part, between a start and an end. */
static enum mb_status compile_many(const char *start, const char *part, size_t n,
                                   const char *end)
{
    struct mb_bytes text = { 0 };
    struct mb_template *t = NULL;
    struct mb_error err;
    mb_bytes_put_text(&text, start);
    for (size_t i = 0; i < n; i++) {
        mb_bytes_put_text(&text, part);
    }
    mb_bytes_put_text(&text, end);
    enum mb_status st = mb_template_new((char *) text.at, text.len, &t, &err);
    mb_template_free(t);
    mb_bytes_fini(&text);
    return st;
}

START_TEST(depth_of_a_template_is_bounded)
{
    ck_assert_int_eq(compile_many("{{ ", "(", 100000, ""), MB_E_LIMIT);
    ck_assert_int_eq(compile_many("{{ ", "not ", 100000, "x }}"), MB_E_LIMIT);
    ck_assert_int_eq(compile_many("{{ ", "- ", 100000, "x }}"), MB_E_LIMIT);
    ck_assert_int_eq(compile_many("{{ ", "x if x else ", 50000, "x }}"), MB_E_LIMIT);
    ck_assert_int_eq(compile_many("", "{% if x %}", 50000, ""), MB_E_LIMIT);
    ck_assert_int_eq(compile_many("{{ ", "[", 100000, ""), MB_E_LIMIT);
    ck_assert_int_eq(compile_many("{% for ", "(", 100000, ""), MB_E_LIMIT);
    /* These are long, not deep. */
    ck_assert_int_eq(compile_many("{{ ", "x ~ ", 100000, "x }}"), MB_OK);
    ck_assert_int_eq(compile_many("{% if x %}", "{% elif x %}", 50000, "{% endif %}"), MB_OK);
    ck_assert_int_eq(compile_many("{{ [", "1,", 100000, "] }}"), MB_OK);
    ck_assert_int_eq(compile_many("", "{{ x }}\n", 100000, ""), MB_OK);
    ck_assert_int_eq(compile_many("", "x", (1 << 20) + 1, ""), MB_E_LIMIT);
}
END_TEST

START_TEST(variables_of_all_kinds)
{
    static const char text[] =
        "{{ a }}|{{ b }}|{{ c }}|{{ d }}|{{ e.f[1] }}|{{ g is defined }}";
    const struct mb_variable variables[] = {
        { .name = "a", .kind = MB_VARIABLE_NONE },
        { .name = "b", .kind = MB_VARIABLE_TRUE },
        { .name = "c", .kind = MB_VARIABLE_FALSE },
        { .name = "d", .kind = MB_VARIABLE_TEXT, .text = "<s>", .n = 3 },
        { .name = "e", .kind = MB_VARIABLE_JSON, .text = "{\"f\": [1, 2.50]}", .n = 16 },
    };
    struct mb_template *t;
    struct mb_error err;
    struct mb_bytes out = { 0 };
    mb_assert_ok(mb_template_new(text, sizeof text - 1, &t, &err), &err);
    mb_bytes_put_text(&out, ">");
    mb_assert_ok(mb_template_render(t, variables, 5, NULL, &out, &err), &err);
    ck_assert_str_eq(mb_bytes_text(&out), ">None|True|False|<s>|2.5|False");

    const struct mb_variable broken = {
        .name = "a", .kind = MB_VARIABLE_JSON, .text = "{", .n = 1
    };
    ck_assert_int_eq(mb_template_render(t, &broken, 1, NULL, &out, &err), MB_E_FORMAT);
    ck_assert_str_eq(mb_bytes_text(&out), ">None|True|False|<s>|2.5|False");
    ck_assert(mb_template_mentions(t, "defined"));
    ck_assert(!mb_template_mentions(t, "define"));
    mb_bytes_fini(&out);
    mb_template_free(t);
}
END_TEST

START_TEST(no_time_no_function)
{
    struct mb_template *t;
    struct mb_error err;
    struct mb_bytes out = { 0 };
    static const char text[] = "{{ strftime_now is defined }}";
    mb_assert_ok(mb_template_new(text, sizeof text - 1, &t, &err), &err);
    mb_assert_ok(mb_template_render(t, NULL, 0, NULL, &out, &err), &err);
    ck_assert_str_eq(mb_bytes_text(&out), "False");
    mb_bytes_fini(&out);
    mb_template_free(t);
}
END_TEST

/* ---- threads ----------------------------------------------------------------------------- */

enum { THREADS = 4, RENDERS = 200 };

static void *render_often(void *arg)
{
    const struct mb_template *t = arg;
    const char messages[] = "[{\"role\": \"user\", \"content\": \"Hi\"}]";
    const struct mb_variable v = {
        .name = "messages", .kind = MB_VARIABLE_JSON, .text = messages, .n = sizeof messages - 1
    };
    for (int i = 0; i < RENDERS; i++) {
        struct mb_bytes out = { 0 };
        struct mb_error err;
        if (mb_template_render(t, &v, 1, NULL, &out, &err) != MB_OK ||
            strcmp(mb_bytes_text(&out), "<|im_start|>user\nHi<|im_end|>\n") != 0) {
            return arg;
        }
        mb_bytes_fini(&out);
    }
    return NULL;
}

START_TEST(threads_share_a_template)
{
    struct mb_template *t;
    struct mb_error err;
    pthread_t threads[THREADS];
    char *text = text_of("chats/chatml.jinja");
    mb_assert_ok(mb_template_new(text, strlen(text), &t, &err), &err);
    free(text);
    for (int i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, render_often, t), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *failed;
        ck_assert_int_eq(pthread_join(threads[i], &failed), 0);
        ck_assert_ptr_null(failed);
    }
    mb_template_free(t);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("template");
    TCase *t = tcase_create("jinja");
    tcase_add_test(t, templates_are_rendered_as_jinja_renders_them);
    tcase_add_loop_test(t, what_is_refused_says_why, 0, sizeof refused / sizeof refused[0]);
    tcase_add_test(t, depth_of_a_template_is_bounded);
    tcase_add_test(t, variables_of_all_kinds);
    tcase_add_test(t, no_time_no_function);
    tcase_add_test(t, threads_share_a_template);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
