#include "core/kernels/variants.h"
#include "core/kernels/x86/bool_expand_avx512.h"

/* Constant numbers of kernels keep words and coefficients in registers. */
static __m512i expand_tile(const struct tile_group *t)
{
    switch (t->n_kernels) {
    case 1:
        return expand_by_masks(t, 1);
    case 2:
        return expand_by_masks(t, 2);
    case 3:
        return expand_by_masks(t, 3);
    case 4:
        return expand_by_masks(t, 4);
    default:
        return expand_by_masks(t, t->n_kernels);
    }
}

void mb_bool_expand_avx512vnni(float *y, size_t ldy, const struct mb_bool_matrix *w,
                               const struct mb_codes *x, size_t n_tokens, size_t n_planes,
                               size_t tile, size_t tile_end, void *scratch)
{
    mb_expand_product(y, ldy, w, x, n_tokens, n_planes, tile, tile_end, scratch, expand_tile);
}
