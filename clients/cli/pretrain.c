/* mbool pretrain: a float model from nothing, on a text. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/command.h"
#include "clients/cli/runtime.h"
#include "core/base/file.h"
#include "core/finetune/pretrain.h"
#include "core/import/hf_write.h"
#include "core/tokenizer/train.h"

enum {
    TEXT,
    VALID,
    OUTPUT,
    SPECIAL,
    TEMPLATE,
    VOCAB,
    WIDTH,
    LAYERS,
    HEADS,
    KV_HEADS,
    FFN,
    CONTEXT,
    STEPS,
    BATCH_TOKENS,
    WARMUP,
    RATE,
    DECAY,
    SEED,
    THREADS,
    JSON
};

static const struct mbc_option options[] = {
    [TEXT] = { "text", "FILE", "documents to learn, with lines <|endoftext|> between them" },
    [VALID] = { "valid", "FILE", "documents to measure with" },
    [OUTPUT] = { "output", "DIR", "the folder to write (required)" },
    [SPECIAL] = { "special", "LIST",
                  "special tokens, by commas: the first begins a text, the second ends it "
                  "(default <|begin|>,<|end|>,<|system|>,<|user|>,<|assistant|>)" },
    [TEMPLATE] = { "chat-template", "FILE", "the Jinja template to put into the folder" },
    [VOCAB] = { "vocab", "N", "tokens, learned from the text (default 1024)" },
    [WIDTH] = { "width", "D", "of the residual stream (default 256)" },
    [LAYERS] = { "layers", "N", "decoder blocks (default 3)" },
    [HEADS] = { "heads", "H", "query heads (default 4)" },
    [KV_HEADS] = { "kv-heads", "N", "key heads (default 2)" },
    [FFN] = { "ffn", "F", "width of the feed-forward layers (default 768)" },
    [CONTEXT] = { "context", "N", "positions, and tokens of a window (default 512)" },
    [STEPS] = { "steps", "N", "batches (default 2000)" },
    [BATCH_TOKENS] = { "batch-tokens", "N", "tokens of a batch, at most (default 4096)" },
    [WARMUP] = { "warmup", "N", "steps of a rising rate (default: a twentieth)" },
    [RATE] = { "rate", "R", "learning rate at its highest (default 0.003)" },
    [DECAY] = { "decay", "R", "weight decay of matrices (default 0.1)" },
    [SEED] = { "seed", "S", "of weights and of the order of the text (default 0)" },
    [THREADS] = { "threads", "N", "threads (default: all processors)" },
    [JSON] = { "json", NULL, "print a JSON object a line for each report" },
    { NULL, NULL, NULL },
};

static int run_pretrain(int argc, char **argv);

const struct mbc_command mbc_pretrain = {
    .name = "pretrain",
    .arguments = "--text FILE -o DIR",
    .summary = "train a small float model from nothing, and write it as a Hugging Face folder",
    .details =
        "Learns a byte-level tokenizer from the text, then a Llama by AdamW with a rate that\n"
        "rises, and falls along a cosine to a tenth. In the text, special tokens stand as they\n"
        "are written. The weights are written in float16. The same text and options give the\n"
        "same folder on one kind of processor, whatever the threads. Ctrl-C ends training\n"
        "after the step and writes what there is.",
    .options = options,
    .run = run_pretrain,
};

enum { SPECIAL_MAX = 32 };

struct arguments {
    const char *text, *valid, *output, *template;
    char special_list[1024];
    const char *special[SPECIAL_MAX];
    uint32_t n_special;
    uint64_t vocab, width, layers, heads, kv_heads, ffn, context;
    uint64_t steps, batch_tokens, warmup, seed, n_threads;
    double rate, decay;
    bool warmup_given, json;
};

static bool take_special(struct arguments *a, const char *list)
{
    if (strlen(list) >= sizeof a->special_list) {
        (void) mbc_usage_error(&mbc_pretrain, "--special: more than %zu characters",
                               sizeof a->special_list - 1);
        return false;
    }
    strcpy(a->special_list, list);
    a->n_special = 0;
    char *rest = a->special_list, *token;
    while ((token = strsep(&rest, ",")) != NULL) {
        if (*token == '\0' || a->n_special == SPECIAL_MAX) {
            (void) mbc_usage_error(
                &mbc_pretrain, "--special: 2 to %d tokens, none of them empty", SPECIAL_MAX);
            return false;
        }
        a->special[a->n_special++] = token;
    }
    if (a->n_special < 2) {
        (void) mbc_usage_error(&mbc_pretrain, "--special: one token; the first begins a text, "
                                              "the second ends it");
    }
    return a->n_special >= 2;
}

static bool take_number(struct arguments *a, int option, const char *value)
{
    const struct {
        uint64_t *ret, min, max;
    } numbers[] = {
        [VOCAB] = { &a->vocab, 256, MB_BPE_TRAIN_VOCAB_MAX },
        [WIDTH] = { &a->width, 1, MB_WIDTH_MAX },
        [LAYERS] = { &a->layers, 1, MB_LAYERS_MAX },
        [HEADS] = { &a->heads, 1, MB_HEADS_MAX },
        [KV_HEADS] = { &a->kv_heads, 1, MB_HEADS_MAX },
        [FFN] = { &a->ffn, 1, MB_COLS_MAX },
        [CONTEXT] = { &a->context, 2, MB_CONTEXT_MAX },
        [STEPS] = { &a->steps, 1, UINT32_MAX },
        [BATCH_TOKENS] = { &a->batch_tokens, 2, 1u << 20 },
        [WARMUP] = { &a->warmup, 0, UINT32_MAX },
        [SEED] = { &a->seed, 0, UINT64_MAX },
        [THREADS] = { &a->n_threads, 1, MB_THREADS_MAX },
    };
    return mbc_parse_u64(&mbc_pretrain, options[option].name, value, numbers[option].min,
                         numbers[option].max, numbers[option].ret);
}

static bool take(struct arguments *a, int option, const char *value)
{
    switch (option) {
    case TEXT:
        a->text = value;
        return true;
    case VALID:
        a->valid = value;
        return true;
    case OUTPUT:
        a->output = value;
        return true;
    case TEMPLATE:
        a->template = value;
        return true;
    case SPECIAL:
        return take_special(a, value);
    case RATE:
        return mbc_parse_f64(&mbc_pretrain, "rate", value, 1e-9, 1, &a->rate);
    case DECAY:
        return mbc_parse_f64(&mbc_pretrain, "decay", value, 0, 1, &a->decay);
    case JSON:
        a->json = true;
        return true;
    case WARMUP:
        a->warmup_given = true;
        return take_number(a, option, value);
    default:
        return take_number(a, option, value);
    }
}

/* Everything that a run needs; what is not there is NULL or empty. */
struct job {
    const struct arguments *a;
    struct mb_file_map text, valid_text, template_text;
    struct mb_bytes template;
    struct mb_bpe_spec *spec;
    struct mb_tokenizer *tokenizer;
    struct mb_windows train, valid;
    struct mb_pool *pool;
    struct mb_progress bar;
    double begun_s;
};

/* The text without special tokens and lines between documents: nothing to learn merges from. */
static enum mb_status words_only(const struct job *j, struct mb_bytes *ret,
                                 struct mb_error *err)
{
    const char *at = (const char *) j->text.at, *end = at + j->text.n;
    while (at < end) {
        size_t skip = 0;
        for (uint32_t i = 0; i <= j->a->n_special && skip == 0; i++) {
            const char *mark = i < j->a->n_special ? j->a->special[i] : MB_DOCUMENT_END;
            size_t n = strlen(mark);
            skip = n <= (size_t) (end - at) && memcmp(at, mark, n) == 0 ? n : 0;
        }
        mb_bytes_put_u8(ret, skip > 0 ? '\n' : (uint8_t) *at);
        at += skip > 0 ? skip : 1;
    }
    return ret->failed ? mb_fail(err, MB_E_NOMEM, 0, "no memory for the text") : MB_OK;
}

static enum mb_status learn_tokenizer(struct job *j, struct mb_error *err)
{
    struct mb_bpe_train o = { .n_vocab = (uint32_t) j->a->vocab,
                              .special = j->a->special,
                              .n_special = j->a->n_special,
                              .bos = 0,
                              .eos = 1 };
    struct mb_bytes words = { 0 };
    enum mb_status st = words_only(j, &words, err);
    if (st == MB_OK) {
        st = mb_bpe_train(&o, words.at, words.len, &j->spec, err);
    }
    mb_bytes_fini(&words);
    return st == MB_OK ? mb_tokenizer_new(j->spec, &j->tokenizer, err) : st;
}

static enum mb_status cut(const struct job *j, const struct mb_file_map *text,
                          struct mb_windows *ret, struct mb_error *err)
{
    return mb_windows_of_marked_text(j->tokenizer, (const char *) text->at, text->n,
                                     (size_t) j->a->context, 0, ret, err);
}

static enum mb_status read_input(struct job *j, struct mb_error *err)
{
    enum mb_status st = mb_file_map(j->a->text, &j->text, err);
    if (st == MB_OK && j->a->valid) {
        st = mb_file_map(j->a->valid, &j->valid_text, err);
    }
    if (st == MB_OK && j->a->template) {
        st = mb_file_map(j->a->template, &j->template_text, err);
        mb_bytes_put(&j->template, j->template_text.at, j->template_text.n);
    }
    if (st == MB_OK) {
        st = learn_tokenizer(j, err);
    }
    if (st == MB_OK) {
        st = cut(j, &j->text, &j->train, err);
    }
    if (st == MB_OK && j->a->valid) {
        st = cut(j, &j->valid_text, &j->valid, err);
    }
    return st;
}

static void print_report(const struct job *j, const struct mb_pretrain_report *r, double rate)
{
    if (j->a->json) {
        json_t *line =
            json_pack("{s:I, s:I, s:I, s:f, s:f, s:f}", "step", (json_int_t) r->step, "steps",
                      (json_int_t) r->steps, "tokens", (json_int_t) r->tokens, "loss", r->loss,
                      "rate", (double) r->rate, "tokens_per_s", rate);
        if (!isnan(r->valid_loss)) {
            json_object_set_new(line, "valid_loss", json_real(r->valid_loss));
        }
        (void) json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
        json_decref(line);
    } else {
        printf("step %" PRIu32 " of %" PRIu32 "  loss %.4f", r->step, r->steps, r->loss);
        if (!isnan(r->valid_loss)) {
            printf("  valid %.4f", r->valid_loss);
        }
        printf("  rate %.2e  %.0f tokens/s", (double) r->rate, rate);
    }
    printf("\n");
    (void) fflush(stdout);
}

static void report(void *self, const struct mb_pretrain_report *r)
{
    struct job *j = self;
    print_report(j, r, (double) r->tokens / (mbc_now_s() - j->begun_s));
}

static struct mb_pretrain_options pretrain_options(struct job *j)
{
    const struct arguments *a = j->a;
    return (struct mb_pretrain_options) {
        .shape = { .n_layers = (uint32_t) a->layers,
                   .width = (uint32_t) a->width,
                   .n_heads = (uint32_t) a->heads,
                   .n_kv_heads = (uint32_t) a->kv_heads,
                   .head_width = (uint32_t) (a->width / a->heads),
                   .ffn_width = (uint32_t) a->ffn,
                   .n_vocab = j->spec->n_tokens,
                   .context = (uint32_t) a->context,
                   .n_planes = 8,
                   .norm_eps = 1e-5f,
                   .tied_head = 1 },
        .rope_theta = 10000,
        .seed = a->seed,
        .train = &j->train,
        .valid = a->valid ? &j->valid : NULL,
        .batch_tokens = (uint32_t) a->batch_tokens,
        .steps = (uint32_t) a->steps,
        .warmup = (uint32_t) (a->warmup_given ? a->warmup : a->steps / 20),
        .report_every = 20,
        .valid_every = 10,
        .rate = (float) a->rate,
        .decay = (float) a->decay,
        .pool = j->pool,
        .ops = mb_train_ops_select(mb_cpu_detect()),
        .report = report,
        .self = j,
        .progress = &j->bar,
    };
}

static enum mb_status pretrain(struct job *j, struct mb_error *err)
{
    enum mb_status st = mb_pool_new(j->a->n_threads, 0, &j->pool, err);
    if (st == MB_OK) {
        st = read_input(j, err);
    }
    if (st != MB_OK) {
        return st;
    }
    struct mb_pretrain_options o = pretrain_options(j);
    struct mb_model *m = NULL;
    j->bar = mbc_progress_begin("pretrain");
    j->begun_s = mbc_now_s();
    st = mb_pretrain(&o, &m, err);
    mbc_progress_end();
    if (st != MB_OK) {
        return st;
    }
    struct mb_hf_write w = { m, o.rope_theta, j->spec,
                             j->a->template ? mb_bytes_text(&j->template) : NULL };
    st = mb_hf_write(&w, j->a->output, err);
    if (st == MB_OK && !j->a->json) {
        printf("%s: %zu weights, %" PRIu32 " tokens in the vocabulary\n", j->a->output,
               mb_float_model_n_weights(m), o.shape.n_vocab);
    }
    mb_model_unref(m);
    return st;
}

static void close_job(struct job *j)
{
    mb_windows_fini(&j->train);
    mb_windows_fini(&j->valid);
    mb_tokenizer_free(j->tokenizer);
    mb_bpe_spec_free(j->spec);
    mb_bytes_fini(&j->template);
    mb_file_unmap(&j->text);
    mb_file_unmap(&j->valid_text);
    mb_file_unmap(&j->template_text);
    mb_pool_free(j->pool);
}

static int run_pretrain(int argc, char **argv)
{
    struct arguments a = { .vocab = 1024,
                           .width = 256,
                           .layers = 3,
                           .heads = 4,
                           .kv_heads = 2,
                           .ffn = 768,
                           .context = 512,
                           .steps = 2000,
                           .batch_tokens = 4096,
                           .rate = 0.003,
                           .decay = 0.1,
                           .n_threads = mbc_processors() };
    (void) take_special(&a, "<|begin|>,<|end|>,<|system|>,<|user|>,<|assistant|>");
    const char *value = NULL;
    int first = 0, status = MBC_DONE, option;
    while ((option = mbc_next_option(&mbc_pretrain, argc, argv, &value, &first, &status)) >=
           0) {
        if (!take(&a, option, value)) {
            return MBC_USAGE;
        }
    }
    if (option == MBC_OPT_EXIT) {
        return status;
    }
    if (argc != first) {
        return mbc_usage_error(&mbc_pretrain, "'%s': only options are wanted", argv[first]);
    }
    if (!a.text || !a.output) {
        return mbc_usage_error(&mbc_pretrain, "%s is wanted",
                               a.text ? "-o DIR" : "--text FILE");
    }
    if (a.width % a.heads != 0) {
        return mbc_usage_error(&mbc_pretrain,
                               "--width: %" PRIu64 " is no multiple of %" PRIu64 " heads",
                               a.width, a.heads);
    }
    struct job j = { .a = &a };
    struct mb_error err = { 0 };
    enum mb_status st = pretrain(&j, &err);
    close_job(&j);
    return st == MB_OK ? MBC_DONE : mbc_report_error(&mbc_pretrain, &err);
}
