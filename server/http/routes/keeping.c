#include "server/http/routes/keeping.h"

#include <stdlib.h>
#include <string.h>

enum { RETRY_S = 5 };

bool mbd_keeps(struct mbd_exchange *x)
{
    struct mb_wire_error e;
    if (mbd_exchange_service(x)->store) {
        return true;
    }
    mb_wire_error_fill(&e, 501, "unsupported", NULL, MBD_NO_STATE);
    mbd_reply_error(x, &e, 0);
    return false;
}

void mbd_reply_store_error(struct mbd_exchange *x, const struct mb_error *why,
                           const char *not_found_code)
{
    struct mb_wire_error e;
    unsigned retry_after = 0;
    if (why->code == MB_E_NOTFOUND) {
        mb_wire_error_fill(&e, 404, not_found_code, NULL, "%s", why->what);
    } else {
        /* Where the state is, is the operator's business. */
        mbd_log_message(mbd_exchange_service(x)->log, MBD_LOG_ERROR, "state", "%s", why->what);
        mb_wire_error_fill(&e, 503, "storage_full", NULL,
                           "the server can not read or write its state just now");
        retry_after = RETRY_S;
    }
    mbd_reply_error(x, &e, retry_after);
}

void mbd_reply_page_error(struct mbd_exchange *x, const struct mb_error *why)
{
    struct mb_wire_error e;
    if (why->code != MB_E_NOTFOUND) {
        mbd_reply_store_error(x, why, NULL);
        return;
    }
    mb_wire_error_fill(&e, 400, NULL, "after", "'after' is no id of this list");
    mbd_reply_error(x, &e, 0);
}

static bool refuse(struct mbd_exchange *x, const char *name, const char *what)
{
    struct mb_wire_error e;
    mb_wire_error_fill(&e, 400, NULL, name, "'%s' %s", name, what);
    mbd_reply_error(x, &e, 0);
    return false;
}

bool mbd_take_page(struct mbd_exchange *x, uint32_t limit, uint32_t max, struct mbd_page *ret)
{
    const char *asked = mbd_exchange_query(x, "limit"), *order = mbd_exchange_query(x, "order");
    *ret = (struct mbd_page) { .after = mbd_exchange_query(x, "after"), .limit = limit };
    if (asked) {
        char *end = NULL;
        unsigned long n = strtoul(asked, &end, 10);
        if (asked[0] < '0' || asked[0] > '9' || *end || n < 1 || n > max) {
            struct mb_wire_error e;
            mb_wire_error_fill(&e, 400, NULL, "limit", "'limit' must be an integer in 1..%u",
                               max);
            mbd_reply_error(x, &e, 0);
            return false;
        }
        ret->limit = (uint32_t) n;
    }
    if (order && strcmp(order, "asc") != 0 && strcmp(order, "desc") != 0) {
        return refuse(x, "order", "must be asc or desc");
    }
    ret->ascending = order && strcmp(order, "asc") == 0;
    return true;
}
