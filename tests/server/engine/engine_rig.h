/* An engine on a tiny model, for tests: what control threads do, in a few calls; a recorder in
 * place of the metrics; and a hook inside every step.
 *
 * Link with -Wl,--wrap=mb_step: the hook sees each batch before the model does, on the engine's
 * thread, and may refuse it. */
#ifndef MBD_TESTS_ENGINE_RIG_H
#define MBD_TESTS_ENGINE_RIG_H

#include <stdatomic.h>

#include "core/infer/step.h"
#include "server/engine/engine.h"
#include "server/epochs/epoch.h"
#include "server/metrics/metrics.h"
#include "tests/support/tiny_model.h"

enum { RIG_VOCAB = 97, RIG_CONTEXT = 2048, RIG_TEXT_MAX = 16 * RIG_CONTEXT };

/* What became of a request. */
struct result {
    uint32_t n_drawn; /* tokens, with the end of sequence, which is not told */
    uint32_t n_tokens;
    uint32_t tokens[RIG_CONTEXT];
    float logprobs[RIG_CONTEXT];
    struct mb_logprob best[RIG_CONTEXT]; /* the first of top, where there is one */
    uint32_t n_top;                      /* of the last token */
    size_t n_text;
    char text[RIG_TEXT_MAX];
    struct mbd_event last; /* a final state when it ended */
};

struct engine_rig {
    struct mb_model *model;
    struct mbd_epoch *epoch; /* of the model: what rig_request uses */
    struct mb_tokenizer *tokenizer;
    struct mb_kernels kernels;
    struct mbd_engine_options options;
    struct mbd_engine *engine;
    atomic_uint n_wakes;
};

/* Options that most tests use; change them before engine_rig_start. eos is a token, or
 * MB_NO_ID. */
void engine_rig_init(struct engine_rig *r, uint32_t eos);
void engine_rig_start(struct engine_rig *r);
void engine_rig_fini(struct engine_rig *r); /* frees the engine, when it is there still */

/* Sampling that makes a varied text, and a seed. */
struct mbd_request_params rig_params(uint64_t seed, uint32_t max_tokens);
/* A prompt of n tokens that follows from seed. */
void rig_prompt(uint64_t seed, uint32_t n, uint32_t *ret);
struct mbd_request *rig_request(const struct engine_rig *r, const uint32_t *prompt, uint32_t n,
                                const struct mbd_request_params *p);
void rig_submit(struct engine_rig *r, struct mbd_request *q);

/* Adds what there is to ret; true when q has ended. Checks that no text is cut in a
 * character. */
bool rig_read(struct mbd_request *q, struct result *ret);
/* Reads to the end, or fails the test after a minute. */
void rig_finish(struct mbd_request *q, struct result *ret);
/* rig_request, submit, finish, unref. ret is emptied first. */
void rig_run(struct engine_rig *r, const uint32_t *prompt, uint32_t n,
             const struct mbd_request_params *p, struct result *ret);
void rig_assert_same(const struct result *a, const struct result *b);
/* Waits until nothing waits, nothing runs, and every block is free (J1). */
void rig_assert_idle(struct engine_rig *r);
void rig_sleep_ms(unsigned ms);

/* The hook. status other than MB_OK refuses the batch in the model's place. */
typedef enum mb_status rig_hook_fn(void *arg, const struct mb_batch *b);
void rig_set_hook(rig_hook_fn *fn, void *arg); /* between engines, or NULL */

/* What the metrics were told since engine_rig_init. */
uint64_t rig_counter(enum mbd_counter c);
uint64_t rig_observed(enum mbd_histogram h); /* how often */
uint64_t rig_gauge(enum mbd_gauge g);

#endif
