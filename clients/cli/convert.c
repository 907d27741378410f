/* mbool convert: a Hugging Face folder or a GGUF file to an .mbool file. */
#include <jansson.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clients/cli/command.h"
#include "clients/cli/runtime.h"
#include "core/base/bytes.h"
#include "core/base/file.h"
#include "core/convert/convert.h"

enum {
    OUTPUT,
    KERNELS,
    BITS,
    GROUP,
    INIT,
    CALIBRATE,
    CALIBRATION_TOKENS,
    HEAD_KERNELS,
    PLANES,
    TURNS,
    ONCE,
    DAMPING,
    FOLLOW,
    THREADS,
    SEED,
    ISA,
    NO_RESUME,
    JSON
};

static const struct mbc_option options[] = {
    [OUTPUT] = { "output", "FILE", "the checkpoint to write (required)" },
    [KERNELS] = { "kernels", "K", "sign matrices per weight, 1..8 (default 3)" },
    [BITS] = { "bits", "B",
               "instead: choose K, 1..4, of each tensor of the blocks by its harm" },
    [GROUP] = { "group", "G",
                "columns that share a scale: 32, 64, ... or 'row' (default 128)" },
    [INIT] = { "init", "HOW", "where a fit starts: greedy, svd or random (default greedy)" },
    [CALIBRATE] = { "calibrate", "TEXT", "a text like those the model will see; do give one" },
    [CALIBRATION_TOKENS] = { "calibration-tokens", "N", "of it are used (default 131072)" },
    [HEAD_KERNELS] = { "head-kernels", "N", "of embedding and head, or 'float16' (default 4)" },
    [PLANES] = { "planes", "P", "bits of an activation: 4..8, or 1 (default 8)" },
    [TURNS] = { "turns", "N", "of descent after error feedback (default 4)" },
    [ONCE] = { "once", NULL, "signs and coefficients not in turn before it: to compare with" },
    [DAMPING] = { "damping", "X", "of second moments, relative (default 0.01)" },
    [FOLLOW] = { "follow", "X", "how far to undo earlier layers' errors, 0..1 (default 0.75)" },
    [THREADS] = { "threads", "N", "default: all processors; the result is the same" },
    [SEED] = { "seed", "S", "of --init random (default 0)" },
    [ISA] = MBC_ISA_OPTION,
    [NO_RESUME] = { "no-resume", NULL, "start anew, whatever FILE.part holds" },
    [JSON] = { "json", NULL, "print the report as JSON" },
    { NULL, NULL, NULL },
};

struct arguments {
    const char *dir, *output, *text, *isa;
    struct mb_convert_options convert;
    uint64_t n_threads;
    bool has_kernels, json;
};

static bool take_u32(const char *option, const char *value, uint64_t min, uint64_t max,
                     uint32_t *ret)
{
    uint64_t v;
    if (!mbc_parse_u64(&mbc_convert, option, value, min, max, &v)) {
        return false;
    }
    *ret = (uint32_t) v;
    return true;
}

static bool take_init(const char *value, enum mb_fit_init *ret)
{
    static const char *const names[] = {
        [MB_INIT_GREEDY] = "greedy", [MB_INIT_SVD] = "svd", [MB_INIT_RANDOM] = "random"
    };
    for (int i = 0; i <= MB_INIT_RANDOM; i++) {
        if (strcmp(value, names[i]) == 0) {
            *ret = (enum mb_fit_init) i;
            return true;
        }
    }
    (void) mbc_usage_error(&mbc_convert, "--init: '%s' is not greedy, svd or random", value);
    return false;
}

static bool take_group(const char *value, uint32_t *ret)
{
    if (strcmp(value, "row") == 0) {
        *ret = 0;
        return true;
    }
    if (!take_u32("group", value, MB_WORD_COLS, MB_GROUP_COLS_MAX, ret)) {
        return false;
    }
    if (*ret % MB_WORD_COLS != 0) {
        (void) mbc_usage_error(&mbc_convert, "--group: %s is not a multiple of %d", value,
                               MB_WORD_COLS);
        return false;
    }
    return true;
}

static bool take_planes(const char *value, uint32_t *ret)
{
    if (!take_u32("planes", value, 1, MB_PLANES_MAX, ret)) {
        return false;
    }
    if (*ret > 1 && *ret < 4) {
        (void) mbc_usage_error(&mbc_convert, "--planes: %s is not 1 or 4..8", value);
        return false;
    }
    return true;
}

static bool take_f64(const char *option, const char *value, double min, double max, double *ret)
{
    return mbc_parse_f64(&mbc_convert, option, value, min, max, ret);
}

static bool take(void *arguments, int option, const char *value)
{
    struct arguments *a = arguments;
    struct mb_convert_options *o = &a->convert;
    uint64_t v = 0;
    double x = 0;
    bool ok = true;
    switch (option) {
    case OUTPUT:
        a->output = value;
        return true;
    case KERNELS:
        a->has_kernels = true;
        return take_u32("kernels", value, 1, MB_KERNELS_MAX, &o->fit.n_kernels);
    case BITS:
        return take_f64("bits", value, 1, 2.0 * MB_KERNELS_MAX, &o->bits);
    case GROUP:
        return take_group(value, &o->fit.group);
    case INIT:
        return take_init(value, &o->fit.init);
    case CALIBRATE:
        a->text = value;
        return true;
    case CALIBRATION_TOKENS:
        ok = mbc_parse_u64(&mbc_convert, "calibration-tokens", value, 2, UINT32_MAX, &v);
        o->tokens_max = v;
        return ok;
    case HEAD_KERNELS:
        o->head_kernels = 0;
        return strcmp(value, "float16") == 0 ||
               take_u32("head-kernels", value, 1, MB_KERNELS_MAX, &o->head_kernels);
    case PLANES:
        return take_planes(value, &o->n_planes);
    case TURNS:
        return take_u32("turns", value, 0, MB_FIT_TURNS_MAX, &o->fit.n_turns);
    case ONCE:
        o->fit.once = true;
        return true;
    case DAMPING:
        return take_f64("damping", value, 1e-6, 10, &o->damping);
    case FOLLOW:
        ok = take_f64("follow", value, 0, 1, &x);
        o->fit.follow = (float) x;
        return ok;
    case THREADS:
        return mbc_parse_u64(&mbc_convert, "threads", value, 1, MB_THREADS_MAX, &a->n_threads);
    case SEED:
        return mbc_parse_u64(&mbc_convert, "seed", value, 0, UINT64_MAX, &o->fit.seed);
    case ISA:
        a->isa = value;
        return true;
    case NO_RESUME:
        o->anew = true;
        return true;
    default:
        a->json = true;
        return true;
    }
}

/* Whether *a is complete; else *ret_status is the exit status. */
static bool parse(int argc, char **argv, struct arguments *a, int *ret_status)
{
    if (!mbc_parse_line(&mbc_convert, argc, argv, "a Hugging Face folder or a GGUF file", take,
                        a, &a->dir, ret_status)) {
        return false;
    }
    if (!a->output) {
        *ret_status = mbc_usage_error(&mbc_convert, "-o FILE is wanted");
        return false;
    }
    if (a->has_kernels && a->convert.bits > 0) {
        *ret_status = mbc_usage_error(&mbc_convert, "--bits and --kernels exclude each other");
        return false;
    }
    return true;
}

/* The most memory this process held, mapped pages of the source included. */
static double peak_mib(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) == 0 ? (double) u.ru_maxrss / 1024 : 0;
}

static json_t *tensor_json(const struct mb_convert_tensor *t)
{
    uint64_t n = (uint64_t) t->n_rows * t->n_cols;
    return json_pack("{s:s, s:i, s:i, s:i, s:f, s:f, s:f}", "name", t->name, "rows",
                     (int) t->n_rows, "columns", (int) t->n_cols, "kernels", (int) t->n_kernels,
                     "bits_per_weight", mb_bits_per_weight(t->bytes, n), "output_error",
                     t->errors.output, "plain_error", t->errors.plain);
}

static void print_json(const struct arguments *a, const struct mb_convert_report *r)
{
    json_t *tensors = json_array();
    for (size_t i = 0; i < r->n_tensors; i++) {
        (void) json_array_append_new(tensors, tensor_json(&r->tensors[i]));
    }
    json_t *o = json_pack("{s:s, s:o, s:I, s:I, s:f, s:f, s:I, s:f, s:f}", "output", a->output,
                          "tensors", tensors, "weights", (json_int_t) r->n_weights,
                          "weight_bytes", (json_int_t) r->weight_bytes, "bits_per_weight",
                          mb_bits_per_weight(r->weight_bytes, r->n_weights), "output_error",
                          r->output_error, "calibration_tokens", (json_int_t) r->n_tokens,
                          "peak_memory_mib", peak_mib(), "block_bits_per_weight",
                          mb_bits_per_weight(r->block_bytes, r->n_block_weights));
    (void) json_dumpf(o, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    printf("\n");
    json_decref(o);
}

static void print_table(const struct arguments *a, const struct mb_convert_report *r)
{
    printf("%-24s %15s  %-7s %7s %10s\n", "tensor", "shape", "kernels", "bits/w", "error %");
    for (size_t i = 0; i < r->n_tensors; i++) {
        const struct mb_convert_tensor *t = &r->tensors[i];
        char shape[32], kernels[16] = "float16";
        (void) snprintf(shape, sizeof shape, "%u x %u", (unsigned) t->n_rows,
                        (unsigned) t->n_cols);
        if (t->n_kernels > 0) {
            (void) snprintf(kernels, sizeof kernels, "%u", (unsigned) t->n_kernels);
        }
        printf("%-24s %15s  %-7s %7.3f %10.4f\n", t->name, shape, kernels,
               mb_bits_per_weight(t->bytes, (uint64_t) t->n_rows * t->n_cols),
               100 * t->errors.output);
    }
    printf(
        "\n%s: %.2f MiB of weights, %.3f bits per weight, output error of the blocks %.4f %%\n",
        a->output, (double) r->weight_bytes / (1 << 20),
        mb_bits_per_weight(r->weight_bytes, r->n_weights), 100 * r->output_error);
    if (a->convert.bits > 0) {
        printf("the blocks: %.4f bits per weight of a budget of %g, kernels chosen by %s\n",
               mb_bits_per_weight(r->block_bytes, r->n_block_weights), a->convert.bits,
               a->text ? "measured divergence" : "weight error times size, for want of a text");
    }
    if (a->text) {
        printf("calibrated on %llu tokens; ", (unsigned long long) r->n_tokens);
    } else {
        printf("not calibrated (--calibrate TEXT makes it much better); ");
    }
    printf("peak memory %.0f MiB, mapped source included\n", peak_mib());
}

static void say_found(void *self, size_t n_fits, size_t n_fits_of)
{
    const struct arguments *a = self;
    fprintf(stderr, "%zu of %zu tensors are taken from %s.part\n", n_fits, n_fits_of,
            a->output);
}

/* After Ctrl-C, if anything was finished by then. */
static void say_resumable(const struct arguments *a)
{
    struct mb_bytes part = { 0 };
    mb_bytes_printf(&part, "%s.part", a->output);
    if (access(mb_bytes_text(&part), F_OK) == 0) {
        fprintf(
            stderr,
            "mbool convert: what is finished is kept in %s; the same command%s goes on from "
            "there\n",
            mb_bytes_text(&part), a->convert.anew ? " without --no-resume" : "");
    }
    mb_bytes_fini(&part);
}

static enum mb_status convert(struct arguments *a, struct mb_error *err)
{
    struct mb_file_map text = { 0 };
    struct mb_pool *pool = NULL;
    struct mb_kernels kernels;
    struct mb_convert_report report;
    enum mb_status st = mbc_processor_open(a->isa, a->n_threads, &kernels, &pool, err);
    if (st == MB_OK && a->text) {
        st = mb_file_map(a->text, &text, err);
        a->convert.text = text.at ? (const char *) text.at : "";
        a->convert.n_text = text.n;
    }
    if (st == MB_OK) {
        a->convert.found = say_found;
        a->convert.found_self = a;
        struct mb_progress progress = mbc_progress_begin("convert");
        st =
            mb_convert(a->dir, a->output, &a->convert, &kernels, pool, &progress, &report, err);
        mbc_progress_end();
    }
    if (st == MB_E_CANCELLED) {
        say_resumable(a);
    }
    if (st == MB_OK) {
        if (a->json) {
            print_json(a, &report);
        } else {
            print_table(a, &report);
        }
        mb_convert_report_fini(&report);
    }
    mb_file_unmap(&text);
    mb_pool_free(pool);
    return st;
}

static int run(int argc, char **argv)
{
    struct arguments a = {
        .isa = "auto",
        .convert = mb_convert_defaults(),
        .n_threads = mbc_processors(),
    };
    struct mb_error err = { 0 };
    int status;
    if (!parse(argc, argv, &a, &status)) {
        return status;
    }
    return convert(&a, &err) == MB_OK ? MBC_DONE : mbc_report_error(&mbc_convert, &err);
}

const struct mbc_command mbc_convert = {
    .name = "convert",
    .arguments = "FOLDER|MODEL.gguf -o FILE.mbool",
    .summary = "make a checkpoint of Boolean matrices from a Hugging Face folder or GGUF",
    .details =
        "--bits B holds the mean over the weights of the blocks' linear layers at B or below;\n"
        "counted are signs, group scales and coefficients, padding included, but not\n"
        "embedding and head (--head-kernels), norms and input scales. A tensor's harm is\n"
        "the divergence of the float model on the calibration text when it alone is\n"
        "fit; without a text, the error of its weights.\n"
        "Errors are those of each layer's output, squared, relative to its size.\n"
        "A GGUF file is of the architecture llama, its tensors F32, F16, BF16 or Q8_0.\n"
        "The same model, text and options give the same file, whatever the threads.\n"
        "Interrupted, even killed, it goes on where it was when it is called again alike:\n"
        "what is finished is kept beside the output in FILE.part until all is.",
    .options = options,
    .run = run,
};
