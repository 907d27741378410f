#include "server/http/router.h"

#include <string.h>

#include "server/access/key.h"

static const struct mbd_route routes[] = {
    { "completions", "POST", "/v1/completions", MBD_SCOPE_INFER, true, false,
      mbd_route_completions },
    { "chat_completions", "POST", "/v1/chat/completions", MBD_SCOPE_INFER, true, false,
      mbd_route_chat_completions },
    { "embeddings", "POST", "/v1/embeddings", MBD_SCOPE_INFER, true, false,
      mbd_route_embeddings },
    { "tokenize", "POST", "/tokenize", MBD_SCOPE_INFER, true, false, mbd_route_tokenize },
    { "detokenize", "POST", "/detokenize", MBD_SCOPE_INFER, true, false, mbd_route_detokenize },
    { "models", "GET", "/v1/models", MBD_SCOPE_ANY, false, false, mbd_route_models },
    { "model", "GET", "/v1/models/", MBD_SCOPE_ANY, false, false, mbd_route_model },
    { "version", "GET", "/version", MBD_SCOPE_ANY, false, false, mbd_route_version },
    { "info", "GET", "/v1/mbool/info", MBD_SCOPE_ANY, false, false, mbd_route_info },
    { "healthz", "GET", "/healthz", MBD_SCOPE_OPEN, false, true, mbd_route_healthz },
    { "readyz", "GET", "/readyz", MBD_SCOPE_OPEN, false, true, mbd_route_readyz },
    { "metrics", "GET", "/metrics", MBD_SCOPE_METRICS, false, true, mbd_route_metrics },
};

static bool path_matches(const struct mbd_route *r, const char *path, const char **ret_tail)
{
    size_t n = strlen(r->path);
    bool prefix = r->path[n - 1] == '/';
    if (strncmp(path, r->path, n) != 0 || prefix == (path[n] == '\0')) {
        return false;
    }
    *ret_tail = path + n;
    return true;
}

/* The first of the path's routes, or NULL. */
static const struct mbd_route *first_of(const char *path)
{
    const char *tail;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (path_matches(&routes[i], path, &tail)) {
            return &routes[i];
        }
    }
    return NULL;
}

bool mbd_route_is_ops(const char *path)
{
    const struct mbd_route *r = first_of(path);
    return r && r->ops;
}

bool mbd_route_is_asked(const char *path)
{
    const struct mbd_route *r = first_of(path);
    return r && strcmp(r->method, "GET") == 0;
}

const struct mbd_route *mbd_route_find(const char *method, const char *path,
                                       const char **ret_tail, const char **ret_allow)
{
    bool head = strcmp(method, "HEAD") == 0;
    *ret_allow = NULL;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        const struct mbd_route *r = &routes[i];
        const char *tail;
        if (!path_matches(r, path, &tail)) {
            continue;
        }
        bool get = strcmp(r->method, "GET") == 0;
        if (strcmp(r->method, method) == 0 || (get && head)) {
            *ret_tail = tail;
            return r;
        }
        *ret_allow = get ? "GET, HEAD" : r->method; /* no path has two routes yet */
    }
    return NULL;
}
