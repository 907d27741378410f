/* What the two halves of the parser share: tokens, nodes, errors. Private to the template
 * engine.
 *
 * A function that makes a node returns NULL after an error, which is told once.
 *
 * Threads: one thread. */
#ifndef MB_CORE_TEMPLATE_PARSER_H
#define MB_CORE_TEMPLATE_PARSER_H

#include "core/template/lexer.h"
#include "core/template/node.h"

enum { MB_PARSE_DEPTH_MAX = 200 }; /* of expressions and statements in each other */

struct mb_parser {
    struct mb_lexer lexer;
    struct mb_arena *arena;
    struct mb_token token, ahead; /* the next two */
    uint32_t depth;
    uint32_t n_loops;      /* around this place, within the macro */
    struct mb_node *macro; /* around this place, or NULL */
    enum mb_status status;
    struct mb_error *err;
};

struct mb_node *mb_parse_fail(struct mb_parser *p, enum mb_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* "expected WHAT, not TOKEN". */
struct mb_node *mb_parse_expected(struct mb_parser *p, const char *what);

struct mb_node *mb_parse_node(struct mb_parser *p, enum mb_node_kind kind);
bool mb_parse_enter(struct mb_parser *p);
void mb_parse_leave(struct mb_parser *p);

/* Goes to the next token. */
bool mb_parse_step(struct mb_parser *p);
bool mb_parse_at_name(const struct mb_parser *p, const char *name);
bool mb_parse_at_sign(const struct mb_parser *p, const char *sign);
/* Steps over it when it is there. */
bool mb_parse_skip_name(struct mb_parser *p, const char *name);
bool mb_parse_skip_sign(struct mb_parser *p, const char *sign);
bool mb_parse_expect_sign(struct mb_parser *p, const char *sign);
bool mb_parse_expect_name(struct mb_parser *p, struct mb_jinja_value *ret);

/* a, b, c makes a tuple; one without a comma, itself. */
struct mb_node *mb_parse_tuple(struct mb_parser *p, bool with_choice);
struct mb_node *mb_parse_expression(struct mb_parser *p, bool with_choice);
struct mb_node *mb_parse_call(struct mb_parser *p); /* an expression that ends in a call */
/* Names, and tuples of them, that a statement sets; name.name too, with attributes. */
struct mb_node *mb_parse_target(struct mb_parser *p, bool with_attributes);
/* |f(...)|g over left; left when there is no filter. */
struct mb_node *mb_parse_filters(struct mb_parser *p, struct mb_node *left);
/* One filter, whose | is gone. */
struct mb_node *mb_parse_filter(struct mb_parser *p, struct mb_node *left);

#endif
