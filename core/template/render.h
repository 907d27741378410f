/* One render of a template: its memory, its bounds, its output, where it is. Private to the
 * template engine.
 *
 * Life:    mb_template_render makes one on its stack.
 * Threads: one thread. */
#ifndef MB_CORE_TEMPLATE_RENDER_H
#define MB_CORE_TEMPLATE_RENDER_H

#include <time.h>

#include "core/base/arena.h"
#include "core/base/bytes.h"
#include "core/template/value.h"
#include "proto/status.h"

struct mb_render {
    struct mb_arena arena;
    struct mb_bytes out;  /* what was written; strings are made at its end and cut off again */
    uint64_t work;        /* done so far, in units: about one node, one element or 16 bytes */
    uint32_t depth;       /* of expressions, statements and macros */
    uint32_t line;        /* of the node at work */
    const struct tm *now; /* NULL: the time is not known */
    struct mb_error *err;
    enum mb_status status; /* MB_OK until something failed */
};

/* Tells an error, with the line; always false. Only the first counts. */
bool mb_render_fail(struct mb_render *r, enum mb_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* "'name' is undefined". */
bool mb_render_fail_undefined(struct mb_render *r, struct mb_jinja_value v);

/* Counts units of work. Errors: the bound is reached. */
bool mb_render_work(struct mb_render *r, uint64_t units);

/* Goes one level deeper, or says that it is too deep; mb_render_leave goes back. */
bool mb_render_enter(struct mb_render *r);
void mb_render_leave(struct mb_render *r);

/* Memory until the end of the render; NULL, with the error told, when it is at its bound. */
void *mb_render_alloc(struct mb_render *r, size_t n, size_t size);

/* Appends to the output. */
bool mb_render_put(struct mb_render *r, const char *text, size_t n);
bool mb_render_put_text(struct mb_render *r, const char *text); /* terminated */

/* A string is made by putting what it consists of after a mark, and cutting it off there. */
static inline size_t mb_render_mark(const struct mb_render *r)
{
    return r->out.len;
}
bool mb_render_cut(struct mb_render *r, size_t mark, struct mb_jinja_value *ret);

#endif
