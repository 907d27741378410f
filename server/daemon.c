#include "server/daemon.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/base/parallel.h"
#include "core/kernels/kernels.h"
#include "proto/json/completion_json.h"
#include "server/access/keyring.h"
#include "server/clock.h"
#include "server/engine/limits.h"
#include "server/http/listener.h"
#include "server/http/routes/completions.h"
#include "server/http/routes/embeddings.h"
#include "server/http/tls.h"
#include "server/jobs/jobs.h"
#include "server/store/store.h"

enum {
    DRAIN_LOOK_MS = 20,     /* between looks at whether a drain is over */
    CANCEL_GRACE_MS = 2000, /* for cancelled requests to end, and what is written to leave */
    DESCRIPTORS_OWN = 64,   /* beside connections: files, epoll, events, pipes */
};

struct daemon {
    const struct mbd_options *options;
    struct mbd_log log;
    struct mbd_service service;
    struct mbd_wake *wake;               /* of the loop, by the engines */
    struct mbd_signal *signals[3];       /* of leaving, and of reading anew */
    struct mbd_timer *look;              /* while draining */
    struct mbd_listener *listener, *ops; /* ops NULL: there is no --ops-listen */
    struct mb_kernels kernels;
    uint32_t threads;
    bool pin;
    uint64_t drain_end_ns; /* when what still runs is cancelled */
    bool cancelled;
};

/* ---- leaving ----------------------------------------------------------------------------- */

static uint64_t ms_to_ns(uint64_t ms)
{
    return ms * (MBD_SECOND_NS / 1000);
}

static void on_look(void *arg)
{
    struct daemon *d = arg;
    uint64_t now = mbd_now_ns();
    size_t running = mbd_completions_count(d->service.completions) +
                     mbd_embeddings_count(d->service.embeddings);
    if (running == 0 && mbd_listener_exchanges(d->listener) == 0 &&
        (!d->service.jobs || mbd_jobs_trainers(d->service.jobs) == 0)) {
        mbd_loop_stop(d->service.loop);
    } else if (!d->cancelled && now >= d->drain_end_ns) {
        mbd_log_message(&d->log, MBD_LOG_WARN, "drain",
                        "time is up: %zu requests are cancelled", running);
        mbd_completions_cancel(d->service.completions);
        mbd_embeddings_cancel(d->service.embeddings);
        d->cancelled = true;
    } else if (d->cancelled && now >= d->drain_end_ns + ms_to_ns(CANCEL_GRACE_MS)) {
        mbd_loop_stop(d->service.loop);
    }
}

static void on_signal(void *arg, int signal)
{
    struct daemon *d = arg;
    if (d->service.draining) {
        mbd_log_message(&d->log, MBD_LOG_WARN, "drain", "a second signal: leaving at once");
        _exit(1);
    }
    mbd_log_message(&d->log, MBD_LOG_INFO, "drain", "%s: %zu requests may end, for %u ms",
                    strsignal(signal), mbd_completions_count(d->service.completions),
                    d->options->drain_timeout_ms);
    d->service.draining = true;
    d->drain_end_ns = mbd_now_ns() + ms_to_ns(d->options->drain_timeout_ms);
    mbd_registry_drain(d->service.registry);
    if (d->service.jobs) {
        mbd_jobs_drain(d->service.jobs);
    }
    mbd_timer_start(d->look, 0, DRAIN_LOOK_MS);
}

/* ---- reading anew -------------------------------------------------------------------------- */

static void reload_tls(struct daemon *d)
{
    struct mb_error err;
    if (mbd_tls_reload(d->service.tls, &d->log, &err) != MB_OK) {
        mbd_log_message(&d->log, MBD_LOG_ERROR, "reload",
                        "%s; the certificate is that of before", err.what);
    } else {
        mbd_log_message(&d->log, MBD_LOG_INFO, "reload", "the certificate");
    }
}

/* What can not be read leaves everything as it was: nobody is locked out by half a file. */
static void on_reload(void *arg, int signal)
{
    struct daemon *d = arg;
    struct mb_error err;
    (void) signal;
    if (d->service.tls) {
        reload_tls(d);
    }
    if (d->service.keys && mbd_keyring_reload(d->service.keys, &err) != MB_OK) {
        mbd_log_message(&d->log, MBD_LOG_ERROR, "reload",
                        "%s; the keys are those of before, %zu", err.what,
                        mbd_keyring_count(d->service.keys));
    } else if (d->service.keys) {
        mbd_log_message(&d->log, MBD_LOG_INFO, "reload", "%zu keys",
                        mbd_keyring_count(d->service.keys));
    }
}

/* ---- starting ---------------------------------------------------------------------------- */

/* Those that this process may run on. */
static uint32_t processors(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < 1 ? 1 : (uint32_t) n;
}

static uint32_t at_most(uint32_t n, uint32_t max)
{
    return n < max ? n : max;
}

/* Every connection is a descriptor. */
static enum mb_status allow_descriptors(const struct mbd_options *o, struct mb_error *err)
{
    struct rlimit limit;
    rlim_t need = (rlim_t) o->connections + DESCRIPTORS_OWN;
    need += o->ops_listen.host[0] ? MBD_OPS_CONNECTIONS : 0;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return mb_fail(err, MB_E_IO, errno, "connections: getrlimit");
    }
    if (limit.rlim_cur >= need) {
        return MB_OK;
    }
    limit.rlim_cur = need;
    if (limit.rlim_max < need || setrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return mb_fail(
            err, MB_E_INVALID, 0,
            "--connections: %u needs %llu descriptors, and this process may have %llu "
            "(ulimit -n)",
            o->connections, (unsigned long long) need, (unsigned long long) limit.rlim_max);
    }
    return MB_OK;
}

static enum mb_status open_models(struct daemon *d, struct mb_error *err)
{
    mb_cpu_flags cpu;
    enum mb_status st = mb_cpu_narrow(d->options->isa, mb_cpu_detect(), &cpu, err);
    if (st != MB_OK) {
        return st;
    }
    mb_kernels_select(&d->kernels, cpu);
    struct mbd_registry_options o = {
        .weights = (enum mbd_weights_kind) d->options->weights,
        .epochs_max = d->options->epochs_max,
        .log = &d->log,
        .metrics = d->service.metrics,
    };
    st = mbd_registry_new(&o, &d->service.registry, err);
    for (size_t i = 0; st == MB_OK && i < d->options->n_models; i++) {
        st = mbd_registry_add(d->service.registry, &d->options->models[i], err);
    }
    for (size_t i = 0; st == MB_OK && i < d->options->n_epochs; i++) {
        st = mbd_registry_add_epoch(d->service.registry, &d->options->epochs[i], err);
    }
    return st;
}

static void on_wake(void *arg)
{
    struct daemon *d = arg;
    if (d->service.completions) {
        mbd_completions_pump(d->service.completions);
    }
    if (d->service.embeddings) {
        mbd_embeddings_pump(d->service.embeddings);
    }
    mbd_registry_pump(d->service.registry); /* after those that end let their epochs go */
}

/* From an engine's thread. */
static void wake(void *arg)
{
    mbd_wake_send(arg);
}

static struct mbd_engine_options engine_options(const struct daemon *d)
{
    const struct mbd_options *o = d->options;
    return (struct mbd_engine_options) {
        .threads = d->threads,
        .pin = d->pin,
        .kernels = &d->kernels,
        .sequences_max = o->sequences_max,
        .step_tokens_max = o->step_tokens,
        .step_time_ms = o->step_time_ms,
        .kv_bytes = o->kv_memory,
        .context_max = o->context,
        .prefix_cache = o->prefix_cache,
        .queue_requests_max = o->queue_requests,
        .queue_tokens_max = o->queue_tokens,
        .metrics = d->service.metrics,
        .wake = wake,
        .wake_arg = d->wake,
    };
}

static enum mb_status start_engines(struct daemon *d, struct mb_error *err)
{
    struct mbd_engine_options e = engine_options(d);
    return mbd_registry_start(d->service.registry, &e, err);
}

static enum mb_status start_loop(struct daemon *d, struct mb_error *err)
{
    static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
    static mbd_signal_fn *const handlers[] = { on_signal, on_signal, on_reload };
    struct mbd_loop *loop = NULL;
    enum mb_status st = mbd_loop_new(&loop, err);
    if (st != MB_OK) {
        return st;
    }
    d->service.loop = loop;
    st = mbd_wake_new(loop, on_wake, d, &d->wake, err);
    for (size_t i = 0; st == MB_OK && i < 3; i++) {
        st = mbd_signal_new(loop, signals[i], handlers[i], d, &d->signals[i], err);
    }
    if (st == MB_OK) {
        st = mbd_timer_new(loop, on_look, d, &d->look, err);
    }
    return st;
}

static enum mb_status start_listeners(struct daemon *d, struct mb_error *err)
{
    bool ops = d->options->ops_listen.host[0];
    enum mb_status st = mbd_listener_new(&d->service, ops ? MBD_LISTEN_WORK : MBD_LISTEN_ALL,
                                         &d->listener, err);
    if (st == MB_OK && ops) {
        st = mbd_listener_new(&d->service, MBD_LISTEN_OPS, &d->ops, err);
    }
    return st;
}

static enum mb_status open_jobs(struct daemon *d, struct mb_error *err)
{
    enum mb_status st = mbd_store_open(d->options->state_dir, &d->service.store, err);
    if (st == MB_OK) {
        st = mbd_jobs_new(&d->service, &d->service.jobs, err);
    }
    return st == MB_OK ? mbd_jobs_restore(d->service.jobs, err) : st;
}

static enum mb_status open_keys(struct daemon *d, struct mb_error *err)
{
    if (d->options->keys) {
        return mbd_keyring_new(d->options->keys, &d->service.keys, err);
    }
    if (!mbd_address_is_loopback(&d->options->listen)) {
        mbd_log_message(&d->log, MBD_LOG_WARN, "start",
                        "--insecure: whoever can reach %s may use this server",
                        d->options->listen.host);
    }
    return MB_OK;
}

static enum mb_status open_tls(struct daemon *d, struct mb_error *err)
{
    const struct mbd_options *o = d->options;
    return o->tls_cert ? mbd_tls_new(o->tls_cert, o->tls_key, &d->log, &d->service.tls, err)
                       : MB_OK;
}

static enum mb_status start(struct daemon *d, struct mb_error *err)
{
    enum mb_status st = allow_descriptors(d->options, err);
    if (st == MB_OK) {
        st = open_keys(d, err);
    }
    if (st == MB_OK) {
        st = open_tls(d, err);
    }
    if (st == MB_OK) {
        st = mbd_metrics_new(&d->service.metrics, err);
    }
    if (st == MB_OK) {
        st = open_models(d, err);
    }
    if (st == MB_OK) {
        d->service.isa = d->kernels.name;
        mbd_metrics_build(d->service.metrics, d->kernels.name);
        st = start_loop(d, err);
    }
    if (st == MB_OK) {
        st = mbd_completions_new(&d->service, &d->service.completions, err);
    }
    if (st == MB_OK) {
        st = mbd_embeddings_new(&d->service, &d->service.embeddings, err);
    }
    if (st == MB_OK && d->options->state_dir) {
        st = open_jobs(d, err);
    }
    if (st == MB_OK) {
        st = start_engines(d, err);
    }
    if (st == MB_OK && d->service.jobs) {
        st = mbd_jobs_start(d->service.jobs, err);
    }
    return st == MB_OK ? start_listeners(d, err) : st;
}

/* In reverse; whatever part of it was built. */
static void stop(struct daemon *d)
{
    struct mbd_service *s = &d->service;
    if (d->look) {
        mbd_timer_stop(d->look);
    }
    mbd_listener_free(d->ops);
    mbd_listener_free(d->listener);
    if (s->registry) {
        mbd_registry_stop(s->registry); /* ends every request, */
    }
    mbd_jobs_free(s->jobs);
    while (s->n_works > 0) { /* their clients are gone; the thread may still be at one */
        mbd_loop_turn(s->loop);
    }
    mbd_embeddings_free(s->embeddings);
    mbd_completions_free(s->completions); /* which lets them go, */
    mbd_registry_free(s->registry);       /* and what they borrowed after them */
    mbd_timer_free(d->look);
    for (size_t i = 0; i < 3; i++) {
        mbd_signal_free(d->signals[i]);
    }
    mbd_wake_free(d->wake);
    mbd_store_close(s->store);
    mbd_loop_free(s->loop);
    mbd_metrics_free(s->metrics);
    mbd_keyring_free(s->keys);
    mbd_tls_free(s->tls);
}

static void print_url(const struct mbd_address *a, const struct mbd_listener *l, bool tls)
{
    bool six = strchr(a->host, ':') != NULL;
    printf("http%s://%s%s%s:%u", tls ? "s" : "", six ? "[" : "", a->host, six ? "]" : "",
           (unsigned) mbd_listener_port(l));
}

static void say_listening(const struct daemon *d)
{
    const struct mbd_address *a = &d->options->listen;
    printf("mboold %s listening on ", MB_VERSION);
    print_url(a, d->listener, d->service.tls != NULL);
    printf(", ");
    for (size_t i = 0; i < d->options->n_models; i++) {
        printf("%s%s", i == 0 ? "model " : " ", d->options->models[i].name);
    }
    printf(", %s, %u threads", d->kernels.name, d->threads);
    if (d->ops) {
        printf(", operations on ");
        print_url(&d->options->ops_listen, d->ops, false);
    }
    printf("\n");
    (void) fflush(stdout);
}

static void daemon_init(struct daemon *d, const struct mbd_options *o)
{
    *d = (struct daemon) { .options = o };
    d->log = (struct mbd_log) { .level = (enum mbd_log_level) o->log_level,
                                .format = (enum mbd_log_format) o->log_format,
                                .fd = STDERR_FILENO };
    uint32_t allowed = processors(), mine = mbd_processor_limit(allowed);
    d->threads = o->threads ? o->threads : at_most(mine, MB_THREADS_MAX);
    /* With a quota of less than the processors it sees, a daemon shares them with others of its
     * kind, which would all keep to the same first ones. */
    d->pin = o->pin && mine == allowed;
    d->service = (struct mbd_service) { .options = o, .log = &d->log, .threads = d->threads };
}

enum mb_status mbd_daemon_run(const struct mbd_options *o, struct mb_error *err)
{
    struct daemon d;
    daemon_init(&d, o);
    mb_json_init();
    (void) signal(SIGXFSZ, SIG_IGN); /* a file at its limit is one, too (ulimit -f) */
    (void) signal(SIGPIPE, SIG_IGN); /* a client that left is an error of write, not our end */
    enum mb_status st = start(&d, err);
    if (st == MB_OK) {
        say_listening(&d);
        mbd_loop_run(d.service.loop);
        mbd_log_message(&d.log, MBD_LOG_INFO, "drain", "done");
    }
    stop(&d);
    return st;
}

enum mb_status mbd_daemon_check(const struct mbd_options *o, struct mb_error *err)
{
    struct daemon d;
    daemon_init(&d, o);
    enum mb_status st = allow_descriptors(o, err);
    if (st == MB_OK) {
        st = open_keys(&d, err);
    }
    if (st == MB_OK) {
        st = open_tls(&d, err);
    }
    if (st == MB_OK) {
        st = open_models(&d, err);
    }
    if (st == MB_OK) {
        struct mbd_engine_options e = engine_options(&d);
        st = mbd_registry_check(d.service.registry, &e, err);
    }
    mbd_registry_free(d.service.registry);
    mbd_keyring_free(d.service.keys);
    mbd_tls_free(d.service.tls);
    return st;
}
