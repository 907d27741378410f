#include "proto/json/chat_json.h"

#include <string.h>

#include "proto/json/reply_json.h"
#include "proto/json/text_json.h"

/* ---- logprobs ---------------------------------------------------------------------------- */

static json_t *bytes_json(const struct mb_wire_logprob *t)
{
    json_t *list = json_array();
    bool ok = list != NULL;
    for (size_t i = 0; i < t->n_text && ok; i++) {
        ok = json_array_append_new(list, json_integer((unsigned char) t->text[i])) == 0;
    }
    if (!ok) {
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *one_logprob(const struct mb_wire_logprob *t)
{
    return json_pack("{s:o,s:o,s:o}", "token", mb_json_token(t), "logprob",
                     mb_json_logprob(t->logprob), "bytes", bytes_json(t));
}

static json_t *token_json(const struct mb_wire_token *t)
{
    json_t *top = json_array(), *j = one_logprob(&t->token);
    bool ok = top && j;
    for (uint32_t i = 0; i < t->n_top && ok; i++) {
        ok = json_array_append_new(top, one_logprob(&t->top[i])) == 0;
    }
    if (!ok || json_object_set(j, "top_logprobs", top) != 0) {
        json_decref(j);
        j = NULL;
    }
    json_decref(top);
    return j;
}

static json_t *logprobs_json(const struct mb_wire_choice *c)
{
    if (!c->has_logprobs) {
        return json_null();
    }
    json_t *content = json_array();
    bool ok = content != NULL;
    for (size_t i = 0; i < c->n_tokens && ok; i++) {
        ok = json_array_append_new(content, token_json(&c->tokens[i])) == 0;
    }
    if (!ok) {
        json_decref(content);
        return NULL;
    }
    return json_pack("{s:o,s:n}", "content", content, "refusal");
}

/* ---- messages ---------------------------------------------------------------------------- */

static json_t *call_json(const struct mb_wire_tool_call *call)
{
    return json_pack("{s:s,s:s,s:{s:o,s:o}}", "id", call->id, "type", "function", "function",
                     "name", mb_json_string_of(call->name, strlen(call->name)), "arguments",
                     mb_json_string_of(call->arguments, strlen(call->arguments)));
}

/* Puts the calls into message; those of a chunk say which they are. */
static bool add_calls(json_t *message, const struct mb_wire_choice *c, bool chunk)
{
    if (c->n_calls == 0) {
        return true;
    }
    json_t *list = json_array();
    bool ok = list != NULL;
    for (size_t i = 0; i < c->n_calls && ok; i++) {
        json_t *call = call_json(&c->calls[i]);
        ok = call &&
             (!chunk || json_object_set_new(call, "index", json_integer((json_int_t) i)) == 0);
        ok = json_array_append_new(list, ok ? call : NULL) == 0;
    }
    if (!ok) {
        json_decref(list);
        return false;
    }
    return json_object_set_new(message, "tool_calls", list) == 0;
}

/* With calls, an answer without text has none, not an empty one. */
static json_t *message_json(const struct mb_wire_choice *c)
{
    json_t *content =
        c->n_calls > 0 && c->n_text == 0 ? json_null() : mb_json_string_of(c->text, c->n_text);
    json_t *message =
        json_pack("{s:s,s:o,s:n}", "role", "assistant", "content", content, "refusal");
    if (message && !add_calls(message, c, false)) {
        json_decref(message);
        return NULL;
    }
    return message;
}

static json_t *delta_json(const struct mb_wire_choice *c)
{
    json_t *delta = c->begins ? json_pack("{s:s}", "role", "assistant") : json_object();
    bool ok = delta != NULL;
    if (ok && (c->n_text > 0 || c->begins)) {
        ok = json_object_set_new(delta, "content", mb_json_string_of(c->text, c->n_text)) == 0;
    }
    if (!ok || !add_calls(delta, c, true)) {
        json_decref(delta);
        return NULL;
    }
    return delta;
}

static json_t *choice_of(const struct mb_wire_choice *c, const char *name, json_t *what)
{
    json_t *j =
        json_pack("{s:I,s:o,s:o,s:s?}", "index", (json_int_t) c->index, name, what, "logprobs",
                  logprobs_json(c), "finish_reason", mb_finish_name(c->finish));
    return mb_json_with_ids(j, c);
}

static json_t *whole_choice(const struct mb_wire_choice *c)
{
    return choice_of(c, "message", message_json(c));
}

static json_t *chunk_choice(const struct mb_wire_choice *c)
{
    return choice_of(c, "delta", delta_json(c));
}

char *mb_chat_encode(const struct mb_completion_reply *r)
{
    return mb_reply_encode(r, "chat.completion", whole_choice);
}

char *mb_chat_chunk_encode(const struct mb_completion_reply *r)
{
    return mb_reply_encode(r, "chat.completion.chunk", chunk_choice);
}
