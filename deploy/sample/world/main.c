/* storyworld: makes conversations about a little world, as JSON lines for training, and checks
 * what a model answered in one. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deploy/sample/world/story.h"

static const char usage[] =
    "usage: storyworld make [options] > FILE.jsonl\n"
    "       storyworld ask [options] < FILE.jsonl > FILE.jsonl\n"
    "       storyworld check [options] [FILE.jsonl]\n"
    "\n"
    "make writes conversations, a line each: {\"messages\": [{\"role\", \"content\"}, ...]};\n"
    "or as one text, as the model of deploy/sample sees it, for pretraining.\n"
    "ask reads such lines that end with an answer, and adds a question about the story that was\n"
    "told; those without one it leaves as they are.\n"
    "check reads such lines and judges every answer: whether it follows the grammar, makes sense\n"
    "and is about what was asked. Its exit status is 0 when enough are good.\n"
    "\n"
    "make:\n"
    "  --count N         conversations (default 1000)\n"
    "  --seed S          the same seed makes the same text (default 1)\n"
    "  --text            as documents with special tokens, lines <|endoftext|> between them\n"
    "  --stories         every conversation begins with a story\n"
    "  --first-person    the hero tells the story\n"
    "  --rhyme           stories end with a rhyme\n"
    "  --new-animals     about animals that are in no other conversation\n"
    "  --held-out        about what is otherwise left out, for evaluation\n"
    "ask:\n"
    "  --seed S          the same seed asks the same of the same story (default 1)\n"
    "check:\n"
    "  --at-least P      percent of the answers that must be good (default 100)\n"
    "  --first-person    count only stories that the hero tells as good\n"
    "  --rhyme           count only stories with a rhyme as good\n"
    "  --verbose         show what is not good\n"
    "  --json            print the counts as JSON\n";

struct arguments {
    struct talk_options talk;
    uint64_t count, seed;
    double at_least;
    bool verbose, json, text;
};

enum {
    COUNT = 1,
    SEED,
    STORIES,
    FIRST_PERSON,
    RHYME,
    NEW_ANIMALS,
    HELD_OUT,
    AT_LEAST,
    VERBOSE,
    TEXT,
    JSON,
    HELP
};

static const struct option options[] = {
    { "count", required_argument, NULL, COUNT },
    { "seed", required_argument, NULL, SEED },
    { "stories", no_argument, NULL, STORIES },
    { "first-person", no_argument, NULL, FIRST_PERSON },
    { "rhyme", no_argument, NULL, RHYME },
    { "new-animals", no_argument, NULL, NEW_ANIMALS },
    { "held-out", no_argument, NULL, HELD_OUT },
    { "at-least", required_argument, NULL, AT_LEAST },
    { "verbose", no_argument, NULL, VERBOSE },
    { "json", no_argument, NULL, JSON },
    { "text", no_argument, NULL, TEXT },
    { "help", no_argument, NULL, HELP },
    { 0 },
};

static bool parse_number(const char *text, uint64_t *ret)
{
    char *end;
    errno = 0;
    *ret = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && errno == 0;
}

static bool set_option(struct arguments *a, int option, const char *value)
{
    char *end;
    switch (option) {
    case COUNT:
        return parse_number(value, &a->count);
    case SEED:
        return parse_number(value, &a->seed);
    case STORIES:
        a->talk.stories = true;
        return true;
    case FIRST_PERSON:
        a->talk.first_person = true;
        return true;
    case RHYME:
        a->talk.rhyme = true;
        return true;
    case NEW_ANIMALS:
        a->talk.new_animals = true;
        return true;
    case HELD_OUT:
        a->talk.held_out = true;
        return true;
    case AT_LEAST:
        a->at_least = strtod(value, &end);
        return end != value && *end == '\0' && a->at_least >= 0 && a->at_least <= 100;
    case VERBOSE:
        a->verbose = true;
        return true;
    case TEXT:
        a->text = true;
        return true;
    case JSON:
        a->json = true;
        return true;
    default:
        return false;
    }
}

static void add_message(json_t *messages, const char *role, struct mb_bytes *content)
{
    json_array_append_new(
        messages, json_pack("{s:s, s:s}", "role", role, "content", mb_bytes_text(content)));
}

static bool print_json_line(struct talk *t)
{
    json_t *messages = json_array();
    for (size_t turn = 0; turn < t->n_turns; turn++) {
        add_message(messages, "user", &t->turns[turn].user);
        add_message(messages, "assistant", &t->turns[turn].assistant);
    }
    json_t *line = json_pack("{s:o}", "messages", messages);
    bool ok = line && json_dumpf(line, stdout, JSON_COMPACT) == 0 && putchar('\n') != EOF;
    json_decref(line);
    return ok;
}

/* What deploy/sample/chat_template.jinja makes of it, but for the token at the start. */
static bool print_text(struct talk *t)
{
    for (size_t turn = 0; turn < t->n_turns; turn++) {
        printf("<|user|>%s<|end|><|assistant|>%s<|end|>", mb_bytes_text(&t->turns[turn].user),
               mb_bytes_text(&t->turns[turn].assistant));
    }
    return printf("\n<|endoftext|>\n") > 0;
}

static int make(const struct arguments *a)
{
    struct talk t = { 0 };
    bool failed = false;
    for (uint64_t i = 0; i < a->count && !failed; i++) {
        talk_make(&a->talk, a->seed, i, &t);
        failed = !(a->text ? print_text(&t) : print_json_line(&t));
    }
    talk_fini(&t);
    if (failed || fflush(stdout) != 0) {
        perror("storyworld: writing");
        return 1;
    }
    return 0;
}

struct counts {
    size_t of[VERDICTS];
    size_t stories, other_style;
};

static const char *const verdict_names[VERDICTS] = { [GOOD] = "good",
                                                     [OFF_TOPIC] = "off topic",
                                                     [BROKEN] = "broken",
                                                     [UNASKED] = "not understood" };

static void check_turn(const struct arguments *a, struct memory *m, const char *user,
                       const char *assistant, struct counts *c)
{
    struct style style;
    size_t reached;
    enum verdict v = talk_check(m, user, assistant, &style, &reached);
    c->of[v]++;
    if (v == GOOD && style.story) {
        c->stories++;
        c->other_style +=
            (a->talk.first_person && !style.first_person) || (a->talk.rhyme && !style.rhyme);
    }
    if (a->verbose && v != GOOD) {
        printf("%s: %s\n  %.*s<HERE>%s\n", verdict_names[v], user, (int) reached, assistant,
               assistant + reached);
    }
}

/* One conversation. A false answer leaves the rest without a story to be about: *m is what is known
 * at its end. */
static bool check_line(const struct arguments *a, const json_t *line, struct memory *m,
                       struct counts *c)
{
    memory_clear(m);
    const char *user = NULL;
    size_t i;
    json_t *message;
    const json_t *messages = json_object_get(line, "messages");
    json_array_foreach (messages, i, message) {
        const char *role = json_string_value(json_object_get(message, "role"));
        const char *content = json_string_value(json_object_get(message, "content"));
        if (!role || !content) {
            return false;
        }
        if (strcmp(role, "user") == 0) {
            user = content;
        } else if (strcmp(role, "assistant") == 0 && user) {
            check_turn(a, m, user, content, c);
        }
    }
    return json_is_array(messages);
}

static bool ask_line(const struct arguments *a, json_t *line, uint64_t number)
{
    struct memory m;
    struct counts c = { 0 };
    if (!check_line(a, line, &m, &c)) {
        return false;
    }
    if (m.told) {
        struct mb_bytes question = { 0 };
        talk_ask(&m, a->seed, number, &question);
        add_message(json_object_get(line, "messages"), "user", &question);
        mb_bytes_fini(&question);
    }
    return json_dumpf(line, stdout, JSON_COMPACT) == 0 && putchar('\n') != EOF;
}

/* c NULL: a question is added to each. */
static bool read_lines(const struct arguments *a, FILE *in, struct counts *c)
{
    struct memory m;
    char *text = NULL;
    size_t cap = 0, n_lines = 0;
    ssize_t n;
    bool ok = true;
    while (ok && (n = getline(&text, &cap, in)) > 0) {
        json_error_t e;
        json_t *line = json_loadb(text, (size_t) n, 0, &e);
        ok = line && (c ? check_line(a, line, &m, c) : ask_line(a, line, n_lines));
        n_lines++;
        json_decref(line);
    }
    free(text);
    if (!ok) {
        fprintf(stderr, "storyworld: line %zu is no conversation\n", n_lines);
    }
    return ok;
}

static int ask(const struct arguments *a)
{
    return read_lines(a, stdin, NULL) && fflush(stdout) == 0 ? 0 : 1;
}

static int check(const struct arguments *a, const char *path)
{
    FILE *in = path ? fopen(path, "r") : stdin;
    if (!in) {
        fprintf(stderr, "storyworld: open '%s': %s\n", path, strerror(errno));
        return 1;
    }
    struct counts c = { 0 };
    bool ok = read_lines(a, in, &c);
    if (path) {
        fclose(in);
    }
    if (!ok) {
        return 1;
    }
    size_t all = c.of[GOOD] + c.of[OFF_TOPIC] + c.of[BROKEN] + c.of[UNASKED];
    double good = all == 0 ? 0 : 100.0 * (double) (c.of[GOOD] - c.other_style) / (double) all;
    if (a->json) {
        printf("{\"answers\": %zu, \"good\": %zu, \"off_topic\": %zu, \"broken\": %zu, "
               "\"not_understood\": %zu, \"stories\": %zu, \"other_style\": %zu}\n",
               all, c.of[GOOD] - c.other_style, c.of[OFF_TOPIC], c.of[BROKEN], c.of[UNASKED],
               c.stories, c.other_style);
    } else {
        printf(
            "%zu answers: %.1f %% good; %zu off topic, %zu broken, %zu to questions that are not "
            "understood, %zu stories in another style\n",
            all, good, c.of[OFF_TOPIC], c.of[BROKEN], c.of[UNASKED], c.other_style);
    }
    return good >= a->at_least && all > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct arguments a = { .count = 1000, .seed = 1, .at_least = 100 };
    int option;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option == HELP || option == 'h') {
            fputs(usage, stdout);
            return 0;
        }
        if (option == '?') {
            return 2;
        }
        if (!set_option(&a, option, optarg)) {
            fprintf(stderr, "storyworld: '%s' is no number in range\n", optarg);
            return 2;
        }
    }
    if (optind < argc && strcmp(argv[optind], "make") == 0 && optind + 1 == argc) {
        return make(&a);
    }
    if (optind < argc && strcmp(argv[optind], "ask") == 0 && optind + 1 == argc) {
        return ask(&a);
    }
    if (optind < argc && strcmp(argv[optind], "check") == 0 && optind + 2 >= argc) {
        return check(&a, argv[optind + 1]);
    }
    fputs(usage, stderr);
    return 2;
}
