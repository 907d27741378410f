/* Goal:   tokenizer.json and the files beside it are read as the tokenizers library means them,
 * and what
 *         is wrong or not supported is refused by name.
 * Method: a small file of each family; one field changed at a time, with what it must give. */
#include "core/import/tokenizer_json.h"
#include "tests/core/tokenizer/small.h"

static const char characters[] =
    "{'version': '1.0', 'truncation': null, 'padding': null,"
    "'added_tokens': ["
    " {'id': 0, 'content': '<unk>', 'special': true, 'normalized': false},"
    " {'id': 1, 'content': '<s>', 'special': true, 'normalized': true},"
    " {'id': 2, 'content': '</s>', 'special': true, 'lstrip': false},"
    " {'id': 9, 'content': '<a>', 'special': false, 'normalized': false, 'rstrip': true}],"
    "'normalizer': {'type': 'Sequence', 'normalizers': [{'type': 'Prepend', 'prepend': '_'},"
    " {'type': 'Replace', 'pattern': {'String': ' '}, 'content': '_'}]},"
    "'pre_tokenizer': null,"
    "'post_processor': {'type': 'TemplateProcessing', 'single': ["
    " {'SpecialToken': {'id': '<s>', 'type_id': 0}}, {'Sequence': {'id': 'A', 'type_id': 0}},"
    " {'SpecialToken': {'id': 'end', 'type_id': 0}}], 'pair': [], 'special_tokens': {"
    " '<s>': {'id': '<s>', 'ids': [1], 'tokens': ['<s>']}, 'end': {'id': 'end', 'ids': [2, "
    "2]}}},"
    "'decoder': {'type': 'Sequence', 'decoders': ["
    " {'type': 'Replace', 'pattern': {'String': '_'}, 'content': ' '}, {'type': "
    "'ByteFallback'},"
    " {'type': 'Fuse'}, {'type': 'Strip', 'content': ' ', 'start': 1, 'stop': 0}]},"
    "'model': {'type': 'BPE', 'dropout': null, 'unk_token': '<unk>', 'fuse_unk': true,"
    " 'continuing_subword_prefix': null, 'end_of_word_suffix': '', 'byte_fallback': true,"
    " 'ignore_merges': false, 'vocab': {'<unk>': 0, '<s>': 1, '</s>': 2, '_': 3, 'a': 4, 'b': "
    "5,"
    " 'ab': 6, '_ab': 7, '<0x0A>': 8, ' ': 10, '  ': 11},"
    " 'merges': ['a b', ['_', 'ab'], '   ']}}";

static const char bytes[] =
    "{'added_tokens': [], 'normalizer': {'type': 'NFC'},"
    "'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': ["
    " {'type': 'Split', 'pattern': {'Regex': '[a-z]+|[0-9]'}, 'behavior': 'Isolated',"
    "  'invert': false}, {'type': 'ByteLevel', 'add_prefix_space': false, 'use_regex': "
    "false}]},"
    "'post_processor': {'type': 'Sequence', 'processors': [{'type': 'ByteLevel'}]},"
    "'decoder': {'type': 'ByteLevel'},"
    "'model': {'vocab': {'a': 0, 'b': 1, 'ab': 2, '1': 3, 'end': 4}, 'merges': ['a b']}}";

/* JSON with ' for ", so that it can be read here. */
static void put_json(const char *text, struct mb_bytes *ret)
{
    for (; *text; text++) {
        mb_bytes_put_u8(ret, *text == '\'' ? '"' : (uint8_t) *text);
    }
}

/* Reads base with its first `from` replaced by `to`, and the other files, which may be NULL. */
static enum mb_status parse(const char *base, const char *from, const char *to,
                            const char *const others[3], struct mb_bpe_spec **ret,
                            struct mb_error *err)
{
    struct mb_bytes text[4] = { { 0 } };
    const char *at = from ? strstr(base, from) : base;
    ck_assert_msg(at, "\"%s\" is not in the file", from);
    char *copy = malloc(strlen(base) + strlen(to ? to : "") + 1);
    sprintf(copy, "%.*s%s%s", (int) (at - base), base, to ? to : "",
            at + strlen(from ? from : ""));
    put_json(copy, &text[0]);
    for (int i = 0; i < 3; i++) {
        put_json(others && others[i] ? others[i] : "", &text[i + 1]);
    }
    struct mb_tokenizer_files files = {
        text[0].at,  text[1].at,  text[2].at,  text[3].at,
        text[0].len, text[1].len, text[2].len, text[3].len,
    };
    enum mb_status st = mb_tokenizer_json_parse(&files, ret, err);
    for (int i = 0; i < 4; i++) {
        mb_bytes_fini(&text[i]);
    }
    free(copy);
    return st;
}

static struct mb_bpe_spec *accept(const char *base, const char *from, const char *to,
                                  const char *const others[3])
{
    struct mb_error err = { 0 };
    struct mb_bpe_spec *s = NULL;
    mb_assert_ok(parse(base, from, to, others, &s, &err), &err);
    return s;
}

START_TEST(character_family)
{
    struct mb_tokenizer *t = small_tokenizer(accept(characters, NULL, NULL, NULL));
    SMALL_EXPECT(t, "ab", MB_ENCODE_BOS_EOS, "<s>|_ab|</s>|</s>");
    SMALL_EXPECT(t, "\nz<a>  b</s>", MB_ENCODE_PARSE_SPECIAL, "_|<0x0A>|<unk>|<a>|_|b|</s>");
    ck_assert(mb_tokenizer_is_special(t, 2) && !mb_tokenizer_is_special(t, 9));
    mb_tokenizer_free(t);
}
END_TEST

START_TEST(byte_family)
{
    struct mb_tokenizer *t = small_tokenizer(accept(bytes, NULL, NULL, NULL));
    SMALL_EXPECT(t, "ab1b", MB_ENCODE_BOS_EOS, "ab|1|b");
    mb_tokenizer_free(t);
}
END_TEST

/* tokenizer_config.json, generation_config.json, config.json, and what comes of them; -1 is
 * none. */
static const struct {
    const char *others[3];
    int prefix, suffix, bos;
    int eos[4];
} ends[] = {
    { { NULL, NULL, NULL }, -1, -1, -1, { -1 } },
    { { "{'add_bos_token': true, 'bos_token': 'a', 'eos_token': 'end'}", NULL, NULL },
      0,
      -1,
      0,
      { 4, -1 } },
    { { "{'add_bos_token': null, 'add_eos_token': true, 'bos_token': {'content': 'b'},"
        " 'eos_token': {'content': 'end'}, 'model_max_length': "
        "1000000000000000019884624838656}",
        "{'eos_token_id': [3, 4]}", "{'eos_token_id': 2, 'bos_token_id': 0}" },
      -1,
      4,
      1,
      { 3, 4, 2, -1 } },
    { { NULL, "{'bos_token_id': 3, 'eos_token_id': 4}",
        "{'eos_token_id': 4, 'bos_token_id': 0}" },
      -1,
      -1,
      3,
      { 4, -1 } },
    { { "{'bos_token': null, 'add_bos_token': true}", NULL, "{'bos_token_id': 1}" },
      -1,
      -1,
      -1,
      { -1 } },
};

START_TEST(ends_of_a_text)
{
    struct mb_bpe_spec *s = accept(bytes, NULL, NULL, ends[_i].others);
    ck_assert_int_eq(s->prefix.n ? (int) s->prefix.at[0] : -1, ends[_i].prefix);
    ck_assert_int_eq(s->suffix.n ? (int) s->suffix.at[0] : -1, ends[_i].suffix);
    ck_assert_int_eq((int) s->bos, ends[_i].bos);
    uint32_t n = 0;
    while (ends[_i].eos[n] >= 0) {
        ck_assert_uint_lt(n, s->eos.n);
        ck_assert_int_eq((int) s->eos.at[n], ends[_i].eos[n]);
        n++;
    }
    ck_assert_uint_eq(s->eos.n, n);
    mb_bpe_spec_free(s);
}
END_TEST

/* The post-processor's template says what stands around a text, not tokenizer_config.json. */
START_TEST(the_template_wins)
{
    const char *const others[3] = { "{'add_bos_token': true, 'bos_token': '</s>'}" };
    struct mb_tokenizer *t = small_tokenizer(accept(characters, NULL, NULL, others));
    SMALL_EXPECT(t, "ab", MB_ENCODE_BOS_EOS, "<s>|_ab|</s>|</s>");
    mb_tokenizer_free(t);
}
END_TEST

static const struct {
    const char *base, *from, *to;
    const char *what;
} wrongs[] = {
    { characters, "'BPE'", "'Unigram'",
      "tokenizer.json: model: tokenizer model Unigram is not supported; supported: BPE" },
    { bytes, "'merges': ['a b']", "'scores': []", "supported: BPE" },
    { bytes, "'Split'", "'Foo'",
      "pre_tokenizer Foo is not supported; supported: Sequence, ByteLevel, Split, Metaspace, "
      "Digits" },
    { bytes, "'NFC'", "'Lowercase'", "normalizer Lowercase is not supported" },
    { bytes, "{'type': 'ByteLevel'},'model'", "{'type': 'CTC'},'model'", "decoder CTC is not" },
    { bytes, "{'type': 'ByteLevel'},'model'", "null,'model'", "decoder null is not supported" },
    { bytes, "'Sequence', 'processors'", "'BertProcessing', 'processors'",
      "post_processor BertProcessing is not supported" },
    { characters, "'dropout': null", "'dropout': 0.1", "dropout is not supported" },
    { characters, "'end_of_word_suffix': ''", "'end_of_word_suffix': '</w>'",
      "end_of_word_suffix is not supported" },
    { characters, "{'String': ' '}", "{'Regex': ' '}",
      "Replace: pattern Regex is not supported" },
    { characters, "'stop': 0", "'stop': 1", "decoder Strip is supported only" },
    { characters, "'start': 1", "'start': -1", "decoder Strip: start: -1 is outside" },
    { bytes, "'Isolated'", "'Sideways'", "pre_tokenizer Split: behavior: \"Sideways\"" },
    { bytes, "{'Regex': '[a-z]+|[0-9]'}", "'x'", "Split: pattern: neither" },
    { bytes, "'type': 'NFC'", "'kind': 'NFC'", "normalizer: type: missing" },
    { bytes, "'pretokenizers': [", "'pretokenizers': 1, 'x': [", "pretokenizers: not a list" },
    { bytes, "'model':", "'mode':", "tokenizer.json: model: not an object" },
    { bytes, "'vocab': {", "'vocab': [], 'x': {", "vocab: not an object" },
    { bytes, "'b': 1", "'b': '1'", "vocab: \"b\": not an id" },
    { bytes, "'b': 1", "'b': -1", "vocab: \"b\": not an id" },
    { bytes, "'b': 1", "'b': 1048576", "vocab: \"b\": not an id below 1048576" },
    { bytes, "'b': 1", "'b': 18446744073709551617", "vocab: \"b\": not an id" },
    { bytes, "'b': 1", "'b': 0", "id 0 is given twice" },
    { bytes, "'b': 1", "'a': 1", "duplicate object key" },
    { bytes, "['a b']", "{}", "merges: not a list" },
    { bytes, "['a b']", "['a c']", "model: merges[0]: not two tokens of vocab" },
    { bytes, "['a b']", "['a b', 'ab ab']", "merges[1]: not two tokens" },
    { bytes, "['a b']", "['ab']", "merges[0]" },
    { bytes, "['a b']", "[['a']]", "merges[0]" },
    { bytes, "['a b']", "[['a', 'b', 'c']]", "merges[0]" },
    { bytes, "['a b']", "[17]", "merges[0]" },
    { bytes, "['a b']", "[' b']", "merges[0]" },
    { characters, "'added_tokens': [", "'added_tokens': 3, 'x': [",
      "added_tokens: not a list" },
    { characters, "'id': 9", "'id': '9'", "added_tokens[3]: id: not an integer" },
    { characters, "'id': 9", "'id': 4000000000", "added_tokens[3]: id: 4000000000 is outside" },
    { characters, "'id': 9", "'id': 2", "added_tokens[3]: id: 2 is given twice" },
    { characters, "'id': 1,", "'id': 5,",
      "added_tokens[1]: id: 5, but vocab has \"<s>\" as 1" },
    { characters, "'content': '<a>'", "'content': ''", "added_tokens[3]: content" },
    { characters, "'rstrip': true", "'rstrip': 1",
      "added_tokens[3]: rstrip: neither true nor" },
    { characters, "'unk_token': '<unk>'", "'unk_token': 'who'",
      "unk_token: \"who\" is no token" },
    { characters, "'ids': [1]", "'ids': [99]", "TemplateProcessing: special_tokens: \"<s>\"" },
    { characters, "'ids': [1]", "'ids': 1", "ids: not a list" },
    { characters, "'SpecialToken': {'id': '<s>'", "'SpecialToken': {'id': 'x'", "\"x\": ids" },
    { characters, "{'Sequence': {'id': 'A', 'type_id': 0}},", "", "single: no Sequence" },
    { characters, "'single': [", "'single': {}, 'x': [", "single: not a list" },
};

START_TEST(wrong_fields_are_named)
{
    struct mb_error err = { 0 };
    struct mb_bpe_spec *s = NULL;
    enum mb_status st = parse(wrongs[_i].base, wrongs[_i].from, wrongs[_i].to, NULL, &s, &err);
    ck_assert_msg(st != MB_OK, "%s was accepted", wrongs[_i].to);
    ck_assert_msg(strstr(err.what, wrongs[_i].what), "%s: %s", wrongs[_i].what, err.what);
    ck_assert_ptr_null(s);
}
END_TEST

static const struct {
    const char *others[3];
    const char *what;
} wrong_ends[] = {
    { { "{'add_bos_token': true, 'bos_token': 'zz'}" },
      "tokenizer_config.json: bos_token: \"zz\" is no token" },
    { { "{'eos_token': 7}" }, "tokenizer_config.json: eos_token: not a token" },
    { { "{'eos_token': {'id': 7}}" }, "tokenizer_config.json: eos_token: not a token" },
    { { NULL, "{'eos_token_id': 99}" }, "generation_config.json: eos_token_id: no token" },
    { { NULL, "{'eos_token_id': [1, '2']}" }, "generation_config.json: eos_token_id" },
    { { NULL, NULL, "{'eos_token_id': -1}" }, "config.json: eos_token_id" },
    { { NULL, NULL, "[1]" }, "config.json: not a JSON object" },
};

START_TEST(wrong_ends_are_named)
{
    struct mb_error err = { 0 };
    struct mb_bpe_spec *s = NULL;
    ck_assert_int_ne(parse(bytes, NULL, NULL, wrong_ends[_i].others, &s, &err), MB_OK);
    ck_assert_msg(strstr(err.what, wrong_ends[_i].what), "%s: %s", wrong_ends[_i].what,
                  err.what);
}
END_TEST

START_TEST(nesting_is_bounded)
{
    struct mb_bytes deep = { 0 };
    for (int i = 0; i < 40; i++) {
        mb_bytes_put_text(&deep, "{'type': 'Sequence', 'normalizers': [");
    }
    for (int i = 0; i < 40; i++) {
        mb_bytes_put_text(&deep, "]}");
    }
    struct mb_error err = { 0 };
    struct mb_bpe_spec *s = NULL;
    ck_assert_int_eq(parse(bytes, "{'type': 'NFC'}", mb_bytes_text(&deep), NULL, &s, &err),
                     MB_E_LIMIT);
    ck_assert_ptr_nonnull(strstr(err.what, "nested deeper"));
    mb_bytes_fini(&deep);
}
END_TEST

START_TEST(missing_files)
{
    struct mb_error err = { 0 };
    struct mb_bpe_spec *s = NULL;
    ck_assert_int_eq(
        mb_tokenizer_json_read("/nowhere/tokenizer.json", NULL, NULL, NULL, &s, &err),
        MB_E_NOTFOUND);
    ck_assert_ptr_nonnull(strstr(err.what, "/nowhere/tokenizer.json"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tokenizer_json");
    TCase *t = tcase_create("tokenizer_json");
    tcase_add_test(t, character_family);
    tcase_add_test(t, byte_family);
    tcase_add_loop_test(t, ends_of_a_text, 0, sizeof ends / sizeof *ends);
    tcase_add_test(t, the_template_wins);
    tcase_add_loop_test(t, wrong_fields_are_named, 0, sizeof wrongs / sizeof *wrongs);
    tcase_add_loop_test(t, wrong_ends_are_named, 0, sizeof wrong_ends / sizeof *wrong_ends);
    tcase_add_test(t, nesting_is_bounded);
    tcase_add_test(t, missing_files);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
