#include "proto/completion.h"

#include <assert.h>
#include <stdlib.h>

void mb_completion_init(struct mb_completion *c)
{
    *c = (struct mb_completion) {
        .max_tokens = MB_MAX_TOKENS_DEFAULT,
        .temperature = 1.0f,
        .top_p = 1.0f,
        .repetition_penalty = 1.0f,
    };
}

void mb_completion_fini(struct mb_completion *c)
{
    if (!c) {
        return;
    }
    free(c->model);
    free(c->prompt);
    free(c->prompt_ids);
    for (size_t i = 0; i < c->n_stops; i++) {
        free(c->stop[i]);
    }
    mb_response_format_fini(&c->response_format);
    mb_completion_init(c);
}

const char *mb_finish_name(enum mb_finish f)
{
    assert(f == MB_FINISH_NONE || f == MB_FINISH_STOP || f == MB_FINISH_LENGTH);
    return f == MB_FINISH_STOP ? "stop" : f == MB_FINISH_LENGTH ? "length" : NULL;
}
