/* Counters, gauges and histograms, and their Prometheus text (exposition format 0.0.4).
 *
 * A fixed set, known at compile time: the table in metrics.c is name, type, help, labels.
 * Labels are few and bounded (reason, code, route, model); never a prompt, a user or a key.
 *
 * Threads: any thread may add or observe (relaxed atomics); one at a time writes text. */
#ifndef MBD_METRICS_H
#define MBD_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/bytes.h"
#include "proto/status.h"

struct mbd_metrics;

enum mbd_counter {
    MBD_PROMPT_TOKENS,
    MBD_PREFIX_TOKENS, /* of these, not computed but shared */
    MBD_PREFIX_HITS,
    MBD_PREFIX_EVICTIONS,
    MBD_GENERATION_TOKENS,
    MBD_ENGINE_STEPS,
    MBD_REQUESTS_STOP, /* mboold_requests_total{outcome="stop"} ... */
    MBD_REQUESTS_LENGTH,
    MBD_REQUESTS_CANCELLED,
    MBD_REQUESTS_FAILED,
    MBD_REQUESTS_REFUSED,
    MBD_SWAPS_OK, /* mboold_model_swap_total{result="ok"} ... */
    MBD_SWAPS_FAILED,
    MBD_COUNTERS
};
enum mbd_gauge {
    MBD_REQUESTS_WAITING,
    MBD_REQUESTS_RUNNING,
    MBD_KV_USED_RATIO, /* stored as parts per million */
    MBD_EPOCHS,
    MBD_EPOCH_PRIVATE_BYTES,
    MBD_EPOCH_SHARED_BYTES,
    MBD_SWAP_SECONDS, /* stored as microseconds */
    MBD_GAUGES
};
enum mbd_histogram {
    MBD_TIME_TO_FIRST_TOKEN, /* seconds; observed in nanoseconds */
    MBD_TIME_BETWEEN_TOKENS,
    MBD_REQUEST_SECONDS,
    MBD_QUEUE_SECONDS,
    MBD_STEP_SECONDS,
    MBD_BATCH_SEQUENCES, /* plain numbers */
    MBD_BATCH_TOKENS,
    MBD_HISTOGRAMS
};

enum mb_status mbd_metrics_new(struct mbd_metrics **ret, struct mb_error *err);
void mbd_metrics_free(struct mbd_metrics *m);

/* All accept m = NULL and then do nothing. */
void mbd_metrics_add(struct mbd_metrics *m, enum mbd_counter c, uint64_t n);
void mbd_metrics_set(struct mbd_metrics *m, enum mbd_gauge g, uint64_t value);
void mbd_metrics_observe(struct mbd_metrics *m, enum mbd_histogram h, uint64_t value);
/* HTTP answers by route and status. route is one of the router's names (at most MBD_ROUTES_MAX
 * different ones, kept as pointers). Control thread. */
#define MBD_ROUTES_MAX 64
void mbd_metrics_http(struct mbd_metrics *m, const char *route, int status);
/* The labels of mboold_build_info; isa is copied. */
void mbd_metrics_build(struct mbd_metrics *m, const char *isa);

/* Appends the whole text, with what the system says of this process (/proc/self). Control
 * thread. */
void mbd_metrics_text(const struct mbd_metrics *m, struct mb_bytes *ret);

#endif
