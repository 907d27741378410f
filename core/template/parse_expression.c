/* Expressions, by precedence: choice, or, and, not, comparison, sum, ~, product, power,
 * sign, filters and tests, what stands behind a value, values. As in Jinja, and unlike
 * Python, ~ binds more than +, and ** goes from left to right. */
#include <string.h>

#include "core/template/number.h"
#include "core/template/parser.h"

static struct mb_node *unary(struct mb_parser *p, bool with_filters);

static struct mb_node *pair_node(struct mb_parser *p, enum mb_node_kind kind,
                                 struct mb_node *left, struct mb_node *right)
{
    struct mb_node *n = left && right ? mb_parse_node(p, kind) : NULL;
    if (n) {
        n->line = left->line;
        n->left = left;
        n->right = right;
    }
    return n;
}

/* ---- operators --------------------------------------------------------------------------- */

struct operators {
    const char *sign;
    enum mb_operator op;
};

static const struct operators sums[] = { { "+", MB_ADD }, { "-", MB_SUBTRACT }, { 0 } };
static const struct operators products[] = {
    { "*", MB_MULTIPLY },
    { "/", MB_DIVIDE },
    { "//", MB_FLOOR_DIVIDE },
    { "%", MB_MODULO },
    { 0 },
};
static const struct operators powers[] = { { "**", MB_POWER }, { 0 } };

typedef struct mb_node *parse_fn(struct mb_parser *p);

static struct mb_node *chain(struct mb_parser *p, const struct operators *ops,
                             parse_fn *operand)
{
    struct mb_node *n = operand(p);
    for (size_t i = 0; n && ops[i].sign;) {
        if (!mb_parse_skip_sign(p, ops[i].sign)) {
            i++;
            continue;
        }
        n = pair_node(p, MB_NODE_BINARY, n, operand(p));
        if (n) {
            n->op = (uint8_t) ops[i].op;
        }
        i = 0;
    }
    return p->status == MB_OK ? n : NULL;
}

static struct mb_node *filtered(struct mb_parser *p)
{
    return unary(p, true);
}

static struct mb_node *power(struct mb_parser *p)
{
    return chain(p, powers, filtered);
}

static struct mb_node *product(struct mb_parser *p)
{
    return chain(p, products, power);
}

static struct mb_node *joined(struct mb_parser *p)
{
    struct mb_node *first = product(p);
    if (!first || !mb_parse_at_sign(p, "~")) {
        return first;
    }
    struct mb_node *n = mb_parse_node(p, MB_NODE_JOINED);
    if (!n) {
        return NULL;
    }
    n->list = first;
    while (mb_parse_skip_sign(p, "~")) {
        if (!(first->next = product(p))) {
            return NULL;
        }
        first = first->next;
    }
    return n;
}

static struct mb_node *sum(struct mb_parser *p)
{
    return chain(p, sums, joined);
}

/* The relation that stands here, stepped over. */
static bool relation(struct mb_parser *p, enum mb_relation *ret)
{
    static const char *const signs[] = {
        [MB_EQUAL] = "==",   [MB_UNEQUAL] = "!=", [MB_BELOW] = "<",
        [MB_AT_MOST] = "<=", [MB_ABOVE] = ">",    [MB_AT_LEAST] = ">=",
    };
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++) {
        if (mb_parse_skip_sign(p, signs[i])) {
            *ret = (enum mb_relation) i;
            return true;
        }
    }
    if (mb_parse_skip_name(p, "in")) {
        *ret = MB_IN;
        return true;
    }
    bool not_in = mb_parse_at_name(p, "not") && p->ahead.kind == MB_TOKEN_NAME &&
                  mb_jinja_value_is_text(p->ahead.value, "in");
    *ret = MB_NOT_IN;
    return not_in && mb_parse_step(p) && mb_parse_step(p);
}

static struct mb_node *comparison(struct mb_parser *p)
{
    struct mb_node *left = sum(p), *n = NULL;
    struct mb_node **next = NULL;
    enum mb_relation op;
    while (left && relation(p, &op)) {
        if (!n) {
            n = mb_parse_node(p, MB_NODE_COMPARE);
            if (!n) {
                return NULL;
            }
            n->left = left;
            next = &n->list;
        }
        struct mb_node *r = mb_parse_node(p, MB_NODE_RELATION);
        if (!r || !(r->left = sum(p))) {
            return NULL;
        }
        r->op = (uint8_t) op;
        *next = r;
        next = &r->next;
    }
    return p->status == MB_OK ? (n ? n : left) : NULL;
}

static struct mb_node *negation(struct mb_parser *p)
{
    if (!mb_parse_at_name(p, "not")) {
        return comparison(p);
    }
    struct mb_node *n = mb_parse_node(p, MB_NODE_NOT);
    if (!n || !mb_parse_step(p) || !mb_parse_enter(p)) {
        return NULL;
    }
    n->left = negation(p);
    mb_parse_leave(p);
    return n->left ? n : NULL;
}

static struct mb_node *conjunction(struct mb_parser *p)
{
    struct mb_node *n = negation(p);
    while (n && mb_parse_skip_name(p, "and")) {
        n = pair_node(p, MB_NODE_AND, n, negation(p));
    }
    return n;
}

static struct mb_node *disjunction(struct mb_parser *p)
{
    struct mb_node *n = conjunction(p);
    while (n && mb_parse_skip_name(p, "or")) {
        n = pair_node(p, MB_NODE_OR, n, conjunction(p));
    }
    return n;
}

static struct mb_node *choice(struct mb_parser *p)
{
    struct mb_node *n = disjunction(p);
    while (n && mb_parse_skip_name(p, "if")) {
        n = pair_node(p, MB_NODE_CHOICE, n, disjunction(p));
        if (n && mb_parse_skip_name(p, "else") && !(n->other = mb_parse_expression(p, true))) {
            return NULL;
        }
    }
    return n;
}

struct mb_node *mb_parse_expression(struct mb_parser *p, bool with_choice)
{
    if (!mb_parse_enter(p)) {
        return NULL;
    }
    struct mb_node *n = with_choice ? choice(p) : disjunction(p);
    mb_parse_leave(p);
    return p->status == MB_OK ? n : NULL;
}

/* ---- tuples ------------------------------------------------------------------------------ */

/* Nothing more of a tuple can stand here. */
static bool at_end(const struct mb_parser *p)
{
    return p->token.kind == MB_TOKEN_TAG_END || p->token.kind == MB_TOKEN_OUTPUT_END ||
           mb_parse_at_sign(p, ")") || mb_parse_at_name(p, "in");
}

typedef struct mb_node *element_fn(struct mb_parser *p, bool flag);

static struct mb_node *tuple_of(struct mb_parser *p, element_fn *element, bool flag)
{
    struct mb_node *first = element(p, flag);
    if (!first || !mb_parse_at_sign(p, ",")) {
        return first;
    }
    struct mb_node *n = mb_parse_node(p, MB_NODE_TUPLE);
    if (!n) {
        return NULL;
    }
    n->list = first;
    while (mb_parse_skip_sign(p, ",") && !at_end(p)) {
        if (!(first->next = element(p, flag))) {
            return NULL;
        }
        first = first->next;
    }
    return p->status == MB_OK ? n : NULL;
}

struct mb_node *mb_parse_tuple(struct mb_parser *p, bool with_choice)
{
    return tuple_of(p, mb_parse_expression, with_choice);
}

static bool may_be_set(struct mb_parser *p)
{
    static const char *const constants[] = { "true",  "false", "none", "True",
                                             "False", "None",  "loop" };
    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++) {
        if (mb_parse_at_name(p, constants[i])) {
            (void) mb_parse_fail(p, MB_E_FORMAT, "'%s' can not be set", constants[i]);
            return false;
        }
    }
    return true;
}

static struct mb_node *target(struct mb_parser *p, bool with_attributes)
{
    if (mb_parse_skip_sign(p, "(")) {
        struct mb_node *n = mb_parse_enter(p) ? mb_parse_target(p, with_attributes) : NULL;
        if (!n || !mb_parse_expect_sign(p, ")")) {
            return NULL;
        }
        mb_parse_leave(p);
        return n;
    }
    struct mb_node *n = mb_parse_node(p, MB_NODE_NAME);
    bool attribute = p->ahead.kind == MB_TOKEN_SIGN && strcmp(p->ahead.sign, ".") == 0;
    if (!n || (!attribute && !may_be_set(p)) || !mb_parse_expect_name(p, &n->value)) {
        return NULL;
    }
    if (with_attributes && mb_parse_skip_sign(p, ".")) {
        struct mb_node *whole = mb_parse_node(p, MB_NODE_ATTRIBUTE);
        if (!whole || !mb_parse_expect_name(p, &whole->value)) {
            return NULL;
        }
        whole->left = n;
        return whole;
    }
    return p->status == MB_OK ? n : NULL;
}

struct mb_node *mb_parse_target(struct mb_parser *p, bool with_attributes)
{
    return tuple_of(p, target, with_attributes);
}

/* ---- values ------------------------------------------------------------------------------ */

/* Strings that follow each other are one. */
static struct mb_node *constant(struct mb_parser *p)
{
    struct mb_node *n = mb_parse_node(p, MB_NODE_CONSTANT);
    if (!n) {
        return NULL;
    }
    n->value = p->token.value;
    while (mb_parse_step(p) && n->value.kind == MB_VALUE_STRING &&
           p->token.kind == MB_TOKEN_CONSTANT && p->token.value.kind == MB_VALUE_STRING) {
        struct mb_jinja_value more = p->token.value;
        char *text = mb_arena_alloc(p->arena, (size_t) n->value.n + more.n, 1);
        if (!text) {
            return mb_parse_fail(p, MB_E_LIMIT, "no memory for more of the template");
        }
        memcpy(text, n->value.text, n->value.n);
        memcpy(text + n->value.n, more.text, more.n);
        n->value = mb_jinja_value_string(text, (size_t) n->value.n + more.n);
    }
    return p->status == MB_OK ? n : NULL;
}

static struct mb_node *name(struct mb_parser *p)
{
    static const struct {
        const char *name;
        struct mb_jinja_value value;
    } constants[] = {
        { "true", { .kind = MB_VALUE_BOOL, .truth = true } },
        { "True", { .kind = MB_VALUE_BOOL, .truth = true } },
        { "false", { .kind = MB_VALUE_BOOL } },
        { "False", { .kind = MB_VALUE_BOOL } },
        { "none", { .kind = MB_VALUE_NONE } },
        { "None", { .kind = MB_VALUE_NONE } },
    };
    struct mb_node *n = mb_parse_node(p, MB_NODE_NAME);
    if (!n || !mb_parse_expect_name(p, &n->value)) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++) {
        if (mb_jinja_value_is_text(n->value, constants[i].name)) {
            n->kind = MB_NODE_CONSTANT;
            n->value = constants[i].value;
            return n;
        }
    }
    if (p->macro) { /* a macro that does not name these takes none */
        p->macro->takes_more |= mb_jinja_value_is_text(n->value, "varargs");
        p->macro->takes_named |= mb_jinja_value_is_text(n->value, "kwargs");
        p->macro->takes_caller |= mb_jinja_value_is_text(n->value, "caller");
    }
    return n;
}

static struct mb_node *bracketed(struct mb_parser *p)
{
    if (!mb_parse_step(p)) {
        return NULL;
    }
    struct mb_node *n =
        mb_parse_at_sign(p, ")") ? mb_parse_node(p, MB_NODE_TUPLE) : mb_parse_tuple(p, true);
    return n && mb_parse_expect_sign(p, ")") ? n : NULL;
}

/* [a, b] and {k: v}; a comma may stand behind the last. */
static struct mb_node *collection(struct mb_parser *p, bool dict)
{
    const char *end = dict ? "}" : "]";
    struct mb_node *n = mb_parse_node(p, dict ? MB_NODE_DICT : MB_NODE_LIST);
    struct mb_node **next = n ? &n->list : NULL;
    if (!n || !mb_parse_step(p)) {
        return NULL;
    }
    while (!mb_parse_at_sign(p, end)) {
        if (n->list && (!mb_parse_expect_sign(p, ",") || mb_parse_at_sign(p, end))) {
            break;
        }
        if (!(*next = mb_parse_expression(p, true))) {
            return NULL;
        }
        next = &(*next)->next;
        if (dict) {
            if (!mb_parse_expect_sign(p, ":") || !(*next = mb_parse_expression(p, true))) {
                return NULL;
            }
            next = &(*next)->next;
        }
    }
    return mb_parse_expect_sign(p, end) ? n : NULL;
}

static struct mb_node *primary(struct mb_parser *p)
{
    if (p->token.kind == MB_TOKEN_NAME) {
        return name(p);
    }
    if (p->token.kind == MB_TOKEN_CONSTANT) {
        return constant(p);
    }
    if (mb_parse_at_sign(p, "(")) {
        return bracketed(p);
    }
    if (mb_parse_at_sign(p, "[") || mb_parse_at_sign(p, "{")) {
        return collection(p, p->token.sign[0] == '{');
    }
    return mb_parse_expected(p, "a value");
}

/* ---- behind a value ---------------------------------------------------------------------- */

/* The arguments of a call; the opening bracket is gone. */
static bool arguments(struct mb_parser *p, struct mb_node **ret)
{
    struct mb_node **next = ret;
    bool named = false;
    while (!mb_parse_at_sign(p, ")")) {
        if (*ret && (!mb_parse_expect_sign(p, ",") || mb_parse_at_sign(p, ")"))) {
            break;
        }
        if (mb_parse_at_sign(p, "*") || mb_parse_at_sign(p, "**")) {
            (void) mb_parse_fail(p, MB_E_UNSUPPORTED,
                                 "lists of arguments (* and **) are not offered");
            return false;
        }
        bool has_name = p->token.kind == MB_TOKEN_NAME && p->ahead.kind == MB_TOKEN_SIGN &&
                        strcmp(p->ahead.sign, "=") == 0;
        if (named && !has_name) {
            (void) mb_parse_fail(p, MB_E_FORMAT, "an argument without a name after one with");
            return false;
        }
        if (has_name) {
            named = true;
            *next = mb_parse_node(p, MB_NODE_NAMED);
            if (!*next || !mb_parse_expect_name(p, &(*next)->value) || !mb_parse_step(p) ||
                !((*next)->left = mb_parse_expression(p, true))) {
                return false;
            }
        } else if (!(*next = mb_parse_expression(p, true))) {
            return false;
        }
        next = &(*next)->next;
    }
    return mb_parse_expect_sign(p, ")");
}

static struct mb_node *call(struct mb_parser *p, struct mb_node *left)
{
    struct mb_node *n = mb_parse_node(p, MB_NODE_CALL);
    if (!n || !mb_parse_step(p) || !arguments(p, &n->list)) {
        return NULL;
    }
    n->left = left;
    return n;
}

static struct mb_node *attribute(struct mb_parser *p, struct mb_node *left)
{
    if (!mb_parse_step(p)) {
        return NULL;
    }
    bool index = p->token.kind == MB_TOKEN_CONSTANT && p->token.value.kind == MB_VALUE_INT;
    struct mb_node *n = mb_parse_node(p, index ? MB_NODE_ITEM : MB_NODE_ATTRIBUTE);
    if (!n) {
        return NULL;
    }
    n->left = left;
    if (index) {
        n->right = constant(p);
        return n->right ? n : NULL;
    }
    return mb_parse_expect_name(p, &n->value) ? n : NULL;
}

/* One of the three parts of a slice: an expression, or nothing before the sign that ends it. */
static struct mb_node *slice_part(struct mb_parser *p)
{
    bool empty =
        mb_parse_at_sign(p, ":") || mb_parse_at_sign(p, "]") || mb_parse_at_sign(p, ",");
    return empty ? mb_parse_node(p, MB_NODE_NOTHING) : mb_parse_expression(p, true);
}

static struct mb_node *subscript(struct mb_parser *p, struct mb_node *left)
{
    struct mb_node *parts[3] = { 0 };
    size_t n_parts = 0;
    do {
        if (!mb_parse_step(p) || !(parts[n_parts++] = slice_part(p))) {
            return NULL;
        }
    } while (n_parts < 3 && mb_parse_at_sign(p, ":"));
    if (n_parts == 1 && parts[0]->kind == MB_NODE_NOTHING) {
        return mb_parse_expected(p, "an index");
    }
    if (!mb_parse_expect_sign(p, "]")) {
        return NULL;
    }
    if (n_parts == 1) {
        return pair_node(p, MB_NODE_ITEM, left, parts[0]);
    }
    struct mb_node *n = mb_parse_node(p, MB_NODE_SLICE);
    if (!n || (!parts[2] && !(parts[2] = mb_parse_node(p, MB_NODE_NOTHING)))) {
        return NULL;
    }
    n->left = left;
    n->list = parts[0];
    parts[0]->next = parts[1];
    parts[1]->next = parts[2];
    return n;
}

static struct mb_node *postfix(struct mb_parser *p, struct mb_node *n)
{
    while (n) {
        if (mb_parse_at_sign(p, ".")) {
            n = attribute(p, n);
        } else if (mb_parse_at_sign(p, "[")) {
            n = subscript(p, n);
        } else if (mb_parse_at_sign(p, "(")) {
            n = call(p, n);
        } else {
            break;
        }
    }
    return p->status == MB_OK ? n : NULL;
}

struct mb_node *mb_parse_call(struct mb_parser *p)
{
    struct mb_node *n = mb_parse_expression(p, true);
    if (n && n->kind != MB_NODE_CALL) {
        return mb_parse_expected(p, "a call");
    }
    return n;
}

/* ---- filters and tests ------------------------------------------------------------------- */

struct mb_node *mb_parse_filter(struct mb_parser *p, struct mb_node *left)
{
    struct mb_node *n = mb_parse_node(p, MB_NODE_FILTER);
    if (!n || !mb_parse_expect_name(p, &n->value)) {
        return NULL;
    }
    n->left = left;
    return !mb_parse_skip_sign(p, "(") || arguments(p, &n->list) ? n : NULL;
}

struct mb_node *mb_parse_filters(struct mb_parser *p, struct mb_node *n)
{
    while (n && mb_parse_skip_sign(p, "|")) {
        n = mb_parse_filter(p, n);
    }
    return p->status == MB_OK ? n : NULL;
}

/* Can an argument without brackets stand here: x is divisibleby 3? */
static bool starts_argument(const struct mb_parser *p)
{
    if (p->token.kind == MB_TOKEN_NAME) {
        return !mb_parse_at_name(p, "else") && !mb_parse_at_name(p, "or") &&
               !mb_parse_at_name(p, "and") && !mb_parse_at_name(p, "is");
    }
    return p->token.kind == MB_TOKEN_CONSTANT || mb_parse_at_sign(p, "[") ||
           mb_parse_at_sign(p, "{");
}

static struct mb_node *test(struct mb_parser *p, struct mb_node *left)
{
    struct mb_node *n = mb_parse_node(p, MB_NODE_TEST);
    if (!n || !mb_parse_step(p)) {
        return NULL;
    }
    n->left = left;
    n->negated = mb_parse_skip_name(p, "not");
    if (!mb_parse_expect_name(p, &n->value)) {
        return NULL;
    }
    if (mb_parse_skip_sign(p, "(")) {
        return arguments(p, &n->list) ? n : NULL;
    }
    if (starts_argument(p) && !(n->list = postfix(p, primary(p)))) {
        return NULL;
    }
    return n;
}

static struct mb_node *behind(struct mb_parser *p, struct mb_node *n)
{
    while (n) {
        if (mb_parse_at_sign(p, "|")) {
            n = mb_parse_filters(p, n);
        } else if (mb_parse_at_name(p, "is")) {
            n = test(p, n);
        } else if (mb_parse_at_sign(p, "(")) {
            n = call(p, n);
        } else {
            break;
        }
    }
    return p->status == MB_OK ? n : NULL;
}

static struct mb_node *unary(struct mb_parser *p, bool with_filters)
{
    struct mb_node *n;
    bool minus = mb_parse_at_sign(p, "-");
    if (minus || mb_parse_at_sign(p, "+")) {
        n = mb_parse_node(p, minus ? MB_NODE_NEGATIVE : MB_NODE_POSITIVE);
        if (!n || !mb_parse_step(p) || !mb_parse_enter(p)) {
            return NULL;
        }
        n->left = unary(p, false);
        mb_parse_leave(p);
        n = n->left ? n : NULL;
    } else {
        n = primary(p);
    }
    n = n ? postfix(p, n) : NULL;
    return n && with_filters ? behind(p, n) : n;
}
