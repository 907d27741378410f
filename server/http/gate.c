#include "server/http/gate.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "server/clock.h"
#include "server/http/limits.h"

static bool refuse(struct mbd_gate_refusal *ret, int http, const char *code,
                   const char *authenticate, const char *what)
{
    mb_wire_error_fill(&ret->error, http, code, NULL, "%s", what);
    ret->authenticate = authenticate;
    return false;
}

static const char *header(struct MHD_Connection *mhd, const char *name)
{
    return MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, name);
}

/* Is text, n bytes, in the list, without regard to case? */
static bool is_listed(const char *list, const char *text, size_t n)
{
    while (list && *list) {
        size_t k = strcspn(list, ",");
        if ((k == 1 && *list == '*') || (k == n && strncasecmp(list, text, n) == 0)) {
            return true;
        }
        list += k + (list[k] == ',');
    }
    return false;
}

/* ---- hosts ------------------------------------------------------------------------------- */

/* "1.2.3.4" or "[::1]": nobody's name leads there. */
static bool is_number(const char *host, size_t n)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr scratch;
    bool six = n > 2 && host[0] == '[' && host[n - 1] == ']';
    size_t k = six ? n - 2 : n;
    if (k >= sizeof text) {
        return false;
    }
    memcpy(text, host + six, k);
    text[k] = '\0';
    return inet_pton(six ? AF_INET6 : AF_INET, text, &scratch) == 1;
}

/* Of "host", "host:8080", "[::1]:8080": the length of the host. */
static size_t host_length(const char *host)
{
    return host[0] == '[' ? strcspn(host, "]") + (strchr(host, ']') != NULL)
                          : strcspn(host, ":");
}

bool mbd_gate_host(struct MHD_Connection *mhd, const struct mbd_options *o, bool loopback,
                   struct mbd_gate_refusal *ret)
{
    static const char localhost[] = "localhost";
    const char *host = header(mhd, "Host");
    if (!host || (!o->hosts && !loopback)) { /* none: HTTP/1.0, which no browser speaks */
        return true;
    }
    size_t n = host_length(host);
    if (is_number(host, n) || is_listed(localhost, host, n) || is_listed(o->hosts, host, n)) {
        return true;
    }
    return refuse(ret, 403, "host_not_allowed", NULL,
                  "this server is not asked by this name (the header Host; --host)");
}

/* ---- origins ----------------------------------------------------------------------------- */

/* Is it a page of this very server, as seen from there? */
static bool is_own(const char *origin, const char *host)
{
    const char *at = strstr(origin, "://");
    return at && host && strcasecmp(at + 3, host) == 0;
}

bool mbd_gate_origin(struct MHD_Connection *mhd, const struct mbd_options *o,
                     const char **ret_origin, struct mbd_gate_refusal *ret)
{
    const char *origin = header(mhd, "Origin");
    *ret_origin = NULL;
    if (!origin) {
        return true;
    }
    if (is_listed(o->cors_origins, origin, strlen(origin))) {
        *ret_origin = strcmp(o->cors_origins, "*") == 0 ? "*" : origin;
        return true;
    }
    return is_own(origin, header(mhd, "Host")) ||
           refuse(ret, 403, "origin_not_allowed", NULL,
                  "pages of this origin may not ask here (--cors-origin)");
}

/* Names of headers, with commas and spaces between: nothing that could end a line. */
static bool are_names(const char *text)
{
    enum { NAMES_MAX = 1024 };
    size_t n = 0;
    for (; text[n]; n++) {
        if (!isalnum((unsigned char) text[n]) && !strchr("-_, ", text[n])) {
            return false;
        }
    }
    return n > 0 && n <= NAMES_MAX;
}

void mbd_gate_let_read(struct MHD_Connection *mhd, struct MHD_Response *response,
                       const char *origin, const char *preflight)
{
    (void) MHD_add_response_header(response, "Access-Control-Allow-Origin", origin);
    if (strcmp(origin, "*") != 0) {
        (void) MHD_add_response_header(response, "Vary", "Origin");
    }
    if (!preflight) {
        (void) MHD_add_response_header(response, "Access-Control-Expose-Headers",
                                       "X-Request-Id, Retry-After, WWW-Authenticate, "
                                       "x-ratelimit-limit-requests, "
                                       "x-ratelimit-remaining-requests, "
                                       "x-ratelimit-reset-requests, "
                                       "x-ratelimit-limit-tokens, "
                                       "x-ratelimit-remaining-tokens, "
                                       "x-ratelimit-reset-tokens");
        return;
    }
    /* Clients of OpenAI's send headers of their own, which nothing here reads. */
    const char *names = header(mhd, "Access-Control-Request-Headers");
    (void) MHD_add_response_header(response, "Access-Control-Allow-Headers",
                                   names && are_names(names) ? names
                                                             : "Authorization, Content-Type");
    (void) MHD_add_response_header(response, "Access-Control-Allow-Methods", preflight);
    (void) MHD_add_response_header(response, "Access-Control-Max-Age", "600");
}

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

/* ---- limits ------------------------------------------------------------------------------ */

void mbd_limit_refuse(enum mbd_limit limit, const struct mbd_key *k, uint64_t retry_ns,
                      struct mb_wire_error *ret, unsigned *ret_retry_after)
{
    static const char code[] = "rate_limit_exceeded";
    *ret_retry_after = (unsigned) ((retry_ns + MBD_SECOND_NS - 1) / MBD_SECOND_NS);
    if (limit == MBD_LIMIT_CONCURRENT) {
        mb_wire_error_fill(ret, 429, code, NULL, "this API key may have %u requests at once",
                           (unsigned) k->limits.concurrent);
    } else if (limit == MBD_LIMIT_REQUESTS) {
        mb_wire_error_fill(ret, 429, code, NULL, "this API key may make %u requests a minute",
                           (unsigned) k->limits.requests_per_minute);
    } else {
        mb_wire_error_fill(ret, 429, code, NULL, "this API key may use %llu tokens a minute",
                           (unsigned long long) k->limits.tokens_per_minute);
    }
}

bool mbd_gate_begin(struct mbd_key *k, struct mbd_gate_refusal *ret)
{
    uint64_t retry_ns = 0;
    enum mbd_limit limit = mbd_key_begin(k, mbd_now_ns(), &retry_ns);
    if (limit == MBD_LIMIT_NONE) {
        return true;
    }
    *ret = (struct mbd_gate_refusal) { 0 };
    mbd_limit_refuse(limit, k, retry_ns, &ret->error, &ret->retry_after);
    return false;
}

static void show(struct MHD_Response *response, const char *what, struct mbd_limit_state s)
{
    char name[64], value[MBD_DURATION_TEXT];
    if (s.limit == 0) {
        return;
    }
    (void) snprintf(name, sizeof name, "x-ratelimit-limit-%s", what);
    (void) snprintf(value, sizeof value, "%llu", (unsigned long long) s.limit);
    (void) MHD_add_response_header(response, name, value);
    (void) snprintf(name, sizeof name, "x-ratelimit-remaining-%s", what);
    (void) snprintf(value, sizeof value, "%llu", (unsigned long long) s.remaining);
    (void) MHD_add_response_header(response, name, value);
    (void) snprintf(name, sizeof name, "x-ratelimit-reset-%s", what);
    mbd_duration_text(s.reset_ns, value);
    (void) MHD_add_response_header(response, name, value);
}

void mbd_gate_show_limits(struct MHD_Response *response, const struct mbd_key *k)
{
    uint64_t now = mbd_now_ns();
    show(response, "requests", mbd_key_requests(k, now));
    show(response, "tokens", mbd_key_tokens(k, now));
}
