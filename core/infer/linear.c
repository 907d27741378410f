/* Linear layers of a step: code the inputs once, then every row tile of every layer that reads
 * them is a unit of one parallel job. No sum crosses a unit. */
#include <assert.h>

#include "core/infer/stepper.h"

struct code_job {
    struct mb_stepper *s;
    size_t n_tokens, n_cols, group, n_planes;
    bool panels; /* that some product will read */
};

/* The tokens of one panel: what is coded is laid side by side while it is near. */
static void code_panel(const void *args, size_t panel)
{
    const struct code_job *j = args;
    const struct mb_kernels *k = j->s->kernels;
    size_t first = panel * MB_PANEL_TOKENS;
    size_t end = first + MB_PANEL_TOKENS < j->n_tokens ? first + MB_PANEL_TOKENS : j->n_tokens;
    struct mb_codes *c = j->s->codes;
    for (size_t t = first; t < end; t++) {
        k->code(&c[t], j->s->in + t * j->n_cols, j->n_cols, j->group, j->n_planes);
    }
    if (j->panels) {
        mb_code_panels(c + first, end - first, j->n_cols, j->group);
    }
}

/* Popcounts read K bits a weight; expanding costs the same for any K, once for all tokens. */
static bool use_popcount(const struct mb_stepper *s, const struct mb_linear *w, size_t n)
{
    return n <= s->kernels->popcount_tokens_max[w->boolean.shape.n_kernels];
}

static void code_inputs(struct mb_stepper *s, size_t n, size_t n_cols,
                        const struct mb_product *products, size_t n_products)
{
    struct code_job j = {
        .s = s, .n_tokens = n, .n_cols = n_cols, .n_planes = s->shape.n_planes
    };
    for (size_t i = 0; i < n_products; i++) {
        const struct mb_linear *w = products[i].w;
        if (w->kind == MB_LINEAR_BOOL) {
            assert(j.group == 0 || j.group == w->boolean.shape.group);
            assert(mb_bool_groups(&w->boolean.shape) <= s->groups_max);
            assert(mb_code_panel_bytes(n_cols, w->boolean.shape.group) <= s->panel_bytes);
            assert(mb_bool_expand_scratch(&w->boolean.shape) <= s->expand_bytes);
            j.group = w->boolean.shape.group;
            j.panels |= !use_popcount(s, w, n);
        }
    }
    if (j.group != 0) {
        mb_step_for_tokens(s, mb_div_up(n, MB_PANEL_TOKENS), n_cols * MB_PANEL_TOKENS,
                           code_panel, &j);
    }
}

/* In cache lines of its own: the caller writes beside them while the workers read. */
struct product_job {
    _Alignas(MB_ALIGN) struct mb_stepper *s;
    const struct mb_product *products;
    size_t n_products;
    size_t n_tokens, n_cols;
    size_t n_tiles; /* of all products together */
    size_t tiles_per_part;
    uint64_t id;
    const struct product_job *next; /* that will follow; or NULL */
};

static size_t tiles_of(const struct mb_linear *w)
{
    return mb_div_up(w->n_rows, MB_TILE_ROWS);
}

static void run_dense(const struct product_job *j, const struct mb_product *p, size_t row,
                      size_t row_end)
{
    const struct mb_kernels *k = j->s->kernels;
    mb_dense_fn *dense = p->w->kind == MB_LINEAR_F32   ? k->dense_f32
                         : p->w->kind == MB_LINEAR_F16 ? k->dense_f16
                                                       : k->dense_bf16;
    dense(p->y, p->w->n_rows, p->w->dense, j->s->in, j->n_cols, j->n_tokens, row, row_end);
}

/* The worker's codes with the tables of this job, built at its first part that needs them. */
static const struct mb_codes *codes_with_tables(const struct product_job *j, size_t worker)
{
    struct mb_step_worker *w = &j->s->workers[worker];
    if (w->tables_of != j->id) {
        for (size_t t = 0; t < j->n_tokens; t++) {
            j->s->kernels->code_tables(&w->codes[t], j->n_cols, j->s->shape.n_planes);
        }
        w->tables_of = j->id;
    }
    return w->codes;
}

static void run_boolean(const struct product_job *j, const struct mb_product *p, size_t tile,
                        size_t tile_end, size_t worker)
{
    const struct mb_stepper *s = j->s;
    bool popcount = use_popcount(s, p->w, j->n_tokens);
    mb_bool_product_fn *product =
        popcount ? s->kernels->bool_popcount : s->kernels->bool_expand;
    const struct mb_codes *codes = popcount ? codes_with_tables(j, worker) : s->codes;
    product(p->y, p->w->n_rows, &p->w->boolean, codes, j->n_tokens, s->shape.n_planes, tile,
            tile_end, s->workers[worker].expand);
}

static void run_tiles(const struct product_job *j, const struct mb_product *p, size_t tile,
                      size_t tile_end, size_t worker)
{
    struct mb_stepper *s = j->s;
    size_t n_rows = p->w->n_rows;
    size_t row = tile * MB_TILE_ROWS, row_end = tile_end * MB_TILE_ROWS;
    row_end = row_end < n_rows ? row_end : n_rows;
    if (p->w->kind == MB_LINEAR_BOOL) {
        run_boolean(j, p, tile, tile_end, worker);
    } else {
        run_dense(j, p, row, row_end);
    }
    for (size_t t = 0; p->add_to && t < j->n_tokens; t++) {
        s->kernels->add(p->add_to + t * n_rows + row, p->y + t * n_rows + row, row_end - row);
    }
}

/* A part is a range of the products' tiles laid end to end; it may lie in several of them. */
static void run_part(void *job, size_t part, size_t worker)
{
    const struct product_job *j = job;
    size_t begin = part * j->tiles_per_part;
    size_t end = begin + j->tiles_per_part;
    for (size_t i = 0, before = 0; i < j->n_products; i++) {
        size_t n = tiles_of(j->products[i].w);
        size_t from = begin > before ? begin - before : 0;
        size_t to = end < before + n ? end - before : n;
        if (end > before && from < to) {
            run_tiles(j, &j->products[i], from, to, worker);
        }
        before += n;
    }
}

static bool any_expands(const struct product_job *j)
{
    for (size_t i = 0; i < j->n_products; i++) {
        const struct mb_linear *w = j->products[i].w;
        if (w->kind == MB_LINEAR_BOOL && !use_popcount(j->s, w, j->n_tokens)) {
            return true;
        }
    }
    return false;
}

/* No part ends within the tiles that kernels take at a time. Popcounts want long parts, to read far
 * in order. Expanding does not, and a part is worth its call at a few microseconds: so no thread
 * waits long for the last. */
static size_t part_tiles(const struct product_job *j)
{
    enum { EXPAND_PARTS_OF_WORK = 8, PASS_TILES = MB_EXPAND_TILES };
    size_t tile_work = MB_TILE_ROWS * j->n_cols * j->n_tokens;
    size_t tiles = mb_div_up(j->n_tiles, mb_step_parts(j->s, j->n_tiles * tile_work));
    if (any_expands(j)) {
        size_t worth = mb_div_up(EXPAND_PARTS_OF_WORK * j->s->part_work, tile_work);
        tiles = worth < tiles ? worth : tiles;
    }
    return mb_div_up(tiles, PASS_TILES) * PASS_TILES;
}

static struct product_job job_of(struct mb_stepper *s, size_t n,
                                 const struct mb_product *products, size_t n_products)
{
    assert(n_products <= MB_PRODUCTS_MAX);
    struct product_job j = {
        .s = s,
        .products = products,
        .n_products = n_products,
        .n_tokens = n,
        .n_cols = products[0].w->n_cols,
    };
    for (size_t i = 0; i < n_products; i++) {
        assert(products[i].w->n_cols == j.n_cols);
        j.n_tiles += tiles_of(products[i].w);
    }
    j.tiles_per_part = part_tiles(&j);
    return j;
}

static size_t parts_of(const struct product_job *j)
{
    return mb_div_up(j->n_tiles, j->tiles_per_part);
}

/* The first bytes of n tiles from one on: as many of each as fetching ahead leaves out, which starts
 * with what is so much further on. */
static void tiles_ahead(const struct mb_bool_matrix *w, size_t tile, size_t n,
                        struct mb_ahead *ret)
{
    const struct mb_bool_shape *s = &w->shape;
    enum { EACH = 16 << 10 }; /* of the bits of a tile */
    size_t bits = mb_bool_bits_at(s, 1, 0) * sizeof *w->bits;
    size_t part = bits < EACH ? bits : EACH;
    for (size_t i = 0; i < n; i++) {
        size_t at = 3 * i;
        ret->range[at].at = w->bits + mb_bool_bits_at(s, tile + i, 0);
        ret->range[at].n_bytes = part;
        ret->range[at + 1].at = w->scale + mb_bool_scale_at(s, tile + i, 0);
        ret->range[at + 1].n_bytes = mb_bool_scale_at(s, 1, 0) * sizeof *w->scale * part / bits;
        ret->range[at + 2].at = w->coef + mb_bool_coef_at(s, tile + i, 0);
        ret->range[at + 2].n_bytes = mb_bool_coef_at(s, 1, 0) * part / bits;
    }
}

/* Where the worker begins in the next job, if that is read by popcounts. */
static void ahead_of(const void *job, size_t worker, struct mb_ahead *ret)
{
    enum { TILES = MB_AHEAD_RANGES / 3 };
    const struct product_job *j = ((const struct product_job *) job)->next;
    size_t tile = mb_pool_first_part(j->s->pool, parts_of(j), worker) * j->tiles_per_part;
    for (size_t i = 0; i < j->n_products; i++) {
        const struct mb_linear *w = j->products[i].w;
        size_t n = tiles_of(w);
        if (tile < n) {
            if (w->kind == MB_LINEAR_BOOL && use_popcount(j->s, w, j->n_tokens)) {
                tiles_ahead(&w->boolean, tile, n - tile < TILES ? n - tile : TILES, ret);
            }
            return;
        }
        tile -= n;
    }
}

void mb_step_linears(struct mb_stepper *s, size_t n, const struct mb_products *now,
                     const struct mb_products *next, enum mb_phase phase)
{
    struct product_job j = job_of(s, n, now->product, now->n), following;
    code_inputs(s, n, j.n_cols, now->product, now->n);
    mb_step_lap(s, MB_PHASE_CODE);

    j.id = ++s->n_jobs;
    if (next) {
        following = job_of(s, n, next->product, next->n);
        j.next = &following;
    }
    mb_pool_run_ahead(s->pool, parts_of(&j), run_part, next ? ahead_of : NULL, &j);
    mb_step_lap(s, phase);
}
