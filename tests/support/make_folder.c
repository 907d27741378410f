/* make_folder DIR: writes a small model as a Hugging Face folder, from nothing but this file, so that
 * the whole of the main job can be tested where no real model is: random float32 weights, ragged
 * widths, two query heads a key head, a head of its own, and a SentencePiece-style tokenizer. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/base/rng.h"

enum { WIDTH = 72, FFN = 100, LAYERS = 2, HEADS = 4, KV_HEADS = 2, HEAD_WIDTH = 18 };
enum { BYTES = 256, LETTERS = 26, MERGES = 4, N_VOCAB = 3 + BYTES + 1 + LETTERS + MERGES };

static FILE *create(const char *dir, const char *name)
{
    char path[4096];
    (void) snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f) {
        perror(path);
        exit(1);
    }
    return f;
}

static void finish(FILE *f)
{
    if (fclose(f) != 0) {
        perror("write");
        exit(1);
    }
}

static void write_config(const char *dir)
{
    FILE *f = create(dir, "config.json");
    fprintf(
        f,
        "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\","
        " \"hidden_act\": \"silu\", \"hidden_size\": %d, \"intermediate_size\": %d,"
        " \"num_hidden_layers\": %d, \"num_attention_heads\": %d,"
        " \"num_key_value_heads\": %d, \"head_dim\": %d, \"vocab_size\": %d,"
        " \"max_position_embeddings\": 100, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0,"
        " \"tie_word_embeddings\": false, \"bos_token_id\": 1, \"eos_token_id\": 2}\n",
        WIDTH, FFN, LAYERS, HEADS, KV_HEADS, HEAD_WIDTH, N_VOCAB);
    finish(f);
}

static void write_tokenizer(const char *dir)
{
    static const char *const merged[MERGES] = { "th", "the", "\u2581the", "an" };
    static const char *const merges[MERGES] = { "t h", "th e", "\u2581 the", "a n" };
    FILE *f = create(dir, "tokenizer.json");
    fprintf(f, "{\"version\": \"1.0\", \"added_tokens\": [");
    static const char *const special[] = { "<unk>", "<s>", "</s>" };
    for (int i = 0; i < 3; i++) {
        fprintf(f,
                "%s{\"id\": %d, \"content\": \"%s\", \"special\": true, \"normalized\": false}",
                i ? ", " : "", i, special[i]);
    }
    fprintf(
        f,
        "], \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": ["
        "{\"type\": \"Prepend\", \"prepend\": \"\u2581\"},"
        "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\u2581\"}]},"
        " \"pre_tokenizer\": null, \"post_processor\": null,"
        " \"decoder\": {\"type\": \"Sequence\", \"decoders\": ["
        "{\"type\": \"Replace\", \"pattern\": {\"String\": \"\u2581\"}, \"content\": \" \"},"
        "{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"},"
        "{\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]},"
        " \"model\": {\"type\": \"BPE\", \"unk_token\": \"<unk>\", \"fuse_unk\": true,"
        " \"byte_fallback\": true, \"vocab\": {");
    int id = 0;
    for (; id < 3; id++) {
        fprintf(f, "\"%s\": %d, ", special[id], id);
    }
    for (int b = 0; b < BYTES; b++) {
        fprintf(f, "\"<0x%02X>\": %d, ", (unsigned) b, id++);
    }
    fprintf(f, "\"\u2581\": %d", id++);
    for (int c = 'a'; c <= 'z'; c++) {
        fprintf(f, ", \"%c\": %d", c, id++);
    }
    for (int i = 0; i < MERGES; i++) {
        fprintf(f, ", \"%s\": %d", merged[i], id++);
    }
    fprintf(f, "}, \"merges\": [");
    for (int i = 0; i < MERGES; i++) {
        fprintf(f, "%s\"%s\"", i ? ", " : "", merges[i]);
    }
    fprintf(f, "]}}\n");
    finish(f);
    f = create(dir, "tokenizer_config.json");
    fprintf(f, "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"add_bos_token\": true}\n");
    finish(f);
}

struct tensor {
    char name[64];
    uint32_t n_rows, n_cols; /* n_rows 0: a vector */
};

static int list(struct tensor *t)
{
    static const struct {
        const char *name;
        uint32_t n_rows, n_cols;
    } parts[] = {
        { "input_layernorm", 0, WIDTH },
        { "self_attn.q_proj", HEADS * HEAD_WIDTH, WIDTH },
        { "self_attn.k_proj", KV_HEADS * HEAD_WIDTH, WIDTH },
        { "self_attn.v_proj", KV_HEADS * HEAD_WIDTH, WIDTH },
        { "self_attn.o_proj", WIDTH, HEADS * HEAD_WIDTH },
        { "post_attention_layernorm", 0, WIDTH },
        { "mlp.gate_proj", FFN, WIDTH },
        { "mlp.up_proj", FFN, WIDTH },
        { "mlp.down_proj", WIDTH, FFN },
    };
    int n = 0;
    t[n++] = (struct tensor) { "model.embed_tokens.weight", N_VOCAB, WIDTH };
    for (int layer = 0; layer < LAYERS; layer++) {
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            t[n] = (struct tensor) { "", parts[i].n_rows, parts[i].n_cols };
            (void) snprintf(t[n].name, sizeof t[n].name, "model.layers.%d.%s.weight", layer,
                            parts[i].name);
            n++;
        }
    }
    t[n++] = (struct tensor) { "model.norm.weight", 0, WIDTH };
    t[n++] = (struct tensor) { "lm_head.weight", N_VOCAB, WIDTH };
    return n;
}

/* Nearly normal: the sum of twelve uniform numbers, less their mean. */
static float weight(uint64_t stream, uint64_t i)
{
    double sum = -6;
    for (uint64_t k = 0; k < 12; k++) {
        sum += mb_rng_unit(11, stream, 12 * i + k);
    }
    return (float) sum;
}

static void write_tensors(const char *dir)
{
    struct tensor t[4 + 9 * LAYERS];
    int n = list(t);
    static char header[16384];
    size_t at = 0, offset = 0;
    for (int i = 0; i < n; i++) {
        size_t bytes = 4 * (size_t) (t[i].n_rows ? t[i].n_rows : 1) * t[i].n_cols;
        char shape[32];
        (void) snprintf(shape, sizeof shape, t[i].n_rows ? "%u, %u" : "%.0u%u", t[i].n_rows,
                        t[i].n_cols);
        at += (size_t) snprintf(
            header + at, sizeof header - at,
            "%s\"%s\": {\"dtype\": \"F32\", \"shape\": [%s], \"data_offsets\": [%zu, %zu]}",
            i ? ", " : "{", t[i].name, shape, offset, offset + bytes);
        offset += bytes;
    }
    at += (size_t) snprintf(header + at, sizeof header - at, "}");
    uint64_t n_header = at;
    FILE *f = create(dir, "model.safetensors");
    (void) fwrite(&n_header, sizeof n_header, 1, f);
    (void) fwrite(header, 1, at, f);
    for (int i = 0; i < n; i++) {
        size_t count = (size_t) (t[i].n_rows ? t[i].n_rows : 1) * t[i].n_cols;
        float size = t[i].n_rows ? 1.5f / sqrtf((float) t[i].n_cols) : 0;
        for (size_t j = 0; j < count; j++) {
            float w = t[i].n_rows ? size * weight((uint64_t) i, j) : 1;
            (void) fwrite(&w, sizeof w, 1, f);
        }
    }
    finish(f);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: make_folder DIR\n");
        return 2;
    }
    (void) mkdir(argv[1], 0755);
    write_config(argv[1]);
    write_tokenizer(argv[1]);
    write_tensors(argv[1]);
    return 0;
}
