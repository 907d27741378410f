/* A template and its variables of any bytes: refused with a reason, or rendered, within the bounds;
 * and rendered the same again. The input is the template, a line of three dashes, and a JSON object
 * of variables. */
#include <jansson.h>
#include <string.h>

#include "core/template/template.h"
#include "tests/fuzz/fuzz.h"

static const char divider[] = "\n---\n";

enum { VARIABLES_MAX = 8 };

struct variables {
    struct mb_variable at[VARIABLES_MAX];
    char *text[VARIABLES_MAX];
    size_t n;
};

static void take_variables(const uint8_t *at, size_t n, struct variables *ret,
                           json_t **ret_root)
{
    const char *name;
    json_t *value;
    *ret_root = json_loadb((const char *) at, n, 0, NULL);
    json_object_foreach (*ret_root, name, value) {
        if (ret->n == VARIABLES_MAX) {
            break;
        }
        char *text = json_dumps(value, JSON_ENCODE_ANY);
        fuzz_assert(text);
        ret->text[ret->n] = text;
        ret->at[ret->n++] = (struct mb_variable) {
            .name = name, .kind = MB_VARIABLE_JSON, .text = text, .n = strlen(text)
        };
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t n)
{
    const uint8_t *end = memmem(at, n, divider, sizeof divider - 1);
    size_t n_text = end ? (size_t) (end - at) : n;
    struct mb_template *t;
    struct mb_error err = { 0 };
    enum mb_status st = mb_template_new((const char *) at, n_text, &t, &err);
    if (st != MB_OK) {
        fuzz_assert(err.what[0]);
        return 0;
    }
    struct variables v = { .n = 0 };
    json_t *root = NULL;
    if (end) {
        take_variables(end + sizeof divider - 1, n - n_text - (sizeof divider - 1), &v, &root);
    }
    struct mb_bytes first = { 0 }, second = { 0 };
    enum mb_status one = mb_template_render(t, v.at, v.n, NULL, &first, &err);
    fuzz_assert(one == MB_OK || err.what[0]);
    fuzz_assert(first.len <= MB_TEMPLATE_OUTPUT_MAX);
    if (n < 512) { /* a long one takes its time */
        enum mb_status two = mb_template_render(t, v.at, v.n, NULL, &second, &err);
        fuzz_assert(one == two && first.len == second.len);
        fuzz_assert(first.len == 0 || memcmp(first.at, second.at, first.len) == 0);
    }
    mb_bytes_fini(&first);
    mb_bytes_fini(&second);
    for (size_t i = 0; i < v.n; i++) {
        free(v.text[i]);
    }
    json_decref(root);
    mb_template_free(t);
    return 0;
}
