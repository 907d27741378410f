/* A stream of events taken apart: what each choice said in all. */
#ifndef MB_TESTS_STREAM_H
#define MB_TESTS_STREAM_H

#include <jansson.h>
#include <string.h>

#include "tests/check_main.h"
#include "tests/wire/daemon.h"

enum { STREAM_CHOICES_MAX = 8, STREAM_TEXT_MAX = 32768 };

struct stream_choice {
    char text[STREAM_TEXT_MAX];
    char finish[32];
    size_t n_chunks, n_roles, n_tokens; /* tokens with a logprob */
    json_t *calls;                      /* the last chunk's tool_calls, borrowed from kept */
};

struct stream {
    struct stream_choice choice[STREAM_CHOICES_MAX];
    size_t n_chunks, n_usage, n_done;
    json_t *usage, *error; /* the last */
    json_t *kept;          /* all chunks */
};

static inline void stream_take_choice(struct stream *s, const json_t *choice)
{
    size_t i = (size_t) json_integer_value(json_object_get(choice, "index"));
    ck_assert_uint_lt(i, STREAM_CHOICES_MAX);
    struct stream_choice *k = &s->choice[i];
    const json_t *delta = json_object_get(choice, "delta");
    const json_t *text = json_object_get(delta ? delta : choice, delta ? "content" : "text");
    const json_t *lp = json_object_get(choice, "logprobs");
    const char *finish = json_string_value(json_object_get(choice, "finish_reason"));
    ck_assert_msg(k->finish[0] == '\0', "choice %zu goes on after its end", i);
    k->n_chunks++;
    k->n_roles += json_object_get(delta, "role") != NULL;
    ck_assert(k->n_roles == 0 || k->n_roles == 1);
    ck_assert(!delta || k->n_roles == 1); /* the role is first */
    k->n_tokens += json_array_size(json_object_get(lp, delta ? "content" : "tokens"));
    if (json_is_string(text)) {
        ck_assert_uint_lt(strlen(k->text) + json_string_length(text), STREAM_TEXT_MAX);
        strcat(k->text, json_string_value(text));
    }
    if (json_object_get(delta, "tool_calls")) {
        k->calls = json_object_get(delta, "tool_calls");
    }
    (void) snprintf(k->finish, sizeof k->finish, "%s", finish ? finish : "");
}

static inline struct stream stream_of(const struct wire_reply *r)
{
    struct stream s = { .kept = json_array() };
    for (char *at = r->body, *end; *at; at = end + 2) {
        end = strstr(at, "\n\n");
        ck_assert_msg(end && s.n_done == 0, "no event: %s", at);
        *end = '\0';
        if (strcmp(at, "data: [DONE]") == 0) {
            s.n_done++;
            continue;
        }
        if (strcmp(at, ":") == 0) {
            continue;
        }
        json_t *root = json_loads(at + 6, JSON_ALLOW_NUL, NULL), *choice;
        size_t i;
        ck_assert_msg(root != NULL, "%s", at);
        json_array_append_new(s.kept, root);
        s.n_chunks++;
        json_array_foreach (json_object_get(root, "choices"), i, choice) {
            stream_take_choice(&s, choice);
        }
        if (json_is_object(json_object_get(root, "usage"))) {
            s.usage = json_object_get(root, "usage");
            s.n_usage++;
        }
        s.error = json_object_get(root, "error");
    }
    return s;
}

static inline void stream_free(struct stream *s)
{
    json_decref(s->kept);
}

#endif
