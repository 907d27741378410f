/* Goal:   a swap under load is noticed by nobody: no request fails, every answer is byte for byte what the
 *         epoch that it names says alone, and memory is where it was; a model's epochs share its pages.
 * Method: SWAPS changes of what "tiny" is, while sixteen streams of it run; each answer is compared with
 *         what its epoch said before, asked by its own name on an idle daemon. $MB_SWAPS of them, 100
 *         unless it says otherwise; 1000 is the promise. Sharing is read from /proc/PID/smaps. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/check_main.h"
#include "tests/support/delta_file.h"
#include "tests/support/model_file.h"
#include "tests/wire/daemon.h"
#include "tests/wire/stream.h"

enum {
    EPOCHS = 3, /* the checkpoint's own, and two deltas of it */
    SEEDS = 8,
    STREAMS = 16,
    FLIPS = 2000,
    PAGE = 4096,
    GROWTH_KIB_MAX = 512, /* of heap noise */
};

static struct wire_daemon d;
static char dir[] = "/tmp/mboold-swaps-XXXXXX";
static char delta[EPOCHS][64], flag[EPOCHS][160];
/* Of each epoch: its id, the name that is always it, and what it says for a seed. */
static char id[EPOCHS][17], name[EPOCHS][32], alone[EPOCHS][SEEDS][STREAM_TEXT_MAX];

static void make_deltas(void)
{
    if (!mkdtemp(dir)) {
        abort();
    }
    wire_folder_make();
    for (int e = 1; e < EPOCHS; e++) {
        (void) snprintf(delta[e], sizeof delta[e], "%s/%d.delta", dir, e);
        (void) snprintf(name[e], sizeof name[e], "ft:tiny:%d", e);
        (void) snprintf(flag[e], sizeof flag[e], "--epoch=%s=tiny+%s", name[e], delta[e]);
        delta_file_write(wire_model_path(), delta[e], (uint64_t) e, FLIPS);
    }
}

static void remove_deltas(void)
{
    for (int e = 1; e < EPOCHS; e++) {
        (void) unlink(delta[e]);
    }
    (void) rmdir(dir);
    wire_folder_remove();
}

/* ---- swaps ------------------------------------------------------------------------------- */

static struct wire_reply post(const char *action, const char *json)
{
    char path[128];
    (void) snprintf(path, sizeof path, "/v1/mbool/models/tiny/%s", action);
    return wire_ask(&d, path, json);
}

/* A member of the answer that must be 200. */
static void expect(struct wire_reply r, const char *member, char ret[17])
{
    ck_assert_msg(r.status == 200, "%s%s", r.head, r.body);
    json_t *root = json_loads(r.body, 0, NULL);
    const char *text = json_string_value(json_object_get(root, member));
    ck_assert_ptr_nonnull(text);
    (void) snprintf(ret, 17, "%s", text);
    json_decref(root);
    wire_reply_free(&r);
}

static void promote(const char *to, const char *want)
{
    char json[128], now[17];
    (void) snprintf(json, sizeof json, "{\"to\":\"%s\"}", to);
    expect(post("promote", json), "epoch", now);
    ck_assert_str_eq(now, want);
}

static void rollback(const char *want)
{
    char now[17];
    expect(post("rollback", ""), "epoch", now);
    ck_assert_str_eq(now, want);
}

/* ---- streams ----------------------------------------------------------------------------- */

static int begin(const char *model, unsigned seed)
{
    char json[256];
    int fd = wire_open(&d);
    (void) snprintf(json, sizeof json,
                    "{\"model\":\"%s\",\"prompt\":\"Once\",\"stream\":true,\"max_tokens\":%u,"
                    "\"ignore_eos\":true,\"seed\":%u}",
                    model, 24 + 4 * seed, seed);
    wire_post(fd, "/v1/completions", json);
    return fd;
}

/* Which epoch made it, by its header; each chunk must say the same. */
static int read_stream(int fd, char text[STREAM_TEXT_MAX])
{
    char epoch[32];
    struct wire_reply r = wire_read(fd, false);
    ck_assert_msg(r.status == 200 && r.whole, "%s%s", r.head, r.body);
    ck_assert(wire_header(&r, "X-Mbool-Epoch", epoch, sizeof epoch));
    struct stream s = stream_of(&r);
    ck_assert_uint_eq(s.n_done, 1);
    const json_t *chunk;
    size_t i;
    json_array_foreach (s.kept, i, chunk) {
        const char *print = json_string_value(json_object_get(chunk, "system_fingerprint"));
        ck_assert_ptr_nonnull(print);
        ck_assert_str_eq(strrchr(print, '-') + 1, epoch);
    }
    (void) snprintf(text, STREAM_TEXT_MAX, "%s", s.choice[0].text);
    stream_free(&s);
    wire_reply_free(&r);
    (void) close(fd);
    for (int e = 0; e < EPOCHS; e++) {
        if (strcmp(id[e], epoch) == 0) {
            return e;
        }
    }
    ck_abort_msg("there is no epoch %s", epoch);
    return -1;
}

/* What every epoch says alone. */
static void ask_each(void)
{
    for (int e = 0; e < EPOCHS; e++) {
        char path[64];
        (void) snprintf(path, sizeof path, "/v1/mbool/models/%s/epochs", e ? name[e] : "tiny");
        struct wire_reply r = wire_ask(&d, path, NULL);
        json_t *root = json_loads(r.body, 0, NULL), *one;
        size_t i;
        json_array_foreach (json_object_get(root, "data"), i, one) {
            if (json_is_true(json_object_get(one, "current"))) {
                const char *text = json_string_value(json_object_get(one, "id"));
                (void) snprintf(id[e], sizeof id[e], "%s", text);
            }
        }
        json_decref(root);
        wire_reply_free(&r);
        for (unsigned seed = 0; seed < SEEDS; seed++) {
            ck_assert_int_eq(read_stream(begin(e ? name[e] : "tiny", seed), alone[e][seed]), e);
            ck_assert(e == 0 || strcmp(alone[e][seed], alone[0][seed]) != 0);
        }
    }
}

/* From e to another, by turns forth by name and back by id, by name again, or by a rollback. */
static int swap_once(int e, long i)
{
    if (e == 0) {
        int to = i % 2 == 0 ? 1 : 2;
        promote(i % 3 == 0 ? id[to] : name[to], id[to]);
        return to;
    }
    if (i % 5 == 1) {
        promote(name[3 - e], id[3 - e]);
        return 3 - e;
    }
    if (i % 3 == 0) {
        promote(id[0], id[0]);
        return 0;
    }
    char json[128], before[17];
    (void) snprintf(json, sizeof json, "{\"to\":\"%s\"}", id[0]);
    expect(post("promote", json), "before", before);
    ck_assert_str_eq(before, id[e]);
    rollback(id[e]);
    promote(id[0], id[0]);
    return 0;
}

/* n swaps; at each of them STREAMS streams are under way. Returns how many answers each epoch gave. */
static void swap_under_load(long n, long answers[EPOCHS])
{
    int fds[STREAMS], now = 0;
    char text[STREAM_TEXT_MAX];
    for (int k = 0; k < STREAMS; k++) {
        fds[k] = begin("tiny", (unsigned) k % SEEDS);
    }
    for (long i = 0; i < n; i++) {
        now = swap_once(now, i);
        for (int k = 0; k < 4; k++) { /* the oldest ends, and another begins */
            unsigned seat = (unsigned) (4 * i + k) % STREAMS;
            int e = read_stream(fds[seat], text);
            ck_assert_msg(strcmp(text, alone[e][seat % SEEDS]) == 0,
                          "swap %ld, epoch %s, seed %u:\n%s\ninstead of\n%s", i, id[e],
                          seat % SEEDS, text, alone[e][seat % SEEDS]);
            answers[e]++;
            fds[seat] = begin("tiny", seat % SEEDS);
        }
    }
    for (int k = 0; k < STREAMS; k++) {
        int e = read_stream(fds[k], text);
        ck_assert_str_eq(text, alone[e][k % SEEDS]);
    }
    promote(id[0], id[0]);
}

START_TEST(nobody_notices_a_swap)
{
    const char *flags[] = { flag[1],
                            flag[2],
                            "--max-sequences=16",
                            "--context=256",
                            "--kv-memory=4M",
                            "--epochs-max=3",
                            "--log-level=warn",
                            "--weights=memfd",
                            NULL };
    const char *text = getenv("MB_SWAPS");
    long n = text ? atol(text) : 100, answers[EPOCHS] = { 0 };
    d = wire_start(flags);
    ask_each();
    swap_under_load(n / 2, answers);
    (void) wire_metric_becomes(&d, "mboold_requests_running", 0);
    long kib = wire_anonymous_kib(&d);
    double private_bytes = wire_metric(&d, "mboold_epoch_private_bytes");
    double swaps = wire_metric(&d, "mboold_model_swap_total{result=\"ok\"}");
    swap_under_load(n - n / 2, answers);
    (void) wire_metric_becomes(&d, "mboold_requests_running", 0);
    (void) wire_metric_becomes(&d, "mboold_kv_used_ratio", 0);
    long kib_after = wire_anonymous_kib(&d);
    printf("%.0f swaps; answers of each epoch %ld, %ld, %ld; RssAnon %ld KiB, then %ld KiB\n",
           wire_metric(&d, "mboold_model_swap_total{result=\"ok\"}"), answers[0], answers[1],
           answers[2], kib, kib_after);
    for (int e = 0; e < EPOCHS; e++) {
        ck_assert_int_gt(answers[e], n / 10);
    }
    ck_assert(wire_metric(&d, "mboold_model_swap_total{result=\"ok\"}") >=
              swaps + (double) n / 2);
    ck_assert(wire_metric(&d, "mboold_model_swap_total{result=\"failed\"}") == 0);
    ck_assert(wire_metric(&d, "mboold_requests_total{outcome=\"failed\"}") == 0);
    ck_assert(wire_metric(&d, "mboold_requests_total{outcome=\"refused\"}") == 0);
    ck_assert(wire_metric(&d, "mboold_requests_total{outcome=\"cancelled\"}") == 0);
    ck_assert(wire_metric(&d, "mboold_epochs") == EPOCHS);
    ck_assert(wire_metric(&d, "mboold_epoch_private_bytes") == private_bytes);
    if (!MB_SANITIZED) {
        ck_assert_msg(kib_after - kib <= GROWTH_KIB_MAX, "%ld KiB became %ld", kib, kib_after);
    }
    wire_stop(&d);
}
END_TEST

/* ---- what is said of epochs -------------------------------------------------------------- */

static void expect_error(struct wire_reply r, int status, const char *code)
{
    ck_assert_msg(r.status == status, "%s%s", r.head, r.body);
    json_t *root = json_loads(r.body, 0, NULL);
    const char *got =
        json_string_value(json_object_get(json_object_get(root, "error"), "code"));
    ck_assert_msg(code ? got && strcmp(got, code) == 0 : !got, "%s", r.body);
    json_decref(root);
    wire_reply_free(&r);
}

START_TEST(what_can_not_be_is_said)
{
    const char *flags[] = { flag[1], "--model", NULL, NULL };
    char other[128];
    (void) snprintf(other, sizeof other, "org/other=%s", wire_model_path());
    flags[2] = other;
    d = wire_start(flags);
    expect_error(post("rollback", ""), 409, "conflict");
    expect_error(post("promote", "{\"to\":\"none\"}"), 404, "model_not_found");
    expect_error(post("promote", "{\"to\":\"org/other\"}"), 409, "conflict");
    expect_error(post("promote", "{}"), 400, NULL);
    expect_error(post("pin", "{\"pinned\":1}"), 400, NULL);
    expect_error(wire_ask(&d, "/v1/mbool/models/none/rollback", ""), 404, "model_not_found");
    expect_error(wire_ask(&d, "/v1/mbool/models/none/epochs", NULL), 404, "model_not_found");
    expect_error(wire_ask(&d, "/v1/mbool/models/epochs", NULL), 404, "not_found");
    expect_error(wire_ask(&d, "/v1/mbool/models//epochs", NULL), 404, "not_found");
    struct wire_reply r = wire_ask(&d, "/v1/mbool/models/org/other/epochs", NULL);
    ck_assert_int_eq(r.status, 200);
    ck_assert_ptr_nonnull(strstr(r.body, "\"model\":\"org/other\""));
    wire_reply_free(&r);
    r = post("pin", "");
    ck_assert_ptr_nonnull(strstr(r.body, "\"pinned\":true"));
    wire_reply_free(&r);
    r = wire_ask(&d, "/v1/mbool/models/tiny/epochs", NULL);
    ck_assert_ptr_nonnull(strstr(r.body, "\"pinned\":true"));
    ck_assert_ptr_nonnull(strstr(r.body, "\"models\":[\"ft:tiny:1\"]"));
    ck_assert_ptr_nonnull(strstr(r.body, "\"source\":\"1.delta\""));
    wire_reply_free(&r);
    r = wire_ask(&d, "/v1/models", NULL);
    ck_assert_ptr_nonnull(strstr(r.body, "\"id\":\"ft:tiny:1\""));
    wire_reply_free(&r);
    wire_stop(&d);
}
END_TEST

START_TEST(a_broken_epoch_of_the_start_is_said)
{
    char said[4096], bad[128], model[128];
    (void) snprintf(model, sizeof model, "--model=tiny=%s", wire_model_path());
    (void) snprintf(bad, sizeof bad, "--epoch=ft:x=tiny+%s", wire_model_path());
    ck_assert_int_eq(wire_run((const char *[]) { model, bad, NULL }, said, sizeof said), 1);
    ck_assert_msg(strstr(said, "epoch 'ft:x' from ") && strstr(said, "this is no delta"), "%s",
                  said);
    (void) snprintf(bad, sizeof bad, "--epoch=ft:x=none+%s", delta[1]);
    ck_assert_int_eq(wire_run((const char *[]) { model, bad, NULL }, said, sizeof said), 1);
    ck_assert_msg(strstr(said, "there is no model 'none'"), "%s", said);
    ck_assert_int_eq(
        wire_run((const char *[]) { model, "--epoch=ft:x=tiny", NULL }, said, sizeof said), 2);
    ck_assert_msg(strstr(said, "NAME=MODEL+FILE"), "%s", said);
}
END_TEST

/* ---- memory ------------------------------------------------------------------------------ */

enum { WIDTH = 512, LAYERS = 4, FEW_FLIPS = 6, BIG_EPOCHS = 3 };

/* Bytes of the mappings whose name holds what: all that are resident, and this process's share. */
static void mapped(const struct wire_daemon *of, const char *what, double *rss, double *pss)
{
    char path[64], line[512];
    bool ours = false;
    (void) snprintf(path, sizeof path, "/proc/%d/smaps", (int) of->pid);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f)) {
        unsigned long kib;
        if (strchr(line, '-') && !strchr(line, ':')) {
            ours = false; /* a mapping without a name */
        }
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
            ours = strstr(line, what) != NULL;
        } else if (ours && sscanf(line, "Rss: %lu kB", &kib) == 1) {
            *rss += 1024.0 * (double) kib;
        } else if (ours && sscanf(line, "Pss: %lu kB", &kib) == 1) {
            *pss += 1024.0 * (double) kib;
        }
    }
    (void) fclose(f);
}

static void start_big(struct wire_daemon *ret, const char *weights)
{
    char model[128], epochs[BIG_EPOCHS][192], kind[32];
    (void) snprintf(model, sizeof model, "--model=big=%s/big", dir);
    (void) snprintf(kind, sizeof kind, "--weights=%s", weights);
    const char *flags[] = {
        model, kind, epochs[0], epochs[1], epochs[2], "--context=256", NULL
    };
    for (int e = 0; e < BIG_EPOCHS; e++) {
        (void) snprintf(epochs[e], sizeof epochs[e], "--epoch=big:%d=big+%s/big%d", e, dir, e);
    }
    *ret = wire_start(flags);
}

START_TEST(epochs_share_their_pages)
{
    char path[80], file[80];
    (void) snprintf(file, sizeof file, "%s/big", dir);
    model_file_write_wide(file, 256, WIDTH, LAYERS);
    struct stat sb;
    ck_assert_int_eq(stat(file, &sb), 0);
    for (int e = 0; e < BIG_EPOCHS; e++) {
        (void) snprintf(path, sizeof path, "%s/big%d", dir, e);
        delta_file_write(file, path, (uint64_t) e + 10, FEW_FLIPS);
    }
    double n = (double) sb.st_size, rss = 0, pss = 0, sealed_rss = 0, sealed_pss = 0;
    struct wire_daemon two[2], sealed;
    start_big(&two[0], "file");
    start_big(&two[1], "file");
    double own = wire_metric(&two[0], "mboold_epoch_private_bytes");
    ck_assert(own >= BIG_EPOCHS * PAGE && own <= BIG_EPOCHS * (FEW_FLIPS + 8) * PAGE);
    ck_assert(own < n / 4);
    mapped(&two[0], file, &rss, &pss);
    mapped(&two[1], file, &rss, &pss);
    printf(
        "2 daemons, %d epochs each, of %.0f KiB: %.0f KiB mapped, %.0f KiB of memory, of them "
        "%.0f private\n",
        BIG_EPOCHS + 1, n / 1024, rss / 1024, pss / 1024, 2 * own / 1024);
    /* Every epoch was read whole; all together they take the file once, and what is their own. */
    ck_assert(rss >= 2 * BIG_EPOCHS * n);
    ck_assert(pss <= n + 2 * own + 64 * PAGE);
    wire_stop(&two[0]);
    wire_stop(&two[1]);
    start_big(&sealed, "memfd");
    mapped(&sealed, "memfd:mbool", &sealed_rss, &sealed_pss);
    ck_assert(sealed_rss >= BIG_EPOCHS * n);
    ck_assert(sealed_pss <= n + own + 64 * PAGE);
    (void) truncate(file, 1); /* which would end a daemon that maps it */
    struct wire_reply r =
        wire_ask(&sealed, "/v1/completions", "{\"model\":\"big:1\",\"prompt\":\"x\"}");
    ck_assert_int_eq(r.status, 200);
    wire_reply_free(&r);
    wire_stop(&sealed);
    for (int e = 0; e < BIG_EPOCHS; e++) {
        (void) snprintf(path, sizeof path, "%s/big%d", dir, e);
        (void) unlink(path);
    }
    (void) unlink(file);
}
END_TEST

int main(void)
{
    make_deltas();
    Suite *s = suite_create("wire swaps");
    TCase *t = tcase_create("swaps");
    tcase_set_timeout(t, 1800);
    tcase_add_test(t, nobody_notices_a_swap);
    tcase_add_test(t, what_can_not_be_is_said);
    tcase_add_test(t, a_broken_epoch_of_the_start_is_said);
    tcase_add_test(t, epochs_share_their_pages);
    suite_add_tcase(s, t);
    int status = mb_run_suite(s);
    remove_deltas();
    return status;
}
