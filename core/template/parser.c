#include "core/template/parser.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- errors ------------------------------------------------------------------------------ */

struct mb_node *mb_parse_fail(struct mb_parser *p, enum mb_status status, const char *fmt, ...)
{
    if (p->status != MB_OK) {
        return NULL;
    }
    char what[200];
    va_list args;
    va_start(args, fmt);
    (void) vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    p->status = mb_fail(p->err, status, 0, "chat template: line %u: %s",
                        (unsigned) p->token.line, what);
    return NULL;
}

struct mb_node *mb_parse_expected(struct mb_parser *p, const char *what)
{
    static const char *const kinds[] = {
        [MB_TOKEN_END] = "the end of the template",
        [MB_TOKEN_TEXT] = "text",
        [MB_TOKEN_OUTPUT_BEGIN] = "{{",
        [MB_TOKEN_OUTPUT_END] = "}}",
        [MB_TOKEN_TAG_BEGIN] = "{%",
        [MB_TOKEN_TAG_END] = "%}",
        [MB_TOKEN_CONSTANT] = "a constant",
    };
    const struct mb_token *t = &p->token;
    if (t->kind == MB_TOKEN_NAME) {
        return mb_parse_fail(p, MB_E_FORMAT, "expected %s, not '%.*s'", what,
                             (int) (t->value.n < 40 ? t->value.n : 40), t->value.text);
    }
    return mb_parse_fail(p, MB_E_FORMAT, "expected %s, not %s", what,
                         t->kind == MB_TOKEN_SIGN ? t->sign : kinds[t->kind]);
}

bool mb_parse_enter(struct mb_parser *p)
{
    if (p->depth == MB_PARSE_DEPTH_MAX) {
        (void) mb_parse_fail(p, MB_E_LIMIT, "nested deeper than %d levels", MB_PARSE_DEPTH_MAX);
        return false;
    }
    p->depth++;
    return true;
}

void mb_parse_leave(struct mb_parser *p)
{
    p->depth--;
}

/* ---- tokens ------------------------------------------------------------------------------ */

bool mb_parse_step(struct mb_parser *p)
{
    if (p->status != MB_OK) {
        return false;
    }
    p->token = p->ahead;
    if (p->ahead.kind != MB_TOKEN_END) {
        p->status = mb_lexer_next(&p->lexer, &p->ahead);
    }
    return p->status == MB_OK;
}

bool mb_parse_at_name(const struct mb_parser *p, const char *name)
{
    return p->token.kind == MB_TOKEN_NAME && mb_jinja_value_is_text(p->token.value, name);
}

bool mb_parse_at_sign(const struct mb_parser *p, const char *sign)
{
    return p->token.kind == MB_TOKEN_SIGN && strcmp(p->token.sign, sign) == 0;
}

bool mb_parse_skip_name(struct mb_parser *p, const char *name)
{
    return mb_parse_at_name(p, name) && mb_parse_step(p);
}

bool mb_parse_skip_sign(struct mb_parser *p, const char *sign)
{
    return mb_parse_at_sign(p, sign) && mb_parse_step(p);
}

bool mb_parse_expect_sign(struct mb_parser *p, const char *sign)
{
    if (!mb_parse_at_sign(p, sign)) {
        (void) mb_parse_expected(p, sign);
        return false;
    }
    return mb_parse_step(p);
}

bool mb_parse_expect_name(struct mb_parser *p, struct mb_jinja_value *ret)
{
    if (p->token.kind != MB_TOKEN_NAME) {
        (void) mb_parse_expected(p, "a name");
        return false;
    }
    *ret = p->token.value;
    return mb_parse_step(p);
}

struct mb_node *mb_parse_node(struct mb_parser *p, enum mb_node_kind kind)
{
    struct mb_node *n = mb_arena_alloc(p->arena, 1, sizeof *n);
    if (!n) {
        return mb_parse_fail(p, p->arena->refused ? MB_E_NOMEM : MB_E_LIMIT,
                             "no memory for more of the template");
    }
    n->kind = kind;
    n->line = p->token.line;
    return n;
}

/* ---- statements -------------------------------------------------------------------------- */

static bool statement(struct mb_parser *p, struct mb_node **ret);

static bool expect_end(struct mb_parser *p)
{
    if (p->token.kind != MB_TOKEN_TAG_END) {
        (void) mb_parse_expected(p, "the end of the tag");
        return false;
    }
    return mb_parse_step(p);
}

static bool output(struct mb_parser *p, struct mb_node **ret)
{
    struct mb_node *n = mb_parse_node(p, MB_NODE_OUTPUT);
    if (!n || !mb_parse_step(p) || !(n->left = mb_parse_tuple(p, true))) {
        return false;
    }
    if (p->token.kind != MB_TOKEN_OUTPUT_END) {
        (void) mb_parse_expected(p, "}}");
        return false;
    }
    *ret = n;
    return mb_parse_step(p);
}

static bool text(struct mb_parser *p, struct mb_node **ret)
{
    struct mb_node *n = mb_parse_node(p, MB_NODE_TEXT);
    if (!n) {
        return false;
    }
    n->value = p->token.value;
    *ret = n;
    return mb_parse_step(p);
}

static bool at_one_of(const struct mb_parser *p, const char *const *names)
{
    for (; *names; names++) {
        if (mb_parse_at_name(p, *names)) {
            return true;
        }
    }
    return false;
}

/* All up to one of the tags ends, whose name is then the token; to the end when ends is
 * NULL. */
static bool body(struct mb_parser *p, const char *const *ends, struct mb_node **ret)
{
    struct mb_node **next = ret;
    *ret = NULL;
    for (;;) {
        bool ok = true;
        if (p->token.kind == MB_TOKEN_END) {
            return !ends || (mb_parse_fail(p, MB_E_FORMAT,
                                           "the template ends before {%% %s %%}", ends[0]),
                             false);
        }
        if (p->token.kind == MB_TOKEN_TAG_BEGIN) {
            ok = mb_parse_step(p);
            if (ok && ends && at_one_of(p, ends)) {
                return true;
            }
            ok = ok && mb_parse_enter(p);
            if (ok) {
                ok = statement(p, next);
                mb_parse_leave(p);
            }
        } else {
            ok = p->token.kind == MB_TOKEN_TEXT ? text(p, next) : output(p, next);
        }
        if (!ok || p->status != MB_OK) {
            return false;
        }
        while (*next) { /* a statement may stand for none, or for several */
            next = &(*next)->next;
        }
    }
}

/* The rest of a tag, the body, and the tag that ends it: there is one only. */
static bool block(struct mb_parser *p, const char *end, struct mb_node **ret)
{
    const char *const ends[] = { end, NULL };
    return expect_end(p) && body(p, ends, ret) && mb_parse_step(p) && expect_end(p);
}

static bool otherwise(struct mb_parser *p, const char *end, struct mb_node **ret)
{
    if (!mb_parse_skip_name(p, "else")) {
        return mb_parse_step(p) && expect_end(p); /* it is the end */
    }
    return block(p, end, ret);
}

static bool for_statement(struct mb_parser *p, struct mb_node *n)
{
    static const char *const ends[] = { "endfor", "else", NULL };
    if (!(n->left = mb_parse_target(p, false))) {
        return false;
    }
    if (!mb_parse_skip_name(p, "in")) {
        (void) mb_parse_expected(p, "in");
        return false;
    }
    if (!(n->right = mb_parse_tuple(p, false)) ||
        (mb_parse_skip_name(p, "if") && !(n->other = mb_parse_expression(p, true)))) {
        return false;
    }
    if (mb_parse_at_name(p, "recursive")) {
        (void) mb_parse_fail(p, MB_E_UNSUPPORTED, "recursive loops are not offered");
        return false;
    }
    p->n_loops++;
    bool ok = expect_end(p) && body(p, ends, &n->body);
    p->n_loops--;
    return ok && otherwise(p, "endfor", &n->otherwise);
}

/* elif makes the next node; the chain is walked without recursion, however long it is. */
static bool if_statement(struct mb_parser *p, struct mb_node *n)
{
    static const char *const ends[] = { "endif", "elif", "else", NULL };
    for (;;) {
        if (!(n->left = mb_parse_tuple(p, false)) || !expect_end(p) ||
            !body(p, ends, &n->body)) {
            return false;
        }
        if (!mb_parse_at_name(p, "elif")) {
            return otherwise(p, "endif", &n->otherwise);
        }
        struct mb_node *next = mb_parse_node(p, MB_NODE_IF);
        if (!next || !mb_parse_step(p)) {
            return false;
        }
        n->otherwise = next;
        n = next;
    }
}

static bool set_statement(struct mb_parser *p, struct mb_node *n)
{
    if (!(n->left = mb_parse_target(p, true))) {
        return false;
    }
    if (mb_parse_skip_sign(p, "=")) {
        return (n->right = mb_parse_tuple(p, true)) && expect_end(p);
    }
    n->kind = MB_NODE_SET_BLOCK;
    if (mb_parse_at_sign(p, "|")) {
        struct mb_node *captured = mb_parse_node(p, MB_NODE_CAPTURED);
        if (!captured || !(n->right = mb_parse_filters(p, captured))) {
            return false;
        }
    }
    return block(p, "endset", &n->body);
}

static bool filter_statement(struct mb_parser *p, struct mb_node *n)
{
    struct mb_node *captured = mb_parse_node(p, MB_NODE_CAPTURED);
    return captured && (n->right = mb_parse_filter(p, captured)) &&
           (n->right = mb_parse_filters(p, n->right)) && block(p, "endfilter", &n->body);
}

static bool with_statement(struct mb_parser *p, struct mb_node *n)
{
    struct mb_node **next = &n->list;
    while (p->token.kind != MB_TOKEN_TAG_END) {
        struct mb_node *set = mb_parse_node(p, MB_NODE_SET);
        if ((n->list && !mb_parse_expect_sign(p, ",")) || !set ||
            !(set->left = mb_parse_target(p, false)) || !mb_parse_expect_sign(p, "=") ||
            !(set->right = mb_parse_expression(p, true))) {
            return false;
        }
        *next = set;
        next = &set->next;
    }
    return block(p, "endwith", &n->body);
}

/* (a, b = 1) of a macro; the opening bracket is gone. */
static bool parameters(struct mb_parser *p, struct mb_node *macro)
{
    struct mb_node **next = &macro->list;
    bool defaults = false;
    while (!mb_parse_at_sign(p, ")")) {
        struct mb_node *n = mb_parse_node(p, MB_NODE_NAMED);
        if ((macro->list && !mb_parse_expect_sign(p, ",")) || !n ||
            !mb_parse_expect_name(p, &n->value)) {
            return false;
        }
        if (mb_parse_skip_sign(p, "=")) {
            defaults = true;
            if (!(n->left = mb_parse_expression(p, true))) {
                return false;
            }
        } else if (defaults) {
            (void) mb_parse_fail(p, MB_E_FORMAT,
                                 "a parameter without a default after one with");
            return false;
        }
        *next = n;
        next = &n->next;
    }
    return mb_parse_step(p);
}

static bool macro_body(struct mb_parser *p, struct mb_node *macro, const char *end)
{
    struct mb_node *around = p->macro;
    uint32_t n_loops = p->n_loops;
    p->macro = macro;
    p->n_loops = 0;
    bool ok = block(p, end, &macro->body);
    p->macro = around;
    p->n_loops = n_loops;
    return ok;
}

static bool macro_statement(struct mb_parser *p, struct mb_node *n)
{
    return mb_parse_expect_name(p, &n->value) && mb_parse_expect_sign(p, "(") &&
           parameters(p, n) && macro_body(p, n, "endmacro");
}

/* {% call(x) m() %}: the body is a macro that m knows as caller. */
static bool call_statement(struct mb_parser *p, struct mb_node *n)
{
    struct mb_node *caller = mb_parse_node(p, MB_NODE_MACRO);
    if (!caller || (mb_parse_skip_sign(p, "(") && !parameters(p, caller)) ||
        !(n->left = mb_parse_call(p))) {
        return false;
    }
    caller->value = mb_jinja_value_literal("caller");
    n->right = caller;
    return macro_body(p, caller, "endcall");
}

static bool jump_statement(struct mb_parser *p, struct mb_node *n)
{
    if (p->n_loops == 0) {
        (void) mb_parse_fail(p, MB_E_FORMAT, "break and continue stand in loops only");
        return false;
    }
    return expect_end(p);
}

static const struct {
    const char *name;
    enum mb_node_kind kind;
    bool (*parse)(struct mb_parser *p, struct mb_node *n);
} statements[] = {
    { "break", MB_NODE_BREAK, jump_statement },
    { "call", MB_NODE_CALL_BLOCK, call_statement },
    { "continue", MB_NODE_CONTINUE, jump_statement },
    { "filter", MB_NODE_FILTER_BLOCK, filter_statement },
    { "for", MB_NODE_FOR, for_statement },
    { "if", MB_NODE_IF, if_statement },
    { "macro", MB_NODE_MACRO, macro_statement },
    { "set", MB_NODE_SET, set_statement },
    { "with", MB_NODE_WITH, with_statement },
};

static bool statement(struct mb_parser *p, struct mb_node **ret)
{
    static const char *const refused[] = { "autoescape", "block",   "do",    "extends", "from",
                                           "import",     "include", "trans", NULL };
    *ret = NULL;
    if (mb_parse_skip_name(p, "generation")) { /* marks what is trained on; here, nothing */
        return block(p, "endgeneration", ret);
    }
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        if (mb_parse_at_name(p, statements[i].name)) {
            struct mb_node *n = mb_parse_node(p, statements[i].kind);
            if (!n || !mb_parse_step(p) || !statements[i].parse(p, n)) {
                return false;
            }
            *ret = n;
            return true;
        }
    }
    if (at_one_of(p, refused)) {
        (void) mb_parse_fail(p, MB_E_UNSUPPORTED, "{%% %.*s %%} is not offered",
                             (int) p->token.value.n, p->token.value.text);
        return false;
    }
    (void) mb_parse_expected(p, "a statement");
    return false;
}

enum mb_status mb_template_parse(const char *source, size_t n, struct mb_arena *arena,
                                 struct mb_node **ret, struct mb_error *err)
{
    struct mb_parser p = { .arena = arena, .err = err };
    mb_lexer_init(&p.lexer, source, n, arena, err);
    p.status = mb_lexer_next(&p.lexer, &p.ahead);
    struct mb_node *root = NULL;
    if (mb_parse_step(&p)) {
        (void) body(&p, NULL, &root);
    }
    if (p.status == MB_OK) {
        *ret = root;
    }
    return p.status;
}
