/* A case of the template engine as JSON: {"template": text, "variables": {name: value,
 * ...}}. */
#ifndef MB_TESTS_TEMPLATE_CASES_H
#define MB_TESTS_TEMPLATE_CASES_H

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/template/template.h"

enum { CASE_VARIABLES_MAX = 32 };

/* The time that strftime_now tells: 2026-02-03 04:05:06, a Tuesday. */
static inline struct tm case_time(void)
{
    return (struct tm) { .tm_year = 126,
                         .tm_mon = 1,
                         .tm_mday = 3,
                         .tm_hour = 4,
                         .tm_min = 5,
                         .tm_sec = 6,
                         .tm_wday = 2,
                         .tm_yday = 33 };
}

static inline enum mb_status render_case(const json_t *c, struct mb_bytes *ret,
                                         struct mb_error *err)
{
    struct mb_variable variables[CASE_VARIABLES_MAX];
    char *texts[CASE_VARIABLES_MAX];
    size_t n = 0;
    const char *name;
    json_t *value;
    json_object_foreach (json_object_get(c, "variables"), name, value) {
        if (n == CASE_VARIABLES_MAX) {
            break;
        }
        texts[n] = json_dumps(value, JSON_ENCODE_ANY);
        variables[n] = (struct mb_variable) {
            .name = name, .kind = MB_VARIABLE_JSON, .text = texts[n], .n = strlen(texts[n])
        };
        n++;
    }
    const json_t *text = json_object_get(c, "template");
    struct tm now = case_time();
    struct mb_template *t = NULL;
    enum mb_status st =
        mb_template_new(json_string_value(text), json_string_length(text), &t, err);
    if (st == MB_OK) {
        st = mb_template_render(t, variables, n, &now, ret, err);
    }
    mb_template_free(t);
    while (n > 0) {
        free(texts[--n]);
    }
    return st;
}

#endif
