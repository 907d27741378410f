/* Walking the tree. Private to the template engine.
 *
 * Threads: one render's. */
#ifndef MB_CORE_TEMPLATE_RUN_H
#define MB_CORE_TEMPLATE_RUN_H

#include "core/template/call.h"
#include "core/template/node.h"

/* The names that a place sees: its own, then those of the place around it. Statements make
 * a new one for the body of a loop, a macro, with, and a block that is captured; if makes
 * none. */
struct mb_binding {
    struct mb_jinja_value name, value;
};
struct mb_scope {
    struct mb_scope *around;
    struct mb_binding *at;
    size_t len, cap;
};

bool mb_scope_new(struct mb_render *r, struct mb_scope *around, struct mb_scope **ret);
bool mb_scope_set(struct mb_render *r, struct mb_scope *s, struct mb_jinja_value name,
                  struct mb_jinja_value v);
/* false when no scope has the name. */
bool mb_scope_find(struct mb_render *r, const struct mb_scope *s, struct mb_jinja_value name,
                   struct mb_jinja_value *ret);

/* What CAPTURED stands for is in the scope under a name that no template can write. */
#define MB_CAPTURED_NAME mb_jinja_value_literal("(captured)")

bool mb_jinja_evaluate(struct mb_render *r, const struct mb_node *n, struct mb_scope *s,
                       struct mb_jinja_value *ret);
/* The arguments of a call, and room for one more named one. */
bool mb_jinja_evaluate_arguments(struct mb_render *r, const struct mb_node *list,
                                 struct mb_scope *s, struct mb_args *ret);

/* Puts v under the name or names of target, or into the attribute of a namespace. */
bool mb_assign(struct mb_render *r, const struct mb_node *target, struct mb_jinja_value v,
               struct mb_scope *s);

enum mb_flow { MB_FLOW_NEXT, MB_FLOW_BREAK, MB_FLOW_CONTINUE, MB_FLOW_FAILED };

/* Runs n and those after it. */
enum mb_flow mb_execute(struct mb_render *r, const struct mb_node *n, struct mb_scope *s);

/* A macro as a value. */
bool mb_macro_new(struct mb_render *r, const struct mb_node *macro, struct mb_scope *s,
                  struct mb_jinja_value *ret);

#endif
