#include "core/template/render.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/template/template.h"

bool mb_render_fail(struct mb_render *r, enum mb_status status, const char *fmt, ...)
{
    if (r->status != MB_OK) {
        return false;
    }
    char what[300];
    va_list args;
    va_start(args, fmt);
    (void) vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    r->status =
        mb_fail(r->err, status, 0, "chat template: line %u: %s", (unsigned) r->line, what);
    return false;
}

bool mb_render_fail_undefined(struct mb_render *r, struct mb_jinja_value v)
{
    return mb_render_fail(r, MB_E_INVALID, "'%.*s' is undefined", (int) (v.n < 80 ? v.n : 80),
                          v.text);
}

bool mb_render_work(struct mb_render *r, uint64_t units)
{
    r->work += units;
    if (r->work > MB_TEMPLATE_WORK_MAX) {
        return mb_render_fail(r, MB_E_LIMIT, "more work than %u steps", MB_TEMPLATE_WORK_MAX);
    }
    return r->status == MB_OK;
}

bool mb_render_enter(struct mb_render *r)
{
    if (r->depth == MB_TEMPLATE_DEPTH_MAX) {
        return mb_render_fail(r, MB_E_LIMIT, "nested deeper than %d levels",
                              MB_TEMPLATE_DEPTH_MAX);
    }
    r->depth++;
    return mb_render_work(r, 1) || (r->depth--, false);
}

void mb_render_leave(struct mb_render *r)
{
    r->depth--;
}

void *mb_render_alloc(struct mb_render *r, size_t n, size_t size)
{
    void *p = mb_arena_alloc(&r->arena, n, size);
    if (!p && r->arena.refused) {
        (void) mb_render_fail(r, MB_E_NOMEM, "no memory");
    } else if (!p) {
        (void) mb_render_fail(r, MB_E_LIMIT, "its values need more than %u bytes",
                              MB_TEMPLATE_MEMORY_MAX);
    }
    return p;
}

bool mb_render_put(struct mb_render *r, const char *text, size_t n)
{
    if (n > MB_TEMPLATE_OUTPUT_MAX - r->out.len) {
        return mb_render_fail(r, MB_E_LIMIT, "it writes more than %u bytes",
                              MB_TEMPLATE_OUTPUT_MAX);
    }
    mb_bytes_put(&r->out, text, n);
    if (r->out.failed) {
        return mb_render_fail(r, MB_E_NOMEM, "no memory");
    }
    return mb_render_work(r, 1 + n / 16);
}

bool mb_render_put_text(struct mb_render *r, const char *text)
{
    return mb_render_put(r, text, strlen(text));
}

bool mb_render_cut(struct mb_render *r, size_t mark, struct mb_jinja_value *ret)
{
    size_t n = r->out.len - mark;
    char *copy = mb_render_alloc(r, n, 1);
    if (!copy) {
        return false;
    }
    if (n > 0) {
        memcpy(copy, r->out.at + mark, n);
    }
    r->out.len = mark;
    *ret = mb_jinja_value_string(copy, n);
    return true;
}
