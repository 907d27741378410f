/* The points that 'mbool bench' measures: prompts of a length, and decoding by so many
 * sequences after so many positions; each beside its floor and with where its time went.
 *
 * Life:    _open/_close. Threads: one caller. */
#ifndef MBC_BENCH_POINTS_H
#define MBC_BENCH_POINTS_H

#include "clients/cli/bench_floor.h"
#include "clients/cli/load.h"
#include "clients/cli/runtime.h"
#include "core/infer/sample.h"

enum {
    MBC_BENCH_CHUNK = 512,     /* tokens of a prompt in a step */
    MBC_BENCH_BATCH_MAX = 256, /* sequences */
    MBC_BENCH_POINTS_MAX = 16, /* of a list */
};

/* "32,128,512" as it was asked for. */
struct mbc_bench_list {
    uint32_t at[MBC_BENCH_POINTS_MAX];
    size_t n;
    bool chosen; /* by the user: none is left out because it would take long */
};

struct mbc_bench_options {
    const char *isa;
    size_t n_threads;
    double seconds;  /* to spend on a point, which is measured at least once */
    double kv_bytes; /* at most, for keys and values */
    struct mbc_bench_list prompts, batches, contexts;
};

/* A measured point, or why there is none. */
struct mbc_bench_point {
    uint32_t n;       /* tokens of the prompt, or sequences of the batch */
    uint32_t context; /* positions that a decoded token sees, itself counted; 0: a prompt */
    double tokens_per_s, floor_tokens_per_s;
    double read_bytes_per_s; /* the better of before and after: what the floor is made with */
    enum mbc_unit limit;     /* of the floor */
    double phase_s[MB_PHASES + 1]; /* of its time; the last is sampling */
    char left_out[128];            /* why, or "" */
};

/* "products", ..., "sampling"; p in 0..MB_PHASES. */
const char *mbc_bench_phase_name(int p);

struct mbc_bench {
    struct mbc_bench_options o;
    struct mbc_model loaded;
    struct mbc_runtime runtime;
    struct mbc_machine machine;
    double read_bytes_per_s; /* when it was measured last */
    enum mb_kv_type kv_type;
    struct mb_sampler *sampler;
    double step_s; /* of the first step of one token: what a prediction starts from */
    double prompt_s_per_token;
    float *logits;    /* [largest batch][V] */
    uint32_t *tokens; /* of the longest prompt */
};

/* Loads the model, makes room for all points that the options allow, measures the machine, and
 * runs a token, so that the weights are in memory. b may not move while it is open.
 * Errors: of loading; MB_E_NOMEM; MB_E_CANCELLED after Ctrl-C, here and below. */
enum mb_status mbc_bench_open(struct mbc_bench *b, const char *path,
                              const struct mbc_bench_options *o, struct mb_error *err);
void mbc_bench_close(struct mbc_bench *b); /* a zeroed one is allowed */

enum mb_status mbc_bench_prompt(struct mbc_bench *b, uint32_t n, struct mbc_bench_point *ret,
                                struct mb_error *err);
/* before: the point of the same context and a smaller batch, to predict from; or NULL. */
enum mb_status mbc_bench_decode(struct mbc_bench *b, uint32_t n, uint32_t context,
                                const struct mbc_bench_point *before,
                                struct mbc_bench_point *ret, struct mb_error *err);

#endif
