/* GET /v1/models and /v1/models/{id}. */
#include <stdlib.h>

#include "proto/json/models_json.h"
#include "server/http/exchange.h"
#include "server/http/router.h"
#include "server/http/routes/find_model.h"

const struct mbd_entry *mbd_find_model(const struct mbd_service *s, const char *name,
                                       struct mb_wire_error *err)
{
    const struct mbd_entry *e = mbd_registry_find(s->registry, name);
    if (!e && name) {
        mb_wire_error_fill(err, 404, "model_not_found", "model",
                           "there is no model '%s' here; GET /v1/models lists them", name);
    } else if (!e) {
        mb_wire_error_fill(err, 400, NULL, "model", "'model' is required: there are several");
    }
    return e;
}

static struct mb_model_card card_of(const struct mbd_entry *e)
{
    return (struct mb_model_card) { .id = e->name,
                                    .created = e->since,
                                    .context_max = e->base->context_max,
                                    .fingerprint = e->epoch->fingerprint };
}

void mbd_route_models(struct mbd_exchange *x)
{
    const struct mbd_registry *r = mbd_exchange_service(x)->registry;
    struct mb_model_card cards[MBD_NAMES_MAX];
    size_t n = mbd_registry_count(r);
    for (size_t i = 0; i < n; i++) {
        cards[i] = card_of(mbd_registry_at(r, i));
    }
    mbd_reply_json(x, 200, mb_model_list_encode(cards, n));
}

void mbd_route_model(struct mbd_exchange *x)
{
    const char *name = mbd_exchange_tail(x);
    const struct mbd_entry *e = mbd_registry_find(mbd_exchange_service(x)->registry, name);
    if (!e) {
        struct mb_wire_error w;
        mb_wire_error_fill(&w, 404, "model_not_found", "model",
                           "there is no model '%.128s' here", name);
        mbd_reply_error(x, &w, 0);
        return;
    }
    struct mb_model_card card = card_of(e);
    mbd_reply_json(x, 200, mb_model_card_encode(&card));
}
