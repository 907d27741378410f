#include "server/engine/runner.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "server/engine/engine_check.h"

enum { SCORES_MAX = 16 }; /* positions: a tile of the product, and some MB of logits */

static bool make_arrays(struct mbd_runner *r, const struct mbd_engine_options *o)
{
    r->token = calloc(o->step_tokens_max, sizeof r->token[0]);
    r->position = calloc(o->step_tokens_max, sizeof r->position[0]);
    r->seq = calloc(o->step_tokens_max, sizeof r->seq[0]);
    r->logits_of = calloc(o->sequences_max, sizeof r->logits_of[0]);
    r->score_of = calloc(r->scores_max, sizeof r->score_of[0]);
    r->row_slot = calloc(o->sequences_max, sizeof r->row_slot[0]);
    r->batch_of = calloc(o->sequences_max, sizeof(const struct mb_model *));
    r->scored = calloc(o->sequences_max, sizeof r->scored[0]);
    r->hidden = calloc(r->model->shape.width, sizeof r->hidden[0]);
    r->logits =
        mb_alloc((size_t) o->sequences_max * r->model->shape.n_vocab, sizeof r->logits[0]);
    r->score_logits =
        mb_alloc((size_t) r->scores_max * r->model->shape.n_vocab, sizeof r->score_logits[0]);
    return r->token && r->position && r->seq && r->logits_of && r->score_of && r->row_slot &&
           r->batch_of && r->scored && r->hidden && r->logits && r->score_logits;
}

static enum mb_status make(struct mbd_runner *r, const struct mbd_engine_options *o,
                           struct mb_error *err)
{
    const struct mb_shape *shape = &r->model->shape;
    uint32_t n_blocks = 0;
    enum mb_status st = mbd_engine_blocks(o, shape, &n_blocks, err);
    if (st != MB_OK) {
        return st;
    }
    st = mb_kv_new(shape, MB_KV_F16, n_blocks, o->sequences_max, o->context_max, &r->kv, err);
    if (st != MB_OK) {
        return st;
    }
    st = mb_pool_new(o->threads, o->pin, &r->pool, err);
    if (st != MB_OK) {
        return st;
    }
    r->scores_max = o->step_tokens_max < SCORES_MAX ? o->step_tokens_max : SCORES_MAX;
    uint32_t rows_max = o->sequences_max > r->scores_max ? o->sequences_max : r->scores_max;
    bool few = o->step_tokens_max < rows_max; /* a token asks for logits at most once */
    struct mb_stepper_options so = {
        .kernels = o->kernels,
        .pool = r->pool,
        .tokens_max = o->step_tokens_max,
        .logits_max = few ? o->step_tokens_max : rows_max,
    };
    st = mb_stepper_new(r->model, &so, &r->stepper, err);
    if (st != MB_OK) {
        return st;
    }
    if (!make_arrays(r, o)) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a step of %u sequences",
                       (unsigned) o->sequences_max);
    }
    return MB_OK;
}

enum mb_status mbd_runner_init(struct mbd_runner *r, struct mb_model *model,
                               const struct mbd_engine_options *o, struct mb_error *err)
{
    *r = (struct mbd_runner) { .model = mb_model_ref(model) };
    enum mb_status st = make(r, o, err);
    if (st != MB_OK) {
        mbd_runner_fini(r);
    }
    return st;
}

void mbd_runner_fini(struct mbd_runner *r)
{
    free(r->token);
    free(r->position);
    free(r->seq);
    free(r->logits_of);
    free(r->score_of);
    free(r->row_slot);
    free(r->batch_of);
    free(r->scored);
    free(r->hidden);
    mb_free(r->logits);
    mb_free(r->score_logits);
    mb_stepper_free(r->stepper);
    mb_pool_free(r->pool);
    mb_kv_free(r->kv);
    mb_model_unref(r->model);
    *r = (struct mbd_runner) { 0 };
}

/* The next n tokens of a slot, from place at of the batch on. */
static void put_tokens(struct mbd_runner *r, const struct mbd_slot *s, uint32_t slot,
                       uint32_t at, uint32_t n)
{
    uint32_t position = mbd_slot_next(s);
    for (uint32_t j = 0; j < n; j++) {
        r->token[at + j] = mbd_slot_token(s, position + j);
        r->position[at + j] = position + j;
        r->seq[at + j] = slot;
    }
}

/* Those of the parts [first, last) of the plan that wait for model, as a batch; the rows of
 * logits that it asks for are added to the rows so far. */
static struct mb_batch fill(struct mbd_runner *r, const struct mbd_slot *slots,
                            const struct mbd_plan *plan, const struct mb_model *model,
                            uint32_t first, uint32_t last)
{
    uint32_t n = 0, first_row = r->n_rows;
    for (uint32_t i = first; i < last; i++) {
        const struct mbd_plan_part *part = &plan->parts[i];
        if (r->batch_of[i] != model) {
            continue;
        }
        put_tokens(r, &slots[part->slot], part->slot, n, part->n_tokens);
        n += part->n_tokens;
        if (part->logits) {
            r->logits_of[r->n_rows] = n - 1;
            r->row_slot[r->n_rows++] = part->slot;
        }
    }
    return (struct mb_batch) {
        .n_tokens = n,
        .token = r->token,
        .position = r->position,
        .seq = r->seq,
        .n_logits = r->n_rows - first_row,
        .logits_of = r->logits_of + first_row,
    };
}

/* Adds the hidden states of the step's tokens where they are wanted. at: the batch's token. */
static void gather_hidden(struct mbd_runner *r, const struct mb_model *model,
                          struct mbd_slot *s, uint32_t at, uint32_t n)
{
    for (uint32_t i = 0; i < n && mbd_slot_wants_hidden(s); i++) {
        mb_step_hidden(r->stepper, model, at + i, r->hidden);
        mbd_slot_add_hidden(s, r->hidden, model->shape.width);
    }
}

/* Takes the step of the parts [first, last) that wait for model. Then they wait no more. */
static enum mb_status run_parts(struct mbd_runner *r, struct mbd_slot *slots,
                                const struct mbd_plan *plan, const struct mb_model *model,
                                uint32_t first, uint32_t last, const atomic_bool *cancel)
{
    uint32_t first_row = r->n_rows;
    struct mb_batch b = fill(r, slots, plan, model, first, last);
    float *logits = r->logits + (size_t) first_row * model->shape.n_vocab;
    enum mb_status st = mb_step(r->stepper, model, r->kv, &b, cancel, logits, NULL);
    if (st != MB_OK) {
        r->n_rows = first_row;
        return st;
    }
    for (uint32_t i = first, at = 0; i < last; i++) {
        struct mbd_slot *s = &slots[plan->parts[i].slot];
        uint32_t n = plan->parts[i].n_tokens;
        if (r->batch_of[i] == model) {
            gather_hidden(r, model, s, at, n);
            mbd_slot_stored(s, n);
            r->batch_of[i] = NULL;
            at += n;
        }
    }
    return MB_OK;
}

/* A part of a prompt that is scored: with the logits of every position, some at a time. How the
 * prompt is cut changes nothing (A1). */
static enum mb_status run_scored(struct mbd_runner *r, struct mbd_slot *s,
                                 const struct mbd_plan_part *part, const atomic_bool *cancel)
{
    uint32_t n_vocab = r->model->shape.n_vocab;
    for (uint32_t done = 0, n; done < part->n_tokens; done += n) {
        n = part->n_tokens - done < r->scores_max ? part->n_tokens - done : r->scores_max;
        put_tokens(r, s, part->slot, 0, n);
        for (uint32_t j = 0; j < n; j++) {
            r->score_of[j] = j;
        }
        struct mb_batch b = {
            .n_tokens = n,
            .token = r->token,
            .position = r->position,
            .seq = r->seq,
            .n_logits = n,
            .logits_of = r->score_of,
        };
        enum mb_status st =
            mb_step(r->stepper, mbd_slot_model(s), r->kv, &b, cancel, r->score_logits, NULL);
        if (st != MB_OK) {
            return st;
        }
        for (uint32_t j = 0; j < n; j++) {
            mbd_slot_score(s, r->position[j], r->score_logits + (size_t) j * n_vocab);
        }
        mbd_slot_stored(s, n);
    }
    if (part->logits) { /* of the last position: the first token is drawn from them */
        uint32_t last = (part->n_tokens - 1) % r->scores_max;
        memcpy(r->logits + (size_t) r->n_rows * n_vocab,
               r->score_logits + (size_t) last * n_vocab, n_vocab * sizeof r->logits[0]);
        r->row_slot[r->n_rows++] = part->slot;
    }
    return MB_OK;
}

struct drawing {
    const struct mbd_runner *runner;
    struct mbd_slot *slots;
};

static void draw_row(void *job, size_t row, size_t worker)
{
    const struct drawing *d = job;
    const struct mbd_runner *r = d->runner;
    mbd_slot_draw(&d->slots[r->row_slot[row]], r->logits + row * r->model->shape.n_vocab);
}

/* Everybody of one epoch, from part first on, together; or each alone, when that is refused. */
static enum mb_status run_epoch(struct mbd_runner *r, struct mbd_slot *slots,
                                const struct mbd_plan *plan, uint32_t first,
                                const atomic_bool *cancel, mbd_runner_fail_fn *fail, void *arg)
{
    const struct mb_model *model = r->batch_of[first];
    enum mb_status st = run_parts(r, slots, plan, model, first, plan->n_parts, cancel);
    if (st == MB_OK) {
        return MB_OK;
    }
    for (uint32_t i = first; st != MB_E_CANCELLED && i < plan->n_parts; i++) {
        if (r->batch_of[i] != model) {
            continue;
        }
        st = run_parts(r, slots, plan, model, i, i + 1, cancel);
        if (st != MB_OK && st != MB_E_CANCELLED) {
            r->batch_of[i] = NULL;
            fail(arg, plan->parts[i].slot, st);
        }
    }
    return st == MB_E_CANCELLED ? st : MB_OK;
}

enum mb_status mbd_runner_run(struct mbd_runner *r, struct mbd_slot *slots,
                              const struct mbd_plan *plan, const atomic_bool *cancel,
                              mbd_runner_fail_fn *fail, void *arg)
{
    enum mb_status st = MB_OK;
    r->n_rows = 0;
    r->n_scored = 0;
    for (uint32_t i = 0; i < plan->n_parts; i++) {
        const struct mbd_slot *s = &slots[plan->parts[i].slot];
        bool scored = mbd_slot_scores(s);
        r->batch_of[i] = scored ? NULL : mbd_slot_model(s);
        if (scored) {
            r->scored[r->n_scored++] = i;
        }
    }
    for (uint32_t i = 0; st == MB_OK && i < plan->n_parts; i++) {
        if (r->batch_of[i]) {
            st = run_epoch(r, slots, plan, i, cancel, fail, arg);
        }
    }
    for (uint32_t i = 0; st == MB_OK && i < r->n_scored; i++) {
        const struct mbd_plan_part *part = &plan->parts[r->scored[i]];
        enum mb_status alone = run_scored(r, &slots[part->slot], part, cancel);
        if (alone == MB_E_CANCELLED) {
            st = alone;
        } else if (alone != MB_OK) {
            fail(arg, part->slot, alone);
        }
    }
    if (st != MB_OK) {
        return st;
    }
    mb_pool_run(r->pool, r->n_rows, draw_row, &(struct drawing) { r, slots });
    return MB_OK;
}
