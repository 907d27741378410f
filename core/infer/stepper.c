/* The life of a stepper: what a step needs, sized once. */
#include "core/infer/stepper.h"

#include <assert.h>
#include <string.h>

#include "core/base/memory.h"

/* What the linear layers of a model ask of the scratch. */
struct extent {
    size_t width;       /* of the widest input */
    size_t groups;      /* of the Boolean layer with most of them */
    size_t panel_bytes; /* of a token */
    size_t expand_bytes;
};

static void extend(struct extent *e, const struct mb_linear *l)
{
    e->width = l->n_cols > e->width ? l->n_cols : e->width;
    if (l->kind != MB_LINEAR_BOOL) {
        return;
    }
    size_t groups = mb_bool_groups(&l->boolean.shape);
    size_t panel_bytes = mb_code_panel_bytes(l->n_cols, l->boolean.shape.group);
    size_t bytes = mb_bool_expand_scratch(&l->boolean.shape);
    e->groups = groups > e->groups ? groups : e->groups;
    e->panel_bytes = panel_bytes > e->panel_bytes ? panel_bytes : e->panel_bytes;
    e->expand_bytes = bytes > e->expand_bytes ? bytes : e->expand_bytes;
}

static struct extent extent_of(const struct mb_model *m)
{
    struct extent e = { .groups = 1 };
    extend(&e, &m->head);
    for (uint32_t i = 0; i < m->shape.n_layers; i++) {
        for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
            extend(&e, &m->blocks[i].linear[l]);
        }
    }
    return e;
}

/* [T][width] floats. The bounds of shape.h and MB_STEP_TOKENS_MAX keep the count below 2^37. */
static bool get_floats(float **ret, size_t n, size_t width)
{
    *ret = mb_alloc(n * width, sizeof **ret);
    return *ret != NULL;
}

static bool get_activations(struct mb_stepper *s, const struct extent *e)
{
    const struct mb_shape *h = &s->shape;
    size_t n = s->tokens_max;
    return get_floats(&s->x, n, h->width) && get_floats(&s->in, n, e->width) &&
           get_floats(&s->q, n, mb_shape_q_width(h)) &&
           get_floats(&s->k, n, mb_shape_kv_width(h)) &&
           get_floats(&s->v, n, mb_shape_kv_width(h)) &&
           get_floats(&s->gate, n, h->ffn_width) && get_floats(&s->up, n, h->ffn_width) &&
           get_floats(&s->y, n, h->width) && get_floats(&s->cos, n, h->head_width / 2) &&
           get_floats(&s->sin, n, h->head_width / 2);
}

static bool get_codes(struct mb_stepper *s, const struct extent *e)
{
    size_t n = s->tokens_max, n_tables = 0;
    for (size_t k = 0; k <= MB_KERNELS_MAX; k++) {
        size_t most = s->kernels->popcount_tokens_max[k];
        n_tables = most > n_tables ? most : n_tables;
    }
    n_tables = n_tables < n ? n_tables : n;
    size_t words = mb_div_up(e->width, MB_WORD_COLS);
    size_t stride = mb_div_up(words * MB_WORD_COLS, MB_ALIGN) * MB_ALIGN; /* bytes of u */
    s->codes = mb_alloc(n, sizeof *s->codes);
    s->codes_u = mb_alloc(n, stride);
    s->codes_tables = mb_alloc(n_tables, words * MB_WORD_TABLE_BYTES);
    s->codes_a = mb_alloc(n, e->groups * sizeof *s->codes_a);
    s->codes_panels = mb_alloc(n, e->panel_bytes);
    if (!s->codes || !s->codes_u || !s->codes_tables || !s->codes_a || !s->codes_panels) {
        return false;
    }
    for (size_t t = 0; t < n; t++) {
        s->codes[t] = (struct mb_codes) {
            .u = s->codes_u + t * stride,
            .tables = t < n_tables ? s->codes_tables + t * words * MB_WORD_TABLE_BYTES : NULL,
            .a = s->codes_a + t * e->groups,
            .panel = s->codes_panels + t * e->panel_bytes,
        };
    }
    s->groups_max = e->groups;
    s->panel_bytes = e->panel_bytes;
    s->expand_bytes = e->expand_bytes;
    return true;
}

/* One block of memory for all workers; each begins on a cache line of its own. */
static bool get_workers(struct mb_stepper *s)
{
    size_t n = mb_pool_threads(s->pool);
    size_t heads = s->shape.n_heads / s->shape.n_kv_heads;
    size_t sum_bytes = heads * 16 * sizeof(float);
    size_t max_bytes = mb_div_up(heads * sizeof(float), MB_ALIGN) * MB_ALIGN;
    size_t expand_bytes, bytes;
    if (!mb_checked_align(s->expand_bytes, MB_ALIGN, &expand_bytes) ||
        !mb_checked_add(expand_bytes, sum_bytes + max_bytes, &bytes)) {
        return false;
    }
    s->workers = mb_alloc(n, sizeof *s->workers);
    s->workers_memory = mb_alloc(n, bytes);
    if (!s->workers || !s->workers_memory) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t *at = s->workers_memory + i * bytes;
        s->workers[i] = (struct mb_step_worker) {
            .expand = at,
            .attn_sum = (float *) (at + expand_bytes),
            .attn_max = (float *) (at + expand_bytes + sum_bytes),
        };
    }
    return true;
}

enum mb_status mb_stepper_new(const struct mb_model *m, const struct mb_stepper_options *o,
                              struct mb_stepper **ret, struct mb_error *err)
{
    if (o->tokens_max < 1 || o->tokens_max > MB_STEP_TOKENS_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "step: %u tokens is outside 1..%u",
                       (unsigned) o->tokens_max, MB_STEP_TOKENS_MAX);
    }
    if (o->logits_max > o->tokens_max) {
        return mb_fail(err, MB_E_INVALID, 0, "step: logits of %u tokens; a step has at most %u",
                       (unsigned) o->logits_max, (unsigned) o->tokens_max);
    }
    struct mb_stepper *s = mb_alloc(1, sizeof *s);
    if (!s) {
        return mb_fail(err, MB_E_NOMEM, 0, "step: no memory");
    }
    *s = (struct mb_stepper) {
        .kernels = o->kernels,
        .pool = o->pool,
        .shape = m->shape,
        .tokens_max = o->tokens_max,
        .logits_max = o->logits_max,
        .part_work = MB_STEP_PART_WORK,
    };
    struct extent e = extent_of(m);
    if (!get_activations(s, &e) || !get_codes(s, &e) || !get_workers(s)) {
        mb_stepper_free(s);
        return mb_fail(err, MB_E_NOMEM, 0, "step: no memory for %u tokens of this model",
                       (unsigned) o->tokens_max);
    }
    *ret = s;
    return MB_OK;
}

void mb_stepper_free(struct mb_stepper *s)
{
    if (!s) {
        return;
    }
    float *floats[] = { s->x, s->in, s->q, s->k, s->v, s->gate, s->up, s->y, s->cos, s->sin };
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) {
        mb_free(floats[i]);
    }
    mb_free(s->codes);
    mb_free(s->codes_u);
    mb_free(s->codes_tables);
    mb_free(s->codes_a);
    mb_free(s->codes_panels);
    mb_free(s->workers);
    mb_free(s->workers_memory);
    mb_free(s);
}

void mb_stepper_set_part_work(struct mb_stepper *s, size_t work)
{
    assert(work > 0);
    s->part_work = work;
}

void mb_stepper_set_clock(struct mb_stepper *s, uint64_t (*now_ns)(void))
{
    s->now_ns = now_ns;
    memset(s->spent_ns, 0, sizeof s->spent_ns);
}

void mb_stepper_times(const struct mb_stepper *s, uint64_t ret_ns[MB_PHASES])
{
    memcpy(ret_ns, s->spent_ns, sizeof s->spent_ns);
}

void mb_step_lap_start(struct mb_stepper *s)
{
    if (s->now_ns) {
        s->mark_ns = s->now_ns();
    }
}

void mb_step_lap(struct mb_stepper *s, enum mb_phase p)
{
    if (s->now_ns) {
        uint64_t now = s->now_ns();
        s->spent_ns[p] += now - s->mark_ns;
        s->mark_ns = now;
    }
}

const char *mb_phase_name(enum mb_phase p)
{
    static const char *const names[MB_PHASES] = {
        [MB_PHASE_EMBED] = "embed",     [MB_PHASE_NORM] = "norm",     [MB_PHASE_CODE] = "code",
        [MB_PHASE_PRODUCT] = "product", [MB_PHASE_ATTEND] = "attend", [MB_PHASE_GATE] = "gate",
        [MB_PHASE_HEAD] = "head",
    };
    return names[p];
}
