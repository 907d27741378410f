/* mbool synth: random weights in the shape of a known model, to measure with. */
#include <string.h>

#include "clients/cli/command.h"
#include "core/synth/synth.h"

enum { OUTPUT, SHAPE, KERNELS, GROUP, HEAD_KERNELS, LAYERS, SEED };

static const struct mbc_option options[] = {
    [OUTPUT] = { "output", "FILE", "the checkpoint to write (required)" },
    [SHAPE] = { "shape", "NAME", "tinyllama-1.1b, llama-7b, llama3-8b or qwen2.5-0.5b" },
    [KERNELS] = { "kernels", "K", "sign matrices per weight, 1..8 (default 3)" },
    [GROUP] = { "group", "G",
                "columns that share a scale: 32, 64, ... or 'row' (default 128)" },
    [HEAD_KERNELS] = { "head-kernels", "N", "of embedding and head, or 'float16' (default 4)" },
    [LAYERS] = { "layers", "N", "decoder blocks, for a smaller file (default: the shape's)" },
    [SEED] = { "seed", "S", "of the random numbers (default 0)" },
    { NULL, NULL, NULL },
};

static int run_synth(int argc, char **argv);

const struct mbc_command mbc_synth = {
    .name = "synth",
    .arguments = "--shape NAME -o FILE",
    .summary = "write a checkpoint of random weights, to measure with",
    .details =
        "Whoever reads, runs or serves the file does the work that the named model takes: the\n"
        "weights are random, never zeros, their scales those of trained models. Its tokenizer\n"
        "takes each byte for a token, and decodes other ids to invented words. The same\n"
        "options give the same bytes. Layers have no biases: qwen2.5-0.5b is a Llama of that\n"
        "shape, without those that the original adds to queries, keys and values.",
    .options = options,
    .run = run_synth,
};

struct arguments {
    const char *output;
    const struct mb_synth_model *model;
    uint64_t n_kernels, group, head_kernels, n_layers, seed;
};

static bool take_shape(const char *value, const struct mb_synth_model **ret)
{
    char known[256] = "";
    for (size_t i = 0; mb_synth_model_at(i); i++) {
        size_t n = strlen(known);
        (void) snprintf(known + n, sizeof known - n, "%s %s", n > 0 ? "," : "",
                        mb_synth_model_at(i)->name);
    }
    *ret = mb_synth_model_find(value);
    if (!*ret) {
        (void) mbc_usage_error(&mbc_synth, "--shape: '%s' is none of%s", value, known);
    }
    return *ret;
}

static bool take_group(const char *value, uint64_t *ret)
{
    if (strcmp(value, "row") == 0) {
        *ret = 0;
        return true;
    }
    if (!mbc_parse_u64(&mbc_synth, "group", value, MB_WORD_COLS, MB_GROUP_COLS_MAX, ret)) {
        return false;
    }
    if (*ret % MB_WORD_COLS != 0) {
        (void) mbc_usage_error(&mbc_synth, "--group: %s is not a multiple of %d", value,
                               MB_WORD_COLS);
        return false;
    }
    return true;
}

static bool take(struct arguments *a, int option, const char *value)
{
    const char *name = options[option].name;
    switch (option) {
    case OUTPUT:
        a->output = value;
        return true;
    case SHAPE:
        return take_shape(value, &a->model);
    case KERNELS:
        return mbc_parse_u64(&mbc_synth, name, value, 1, MB_KERNELS_MAX, &a->n_kernels);
    case GROUP:
        return take_group(value, &a->group);
    case HEAD_KERNELS:
        a->head_kernels = 0;
        return strcmp(value, "float16") == 0 ||
               mbc_parse_u64(&mbc_synth, name, value, 1, MB_KERNELS_MAX, &a->head_kernels);
    case LAYERS:
        return mbc_parse_u64(&mbc_synth, name, value, 1, MB_LAYERS_MAX, &a->n_layers);
    default:
        return mbc_parse_u64(&mbc_synth, name, value, 0, UINT64_MAX, &a->seed);
    }
}

static int run_synth(int argc, char **argv)
{
    struct arguments a = { .n_kernels = 3, .group = 128, .head_kernels = 4 };
    const char *value = NULL;
    int first = 0, status = MBC_DONE, option;
    while ((option = mbc_next_option(&mbc_synth, argc, argv, &value, &first, &status)) >= 0) {
        if (!take(&a, option, value)) {
            return MBC_USAGE;
        }
    }
    if (option == MBC_OPT_EXIT) {
        return status;
    }
    if (argc != first) {
        return mbc_usage_error(&mbc_synth, "'%s': only options are wanted", argv[first]);
    }
    if (!a.model || !a.output) {
        return mbc_usage_error(&mbc_synth, "%s is wanted",
                               a.model ? "-o FILE" : "--shape NAME");
    }
    struct mb_synth_options o = {
        .shape = a.model->shape,
        .rope_theta = a.model->rope_theta,
        .n_kernels = (uint32_t) a.n_kernels,
        .head_kernels = (uint32_t) a.head_kernels,
        .group = (uint32_t) a.group,
        .seed = a.seed,
    };
    if (a.n_layers > 0) {
        o.shape.n_layers = (uint32_t) a.n_layers;
    }
    struct mb_error err = { 0 };
    struct mb_progress progress = mbc_progress_begin("synth");
    enum mb_status st = mb_synth(a.output, &o, &progress, &err);
    mbc_progress_end();
    return st == MB_OK ? MBC_DONE : mbc_report_error(&mbc_synth, &err);
}
