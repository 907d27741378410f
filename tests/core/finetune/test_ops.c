/* Goal:   every operation of training has the derivative that it claims, and the same bits on
 *         every instruction set.
 * Method: the source of the operations is made in float64 here; each derivative is compared with
 *         central differences of a weighed sum of the operation's outputs, over lengths that leave
 *         a tail, several blocks of attention, grouped heads and a window. */
#define REAL       double
#define REAL_EXP   exp
#define REAL_SGEMM mb_dgemm
#include "core/finetune/ops_template.h"

#include "core/base/rng.h"
#include "tests/check_main.h"

enum { N = 37, TOKENS = 150, WIDE = 5 * 6 };

static const double STEP = 1e-5;

static double draw(uint64_t stream, uint64_t i)
{
    return 2 * mb_rng_unit(7, stream, i) - 1;
}

static void fill(double *x, size_t n, uint64_t stream)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = draw(stream, i);
    }
}

/* A scalar function of the memory that a test has set up. */
typedef double scalar_fn(void *self);

/* d f / d x[i] for n elements (every stride-th) against grad. */
static void compare(const char *what, scalar_fn *f, void *self, double *x, const double *grad,
                    size_t n, size_t stride)
{
    for (size_t i = 0; i < n; i += stride) {
        double was = x[i];
        x[i] = was + STEP;
        double up = f(self);
        x[i] = was - STEP;
        double down = f(self);
        x[i] = was;
        double want = (up - down) / (2 * STEP);
        ck_assert_msg(fabs(want - grad[i]) <= 1e-7 * (1 + fabs(want)),
                      "%s[%zu]: difference %.12g, derivative %.12g", what, i, want, grad[i]);
    }
}

struct vectors {
    double x[N], w[N], u[N], dy[N];
};

static struct vectors vectors(void)
{
    struct vectors v;
    fill(v.x, N, 1);
    fill(v.w, N, 2);
    fill(v.u, N, 3);
    fill(v.dy, N, 4);
    return v;
}

static double norm_sum(void *self)
{
    struct vectors *v = self;
    double y[N];
    (void) norm(y, v->x, v->w, N, 1e-3);
    return dot(y, v->dy, N);
}

START_TEST(norm_has_its_derivative)
{
    struct vectors v = vectors();
    double y[N], dx[N] = { 0 }, dw[N] = { 0 };
    double r = norm(y, v.x, v.w, N, 1e-3);
    norm_back(dx, dw, v.dy, v.x, v.w, r, N);
    compare("dx", norm_sum, &v, v.x, dx, N, 1);
    compare("dw", norm_sum, &v, v.w, dw, N, 1);
}
END_TEST

static double scale_sum(void *self)
{
    struct vectors *v = self;
    double y[N];
    scale(y, v->x, v->w, N);
    return dot(y, v->dy, N);
}

START_TEST(scale_has_its_derivative)
{
    struct vectors v = vectors();
    double y[N], dx[N], dt[N] = { 0 };
    scale(y, v.x, v.w, N);
    scale_back(dt, v.dy, y, v.w, N);
    scale(dx, v.dy, v.w, N);
    compare("dx", scale_sum, &v, v.x, dx, N, 1);
    compare("dt", scale_sum, &v, v.w, dt, N, 1);
}
END_TEST

static double gate_sum(void *self)
{
    struct vectors *v = self;
    double y[N];
    gate(y, v->x, v->u, N);
    return dot(y, v->dy, N);
}

START_TEST(gate_has_its_derivative)
{
    struct vectors v = vectors();
    double dg[N], du[N];
    v.x[0] = 30; /* where the sigmoid is flat */
    v.x[1] = -30;
    gate_back(dg, du, v.dy, v.x, v.u, N);
    compare("dg", gate_sum, &v, v.x, dg, N, 1);
    compare("du", gate_sum, &v, v.u, du, N, 1);
}
END_TEST

static double rope_sum(void *self)
{
    struct vectors *v = self;
    double y[N];
    memcpy(y, v->x, sizeof y);
    rope(y, v->w, v->u, N - 1, 1);
    return dot(y, v->dy, N - 1);
}

START_TEST(rope_turns_back_to_its_derivative)
{
    struct vectors v = vectors();
    for (size_t i = 0; i < N / 2; i++) {
        double angle = 3 * v.w[i];
        v.w[i] = cos(angle);
        v.u[i] = sin(angle);
    }
    double dx[N];
    memcpy(dx, v.dy, sizeof dx);
    rope(dx, v.w, v.u, N - 1, -1);
    compare("dx", rope_sum, &v, v.x, dx, N - 1, 1);
}
END_TEST

static double loss_sum(void *self)
{
    struct vectors *v = self;
    double z[N], t[N];
    memcpy(z, v->x, sizeof z);
    memcpy(t, v->w, sizeof t);
    struct loss_of l = token_loss(z, t, N, 5, 0, 0);
    return 0.7 * l.cross_entropy + 1.3 * l.divergence;
}

START_TEST(loss_has_its_derivative_and_value)
{
    struct vectors v = vectors();
    for (size_t i = 0; i < N; i++) {
        v.x[i] *= 6;
        v.w[i] *= 4;
    }
    double z[N], t[N], sum = 0, teacher_sum = 0, kl = 0;
    memcpy(z, v.x, sizeof z);
    memcpy(t, v.w, sizeof t);
    struct loss_of l = token_loss(z, t, N, 5, 0.7, 1.3);
    compare("dz", loss_sum, &v, v.x, z, N, 1);
    for (size_t i = 0; i < N; i++) {
        sum += exp(v.x[i]);
        teacher_sum += exp(v.w[i]);
    }
    for (size_t i = 0; i < N; i++) {
        double q = exp(v.w[i]) / teacher_sum;
        kl += q * (log(q) - (v.x[i] - log(sum)));
    }
    ck_assert_double_eq_tol(l.cross_entropy, log(sum) - v.x[5], 1e-12);
    ck_assert_double_eq_tol(l.divergence, kl, 1e-12);

    memcpy(z, v.x, sizeof z);
    l = token_loss(z, NULL, N, 5, 0.7, 1.3); /* without a teacher, kl says nothing */
    ck_assert_double_eq(l.divergence, 0);
    ck_assert_double_eq_tol(z[5], 0.7 * (exp(v.x[5]) / sum - 1), 1e-12);
    ck_assert_double_eq_tol(z[6], 0.7 * exp(v.x[6]) / sum, 1e-12);
}
END_TEST

static double match_sum(void *self)
{
    struct vectors *v = self;
    return 0.3 * match(NULL, v->x, v->w, N, 0.3);
}

START_TEST(match_has_its_derivative)
{
    struct vectors v = vectors();
    double dx[N] = { 0 };
    double d = match(dx, v.x, v.w, N, 0.3);
    compare("dx", match_sum, &v, v.x, dx, N, 1);
    double want = 0, size = 0;
    for (size_t i = 0; i < N; i++) {
        want += (v.x[i] - v.w[i]) * (v.x[i] - v.w[i]);
        size += v.w[i] * v.w[i];
    }
    ck_assert_double_eq_tol(d, want / size, 1e-12);
}
END_TEST

/* Two key heads with two query heads each would be two calls; here is one, in rows as wide as
 * if there were others beside it. */
struct attention {
    struct mb_attention_shape s;
    double q[TOKENS * WIDE], k[TOKENS * WIDE], v[TOKENS * WIDE], dout[TOKENS * WIDE];
    double out[TOKENS * WIDE], lse[TOKENS * 4], scratch[2 * MB_ATTENTION_ROWS * TOKENS];
};

static struct attention at; /* too large for a stack */

static double attend_sum(void *self)
{
    struct attention *a = self;
    attend(a->out, a->lse, a->q, a->k, a->v, &a->s, a->scratch);
    double sum = 0;
    for (size_t t = 0; t < a->s.n; t++) {
        for (size_t i = 0; i < a->s.n_q_per_kv * a->s.head_width; i++) {
            sum += a->out[t * a->s.q_row + i] * a->dout[t * a->s.q_row + i];
        }
    }
    return sum;
}

static void set_up_attention(size_t n, size_t window)
{
    at.s = (struct mb_attention_shape) {
        .n = n,
        .n_q_per_kv = 3,
        .head_width = 6,
        .q_row = 20,
        .kv_row = 8,
        .lse_row = 4,
        .window = window,
    };
    fill(at.q, TOKENS * WIDE, 11);
    fill(at.k, TOKENS * WIDE, 12);
    fill(at.v, TOKENS * WIDE, 13);
    fill(at.dout, TOKENS * WIDE, 14);
    for (size_t i = 0; i < TOKENS * WIDE; i++) {
        at.q[i] *= 3;
    }
}

START_TEST(attention_has_its_derivative)
{
    static double dq[TOKENS * WIDE], dk[TOKENS * WIDE], dv[TOKENS * WIDE];
    const struct {
        size_t n, window;
    } cases[] = { { 1, 0 }, { 7, 0 }, { 7, 3 }, { TOKENS, 0 }, { TOKENS, 70 }, { TOKENS, 1 } };
    set_up_attention(cases[_i].n, cases[_i].window);
    (void) attend_sum(&at);
    attend_back(dq, dk, dv, at.dout, at.q, at.k, at.v, at.lse, &at.s, at.scratch);
    size_t stride = cases[_i].n > 10 ? 37 : 1;
    for (size_t t = 0; t < at.s.n; t++) { /* not what lies between the rows */
        compare("dq", attend_sum, &at, at.q + t * 20, dq + t * 20, 18, stride);
        compare("dk", attend_sum, &at, at.k + t * 8, dk + t * 8, 6, stride);
        compare("dv", attend_sum, &at, at.v + t * 8, dv + t * 8, 6, stride);
    }
}
END_TEST

START_TEST(attention_is_what_a_textbook_says)
{
    set_up_attention(TOKENS, 70);
    (void) attend_sum(&at);
    for (size_t t = 0; t < TOKENS; t += 13) {
        double p[TOKENS], sum = 0, want = 0;
        size_t first = t >= 70 ? t - 69 : 0;
        for (size_t j = first; j <= t; j++) {
            p[j] = exp(dot(at.q + t * 20 + 6, at.k + j * 8, 6) / sqrt(6));
            sum += p[j];
        }
        for (size_t j = first; j <= t; j++) {
            want += p[j] / sum * at.v[j * 8 + 2];
        }
        ck_assert_double_eq_tol(at.out[t * 20 + 6 + 2], want, 1e-12);
        ck_assert_double_eq_tol(at.lse[t * 4 + 1], log(sum), 1e-12);
    }
}
END_TEST

START_TEST(codes_are_those_of_inference)
{
    const unsigned planes[] = { 1, 4, 5, 6, 7, 8 };
    double x[N], y[N];
    fill(x, N, 21);
    memcpy(y, x, sizeof y);
    unsigned p = planes[_i];
    code(y, N, 32, p);
    for (size_t at_group = 0; at_group < N; at_group += 32) {
        size_t end = at_group + 32 < N ? at_group + 32 : N;
        double most = 0, mean = 0, top = (double) ((1u << p) - 1);
        for (size_t j = at_group; j < end; j++) {
            most = fmax(most, fabs(x[j]));
            mean += fabs(x[j]) / (double) (end - at_group);
        }
        for (size_t j = at_group; j < end; j++) {
            double u = nearbyint((x[j] / most * top + top) / 2);
            double want = p == 1 ? copysign(mean, x[j]) : most / top * (2 * u - top);
            ck_assert_double_eq_tol(y[j], want, 1e-12);
        }
    }
}
END_TEST

/* The float32 tables. */

enum { FLOATS = 211 };
struct made {
    float norm[FLOATS], dx[FLOATS], dw[FLOATS], gate[FLOATS], dg[FLOATS], du[FLOATS],
        loss[FLOATS], match[FLOATS], code[FLOATS], rope[FLOATS], r, distance;
    struct mb_token_loss losses;
};

static void make(const struct mb_train_ops *ops, struct made *ret)
{
    float x[FLOATS], w[FLOATS], y[FLOATS], teacher[FLOATS];
    memset(ret, 0, sizeof *ret);
    for (size_t i = 0; i < FLOATS; i++) {
        x[i] = (float) (9 * draw(31, i));
        w[i] = (float) draw(32, i);
        y[i] = (float) (5 * draw(33, i));
    }
    ret->r = ops->norm(ret->norm, x, w, FLOATS, 1e-5f);
    ops->norm_back(ret->dx, ret->dw, y, x, w, ret->r, FLOATS);
    ops->gate(ret->gate, x, y, FLOATS);
    ops->gate_back(ret->dg, ret->du, w, x, y, FLOATS);
    memcpy(ret->loss, x, sizeof x);
    memcpy(teacher, y, sizeof y);
    ret->losses = ops->loss(ret->loss, teacher, FLOATS, 3, 0.5f, 0.25f);
    ret->distance = ops->match(ret->match, x, y, FLOATS, 0.1f);
    memcpy(ret->code, x, sizeof x);
    ops->code(ret->code, FLOATS, 64, 6);
    memcpy(ret->rope, x, sizeof x);
    ops->rope(ret->rope, w, y, FLOATS - 1, 1);
}

START_TEST(every_instruction_set_gives_the_same_bits)
{
    static const mb_cpu_flags sets[] = { MB_CPU_AVX2, MB_CPU_AVX2 | MB_CPU_AVX512 };
    mb_cpu_flags have = mb_cpu_detect();
    if ((sets[_i] & have) != sets[_i]) {
        return;
    }
    struct made plain, made;
    make(mb_train_ops_select(0), &plain);
    make(mb_train_ops_select(sets[_i]), &made);
    ck_assert_msg(mb_train_ops_select(sets[_i]) != mb_train_ops_select(0), "nothing selected");
    ck_assert_mem_eq(&plain, &made, sizeof plain);
}
END_TEST

/* float32 against float64 here: the exp of the tables is its own. */
START_TEST(float32_is_close_to_float64)
{
    struct made made;
    double z[FLOATS], t[FLOATS], g[FLOATS], u[FLOATS], y[FLOATS];
    make(mb_train_ops_select(mb_cpu_detect()), &made);
    for (size_t i = 0; i < FLOATS; i++) {
        z[i] = g[i] = (float) (9 * draw(31, i));
        t[i] = u[i] = (float) (5 * draw(33, i));
    }
    struct loss_of l = token_loss(z, t, FLOATS, 3, 0.5, 0.25);
    gate(y, g, u, FLOATS);
    ck_assert_double_eq_tol(made.losses.cross_entropy, l.cross_entropy, 1e-5);
    ck_assert_double_eq_tol(made.losses.divergence, l.divergence, 1e-5);
    for (size_t i = 0; i < FLOATS; i++) {
        ck_assert_double_eq_tol(made.loss[i], z[i], 1e-6);
        ck_assert_double_eq_tol(made.gate[i], y[i], 1e-5 * (1 + fabs(y[i])));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ops");
    TCase *t = tcase_create("derivatives");
    tcase_add_test(t, norm_has_its_derivative);
    tcase_add_test(t, scale_has_its_derivative);
    tcase_add_test(t, gate_has_its_derivative);
    tcase_add_test(t, rope_turns_back_to_its_derivative);
    tcase_add_test(t, loss_has_its_derivative_and_value);
    tcase_add_test(t, match_has_its_derivative);
    tcase_add_loop_test(t, attention_has_its_derivative, 0, 6);
    tcase_add_test(t, attention_is_what_a_textbook_says);
    tcase_add_loop_test(t, codes_are_those_of_inference, 0, 6);
    tcase_add_loop_test(t, every_instruction_set_gives_the_same_bits, 0, 2);
    tcase_add_test(t, float32_is_close_to_float64);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
