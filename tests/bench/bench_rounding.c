/* How good is a float model once its weights are rounded to few bits?
 *
 *     bench_rounding FOLDER VALID.txt rtn|gptq|none BITS GROUP [clip] [TRAIN.txt TOKENS]
 *
 * Rounds the linear layers of the blocks (rounding.h) and prints, as JSON, bits per weight of
 * these, and perplexity and KL to the float model on the validation text. Everything else stays
 * float, activations too, as is usual for such models. GROUP 0 is the whole row. gptq is
 * calibrated on the training text: each layer on inputs that come through the layers before it as they have
 * become. */
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

static int usage(void)
{
    fprintf(stderr, "usage: bench_rounding FOLDER VALID rtn|gptq|none BITS GROUP [clip] "
                    "[TRAIN TOKENS]\n");
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    struct bench b = { .bits = 0 };
    struct mb_evaluation e;
    struct mb_error err;
    bool gptq = argc > 3 && strcmp(argv[3], "gptq") == 0;
    bool none = argc > 3 && strcmp(argv[3], "none") == 0;
    if (argc < 6 || (!gptq && !none && strcmp(argv[3], "rtn") != 0)) {
        return usage();
    }
    b.o = (struct rounding) { .bits = (unsigned) atoi(argv[4]),
                              .group = (uint32_t) atoi(argv[5]),
                              .clip = argc > 6 && strcmp(argv[6], "clip") == 0 };
    int at = 6 + b.o.clip;
    if (b.o.bits < 2 || b.o.bits > 8 || (gptq && argc < at + 2)) {
        return usage();
    }
    need(mb_pool_new(2, 0, &b.pool, &err), "threads", &err);
    mb_kernels_select(&b.kernels, mb_cpu_detect());
    load(&b, argv[1]);
    read_windows(&b, argv[2], SIZE_MAX, 0, &b.valid);
    if (gptq) { /* a model that learns its own inputs while it is rounded */
        read_windows(&b, argv[at], WINDOW_MAX, (size_t) atol(argv[at + 1]), &b.train);
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
