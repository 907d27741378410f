#include "core/finetune/product.h"

#include "core/base/checked.h"

/* A part is tall enough to be worth packing its share of B for, and there are enough parts for a few
 * threads where the matrix allows it. */
enum { ROWS_MIN = 48, ROWS_MAX = 256, ROWS_UNIT = 16, WANTED_PARTS = 8, COLS_MAX = 2048 };

struct product_job {
    size_t m, n, k, rows, n_row_parts;
    struct mb_operand a, b;
    float beta, *c;
    size_t ldc;
};

static const float *at(const struct mb_operand *x, size_t row, size_t col)
{
    return x->op == MB_AS_IS ? x->at + row * x->ld + col : x->at + col * x->ld + row;
}

static void run_part(void *job, size_t part, size_t worker)
{
    const struct product_job *j = job;
    size_t row = part % j->n_row_parts * j->rows, col = part / j->n_row_parts * COLS_MAX;
    size_t m = j->m - row < j->rows ? j->m - row : j->rows;
    size_t n = j->n - col < COLS_MAX ? j->n - col : COLS_MAX;
    mb_sgemm(j->a.op, j->b.op, m, n, j->k, 1, at(&j->a, row, 0), j->a.ld, at(&j->b, 0, col),
             j->b.ld, j->beta, j->c + row * j->ldc + col, j->ldc);
}

void mb_product(struct mb_pool *pool, size_t m, size_t n, size_t k, struct mb_operand a,
                struct mb_operand b, float beta, float *c, size_t ldc)
{
    struct product_job j = { m, n, k, 0, 0, a, b, beta, c, ldc };
    size_t rows = mb_div_up(mb_div_up(m, WANTED_PARTS), ROWS_UNIT) * ROWS_UNIT;
    rows = rows < ROWS_MIN ? ROWS_MIN : rows;
    j.rows = rows < ROWS_MAX ? rows : ROWS_MAX;
    j.n_row_parts = mb_div_up(m, j.rows);
    mb_pool_run(pool, j.n_row_parts * mb_div_up(n, COLS_MAX), run_part, &j);
}
