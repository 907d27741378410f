/* Goal:   training makes the model better, to the same bits at any number of threads, interrupted
 *         or not; its result is written as a checkpoint that says the same; and what the base
 *         is stays as it was.
 * Method: tiny random models; a batch that is learned by heart; a teacher of the same shape. */
#include "core/finetune/trainer.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/rng.h"
#include "core/finetune/weights.h"
#include "tests/check_main.h"
#include "tests/support/tiny_model.h"

enum { TOKENS = 48, SEQS = 2 };

struct rig {
    struct mb_model *base, *teacher;
    struct mb_train_options o;
    uint32_t token[TOKENS], target[TOKENS];
    float weight[TOKENS];
    struct mb_train_batch batch;
};

static const uint32_t STARTS[SEQS + 1] = { 0, 30, TOKENS };

static void rig_init(struct rig *r, int spec, enum mb_flip_mode mode, bool vocabulary)
{
    r->base = tiny_model_new(&tiny_specs[spec], 5);
    r->teacher = tiny_model_new(&tiny_specs[spec], 6);
    r->o = mb_train_defaults();
    r->o.gradient.ops = mb_train_ops_select(mb_cpu_detect());
    r->o.gradient.tokens_max = TOKENS;
    r->o.gradient.positions_max = 30;
    r->o.n_steps = 12;
    r->o.step = 0.03;
    r->o.flip.mode = mode;
    r->o.vocabulary = vocabulary;
    r->o.refresh_every = 5;
    for (uint32_t i = 0; i < TOKENS; i++) {
        r->token[i] = (uint32_t) (mb_rng_u64(3, 0, i) % r->base->shape.n_vocab);
        r->target[i] = (uint32_t) (mb_rng_u64(3, 0, i + 1) % r->base->shape.n_vocab);
        r->weight[i] = 1;
    }
    r->batch = (struct mb_train_batch) { TOKENS, SEQS, STARTS, r->token, r->target, r->weight };
}

static void rig_fini(struct rig *r)
{
    mb_model_unref(r->base);
    mb_model_unref(r->teacher);
}

static struct mb_trainer *trainer_of(const struct rig *r, struct mb_model *teacher)
{
    struct mb_trainer *t = NULL;
    struct mb_error err;
    mb_assert_ok(mb_trainer_new(r->base, teacher, &r->o, &t, &err), &err);
    return t;
}

static struct mb_train_report steps(struct mb_trainer *t, const struct rig *r, uint64_t n)
{
    struct mb_train_report ret = { 0 };
    struct mb_error err;
    for (uint64_t i = 0; i < n; i++) {
        mb_assert_ok(mb_trainer_step(t, &r->batch, &ret, &err), &err);
    }
    return ret;
}

static enum mb_status put(void *self, const struct mb_bytes *piece, struct mb_error *err)
{
    mb_bytes_put(self, piece->at, piece->len);
    return MB_OK;
}

static void save(const struct mb_trainer *t, struct mb_bytes *ret)
{
    struct mb_error err;
    mb_assert_ok(mb_trainer_save(t, put, ret, &err), &err);
}

static void assert_same_state(const struct mb_trainer *a, const struct mb_trainer *b)
{
    struct mb_bytes x = { 0 }, y = { 0 };
    save(a, &x);
    save(b, &y);
    ck_assert(!x.failed);
    ck_assert_uint_eq(x.len, y.len);
    ck_assert_mem_eq(x.at, y.at, x.len);
    mb_bytes_fini(&x);
    mb_bytes_fini(&y);
}

START_TEST(a_batch_is_learned_by_heart)
{
    struct rig r;
    rig_init(&r, _i, MB_FLIP_ACCUMULATE, true);
    r.o.n_steps = 120;
    struct mb_trainer *t = trainer_of(&r, NULL);
    double before = steps(t, &r, 1).losses.cross_entropy;
    struct mb_train_report after = steps(t, &r, 119);
    ck_assert_msg(after.losses.cross_entropy < 0.5 * before, "%s: from %g to %g",
                  tiny_specs[_i].name, before, after.losses.cross_entropy);
    ck_assert_uint_eq(after.step, 120);
    ck_assert_uint_gt(after.total.n_flips, 0);
    ck_assert_uint_le(after.total.n_moved, after.n_weights);
    mb_trainer_free(t);
    rig_fini(&r);
}
END_TEST

START_TEST(a_teacher_is_followed)
{
    struct rig r;
    rig_init(&r, 0, (enum mb_flip_mode) _i, false);
    r.o.gradient.ce = 0;
    r.o.gradient.kl = 1;
    r.o.gradient.match = 0.1f;
    r.o.n_steps = 150;
    struct mb_trainer *t = trainer_of(&r, r.teacher);
    struct mb_train_report before = steps(t, &r, 1), after = steps(t, &r, 149);
    ck_assert_msg(after.losses.divergence < 0.6 * before.losses.divergence, "from %g to %g",
                  before.losses.divergence, after.losses.divergence);
    ck_assert_double_lt(after.losses.match, before.losses.match);
    mb_trainer_free(t);
    rig_fini(&r);
}
END_TEST

START_TEST(threads_change_no_bit)
{
    struct rig r;
    struct mb_pool *pool = NULL;
    rig_init(&r, 1, (enum mb_flip_mode) _i, true);
    ck_assert_int_eq(mb_pool_new(3, 0, &pool, NULL), MB_OK);
    struct mb_trainer *one = trainer_of(&r, NULL);
    r.o.gradient.pool = pool;
    struct mb_trainer *many = trainer_of(&r, NULL);
    steps(one, &r, 8);
    steps(many, &r, 8);
    assert_same_state(one, many);
    mb_trainer_free(one);
    mb_trainer_free(many);
    mb_pool_free(pool);
    rig_fini(&r);
}
END_TEST

START_TEST(what_was_interrupted_ends_alike)
{
    struct rig r;
    struct mb_bytes state = { 0 };
    struct mb_error err;
    rig_init(&r, _i, MB_FLIP_ACCUMULATE, true);
    struct mb_trainer *whole = trainer_of(&r, NULL), *first = trainer_of(&r, NULL);
    steps(whole, &r, 12);
    steps(first, &r, 7);
    save(first, &state);
    mb_trainer_free(first);
    struct mb_trainer *second = trainer_of(&r, NULL);
    struct mb_cursor c = mb_cursor_of(state.at, state.len);
    mb_assert_ok(mb_trainer_load(second, &c, &err), &err);
    ck_assert_uint_eq(mb_trainer_steps_done(second), 7);
    steps(second, &r, 5);
    assert_same_state(whole, second);
    for (size_t cut = 0; cut < state.len; cut += 9973) {
        c = mb_cursor_of(state.at, cut);
        ck_assert_int_eq(mb_trainer_load(second, &c, &err), MB_E_FORMAT);
    }
    mb_bytes_fini(&state);
    mb_trainer_free(whole);
    mb_trainer_free(second);
    rig_fini(&r);
}
END_TEST

/* Reads back a checkpoint written by training: the same weights; the base's are untouched. */
START_TEST(what_is_written_is_what_was_trained)
{
    struct rig r;
    struct mb_error err;
    struct mb_checkpoint *from = NULL, *c = NULL;
    struct mb_model *trained = NULL;
    char path[64], out[64];
    rig_init(&r, _i, MB_FLIP_ACCUMULATE, true);
    (void) snprintf(path, sizeof path, "test_trainer.%d.mbool", (int) getpid());
    (void) snprintf(out, sizeof out, "test_trainer.%d.out.mbool", (int) getpid());
    mb_assert_ok(tiny_model_write(r.base, path, &err), &err);
    mb_assert_ok(mb_checkpoint_open(path, &from, &err), &err);
    struct mb_trainer *t = trainer_of(&r, NULL);
    steps(t, &r, 12);
    mb_assert_ok(mb_draft_write(mb_trainer_draft(t), from, "finetune.steps: 12\n", out, &err),
                 &err);
    mb_assert_ok(mb_checkpoint_open(out, &c, &err), &err);
    mb_assert_ok(mb_checkpoint_verify(c, NULL, &err), &err);
    mb_assert_ok(mb_model_from_checkpoint(c, &trained, &err), &err);
    const struct mb_model *draft = mb_trainer_draft(t)->model;
    bool moved = false;
    for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
        const struct mb_bool_matrix *a = &trained->blocks[1].linear[l].boolean;
        const struct mb_bool_matrix *b = &draft->blocks[1].linear[l].boolean;
        const struct mb_bool_matrix *was = &r.base->blocks[1].linear[l].boolean;
        size_t n = mb_bool_bits_bytes(&a->shape);
        ck_assert_mem_eq(a->bits, b->bits, n);
        ck_assert_mem_eq(a->coef, b->coef, mb_bool_coef_bytes(&a->shape));
        moved |= memcmp(a->bits, was->bits, n) != 0;
    }
    ck_assert(moved);
    struct mb_model *again = tiny_model_new(&tiny_specs[_i], 5);
    ck_assert_mem_eq(again->blocks[1].linear[0].boolean.bits,
                     r.base->blocks[1].linear[0].boolean.bits,
                     mb_bool_bits_bytes(&r.base->blocks[1].linear[0].boolean.shape));
    mb_model_unref(again);
    mb_model_unref(trained);
    mb_trainer_free(t);
    mb_checkpoint_free(from);
    rig_fini(&r);
    (void) remove(path);
    (void) remove(out);
}
END_TEST

START_TEST(what_can_not_be_trained_is_refused)
{
    struct rig r, other;
    struct mb_error err;
    struct mb_trainer *t = NULL;
    struct mb_train_report report;
    rig_init(&r, 0, MB_FLIP_ACCUMULATE, false);
    rig_init(&other, 1, MB_FLIP_ACCUMULATE, false);
    r.o.gradient.kl = 1;
    ck_assert_int_eq(mb_trainer_new(r.base, other.teacher, &r.o, &t, &err), MB_E_INVALID);
    ck_assert_ptr_nonnull(strstr(err.what, "shape"));
    t = trainer_of(&r, NULL);
    ck_assert_int_eq(mb_trainer_step(t, &r.batch, &report, &err), MB_E_INVALID);
    ck_assert_ptr_nonnull(strstr(err.what, "teacher"));
    mb_trainer_free(t);
    r.o.budget = 2;
    ck_assert_int_eq(mb_trainer_new(r.base, NULL, &r.o, &t, &err), MB_E_INVALID);
    rig_fini(&r);
    rig_fini(&other);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("trainer");
    TCase *t = tcase_create("training");
    tcase_add_loop_test(t, a_batch_is_learned_by_heart, 0, 3);
    tcase_add_loop_test(t, a_teacher_is_followed, 0, 2);
    tcase_add_loop_test(t, threads_change_no_bit, 0, 2);
    tcase_add_loop_test(t, what_was_interrupted_ends_alike, 0, 3);
    tcase_add_loop_test(t, what_is_written_is_what_was_trained, 0, TINY_SPECS);
    tcase_add_test(t, what_can_not_be_trained_is_refused);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
