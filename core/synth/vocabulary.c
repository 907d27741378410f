#include "core/synth/vocabulary.h"

#include <assert.h>

#include "core/synth/synth.h"
#include "core/tokenizer/byte_level.h"
#include "core/tokenizer/spec.h"
#include "core/tokenizer/utf8.h"

enum { BYTES = 256, BOS = 256, EOS = 257 };
static_assert(EOS + 1 == MB_SYNTH_VOCAB_MIN, "the tokens that every vocabulary has");

/* A word for a number: a space, then syllables, its digits in base 70. Different numbers give
 * different words. ret has room for WORD_MAX bytes; returns how many are used. */
enum { WORD_MAX = 2 + 2 * 7 }; /* the space is two bytes; 70^7 > 2^32 */

static size_t word_of(uint32_t number, uint8_t ret[WORD_MAX])
{
    static const char consonants[] = "bdfgklmnprstvz", vowels[] = "aeiou";
    enum { N_CONSONANTS = sizeof consonants - 1, N_VOWELS = sizeof vowels - 1 };
    size_t n = mb_utf8_put(mb_byte_level_char(' '), ret);
    do {
        uint32_t digit = number % (N_CONSONANTS * N_VOWELS);
        ret[n++] = (uint8_t) consonants[digit / N_VOWELS];
        ret[n++] = (uint8_t) vowels[digit % N_VOWELS];
        number /= N_CONSONANTS * N_VOWELS;
    } while (number > 0);
    assert(n <= WORD_MAX);
    return n;
}

static enum mb_status add_tokens(struct mb_bpe_spec *spec, uint32_t n_vocab,
                                 struct mb_error *err)
{
    enum mb_status st = MB_OK;
    uint8_t text[WORD_MAX];
    for (uint32_t b = 0; st == MB_OK && b < BYTES; b++) {
        size_t n = mb_utf8_put(mb_byte_level_char((uint8_t) b), text);
        st = mb_bpe_spec_token(spec, b, text, n, MB_TOKEN_PRESENT, err);
    }
    unsigned special = MB_TOKEN_PRESENT | MB_TOKEN_ADDED | MB_TOKEN_SPECIAL;
    if (st == MB_OK) {
        st = mb_bpe_spec_token(spec, BOS, "<s>", 3, special, err);
    }
    if (st == MB_OK) {
        st = mb_bpe_spec_token(spec, EOS, "</s>", 4, special, err);
    }
    for (uint32_t i = MB_SYNTH_VOCAB_MIN; st == MB_OK && i < n_vocab; i++) {
        size_t n = word_of(i - MB_SYNTH_VOCAB_MIN, text);
        st = mb_bpe_spec_token(spec, i, text, n, MB_TOKEN_PRESENT, err);
    }
    return st;
}

static enum mb_status add_rules(struct mb_bpe_spec *spec, struct mb_error *err)
{
    struct mb_bpe_step bytes = { .kind = MB_BPE_BYTE_LEVEL };
    spec->unk = MB_NO_ID;
    spec->bos = BOS;
    enum mb_status st = mb_bpe_spec_step(spec, MB_BPE_PRE_TOKENIZER, bytes, err);
    if (st == MB_OK) {
        st = mb_bpe_spec_step(spec, MB_BPE_DECODER, bytes, err);
    }
    if (st == MB_OK) {
        st = mb_bpe_ids_add(&spec->prefix, BOS, err);
    }
    return st == MB_OK ? mb_bpe_ids_add(&spec->eos, EOS, err) : st;
}

enum mb_status mb_synth_vocabulary(uint32_t n_vocab, struct mb_bytes *ret, struct mb_error *err)
{
    assert(n_vocab >= MB_SYNTH_VOCAB_MIN);
    struct mb_bpe_spec *spec = mb_bpe_spec_new();
    enum mb_status st = spec ? add_tokens(spec, n_vocab, err)
                             : mb_fail(err, MB_E_NOMEM, 0, "no memory for a tokenizer");
    if (st == MB_OK) {
        st = add_rules(spec, err);
    }
    if (st == MB_OK && !spec->text.failed) {
        st = mb_bpe_spec_check(spec, err);
        mb_bpe_spec_write(spec, ret);
    }
    if (st == MB_OK && (spec->text.failed || ret->failed)) {
        st = mb_fail(err, MB_E_NOMEM, 0, "no memory for a tokenizer");
    }
    mb_bpe_spec_free(spec);
    return st;
}
