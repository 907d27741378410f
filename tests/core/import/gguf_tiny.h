/* A small llama in a GGUF file, with a tokenizer: one layer, width 32, 4 heads of 8 with 2 of keys
 * and values. Weights count up from -128, so that each says where it came from. */
#ifndef MB_TESTS_GGUF_TINY_H
#define MB_TESTS_GGUF_TINY_H

#include "core/base/half.h"
#include "tests/core/import/gguf_writer.h"

enum { TINY_WIDTH = 32, TINY_HEAD = 8, TINY_VOCAB = 4 };

/* Element (row, col) of every matrix is of this size by TINY_SCALE; exact in each type. */
#define TINY_SCALE 0.25F
static inline int tiny_weight(size_t row, size_t col)
{
    return (int) ((row * 7 + col) % 256) - 128;
}

static inline void tiny_matrix(struct gguf_writer *w, const char *name, uint32_t type,
                               size_t rows, size_t cols)
{
    struct mb_bytes b = { 0 };
    for (size_t r = 0; r < (rows ? rows : 1); r++) {
        for (size_t c = 0; c < cols; c++) {
            float x = TINY_SCALE * (float) tiny_weight(r, c);
            if (type == GGUF_F32) {
                mb_bytes_put_f32(&b, x);
            } else if (type == GGUF_F16) {
                mb_bytes_put_u16(&b, mb_f32_to_f16(x));
            } else if (type == GGUF_BF16) {
                mb_bytes_put_u16(&b, (uint16_t) (mb_f32_bits(x) >> 16));
            } else {
                if (c % 32 == 0) {
                    mb_bytes_put_u16(&b, mb_f32_to_f16(TINY_SCALE));
                }
                mb_bytes_put_u8(&b, (uint8_t) tiny_weight(r, c));
            }
        }
    }
    gguf_tensor(w, name, type, rows, cols, b.at, b.len);
    mb_bytes_fini(&b);
}

static inline void tiny_keys(struct gguf_writer *w)
{
    gguf_text(w, "general.architecture", "llama");
    gguf_u32(w, "llama.block_count", 1);
    gguf_u32(w, "llama.context_length", 64);
    gguf_u32(w, "llama.embedding_length", TINY_WIDTH);
    gguf_u32(w, "llama.feed_forward_length", 64);
    gguf_u32(w, "llama.attention.head_count", 4);
    gguf_u32(w, "llama.attention.head_count_kv", 2);
    gguf_u32(w, "llama.rope.dimension_count", TINY_HEAD);
    gguf_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5F);
    gguf_text(w, "tokenizer.chat_template", "{{ messages }}");
    gguf_text(w, "tokenizer.ggml.model", "llama");
    gguf_list(w, "tokenizer.ggml.tokens", MB_GGUF_TEXT, TINY_VOCAB);
    gguf_string(&w->keys, "<unk>");
    gguf_string(&w->keys, "a");
    gguf_string(&w->keys, "b");
    gguf_string(&w->keys, "ab");
    gguf_list(w, "tokenizer.ggml.scores", MB_GGUF_F32, TINY_VOCAB);
    for (int i = 0; i < TINY_VOCAB; i++) {
        mb_bytes_put_f32(&w->keys, (float) -i);
    }
    gguf_list(w, "tokenizer.ggml.token_type", MB_GGUF_I32, TINY_VOCAB);
    for (uint32_t i = 0; i < TINY_VOCAB; i++) {
        mb_bytes_put_u32(&w->keys, i == 0 ? 2 : 1);
    }
    gguf_u32(w, "tokenizer.ggml.unknown_token_id", 0);
}

/* The matrices of one type, but for those of a layer that is called skip. */
static inline void tiny_tensors(struct gguf_writer *w, uint32_t type, const char *skip)
{
    static const struct {
        const char *name;
        size_t rows, cols;
    } rows[] = {
        { "token_embd.weight", TINY_VOCAB, 32 }, { "output_norm.weight", 0, 32 },
        { "blk.0.attn_norm.weight", 0, 32 },     { "blk.0.attn_q.weight", 32, 32 },
        { "blk.0.attn_k.weight", 16, 32 },       { "blk.0.attn_v.weight", 16, 32 },
        { "blk.0.attn_output.weight", 32, 32 },  { "blk.0.ffn_norm.weight", 0, 32 },
        { "blk.0.ffn_gate.weight", 64, 32 },     { "blk.0.ffn_up.weight", 64, 32 },
        { "blk.0.ffn_down.weight", 32, 64 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (!skip || strcmp(rows[i].name, skip) != 0) {
            tiny_matrix(w, rows[i].name, rows[i].rows ? type : GGUF_F32, rows[i].rows,
                        rows[i].cols);
        }
    }
}

#endif
