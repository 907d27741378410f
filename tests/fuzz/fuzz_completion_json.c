/* A request's body of any bytes: refused with an error that can be sent, or a completion within
 * its bounds; and what is sent is always JSON. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json/completion_json.h"
#include "proto/json/error_json.h"
#include "tests/fuzz/fuzz.h"

static void check(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void check_json(char *text)
{
    json_t *root = json_loads(text, JSON_ALLOW_NUL, NULL);
    check(root != NULL);
    json_decref(root);
    free(text);
}

static void check_bounds(const struct mb_completion *c)
{
    check((c->prompt != NULL) != (c->prompt_ids != NULL));
    check(c->max_tokens >= 1 && c->max_tokens <= MB_MAX_TOKENS_MAX);
    check(c->temperature >= 0 && c->temperature <= 2);
    check(c->top_p > 0 && c->top_p <= 1 && c->min_p >= 0 && c->min_p <= 1);
    check(c->repetition_penalty > 0 && isfinite(c->repetition_penalty));
    check(fabsf(c->presence_penalty) <= 2 && fabsf(c->frequency_penalty) <= 2);
    check(c->logprobs <= MB_COMPLETION_LOGPROBS_MAX && c->n_stops <= MB_STOPS_MAX);
    for (size_t i = 0; i < c->n_stops; i++) {
        check(c->n_stop_bytes[i] >= 1 && c->n_stop_bytes[i] <= MB_STOP_BYTES_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t n)
{
    struct mb_completion c;
    struct mb_wire_error err;
    mb_completion_init(&c);
    if (mb_completion_decode((const char *) at, n, &c, &err) == MB_OK) {
        check_bounds(&c);
    } else {
        check(err.http == 400 || err.http == 503);
        check_json(mb_error_encode(&err));
    }
    mb_completion_fini(&c);
    /* The same bytes as a model's text. */
    struct mb_wire_token t = { .token = { (const char *) at, n, -1 },
                               .n_top = 1,
                               .top = { { (const char *) at, n, -1 } } };
    struct mb_completion_reply r = { .id = "i",
                                     .model = "m",
                                     .fingerprint = "f",
                                     .has_logprobs = true,
                                     .text = (const char *) at,
                                     .n_text = n,
                                     .tokens = &t,
                                     .n_tokens = 1 };
    check_json(mb_completion_encode(&r));
    return 0;
}
