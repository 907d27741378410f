/* mbool finetune: trains a Boolean model by flips. */
#include <jansson.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clients/cli/command.h"
#include "clients/cli/runtime.h"
#include "core/base/bytes.h"
#include "core/finetune/finetune.h"

enum option {
    OUTPUT,
    DATA,
    VALID,
    TEACHER,
    OPTIMIZER,
    KERNELS_TRAINED,
    STEPS,
    BATCH_TOKENS,
    WINDOW,
    STEP_SIZE,
    COEF_SIZE,
    VECTOR_SIZE,
    BUDGET,
    WARM_UP,
    HYSTERESIS,
    REFRESH_EVERY,
    CE,
    KL,
    MATCH,
    VOCABULARY,
    RESET,
    CODE_INPUTS,
    RECOMPUTE,
    VALID_EVERY,
    SNAPSHOT_EVERY,
    RESUME,
    SEED,
    THREADS,
    ISA,
    JSON,
};

static const struct mbc_option options[] = {
    [OUTPUT] = { "output", "FILE", "the trained model to write (required)" },
    [DATA] = { "data", "FILE", "text, or JSON lines of prompts or messages (required)" },
    [VALID] = { "valid", "FILE", "the same, to measure on and not to learn" },
    [TEACHER] = { "teacher", "FOLDER", "the float model, to be like it (distillation)" },
    [OPTIMIZER] = { "optimizer", "HOW",
                    "accumulate, or stochastic: no state (default "
                    "accumulate)" },
    [KERNELS_TRAINED] = { "kernels-trained", "W",
                          "which sign matrices flip: all, last "
                          "(default all)" },
    [STEPS] = { "steps", "N", "batches to learn from (default 100)" },
    [BATCH_TOKENS] = { "batch-tokens", "N", "tokens of a batch, at most (default 2048)" },
    [WINDOW] = { "window", "W", "tokens of a sequence, at most (default 512, or the context)" },
    [STEP_SIZE] = { "step", "X", "of weights, of half the distance of levels (default 0.04)" },
    [COEF_SIZE] = { "coef-step", "X", "of coefficients, of the same (default 0.006)" },
    [VECTOR_SIZE] = { "vector-step", "X",
                      "of norms and input scales, of their size (default "
                      "0.001)" },
    [BUDGET] = { "budget", "X",
                 "share of a matrix's weights that may flip in a step (default 0.05)" },
    [WARM_UP] = { "warm-up", "X", "share of the steps in which sizes rise (default 0.05)" },
    [HYSTERESIS] = { "hysteresis", "X",
                     "how much more than half the way a flip takes (default 0.05)" },
    [REFRESH_EVERY] = { "refresh-every", "N",
                        "steps between fits of coefficients in closed form "
                        "(default never)" },
    [CE] = { "ce", "X", "weight of next-token loss (default 1, with a teacher 0)" },
    [KL] = { "kl", "X", "weight of divergence from the teacher (default 1 with one)" },
    [MATCH] = { "match", "X",
                "weight of distance to the teacher's hidden states (default 0.5 with one)" },
    [VOCABULARY] = { "vocabulary", NULL, "train embedding and head too" },
    [RESET] = { "reset", NULL, "forget evidence after a flip" },
    [CODE_INPUTS] = { "code-inputs", NULL,
                      "code activations as inference does (for few planes)" },
    [RECOMPUTE] = { "recompute", NULL, "less memory, a third more time" },
    [VALID_EVERY] = { "valid-every", "N",
                      "steps between measurements (default: only the ends)" },
    [SNAPSHOT_EVERY] = { "snapshot-every", "N",
                         "steps between snapshots (default: only Ctrl-C)" },
    [RESUME] = { "resume", NULL, "go on from FILE.state, to the same result" },
    [SEED] = { "seed", "S", "of the data's order and of chance (default 0)" },
    [THREADS] = { "threads", "N", "default: all processors; the result is the same" },
    [ISA] = MBC_ISA_OPTION,
    [JSON] = { "json", NULL, "print an event a line as JSON" },
    { NULL, NULL, NULL },
};

struct arguments {
    struct mb_finetune_options o;
    uint64_t n_threads;
    const char *isa;
    bool has_ce, has_kl, has_match, json;
    /* of the display */
    double started_s, drawn_s;
    uint64_t first_step; /* done before this run */
    uint64_t n_tokens;   /* of this run */
    bool is_terminal, is_drawn;
};

static bool take_size(const char *option, const char *value, double max, double *ret)
{
    return mbc_parse_f64(&mbc_finetune, option, value, 0, max, ret);
}

static bool take_loss(const char *option, const char *value, float *ret)
{
    double x = 0;
    bool ok = mbc_parse_f64(&mbc_finetune, option, value, 0, 1000, &x);
    *ret = (float) x;
    return ok;
}

static bool take_u64(const char *option, const char *value, uint64_t min, uint64_t max,
                     uint64_t *ret)
{
    return mbc_parse_u64(&mbc_finetune, option, value, min, max, ret);
}

static bool take_u32(const char *option, const char *value, uint64_t min, uint64_t max,
                     uint32_t *ret)
{
    uint64_t v = 0;
    bool ok = take_u64(option, value, min, max, &v);
    *ret = (uint32_t) v;
    return ok;
}

/* One of two words; *ret_second says which. */
static bool take_word(const char *option, const char *value, const char *first,
                      const char *second, bool *ret_second)
{
    *ret_second = strcmp(value, second) == 0;
    if (!*ret_second && strcmp(value, first) != 0) {
        (void) mbc_usage_error(&mbc_finetune, "--%s: '%s' is not %s or %s", option, value,
                               first, second);
        return false;
    }
    return true;
}

static bool take_training(struct mb_train_options *t, int option, const char *value)
{
    bool second = false, ok = true;
    switch (option) {
    case OPTIMIZER:
        ok = take_word("optimizer", value, "accumulate", "stochastic", &second);
        t->flip.mode = second ? MB_FLIP_STOCHASTIC : MB_FLIP_ACCUMULATE;
        return ok;
    case KERNELS_TRAINED:
        return take_word("kernels-trained", value, "all", "last", &t->flip.last_kernel);
    case STEPS:
        return take_u64("steps", value, 1, MB_TRAIN_STEPS_MAX, &t->n_steps);
    case STEP_SIZE:
        return take_size("step", value, 1, &t->step);
    case COEF_SIZE:
        return take_size("coef-step", value, 1, &t->coef_step);
    case VECTOR_SIZE:
        return take_size("vector-step", value, 1, &t->vector_step);
    case BUDGET:
        return take_size("budget", value, 1, &t->budget);
    case WARM_UP:
        return take_size("warm-up", value, 1, &t->warm_up);
    case HYSTERESIS:
        return take_size("hysteresis", value, 0.25, &t->flip.hysteresis);
    case REFRESH_EVERY:
        return take_u64("refresh-every", value, 0, UINT64_MAX, &t->refresh_every);
    case SEED:
        return take_u64("seed", value, 0, UINT64_MAX, &t->seed);
    case VOCABULARY:
        return t->vocabulary = true;
    case RESET:
        return t->flip.reset = true;
    case CODE_INPUTS:
        return t->gradient.code_inputs = true;
    default:
        return t->gradient.recompute = true;
    }
}

static bool take(struct arguments *a, int option, const char *value)
{
    struct mb_finetune_options *o = &a->o;
    switch (option) {
    case OUTPUT:
        return (o->output = value) != NULL;
    case DATA:
        return (o->data = value) != NULL;
    case VALID:
        return (o->valid = value) != NULL;
    case TEACHER:
        return (o->teacher = value) != NULL;
    case BATCH_TOKENS:
        return take_u32("batch-tokens", value, 2, MB_FINETUNE_TOKENS_MAX, &o->batch_tokens);
    case WINDOW:
        return take_u32("window", value, 1, MB_FINETUNE_TOKENS_MAX, &o->window);
    case CE:
        a->has_ce = true;
        return take_loss("ce", value, &o->train.gradient.ce);
    case KL:
        a->has_kl = true;
        return take_loss("kl", value, &o->train.gradient.kl);
    case MATCH:
        a->has_match = true;
        return take_loss("match", value, &o->train.gradient.match);
    case VALID_EVERY:
        return take_u64("valid-every", value, 0, UINT64_MAX, &o->valid_every);
    case SNAPSHOT_EVERY:
        return take_u64("snapshot-every", value, 0, UINT64_MAX, &o->snapshot_every);
    case RESUME:
        return o->resume = true;
    case THREADS:
        return take_u64("threads", value, 1, MB_THREADS_MAX, &a->n_threads);
    case ISA:
        return (a->isa = value) != NULL;
    case JSON:
        return a->json = true;
    default:
        return take_training(&o->train, option, value);
    }
}

static int parse(int argc, char **argv, struct arguments *a, bool *ret_exit)
{
    const char *value = NULL;
    int first = 0, status = MBC_DONE, option;
    *ret_exit = true;
    while ((option = mbc_next_option(&mbc_finetune, argc, argv, &value, &first, &status)) >=
           0) {
        if (!take(a, option, value)) {
            return MBC_USAGE;
        }
    }
    if (option == MBC_OPT_EXIT) {
        return status;
    }
    if (argc - first != 1) {
        return mbc_usage_error(&mbc_finetune, "one MODEL.mbool is wanted");
    }
    if (!a->o.data || !a->o.output) {
        return mbc_usage_error(&mbc_finetune, "--data and -o are wanted");
    }
    struct mb_gradient_options *g = &a->o.train.gradient;
    if (!a->o.teacher && (g->kl > 0 || g->match > 0)) {
        return mbc_usage_error(&mbc_finetune, "--kl and --match want a --teacher");
    }
    g->ce = a->has_ce ? g->ce : a->o.teacher ? 0 : 1;
    g->kl = a->has_kl ? g->kl : a->o.teacher ? 1 : 0;
    g->match = a->has_match ? g->match : a->o.teacher ? 0.5f : 0;
    if (g->ce + g->kl + g->match <= 0) {
        return mbc_usage_error(&mbc_finetune,
                               "there is no loss: --ce, --kl, --match are all 0");
    }
    a->o.model = argv[first];
    *ret_exit = false;
    return MBC_DONE;
}

/* The display. */

static double rate(const struct arguments *a)
{
    double took = mbc_now_s() - a->started_s;
    return took > 0 ? (double) a->n_tokens / took : 0;
}

static double left_s(const struct arguments *a, const struct mb_finetune_event *e)
{
    double took = mbc_now_s() - a->started_s;
    double done = (double) (e->n_done - a->first_step);
    return done > 0 ? took / done * (double) (e->n_steps - e->n_done) : 0;
}

static void clear_line(struct arguments *a)
{
    if (a->is_drawn) {
        fprintf(stderr, "\r\033[K");
        a->is_drawn = false;
    }
}

static double share(uint64_t n, uint64_t of)
{
    return of > 0 ? (double) n / (double) of : 0;
}

static void draw_step(struct arguments *a, const struct mb_finetune_event *e)
{
    enum { EVERY_S = 10 }; /* of a log that nobody watches */
    const struct mb_train_report *r = &e->report;
    double now = mbc_now_s(), left = left_s(a, e);
    bool last = e->n_done == e->n_steps;
    if (!last && now - a->drawn_s < (a->is_terminal ? 0.1 : EVERY_S)) {
        return;
    }
    a->drawn_s = now;
    fprintf(stderr,
            "%sstep %llu of %llu  loss %.4f  flips %.3f %% (moved %.2f %%)  %.0f tokens/s  "
            "%d:%02d left%s",
            a->is_terminal ? "\r" : "", (unsigned long long) e->n_done,
            (unsigned long long) e->n_steps, r->losses.total,
            100 * share(r->flips.n_flips, r->n_weights),
            100 * share(r->total.n_moved, r->n_weights), rate(a), (int) left / 60,
            (int) left % 60, a->is_terminal ? "\033[K" : "\n");
    a->is_drawn = a->is_terminal;
    fflush(stderr);
}

static void draw(struct arguments *a, const struct mb_finetune_event *e)
{
    if (e->kind == MB_FINETUNE_STEP) {
        draw_step(a, e);
        return;
    }
    clear_line(a);
    switch (e->kind) {
    case MB_FINETUNE_READY:
        fprintf(stderr,
                "%llu sequences, %llu tokens to learn; %llu weights, %.2f bytes of training "
                "state each\n",
                (unsigned long long) e->n_examples, (unsigned long long) e->n_learned,
                (unsigned long long) e->report.n_weights, e->state_bytes);
        if (e->lines.n_skipped + e->lines.n_cut > 0) {
            fprintf(stderr,
                    "%zu examples are cut at the window, %zu left out: nothing to learn "
                    "within it\n",
                    e->lines.n_cut, e->lines.n_skipped);
        }
        break;
    case MB_FINETUNE_VALID:
        fprintf(stderr, "step %llu  validation: cross-entropy %.4f",
                (unsigned long long) e->n_done, e->valid.cross_entropy);
        fprintf(stderr, a->o.teacher ? ", KL %.4f\n" : "\n", e->valid.divergence);
        break;
    case MB_FINETUNE_SNAPSHOT:
        fprintf(stderr, "step %llu  snapshot in %s and %s%s\n", (unsigned long long) e->n_done,
                a->o.output, a->o.output, MB_FINETUNE_STATE);
        break;
    default:
        fprintf(stderr,
                "%s: %llu flips, %llu of them back; %.2f %% of the weights have moved\n",
                a->o.output, (unsigned long long) e->report.total.n_flips,
                (unsigned long long) e->report.total.n_backs,
                100 * share(e->report.total.n_moved, e->report.n_weights));
    }
}

static void print_json(const struct arguments *a, const struct mb_finetune_event *e)
{
    static const char *const names[] = { [MB_FINETUNE_READY] = "ready",
                                         [MB_FINETUNE_STEP] = "step",
                                         [MB_FINETUNE_VALID] = "valid",
                                         [MB_FINETUNE_SNAPSHOT] = "snapshot",
                                         [MB_FINETUNE_DONE] = "done" };
    const struct mb_train_report *r = &e->report;
    const struct mb_losses *l = e->kind == MB_FINETUNE_VALID ? &e->valid : &r->losses;
    struct rusage u = { 0 };
    (void) getrusage(RUSAGE_SELF, &u);
    json_t *o = json_pack("{s:s, s:I, s:I}", "event", names[e->kind], "step",
                          (json_int_t) e->n_done, "steps", (json_int_t) e->n_steps);
    if (e->kind == MB_FINETUNE_READY) {
        (void) json_object_update_new(
            o, json_pack("{s:I, s:I, s:I, s:f}", "sequences", (json_int_t) e->n_examples,
                         "tokens", (json_int_t) e->n_learned, "weights",
                         (json_int_t) r->n_weights, "state_bytes_per_weight", e->state_bytes));
    }
    if (e->kind == MB_FINETUNE_STEP || e->kind == MB_FINETUNE_VALID) {
        (void) json_object_update_new(o, json_pack("{s:f, s:f, s:f, s:f}", "loss", l->total,
                                                   "cross_entropy", l->cross_entropy, "kl",
                                                   l->divergence, "match", l->match));
    }
    if (e->kind == MB_FINETUNE_STEP) {
        (void) json_object_update_new(
            o, json_pack("{s:I, s:I, s:f, s:f, s:f}", "flips", (json_int_t) r->flips.n_flips,
                         "flips_back", (json_int_t) r->flips.n_backs, "moved_share",
                         share(r->total.n_moved, r->n_weights), "tokens_per_second", rate(a),
                         "seconds_left", left_s(a, e)));
    }
    if (e->kind == MB_FINETUNE_SNAPSHOT || e->kind == MB_FINETUNE_DONE) {
        (void) json_object_update_new(
            o, json_pack("{s:s, s:I, s:I, s:f}", "output", a->o.output, "flips",
                         (json_int_t) r->total.n_flips, "flips_back",
                         (json_int_t) r->total.n_backs, "peak_memory_mib",
                         (double) u.ru_maxrss / 1024));
    }
    (void) json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    printf("\n");
    fflush(stdout); /* whoever follows the run reads it now */
    json_decref(o);
}

static void tell(void *self, const struct mb_finetune_event *e)
{
    struct arguments *a = self;
    if (e->kind == MB_FINETUNE_READY) {
        a->started_s = mbc_now_s();
        a->first_step = e->n_done;
    }
    if (e->kind == MB_FINETUNE_STEP) {
        a->n_tokens += e->batch_tokens;
    }
    if (a->json) {
        print_json(a, e);
    } else {
        draw(a, e);
    }
}

static bool stop(void *self)
{
    return mbc_interrupted();
}

static int run(int argc, char **argv)
{
    struct arguments a = {
        .o = mb_finetune_defaults(),
        .isa = "auto",
        .n_threads = mbc_processors(),
        .is_terminal = isatty(STDERR_FILENO),
    };
    struct mb_error err = { 0 };
    struct mb_pool *pool = NULL;
    mb_cpu_flags cpu = 0;
    bool is_exit;
    int status = parse(argc, argv, &a, &is_exit);
    if (is_exit) {
        return status;
    }
    struct mb_finetune_watch watch = { tell, stop, &a };
    enum mb_status st = mb_cpu_narrow(a.isa, mb_cpu_detect(), &cpu, &err);
    if (st == MB_OK) {
        a.o.train.gradient.ops = mb_train_ops_select(cpu);
        st = mb_pool_new(a.n_threads, 0, &pool, &err);
    }
    if (st == MB_OK) {
        mbc_catch_interrupt();
        st = mb_finetune(&a.o, pool, &watch, &err);
        clear_line(&a);
    }
    mb_pool_free(pool);
    if (st == MB_E_CANCELLED) {
        fprintf(stderr, "mbool finetune: %s; the same command with --resume goes on\n",
                err.what);
        return MBC_INTERRUPTED;
    }
    return st == MB_OK ? MBC_DONE : mbc_report_error(&mbc_finetune, &err);
}

const struct mbc_command mbc_finetune = {
    .name = "finetune",
    .arguments = "MODEL.mbool --data FILE [--teacher FOLDER] -o OUT.mbool",
    .summary = "train a Boolean model by flipping its bits",
    .details =
        "Data is text (documents parted by lines <|endoftext|>) or JSON lines of OpenAI's forms,\n"
        "{\"prompt\", \"completion\"} or {\"messages\"}: prompts are read, answers learned.\n"
        "With the float model that MODEL was converted from as teacher, training repairs what\n"
        "conversion lost; without one, the model learns the data.\n"
        "No float copy of a weight is made: gradients add up to flips of bits, in one byte a\n"
        "weight (accumulate) or none (stochastic).\n"
        "Ctrl-C writes a snapshot: OUT.mbool, which can be served at once, and\n"
        "OUT.mbool.state, from which --resume goes on to the bits of a run that was never\n"
        "stopped. The same model, data, options and seed give the same file.",
    .options = options,
    .run = run,
};
