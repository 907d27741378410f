#include "server/http/router.h"

#include <string.h>

#include "server/access/key.h"

static const struct mbd_route routes[] = {
    { "completions", "POST", "/v1/completions", MBD_SCOPE_INFER, MBD_BODY_JSON, false,
      mbd_route_completions },
    { "chat_completions", "POST", "/v1/chat/completions", MBD_SCOPE_INFER, MBD_BODY_JSON, false,
      mbd_route_chat_completions },
    { "embeddings", "POST", "/v1/embeddings", MBD_SCOPE_INFER, MBD_BODY_JSON, false,
      mbd_route_embeddings },
    { "tokenize", "POST", "/tokenize", MBD_SCOPE_INFER, MBD_BODY_JSON, false,
      mbd_route_tokenize },
    { "detokenize", "POST", "/detokenize", MBD_SCOPE_INFER, MBD_BODY_JSON, false,
      mbd_route_detokenize },
    { "models", "GET", "/v1/models", MBD_SCOPE_ANY, MBD_BODY_NONE, false, mbd_route_models },
    { "model", "GET", "/v1/models/", MBD_SCOPE_ANY, MBD_BODY_NONE, false, mbd_route_model },
    { "promote", "POST", "/v1/mbool/models/{model}/promote", MBD_SCOPE_ADMIN, MBD_BODY_JSON,
      false, mbd_route_promote },
    { "rollback", "POST", "/v1/mbool/models/{model}/rollback", MBD_SCOPE_ADMIN, MBD_BODY_JSON,
      false, mbd_route_rollback },
    { "pin", "POST", "/v1/mbool/models/{model}/pin", MBD_SCOPE_ADMIN, MBD_BODY_JSON, false,
      mbd_route_pin },
    { "epochs", "GET", "/v1/mbool/models/{model}/epochs", MBD_SCOPE_ANY, MBD_BODY_NONE, false,
      mbd_route_epochs },
    { "checkpoint", "GET", "/v1/mbool/models/{model}/checkpoint", MBD_SCOPE_ADMIN,
      MBD_BODY_NONE, false, mbd_route_checkpoint },
    { "create_file", "POST", "/v1/files", MBD_SCOPE_FINETUNE, MBD_BODY_UPLOAD, false,
      mbd_route_create_file },
    { "files", "GET", "/v1/files", MBD_SCOPE_FINETUNE, MBD_BODY_NONE, false, mbd_route_files },
    { "file", "GET", "/v1/files/{id}", MBD_SCOPE_FINETUNE, MBD_BODY_NONE, false,
      mbd_route_file },
    { "delete_file", "DELETE", "/v1/files/{id}", MBD_SCOPE_FINETUNE, MBD_BODY_NONE, false,
      mbd_route_delete_file },
    { "file_content", "GET", "/v1/files/{id}/content", MBD_SCOPE_FINETUNE, MBD_BODY_NONE, false,
      mbd_route_file_content },
    { "create_job", "POST", "/v1/fine_tuning/jobs", MBD_SCOPE_FINETUNE, MBD_BODY_JSON, false,
      mbd_route_create_job },
    { "jobs", "GET", "/v1/fine_tuning/jobs", MBD_SCOPE_FINETUNE, MBD_BODY_NONE, false,
      mbd_route_jobs },
    { "job", "GET", "/v1/fine_tuning/jobs/{id}", MBD_SCOPE_FINETUNE, MBD_BODY_NONE, false,
      mbd_route_job },
    { "cancel_job", "POST", "/v1/fine_tuning/jobs/{id}/cancel", MBD_SCOPE_FINETUNE,
      MBD_BODY_JSON, false, mbd_route_cancel_job },
    { "pause_job", "POST", "/v1/fine_tuning/jobs/{id}/pause", MBD_SCOPE_FINETUNE, MBD_BODY_JSON,
      false, mbd_route_pause_job },
    { "resume_job", "POST", "/v1/fine_tuning/jobs/{id}/resume", MBD_SCOPE_FINETUNE,
      MBD_BODY_JSON, false, mbd_route_resume_job },
    { "job_events", "GET", "/v1/fine_tuning/jobs/{id}/events", MBD_SCOPE_FINETUNE,
      MBD_BODY_NONE, false, mbd_route_job_events },
    { "job_checkpoints", "GET", "/v1/fine_tuning/jobs/{id}/checkpoints", MBD_SCOPE_FINETUNE,
      MBD_BODY_NONE, false, mbd_route_job_checkpoints },
    { "version", "GET", "/version", MBD_SCOPE_ANY, MBD_BODY_NONE, false, mbd_route_version },
    { "info", "GET", "/v1/mbool/info", MBD_SCOPE_ANY, MBD_BODY_NONE, false, mbd_route_info },
    { "healthz", "GET", "/healthz", MBD_SCOPE_OPEN, MBD_BODY_NONE, true, mbd_route_healthz },
    { "readyz", "GET", "/readyz", MBD_SCOPE_OPEN, MBD_BODY_NONE, true, mbd_route_readyz },
    { "metrics", "GET", "/metrics", MBD_SCOPE_METRICS, MBD_BODY_NONE, true, mbd_route_metrics },
};
enum { ROUTES = sizeof routes / sizeof routes[0] };

static const char id_mark[] = "{id}", model_mark[] = "{model}";

/* What stands for a name in the middle of a path, and how long that is; NULL when nothing does. */
static const char *mark_of(const struct mbd_route *r, size_t *ret_n)
{
    const char *mark = strstr(r->path, model_mark);
    *ret_n = sizeof model_mark - 1;
    if (!mark) {
        mark = strstr(r->path, id_mark);
        *ret_n = sizeof id_mark - 1;
    }
    return mark;
}

/* How long the name is in what begins with it: up to what the route has behind. */
static size_t name_length(const char *behind, const char *tail)
{
    size_t n = strlen(tail), n_behind = strlen(behind);
    return n > n_behind && strcmp(tail + n - n_behind, behind) == 0 ? n - n_behind : 0;
}

/* A model's name may hold a '/'; an id holds none. */
static bool name_matches(const struct mbd_route *r, const char *mark, size_t n_mark,
                         const char *path, const char **ret_tail)
{
    size_t before = (size_t) (mark - r->path);
    if (strncmp(path, r->path, before) != 0) {
        return false;
    }
    size_t n = name_length(mark + n_mark, path + before);
    *ret_tail = path + before;
    return n > 0 && (n_mark != sizeof id_mark - 1 || !memchr(path + before, '/', n));
}

size_t mbd_route_tail_length(const struct mbd_route *r, const char *tail)
{
    size_t n_mark;
    const char *mark = mark_of(r, &n_mark);
    return mark ? name_length(mark + n_mark, tail) : strlen(tail);
}

static bool path_matches(const struct mbd_route *r, const char *path, const char **ret_tail)
{
    size_t n_mark, n = strlen(r->path);
    const char *mark = mark_of(r, &n_mark);
    if (mark) {
        return name_matches(r, mark, n_mark, path, ret_tail);
    }
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
    for (size_t i = 0; i < ROUTES; i++) {
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
    const char *tail, *allow;
    return mbd_route_find("GET", path, &tail, &allow) &&
           !mbd_route_find("POST", path, &tail, &allow) &&
           !mbd_route_find("DELETE", path, &tail, &allow);
}

/* The methods of a path, as far as a path may have them: GET first. */
static const char *allow_of(bool get, bool post, bool delete)
{
    static const char *const names[] = { NULL,           "GET, HEAD",
                                         "POST",         "GET, HEAD, POST",
                                         "DELETE",       "GET, HEAD, DELETE",
                                         "POST, DELETE", "GET, HEAD, POST, DELETE" };
    return names[(get ? 1 : 0) + (post ? 2 : 0) + (delete ? 4 : 0)];
}

const struct mbd_route *mbd_route_find(const char *method, const char *path,
                                       const char **ret_tail, const char **ret_allow)
{
    bool head = strcmp(method, "HEAD") == 0, get = false, post = false, delete = false;
    *ret_allow = NULL;
    for (size_t i = 0; i < ROUTES; i++) {
        const struct mbd_route *r = &routes[i];
        const char *tail;
        if (!path_matches(r, path, &tail)) {
            continue;
        }
        bool gets = strcmp(r->method, "GET") == 0;
        if (strcmp(r->method, method) == 0 || (gets && head)) {
            *ret_tail = tail;
            return r;
        }
        get |= gets;
        post |= strcmp(r->method, "POST") == 0;
        delete |= strcmp(r->method, "DELETE") == 0;
    }
    *ret_allow = allow_of(get, post, delete);
    return NULL;
}
