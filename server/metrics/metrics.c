#include "server/metrics/metrics.h"

#include <assert.h>
#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* ---- the set ----------------------------------------------------------------------------- */

struct family {
    const char *name, *help;
};
/* A counter of a family; families with labels are told once, by their first row. */
struct counter {
    const char *name, *labels, *help;
};

static const struct counter counters[MBD_COUNTERS] = {
    [MBD_PROMPT_TOKENS] = { "mboold_prompt_tokens_total", "",
                            "Prompt tokens of requests that began." },
    [MBD_PREFIX_TOKENS] = { "mboold_prefix_cache_tokens_total", "",
                            "Of these, tokens that were not computed but shared." },
    [MBD_PREFIX_HITS] = { "mboold_prefix_cache_hits_total", "",
                          "Requests that shared a prefix of their prompt." },
    [MBD_PREFIX_EVICTIONS] = { "mboold_prefix_cache_evictions_total", "",
                               "Blocks of the KV cache that were kept, and given up for others." },
    [MBD_GENERATION_TOKENS] = { "mboold_generation_tokens_total", "", "Tokens generated." },
    [MBD_ENGINE_STEPS] = { "mboold_engine_steps_total", "",
                           "Steps of the engine: its heartbeat." },
    [MBD_REQUESTS_STOP] = { "mboold_requests_total", "{outcome=\"stop\"}",
                            "Generation requests by how they ended." },
    [MBD_REQUESTS_LENGTH] = { "mboold_requests_total", "{outcome=\"length\"}", NULL },
    [MBD_REQUESTS_CANCELLED] = { "mboold_requests_total", "{outcome=\"cancelled\"}", NULL },
    [MBD_REQUESTS_FAILED] = { "mboold_requests_total", "{outcome=\"failed\"}", NULL },
    [MBD_REQUESTS_REFUSED] = { "mboold_requests_total", "{outcome=\"refused\"}", NULL },
    [MBD_SWAPS_OK] = { "mboold_model_swap_total", "{result=\"ok\"}",
                       "Changes of what a name of a model is." },
    [MBD_SWAPS_FAILED] = { "mboold_model_swap_total", "{result=\"failed\"}", NULL },
};

/* scale turns what is stored into the unit of the name. */
static const struct {
    struct family f;
    double scale;
} gauges[MBD_GAUGES] = {
    [MBD_REQUESTS_WAITING] = { { "mboold_requests_waiting", "Requests in the queue." }, 1 },
    [MBD_REQUESTS_RUNNING] = { { "mboold_requests_running", "Requests that hold a slot." }, 1 },
    [MBD_KV_USED_RATIO] = { { "mboold_kv_used_ratio",
                              "Used share of the KV cache's blocks, 0 to 1." },
                            1e-6 },
    [MBD_EPOCHS] = { { "mboold_epochs", "Epochs of all models that are in memory." }, 1 },
    [MBD_EPOCH_PRIVATE_BYTES] = { { "mboold_epoch_private_bytes",
                                    "Memory of the pages in which epochs differ from their "
                                    "checkpoints." },
                                  1 },
    [MBD_EPOCH_SHARED_BYTES] = { { "mboold_epoch_shared_bytes",
                                   "Size of the checkpoints that all epochs share." },
                                 1 },
    [MBD_SWAP_SECONDS] = { { "mboold_model_swap_duration_seconds",
                             "Of the last epoch that was published: from the asking to its name." },
                           1e-6 },
};

#define BOUNDS_MAX 24

/* Bounds as vLLM's, which dashboards know. A first token of a small model takes well under a
 * millisecond, hence a few below theirs. */
#define BOUNDS_FIRST                                                                          \
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, \
        5, 7.5, 10, 20, 40, 80, 160, 640
#define BOUNDS_BETWEEN                                                                     \
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, \
        0.75, 1, 2.5, 5, 10, 20, 40, 80
#define BOUNDS_REQUEST                                                                        \
    0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 60, 120, 240, 480, \
        960, 1920
#define BOUNDS_QUEUE                                                                       \
    0.001, 0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 60, 120, \
        240, 480
#define BOUNDS_STEP                                                                           \
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, \
        5, 10
#define BOUNDS_COUNT  1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024
#define BOUNDS_TOKENS 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384

static const struct {
    struct family f;
    double scale;              /* of an observation, to the unit of the bounds */
    double bounds[BOUNDS_MAX]; /* ascending; 0 ends */
} histograms[MBD_HISTOGRAMS] = {
    [MBD_TIME_TO_FIRST_TOKEN] = { { "mboold_time_to_first_token_seconds",
                                    "From submission to the first token." },
                                  1e-9,
                                  { BOUNDS_FIRST } },
    [MBD_TIME_BETWEEN_TOKENS] = { { "mboold_time_between_tokens_seconds",
                                    "Between tokens of a sequence." },
                                  1e-9,
                                  { BOUNDS_BETWEEN } },
    [MBD_REQUEST_SECONDS] = { { "mboold_request_seconds",
                                "From submission to the end of a request." },
                              1e-9,
                              { BOUNDS_REQUEST } },
    [MBD_QUEUE_SECONDS] = { { "mboold_queue_seconds", "From submission to a slot." },
                            1e-9,
                            { BOUNDS_QUEUE } },
    [MBD_STEP_SECONDS] = { { "mboold_step_seconds", "Length of a step." },
                           1e-9,
                           { BOUNDS_STEP } },
    [MBD_BATCH_SEQUENCES] = { { "mboold_batch_sequences", "Sequences in a step." },
                              1,
                              { BOUNDS_COUNT } },
    [MBD_BATCH_TOKENS] = { { "mboold_batch_tokens", "Tokens in a step." },
                           1,
                           { BOUNDS_TOKENS } },
};

/* The statuses that this daemon answers with; anything else counts as the last. */
static const int statuses[] = { 200, 204, 400, 401, 403, 404, 405, 408, 409,
                                413, 415, 429, 499, 500, 501, 503, 504, 0 };
enum { STATUSES = sizeof statuses / sizeof statuses[0] };

struct histogram {
    atomic_uint_fast64_t bucket[BOUNDS_MAX + 1]; /* each on its own, not cumulative */
    atomic_uint_fast64_t sum;                    /* as observed, before scaling */
};

struct mbd_metrics {
    atomic_uint_fast64_t counter[MBD_COUNTERS];
    atomic_uint_fast64_t gauge[MBD_GAUGES];
    struct histogram histogram[MBD_HISTOGRAMS];
    const char *route[MBD_ROUTES_MAX];
    uint64_t http[MBD_ROUTES_MAX][STATUSES];
    char isa[64];
    time_t began; /* of the process, as far as scraping is concerned */
};

enum mb_status mbd_metrics_new(struct mbd_metrics **ret, struct mb_error *err)
{
    struct mbd_metrics *m = calloc(1, sizeof *m);
    if (!m) {
        return mb_fail(err, MB_E_NOMEM, 0, "metrics: no memory");
    }
    m->began = time(NULL);
    *ret = m;
    return MB_OK;
}

void mbd_metrics_free(struct mbd_metrics *m)
{
    free(m);
}

/* ---- counting ---------------------------------------------------------------------------- */

static void bump(atomic_uint_fast64_t *place, uint64_t n)
{
    (void) atomic_fetch_add_explicit(place, n, memory_order_relaxed);
}

static uint64_t read_relaxed(const atomic_uint_fast64_t *place)
{
    return atomic_load_explicit(place, memory_order_relaxed);
}

void mbd_metrics_add(struct mbd_metrics *m, enum mbd_counter c, uint64_t n)
{
    if (m) {
        bump(&m->counter[c], n);
    }
}

void mbd_metrics_set(struct mbd_metrics *m, enum mbd_gauge g, uint64_t value)
{
    if (m) {
        atomic_store_explicit(&m->gauge[g], value, memory_order_relaxed);
    }
}

void mbd_metrics_observe(struct mbd_metrics *m, enum mbd_histogram h, uint64_t value)
{
    if (!m) {
        return;
    }
    double x = (double) value * histograms[h].scale;
    size_t i = 0;
    while (i < BOUNDS_MAX && histograms[h].bounds[i] > 0 && x > histograms[h].bounds[i]) {
        i++;
    }
    bump(&m->histogram[h].bucket[i], 1);
    bump(&m->histogram[h].sum, value);
}

void mbd_metrics_http(struct mbd_metrics *m, const char *route, int status)
{
    if (!m) {
        return;
    }
    size_t r = 0, s = 0;
    while (r < MBD_ROUTES_MAX && m->route[r] && strcmp(m->route[r], route) != 0) {
        r++;
    }
    assert(r < MBD_ROUTES_MAX);
    m->route[r] = route;
    while (s + 1 < STATUSES && statuses[s] != status) {
        s++;
    }
    m->http[r][s]++;
}

void mbd_metrics_build(struct mbd_metrics *m, const char *isa)
{
    (void) snprintf(m->isa, sizeof m->isa, "%s", isa);
}

/* ---- text -------------------------------------------------------------------------------- */

static void put_head(struct mb_bytes *ret, const char *name, const char *help, const char *type)
{
    mb_bytes_printf(ret, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_histogram(const struct mbd_metrics *m, size_t h, struct mb_bytes *ret)
{
    const char *name = histograms[h].f.name;
    const struct histogram *from = &m->histogram[h];
    put_head(ret, name, histograms[h].f.help, "histogram");
    /* The count is the sum of what was read, so that _count equals the bucket of +Inf even
     * while others observe. */
    uint64_t total = 0;
    size_t i = 0;
    for (; i < BOUNDS_MAX && histograms[h].bounds[i] > 0; i++) {
        total += read_relaxed(&from->bucket[i]);
        mb_bytes_printf(ret, "%s_bucket{le=\"%g\"} %llu\n", name, histograms[h].bounds[i],
                        (unsigned long long) total);
    }
    total += read_relaxed(&from->bucket[i]);
    mb_bytes_printf(ret, "%s_bucket{le=\"+Inf\"} %llu\n", name, (unsigned long long) total);
    mb_bytes_printf(ret, "%s_sum %.9g\n", name,
                    (double) read_relaxed(&from->sum) * histograms[h].scale);
    mb_bytes_printf(ret, "%s_count %llu\n", name, (unsigned long long) total);
}

static void put_http(const struct mbd_metrics *m, struct mb_bytes *ret)
{
    static const char name[] = "mboold_http_requests_total";
    put_head(ret, name, "Answers by route and status.", "counter");
    for (size_t r = 0; r < MBD_ROUTES_MAX && m->route[r]; r++) {
        for (size_t s = 0; s < STATUSES; s++) {
            if (m->http[r][s] == 0) {
                continue;
            }
            char code[16] = "other";
            if (statuses[s] != 0) {
                (void) snprintf(code, sizeof code, "%d", statuses[s]);
            }
            mb_bytes_printf(ret, "%s{route=\"%s\",code=\"%s\"} %llu\n", name, m->route[r], code,
                            (unsigned long long) m->http[r][s]);
        }
    }
}

/* Fields 14 and 15 of /proc/self/stat: user and system time in ticks. The second field is the
 * program's name in parentheses, which may hold anything. */
static double cpu_seconds(void)
{
    char text[1024];
    FILE *f = fopen("/proc/self/stat", "re");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) {
        (void) fclose(f);
    }
    text[n] = '\0';
    const char *after = strrchr(text, ')');
    unsigned long long user = 0, system = 0;
    if (!after || sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
                         &user, &system) != 2) {
        return 0;
    }
    return (double) (user + system) / (double) sysconf(_SC_CLK_TCK);
}

static uint64_t resident_bytes(void)
{
    unsigned long long whole = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f) {
        if (fscanf(f, "%llu %llu", &whole, &resident) != 2) {
            resident = 0;
        }
        (void) fclose(f);
    }
    return resident * (uint64_t) sysconf(_SC_PAGESIZE);
}

/* Without the one that counts them. */
static uint64_t open_descriptors(void)
{
    uint64_t n = 0;
    DIR *d = opendir("/proc/self/fd");
    if (!d) {
        return 0;
    }
    for (const struct dirent *e; (e = readdir(d));) {
        n += e->d_name[0] != '.';
    }
    (void) closedir(d);
    return n - 1;
}

static void put_process(const struct mbd_metrics *m, struct mb_bytes *ret)
{
    struct rlimit files = { 0 };
    (void) getrlimit(RLIMIT_NOFILE, &files);
    put_head(ret, "process_start_time_seconds", "Start, in seconds since 1970.", "gauge");
    mb_bytes_printf(ret, "process_start_time_seconds %lld\n", (long long) m->began);

    put_head(ret, "process_cpu_seconds_total", "User and system time.", "counter");
    mb_bytes_printf(ret, "process_cpu_seconds_total %.2f\n", cpu_seconds());
    put_head(ret, "process_resident_memory_bytes", "Resident memory.", "gauge");
    mb_bytes_printf(ret, "process_resident_memory_bytes %llu\n",
                    (unsigned long long) resident_bytes());
    put_head(ret, "process_open_fds", "Open descriptors.", "gauge");
    mb_bytes_printf(ret, "process_open_fds %llu\n", (unsigned long long) open_descriptors());
    put_head(ret, "process_max_fds", "Descriptors that may be open.", "gauge");
    mb_bytes_printf(ret, "process_max_fds %llu\n", (unsigned long long) files.rlim_cur);
}

void mbd_metrics_text(const struct mbd_metrics *m, struct mb_bytes *ret)
{
    for (size_t i = 0; i < MBD_COUNTERS; i++) {
        if (counters[i].help) {
            put_head(ret, counters[i].name, counters[i].help, "counter");
        }
        mb_bytes_printf(ret, "%s%s %llu\n", counters[i].name, counters[i].labels,
                        (unsigned long long) read_relaxed(&m->counter[i]));
    }
    for (size_t i = 0; i < MBD_GAUGES; i++) {
        put_head(ret, gauges[i].f.name, gauges[i].f.help, "gauge");
        mb_bytes_printf(ret, "%s %.9g\n", gauges[i].f.name,
                        (double) read_relaxed(&m->gauge[i]) * gauges[i].scale);
    }
    for (size_t i = 0; i < MBD_HISTOGRAMS; i++) {
        put_histogram(m, i, ret);
    }
    put_http(m, ret);
    put_head(ret, "mboold_build_info", "1; its labels say what is running.", "gauge");
    mb_bytes_printf(ret, "mboold_build_info{version=\"%s\",isa=\"%s\"} 1\n", MB_VERSION,
                    m->isa);
    put_process(m, ret);
}
