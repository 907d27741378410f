/* The tokenizer of a GGUF file (keys tokenizer.ggml.*) into a tokenizer's spec.
 *
 *     model "llama"   SentencePiece: tokens with scores, bytes as <0xNN>. Its merges are not in
 *                     the file; they follow from the scores.
 *     model "gpt2"    byte-level: tokens and merges; how text is split is known by the name in
 *                     tokenizer.ggml.pre: gpt-2, llama-bpe, qwen2, smollm and aliases.
 *
 * Threads: pure. */
#ifndef MB_CORE_GGUF_TOKENIZER_H
#define MB_CORE_GGUF_TOKENIZER_H

#include "core/import/gguf.h"
#include "core/tokenizer/spec.h"

/* Errors: MB_E_NOTFOUND when the file has none; MB_E_UNSUPPORTED for another model or pre, by
 * name; MB_E_FORMAT naming the key; MB_E_LIMIT; MB_E_NOMEM. */
enum mb_status mb_gguf_tokenizer(const struct mb_gguf *g, struct mb_bpe_spec **ret,
                                 struct mb_error *err);

#endif
