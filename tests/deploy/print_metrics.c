/* What /metrics says of a daemon that has answered a request: for tests that hold names and labels
 * of dashboards and rules against it. */
#include <stdio.h>
#include <stdlib.h>

#include "server/metrics/metrics.h"

int main(void)
{
    struct mbd_metrics *m = NULL;
    struct mb_error err;
    struct mb_bytes text = { 0 };
    if (mbd_metrics_new(&m, &err) != MB_OK) {
        fprintf(stderr, "%s\n", err.what);
        return EXIT_FAILURE;
    }
    mbd_metrics_build(m, "c");
    mbd_metrics_http(m, "completions", 200);
    mbd_metrics_text(m, &text);
    bool ok = !text.failed && fputs(mb_bytes_text(&text), stdout) >= 0;
    mb_bytes_fini(&text);
    mbd_metrics_free(m);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
