#include "proto/json/chat_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json/field.h"

/* ---- messages ---------------------------------------------------------------------------- */

/* 'messages[i].name' what. */
static bool refuse_message(struct mb_wire_error *err, size_t i, const char *name,
                           const char *what)
{
    char param[64];
    (void) snprintf(param, sizeof param, "messages[%zu]%s%s", i, *name ? "." : "", name);
    return mb_field_refuse(err, param, what);
}

/* The text of part k of a message, or NULL, with err filled, when it is of another kind. */
static const json_t *text_part(const json_t *parts, size_t k, size_t i,
                               struct mb_wire_error *err)
{
    const json_t *part = json_array_get(parts, k), *text = json_object_get(part, "text");
    const char *type = json_string_value(json_object_get(part, "type"));
    if (!type || strcmp(type, "text") != 0 || !json_is_string(text)) {
        (void) refuse_message(err, i, "content", "must be text: other parts are not supported");
        return NULL;
    }
    return text;
}

/* [{"type": "text", "text": ...}, ...] as one string, with line breaks between. NULL, with err
 * filled, when a part is of another kind or memory is refused. */
static json_t *join_parts(const json_t *parts, size_t i, struct mb_wire_error *err)
{
    size_t n = 0, n_parts = json_array_size(parts);
    for (size_t k = 0; k < n_parts; k++) {
        const json_t *text = text_part(parts, k, i, err);
        if (!text) {
            return NULL;
        }
        n += (k > 0) + json_string_length(text);
    }
    char *whole = malloc(n + 1), *at = whole;
    for (size_t k = 0; whole && k < n_parts; k++) {
        const json_t *text = json_object_get(json_array_get(parts, k), "text");
        if (k > 0) {
            *at++ = '\n';
        }
        memcpy(at, json_string_value(text), json_string_length(text));
        at += json_string_length(text);
    }
    json_t *joined = whole ? json_stringn_nocheck(whole, n) : NULL;
    free(whole);
    if (!joined) {
        (void) mb_field_refuse_memory(err);
    }
    return joined;
}

static bool take_content(json_t *message, size_t i, struct mb_wire_error *err)
{
    const json_t *content = json_object_get(message, "content");
    if (json_is_array(content)) {
        json_t *whole = join_parts(content, i, err);
        return whole && (json_object_set_new(message, "content", whole) == 0 ||
                         mb_field_refuse_memory(err));
    }
    if (json_is_string(content)) {
        return true;
    }
    if (content && !json_is_null(content)) {
        return refuse_message(err, i, "content", "must be a string or an array of parts");
    }
    /* Only who calls a tool may say nothing; a template then finds None. */
    if (!json_object_get(message, "tool_calls")) {
        return refuse_message(err, i, "content", "is required");
    }
    return json_object_set_new(message, "content", json_null()) == 0 ||
           mb_field_refuse_memory(err);
}

/* OpenAI has arguments as a string of JSON, templates as an object. *inner counts what these
 * documents hold. */
static bool take_call(json_t *call, size_t i, struct mb_json_tally *inner,
                      struct mb_wire_error *err)
{
    json_t *function = json_object_get(call, "function");
    const json_t *arguments = json_object_get(function, "arguments");
    if (!json_is_string(json_object_get(function, "name"))) {
        return refuse_message(err, i, "tool_calls", "must hold functions with a name");
    }
    if (!json_is_string(arguments)) {
        return true;
    }
    const char *text = json_string_value(arguments);
    size_t n = json_string_length(arguments);
    if (!mb_json_bounded(text, n, inner, err)) {
        return false;
    }
    json_t *parsed = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    if (!json_is_object(parsed)) { /* nothing that the model should not see as it was */
        json_decref(parsed);
        return true;
    }
    return json_object_set_new(function, "arguments", parsed) == 0 ||
           mb_field_refuse_memory(err);
}

static bool take_calls(json_t *message, size_t i, struct mb_json_tally *inner,
                       struct mb_wire_error *err)
{
    json_t *calls = json_object_get(message, "tool_calls"), *call;
    size_t k;
    if (!calls || json_is_null(calls)) {
        (void) json_object_del(message, "tool_calls");
        return true;
    }
    if (!json_is_array(calls) || json_array_size(calls) == 0) {
        return refuse_message(err, i, "tool_calls", "must be an array, not empty");
    }
    json_array_foreach (calls, k, call) {
        if (!take_call(call, i, inner, err)) {
            return false;
        }
    }
    return true;
}

static bool take_messages(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                          struct mb_wire_error *err)
{
    size_t i;
    json_t *message;
    struct mb_json_tally inner = { 0 };
    if (!json_is_array(v) || json_array_size(v) == 0) {
        return mb_field_refuse(err, f->name, "must be an array of messages, not empty");
    }
    json_array_foreach ((json_t *) v, i, message) {
        if (!json_is_object(message)) {
            return refuse_message(err, i, "", "must be an object");
        }
        if (!json_is_string(json_object_get(message, "role"))) {
            return refuse_message(err, i, "role", "must be a string");
        }
        if (!take_calls(message, i, &inner, err) || !take_content(message, i, err)) {
            return false;
        }
    }
    return mb_copy_json(v, &c->chat.messages, err);
}

/* ---- tools ------------------------------------------------------------------------------- */

static bool is_tool(const json_t *tool)
{
    const char *type = json_string_value(json_object_get(tool, "type"));
    const json_t *name = json_object_get(json_object_get(tool, "function"), "name");
    size_t n = json_string_length(name);
    return type && strcmp(type, "function") == 0 && n > 0 && n <= MB_TOOL_NAME_MAX;
}

static bool take_tools(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                       struct mb_wire_error *err)
{
    if (!json_is_array(v) || json_array_size(v) > MB_TOOLS_MAX) {
        mb_wire_error_fill(err, 400, NULL, f->name, "'%s' must be an array of at most %d tools",
                           f->name, MB_TOOLS_MAX);
        return false;
    }
    for (size_t i = 0; i < json_array_size(v); i++) {
        if (!is_tool(json_array_get(v, i))) {
            mb_wire_error_fill(err, 400, NULL, f->name,
                               "'%s[%zu]' must be a function with a name of 1 to %d bytes",
                               f->name, i, MB_TOOL_NAME_MAX);
            return false;
        }
    }
    return json_array_size(v) == 0 || mb_copy_json(v, &c->chat.tools, err);
}

static bool take_tool_choice(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                             struct mb_wire_error *err)
{
    const char *choice = json_string_value(v);
    if (choice && (strcmp(choice, "none") == 0 || strcmp(choice, "auto") == 0)) {
        c->chat.tool_choice = choice[0] == 'n' ? MB_TOOLS_NONE : MB_TOOLS_AUTO;
        return true;
    }
    return mb_field_refuse(err, f->name,
                           "must be \"none\" or \"auto\": a call can not be forced");
}

/* ---- the other fields -------------------------------------------------------------------- */

static bool take_variables(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                           struct mb_wire_error *err)
{
    if (!json_is_object(v)) {
        return mb_field_refuse(err, f->name, "must be an object");
    }
    return mb_copy_json(v, &c->chat.variables, err);
}

#define AT(member) offsetof(struct mb_completion, member)

static const struct mb_field fields[] = {
    { "messages", take_messages, 0, 0, 0 },
    { "max_completion_tokens", mb_take_max_tokens, AT(max_tokens), 0, MB_MAX_TOKENS_MAX },
    { "logprobs", mb_take_bool, AT(has_logprobs), 0, 0 },
    { "top_logprobs", mb_take_u32, AT(logprobs), 0, MB_CHAT_LOGPROBS_MAX },
    { "tools", take_tools, 0, 0, 0 },
    { "tool_choice", take_tool_choice, 0, 0, 0 },
    { "chat_template_kwargs", take_variables, 0, 0, 0 },
    { "functions", mb_take_nothing, 0, 0, 0 },
    { "function_call", mb_take_nothing, 0, 0, 0 },
    { "audio", mb_take_nothing, 0, 0, 0 },
    { "web_search_options", mb_take_nothing, 0, 0, 0 },
};

static bool agree(const json_t *root, struct mb_completion *c, struct mb_wire_error *err)
{
    c->is_chat = true;
    if (!c->chat.messages) {
        return mb_field_refuse(err, "messages", "is required");
    }
    if (c->logprobs > 0 && !c->has_logprobs) {
        return mb_field_refuse(err, "top_logprobs", "is allowed only with \"logprobs\": true");
    }
    const json_t *choice = json_object_get(root, "tool_choice");
    if (!c->chat.tools) {
        c->chat.tool_choice = MB_TOOLS_NONE;
    } else if (!choice || json_is_null(choice)) {
        c->chat.tool_choice = MB_TOOLS_AUTO;
    }
    return mb_agree_stream(root, c, err);
}

enum mb_status mb_chat_decode(const char *text, size_t n, struct mb_completion *ret,
                              struct mb_wire_error *err)
{
    static const struct mb_fields own = { fields, sizeof fields / sizeof fields[0] };
    return mb_body_decode(text, n, &own, agree, ret, err);
}
