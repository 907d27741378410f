/* Logits to a token: penalties, temperature, top_k, top_p, min_p, and a draw that replays.
 *
 * Order, as in OpenAI's documentation and the transformers library: repetition, presence
 * and frequency penalties on the logits, then biases; then temperature; then top_k, top_p,
 * min_p on the softmax of what is left; then one draw from what remains. Ties are broken by
 * the lower id. Temperature 0 is greedy: the largest penalised logit.
 *
 * Exact:   the same logits, history and seed give the same token on every machine.
 * Threads: one thread at a time per sampler. */
#ifndef MB_CORE_SAMPLE_H
#define MB_CORE_SAMPLE_H

#include <stdint.h>

#include "core/kernels/kernels.h"

#define MB_LOGPROBS_MAX 20

struct mb_logit_bias;

struct mb_sampling {
    float temperature;        /* 0..2; 0 is greedy */
    uint32_t top_k;           /* 0 is off */
    float top_p;              /* 1e-9..1; 1 is off */
    float min_p;              /* [0, 1]; 0 is off */
    float repetition_penalty; /* 0.01..100; 1 is off; over prompt and output */
    float presence_penalty;   /* -2..2; over the output */
    float frequency_penalty;  /* -2..2; over the output */
    uint64_t seed;
    const struct mb_logit_bias
        *bias; /* [n_bias], added to logits; borrowed until the next start */
    size_t n_bias;
    const uint32_t *late; /* [n_late] tokens that are not drawn before n_early others were; */
    size_t n_late;        /* borrowed likewise */
    uint32_t n_early;
};

struct mb_sampler;

/* Scratch for n_vocab logits; kernels is borrowed for life. */
enum mb_status mb_sampler_new(const struct mb_kernels *kernels, uint32_t n_vocab,
                              struct mb_sampler **ret, struct mb_error *err);
void mb_sampler_free(struct mb_sampler *s);

/* Starts a request anew. prompt counts for the repetition penalty only. Allocates nothing. */
void mb_sampler_start(struct mb_sampler *s, const struct mb_sampling *p, const uint32_t *prompt,
                      uint32_t n_prompt);

struct mb_logprob {
    uint32_t token;
    float logprob; /* natural, of the unpenalised softmax at temperature 1 */
};

struct mb_sampled {
    uint32_t token;
    float logprob;
    uint32_t n_top; /* the most likely, best first */
    struct mb_logprob top[MB_LOGPROBS_MAX];
};

/* Draws the next token and counts it. Allocates nothing. logprob and top are 0 and empty
 * unless wanted; logprobs are at least -9999. logits [n_vocab] is left as it was. With
 * want_top 0 and !want_logprob no softmax over the vocabulary is computed for greedy. NaN
 * logits count as -inf; when all are, token 0 is drawn. */
void mb_sampler_draw(struct mb_sampler *s, const float *logits, uint32_t want_top,
                     int want_logprob, struct mb_sampled *ret);

/* What a draw would report of token with want_top, had it drawn it. Counts nothing; any
 * sampler for this vocabulary does. */
void mb_sampler_score(struct mb_sampler *s, const float *logits, uint32_t token,
                      uint32_t want_top, struct mb_sampled *ret);

#endif
