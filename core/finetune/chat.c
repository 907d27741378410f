#include "core/finetune/chat.h"

#include "core/base/memory.h"
#include "core/template/template.h"

struct mb_chat {
    struct mb_template *template;
    const struct mb_tokenizer *tokenizer;
};

enum mb_status mb_chat_new(const struct mb_checkpoint *c, const struct mb_tokenizer *t,
                           struct mb_chat **ret, struct mb_error *err)
{
    const struct mb_section *s = mb_checkpoint_find(c, "chat_template");
    struct mb_chat *chat = s ? mb_alloc(1, sizeof *chat) : NULL;
    *ret = NULL;
    if (!s) {
        return MB_OK;
    }
    if (!chat) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a chat template");
    }
    chat->tokenizer = t;
    enum mb_status st =
        mb_template_new(mb_checkpoint_data(c, s), s->bytes, &chat->template, err);
    if (st != MB_OK) {
        mb_free(chat);
        return st;
    }
    *ret = chat;
    return MB_OK;
}

void mb_chat_free(struct mb_chat *c)
{
    if (c) {
        mb_template_free(c->template);
        mb_free(c);
    }
}

static struct mb_variable token_variable(const struct mb_tokenizer *t, const char *name,
                                         const uint32_t *id)
{
    struct mb_variable v = { .name = name, .kind = MB_VARIABLE_NONE };
    if (id) {
        v.kind = MB_VARIABLE_TEXT;
        v.text = (const char *) mb_tokenizer_token_bytes(t, *id, &v.n);
    }
    return v;
}

enum mb_status mb_chat_text(void *self, const char *messages, size_t n, bool prompt,
                            struct mb_bytes *ret, struct mb_error *err)
{
    const struct mb_chat *c = self;
    const uint32_t *eos = NULL;
    uint32_t bos;
    bool has_bos = mb_tokenizer_bos(c->tokenizer, &bos);
    bool has_eos = mb_tokenizer_eos(c->tokenizer, &eos) > 0;
    const struct mb_variable variables[] = {
        { "messages", MB_VARIABLE_JSON, messages, n },
        { .name = "add_generation_prompt",
          .kind = prompt ? MB_VARIABLE_TRUE : MB_VARIABLE_FALSE },
        token_variable(c->tokenizer, "bos_token", has_bos ? &bos : NULL),
        token_variable(c->tokenizer, "eos_token", has_eos ? eos : NULL),
    };
    return mb_template_render(c->template, variables, sizeof variables / sizeof variables[0],
                              NULL, ret, err);
}
