#include "core/convert/part_draft.h"

#include <math.h>
#include <string.h>

enum mb_status mb_part_add_draft(struct mb_part *p, const char *name,
                                 const struct mb_bool_draft *d, const struct mb_fit_errors *e,
                                 struct mb_error *err)
{
    struct mb_bytes head = { 0 };
    mb_bytes_put_f32(&head, d->scale_all);
    mb_bytes_put_f64(&head, e->output);
    mb_bytes_put_f64(&head, e->plain);
    struct mb_part_piece pieces[] = {
        { head.at, head.len },
        { d->bits, mb_bool_bits_bytes(&d->shape) },
        { d->scale, mb_bool_scale_bytes(&d->shape) },
        { d->coef, mb_bool_coef_bytes(&d->shape) },
    };
    enum mb_status st = head.failed
                            ? mb_fail(err, MB_E_NOMEM, 0, "%s: no memory to keep it", name)
                            : mb_part_add(p, name, pieces, 4, err);
    mb_bytes_fini(&head);
    return st;
}

static void take(struct mb_cursor *c, void *ret, size_t n)
{
    const uint8_t *at = mb_cursor_take(c, n);
    if (at) {
        memcpy(ret, at, n);
    }
}

bool mb_part_take_draft(struct mb_part *p, const char *name, const struct mb_bool_shape *shape,
                        struct mb_bool_draft *ret, struct mb_fit_errors *ret_errors)
{
    struct mb_bool_draft d = { 0 };
    struct mb_fit_errors e;
    struct mb_part_piece data = mb_part_next(p, name);
    if (!data.at || mb_bool_draft_init(&d, shape, NULL) != MB_OK) {
        return false;
    }
    struct mb_cursor c = mb_cursor_of(data.at, data.n);
    d.scale_all = mb_cursor_f32(&c);
    e.output = mb_cursor_f64(&c);
    e.plain = mb_cursor_f64(&c);
    take(&c, d.bits, mb_bool_bits_bytes(shape));
    take(&c, d.scale, mb_bool_scale_bytes(shape));
    take(&c, d.coef, mb_bool_coef_bytes(shape));
    struct mb_bool_matrix view = mb_bool_draft_view(&d);
    if (c.failed || c.left > 0 || !isfinite(d.scale_all) || !isfinite(e.output) ||
        !isfinite(e.plain) || mb_bool_check(&view, NULL) != MB_OK) {
        mb_bool_draft_fini(&d);
        return false;
    }
    mb_part_pass(p);
    *ret = d;
    *ret_errors = e;
    return true;
}
