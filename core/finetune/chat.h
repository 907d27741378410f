/* Conversations as the text that a model was made to read: by the chat template of its
 * checkpoint.
 *
 * Life:    _new/_free. Threads: one at a time. */
#ifndef MB_CORE_FINETUNE_CHAT_H
#define MB_CORE_FINETUNE_CHAT_H

#include "core/base/bytes.h"
#include "core/checkpoint/reader.h"
#include "core/tokenizer/tokenizer.h"

struct mb_chat;

/* *ret is NULL when c has no template. t is borrowed for life. Errors: those of mb_template_new. */
enum mb_status mb_chat_new(const struct mb_checkpoint *c, const struct mb_tokenizer *t,
                           struct mb_chat **ret, struct mb_error *err);
void mb_chat_free(struct mb_chat *c); /* NULL is allowed */

/* An mb_chat_text_fn (core/import/examples.h); self is the chat. No time of day is told, so that
 * the same messages give the same text. Errors: those of mb_template_render. */
enum mb_status mb_chat_text(void *self, const char *messages, size_t n, bool prompt,
                            struct mb_bytes *ret, struct mb_error *err);

#endif
