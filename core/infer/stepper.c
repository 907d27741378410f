/* The life of a stepper: what a step needs, sized once. */
#include "core/infer/stepper.h"

#include <assert.h>
#include <math.h>
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
    size_t n = s->tokens_max;
    size_t words = mb_div_up(e->width, MB_WORD_COLS);
    size_t stride = mb_div_up(words * MB_WORD_COLS, MB_ALIGN) * MB_ALIGN; /* bytes of u */
    s->codes = mb_alloc(n, sizeof *s->codes);
    s->codes_u = mb_alloc(n, stride);
    s->codes_a = mb_alloc(n, e->groups * sizeof *s->codes_a);
    s->codes_panels = mb_alloc(n, e->panel_bytes);
    if (!s->codes || !s->codes_u || !s->codes_a || !s->codes_panels) {
        return false;
    }
    for (size_t t = 0; t < n; t++) {
        s->codes[t] = (struct mb_codes) {
            .u = s->codes_u + t * stride,
            .a = s->codes_a + t * e->groups,
            .panel = s->codes_panels + t * e->panel_bytes,
        };
    }
    s->groups_max = e->groups;
    s->panel_bytes = e->panel_bytes;
    s->expand_bytes = e->expand_bytes;
    return true;
}

/* The tokens of a step that bool_popcount is used for, at most. */
static size_t tables_max(const struct mb_stepper *s)
{
    size_t most = 0;
    for (size_t k = 0; k <= MB_KERNELS_MAX; k++) {
        size_t n = s->kernels->popcount_tokens_max[k];
        most = n > most ? n : most;
    }
    return most < s->tokens_max ? most : s->tokens_max;
}

void mb_step_fresh_tiles(const struct mb_stepper *s, struct mb_attend_tile *tiles, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t r = 0; r < MB_ATTEND_ROWS; r++) {
            tiles[i].max[r] = -INFINITY;
        }
        memset(tiles[i].sum, 0, sizeof tiles[i].sum);
        memset(tiles[i].out, 0, MB_ATTEND_ROWS * s->shape.head_width * sizeof *tiles[i].out);
    }
}

/* Floats of a tile's q, or of its out: a whole number of cache lines. */
static size_t tile_floats(const struct mb_stepper *s)
{
    return mb_div_up((size_t) MB_ATTEND_ROWS * s->shape.head_width, 16) * 16;
}

/* Gives n tiles an out each, and those of a worker a q as well; the others borrow theirs. */
static float *lay_tiles(const struct mb_stepper *s, struct mb_attend_tile *tiles, size_t n,
                        bool own_q, float *at)
{
    for (size_t i = 0; i < n; i++) {
        tiles[i].out = at;
        at += tile_floats(s);
        if (own_q) {
            tiles[i].q = at;
            at += tile_floats(s);
        }
    }
    return at;
}

/* The tiles of attention; after get_workers. */
static bool get_tiles(struct mb_stepper *s)
{
    enum { UNITS_PER_THREAD = 4, PARTIALS_PER_THREAD = 32 };
    size_t n = mb_pool_threads(s->pool), each = mb_step_unit_tiles(s);
    s->split_units_max = n * UNITS_PER_THREAD;
    s->n_partials = n == 1 ? 0 : n * PARTIALS_PER_THREAD;
    s->pieces = mb_alloc(s->tokens_max, sizeof *s->pieces);
    s->partials_done = mb_alloc(s->split_units_max, sizeof *s->partials_done);
    s->partials = mb_alloc(n * 2 * each + s->n_partials, sizeof *s->partials);
    size_t block = 2 * MB_KV_BLOCK * (size_t) s->shape.head_width;
    size_t floats = (n * 3 * each + s->n_partials) * tile_floats(s) + n * block;
    s->tiles_memory = mb_alloc(floats, sizeof *s->tiles_memory);
    if (!s->pieces || !s->partials_done || !s->partials || !s->tiles_memory) {
        return false;
    }
    float *at = lay_tiles(s, s->partials, s->n_partials, false, s->tiles_memory);
    struct mb_attend_tile *tiles = s->partials + s->n_partials;
    for (size_t i = 0; i < n; i++, tiles += 2 * each) {
        s->workers[i].tiles = tiles;
        s->workers[i].segment = tiles + each;
        at = lay_tiles(s, tiles, each, true, at);
        at = lay_tiles(s, tiles + each, each, false, at);
        s->workers[i].widened = at;
        at += block;
    }
    return true;
}

/* One block of memory for all workers; each begins on a cache line of its own. */
static bool get_workers(struct mb_stepper *s, const struct extent *e)
{
    size_t n = mb_pool_threads(s->pool), n_tables = tables_max(s);
    size_t table_bytes = mb_div_up(e->width, MB_WORD_COLS) * MB_WORD_TABLE_BYTES;
    size_t expand_bytes, bytes;
    if (!mb_checked_align(s->expand_bytes, MB_ALIGN, &expand_bytes) ||
        !mb_checked_add(expand_bytes, n_tables * table_bytes, &bytes)) {
        return false;
    }
    s->workers = mb_alloc(n, sizeof *s->workers);
    s->workers_memory = mb_alloc(n, bytes);
    s->workers_codes = mb_alloc(n * n_tables, sizeof *s->workers_codes);
    if (!s->workers || !s->workers_memory || !s->workers_codes) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t *at = s->workers_memory + i * bytes;
        s->workers[i] = (struct mb_step_worker) {
            .expand = at,
            .codes = s->workers_codes + i * n_tables,
        };
        at += expand_bytes;
        for (size_t t = 0; t < n_tables; t++) {
            s->workers[i].codes[t] = s->codes[t];
            s->workers[i].codes[t].tables = at + t * table_bytes;
        }
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
    if (!get_activations(s, &e) || !get_codes(s, &e) || !get_workers(s, &e) || !get_tiles(s)) {
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
    mb_free(s->codes_a);
    mb_free(s->codes_panels);
    mb_free(s->workers);
    mb_free(s->workers_memory);
    mb_free(s->workers_codes);
    mb_free(s->pieces);
    mb_free(s->partials_done);
    mb_free(s->partials);
    mb_free(s->tiles_memory);
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
    s->waited_ns = 0;
    mb_pool_set_clock(s->pool, now_ns);
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
        s->waited_ns = mb_pool_waited_ns(s->pool);
    }
}

void mb_step_lap(struct mb_stepper *s, enum mb_phase p)
{
    if (s->now_ns) {
        uint64_t now = s->now_ns(), waited = mb_pool_waited_ns(s->pool);
        uint64_t all = now - s->mark_ns, idle = waited - s->waited_ns;
        idle = idle < all ? idle : all;
        s->spent_ns[p] += all - idle;
        s->spent_ns[MB_PHASE_BARRIER] += idle;
        s->mark_ns = now;
        s->waited_ns = waited;
    }
}

const char *mb_phase_name(enum mb_phase p)
{
    static const char *const names[MB_PHASES] = {
        [MB_PHASE_EMBED] = "embedding",  [MB_PHASE_NORM] = "norms",
        [MB_PHASE_CODE] = "coding",      [MB_PHASE_PRODUCT] = "products",
        [MB_PHASE_ATTEND] = "attention", [MB_PHASE_GATE] = "gating",
        [MB_PHASE_HEAD] = "head",        [MB_PHASE_BARRIER] = "barriers",
    };
    return names[p];
}
