#include "core/import/examples.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/import/json.h"

/* One example on its way: its whole text, and which bytes of it are learned. */
struct span {
    size_t from, to;
};

struct example {
    const struct mb_examples_options *o;
    struct mb_dataset *d;
    struct mb_examples_report *report;
    struct mb_bytes text, part;
    struct span spans[MB_EXAMPLE_MESSAGES_MAX];
    size_t n_spans;
    unsigned flags; /* of encoding */
    bool ends;      /* the end of sequence is learned after the text */
    struct mb_ids ids, prefix;
    struct mb_error ignored; /* of wrong lines after the first */
};

static enum mb_status no_memory(struct mb_error *err)
{
    return mb_fail(err, MB_E_NOMEM, 0, "no memory for an example");
}

/* How many of the example's ids the text up to a byte decides: where a span begins or ends in
 * tokens. A token that crosses the border belongs to what follows it. */
static enum mb_status ids_before(struct example *e, size_t byte, size_t *ret,
                                 struct mb_error *err)
{
    size_t same = 0;
    e->prefix.len = 0;
    uint32_t bos;
    if (e->ids.len > 0 && mb_tokenizer_bos(e->o->tokenizer, &bos) && e->ids.at[0] == bos &&
        !(e->flags & MB_ENCODE_PARSE_SPECIAL) && !mb_ids_push(&e->prefix, bos)) {
        return no_memory(err);
    }
    enum mb_status st = mb_tokenizer_encode(e->o->tokenizer, (const char *) e->text.at, byte,
                                            e->flags, SIZE_MAX, &e->prefix, err);
    while (same < e->prefix.len && same < e->ids.len && e->prefix.at[same] == e->ids.at[same]) {
        same++;
    }
    *ret = byte == e->text.len ? e->ids.len : same;
    return st;
}

static enum mb_status encode(struct example *e, struct mb_error *err)
{
    const struct mb_tokenizer *t = e->o->tokenizer;
    const uint32_t *eos;
    uint32_t bos;
    e->ids.len = 0;
    bool adds_bos = !(e->flags & MB_ENCODE_PARSE_SPECIAL) && mb_tokenizer_bos(t, &bos);
    if (adds_bos && !mb_ids_push(&e->ids, bos)) {
        return no_memory(err);
    }
    enum mb_status st = mb_tokenizer_encode(t, (const char *) e->text.at, e->text.len, e->flags,
                                            SIZE_MAX, &e->ids, err);
    if (st == MB_OK && e->ends && mb_tokenizer_eos(t, &eos) > 0 &&
        !mb_ids_push(&e->ids, eos[0])) {
        st = no_memory(err);
    }
    return st;
}

/* The text and its spans as tokens, into the dataset. */
static enum mb_status add_example(struct example *e, struct mb_error *err)
{
    bool added = false;
    if (!e->o->tokenizer) { /* it is only asked whether this is an example */
        e->report->n_lines++;
        return e->text.failed ? no_memory(err) : MB_OK;
    }
    enum mb_status st = e->text.failed ? no_memory(err) : encode(e, err);
    uint8_t *learn = st == MB_OK ? calloc(e->ids.len + 1, 1) : NULL;
    if (st == MB_OK && !learn) {
        st = no_memory(err);
    }
    for (size_t i = 0; st == MB_OK && i < e->n_spans; i++) {
        size_t from = 0, to = 0;
        st = ids_before(e, e->spans[i].from, &from, err);
        if (st == MB_OK) {
            st = ids_before(e, e->spans[i].to, &to, err);
        }
        if (st == MB_OK && to > from) {
            memset(learn + from, 1, to - from);
        }
    }
    if (st == MB_OK) {
        st = mb_dataset_add(e->d, e->ids.at, learn, e->ids.len, e->o->window, &added, err);
        e->report->n_lines += added;
        e->report->n_skipped += !added;
        e->report->n_cut += e->ids.len > e->o->window;
    }
    free(learn);
    return st;
}

/* {"prompt", "completion"}: one after the other, as they are. */
static enum mb_status read_prompt(struct example *e, const json_t *line, struct mb_error *err)
{
    const char *prompt = NULL, *completion = NULL;
    enum mb_status st = mb_json_text(line, "prompt", MB_JSON_REQUIRED, &prompt, err);
    if (st == MB_OK) {
        st = mb_json_text(line, "completion", MB_JSON_REQUIRED, &completion, err);
    }
    if (st != MB_OK) {
        return st;
    }
    mb_bytes_put_text(&e->text, prompt);
    e->spans[0].from = e->text.len;
    mb_bytes_put_text(&e->text, completion);
    e->spans[0].to = e->text.len;
    e->n_spans = 1;
    return add_example(e, err);
}

/* A message, checked. *ret_learn: it is an assistant's that is to be learned. */
static enum mb_status check_message(const json_t *m, const char **ret_content, bool *ret_learn,
                                    struct mb_error *err)
{
    static const char *const roles[] = { "system",    "developer", "user",
                                         "assistant", "tool",      "function" };
    const char *role = NULL;
    uint32_t weight = 1;
    bool known = false;
    if (!json_is_object(m)) {
        return mb_fail(err, MB_E_FORMAT, 0, "it is not an object");
    }
    enum mb_status st = mb_json_text(m, "role", MB_JSON_REQUIRED, &role, err);
    for (size_t i = 0; st == MB_OK && i < sizeof roles / sizeof roles[0]; i++) {
        known |= strcmp(role, roles[i]) == 0;
    }
    if (st == MB_OK && !known) {
        st = mb_fail(
            err, MB_E_FORMAT, 0,
            "role: '%.40s' is not system, developer, user, assistant, tool or function", role);
    }
    bool is_assistant = st == MB_OK && strcmp(role, "assistant") == 0;
    bool may_be_empty = is_assistant && (json_object_get(m, "tool_calls") ||
                                         json_object_get(m, "function_call"));
    *ret_content = "";
    if (st == MB_OK) {
        st = mb_json_text(m, "content", may_be_empty ? MB_JSON_OPTIONAL : MB_JSON_REQUIRED,
                          ret_content, err);
    }
    if (st == MB_OK) {
        st = mb_json_u32(m, "weight", MB_JSON_OPTIONAL, 0, 1, &weight, err);
    }
    *ret_learn = is_assistant && weight == 1;
    return st;
}

/* As the daemon does with what it is asked: the arguments of calls, OpenAI's strings of JSON, become
 * objects, and who calls without a word has null for content. Templates write both so. */
static void prepare_calls(json_t *message)
{
    json_t *calls = json_object_get(message, "tool_calls"), *call;
    size_t i;
    if (calls && !json_object_get(message, "content")) {
        (void) json_object_set_new(message, "content", json_null());
    }
    json_array_foreach (calls, i, call) {
        json_t *function = json_object_get(call, "function"), *parsed;
        const json_t *text = json_object_get(function, "arguments");
        const uint8_t *at = (const uint8_t *) json_string_value(text);
        if (at && mb_json_parse(at, json_string_length(text), "", &parsed, NULL) == MB_OK) {
            (void) json_object_set_new(function, "arguments", parsed);
        }
    }
}

/* The text of the first n messages. */
static enum mb_status template_text(struct example *e, const json_t *messages, size_t n,
                                    bool prompt, struct mb_bytes *ret, struct mb_error *err)
{
    json_t *some = json_array();
    for (size_t i = 0; some && i < n; i++) {
        if (json_array_append(some, json_array_get(messages, i)) != 0) {
            json_decref(some);
            some = NULL;
        }
    }
    char *text = some ? json_dumps(some, JSON_COMPACT) : NULL;
    json_decref(some);
    if (!text) {
        return no_memory(err);
    }
    enum mb_status st = e->o->chat_text(e->o->chat_self, text, strlen(text), prompt, ret, err);
    free(text);
    return st;
}

/* Where message i begins and ends in the whole text. Templates write what comes before a message
 * without regard to it, but for a few that leave out old thoughts: those can not be learned so. */
static enum mb_status find_span(struct example *e, const json_t *messages, size_t i,
                                struct mb_error *err)
{
    struct span *s = &e->spans[e->n_spans];
    for (int end = 0; end < 2; end++) {
        e->part.len = 0;
        enum mb_status st =
            template_text(e, messages, i + (size_t) end, end == 0, &e->part, err);
        if (st != MB_OK) {
            return st;
        }
        size_t n = e->part.len; /* of no text, there is no memory to compare */
        bool begins = n == 0 || (n <= e->text.len && memcmp(e->part.at, e->text.at, n) == 0);
        if (!begins) {
            return mb_fail(err, MB_E_UNSUPPORTED, 0,
                           "the chat template writes it otherwise once more messages follow");
        }
        *(end ? &s->to : &s->from) = e->part.len;
    }
    e->n_spans++;
    return MB_OK;
}

static enum mb_status where(enum mb_status st, size_t i, struct mb_error *err)
{
    char name[48];
    (void) snprintf(name, sizeof name, "messages[%zu]", i);
    return mb_json_where(st, name, err);
}

/* Without a template: a line each. */
static void plain_message(struct example *e, const char *content, bool learn)
{
    struct span s = { e->text.len, 0 };
    mb_bytes_put_text(&e->text, content);
    mb_bytes_put_text(&e->text, "\n");
    s.to = e->text.len;
    if (learn) {
        e->spans[e->n_spans++] = s;
    }
}

static enum mb_status read_messages(struct example *e, const json_t *messages,
                                    struct mb_error *err)
{
    size_t n = json_array_size(messages);
    bool learns[MB_EXAMPLE_MESSAGES_MAX], any = false;
    enum mb_status st = MB_OK;
    if (!json_is_array(messages) || n == 0 || n > MB_EXAMPLE_MESSAGES_MAX) {
        return mb_fail(err, MB_E_FORMAT, 0, "messages: not a list of 1..%d messages",
                       MB_EXAMPLE_MESSAGES_MAX);
    }
    for (size_t i = 0; st == MB_OK && i < n; i++) {
        const char *content = NULL;
        st = where(check_message(json_array_get(messages, i), &content, &learns[i], err), i,
                   err);
        any |= st == MB_OK && learns[i];
        if (st == MB_OK) {
            prepare_calls(json_array_get(messages, i));
        }
        if (st == MB_OK && !e->o->chat_text) {
            plain_message(e, content, learns[i]);
        }
    }
    if (st == MB_OK && !any) {
        return mb_fail(err, MB_E_FORMAT, 0, "messages: none is an assistant's, to be learned");
    }
    if (st == MB_OK && e->o->chat_text) {
        e->flags = MB_ENCODE_PARSE_SPECIAL; /* the template writes the special tokens */
        e->ends = false;
        st = template_text(e, messages, n, false, &e->text, err);
        for (size_t i = 0; st == MB_OK && i < n; i++) {
            st = learns[i] ? where(find_span(e, messages, i, err), i, err) : MB_OK;
        }
    } else if (st == MB_OK && learns[n - 1]) {
        e->text.len--; /* the end of sequence stands for the last line's end */
        e->spans[e->n_spans - 1].to--;
    }
    return st == MB_OK ? add_example(e, err) : st;
}

static enum mb_status read_line(struct example *e, const uint8_t *at, size_t n,
                                struct mb_error *err)
{
    json_t *line = NULL;
    enum mb_status st =
        n <= MB_EXAMPLE_LINE_MAX
            ? mb_json_parse(at, n, "JSON", &line, err)
            : mb_fail(err, MB_E_LIMIT, 0, "more than %u bytes", MB_EXAMPLE_LINE_MAX);
    if (st != MB_OK) {
        return st;
    }
    e->text.len = e->n_spans = 0;
    e->flags = 0;
    e->ends = true;
    const json_t *messages = json_object_get(line, "messages");
    if (messages) {
        st = read_messages(e, messages, err);
    } else if (json_object_get(line, "prompt") || json_object_get(line, "completion")) {
        st = read_prompt(e, line, err);
    } else {
        st = mb_fail(err, MB_E_FORMAT, 0, "neither messages nor prompt and completion");
    }
    json_decref(line);
    return st;
}

static const char BLANKS[4] = { ' ', '\t', '\r', '\n' };

static bool is_blank(const uint8_t *at, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!memchr(BLANKS, at[i], sizeof BLANKS)) {
            return false;
        }
    }
    return true;
}

/* Is it the line that is wrong, and not this program's memory or the model? */
static bool is_lines_fault(enum mb_status st)
{
    return st == MB_E_FORMAT || st == MB_E_INVALID || st == MB_E_LIMIT ||
           st == MB_E_UNSUPPORTED;
}

/* No more lines were wrong than may be. first is what the first of them said. */
static enum mb_status judge_bad(const struct example *e, const struct mb_error *first,
                                struct mb_error *err)
{
    const struct mb_examples_report *r = e->report;
    size_t n = r->n_bad + r->n_lines + r->n_skipped;
    if ((double) r->n_bad <= e->o->bad_share * (double) n) {
        return MB_OK;
    }
    return mb_fail(err, first->code, 0, "%zu of %zu lines are wrong, more than may be; %s",
                   r->n_bad, n, first->what);
}

static enum mb_status read_lines(struct example *e, const struct mb_file_map *file,
                                 struct mb_error *err)
{
    enum mb_status st = MB_OK;
    size_t line = 1;
    struct mb_error first = { 0 }, *why = err;
    if (e->o->bad_share > 0) {
        why = &first;
    }
    for (size_t from = 0; st == MB_OK && from < file->n; line++) {
        const uint8_t *end = memchr(file->at + from, '\n', file->n - from);
        size_t n = end ? (size_t) (end - file->at) - from : file->n - from;
        if (!is_blank(file->at + from, n)) {
            char name[32];
            (void) snprintf(name, sizeof name, "line %zu", line);
            st = mb_json_where(read_line(e, file->at + from, n, why), name, why);
        }
        if (e->o->bad_share > 0 && is_lines_fault(st)) {
            e->report->n_bad++;
            st = MB_OK;
            why = &e->ignored; /* what is told is of the first */
        }
        from += n + 1;
    }
    if (st != MB_OK && why != err && err) {
        *err = *why;
    }
    return st == MB_OK && e->report->n_bad > 0 ? judge_bad(e, &first, err) : st;
}

/* d and the tokenizer may be NULL: mb_examples_check. */
static enum mb_status read_all_lines(const struct mb_examples_options *o,
                                     const struct mb_file_map *file, struct mb_dataset *d,
                                     struct mb_examples_report *report, struct mb_error *err)
{
    struct example *e = calloc(1, sizeof *e);
    if (!e) {
        return no_memory(err);
    }
    *e = (struct example) { .o = o, .d = d, .report = report };
    enum mb_status st = read_lines(e, file, err);
    mb_bytes_fini(&e->text);
    mb_bytes_fini(&e->part);
    mb_ids_fini(&e->ids);
    mb_ids_fini(&e->prefix);
    free(e);
    return st;
}

static bool is_json_lines(const struct mb_file_map *file)
{
    size_t first = 0;
    while (first < file->n && memchr(BLANKS, file->at[first], sizeof BLANKS)) {
        first++;
    }
    return first < file->n && file->at[first] == '{';
}

enum mb_status mb_examples_check(const char *path, struct mb_examples_report *ret,
                                 struct mb_error *err)
{
    struct mb_file_map file;
    const struct mb_examples_options o = { 0 };
    *ret = (struct mb_examples_report) { 0 };
    enum mb_status st = mb_file_map(path, &file, err);
    if (st != MB_OK) {
        return st;
    }
    if (file.n > 0 && !is_json_lines(&file)) {
        st = mb_fail(err, MB_E_FORMAT, 0, "line 1: not a JSON object");
    } else {
        st = read_all_lines(&o, &file, NULL, ret, err);
    }
    if (st == MB_OK && ret->n_lines == 0) {
        st = mb_fail(err, MB_E_INVALID, 0, "it holds no examples");
    }
    mb_file_unmap(&file);
    return st;
}

enum mb_status mb_examples_read(const char *path, const struct mb_examples_options *o,
                                struct mb_dataset *d, struct mb_examples_report *ret,
                                struct mb_error *err)
{
    struct mb_file_map file;
    struct mb_examples_report report = { 0 };
    enum mb_status st = mb_file_map(path, &file, err);
    if (st != MB_OK) {
        return st;
    }
    size_t before = d->n;
    if (is_json_lines(&file)) {
        st = read_all_lines(o, &file, d, &report, err);
    } else {
        st = mb_dataset_add_text(d, o->tokenizer, (const char *) file.at, file.n, o->window,
                                 err);
    }
    if (st == MB_OK && d->n == before) {
        st = mb_fail(err, MB_E_INVALID, 0, "nothing in it is to be learned");
    }
    mb_file_unmap(&file);
    if (st != MB_OK) {
        return mb_json_where(st, path, err);
    }
    *ret = report;
    return MB_OK;
}
