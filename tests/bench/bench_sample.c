/* Microseconds to draw a token, for vocabularies of 32000 and 128256 and the usual settings. Logits are
 * spread like a language model's: a few likely tokens above a broad bell. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/infer/sample.h"

static double now_s(void)
{
    struct timespec t;
    (void) clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static const struct {
    const char *name;
    struct mb_sampling params;
    uint32_t want_top;
    int want_logprob;
} rows[] = {
    { "greedy", { .temperature = 0, .top_p = 1, .repetition_penalty = 1 }, 0, 0 },
    { "greedy, 5 logprobs", { .temperature = 0, .top_p = 1, .repetition_penalty = 1 }, 5, 1 },
    { "temperature 1", { .temperature = 1, .top_p = 1, .repetition_penalty = 1 }, 0, 0 },
    { "top_p 0.95", { .temperature = 0.8f, .top_p = 0.95f, .repetition_penalty = 1 }, 0, 0 },
    { "top_k 40",
      { .temperature = 1, .top_p = 1, .top_k = 40, .repetition_penalty = 1 },
      0,
      0 },
    { "min_p 0.05",
      { .temperature = 1, .top_p = 1, .min_p = 0.05f, .repetition_penalty = 1 },
      0,
      0 },
    { "all, penalties, 20 logprobs",
      { .temperature = 0.8f,
        .top_p = 0.95f,
        .top_k = 50,
        .min_p = 0.01f,
        .repetition_penalty = 1.1f,
        .presence_penalty = 0.5f },
      20,
      1 },
    { "top_p 0.95 of a flat line",
      { .temperature = 2, .top_p = 0.95f, .repetition_penalty = 1 },
      0,
      0 },
};

/* A bell of width 2.2 made of 12 uniform numbers, and a likely token in every 2000. */
static float logit(uint64_t i)
{
    double sum = -6;
    for (uint64_t k = 0; k < 12; k++) {
        sum += mb_rng_unit(4, k, i);
    }
    return (float) (2.2 * sum + (mb_rng_u64(4, 99, i) % 2000 == 0 ? 9 : 0));
}

static int bench(uint32_t n)
{
    struct mb_kernels kernels;
    struct mb_sampler *s = NULL;
    struct mb_error err;
    mb_kernels_select(&kernels, mb_cpu_detect());
    float *logits = mb_alloc(n, sizeof *logits);
    if (!logits || mb_sampler_new(&kernels, n, &s, &err) != MB_OK) {
        (void) fprintf(stderr, "no memory\n");
        return EXIT_FAILURE;
    }
    for (uint32_t i = 0; i < n; i++) {
        logits[i] = logit(i);
    }
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        struct mb_sampled got;
        mb_sampler_start(s, &rows[r].params, NULL, 0);
        double start = now_s(), spent = 0;
        uint32_t n_drawn = 0;
        do {
            mb_sampler_draw(s, logits, rows[r].want_top, rows[r].want_logprob, &got);
            spent = now_s() - start;
            n_drawn++;
        } while (spent < 0.2);
        printf("vocabulary %6u, %-28s %9.1f us\n", (unsigned) n, rows[r].name,
               spent / n_drawn * 1e6);
    }
    mb_sampler_free(s);
    mb_free(logits);
    return EXIT_SUCCESS;
}

int main(void)
{
    return bench(32000) == EXIT_SUCCESS && bench(128256) == EXIT_SUCCESS ? EXIT_SUCCESS
                                                                         : EXIT_FAILURE;
}
