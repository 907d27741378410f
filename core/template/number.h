/* Numbers of templates: Python's arithmetic, and its shortest text of a float.
 *
 * Threads: pure, or one render's. */
#ifndef MB_CORE_TEMPLATE_NUMBER_H
#define MB_CORE_TEMPLATE_NUMBER_H

#include "core/template/value.h"

#define MB_FLOAT_TEXT_MAX 40

/* Python's repr of x: the fewest digits that bring it back, terminated. Returns their
 * number. */
size_t mb_float_text(double x, char ret[MB_FLOAT_TEXT_MAX]);

enum mb_operator {
    MB_ADD,
    MB_SUBTRACT,
    MB_MULTIPLY,
    MB_DIVIDE,
    MB_FLOOR_DIVIDE,
    MB_MODULO,
    MB_POWER,
};

/* a op b: of numbers; + and * of strings and lists too, and % of a string that has places.
 * Errors: what Python refuses; an int beyond 64 bits. */
bool mb_jinja_value_compute(struct mb_render *r, enum mb_operator op, struct mb_jinja_value a,
                            struct mb_jinja_value b, struct mb_jinja_value *ret);
bool mb_jinja_value_negate(struct mb_render *r, struct mb_jinja_value v,
                           struct mb_jinja_value *ret);

/* text % values, as Python writes into %s, %d and their like. values is a tuple, a dict, or
 * one value. */
bool mb_text_format(struct mb_render *r, struct mb_jinja_value text,
                    struct mb_jinja_value values, struct mb_jinja_value *ret);

#endif
