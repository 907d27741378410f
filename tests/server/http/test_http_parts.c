/* Goal:   events are framed as clients read them, and paths find their routes.
 * Method: texts against texts. */
#include <string.h>

#include "server/http/router.h"
#include "server/http/sse.h"
#include "tests/check_main.h"

START_TEST(events_are_framed)
{
    struct mb_bytes b = { 0 };
    mbd_sse_data(&b, "{\"a\":1}");
    mbd_sse_ping(&b);
    mbd_sse_done(&b);
    ck_assert_str_eq(mb_bytes_text(&b), "data: {\"a\":1}\n\n:\n\ndata: [DONE]\n\n");
    mb_bytes_fini(&b);
}
END_TEST

static const struct {
    const char *method, *path, *route, *tail, *allow;
} cases[] = {
    { "POST", "/v1/completions", "completions", "", NULL },
    { "GET", "/v1/completions", NULL, NULL, "POST" },
    { "HEAD", "/v1/completions", NULL, NULL, "POST" },
    { "POST", "/v1/completions/", NULL, NULL, NULL },
    { "POST", "/v1/completionsx", NULL, NULL, NULL },
    { "GET", "/v1/models", "models", "", NULL },
    { "HEAD", "/v1/models", "models", "", NULL },
    { "PUT", "/v1/models", NULL, NULL, "GET, HEAD" },
    { "GET", "/v1/models/", NULL, NULL, NULL },
    { "GET", "/v1/models/a/b", "model", "a/b", NULL },
    { "get", "/v1/models/a", NULL, NULL, "GET, HEAD" },
    { "GET", "/v1/files/file-1", "file", "file-1", NULL },
    { "DELETE", "/v1/files/file-1", "delete_file", "file-1", NULL },
    { "PUT", "/v1/files/file-1", NULL, NULL, "GET, HEAD, DELETE" },
    { "PUT", "/v1/files", NULL, NULL, "GET, HEAD, POST" },
    { "GET", "/v1/files/a/content", "file_content", "a/content", NULL },
    { "GET", "/v1/files/a/b/content", NULL, NULL, NULL },
    { "GET", "/v1/files//content", NULL, NULL, NULL },
    { "GET", "/v1/files/", NULL, NULL, NULL },
    { "POST", "/v1/fine_tuning/jobs/x/cancel", "cancel_job", "x/cancel", NULL },
    { "GET", "/v1/fine_tuning/jobs/x/cancel", NULL, NULL, "POST" },
    { "POST", "/v1/mbool/models/a/b/promote", "promote", "a/b/promote", NULL },
    { "GET", "/healthz", "healthz", "", NULL },
    { "GET", "/readyz", "readyz", "", NULL },
    { "GET", "/metrics", "metrics", "", NULL },
    { "GET", "/", NULL, NULL, NULL },
    { "GET", "", NULL, NULL, NULL },
};

START_TEST(paths_find_routes)
{
    const char *tail = NULL, *allow = NULL;
    const struct mbd_route *r = mbd_route_find(cases[_i].method, cases[_i].path, &tail, &allow);
    if (cases[_i].route) {
        ck_assert_ptr_nonnull(r);
        ck_assert_str_eq(r->name, cases[_i].route);
        ck_assert_str_eq(tail, cases[_i].tail);
    } else {
        ck_assert_ptr_null(r);
        ck_assert_pstr_eq(allow, cases[_i].allow);
    }
}
END_TEST

START_TEST(paths_for_operations)
{
    ck_assert(mbd_route_is_ops("/healthz"));
    ck_assert(mbd_route_is_ops("/readyz"));
    ck_assert(mbd_route_is_ops("/metrics"));
    ck_assert(!mbd_route_is_ops("/metrics/"));
    ck_assert(!mbd_route_is_ops("/v1/completions"));
    ck_assert(!mbd_route_is_ops("/v1/models/metrics"));
    ck_assert(!mbd_route_is_ops("/none"));
    ck_assert(mbd_route_is_asked("/healthz"));
    ck_assert(mbd_route_is_asked("/v1/models/metrics"));
    ck_assert(!mbd_route_is_asked("/v1/completions"));
    ck_assert(!mbd_route_is_asked("/none"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("http_parts");
    TCase *t = tcase_create("http_parts");
    tcase_add_test(t, events_are_framed);
    tcase_add_loop_test(t, paths_find_routes, 0, sizeof cases / sizeof cases[0]);
    tcase_add_test(t, paths_for_operations);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
