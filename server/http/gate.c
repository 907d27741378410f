#include "server/http/gate.h"

#include <string.h>
#include <strings.h>

/* ---- keys -------------------------------------------------------------------------------- */

struct credentials {
    unsigned n;
    const char *first;
};

static enum MHD_Result see_authorization(void *cls, enum MHD_ValueKind kind, const char *name,
                                         const char *value)
{
    struct credentials *c = cls;
    (void) kind;
    if (strcasecmp(name, "Authorization") == 0) {
        c->first = c->n == 0 ? value : c->first;
        c->n++;
    }
    return MHD_YES;
}

/* The token of "Bearer token", *ret_n bytes; NULL when it is something else. */
static const char *bearer(const char *value, size_t *ret_n)
{
    static const char scheme[] = "Bearer";
    size_t n = sizeof scheme - 1;
    if (!value || strncasecmp(value, scheme, n) != 0 || (value[n] != ' ' && value[n] != '\t')) {
        return NULL;
    }
    const char *token = value + n + strspn(value + n, " \t");
    *ret_n = strcspn(token, " \t");
    return *ret_n > 0 && token[*ret_n + strspn(token + *ret_n, " \t")] == '\0' ? token : NULL;
}

static bool refuse(struct mbd_gate_refusal *ret, int http, const char *code,
                   const char *authenticate, const char *what)
{
    mb_wire_error_fill(&ret->error, http, code, NULL, "%s", what);
    ret->authenticate = authenticate;
    return false;
}

bool mbd_gate_key(struct MHD_Connection *mhd, const struct mbd_keyring *keys,
                  const struct mbd_route *route, bool open, struct mbd_key **ret_key,
                  struct mbd_gate_refusal *ret)
{
    *ret_key = NULL;
    if (!keys || open || route->scopes == MBD_SCOPE_OPEN) {
        return true;
    }
    struct credentials c = { 0 };
    (void) MHD_get_connection_values(mhd, MHD_HEADER_KIND, see_authorization, &c);
    size_t n = 0;
    const char *token = bearer(c.first, &n);
    if (c.n > 1) { /* a proxy before us may have judged the other one (RFC 9110, 5.3) */
        return refuse(ret, 400, NULL, NULL, "the header has more than one Authorization");
    }
    if (!token) {
        return refuse(ret, 401, "invalid_api_key", "Bearer realm=\"mboold\"",
                      "this needs an API key, in the header Authorization: Bearer KEY");
    }
    struct mbd_key *k = mbd_keyring_find(keys, token, n);
    if (!k) {
        return refuse(ret, 401, "invalid_api_key",
                      "Bearer realm=\"mboold\", error=\"invalid_token\"",
                      "this is no API key of this server");
    }
    if ((k->scopes & route->scopes) == 0) {
        return refuse(ret, 403, "insufficient_scope",
                      "Bearer realm=\"mboold\", error=\"insufficient_scope\"",
                      "this API key does not have the scope that this needs");
    }
    *ret_key = k;
    return true;
}
