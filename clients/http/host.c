#include "clients/http/host.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Printable ASCII without spaces: neither can break out of a line of a header. */
static bool is_plain(const char *text)
{
    for (; *text; text++) {
        if (!isgraph((unsigned char) *text)) {
            return false;
        }
    }
    return true;
}

/* Digits up to 65535. */
static bool is_port(const char *text, size_t n)
{
    unsigned v = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isdigit((unsigned char) text[i]) || i >= 5) {
            return false;
        }
        v = v * 10 + (unsigned) (text[i] - '0');
    }
    return n > 0 && v > 0 && v <= 65535;
}

/* The colon before the port in n bytes of "host:port", or NULL: those in brackets are of an
 * address of IPv6. */
static const char *find_port(const char *at, size_t n)
{
    for (size_t i = n; i > 0 && at[i - 1] != ']'; i--) {
        if (at[i - 1] == ':') {
            return at + i - 1;
        }
    }
    return NULL;
}

static enum mb_status refuse(const char *text, const char *why, struct mb_error *err)
{
    return mb_fail(err, MB_E_INVALID, 0,
                   "'%.60s' is no host: %s; it is HOST, HOST:PORT, or a URL", text, why);
}

enum mb_status mbc_host_parse(const char *text, const char *key, struct mbc_host *ret,
                              struct mb_error *err)
{
    struct mbc_host h = { 0 };
    text = text && *text ? text : MBC_HOST_DEFAULT;
    key = key ? key : "";
    if (!is_plain(key) || strlen(key) >= sizeof h.key) {
        return mb_fail(err, MB_E_INVALID, 0,
                       "the API key is not of 1 to %zu printable characters", sizeof h.key - 1);
    }
    if (!is_plain(text) || strlen(text) + sizeof "http://127.0.0.1:8080" > sizeof h.url) {
        return refuse(text, "it is too long, or holds spaces", err);
    }
    const char *end = strstr(text, "://");
    bool secure = end && strncmp(text, "https://", 8) == 0;
    if (end && !secure && strncmp(text, "http://", 7) != 0) {
        return refuse(text, "its scheme is neither http nor https", err);
    }
    const char *at = end ? end + 3 : text;
    size_t n = strcspn(at, "/?#@"), n_path = strlen(at + n);
    if (at[n] && at[n] != '/') {
        return refuse(text, "it holds one of ?#@", err);
    }
    while (n_path > 0 && at[n + n_path - 1] == '/') {
        n_path--;
    }
    const char *colon = find_port(at, n);
    size_t n_host = colon ? (size_t) (colon - at) : n;
    if (colon && !is_port(colon + 1, n - n_host - 1)) {
        return refuse(text, "its port is not 1..65535", err);
    }
    if (memchr(at, ':', n_host) && at[0] != '[') {
        return refuse(text, "an IPv6 address stands in [ ]", err);
    }
    (void) snprintf(h.url, sizeof h.url, "http%s://%.*s%.*s%s%.*s", secure ? "s" : "",
                    n_host > 0 ? (int) n_host : 9, n_host > 0 ? at : "127.0.0.1",
                    (int) (n - n_host), at + n_host, colon || end ? "" : ":8080", (int) n_path,
                    at + n);
    memcpy(h.key, key, strlen(key));
    *ret = h;
    return MB_OK;
}
