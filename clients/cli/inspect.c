/* mbool inspect: what is inside a checkpoint. Reads its structure, not its weights. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/command.h"
#include "core/checkpoint/format.h"
#include "core/checkpoint/reader.h"
#include "core/tokenizer/tokenizer.h"
#include "core/tokenizer/utf8.h"

enum option { JSON };

static const struct mbc_option options[] = {
    [JSON] = { "json", NULL, "print one JSON object" },
    { NULL, NULL, NULL },
};

static int run_inspect(int argc, char **argv);

const struct mbc_command mbc_inspect = {
    .name = "inspect",
    .arguments = "FILE",
    .summary = "print what is inside a checkpoint",
    .details = "Shape, size, bits per weight, tokenizer, provenance and sections of an .mbool\n"
               "file. Its weights are not read: 'mbool verify' does that.",
    .options = options,
    .run = run_inspect,
};

/* Sums over matrices: Boolean ones, and embedding and head also in float16. */
struct weights {
    uint64_t n, bytes;
    uint64_t block_n, block_bytes; /* those of the decoder blocks only */
    size_t n_matrices;
    uint32_t kernels_min, kernels_max, group_min, group_max; /* of the blocks */
};

struct inspection {
    const char *path;
    const struct mb_checkpoint *checkpoint;
    struct weights weights;
    uint32_t n_tokens;    /* of the tokenizer, or 0 */
    char unreadable[256]; /* why the tokenizer can not be built, or "" */
};

static bool is_matrix(const struct mb_section *s)
{
    return s->kind == MB_SECTION_BOOL || (s->kind == MB_SECTION_F16 && s->n_rows > 1);
}

static double bits_per_weight(uint64_t bytes, uint64_t n)
{
    return n > 0 ? 8.0 * (double) bytes / (double) n : 0;
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static struct weights sum_weights(const struct mb_checkpoint *c)
{
    struct weights w = { .kernels_min = UINT32_MAX, .group_min = UINT32_MAX };
    for (size_t i = 0; i < mb_checkpoint_sections(c); i++) {
        const struct mb_section *s = mb_checkpoint_section(c, i);
        uint64_t n = (uint64_t) s->n_rows * s->n_cols;
        if (!is_matrix(s)) {
            continue;
        }
        w.n_matrices++;
        w.n += n;
        w.bytes += s->bytes;
        if (strncmp(s->name, "blocks.", 7) == 0) {
            w.block_n += n;
            w.block_bytes += s->bytes;
            w.kernels_min = min_u32(w.kernels_min, s->boolean.n_kernels);
            w.kernels_max = max_u32(w.kernels_max, s->boolean.n_kernels);
            w.group_min = min_u32(w.group_min, s->boolean.group);
            w.group_max = max_u32(w.group_max, s->boolean.group);
        }
    }
    return w;
}

static void count_tokens(struct inspection *x)
{
    const struct mb_section *s = mb_checkpoint_find(x->checkpoint, "tokenizer");
    struct mb_tokenizer *t;
    struct mb_error err = { 0 };
    if (!s) {
        return;
    }
    if (mb_tokenizer_from_bytes(mb_checkpoint_data(x->checkpoint, s), (size_t) s->bytes, &t,
                                &err) != MB_OK) {
        (void) snprintf(x->unreadable, sizeof x->unreadable, "%.250s", err.what);
        return;
    }
    x->n_tokens = mb_tokenizer_n_vocab(t);
    mb_tokenizer_free(t);
}

static const char *kind_name(const struct mb_section *s)
{
    static const char *const names[MB_SECTION_KINDS] = {
        [MB_SECTION_BYTES] = "bytes",  [MB_SECTION_F64] = "float64",
        [MB_SECTION_F32] = "float32",  [MB_SECTION_F16] = "float16",
        [MB_SECTION_BOOL] = "boolean",
    };
    return names[s->kind];
}

/* --- for people --- */

/* The file was not verified: its text must not drive the terminal. */
static void print_text(const char *indent, const uint8_t *at, size_t n)
{
    bool valid = mb_utf8_valid(at, n);
    bool at_start = true;
    for (size_t i = 0; i < n; i++) {
        bool control = at[i] < ' ' || at[i] == 0x7f || (!valid && at[i] >= 0x80) ||
                       (at[i] == 0xc2 && i + 1 < n && at[i + 1] < 0xa0);
        if (at_start) {
            printf("%s", indent);
            at_start = false;
        }
        if (at[i] == '\n') {
            at_start = true;
            printf("\n");
        } else {
            printf("%c", control ? '?' : at[i]);
        }
    }
    printf("%s", at_start ? "" : "\n");
}

static void print_range(const char *what, uint32_t min, uint32_t max)
{
    if (min == max) {
        printf("%s %" PRIu32, what, min);
    } else {
        printf("%s %" PRIu32 "..%" PRIu32, what, min, max);
    }
}

static void print_summary(const struct inspection *x)
{
    const struct mb_checkpoint *c = x->checkpoint;
    const struct mb_shape *s = mb_checkpoint_shape(c);
    const struct weights *w = &x->weights;
    printf("%s\n", x->path);
    printf("  size       %" PRIu64 " bytes in %zu sections, format %d\n",
           mb_checkpoint_bytes(c), mb_checkpoint_sections(c), MB_FORMAT_VERSION);
    printf("  digest     %016" PRIx64 "\n", mb_checkpoint_digest(c));
    printf("  shape      %u layers, width %u, %u heads of %u (%u of keys and values), "
           "feed-forward %u\n",
           s->n_layers, s->width, s->n_heads, s->head_width, s->n_kv_heads, s->ffn_width);
    printf("             vocabulary %u, context %u, ", s->n_vocab, s->context);
    if (s->window) {
        printf("window %u, ", s->window);
    }
    printf("%s head, norm epsilon %g\n", s->tied_head ? "tied" : "separate",
           (double) s->norm_eps);
    printf("  weights    %" PRIu64 " in %zu matrices, %.3f bits each\n", w->n, w->n_matrices,
           bits_per_weight(w->bytes, w->n));
    printf("  blocks     %" PRIu64 " weights, %.3f bits each, ", w->block_n,
           bits_per_weight(w->block_bytes, w->block_n));
    print_range("kernels", w->kernels_min, w->kernels_max);
    print_range(", groups of", w->group_min, w->group_max);
    printf("\n  planes     %u of coded activations\n", s->n_planes);
}

static void print_texts(const struct inspection *x)
{
    const struct mb_checkpoint *c = x->checkpoint;
    const struct mb_section *tokenizer = mb_checkpoint_find(c, "tokenizer");
    const struct mb_section *chat = mb_checkpoint_find(c, "chat_template");
    const struct mb_section *how = mb_checkpoint_find(c, "provenance");
    if (!tokenizer) {
        printf("  tokenizer  none\n");
    } else if (x->unreadable[0]) {
        printf("  tokenizer  %" PRIu64 " bytes, unreadable: %s\n", tokenizer->bytes,
               x->unreadable);
    } else {
        printf("  tokenizer  %u tokens, %" PRIu64 " bytes\n", x->n_tokens, tokenizer->bytes);
    }
    if (chat) {
        printf("  chat       template of %" PRIu64 " bytes\n", chat->bytes);
    } else {
        printf("  chat       no template\n");
    }
    if (how) {
        printf("  provenance\n");
        print_text("    ", mb_checkpoint_data(c, how), (size_t) how->bytes);
    }
}

static void print_sections(const struct mb_checkpoint *c)
{
    printf("\n  %-28s %-8s %17s  %2s %6s %7s %12s\n", "section", "kind", "rows x columns", "K",
           "group", "bits", "bytes");
    for (size_t i = 0; i < mb_checkpoint_sections(c); i++) {
        const struct mb_section *s = mb_checkpoint_section(c, i);
        char size[32] = "", k[16] = "", group[16] = "", bits[16] = "";
        if (s->kind != MB_SECTION_BYTES) {
            (void) snprintf(size, sizeof size, "%u x %u", s->n_rows, s->n_cols);
        }
        if (s->kind == MB_SECTION_BOOL) {
            (void) snprintf(k, sizeof k, "%u", s->boolean.n_kernels);
            (void) snprintf(group, sizeof group, "%u", s->boolean.group);
        }
        if (is_matrix(s)) {
            (void) snprintf(bits, sizeof bits, "%.3f",
                            bits_per_weight(s->bytes, (uint64_t) s->n_rows * s->n_cols));
        }
        printf("  %-28s %-8s %17s  %2s %6s %7s %12" PRIu64 "\n", s->name, kind_name(s), size, k,
               group, bits, s->bytes);
    }
}

/* --- for programs --- */

static json_t *hex_json(uint64_t v)
{
    char text[17];
    (void) snprintf(text, sizeof text, "%016" PRIx64, v);
    return json_string(text);
}

static json_t *shape_json(const struct mb_shape *s)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:b}", "layers",
                     (json_int_t) s->n_layers, "width", (json_int_t) s->width, "heads",
                     (json_int_t) s->n_heads, "kv_heads", (json_int_t) s->n_kv_heads,
                     "head_width", (json_int_t) s->head_width, "ffn_width",
                     (json_int_t) s->ffn_width, "vocabulary", (json_int_t) s->n_vocab,
                     "context", (json_int_t) s->context, "window", (json_int_t) s->window,
                     "planes", (json_int_t) s->n_planes, "norm_eps", (double) s->norm_eps,
                     "tied_head", (int) s->tied_head);
}

static json_t *weights_json(const struct weights *w)
{
    return json_pack("{s:I, s:I, s:I, s:f, s:I, s:I, s:f}", "matrices",
                     (json_int_t) w->n_matrices, "count", (json_int_t) w->n, "bytes",
                     (json_int_t) w->bytes, "bits_per_weight", bits_per_weight(w->bytes, w->n),
                     "blocks_count", (json_int_t) w->block_n, "blocks_bytes",
                     (json_int_t) w->block_bytes, "blocks_bits_per_weight",
                     bits_per_weight(w->block_bytes, w->block_n));
}

/* A text section as a string; null when there is none, or when it is no UTF-8. */
static json_t *text_json(const struct mb_checkpoint *c, const char *name)
{
    const struct mb_section *s = mb_checkpoint_find(c, name);
    json_t *text = NULL;
    if (s) {
        text = json_stringn(mb_checkpoint_data(c, s), (size_t) s->bytes);
    }
    return text ? text : json_null();
}

/* Adds value, which it takes, under key: as it is, or to the list of those that came before. */
static void add_value(json_t *o, const char *key, json_t *value)
{
    json_t *before = json_object_get(o, key);
    if (!before) {
        (void) json_object_set_new(o, key, value);
        return;
    }
    if (!json_is_array(before)) {
        (void) json_object_set_new(o, key, json_pack("[O]", before));
    }
    (void) json_array_append_new(json_object_get(o, key), value);
}

static void add_line(json_t *o, const char *key, size_t n_key, const char *text, size_t n)
{
    char *name = strndup(key, n_key);
    json_t *value = json_stringn(text, n);
    if (name && value) { /* else not UTF-8, which verify reports */
        add_value(o, name, value);
    } else {
        json_decref(value);
    }
    free(name);
}

/* Its lines "key: value" as an object; null when there is none. */
static json_t *provenance_json(const struct mb_checkpoint *c)
{
    const struct mb_section *s = mb_checkpoint_find(c, "provenance");
    if (!s) {
        return json_null();
    }
    json_t *o = json_object();
    const char *text = mb_checkpoint_data(c, s);
    for (size_t from = 0, n; from < s->bytes; from += n + 1) {
        const char *line = text + from, *end = memchr(line, '\n', (size_t) s->bytes - from);
        n = end ? (size_t) (end - line) : (size_t) s->bytes - from;
        const char *colon = memmem(line, n, ": ", 2);
        if (colon) {
            add_line(o, line, (size_t) (colon - line), colon + 2,
                     (size_t) (line + n - colon) - 2);
        }
    }
    return o;
}

static json_t *tokenizer_json(const struct inspection *x)
{
    const struct mb_section *s = mb_checkpoint_find(x->checkpoint, "tokenizer");
    if (!s) {
        return json_null();
    }
    if (x->unreadable[0]) {
        return json_pack("{s:I, s:s}", "bytes", (json_int_t) s->bytes, "error", x->unreadable);
    }
    return json_pack("{s:I, s:I}", "bytes", (json_int_t) s->bytes, "tokens",
                     (json_int_t) x->n_tokens);
}

static json_t *section_json(const struct mb_section *s)
{
    json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:o}", "name", s->name, "kind", kind_name(s),
                          "offset", (json_int_t) s->offset, "bytes", (json_int_t) s->bytes,
                          "checksum", hex_json(s->checksum));
    if (s->kind != MB_SECTION_BYTES) {
        (void) json_object_set_new(o, "rows", json_integer(s->n_rows));
        (void) json_object_set_new(o, "columns", json_integer(s->n_cols));
    }
    if (s->kind == MB_SECTION_BOOL) {
        (void) json_object_set_new(o, "kernels", json_integer(s->boolean.n_kernels));
        (void) json_object_set_new(o, "group", json_integer(s->boolean.group));
        (void) json_object_set_new(o, "scale_all", json_real((double) s->scale_all));
    }
    if (is_matrix(s)) {
        double bits = bits_per_weight(s->bytes, (uint64_t) s->n_rows * s->n_cols);
        (void) json_object_set_new(o, "bits_per_weight", json_real(bits));
    }
    return o;
}

static void print_json(const struct inspection *x)
{
    const struct mb_checkpoint *c = x->checkpoint;
    json_t *path = json_string(x->path); /* a file's name need not be UTF-8 */
    json_t *sections = json_array();
    for (size_t i = 0; i < mb_checkpoint_sections(c); i++) {
        (void) json_array_append_new(sections, section_json(mb_checkpoint_section(c, i)));
    }
    json_t *root = json_pack(
        "{s:o, s:I, s:o, s:i, s:o, s:o, s:o, s:o, s:o, s:o}", "file", path ? path : json_null(),
        "bytes", (json_int_t) mb_checkpoint_bytes(c), "digest",
        hex_json(mb_checkpoint_digest(c)), "format", MB_FORMAT_VERSION, "shape",
        shape_json(mb_checkpoint_shape(c)), "weights", weights_json(&x->weights), "tokenizer",
        tokenizer_json(x), "chat_template", text_json(c, "chat_template"), "provenance",
        provenance_json(c), "sections", sections);
    (void) json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    printf("\n");
    json_decref(root);
}

static int inspect(const char *path, bool json)
{
    struct mb_error err = { 0 };
    struct mb_checkpoint *c;
    if (mb_checkpoint_open(path, &c, &err) != MB_OK) {
        return mbc_report_error(&mbc_inspect, &err);
    }
    struct inspection x = { .path = path, .checkpoint = c, .weights = sum_weights(c) };
    count_tokens(&x);
    if (json) {
        print_json(&x);
    } else {
        print_summary(&x);
        print_texts(&x);
        print_sections(c);
    }
    mb_checkpoint_free(c);
    return MBC_DONE;
}

static bool take(void *arguments, int option, const char *value)
{
    (void) value;
    bool *json = arguments;
    *json |= option == JSON;
    return true;
}

static int run_inspect(int argc, char **argv)
{
    const char *path;
    int status;
    bool json = false;
    if (!mbc_parse_line(&mbc_inspect, argc, argv, "a checkpoint", take, &json, &path,
                        &status)) {
        return status;
    }
    return inspect(path, json);
}
