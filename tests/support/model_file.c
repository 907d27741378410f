#include "tests/support/model_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/checkpoint/writer.h"
#include "core/tokenizer/spec.h"
#include "tests/support/tiny_model.h"

static void need(enum mb_status st, const struct mb_error *err)
{
    if (st != MB_OK) {
        fprintf(stderr, "model file: %s\n", err->what);
        abort();
    }
}

/* GPT-2's printable character for a byte: itself, or one from U+0100 on. UTF-8 into ret. */
static size_t printable(unsigned byte, char ret[2])
{
    unsigned next = 256, c = byte;
    for (unsigned b = 0; b <= byte; b++) {
        bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
        c = plain ? b : next++;
    }
    if (c < 0x80) {
        ret[0] = (char) c;
        return 1;
    }
    ret[0] = (char) (0xc0 | c >> 6);
    ret[1] = (char) (0x80 | (c & 0x3f));
    return 2;
}

static void put_tokenizer(struct mb_checkpoint_writer *w)
{
    struct mb_error err;
    struct mb_bpe_spec *spec = mb_bpe_spec_new();
    char text[2];
    for (unsigned b = 0; b < 256; b++) {
        need(mb_bpe_spec_token(spec, b, text, printable(b, text), MB_TOKEN_PRESENT, &err),
             &err);
    }
    unsigned special = MB_TOKEN_PRESENT | MB_TOKEN_ADDED | MB_TOKEN_SPECIAL;
    need(mb_bpe_spec_token(spec, MODEL_FILE_EOS, "</s>", 4, special, &err), &err);
    need(mb_bpe_spec_token(spec, MODEL_FILE_BOS, "<s>", 3, special, &err), &err);
    struct mb_bpe_step step = { .kind = MB_BPE_BYTE_LEVEL };
    need(mb_bpe_spec_step(spec, MB_BPE_PRE_TOKENIZER, step, &err), &err);
    need(mb_bpe_spec_step(spec, MB_BPE_DECODER, step, &err), &err);
    need(mb_bpe_ids_add(&spec->eos, MODEL_FILE_EOS, &err), &err);
    need(mb_bpe_ids_add(&spec->prefix, MODEL_FILE_BOS, &err), &err);
    spec->bos = MODEL_FILE_BOS;
    spec->unk = MB_NO_ID;

    struct mb_bytes bytes = { 0 };
    mb_bpe_spec_write(spec, &bytes);
    need(mb_checkpoint_add_bytes(w, "tokenizer", bytes.at, bytes.len, &err), &err);
    mb_bytes_fini(&bytes);
    mb_bpe_spec_free(spec);
}

const char model_file_template[] =
    "{{- bos_token }}\n"
    "{%- if tools %}{% for tool in tools %}\n"
    "{{- '[' ~ tool.function.name ~ ' {\"parameters\": ' ~ tool.function.parameters|tojson ~ '}]' }}\n"
    "{%- endfor %}{% endif %}\n"
    "{%- for message in messages %}\n"
    "{%- if message.role not in ['system', 'user', 'assistant', 'tool'] %}\n"
    "{{- raise_exception('there is no role ' ~ message.role) }}\n"
    "{%- endif %}\n"
    "{{- '<' ~ message.role ~ '>' ~ message.content ~ '\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{ '<assistant>' }}{% endif %}\n";

static void write_model(const char *path, const struct tiny_spec *spec,
                        const char *chat_template)
{
    struct mb_error err;
    struct mb_model *m = tiny_model_new(spec, 1);

    struct mb_checkpoint_writer *w = NULL;
    need(mb_checkpoint_writer_open(path, &m->shape, 64, &w, &err), &err);
    put_tokenizer(w);
    if (chat_template) {
        need(mb_checkpoint_add_bytes(w, "chat_template", chat_template, strlen(chat_template),
                                     &err),
             &err);
    }
    need(tiny_model_add(w, m, &err), &err);
    need(mb_checkpoint_writer_commit(w, &err), &err);
    mb_model_unref(m);
}

void model_file_write(const char *path, uint32_t context, const char *chat_template)
{
    struct tiny_spec spec = tiny_specs[0];
    spec.shape.n_vocab = MODEL_FILE_VOCAB;
    spec.shape.context = context;
    write_model(path, &spec, chat_template);
}

void model_file_write_wide(const char *path, uint32_t context, uint32_t width,
                           uint32_t n_layers)
{
    struct tiny_spec spec = tiny_specs[0];
    spec.shape.n_vocab = MODEL_FILE_VOCAB;
    spec.shape.context = context;
    spec.shape.width = width;
    spec.shape.n_layers = n_layers;
    spec.shape.head_width = 64;
    spec.shape.n_heads = spec.shape.n_kv_heads = width / 64;
    spec.shape.ffn_width = 3 * width;
    write_model(path, &spec, NULL);
}
