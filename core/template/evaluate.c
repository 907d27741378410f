/* Expressions. */
#include <string.h>

#include "core/template/number.h"
#include "core/template/run.h"

/* ---- scopes ------------------------------------------------------------------------------ */

bool mb_scope_new(struct mb_render *r, struct mb_scope *around, struct mb_scope **ret)
{
    struct mb_scope *s = mb_render_alloc(r, 1, sizeof *s);
    if (!s) {
        return false;
    }
    s->around = around;
    *ret = s;
    return true;
}

static bool same_name(struct mb_jinja_value a, struct mb_jinja_value b)
{
    return a.n == b.n && (a.text == b.text || memcmp(a.text, b.text, a.n) == 0);
}

bool mb_scope_set(struct mb_render *r, struct mb_scope *s, struct mb_jinja_value name,
                  struct mb_jinja_value v)
{
    for (size_t i = 0; i < s->len; i++) {
        if (same_name(s->at[i].name, name)) {
            s->at[i].value = v;
            return mb_render_work(r, i / 4);
        }
    }
    if (s->len == s->cap) {
        size_t cap = 2 * s->cap + 4;
        struct mb_binding *at = mb_render_alloc(r, cap, sizeof *at);
        if (!at) {
            return false;
        }
        if (s->len > 0) {
            memcpy(at, s->at, s->len * sizeof *at);
        }
        s->at = at;
        s->cap = cap;
    }
    s->at[s->len++] = (struct mb_binding) { name, v };
    return mb_render_work(r, 1 + s->len / 4);
}

bool mb_scope_find(struct mb_render *r, const struct mb_scope *s, struct mb_jinja_value name,
                   struct mb_jinja_value *ret)
{
    size_t looked = 0;
    for (; s; s = s->around) {
        for (size_t i = 0; i < s->len; i++) {
            if (same_name(s->at[i].name, name)) {
                *ret = s->at[i].value;
                (void) mb_render_work(r, looked / 4);
                return true;
            }
        }
        looked += s->len + 1;
    }
    (void) mb_render_work(r, looked / 4);
    return false;
}

static bool find_name(struct mb_render *r, const struct mb_scope *s, struct mb_jinja_value name,
                      struct mb_jinja_value *ret)
{
    if (!mb_scope_find(r, s, name, ret) && !mb_builtin_find(r, name, ret)) {
        *ret = mb_jinja_value_undefined(name.text, name.n);
    }
    return r->status == MB_OK;
}

/* ---- collections and parts --------------------------------------------------------------- */

static bool make_list(struct mb_render *r, const struct mb_node *n, struct mb_scope *s,
                      struct mb_jinja_value *ret)
{
    struct mb_jinja_value v;
    if (!mb_list_new(r, n->kind == MB_NODE_TUPLE ? MB_TUPLE : MB_LIST, 4, ret)) {
        return false;
    }
    for (const struct mb_node *e = n->list; e; e = e->next) {
        if (!mb_jinja_evaluate(r, e, s, &v) || !mb_list_push(r, ret->list, v)) {
            return false;
        }
    }
    return true;
}

static bool make_dict(struct mb_render *r, const struct mb_node *n, struct mb_scope *s,
                      struct mb_jinja_value *ret)
{
    struct mb_jinja_value key, v;
    if (!mb_dict_new(r, 4, ret)) {
        return false;
    }
    for (const struct mb_node *e = n->list; e; e = e->next->next) {
        if (!mb_jinja_evaluate(r, e, s, &key) || !mb_jinja_evaluate(r, e->next, s, &v) ||
            !mb_dict_set(r, ret->dict, key, v)) {
            return false;
        }
    }
    return true;
}

static bool take_item(struct mb_render *r, const struct mb_node *n, struct mb_scope *s,
                      struct mb_jinja_value *ret)
{
    struct mb_jinja_value whole, key;
    return mb_jinja_evaluate(r, n->left, s, &whole) &&
           mb_jinja_evaluate(r, n->right, s, &key) && mb_jinja_value_item(r, whole, key, ret);
}

static bool take_slice(struct mb_render *r, const struct mb_node *n, struct mb_scope *s,
                       struct mb_jinja_value *ret)
{
    struct mb_jinja_value whole, bounds[3] = { 0 };
    if (!mb_jinja_evaluate(r, n->left, s, &whole)) {
        return false;
    }
    const struct mb_node *e = n->list;
    for (size_t i = 0; i < 3; i++, e = e->next) {
        if (e->kind != MB_NODE_NOTHING && !mb_jinja_evaluate(r, e, s, &bounds[i])) {
            return false;
        }
    }
    return mb_jinja_value_slice(r, whole, bounds, ret);
}

static bool join(struct mb_render *r, const struct mb_node *n, struct mb_scope *s,
                 struct mb_jinja_value *ret)
{
    /* The parts first: what they call may use the end of the output, too. */
    struct mb_jinja_value parts, v;
    if (!make_list(r, n, s, &parts)) {
        return false;
    }
    size_t mark = mb_render_mark(r);
    for (size_t i = 0; i < parts.list->len; i++) {
        v = parts.list->at[i];
        if (!mb_jinja_value_print(r, v)) {
            return false;
        }
    }
    return mb_render_cut(r, mark, ret);
}

/* ---- calls ------------------------------------------------------------------------------- */

bool mb_jinja_evaluate_arguments(struct mb_render *r, const struct mb_node *list,
                                 struct mb_scope *s, struct mb_args *ret)
{
    size_t n = 0, n_named = 0;
    for (const struct mb_node *e = list; e; e = e->next) {
        n += e->kind != MB_NODE_NAMED;
        n_named += e->kind == MB_NODE_NAMED;
    }
    *ret = (struct mb_args) {
        .at = mb_render_alloc(r, n, sizeof *ret->at),
        .named = mb_render_alloc(r, n_named + 1, sizeof *ret->named),
    };
    if (!ret->at || !ret->named) {
        return false;
    }
    for (const struct mb_node *e = list; e; e = e->next) {
        bool named = e->kind == MB_NODE_NAMED;
        struct mb_jinja_value v;
        if (!mb_jinja_evaluate(r, named ? e->left : e, s, &v)) {
            return false;
        }
        if (named) {
            ret->named[ret->n_named++] = (struct mb_named) { e->value, v };
        } else {
            ret->at[ret->n++] = v;
        }
    }
    return true;
}

/* What a call, a filter or a test is applied to, and its arguments. */
static bool operands(struct mb_render *r, const struct mb_node *n, struct mb_scope *s,
                     struct mb_jinja_value *ret_left, struct mb_args *ret_args)
{
    bool ok = mb_jinja_evaluate(r, n->left, s, ret_left) &&
              mb_jinja_evaluate_arguments(r, n->list, s, ret_args);
    r->line = n->line; /* of what is applied, not of its last argument */
    return ok;
}

static bool call(struct mb_render *r, const struct mb_node *n, struct mb_scope *s,
                 struct mb_jinja_value *ret)
{
    struct mb_jinja_value callee;
    struct mb_args args;
    return operands(r, n, s, &callee, &args) && mb_jinja_value_call(r, callee, &args, ret);
}

static bool filter(struct mb_render *r, const struct mb_node *n, struct mb_scope *s,
                   struct mb_jinja_value *ret)
{
    struct mb_jinja_value in;
    struct mb_args args;
    return operands(r, n, s, &in, &args) && mb_filter_apply(r, n->value, in, &args, ret);
}

static bool test(struct mb_render *r, const struct mb_node *n, struct mb_scope *s,
                 struct mb_jinja_value *ret)
{
    struct mb_jinja_value in;
    struct mb_args args;
    bool holds = false;
    if (!operands(r, n, s, &in, &args) || !mb_test_apply(r, n->value, in, &args, &holds)) {
        return false;
    }
    *ret = mb_jinja_value_bool(holds != n->negated);
    return true;
}

/* ---- operators --------------------------------------------------------------------------- */

static bool relates(struct mb_render *r, enum mb_relation op, struct mb_jinja_value a,
                    struct mb_jinja_value b, bool *ret)
{
    bool ok, same = false;
    int k = 2; /* no order: NaN */
    switch (op) {
    case MB_EQUAL:
    case MB_UNEQUAL:
        ok = mb_jinja_value_equal(r, a, b, &same);
        *ret = same == (op == MB_EQUAL);
        return ok;
    case MB_IN:
    case MB_NOT_IN:
        ok = mb_jinja_value_contains(r, b, a, &same);
        *ret = same == (op == MB_IN);
        return ok;
    default:
        ok = mb_jinja_value_order(r, a, b, &k);
        *ret = (k == -1 && (op == MB_BELOW || op == MB_AT_MOST)) ||
               (k == 1 && (op == MB_ABOVE || op == MB_AT_LEAST)) ||
               (k == 0 && (op == MB_AT_MOST || op == MB_AT_LEAST));
        return ok;
    }
}

/* a < b < c is a < b and b < c, with b evaluated once. */
static bool compare(struct mb_render *r, const struct mb_node *n, struct mb_scope *s,
                    struct mb_jinja_value *ret)
{
    struct mb_jinja_value left, right;
    bool holds = true;
    if (!mb_jinja_evaluate(r, n->left, s, &left)) {
        return false;
    }
    for (const struct mb_node *e = n->list; e && holds; e = e->next) {
        if (!mb_jinja_evaluate(r, e->left, s, &right) ||
            !relates(r, (enum mb_relation) e->op, left, right, &holds)) {
            return false;
        }
        left = right;
    }
    *ret = mb_jinja_value_bool(holds);
    return true;
}

static bool binary(struct mb_render *r, const struct mb_node *n, struct mb_scope *s,
                   struct mb_jinja_value *ret)
{
    struct mb_jinja_value a, b;
    if (!mb_jinja_evaluate(r, n->left, s, &a) || !mb_jinja_evaluate(r, n->right, s, &b)) {
        return false;
    }
    r->line = n->line;
    return mb_jinja_value_compute(r, (enum mb_operator) n->op, a, b, ret);
}

/* The operand that decides, as in Python. */
static bool and_or(struct mb_render *r, const struct mb_node *n, struct mb_scope *s,
                   struct mb_jinja_value *ret)
{
    if (!mb_jinja_evaluate(r, n->left, s, ret)) {
        return false;
    }
    bool decided = mb_jinja_value_is_true(*ret) == (n->kind == MB_NODE_OR);
    return decided || mb_jinja_evaluate(r, n->right, s, ret);
}

static bool signed_value(struct mb_render *r, const struct mb_node *n, struct mb_scope *s,
                         struct mb_jinja_value *ret)
{
    struct mb_jinja_value v;
    return mb_jinja_evaluate(r, n->left, s, &v) && mb_jinja_value_negate(r, v, ret) &&
           (n->kind == MB_NODE_NEGATIVE || mb_jinja_value_negate(r, *ret, ret));
}

static bool choose(struct mb_render *r, const struct mb_node *n, struct mb_scope *s,
                   struct mb_jinja_value *ret)
{
    struct mb_jinja_value condition;
    if (!mb_jinja_evaluate(r, n->right, s, &condition)) {
        return false;
    }
    if (mb_jinja_value_is_true(condition)) {
        return mb_jinja_evaluate(r, n->left, s, ret);
    }
    *ret = mb_jinja_value_undefined("the else of an if", 17);
    return !n->other || mb_jinja_evaluate(r, n->other, s, ret);
}

static bool evaluate(struct mb_render *r, const struct mb_node *n, struct mb_scope *s,
                     struct mb_jinja_value *ret)
{
    switch (n->kind) {
    case MB_NODE_CONSTANT:
        *ret = n->value;
        return true;
    case MB_NODE_NAME:
        return find_name(r, s, n->value, ret);
    case MB_NODE_LIST:
    case MB_NODE_TUPLE:
        return make_list(r, n, s, ret);
    case MB_NODE_DICT:
        return make_dict(r, n, s, ret);
    case MB_NODE_ATTRIBUTE: {
        struct mb_jinja_value whole;
        return mb_jinja_evaluate(r, n->left, s, &whole) &&
               mb_jinja_value_attribute(r, whole, n->value, ret);
    }
    case MB_NODE_ITEM:
        return take_item(r, n, s, ret);
    case MB_NODE_SLICE:
        return take_slice(r, n, s, ret);
    case MB_NODE_CALL:
        return call(r, n, s, ret);
    case MB_NODE_FILTER:
        return filter(r, n, s, ret);
    case MB_NODE_TEST:
        return test(r, n, s, ret);
    case MB_NODE_NOT: {
        struct mb_jinja_value v;
        bool ok = mb_jinja_evaluate(r, n->left, s, &v);
        *ret = mb_jinja_value_bool(ok && !mb_jinja_value_is_true(v));
        return ok;
    }
    case MB_NODE_NEGATIVE:
    case MB_NODE_POSITIVE:
        return signed_value(r, n, s, ret);
    case MB_NODE_AND:
    case MB_NODE_OR:
        return and_or(r, n, s, ret);
    case MB_NODE_BINARY:
        return binary(r, n, s, ret);
    case MB_NODE_JOINED:
        return join(r, n, s, ret);
    case MB_NODE_COMPARE:
        return compare(r, n, s, ret);
    case MB_NODE_CHOICE:
        return choose(r, n, s, ret);
    case MB_NODE_CAPTURED:
        return find_name(r, s, MB_CAPTURED_NAME, ret);
    default:
        return mb_render_fail(r, MB_E_INVALID, "no expression"); /* the parser makes none */
    }
}

bool mb_jinja_evaluate(struct mb_render *r, const struct mb_node *n, struct mb_scope *s,
                       struct mb_jinja_value *ret)
{
    if (!mb_render_enter(r)) {
        return false;
    }
    r->line = n->line;
    bool ok = evaluate(r, n, s, ret);
    mb_render_leave(r);
    return ok;
}
