/* mbool eval: how well a model predicts a text. */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "clients/cli/command.h"
#include "clients/cli/load.h"
#include "clients/cli/runtime.h"
#include "core/base/file.h"
#include "core/convert/svid_model.h"
#include "core/infer/evaluate.h"

enum { TEXT, MARKED, WINDOW, REFERENCE, SCHEME, KERNELS, THREADS, ISA, JSON };

static const struct mbc_option options[] = {
    [TEXT] = { "text", "FILE", "the text; lines <|endoftext|> part documents (required)" },
    [MARKED] = { "marked", NULL, "special tokens stand in the text as they are written" },
    [WINDOW] = { "window", "W", "tokens seen at once (default: the model's context)" },
    [REFERENCE] = { "reference", "MODEL", "a model to compare with: KL and agreement" },
    [SCHEME] = { "scheme", "svid", "of a float model: replace its weights by successive SVID" },
    [KERNELS] = { "kernels", "K", "sign matrices per weight of --scheme, 1..8 (default 3)" },
    [THREADS] = { "threads", "N", "default: all processors" },
    [ISA] = MBC_ISA_OPTION,
    [JSON] = { "json", NULL, "print the figures as JSON" },
    { NULL, NULL, NULL },
};

struct arguments {
    const char *model, *text, *reference, *isa;
    uint64_t window, n_kernels, n_threads;
    bool marked, svid, json;
};

static bool take(void *arguments, int option, const char *value)
{
    struct arguments *a = arguments;
    switch (option) {
    case TEXT:
        a->text = value;
        return true;
    case MARKED:
        a->marked = true;
        return true;
    case WINDOW:
        return mbc_parse_u64(&mbc_eval, "window", value, 2, MB_CONTEXT_MAX, &a->window);
    case REFERENCE:
        a->reference = value;
        return true;
    case SCHEME:
        a->svid = strcmp(value, "svid") == 0;
        if (!a->svid) {
            (void) mbc_usage_error(&mbc_eval, "--scheme: there is 'svid', not '%s'", value);
        }
        return a->svid;
    case KERNELS:
        return mbc_parse_u64(&mbc_eval, "kernels", value, 1, MB_KERNELS_MAX, &a->n_kernels);
    case THREADS:
        return mbc_parse_u64(&mbc_eval, "threads", value, 1, MB_THREADS_MAX, &a->n_threads);
    case ISA:
        a->isa = value;
        return true;
    default:
        a->json = true;
        return true;
    }
}

/* Whether *a is complete; else *ret_status is the exit status. */
static bool parse(int argc, char **argv, struct arguments *a, int *ret_status)
{
    if (!mbc_parse_line(&mbc_eval, argc, argv, "a model", take, a, &a->model, ret_status)) {
        return false;
    }
    if (!a->text) {
        *ret_status = mbc_usage_error(&mbc_eval, "--text is wanted");
    }
    return a->text;
}

static enum mb_status read_windows(const struct arguments *a, const struct mbc_model *f,
                                   struct mb_windows *ret, struct mb_error *err)
{
    struct mb_file_map text;
    if (!f->tokenizer) {
        return mb_fail(err, MB_E_INVALID, 0, "'%s' has no tokenizer", a->model);
    }
    enum mb_status st = mb_file_map(a->text, &text, err);
    if (st == MB_OK) {
        size_t window = a->window > 0 ? a->window : f->model->shape.context;
        st = (a->marked ? mb_windows_of_marked_text : mb_windows_of_text)(
            f->tokenizer, (const char *) text.at, text.n, window, 0, ret, err);
        mb_file_unmap(&text);
    }
    return st;
}

static enum mb_status use_svid(const struct arguments *a, struct mbc_model *f,
                               struct mb_pool *pool, struct mb_error *err)
{
    struct mb_model *svid;
    if (!f->is_float) {
        return mb_fail(err, MB_E_INVALID, 0,
                       "--scheme needs the float model of a folder or GGUF file");
    }
    struct mb_progress progress = mbc_progress_begin("svid");
    enum mb_status st =
        mb_svid_model_new(f->model, (unsigned) a->n_kernels, pool, &progress, &svid, err);
    mbc_progress_end();
    if (st == MB_OK) {
        mb_model_unref(f->model);
        f->model = svid;
    }
    return st;
}

static void print(const struct arguments *a, const struct mb_evaluation *e)
{
    if (a->json) {
        json_t *o = json_pack("{s:I, s:f, s:f}", "tokens", (json_int_t) e->n_tokens, "nll",
                              e->nll, "ppl", e->ppl);
        if (a->reference) {
            (void) json_object_set_new(o, "kl", json_real(e->kl));
            (void) json_object_set_new(o, "top1", json_real(e->top1));
        }
        (void) json_dumpf(o, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        printf("\n");
        json_decref(o);
        return;
    }
    printf("tokens      %llu\n", (unsigned long long) e->n_tokens);
    printf("nll         %.5f\n", e->nll);
    printf("perplexity  %.4f\n", e->ppl);
    if (a->reference) {
        printf("kl          %.5f\n", e->kl);
        printf("top-1       %.2f %%\n", 100 * e->top1);
    }
}

static enum mb_status evaluate(const struct arguments *a, struct mb_error *err)
{
    struct mbc_model f = { 0 }, reference = { 0 };
    struct mb_windows windows = { 0 };
    struct mb_pool *pool = NULL;
    struct mb_kernels kernels;
    struct mb_evaluation e;
    enum mb_status st = mbc_processor_open(a->isa, a->n_threads, &kernels, &pool, err);
    if (st == MB_OK) {
        st = mbc_load(a->model, &f, err);
    }
    if (st == MB_OK && a->reference) {
        st = mbc_load(a->reference, &reference, err);
    }
    if (st == MB_OK) {
        st = read_windows(a, &f, &windows, err);
    }
    if (st == MB_OK && a->svid) {
        st = use_svid(a, &f, pool, err);
    }
    if (st == MB_OK) {
        struct mb_progress progress = mbc_progress_begin("eval");
        st =
            mb_evaluate(f.model, reference.model, &windows, &kernels, pool, &progress, &e, err);
        mbc_progress_end();
    }
    if (st == MB_OK && !isfinite(e.ppl + e.kl)) { /* no JSON, and no measure of anything */
        st = mb_fail(err, MB_E_FORMAT, 0, "'%s': its logits are not finite, or absurd: nll %g",
                     a->model, e.nll);
    }
    if (st == MB_OK) {
        print(a, &e);
    }
    mb_windows_fini(&windows);
    mbc_unload(&f);
    mbc_unload(&reference);
    mb_pool_free(pool);
    return st;
}

static int run(int argc, char **argv)
{
    struct arguments a = { .isa = "auto", .n_kernels = 3, .n_threads = mbc_processors() };
    struct mb_error err = { 0 };
    int status;
    if (!parse(argc, argv, &a, &status)) {
        return status;
    }
    return evaluate(&a, &err) == MB_OK ? MBC_DONE : mbc_report_error(&mbc_eval, &err);
}

const struct mbc_command mbc_eval = {
    .name = "eval",
    .arguments = "MODEL.mbool|FOLDER|MODEL.gguf --text FILE",
    .summary = "perplexity of a text, and distance to a reference model",
    .details =
        "A folder (a Hugging Face checkpoint) or GGUF file is run in float32: the yardstick.\n"
        "Each document starts with BOS and is cut into windows that do not overlap; the\n"
        "mean is over all predicted tokens.",
    .options = options,
    .run = run,
};
