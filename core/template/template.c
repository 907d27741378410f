#include "core/template/template.h"

#include <stdlib.h>
#include <string.h>

#include "core/template/json.h"
#include "core/template/run.h"
#include "core/tokenizer/utf8.h"

enum { TREE_BYTES_MAX = 256 << 20 }; /* of a template of MB_TEMPLATE_TEXT_MAX */

struct mb_template {
    struct mb_arena arena; /* of the text and the tree */
    const char *text;
    size_t n;
    struct mb_node *root;
};

/* Lines end in \n, however they ended; one at the end of the text is dropped. */
static size_t take_lines(char *text, size_t n)
{
    size_t to = 0;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (c == '\r') {
            c = '\n';
            i += i + 1 < n && text[i + 1] == '\n';
        }
        text[to++] = c;
    }
    return to - (to > 0 && text[to - 1] == '\n');
}

static enum mb_status check_text(const char *text, size_t n, struct mb_error *err)
{
    if (n > MB_TEMPLATE_TEXT_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, "chat template: %zu bytes are more than %u", n,
                       MB_TEMPLATE_TEXT_MAX);
    }
    if (!mb_utf8_valid((const uint8_t *) text, n) || (n > 0 && memchr(text, '\0', n))) {
        return mb_fail(err, MB_E_FORMAT, 0, "chat template: not UTF-8, or with a zero byte");
    }
    return MB_OK;
}

enum mb_status mb_template_new(const char *text, size_t n, struct mb_template **ret,
                               struct mb_error *err)
{
    enum mb_status st = check_text(text, n, err);
    if (st != MB_OK) {
        return st;
    }
    struct mb_template *t = calloc(1, sizeof *t);
    if (!t) {
        return mb_fail(err, MB_E_NOMEM, 0, "chat template: no memory");
    }
    mb_arena_init(&t->arena, TREE_BYTES_MAX);
    char *copy = mb_arena_text(&t->arena, text, n);
    if (!copy) {
        mb_template_free(t);
        return mb_fail(err, MB_E_NOMEM, 0, "chat template: no memory");
    }
    t->text = copy;
    t->n = take_lines(copy, n);
    st = mb_template_parse(t->text, t->n, &t->arena, &t->root, err);
    if (st != MB_OK) {
        mb_template_free(t);
        return st;
    }
    *ret = t;
    return MB_OK;
}

void mb_template_free(struct mb_template *t)
{
    if (!t) {
        return;
    }
    mb_arena_fini(&t->arena);
    free(t);
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '_';
}

bool mb_template_mentions(const struct mb_template *t, const char *name)
{
    size_t n = strlen(name);
    for (size_t at = 0; at + n <= t->n; at++) {
        const char *p = memmem(t->text + at, t->n - at, name, n);
        if (!p) {
            return false;
        }
        at = (size_t) (p - t->text);
        if ((at == 0 || !is_word(p[-1])) && (at + n == t->n || !is_word(p[n]))) {
            return true;
        }
    }
    return false;
}

static bool take_variable(struct mb_render *r, const struct mb_variable *v,
                          struct mb_jinja_value *ret)
{
    switch (v->kind) {
    case MB_VARIABLE_NONE:
        *ret = mb_jinja_value_none();
        return true;
    case MB_VARIABLE_TRUE:
    case MB_VARIABLE_FALSE:
        *ret = mb_jinja_value_bool(v->kind == MB_VARIABLE_TRUE);
        return true;
    case MB_VARIABLE_TEXT:
        if (!mb_utf8_valid((const uint8_t *) v->text, v->n) || v->n > UINT32_MAX) {
            return mb_render_fail(r, MB_E_FORMAT, "the variable '%s' is not UTF-8", v->name);
        }
        *ret = mb_jinja_value_string(v->text, v->n);
        return true;
    case MB_VARIABLE_JSON:
        return mb_json_read(r, v->text, v->n, ret);
    }
    return false;
}

static bool set_variable(struct mb_render *r, struct mb_scope *s, const char *name,
                         struct mb_jinja_value v)
{
    if (name) {
        return mb_scope_set(r, s, mb_jinja_value_string(name, strlen(name)), v);
    }
    if (v.kind != MB_VALUE_DICT) {
        return mb_render_fail(r, MB_E_FORMAT, "a variable without a name is no object");
    }
    for (size_t i = 0; i < v.dict->len; i++) {
        if (!mb_scope_set(r, s, v.dict->at[i].key, v.dict->at[i].value)) {
            return false;
        }
    }
    return true;
}

static bool run(struct mb_render *r, const struct mb_template *t,
                const struct mb_variable *variables, size_t n_variables)
{
    struct mb_scope *given, *top;
    if (!mb_scope_new(r, NULL, &given) || !mb_scope_new(r, given, &top)) {
        return false;
    }
    for (size_t i = 0; i < n_variables; i++) {
        struct mb_jinja_value v;
        if (!take_variable(r, &variables[i], &v) ||
            !set_variable(r, given, variables[i].name, v)) {
            return false;
        }
    }
    return mb_execute(r, t->root, top) != MB_FLOW_FAILED;
}

enum mb_status mb_template_render(const struct mb_template *t,
                                  const struct mb_variable *variables, size_t n_variables,
                                  const struct tm *now, struct mb_bytes *ret,
                                  struct mb_error *err)
{
    struct mb_render r = { .now = now, .err = err };
    mb_arena_init(&r.arena, MB_TEMPLATE_MEMORY_MAX);
    if (run(&r, t, variables, n_variables)) {
        mb_bytes_put(ret, r.out.at, r.out.len);
        if (ret->failed) {
            (void) mb_render_fail(&r, MB_E_NOMEM, "no memory");
        }
    }
    mb_bytes_fini(&r.out);
    mb_arena_fini(&r.arena);
    return r.status;
}
