/* A request's body of any bytes, for a completion and for a chat: refused with an error that can be
 * sent, or a completion within its bounds; and what is sent is always JSON. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json/chat_json.h"
#include "proto/json/error_json.h"
#include "proto/json/tool_calls_json.h"
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
    check(c->is_chat == (c->chat.messages != NULL) && c->is_chat == (c->n_prompts == 0));
    for (size_t i = 0; i < c->n_prompts; i++) {
        check((c->prompts[i].text != NULL) != (c->prompts[i].ids != NULL));
    }
    check(c->max_tokens <= MB_MAX_TOKENS_MAX && c->n >= 1 && c->n <= MB_CHOICES_MAX);
    check(c->n_bias <= MB_LOGIT_BIAS_MAX && c->n_stop_ids <= MB_STOP_IDS_MAX);
    check(c->time_limit >= 0 && c->time_limit <= MB_TIME_LIMIT_MAX);
    check(c->temperature >= 0 && c->temperature <= 2);
    check(c->top_p > 0 && c->top_p <= 1 && c->min_p >= 0 && c->min_p <= 1);
    check(c->repetition_penalty > 0 && isfinite(c->repetition_penalty));
    check(fabsf(c->presence_penalty) <= 2 && fabsf(c->frequency_penalty) <= 2);
    check(c->logprobs <= (c->is_chat ? MB_CHAT_LOGPROBS_MAX : MB_COMPLETION_LOGPROBS_MAX) &&
          c->n_stops <= MB_STOPS_MAX);
    for (size_t i = 0; i < c->n_stops; i++) {
        check(c->n_stop_bytes[i] >= 1 && c->n_stop_bytes[i] <= MB_STOP_BYTES_MAX);
    }
}

static void decode(const char *text, size_t n, bool is_chat)
{
    struct mb_completion c;
    struct mb_wire_error err;
    mb_completion_init(&c);
    if ((is_chat ? mb_chat_decode(text, n, &c, &err)
                 : mb_completion_decode(text, n, &c, &err)) == MB_OK) {
        check(c.is_chat == is_chat);
        check_bounds(&c);
    } else {
        check(err.http == 400 || err.http == 503);
        check_json(mb_error_encode(&err));
    }
    mb_completion_fini(&c);
}

/* The same bytes as a model's text, and as calls of tools in it. */
static void encode(const char *text, size_t n)
{
    struct mb_wire_token t = { .token = { text, n, -1 },
                               .n_top = 1,
                               .top = { { text, n, -1 } } };
    struct mb_wire_choice choice = { .has_logprobs = true, .tokens = &t, .n_tokens = 1 };
    struct mb_completion_reply r = {
        .id = "i", .model = "m", .fingerprint = "f", .choices = &choice, .n_choices = 1
    };
    for (int form = MB_CALLS_NONE; form <= MB_CALLS_BARE; form++) {
        struct mb_wire_tool_call *calls;
        size_t n_text;
        check(mb_tool_calls_before((enum mb_call_form) form, text, n) <= n);
        check(mb_tool_calls_take((enum mb_call_form) form, "x", text, n, &calls,
                                 &choice.n_calls, &n_text));
        check(n_text <= n);
        choice.text = text;
        choice.n_text = n_text;
        choice.calls = calls;
        check_json(mb_completion_encode(&r));
        check_json(mb_chat_encode(&r));
        check_json(mb_chat_chunk_encode(&r));
        mb_tool_calls_free(calls, choice.n_calls);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t n)
{
    decode((const char *) at, n, false);
    decode((const char *) at, n, true);
    encode((const char *) at, n);
    return 0;
}
