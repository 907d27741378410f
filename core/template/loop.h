/* The variable loop of a for statement. Private to the template engine.
 *
 * Threads: one render's. */
#ifndef MB_CORE_TEMPLATE_LOOP_H
#define MB_CORE_TEMPLATE_LOOP_H

#include "core/template/value.h"

struct mb_loop {
    struct mb_list items;
    size_t i;                   /* of the current item */
    uint32_t depth;             /* 0 for a loop in no other */
    struct mb_jinja_value last; /* what loop.changed was told last; absent before */
};

/* loop.name, or false when there is no such thing. */
bool mb_loop_attribute(struct mb_render *r, struct mb_loop *l, struct mb_jinja_value name,
                       bool *ret_found, struct mb_jinja_value *ret);

#endif
