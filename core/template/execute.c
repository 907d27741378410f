/* Statements. */
#include <assert.h>
#include <string.h>

#include "core/template/loop.h"
#include "core/template/run.h"

/* ---- setting ----------------------------------------------------------------------------- */

static bool assign_attribute(struct mb_render *r, const struct mb_node *target,
                             struct mb_jinja_value v, struct mb_scope *s)
{
    struct mb_jinja_value whole;
    if (!mb_jinja_evaluate(r, target->left, s, &whole)) {
        return false;
    }
    if (whole.kind != MB_VALUE_NAMESPACE) {
        return mb_render_fail(r, MB_E_INVALID,
                              "attributes of a namespace only can be set, not of a %s",
                              mb_jinja_value_type(whole));
    }
    return mb_dict_set(r, whole.dict, target->value, v);
}

bool mb_assign(struct mb_render *r, const struct mb_node *target, struct mb_jinja_value v,
               struct mb_scope *s)
{
    if (target->kind == MB_NODE_NAME) {
        return mb_scope_set(r, s, target->value, v);
    }
    if (target->kind == MB_NODE_ATTRIBUTE) {
        return assign_attribute(r, target, v, s);
    }
    assert(target->kind == MB_NODE_TUPLE);
    struct mb_list l;
    size_t i = 0, n = 0;
    for (const struct mb_node *e = target->list; e; e = e->next) {
        n++;
    }
    if (!mb_jinja_value_elements(r, v, &l)) {
        return false;
    }
    if (l.len != n) {
        return mb_render_fail(r, MB_E_INVALID, "%zu values for %zu names", l.len, n);
    }
    for (const struct mb_node *e = target->list; e; e = e->next) {
        if (!mb_assign(r, e, l.at[i++], s)) {
            return false;
        }
    }
    return true;
}

/* What body writes, as a string; it has a scope of its own. */
static enum mb_flow capture(struct mb_render *r, const struct mb_node *body, struct mb_scope *s,
                            struct mb_jinja_value *ret)
{
    struct mb_scope *inner;
    size_t mark = mb_render_mark(r);
    if (!mb_scope_new(r, s, &inner)) {
        return MB_FLOW_FAILED;
    }
    enum mb_flow flow = mb_execute(r, body, inner);
    return flow != MB_FLOW_FAILED && mb_render_cut(r, mark, ret) ? flow : MB_FLOW_FAILED;
}

/* The same, through filters. */
static enum mb_flow capture_filtered(struct mb_render *r, const struct mb_node *n,
                                     struct mb_scope *s, struct mb_jinja_value *ret)
{
    struct mb_scope *inner;
    enum mb_flow flow = capture(r, n->body, s, ret);
    if (flow != MB_FLOW_FAILED && n->right &&
        (!mb_scope_new(r, s, &inner) || !mb_scope_set(r, inner, MB_CAPTURED_NAME, *ret) ||
         !mb_jinja_evaluate(r, n->right, inner, ret))) {
        return MB_FLOW_FAILED;
    }
    return flow;
}

static enum mb_flow set_block(struct mb_render *r, const struct mb_node *n, struct mb_scope *s)
{
    struct mb_jinja_value v;
    enum mb_flow flow = capture_filtered(r, n, s, &v);
    return flow == MB_FLOW_FAILED || !mb_assign(r, n->left, v, s) ? MB_FLOW_FAILED : flow;
}

static enum mb_flow filter_block(struct mb_render *r, const struct mb_node *n,
                                 struct mb_scope *s)
{
    struct mb_jinja_value v;
    enum mb_flow flow = capture_filtered(r, n, s, &v);
    return flow == MB_FLOW_FAILED || !mb_jinja_value_print(r, v) ? MB_FLOW_FAILED : flow;
}

static enum mb_flow with(struct mb_render *r, const struct mb_node *n, struct mb_scope *s)
{
    struct mb_scope *inner;
    struct mb_jinja_value v;
    if (!mb_scope_new(r, s, &inner)) {
        return MB_FLOW_FAILED;
    }
    for (const struct mb_node *e = n->list; e; e = e->next) {
        if (!mb_jinja_evaluate(r, e->right, s, &v) || !mb_assign(r, e->left, v, inner)) {
            return MB_FLOW_FAILED;
        }
    }
    return mb_execute(r, n->body, inner);
}

/* ---- loops ------------------------------------------------------------------------------- */

static bool changed(struct mb_render *r, const struct mb_callable *self,
                    const struct mb_args *args, struct mb_jinja_value *ret)
{
    struct mb_loop *l = self->self.loop;
    struct mb_jinja_value now;
    bool same = false;
    if (!mb_list_new(r, MB_TUPLE, args->n, &now)) {
        return false;
    }
    for (size_t i = 0; i < args->n; i++) {
        if (!mb_list_push(r, now.list, args->at[i])) {
            return false;
        }
    }
    if (l->last.kind != MB_VALUE_ABSENT && !mb_jinja_value_equal(r, l->last, now, &same)) {
        return false;
    }
    l->last = now;
    *ret = mb_jinja_value_bool(!same);
    return true;
}

static bool cycle(struct mb_render *r, const struct mb_callable *self,
                  const struct mb_args *args, struct mb_jinja_value *ret)
{
    if (args->n == 0) {
        return mb_render_fail(r, MB_E_INVALID, "loop.cycle needs something to go through");
    }
    *ret = args->at[self->self.loop->i % args->n];
    return true;
}

static bool loop_method(struct mb_render *r, struct mb_loop *l, mb_call_fn *call,
                        struct mb_jinja_value *ret)
{
    struct mb_callable *c = mb_render_alloc(r, 1, sizeof *c);
    if (!c) {
        return false;
    }
    *c = (struct mb_callable) { .name = "loop",
                                .call = call,
                                .self = { .kind = MB_VALUE_LOOP, .loop = l } };
    *ret = (struct mb_jinja_value) { .kind = MB_VALUE_CALLABLE, .callable = c };
    return true;
}

bool mb_loop_attribute(struct mb_render *r, struct mb_loop *l, struct mb_jinja_value name,
                       bool *ret_found, struct mb_jinja_value *ret)
{
    int64_t i = (int64_t) l->i, n = (int64_t) l->items.len;
    const struct {
        const char *name;
        struct mb_jinja_value value;
    } parts[] = {
        { "index", mb_jinja_value_int(i + 1) },
        { "index0", mb_jinja_value_int(i) },
        { "revindex", mb_jinja_value_int(n - i) },
        { "revindex0", mb_jinja_value_int(n - i - 1) },
        { "first", mb_jinja_value_bool(i == 0) },
        { "last", mb_jinja_value_bool(i + 1 == n) },
        { "length", mb_jinja_value_int(n) },
        { "depth",
          mb_jinja_value_int(1) }, /* it counts recursive loops, which there are none of */
        { "depth0", mb_jinja_value_int(0) },
        { "previtem",
          i > 0 ? l->items.at[i - 1] : mb_jinja_value_undefined("loop.previtem", 13) },
        { "nextitem",
          i + 1 < n ? l->items.at[i + 1] : mb_jinja_value_undefined("loop.nextitem", 13) },
    };
    *ret_found = true;
    for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++) {
        if (mb_jinja_value_is_text(name, parts[k].name)) {
            *ret = parts[k].value;
            return true;
        }
    }
    if (mb_jinja_value_is_text(name, "changed") || mb_jinja_value_is_text(name, "cycle")) {
        return loop_method(r, l, mb_jinja_value_is_text(name, "cycle") ? cycle : changed, ret);
    }
    *ret_found = false;
    return true;
}

/* Only those of the elements for which the condition of the loop holds. */
static bool keep_wanted(struct mb_render *r, const struct mb_node *n, struct mb_scope *s,
                        struct mb_list *elements)
{
    struct mb_jinja_value kept, holds;
    struct mb_scope *inner;
    if (!mb_list_new(r, MB_LIST, elements->len, &kept)) {
        return false;
    }
    for (size_t i = 0; i < elements->len; i++) {
        if (!mb_scope_new(r, s, &inner) || !mb_assign(r, n->left, elements->at[i], inner) ||
            !mb_jinja_evaluate(r, n->other, inner, &holds) ||
            (mb_jinja_value_is_true(holds) && !mb_list_push(r, kept.list, elements->at[i]))) {
            return false;
        }
    }
    *elements = *kept.list;
    return true;
}

static bool loop_new(struct mb_render *r, const struct mb_node *n, struct mb_scope *s,
                     struct mb_loop **ret)
{
    struct mb_jinja_value over;
    struct mb_list elements;
    struct mb_loop *l = mb_render_alloc(r, 1, sizeof *l);
    if (!l || !mb_jinja_evaluate(r, n->right, s, &over) ||
        !mb_jinja_value_elements(r, over, &elements) ||
        (n->other && !keep_wanted(r, n, s, &elements))) {
        return false;
    }
    l->items = elements;
    *ret = l;
    return true;
}

/* Each turn has a scope of its own, so that what it sets is gone in the next. As in Jinja,
 * else runs unless a turn came to the end of the body: after a loop that only ever
 * continued, too. */
static enum mb_flow loop(struct mb_render *r, const struct mb_node *n, struct mb_scope *s)
{
    struct mb_loop *l;
    struct mb_scope *inner;
    bool completed = false;
    if (!loop_new(r, n, s, &l)) {
        return MB_FLOW_FAILED;
    }
    struct mb_jinja_value self = { .kind = MB_VALUE_LOOP, .loop = l };
    for (l->i = 0; l->i < l->items.len; l->i++) {
        if (!mb_scope_new(r, s, &inner) ||
            !mb_scope_set(r, inner, mb_jinja_value_literal("loop"), self) ||
            !mb_assign(r, n->left, l->items.at[l->i], inner)) {
            return MB_FLOW_FAILED;
        }
        enum mb_flow flow = mb_execute(r, n->body, inner);
        if (flow == MB_FLOW_FAILED || !mb_render_work(r, 1)) {
            return MB_FLOW_FAILED;
        }
        completed = completed || flow == MB_FLOW_NEXT;
        if (flow == MB_FLOW_BREAK) {
            break;
        }
    }
    if (completed || !n->otherwise) {
        return MB_FLOW_NEXT;
    }
    return mb_scope_new(r, s, &inner) ? mb_execute(r, n->otherwise, inner) : MB_FLOW_FAILED;
}

/* ---- macros ------------------------------------------------------------------------------ */

static bool take_named(const struct mb_args *args, bool *taken, struct mb_jinja_value name,
                       struct mb_jinja_value *ret)
{
    for (size_t i = 0; i < args->n_named; i++) {
        struct mb_jinja_value other = args->named[i].name;
        if (!taken[i] && other.n == name.n && memcmp(other.text, name.text, name.n) == 0) {
            taken[i] = true;
            *ret = args->named[i].value;
            return true;
        }
    }
    return false;
}

/* Each parameter is set from the arguments by place, by name, or by its default, which sees
 * those before it; without one it is undefined. */
static bool set_parameters(struct mb_render *r, const struct mb_node *macro,
                           const struct mb_args *args, bool *taken, struct mb_scope *s)
{
    size_t i = 0;
    for (const struct mb_node *p = macro->list; p; p = p->next, i++) {
        struct mb_jinja_value v = mb_jinja_value_undefined(p->value.text, p->value.n);
        if (i < args->n) {
            v = args->at[i];
        } else if (!take_named(args, taken, p->value, &v) && p->left &&
                   !mb_jinja_evaluate(r, p->left, s, &v)) {
            return false;
        }
        if (!mb_scope_set(r, s, p->value, v)) {
            return false;
        }
    }
    return true;
}

/* What is left of the arguments, for a macro that looks at it; else there may be nothing
 * left. */
static bool set_rest(struct mb_render *r, const struct mb_node *macro,
                     const struct mb_args *args, bool *taken, size_t n_params,
                     struct mb_scope *s)
{
    struct mb_jinja_value caller = mb_jinja_value_undefined("caller", 6), more, named;
    bool called = take_named(args, taken, mb_jinja_value_literal("caller"), &caller);
    if ((called || macro->takes_caller) &&
        !mb_scope_set(r, s, mb_jinja_value_literal("caller"), caller)) {
        return false;
    }
    if (!mb_list_new(r, MB_TUPLE, 4, &more) || !mb_dict_new(r, 4, &named)) {
        return false;
    }
    for (size_t i = n_params; i < args->n; i++) {
        if (!mb_list_push(r, more.list, args->at[i])) {
            return false;
        }
    }
    for (size_t i = 0; i < args->n_named; i++) {
        if (!taken[i] &&
            !mb_dict_set(r, named.dict, args->named[i].name, args->named[i].value)) {
            return false;
        }
    }
    if ((more.list->len > 0 && !macro->takes_more) ||
        (named.dict->len > 0 && !macro->takes_named)) {
        return mb_render_fail(r, MB_E_INVALID,
                              "the macro '%.*s' does not take all of its arguments",
                              (int) macro->value.n, macro->value.text);
    }
    return (!macro->takes_more ||
            mb_scope_set(r, s, mb_jinja_value_literal("varargs"), more)) &&
           (!macro->takes_named || mb_scope_set(r, s, mb_jinja_value_literal("kwargs"), named));
}

static bool call_macro(struct mb_render *r, const struct mb_callable *self,
                       const struct mb_args *args, struct mb_jinja_value *ret)
{
    const struct mb_node *macro = self->macro;
    struct mb_scope *s;
    size_t n_params = 0;
    for (const struct mb_node *p = macro->list; p; p = p->next) {
        n_params++;
    }
    bool *taken = mb_render_alloc(r, args->n_named, sizeof *taken);
    if (!taken || !mb_scope_new(r, self->scope, &s) ||
        !set_parameters(r, macro, args, taken, s) ||
        !set_rest(r, macro, args, taken, n_params, s)) {
        return false;
    }
    return capture(r, macro->body, s, ret) != MB_FLOW_FAILED;
}

bool mb_macro_new(struct mb_render *r, const struct mb_node *macro, struct mb_scope *s,
                  struct mb_jinja_value *ret)
{
    struct mb_callable *c = mb_render_alloc(r, 1, sizeof *c);
    if (!c) {
        return false;
    }
    *c = (struct mb_callable) {
        .name = "macro", .call = call_macro, .macro = macro, .scope = s
    };
    *ret = (struct mb_jinja_value) { .kind = MB_VALUE_CALLABLE, .callable = c };
    return true;
}

static bool call_block(struct mb_render *r, const struct mb_node *n, struct mb_scope *s)
{
    struct mb_jinja_value callee, v;
    struct mb_args args;
    if (!mb_jinja_evaluate(r, n->left->left, s, &callee) ||
        !mb_jinja_evaluate_arguments(r, n->left->list, s, &args) ||
        !mb_macro_new(r, n->right, s, &v)) {
        return false;
    }
    args.named[args.n_named++] = (struct mb_named) { mb_jinja_value_literal("caller"), v };
    return mb_jinja_value_call(r, callee, &args, &v) && mb_jinja_value_print(r, v);
}

/* ---- all of them ------------------------------------------------------------------------- */

/* The branch of an if that is taken, or NULL. */
static bool branch(struct mb_render *r, const struct mb_node *n, struct mb_scope *s,
                   const struct mb_node **ret)
{
    for (;;) {
        struct mb_jinja_value condition;
        if (!mb_jinja_evaluate(r, n->left, s, &condition)) {
            return false;
        }
        if (mb_jinja_value_is_true(condition)) {
            *ret = n->body;
            return true;
        }
        bool elif = n->otherwise && n->otherwise->kind == MB_NODE_IF && !n->otherwise->next;
        if (!elif) {
            *ret = n->otherwise;
            return true;
        }
        n = n->otherwise;
    }
}

static enum mb_flow execute(struct mb_render *r, const struct mb_node *n, struct mb_scope *s)
{
    struct mb_jinja_value v;
    const struct mb_node *taken;
    bool ok = true;
    switch (n->kind) {
    case MB_NODE_TEXT:
        ok = mb_render_put(r, n->value.text, n->value.n);
        break;
    case MB_NODE_OUTPUT:
        ok = mb_jinja_evaluate(r, n->left, s, &v) && mb_jinja_value_print(r, v);
        break;
    case MB_NODE_FOR:
        return loop(r, n, s);
    case MB_NODE_IF:
        return branch(r, n, s, &taken) ? mb_execute(r, taken, s) : MB_FLOW_FAILED;
    case MB_NODE_SET:
        ok = mb_jinja_evaluate(r, n->right, s, &v) && mb_assign(r, n->left, v, s);
        break;
    case MB_NODE_SET_BLOCK:
        return set_block(r, n, s);
    case MB_NODE_FILTER_BLOCK:
        return filter_block(r, n, s);
    case MB_NODE_WITH:
        return with(r, n, s);
    case MB_NODE_MACRO:
        ok = mb_macro_new(r, n, s, &v) && mb_scope_set(r, s, n->value, v);
        break;
    case MB_NODE_CALL_BLOCK:
        ok = call_block(r, n, s);
        break;
    case MB_NODE_BREAK:
        return MB_FLOW_BREAK;
    case MB_NODE_CONTINUE:
        return MB_FLOW_CONTINUE;
    default:
        ok = mb_render_fail(r, MB_E_INVALID, "no statement"); /* the parser makes none */
    }
    return ok ? MB_FLOW_NEXT : MB_FLOW_FAILED;
}

enum mb_flow mb_execute(struct mb_render *r, const struct mb_node *n, struct mb_scope *s)
{
    enum mb_flow flow = MB_FLOW_NEXT;
    if (!mb_render_enter(r)) {
        return MB_FLOW_FAILED;
    }
    for (; n && flow == MB_FLOW_NEXT; n = n->next) {
        r->line = n->line;
        flow = mb_render_work(r, 1) ? execute(r, n, s) : MB_FLOW_FAILED;
    }
    mb_render_leave(r);
    return flow;
}
