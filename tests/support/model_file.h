/* A checkpoint on disk for tests of whole programs: random Boolean weights, a byte-level
 * tokenizer whose text is as random, and a long context. */
#ifndef MB_TESTS_MODEL_FILE_H
#define MB_TESTS_MODEL_FILE_H

#include <stdint.h>

/* Tokens 0..255 are the bytes, then the end of a sequence, which a prompt does not start with,
 * then its start, which it does. */
enum { MODEL_FILE_EOS = 256, MODEL_FILE_BOS = 257, MODEL_FILE_VOCAB = 258 };

/* What a chat is for it: "<user>Hi\n<assistant>" behind the start; tools are shown as Llama
 * 3's. */
extern const char model_file_template[];

/* chat_template NULL: none. Aborts when it can not. */
void model_file_write(const char *path, uint32_t context, const char *chat_template);
/* The same of n_layers layers of a width that is a multiple of 64: many pages. */
void model_file_write_wide(const char *path, uint32_t context, uint32_t width,
                           uint32_t n_layers);

#endif
