#include "core/finetune/finetune.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core/base/checksum.h"
#include "core/base/file.h"
#include "core/checkpoint/reader.h"
#include "core/finetune/chat.h"
#include "core/finetune/dataset.h"
#include "core/finetune/state.h"
#include "core/import/hf.h"
#include "core/tensor/blas.h"

/* Everything that a run holds on to; fini accepts it in any state. */
struct run {
    const struct mb_finetune_options *o;
    const struct mb_finetune_watch *watch;
    struct mb_checkpoint *words; /* the model's file once more, for what is no weight */
    struct mb_model *base, *teacher;
    struct mb_tokenizer *tokenizer;
    struct mb_chat *chat; /* NULL without a template */
    struct mb_dataset data, valid;
    struct mb_batches batches, valid_batches;
    struct mb_trainer *trainer;
    struct mb_bytes state, key, note;
    uint64_t n_steps, snapshot_every, valid_every;
    struct mb_finetune_event event;
};

struct mb_finetune_options mb_finetune_defaults(void)
{
    return (struct mb_finetune_options) {
        .train = mb_train_defaults(),
        .batch_tokens = MB_FINETUNE_TOKENS_DEFAULT,
    };
}

static void run_fini(struct run *r)
{
    mb_trainer_free(r->trainer);
    mb_batches_fini(&r->batches);
    mb_batches_fini(&r->valid_batches);
    mb_dataset_fini(&r->data);
    mb_dataset_fini(&r->valid);
    mb_chat_free(r->chat);
    mb_tokenizer_free(r->tokenizer);
    mb_model_unref(r->teacher);
    mb_model_unref(r->base);
    mb_checkpoint_free(r->words);
    mb_bytes_fini(&r->state);
    mb_bytes_fini(&r->key);
    mb_bytes_fini(&r->note);
}

static void tell(struct run *r, enum mb_finetune_event_kind kind)
{
    r->event.kind = kind;
    r->event.n_done = mb_trainer_steps_done(r->trainer);
    if (r->watch && r->watch->tell) {
        r->watch->tell(r->watch->self, &r->event);
    }
}

static bool is_stopped(const struct run *r)
{
    return r->watch && r->watch->stop && r->watch->stop(r->watch->self);
}

/* Reading. */

static enum mb_status open_model(struct run *r, struct mb_error *err)
{
    struct mb_checkpoint *c = NULL;
    enum mb_status st = mb_checkpoint_open(r->o->model, &r->words, err);
    if (st == MB_OK && (st = mb_checkpoint_tokenizer(r->words, &r->tokenizer, err)) == MB_OK &&
        (st = mb_chat_new(r->words, r->tokenizer, &r->chat, err)) == MB_OK) {
        st = mb_checkpoint_open(r->o->model, &c, err);
    }
    if (st == MB_OK && (st = mb_model_from_checkpoint(c, &r->base, err)) != MB_OK) {
        mb_checkpoint_free(c);
    }
    return st;
}

static enum mb_status open_teacher(struct run *r, struct mb_error *err)
{
    struct mb_hf *hf = NULL;
    if (!r->o->teacher) {
        return MB_OK;
    }
    enum mb_status st = mb_hf_open(r->o->teacher, &hf, err);
    if (st == MB_OK && (st = mb_model_from_hf(hf, &r->teacher, err)) != MB_OK) {
        mb_hf_free(hf);
    }
    return st;
}

/* Tokens that a sequence may have: it is fed all but its last one. */
static size_t window_of(const struct run *r)
{
    size_t most = r->base->shape.context, window = r->o->window;
    window = window > 0 ? window : MB_FINETUNE_WINDOW_DEFAULT;
    window = window < most ? window : most;
    window = window < r->o->batch_tokens ? window : r->o->batch_tokens;
    return window + 1;
}

/* How many steps, and how seldom snapshots. */
static enum mb_status plan_steps(struct run *r, struct mb_error *err)
{
    const struct mb_finetune_options *o = r->o;
    r->n_steps = o->n_epochs ? mb_batches_count(&r->batches, o->n_epochs) : o->train.n_steps;
    if (r->n_steps > MB_TRAIN_STEPS_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, "%u epochs are %llu steps, more than %u",
                       (unsigned) o->n_epochs, (unsigned long long) r->n_steps,
                       MB_TRAIN_STEPS_MAX);
    }
    r->snapshot_every = o->snapshot_every;
    if (o->snapshots_max > 0 && r->snapshot_every > 0) {
        uint64_t least = (r->n_steps + o->snapshots_max - 1) / o->snapshots_max;
        r->snapshot_every = r->snapshot_every > least ? r->snapshot_every : least;
    }
    bool with_snapshots = o->valid_every == 0 && o->snapshots_max > 0;
    r->valid_every = with_snapshots ? r->snapshot_every : o->valid_every;
    return MB_OK;
}

static enum mb_status read_data(struct run *r, struct mb_error *err)
{
    struct mb_examples_options o = {
        .tokenizer = r->tokenizer,
        .window = window_of(r),
        .chat_text = r->chat ? mb_chat_text : NULL,
        .chat_self = r->chat,
        .bad_share = r->o->bad_share,
    };
    struct mb_examples_report ignored;
    enum mb_status st = mb_examples_read(r->o->data, &o, &r->data, &r->event.lines, err);
    if (st == MB_OK) {
        st = mb_batches_init(&r->batches, &r->data, r->o->batch_tokens, r->o->train.seed, err);
    }
    if (st == MB_OK) {
        r->batches.examples = r->o->batch_examples;
        st = plan_steps(r, err);
    }
    if (st == MB_OK && r->o->valid) {
        st = mb_examples_read(r->o->valid, &o, &r->valid, &ignored, err);
        if (st == MB_OK) {
            st = mb_batches_init(&r->valid_batches, &r->valid, r->o->batch_tokens, 0, err);
        }
    }
    r->event.n_examples = r->data.n;
    r->event.n_learned = r->data.n_learned;
    return st;
}

static enum mb_status new_trainer(struct run *r, struct mb_pool *pool, struct mb_error *err)
{
    struct mb_train_options o = r->o->train;
    o.n_steps = r->n_steps;
    o.gradient.pool = pool;
    o.gradient.tokens_max = r->o->batch_tokens;
    o.gradient.positions_max = (uint32_t) window_of(r) - 1;
    enum mb_status st = mb_trainer_new(r->base, r->teacher, &o, &r->trainer, err);
    if (st == MB_OK) {
        r->event.n_steps = o.n_steps;
        r->event.state_bytes = mb_trainer_state_bytes(r->trainer);
        for (size_t i = 0; i < mb_draft_linears(&r->base->shape); i++) {
            uint64_t n;
            (void) mb_trainer_counts(r->trainer, i, &n);
            r->event.report.n_weights += n;
        }
    }
    return st;
}

static void put_file(struct mb_bytes *to, const char *name, const char *path)
{
    struct mb_file_map file;
    if (path && mb_file_map(path, &file, NULL) == MB_OK) {
        mb_bytes_printf(to, "finetune.%s: %zu bytes xxh3 %016llx\n", name, file.n,
                        (unsigned long long) mb_checksum(file.at, file.n));
        mb_file_unmap(&file);
    }
}

/* How the output was made, for its provenance; and, with what is only of use to who goes on, the
 * key of the state. */
static enum mb_status describe(struct run *r, struct mb_error *err)
{
    const struct mb_train_options *o = &r->o->train;
    struct mb_bytes *n = &r->note, *k = &r->key;
    mb_bytes_printf(n, "finetune.model: digest %016llx\n",
                    (unsigned long long) mb_checkpoint_digest(r->words));
    put_file(n, "data", r->o->data);
    mb_bytes_printf(n, "finetune.optimizer: %s, kernels %s\n",
                    o->flip.mode == MB_FLIP_ACCUMULATE ? "accumulate" : "stochastic",
                    o->flip.last_kernel ? "last" : "all");
    mb_bytes_printf(n, "finetune.loss: cross-entropy %g kl %g match %g%s\n",
                    (double) o->gradient.ce, (double) o->gradient.kl,
                    (double) o->gradient.match, r->teacher ? ", with a teacher" : "");
    mb_bytes_printf(n, "finetune.steps: %llu of %u tokens, windows of %zu, seed %llu\n",
                    (unsigned long long) r->n_steps, (unsigned) r->o->batch_tokens,
                    window_of(r), (unsigned long long) o->seed);
    mb_bytes_printf(n, "finetune.sizes: weights %g coefficients %g vectors %g budget %g\n",
                    o->step, o->coef_step, o->vector_step, o->budget);
    mb_bytes_put(k, n->at, n->len);
    mb_bytes_printf(k, "exactly: %a %a %a %a %a %a %a %d %d %d %d %llu\n", o->step,
                    o->coef_step, o->vector_step, o->budget, o->warm_up, o->flip.hysteresis,
                    o->flip.start, o->flip.reset, o->vocabulary, o->gradient.code_inputs,
                    o->gradient.recompute, (unsigned long long) o->refresh_every);
    if (r->o->batch_examples > 0 || r->o->bad_share > 0) {
        mb_bytes_printf(k, "batches: of %u examples; %zu lines left out\n",
                        (unsigned) r->o->batch_examples, r->event.lines.n_bad);
    }
    mb_bytes_printf(k, "computed by: %s\n", mb_blas_name());
    if (n->failed || k->failed) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory to describe a training");
    }
    return MB_OK;
}

static enum mb_status prepare(struct run *r, struct mb_pool *pool, struct mb_error *err)
{
    enum mb_status st = open_model(r, err);
    if (st == MB_OK && (st = open_teacher(r, err)) == MB_OK &&
        (st = read_data(r, err)) == MB_OK && (st = new_trainer(r, pool, err)) == MB_OK) {
        st = describe(r, err);
    }
    if (st == MB_OK && r->o->resume) {
        st = mb_train_state_read(mb_bytes_text(&r->state), &r->key, &r->batches, r->trainer,
                                 err);
    }
    return st;
}

/* Running. */

static enum mb_status write_model(struct run *r, struct mb_error *err)
{
    return mb_draft_write(mb_trainer_draft(r->trainer), r->words, mb_bytes_text(&r->note),
                          r->o->output, err);
}

static enum mb_status snapshot(struct run *r, struct mb_error *err)
{
    enum mb_status st =
        mb_train_state_write(mb_bytes_text(&r->state), &r->key, &r->batches, r->trainer, err);
    if (st == MB_OK && (st = write_model(r, err)) == MB_OK) {
        tell(r, MB_FINETUNE_SNAPSHOT);
    }
    return st;
}

/* The losses on all of the validation data, each batch by its weight. */
static enum mb_status validate(struct run *r, struct mb_error *err)
{
    struct mb_losses sum = { 0 };
    enum mb_status st = MB_OK;
    if (!r->o->valid) {
        return MB_OK;
    }
    (void) mb_batches_seek(&r->valid_batches, 0, 0);
    while (st == MB_OK && r->valid_batches.at < r->valid.n) {
        struct mb_losses l = { 0 };
        struct mb_train_batch b = mb_batches_next(&r->valid_batches);
        st = mb_trainer_losses(r->trainer, &b, &l, err);
        sum.weight += l.weight;
        sum.total += l.total * l.weight;
        sum.cross_entropy += l.cross_entropy * l.weight;
        sum.divergence += l.divergence * l.weight;
        sum.match += l.match * l.weight;
    }
    if (st == MB_OK) {
        r->event.valid =
            (struct mb_losses) { sum.total / sum.weight, sum.cross_entropy / sum.weight,
                                 sum.divergence / sum.weight, sum.match / sum.weight,
                                 sum.weight };
        tell(r, MB_FINETUNE_VALID);
    }
    return st;
}

static bool is_due(uint64_t every, uint64_t step, uint64_t n_steps)
{
    return every > 0 && step % every == 0 && step < n_steps;
}

static enum mb_status run_steps(struct run *r, struct mb_error *err)
{
    uint64_t n_steps = r->n_steps;
    enum mb_status st = validate(r, err);
    while (st == MB_OK && mb_trainer_steps_done(r->trainer) < n_steps) {
        struct mb_train_batch b = mb_batches_next(&r->batches);
        st = mb_trainer_step(r->trainer, &b, &r->event.report, err);
        if (st != MB_OK) {
            return st;
        }
        r->event.batch_tokens = b.n_tokens;
        tell(r, MB_FINETUNE_STEP);
        uint64_t done = mb_trainer_steps_done(r->trainer);
        if (is_due(r->valid_every, done, n_steps)) {
            st = validate(r, err);
        }
        if (st == MB_OK && is_stopped(r) && done < n_steps) {
            st = snapshot(r, err);
            return st == MB_OK ? mb_fail(err, MB_E_CANCELLED, 0, "stopped after %llu steps",
                                         (unsigned long long) done)
                               : st;
        }
        if (st == MB_OK && is_due(r->snapshot_every, done, n_steps)) {
            st = snapshot(r, err);
        }
    }
    return st == MB_OK ? validate(r, err) : st;
}

enum mb_status mb_finetune(const struct mb_finetune_options *o, struct mb_pool *pool,
                           const struct mb_finetune_watch *watch, struct mb_error *err)
{
    struct run r = { .o = o, .watch = watch };
    if (o->batch_tokens < 1 || o->batch_tokens > MB_FINETUNE_TOKENS_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "a batch of %u tokens is outside 1..%u",
                       (unsigned) o->batch_tokens, MB_FINETUNE_TOKENS_MAX);
    }
    mb_bytes_printf(&r.state, "%s%s", o->output, MB_FINETUNE_STATE);
    enum mb_status st = r.state.failed ? mb_fail(err, MB_E_NOMEM, 0, "no memory for a path")
                                       : prepare(&r, pool, err);
    if (st == MB_OK) {
        tell(&r, MB_FINETUNE_READY);
        if (o->read_only) {
            run_fini(&r);
            return MB_OK;
        }
        st = run_steps(&r, err);
    }
    if (st == MB_OK && (st = write_model(&r, err)) == MB_OK) {
        /* The state goes last: whoever is killed before it told of the end can tell of it again. */
        tell(&r, MB_FINETUNE_DONE);
        if (unlink(mb_bytes_text(&r.state)) != 0 && errno != ENOENT) {
            st = mb_fail(err, MB_E_IO, errno, "remove '%s'", mb_bytes_text(&r.state));
        }
    }
    run_fini(&r);
    return st;
}
