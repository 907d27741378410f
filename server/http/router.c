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
    { "promote", "POST", "/v1/mbool/models/{model}/promote", MBD_SCOPE_ADMIN, true, false,
      mbd_route_promote },
    { "rollback", "POST", "/v1/mbool/models/{model}/rollback", MBD_SCOPE_ADMIN, true, false,
      mbd_route_rollback },
    { "pin", "POST", "/v1/mbool/models/{model}/pin", MBD_SCOPE_ADMIN, true, false,
      mbd_route_pin },
    { "epochs", "GET", "/v1/mbool/models/{model}/epochs", MBD_SCOPE_ANY, false, false,
      mbd_route_epochs },
    { "version", "GET", "/version", MBD_SCOPE_ANY, false, false, mbd_route_version },
    { "info", "GET", "/v1/mbool/info", MBD_SCOPE_ANY, false, false, mbd_route_info },
    { "healthz", "GET", "/healthz", MBD_SCOPE_OPEN, false, true, mbd_route_healthz },
    { "readyz", "GET", "/readyz", MBD_SCOPE_OPEN, false, true, mbd_route_readyz },
    { "metrics", "GET", "/metrics", MBD_SCOPE_METRICS, false, true, mbd_route_metrics },
};

static const char model_mark[] = "{model}";

/* What a route has behind {model}; NULL when it has none. */
static const char *behind_model(const struct mbd_route *r)
{
    const char *mark = strstr(r->path, model_mark);
    return mark ? mark + sizeof model_mark - 1 : NULL;
}

/* With a model's name in the middle, in which there may be a '/'. */
static bool model_matches(const struct mbd_route *r, const char *path, const char **ret_tail)
{
    const char *behind = behind_model(r);
    size_t before = (size_t) (behind - r->path) - (sizeof model_mark - 1);
    size_t n = strlen(path), n_behind = strlen(behind);
    if (strncmp(path, r->path, before) != 0 || n <= before + n_behind) {
        return false;
    }
    *ret_tail = path + before;
    return strcmp(path + n - n_behind, behind) == 0;
}

size_t mbd_route_tail_length(const struct mbd_route *r, const char *tail)
{
    const char *behind = behind_model(r);
    return strlen(tail) - (behind ? strlen(behind) : 0);
}

static bool path_matches(const struct mbd_route *r, const char *path, const char **ret_tail)
{
    if (behind_model(r)) {
        return model_matches(r, path, ret_tail);
    }
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
