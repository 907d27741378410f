/* mbool generate: completes a prompt, and prints as it goes. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/command.h"
#include "clients/cli/load.h"
#include "clients/cli/runtime.h"
#include "core/infer/sample.h"
#include "core/infer/stop.h"
#include "core/tokenizer/utf8.h"

enum option {
    PROMPT,
    MAX_TOKENS,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    MIN_P,
    REPETITION,
    PRESENCE,
    FREQUENCY,
    SEED,
    STOP,
    THREADS,
    ISA,
    IGNORE_EOS,
    LOGPROBS,
    JSON,
};

static const struct mbc_option options[] = {
    [PROMPT] = { "prompt", "TEXT",
                 "what to complete (default: nothing, a text from its start)" },
    [MAX_TOKENS] = { "max-tokens", "N",
                     "stop after N tokens (default 256, or the context's end)" },
    [TEMPERATURE] = { "temperature", "T", "0 is greedy, up to 2 (default 1)" },
    [TOP_K] = { "top-k", "K", "draw from the K likeliest tokens; 0 is off (default 0)" },
    [TOP_P] = { "top-p", "P", "draw from the likeliest that hold P of the mass (default 1)" },
    [MIN_P] = { "min-p", "P",
                "drop what is less than P times as likely as the best (default 0)" },
    [REPETITION] = { "repetition-penalty", "R",
                     "divide logits of tokens seen by R (default 1)" },
    [PRESENCE] = { "presence-penalty", "X", "subtract X for tokens in the output (default 0)" },
    [FREQUENCY] = { "frequency-penalty", "X", "subtract X each time they were (default 0)" },
    [SEED] = { "seed", "S", "same seed, same text, on any machine (default 0)" },
    [STOP] = { "stop", "TEXT", "end before this text; up to 4 times" },
    [THREADS] = { "threads", "N", "threads to compute with (default: all processors)" },
    [ISA] = MBC_ISA_OPTION,
    [IGNORE_EOS] = { "ignore-eos", NULL, "go on after the model's end of text" },
    [LOGPROBS] = { "logprobs", "N",
                   "with --json, also the N likeliest tokens each time, 0..20" },
    [JSON] = { "json", NULL, "print one JSON object at the end" },
    { 0 },
};

static int run_generate(int argc, char **argv);

const struct mbc_command mbc_generate = {
    .name = "generate",
    .arguments = "MODEL [--prompt TEXT]",
    .summary = "complete a prompt",
    .details =
        "MODEL is an .mbool file, or a Hugging Face folder or GGUF file, which runs as the float\n"
        "model.",
    .options = options,
    .run = run_generate,
};

struct request {
    const char *model, *prompt, *isa;
    uint64_t max_tokens, n_threads, n_logprobs;
    struct mb_sampling sampling;
    struct mb_stop_text stops[MB_STOPS_MAX];
    size_t n_stops;
    bool ignore_eos, logprobs, json;
};

/* Everything that lives while a text is generated. */
struct generation {
    const struct request *request;
    struct mbc_model loaded;
    struct mbc_runtime runtime;
    struct mb_sampler *sampler;
    struct mb_stops *stops;
    struct mb_decoder decoder;
    struct mb_ids prompt, output;
    struct mb_bytes piece; /* what a token adds to the text */
    struct mb_bytes shown; /* what of it may be shown */
    struct mb_bytes text;  /* all that was shown */
    float *logits;         /* [V] */
    json_t *logprobs;
    const char *finish_reason; /* "stop", "length", "interrupted" */
    bool met_stop;             /* a stop string: nothing may follow */
    double load_s, prompt_s, decode_s;
};

static bool parse_f32(const char *name, const char *text, double min, double max, float *ret)
{
    double v;
    if (!mbc_parse_f64(&mbc_generate, name, text, min, max, &v)) {
        return false;
    }
    *ret = (float) v;
    return true;
}

static bool set_sampling(enum option o, const char *text, struct mb_sampling *s)
{
    const char *name = options[o].name;
    uint64_t v = 0;
    switch (o) {
    case TEMPERATURE:
        return parse_f32(name, text, 0, 2, &s->temperature);
    case TOP_P:
        return parse_f32(name, text, 1e-9, 1, &s->top_p);
    case MIN_P:
        return parse_f32(name, text, 0, 1, &s->min_p);
    case REPETITION:
        return parse_f32(name, text, 0.01, 100, &s->repetition_penalty);
    case PRESENCE:
        return parse_f32(name, text, -2, 2, &s->presence_penalty);
    case FREQUENCY:
        return parse_f32(name, text, -2, 2, &s->frequency_penalty);
    case SEED:
        return mbc_parse_u64(&mbc_generate, name, text, 0, UINT64_MAX, &s->seed);
    default: /* TOP_K */
        if (!mbc_parse_u64(&mbc_generate, name, text, 0, MB_VOCAB_MAX, &v)) {
            return false;
        }
        s->top_k = (uint32_t) v;
        return true;
    }
}

static bool add_stop(struct request *r, const char *text)
{
    if (r->n_stops == MB_STOPS_MAX || strlen(text) < 1 || strlen(text) > MB_STOP_BYTES_MAX) {
        (void) mbc_usage_error(&mbc_generate, "--stop: at most %d texts of 1..%u bytes",
                               MB_STOPS_MAX, MB_STOP_BYTES_MAX);
        return false;
    }
    if (!mb_utf8_valid((const uint8_t *) text, strlen(text))) { /* would cut characters */
        (void) mbc_usage_error(&mbc_generate, "--stop: not UTF-8");
        return false;
    }
    r->stops[r->n_stops++] = (struct mb_stop_text) { text, strlen(text) };
    return true;
}

static bool take(void *arguments, int option, const char *text)
{
    struct request *r = arguments;
    enum option o = (enum option) option;
    const char *name = options[o].name;
    switch (o) {
    case PROMPT:
        r->prompt = text;
        return true;
    case MAX_TOKENS:
        return mbc_parse_u64(&mbc_generate, name, text, 1, MB_CONTEXT_MAX, &r->max_tokens);
    case STOP:
        return add_stop(r, text);
    case THREADS:
        return mbc_parse_u64(&mbc_generate, name, text, 1, MB_THREADS_MAX, &r->n_threads);
    case ISA:
        r->isa = text;
        return true;
    case IGNORE_EOS:
        r->ignore_eos = true;
        return true;
    case LOGPROBS:
        r->logprobs = true;
        return mbc_parse_u64(&mbc_generate, name, text, 0, MB_LOGPROBS_MAX, &r->n_logprobs);
    case JSON:
        r->json = true;
        return true;
    default:
        return set_sampling(o, text, &r->sampling);
    }
}

/* MBC_DONE with *ret_go when there is something to run. */
static int parse(int argc, char **argv, struct request *r, bool *ret_go)
{
    *r = (struct request) {
        .prompt = "",
        .isa = "auto",
        .max_tokens = 256,
        .n_threads = mbc_processors(),
        .sampling = { .temperature = 1, .top_p = 1, .repetition_penalty = 1 },
    };
    int status;
    if (!mbc_parse_line(&mbc_generate, argc, argv, "a model", take, r, &r->model, &status)) {
        return status;
    }
    if (r->logprobs && !r->json) {
        return mbc_usage_error(&mbc_generate, "--logprobs needs --json");
    }
    *ret_go = true;
    return MBC_DONE;
}

static enum mb_status encode_prompt(struct generation *g, struct mb_error *err)
{
    const char *prompt = g->request->prompt;
    uint32_t context = g->loaded.model->shape.context;
    if (!g->loaded.tokenizer) {
        return mb_fail(err, MB_E_INVALID, 0, "'%s' has no tokenizer", g->request->model);
    }
    enum mb_status st = mb_tokenizer_encode(g->loaded.tokenizer, prompt, strlen(prompt),
                                            MB_ENCODE_BOS_EOS | MB_ENCODE_PARSE_SPECIAL,
                                            context, &g->prompt, err);
    if (st == MB_OK && g->prompt.len == 0) {
        return mb_fail(err, MB_E_INVALID, 0,
                       "the prompt is empty, and this model begins a text "
                       "with no token of its own");
    }
    if (st == MB_OK && g->prompt.len >= context) {
        return mb_fail(err, MB_E_LIMIT, 0, "the prompt has %zu tokens; the context is %u",
                       g->prompt.len, (unsigned) context);
    }
    return st;
}

static enum mb_status open_runtime(struct generation *g, struct mb_error *err)
{
    const struct request *r = g->request;
    const struct mb_shape *s = &g->loaded.model->shape;
    uint64_t n_positions = g->prompt.len + r->max_tokens;
    uint32_t n_prompt = (uint32_t) g->prompt.len;
    struct mbc_runtime_options o = {
        .isa = r->isa,
        .n_threads = r->n_threads,
        .kv_type = g->loaded.is_float ? MB_KV_F32 : MB_KV_F16,
        .n_seqs = 1,
        .positions_max = n_positions < s->context ? (uint32_t) n_positions : s->context,
        .tokens_max = n_prompt < 512 ? n_prompt : 512,
        .logits_max = 1,
    };
    enum mb_status st = mbc_runtime_open(&g->runtime, g->loaded.model, &o, err);
    if (st == MB_OK) {
        st = mb_sampler_new(&g->runtime.kernels, s->n_vocab, &g->sampler, err);
    }
    if (st == MB_OK) {
        st = mb_stops_new(r->stops, r->n_stops, &g->stops, err);
    }
    g->logits = malloc(s->n_vocab * sizeof *g->logits);
    g->logprobs = json_array();
    if (st == MB_OK && (!g->logits || !g->logprobs)) {
        st = mb_fail(err, MB_E_NOMEM, 0, "no memory");
    }
    return st;
}

static void show(struct generation *g)
{
    mb_bytes_put(&g->text, g->shown.at, g->shown.len);
    if (!g->request->json && g->shown.len > 0) {
        (void) fwrite(g->shown.at, 1, g->shown.len, stdout);
        (void) fflush(stdout);
    }
    mb_bytes_clear(&g->shown);
    mb_bytes_clear(&g->piece);
}

/* A token's own bytes as JSON: text where they are UTF-8, and always the bytes. */
static json_t *token_json(const struct generation *g, uint32_t id, float logprob)
{
    size_t n;
    const uint8_t *at = mb_tokenizer_token_bytes(g->loaded.tokenizer, id, &n);
    json_t *bytes = json_array(), *text = json_stringn((const char *) at, n);
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(bytes, json_integer(at[i]));
    }
    return json_pack("{s:i, s:o, s:o, s:f}", "id", (int) id, "token", text ? text : json_null(),
                     "bytes", bytes, "logprob", (double) logprob);
}

static void keep_logprobs(struct generation *g, const struct mb_sampled *sampled)
{
    json_t *entry = token_json(g, sampled->token, sampled->logprob), *top = json_array();
    for (uint32_t i = 0; i < sampled->n_top; i++) {
        json_array_append_new(top,
                              token_json(g, sampled->top[i].token, sampled->top[i].logprob));
    }
    json_object_set_new(entry, "top", top);
    json_array_append_new(g->logprobs, entry);
}

static bool is_end(const struct generation *g, uint32_t token)
{
    const uint32_t *eos;
    size_t n = mb_tokenizer_eos(g->loaded.tokenizer, &eos);
    for (size_t i = 0; !g->request->ignore_eos && i < n; i++) {
        if (eos[i] == token) {
            return true;
        }
    }
    return false;
}

/* Takes one token from the logits. true when the text ends with it. */
static bool take_token(struct generation *g, uint32_t *ret)
{
    struct mb_sampled sampled;
    mb_sampler_draw(g->sampler, g->logits, (uint32_t) g->request->n_logprobs,
                    g->request->logprobs, &sampled);
    *ret = sampled.token;
    if (is_end(g, sampled.token)) {
        g->finish_reason = "stop";
        return true;
    }
    if (!mb_ids_push(&g->output, sampled.token)) {
        g->finish_reason = "length"; /* no memory for a longer one */
        return true;
    }
    if (g->request->logprobs) {
        keep_logprobs(g, &sampled);
    }
    mb_decoder_push(&g->decoder, sampled.token, &g->piece);
    bool stopped = mb_stops_feed(g->stops, (const char *) g->piece.at, g->piece.len, &g->shown);
    show(g);
    if (stopped) {
        g->finish_reason = "stop";
        g->met_stop = true;
    }
    return stopped;
}

static enum mb_status decode(struct generation *g, struct mb_error *err)
{
    const struct mb_model *m = g->loaded.model;
    for (;;) {
        uint32_t token;
        if (take_token(g, &token)) {
            return MB_OK;
        }
        if (g->output.len >= g->request->max_tokens ||
            g->prompt.len + g->output.len >= m->shape.context) {
            g->finish_reason = "length";
            return MB_OK;
        }
        enum mb_status st = mbc_runtime_feed(&g->runtime, m, 0, &token, 1, 1, g->logits, err);
        if (st != MB_OK) {
            return st;
        }
    }
}

static enum mb_status generate(struct generation *g, struct mb_error *err)
{
    double t0 = mbc_now_s();
    enum mb_status st = mbc_load(g->request->model, &g->loaded, err);
    if (st == MB_OK) {
        st = encode_prompt(g, err);
    }
    if (st == MB_OK) {
        st = open_runtime(g, err);
    }
    if (st != MB_OK) {
        return st;
    }
    mb_decoder_init(&g->decoder, g->loaded.tokenizer, true, g->request->prompt[0] != '\0');
    mb_sampler_start(g->sampler, &g->request->sampling, g->prompt.at, (uint32_t) g->prompt.len);
    double t1 = mbc_now_s();
    st = mbc_runtime_feed(&g->runtime, g->loaded.model, 0, g->prompt.at,
                          (uint32_t) g->prompt.len, 512, g->logits, err);
    double t2 = mbc_now_s();
    if (st == MB_OK) {
        st = decode(g, err);
    }
    if (!g->met_stop) {
        mb_decoder_finish(&g->decoder, &g->piece);
        (void) mb_stops_feed(g->stops, (const char *) g->piece.at, g->piece.len, &g->shown);
        mb_stops_finish(g->stops, &g->shown);
        show(g);
    }
    g->load_s = t1 - t0;
    g->prompt_s = t2 - t1;
    g->decode_s = mbc_now_s() - t2;
    return st;
}

static void print_json(const struct generation *g)
{
    json_t *tokens = json_array();
    for (size_t i = 0; i < g->output.len; i++) {
        json_array_append_new(tokens, json_integer(g->output.at[i]));
    }
    double n = (double) g->output.len, n_prompt = (double) g->prompt.len;
    json_t *root = json_pack(
        "{s:s%, s:o, s:s, s:i, s:i, s:s, s:{s:f, s:f, s:f, s:f, s:f}}", "text",
        g->text.len ? (const char *) g->text.at : "", g->text.len, "tokens", tokens,
        "finish_reason", g->finish_reason, "prompt_tokens", (int) g->prompt.len,
        "completion_tokens", (int) g->output.len, "isa", g->runtime.kernels.name, "timings",
        "load_s", g->load_s, "prompt_s", g->prompt_s, "prompt_tokens_per_s",
        g->prompt_s > 0 ? n_prompt / g->prompt_s : 0, "decode_s", g->decode_s,
        "decode_tokens_per_s", g->decode_s > 0 ? n / g->decode_s : 0);
    if (g->request->logprobs) {
        json_object_set(root, "logprobs", g->logprobs);
    }
    (void) json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    printf("\n");
    json_decref(root);
}

static void print_end(const struct generation *g)
{
    printf("\n");
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, "[%zu prompt tokens in %.3f s; %zu tokens in %.3f s, %.1f/s; %s]\n",
                g->prompt.len, g->prompt_s, g->output.len, g->decode_s,
                g->decode_s > 0 ? (double) g->output.len / g->decode_s : 0, g->finish_reason);
    }
}

static void clean_up(struct generation *g)
{
    mbc_runtime_close(&g->runtime);
    mb_sampler_free(g->sampler);
    mb_stops_free(g->stops);
    mb_ids_fini(&g->prompt);
    mb_ids_fini(&g->output);
    mb_bytes_fini(&g->piece);
    mb_bytes_fini(&g->shown);
    mb_bytes_fini(&g->text);
    free(g->logits);
    json_decref(g->logprobs);
    mbc_unload(&g->loaded);
}

static int run_generate(int argc, char **argv)
{
    struct request request;
    bool go = false;
    int status = parse(argc, argv, &request, &go);
    if (!go) {
        return status;
    }
    mbc_catch_interrupt();
    struct mb_error err = { 0 };
    struct generation g = { .request = &request, .finish_reason = "interrupted" };
    enum mb_status st = generate(&g, &err);
    bool ended = st == MB_OK || st == MB_E_CANCELLED;
    if (ended && request.json) {
        print_json(&g);
    } else if (ended) {
        print_end(&g);
    }
    status = st == MB_OK ? MBC_DONE : mbc_report_error(&mbc_generate, &err);
    clean_up(&g);
    return status;
}
