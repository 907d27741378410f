/* GET /healthz, /readyz and /metrics: what platforms ask, and what they are told is true. */
#include "server/clock.h"
#include "server/http/exchange.h"
#include "server/http/router.h"
#include "server/jobs/jobs.h"

static bool alive(const struct mbd_service *s)
{
    uint64_t ns = (uint64_t) s->options->heartbeat_timeout_ms * (MBD_SECOND_NS / 1000);
    return mbd_registry_alive(s->registry, ns);
}

/* why NULL: all is well. */
static void reply_probe(struct mbd_exchange *x, const char *why)
{
    struct mb_bytes text = { 0 };
    mb_bytes_printf(&text, "%s\n", why ? why : "ok");
    mbd_reply_bytes(x, why ? 503 : 200, "text/plain; charset=utf-8", &text);
}

/* Alive: every engine went round its loop lately. A daemon that answers is not enough. */
void mbd_route_healthz(struct mbd_exchange *x)
{
    reply_probe(x, alive(mbd_exchange_service(x)) ? NULL : "an engine does not move");
}

/* Ready: a request sent now would be taken. */
void mbd_route_readyz(struct mbd_exchange *x)
{
    const struct mbd_service *s = mbd_exchange_service(x);
    const char *why = s->draining                            ? "draining"
                      : mbd_registry_count(s->registry) == 0 ? "no model"
                      : !alive(s)                            ? "an engine does not move"
                                                             : NULL;
    reply_probe(x, why);
}

void mbd_route_metrics(struct mbd_exchange *x)
{
    struct mb_bytes text = { 0 };
    const struct mbd_service *s = mbd_exchange_service(x);
    mbd_metrics_text(s->metrics, &text);
    if (s->jobs) {
        mbd_jobs_metrics(s->jobs, &text);
    }
    mbd_reply_bytes(x, 200, "text/plain; version=0.0.4; charset=utf-8", &text);
}
