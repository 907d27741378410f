#include "core/model/shape.h"

#include <math.h>

#include "core/tensor/bool_matrix.h"

static enum mb_status check_range(const char *field, uint32_t v, uint32_t min, uint32_t max,
                                  struct mb_error *err)
{
    if (v < min || v > max) {
        return mb_fail(err, MB_E_INVALID, 0, "%s: %u is outside %u..%u", field, v, min, max);
    }
    return MB_OK;
}

static enum mb_status check_ranges(const struct mb_shape *s, const struct mb_shape_names *names,
                                   struct mb_error *err)
{
    const struct {
        const char *field;
        uint32_t value, min, max;
    } rows[] = {
        { names->n_layers, s->n_layers, 1, MB_LAYERS_MAX },
        { names->width, s->width, 1, MB_WIDTH_MAX },
        { names->n_heads, s->n_heads, 1, MB_HEADS_MAX },
        { names->n_kv_heads, s->n_kv_heads, 1, MB_HEADS_MAX },
        { names->head_width, s->head_width, 2, MB_HEAD_WIDTH_MAX },
        { names->ffn_width, s->ffn_width, 1, MB_COLS_MAX }, /* columns of ffn_down */
        { names->n_vocab, s->n_vocab, 1, MB_VOCAB_MAX },
        { names->context, s->context, 1, MB_CONTEXT_MAX },
        { names->window, s->window, 0, MB_CONTEXT_MAX },
        { names->n_planes, s->n_planes, 1, 8 },
        { names->tied_head, s->tied_head, 0, 1 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum mb_status st =
            check_range(rows[i].field, rows[i].value, rows[i].min, rows[i].max, err);
        if (st != MB_OK) {
            return st;
        }
    }
    return MB_OK;
}

enum mb_status mb_shape_check_as(const struct mb_shape *s, const struct mb_shape_names *names,
                                 struct mb_error *err)
{
    enum mb_status st = check_ranges(s, names, err);
    if (st != MB_OK) {
        return st;
    }
    if (s->n_heads % s->n_kv_heads != 0) {
        return mb_fail(err, MB_E_INVALID, 0, "%s: %u does not divide %s %u", names->n_kv_heads,
                       s->n_kv_heads, names->n_heads, s->n_heads);
    }
    if (s->head_width % 2 != 0) {
        return mb_fail(err, MB_E_INVALID, 0, "%s: %u is odd", names->head_width, s->head_width);
    }
    if (mb_shape_q_width(s) > MB_COLS_MAX) { /* columns of attn_o */
        return mb_fail(err, MB_E_INVALID, 0, "%s times %s: %zu is more than %u", names->n_heads,
                       names->head_width, mb_shape_q_width(s), MB_COLS_MAX);
    }
    if (s->n_planes == 2 || s->n_planes == 3) {
        return mb_fail(err, MB_E_INVALID, 0, "%s: %u is neither 1 nor in 4..8", names->n_planes,
                       s->n_planes);
    }
    if (!isfinite(s->norm_eps) || s->norm_eps <= 0 || s->norm_eps > 1) {
        return mb_fail(err, MB_E_INVALID, 0, "%s: %g is not in (0, 1]", names->norm_eps,
                       (double) s->norm_eps);
    }
    return MB_OK;
}

enum mb_status mb_shape_check(const struct mb_shape *s, struct mb_error *err)
{
    static const struct mb_shape_names names = {
        .n_layers = "shape: n_layers",
        .width = "shape: width",
        .n_heads = "shape: n_heads",
        .n_kv_heads = "shape: n_kv_heads",
        .head_width = "shape: head_width",
        .ffn_width = "shape: ffn_width",
        .n_vocab = "shape: n_vocab",
        .context = "shape: context",
        .window = "shape: window",
        .n_planes = "shape: n_planes",
        .norm_eps = "shape: norm_eps",
        .tied_head = "shape: tied_head",
    };
    return mb_shape_check_as(s, &names, err);
}
