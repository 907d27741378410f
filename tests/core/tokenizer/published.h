/* The published texts and ids (llama.cpp's ggml-vocab files), and tokenizers read from folders.
 * */
#ifndef MB_TESTS_PUBLISHED_H
#define MB_TESTS_PUBLISHED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/import/tokenizer_json.h"
#include "core/tokenizer/tokenizer.h"
#include "tests/check_main.h"

#define PUBLISHED_MAX       64
#define PUBLISHED_SEPARATOR "\n__ggml_vocab_test__\n"

/* The tokenizer of a folder of shared/data, with the files beside it, or
 * "<folder>_tokenizer.json"; NULL without the data. */
static inline struct mb_tokenizer *published_tokenizer(const char *folder)
{
    static const char *const names[] = { "tokenizer.json", "tokenizer_config.json",
                                         "generation_config.json", "config.json" };
    char paths[4][4096];
    const char *given[4] = { NULL };
    for (size_t i = 0; i < 4; i++) {
        char name[256];
        (void) snprintf(name, sizeof name, "%s/%s", folder, names[i]);
        const char *path = mb_data_path(name);
        if (path) {
            (void) snprintf(paths[i], sizeof paths[i], "%s", path);
            given[i] = paths[i];
        }
    }
    if (!given[0]) {
        char name[256];
        (void) snprintf(name, sizeof name, "%s_%s", folder, names[0]);
        given[0] = mb_data_path(name);
    }
    if (!given[0]) {
        return NULL;
    }
    struct mb_error err = { 0 };
    struct mb_bpe_spec *spec = NULL;
    mb_assert_ok(mb_tokenizer_json_read(given[0], given[1], given[2], given[3], &spec, &err),
                 &err);
    struct mb_tokenizer *t = NULL;
    mb_assert_ok(mb_tokenizer_new(spec, &t, &err), &err);
    mb_bpe_spec_free(spec);
    return t;
}

struct published {
    size_t n;
    char *texts[PUBLISHED_MAX];
    size_t text_len[PUBLISHED_MAX];
    struct mb_ids ids[PUBLISHED_MAX];
};

static inline char *published_file(const char *name, size_t *ret_n)
{
    const char *path = mb_data_path(name);
    ck_assert(path);
    struct mb_error err;
    struct mb_file_map m;
    mb_assert_ok(mb_file_map(path, &m, &err), &err);
    char *copy = malloc(m.n + 1);
    ck_assert(copy);
    memcpy(copy, m.at, m.n);
    copy[m.n] = '\0';
    *ret_n = m.n;
    mb_file_unmap(&m);
    return copy;
}

/* folder/stem.inp and folder/stem.out: as many texts as lines of ids. */
static inline void published_load(const char *stem, struct published *ret)
{
    memset(ret, 0, sizeof *ret);
    char name[256];
    size_t n;
    (void) snprintf(name, sizeof name, "%s.inp", stem);
    char *inputs = published_file(name, &n);
    char *at = inputs;
    for (char *end = at; end; at = end + strlen(PUBLISHED_SEPARATOR)) {
        end = strstr(at, PUBLISHED_SEPARATOR);
        size_t len = end ? (size_t) (end - at) : strlen(at);
        ck_assert(ret->n < PUBLISHED_MAX);
        ret->text_len[ret->n] = len;
        ret->texts[ret->n++] = strndup(at, len);
        if (!end) {
            break;
        }
    }
    free(inputs);

    (void) snprintf(name, sizeof name, "%s.out", stem);
    char *outputs = published_file(name, &n);
    size_t line = 0;
    for (char *p = outputs; line < ret->n; line++) {
        size_t len = strcspn(p, "\n");
        char *stop = p + len;
        while (p < stop) {
            char *next;
            unsigned long id = strtoul(p, &next, 10);
            if (next == p || next > stop) {
                break;
            }
            ck_assert(mb_ids_push(&ret->ids[line], (uint32_t) id));
            p = next;
        }
        p = *stop ? stop + 1 : stop;
    }
    free(outputs);
}

static inline void published_free(struct published *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->texts[i]);
        mb_ids_fini(&p->ids[i]);
    }
}

#endif
