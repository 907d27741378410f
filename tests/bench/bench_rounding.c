/* How good is a float model once its weights are rounded to few bits?
 *
 *     bench_rounding FOLDER VALID.txt [method=rtn|gptq|none] [bits=B] [group=G] [clip=1]
 *                    [train=TEXT] [tokens=N] [threads=N]
 *
 * Rounds the linear layers of the blocks (rounding.h) and prints, as JSON, bits per weight of
 * these, and perplexity and KL to the float model on the validation text. Everything else stays
 * float, activations too, as is usual for such models. group=0 is the whole row. gptq is
 * calibrated on tokens of the training text: each layer on inputs that come through the layers
 * before it as they have become. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/memory.h"
#include "core/convert/calibration.h"
#include "core/convert/fit.h"
#include "core/finetune/weights.h"
#include "core/import/hf.h"
#include "core/infer/evaluate.h"
#include "tests/bench/rounding.h"

enum { WINDOW_MAX = 2048 }; /* of calibration, as convert has it */

/* Everything that a run is made of; never freed: the program ends with it. */
struct bench {
    struct rounding o;
    struct mb_tokenizer *tokenizer;
    struct mb_model *original, *rounded;
    struct mb_pool *pool;
    struct mb_kernels kernels;
    struct mb_windows valid, train;
    struct mb_calibration *calibration; /* NULL without gptq */
    double bits, n_weights;
};

static void need(enum mb_status st, const char *what, const struct mb_error *err)
{
    if (st != MB_OK) {
        fprintf(stderr, "bench_rounding: %s: %s\n", what, err->what);
        exit(EXIT_FAILURE);
    }
}

static void load(struct bench *b, const char *dir)
{
    struct mb_hf *hf;
    struct mb_bytes spec = { 0 };
    struct mb_error err;
    need(mb_hf_open(dir, &hf, &err), dir, &err);
    need(mb_hf_tokenizer(hf, &spec, &err), dir, &err);
    need(mb_tokenizer_from_bytes(spec.at, spec.len, &b->tokenizer, &err), dir, &err);
    need(mb_model_from_hf(hf, &b->original, &err), dir, &err);
    need(mb_model_new(&b->original->shape, &b->rounded, &err), dir, &err);
    b->rounded->inv_freq = b->original->inv_freq;
    b->rounded->embed = b->original->embed;
    b->rounded->head = b->original->head;
    b->rounded->final_norm = b->original->final_norm;
    memcpy(b->rounded->blocks, b->original->blocks,
           b->original->shape.n_layers * sizeof *b->rounded->blocks);
}

static void read_windows(struct bench *b, const char *path, size_t window, size_t tokens_max,
                         struct mb_windows *ret)
{
    struct mb_file_map text;
    struct mb_error err;
    size_t context = b->original->shape.context;
    need(mb_file_map(path, &text, &err), path, &err);
    need(mb_windows_of_text(b->tokenizer, (const char *) text.at, text.n,
                            window < context ? window : context, tokens_max, ret, &err),
         path, &err);
}

static void round_linear(struct bench *b, struct mb_linear *l, const struct mb_factor *f)
{
    size_t m = l->n_rows, n = l->n_cols;
    float *w = mb_alloc(m, n * sizeof *w), *q = mb_alloc(m, n * sizeof *q);
    if (!w || !q) {
        abort();
    }
    for (size_t r = 0; r < m; r++) {
        mb_weights_row(l, r, w + r * n);
    }
    rounding_apply(&b->o, w, m, n, f, b->pool, q);
    l->kind = MB_LINEAR_F32;
    l->dense = q;
    b->bits += (double) (m * n) * rounding_bits(&b->o, n);
    b->n_weights += (double) (m * n);
    mb_free(w);
}

/* The layers that read an input, once it is known what the text puts there. */
static void round_readers(struct bench *b, uint32_t layer, enum mb_block_input i)
{
    struct mb_statistics s = { 0 };
    struct mb_factor f = { 0 };
    struct mb_error err;
    if (b->calibration) {
        need(mb_statistics_init(&s, mb_block_input_width(&b->original->shape, i), 0, &err),
             "statistics", &err);
        for (size_t t = 0; t < mb_calibration_batches(b->calibration); t++) {
            need(mb_calibration_observe(b->calibration, t, layer, i, &s, &err), "calibration",
                 &err);
        }
        mb_statistics_finish(&s, MB_FIT_DAMPING_DEFAULT);
        need(mb_factor_init(&f, s.second, s.n_cols, b->pool, &err), "factor", &err);
    }
    for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
        if (mb_block_linear_input((enum mb_block_linear) l) == i) {
            round_linear(b, &b->rounded->blocks[layer].linear[l], b->calibration ? &f : NULL);
        }
    }
    mb_statistics_fini(&s);
    mb_factor_fini(&f);
}

static void round_model(struct bench *b)
{
    struct mb_error err;
    for (uint32_t layer = 0; layer < b->original->shape.n_layers; layer++) {
        for (int i = 0; i < MB_BLOCK_INPUTS; i++) {
            round_readers(b, layer, (enum mb_block_input) i);
        }
        for (size_t t = 0; b->calibration && t < mb_calibration_batches(b->calibration); t++) {
            need(mb_calibration_advance(b->calibration, t, layer, &err), "calibration", &err);
        }
    }
}

struct arguments {
    const char *method, *train;
    unsigned long bits, group, clip, tokens, threads;
};

static bool take(struct arguments *a, char *argument)
{
    const struct {
        const char *key;
        unsigned long *to;
    } numbers[] = { { "bits", &a->bits },
                    { "group", &a->group },
                    { "clip", &a->clip },
                    { "tokens", &a->tokens },
                    { "threads", &a->threads } };
    char *value = strchr(argument, '=');
    if (!value) {
        return false;
    }
    *value++ = '\0';
    if (strcmp(argument, "train") == 0) {
        a->train = value;
        return true;
    }
    if (strcmp(argument, "method") == 0) {
        a->method = value;
        return strcmp(value, "rtn") == 0 || strcmp(value, "none") == 0 ||
               strcmp(value, "gptq") == 0;
    }
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcmp(argument, numbers[i].key) == 0) {
            char *end;
            *numbers[i].to = strtoul(value, &end, 10);
            return *value && !*end;
        }
    }
    return false;
}

/* Whether *ret makes sense. */
static bool parse(int argc, char **argv, struct arguments *ret)
{
    for (int i = 3; i < argc; i++) {
        if (!take(ret, argv[i])) {
            fprintf(stderr, "bench_rounding: what is '%s'?\n", argv[i]);
            return false;
        }
    }
    if (argc < 3 || (strcmp(ret->method, "gptq") == 0 && !ret->train)) {
        fprintf(stderr,
                "usage: bench_rounding FOLDER VALID [KEY=VALUE ...]; gptq needs train\n");
        return false;
    }
    return ret->bits >= 2 && ret->bits <= 8 && ret->group <= UINT32_MAX && ret->threads > 0 &&
           ret->threads <= MB_THREADS_MAX;
}

int main(int argc, char **argv)
{
    struct arguments a = {
        .method = "rtn", .bits = 3, .group = 64, .tokens = 131072, .threads = 2
    };
    struct bench b = { .bits = 0 };
    struct mb_evaluation e;
    struct mb_error err;
    if (!parse(argc, argv, &a)) {
        return EXIT_FAILURE;
    }
    bool none = strcmp(a.method, "none") == 0;
    b.o = (struct rounding) { (unsigned) a.bits, (uint32_t) a.group, a.clip > 0 };
    need(mb_pool_new(a.threads, 0, &b.pool, &err), "threads", &err);
    mb_kernels_select(&b.kernels, mb_cpu_detect());
    load(&b, argv[1]);
    read_windows(&b, argv[2], SIZE_MAX, 0, &b.valid);
    if (strcmp(a.method, "gptq") == 0) { /* a model that learns its own inputs */
        read_windows(&b, a.train, WINDOW_MAX, a.tokens, &b.train);
        need(mb_calibration_new(b.rounded, b.rounded, &b.train, &b.kernels, b.pool,
                                &b.calibration, &err),
             "calibration", &err);
    }
    if (!none) {
        round_model(&b);
    }
    need(mb_evaluate(b.rounded, b.original, &b.valid, &b.kernels, b.pool, NULL, &e, &err),
         "evaluate", &err);
    printf("{\"bits_per_weight\": %.6g, \"tokens\": %llu, \"nll\": %.9g, \"ppl\": %.9g, "
           "\"kl\": %.9g, \"top1\": %.9g}\n",
           none ? 32 : b.bits / b.n_weights, (unsigned long long) e.n_tokens, e.nll, e.ppl,
           e.kl, e.top1);
    return EXIT_SUCCESS;
}
