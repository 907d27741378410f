#include "proto/completion.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

void mb_completion_init(struct mb_completion *c)
{
    *c = (struct mb_completion) {
        .max_tokens = MB_MAX_TOKENS_DEFAULT,
        .temperature = 1.0f,
        .top_p = 1.0f,
        .repetition_penalty = 1.0f,
        .n = 1,
    };
}

void mb_completion_fini(struct mb_completion *c)
{
    if (!c) {
        return;
    }
    free(c->model);
    for (size_t i = 0; i < c->n_prompts; i++) {
        free(c->prompts[i].text);
        free(c->prompts[i].ids);
    }
    free(c->prompts);
    free(c->chat.messages);
    free(c->chat.tools);
    free(c->chat.variables);
    free(c->bias);
    free(c->cache_salt);
    for (size_t i = 0; i < c->n_stops; i++) {
        free(c->stop[i]);
    }
    mb_response_format_fini(&c->response_format);
    mb_completion_init(c);
}

bool mb_is_model_name(const char *name, size_t n)
{
    if (n == 0 || n > MB_MODEL_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char) name[i]) && (!name[i] || !strchr("._:/-", name[i]))) {
            return false;
        }
    }
    return true;
}

const char *mb_finish_name(enum mb_finish f)
{
    static const char *const names[] = {
        [MB_FINISH_NONE] = NULL,
        [MB_FINISH_STOP] = "stop",
        [MB_FINISH_LENGTH] = "length",
        [MB_FINISH_TOOL_CALLS] = "tool_calls",
    };
    assert(f < sizeof names / sizeof names[0]);
    return names[f];
}
