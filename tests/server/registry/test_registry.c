/* Goal:   a name is one epoch at a time, and a change of it is whole or not at all; requests keep the
 *         epoch that they were admitted with; what nobody needs any more is let go; whatever is wrong
 *         with a delta, serving stays as it was, and the error says why.
 * Method: a registry with its engine on a small model and flip deltas of it; what each epoch alone
 *         says is the measure of what requests beside each other get. */
#include "server/registry/registry.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/checksum.h"
#include "core/base/file.h"
#include "core/checkpoint/delta.h"
#include "core/checkpoint/delta_format.h"
#include "core/checkpoint/format.h"
#include "core/kernels/kernels.h"
#include "server/clock.h"
#include "server/metrics/metrics.h"
#include "tests/check_main.h"
#include "tests/support/delta_file.h"
#include "tests/support/model_file.h"

enum { DELTAS = 6, FLIPS = 3000, TOKENS = 24, TOKENS_MAX = 4096 };

static char dir[] = "/tmp/mbool-registry-XXXXXX";
static char base_path[64], other_path[64], delta[DELTAS][64], bad_path[64];
static struct mb_kernels kernels;
static struct mbd_registry *r;
static struct mbd_metrics *metrics;
static struct mb_error err;
static atomic_uint n_wakes;

static void wake(void *arg)
{
    atomic_fetch_add(&n_wakes, 1);
}

static void make_files(void)
{
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void) snprintf(base_path, sizeof base_path, "%s/base", dir);
    (void) snprintf(other_path, sizeof other_path, "%s/other", dir);
    (void) snprintf(bad_path, sizeof bad_path, "%s/bad", dir);
    model_file_write(base_path, 4096, NULL);
    model_file_write(other_path, 256, NULL);
    for (int i = 0; i < DELTAS; i++) {
        (void) snprintf(delta[i], sizeof delta[i], "%s/delta%d", dir, i);
        delta_file_write(base_path, delta[i], (uint64_t) i + 1, FLIPS);
    }
    mb_kernels_select(&kernels, mb_cpu_detect());
}

static void remove_files(void)
{
    (void) unlink(base_path);
    (void) unlink(other_path);
    (void) unlink(bad_path);
    for (int i = 0; i < DELTAS; i++) {
        (void) unlink(delta[i]);
    }
    ck_assert_int_eq(rmdir(dir), 0);
}

static void start(uint32_t epochs_max, enum mbd_weights_kind kind)
{
    struct mbd_model_option tiny = { .name = "tiny", .file = base_path };
    struct mbd_model_option other = { .name = "other", .file = other_path };
    mb_assert_ok(mbd_metrics_new(&metrics, &err), &err);
    struct mbd_registry_options o = { .weights = kind,
                                      .epochs_max = epochs_max,
                                      .metrics = metrics };
    mb_assert_ok(mbd_registry_new(&o, &r, &err), &err);
    mb_assert_ok(mbd_registry_add(r, &tiny, &err), &err);
    mb_assert_ok(mbd_registry_add(r, &other, &err), &err);
    struct mbd_engine_options e = {
        .threads = 1,
        .kernels = &kernels,
        .sequences_max = 8,
        .step_tokens_max = 32,
        .queue_requests_max = 64,
        .queue_tokens_max = 100000,
        .metrics = metrics,
        .wake = wake,
    };
    mb_assert_ok(mbd_registry_start(r, &e, &err), &err);
}

static void setup(void)
{
    start(4, MBD_WEIGHTS_FILE);
}

static void teardown(void)
{
    mbd_registry_free(r);
    mbd_metrics_free(metrics);
}

static void rest(void)
{
    struct timespec t = { .tv_nsec = 500000 };
    (void) nanosleep(&t, NULL);
}

/* ---- publishing -------------------------------------------------------------------------- */

struct outcome {
    unsigned n;
    enum mb_status status;
    char what[sizeof err.what];
    char id[MBD_EPOCH_ID_MAX + 1];
};

static void on_published(void *arg, enum mb_status st, const struct mb_error *e,
                         const struct mbd_epoch *epoch)
{
    struct outcome *o = arg;
    o->n++;
    o->status = st;
    ck_assert(!epoch == (st != MB_OK));
    (void) snprintf(o->what, sizeof o->what, "%s", st == MB_OK ? "" : e->what);
    (void) snprintf(o->id, sizeof o->id, "%s", epoch ? epoch->id : "");
}

static enum mb_status begin(const char *model, const char *name, const char *file,
                            struct outcome *o)
{
    struct mbd_publication p = {
        .model = model, .name = name, .delta = file, .done = on_published, .arg = o
    };
    *o = (struct outcome) { 0 };
    return mbd_registry_publish(r, &p, &err);
}

static void await(const struct outcome *o)
{
    uint64_t until = mbd_now_ns() + 60 * MBD_SECOND_NS;
    while (o->n == 0) {
        ck_assert_msg(mbd_now_ns() < until, "nothing was published within a minute");
        rest();
        mbd_registry_pump(r);
    }
    ck_assert_uint_eq(o->n, 1);
}

static struct outcome publish(const char *model, const char *name, const char *file)
{
    struct outcome o;
    mb_assert_ok(begin(model, name, file, &o), &err);
    await(&o);
    return o;
}

static void publish_well(const char *name, const char *file)
{
    struct outcome o = publish("tiny", name, file);
    ck_assert_msg(o.status == MB_OK, "%s", o.what);
    ck_assert_str_eq(mbd_registry_find(r, name)->epoch->id, o.id);
}

static const char *epoch_of(const char *name)
{
    return mbd_registry_find(r, name)->epoch->id;
}

static size_t n_alive(void)
{
    mbd_registry_pump(r);
    return mbd_registry_base(r, 0)->n_epochs;
}

/* ---- asking ------------------------------------------------------------------------------ */

struct answer {
    uint32_t n, tokens[TOKENS_MAX];
    bool ended;
};

static struct mbd_request *ask(const char *name, uint64_t seed, uint32_t n_tokens)
{
    static const uint32_t prompt[] = { 257, 72, 101, 108, 108, 111 };
    const struct mbd_entry *e = mbd_registry_find(r, name);
    struct mbd_request_params p = {
        .sampling = { .temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = seed },
        .max_tokens = n_tokens,
        .ignore_eos = true,
    };
    struct mbd_request *q;
    mb_assert_ok(mbd_request_new(e->base->tokenizer, prompt, 6, &p, &q, &err), &err);
    mbd_request_use(q, e->epoch);
    mb_assert_ok(mbd_engine_submit(e->base->engine, q, &err), &err);
    return q;
}

static void read_some(struct mbd_request *q, struct answer *a)
{
    struct mbd_event e;
    while (!a->ended && mbd_request_next(q, &e)) {
        if (e.has_token) {
            a->tokens[a->n++] = e.token;
        }
        a->ended = mbd_request_state_is_final(e.state);
        ck_assert(!a->ended || e.state == MBD_REQUEST_DONE);
    }
}

static void finish(struct mbd_request *q, struct answer *a)
{
    uint64_t until = mbd_now_ns() + 60 * MBD_SECOND_NS;
    while (!a->ended) {
        ck_assert_msg(mbd_now_ns() < until, "a request did not end within a minute");
        rest();
        read_some(q, a);
    }
    mbd_request_unref(q);
}

static struct answer answer_of(const char *name, uint64_t seed)
{
    struct answer a = { 0 };
    finish(ask(name, seed, TOKENS), &a);
    return a;
}

static bool same(const struct answer *a, const struct answer *b)
{
    return a->n == b->n && memcmp(a->tokens, b->tokens, a->n * sizeof a->tokens[0]) == 0;
}

/* ---- tests ------------------------------------------------------------------------------- */

START_TEST(a_delta_becomes_a_model_of_its_own)
{
    struct answer before = answer_of("tiny", 1);
    publish_well("ft:tiny:stories:1", delta[0]);
    ck_assert_uint_eq(mbd_registry_count(r), 3);
    ck_assert_str_ne(epoch_of("tiny"), epoch_of("ft:tiny:stories:1"));
    struct answer tuned = answer_of("ft:tiny:stories:1", 1), after = answer_of("tiny", 1);
    ck_assert(!same(&before, &tuned));
    ck_assert(same(&before, &after));
    const struct mbd_epoch *e = mbd_registry_find(r, "ft:tiny:stories:1")->epoch;
    ck_assert_str_eq(e->parent, epoch_of("tiny"));
    ck_assert_str_eq(e->source, delta[0]);
    ck_assert_uint_gt(e->private_bytes, 0);
    ck_assert_ptr_eq(mbd_registry_find(r, NULL), NULL); /* there are two models */
}
END_TEST

START_TEST(a_swap_is_seen_by_the_next_request_only)
{
    publish_well("ft:tiny:a:1", delta[0]);
    struct answer old = answer_of("tiny", 7), new = answer_of("ft:tiny:a:1", 7);
    struct mbd_request *q[2];
    struct answer got[2] = { { 0 } };
    for (int swaps = 0; swaps < 20; swaps++) {
        memset(got, 0, sizeof got);
        q[0] = ask("tiny", 7, TOKENS);
        mb_assert_ok(mbd_registry_promote(r, "tiny", "ft:tiny:a:1", false, &err), &err);
        ck_assert_str_eq(epoch_of("tiny"), epoch_of("ft:tiny:a:1"));
        q[1] = ask("tiny", 7, TOKENS);
        mb_assert_ok(mbd_registry_rollback(r, "tiny", &err), &err);
        finish(q[0], &got[0]);
        finish(q[1], &got[1]);
        ck_assert(same(&got[0], &old));
        ck_assert(same(&got[1], &new));
    }
}
END_TEST

/* All in one step of the engine, again and again, beside each other. */
START_TEST(epochs_beside_each_other_do_not_mix)
{
    enum { EPOCHS = 3, EACH = 2 };
    struct answer alone[EPOCHS][EACH], got[EPOCHS][EACH];
    struct mbd_request *q[EPOCHS][EACH];
    char name[EPOCHS][32];
    memset(got, 0, sizeof got);
    for (int i = 0; i < EPOCHS; i++) {
        (void) snprintf(name[i], sizeof name[i], "ft:tiny:%d", i);
        publish_well(name[i], delta[i]);
        for (int k = 0; k < EACH; k++) {
            alone[i][k] = answer_of(name[i], (uint64_t) k);
        }
    }
    for (int k = 0; k < EACH; k++) {
        for (int i = 0; i < EPOCHS; i++) {
            q[i][k] = ask(name[i], (uint64_t) k, TOKENS);
        }
    }
    for (int i = 0; i < EPOCHS; i++) {
        for (int k = 0; k < EACH; k++) {
            finish(q[i][k], &got[i][k]);
            ck_assert_msg(same(&got[i][k], &alone[i][k]), "epoch %d, seed %d", i, k);
        }
    }
}
END_TEST

START_TEST(what_nobody_needs_is_let_go)
{
    enum { BOUND = 4 }; /* of setup */
    char name[32];
    for (int i = 0; i < DELTAS; i++) {
        (void) snprintf(name, sizeof name, "ft:tiny:%d", i);
        publish_well(name, delta[i]);
        mb_assert_ok(mbd_registry_promote(r, "tiny", name, false, &err), &err);
        mb_assert_ok(mbd_registry_unpublish(r, name, &err), &err);
        ck_assert_uint_le(n_alive(), 2 + BOUND); /* the checkpoint's own, and what it is now */
    }
    ck_assert_uint_eq(n_alive(), 2 + BOUND);
    for (int i = 0; i < BOUND; i++) {
        mb_assert_ok(mbd_registry_rollback(r, "tiny", &err), &err);
        ck_assert_uint_eq(n_alive(), 2 + BOUND - 1 - (unsigned) i);
    }
    ck_assert_int_eq(mbd_registry_rollback(r, "tiny", &err), MB_E_CONFLICT);
    /* The checkpoint's own is older than all that, and can be gone back to all the same. */
    char first[MBD_EPOCH_ID_MAX + 1];
    (void) snprintf(first, sizeof first, "%s", mbd_registry_base(r, 0)->epochs[0]->id);
    mb_assert_ok(mbd_registry_promote(r, "tiny", first, false, &err), &err);
    ck_assert_uint_eq(n_alive(), 2);
}
END_TEST

START_TEST(a_request_keeps_its_epoch_to_its_end_and_no_longer)
{
    publish_well("ft:tiny:a", delta[0]);
    struct answer want = answer_of("ft:tiny:a", 3), got = { 0 };
    const struct mbd_epoch *e = mbd_registry_find(r, "ft:tiny:a")->epoch;
    /* Nobody reads: its ring fills, and it waits in its slot, for as long as we like. */
    struct mbd_request *stalled = ask("ft:tiny:a", 3, 3000), *q = ask("ft:tiny:a", 3, TOKENS);
    mb_assert_ok(mbd_registry_unpublish(r, "ft:tiny:a", &err), &err);
    ck_assert_ptr_null(mbd_registry_find(r, "ft:tiny:a"));
    ck_assert_uint_eq(n_alive(), 2);
    ck_assert_uint_ge(mbd_epoch_requests(e), 1);
    finish(q, &got);
    ck_assert(same(&got, &want));
    ck_assert_uint_eq(n_alive(), 2);
    mbd_request_cancel(stalled);
    for (int i = 0; n_alive() != 1; i++) { /* with the request still in our hands (J1) */
        ck_assert_int_lt(i, 20000);
        rest();
    }
    mbd_request_unref(stalled);
}
END_TEST

START_TEST(what_a_name_may_become)
{
    struct outcome o;
    publish_well("ft:tiny:a", delta[0]);
    publish_well("ft:tiny:b", delta[1]);
    struct outcome of_other = publish("other", "ft:other:a", delta[0]);
    ck_assert_int_eq(of_other.status, MB_E_INVALID); /* a delta of another checkpoint */
    ck_assert_ptr_nonnull(strstr(of_other.what, "the delta joins"));
    ck_assert_int_eq(begin("none", "x", delta[0], &o), MB_E_NOTFOUND);
    ck_assert_int_eq(begin("tiny", "tiny", delta[0], &o), MB_E_INVALID);
    ck_assert_int_eq(begin("tiny", "a b", delta[0], &o), MB_E_INVALID);
    ck_assert_int_eq(begin("tiny", "", delta[0], &o), MB_E_INVALID);
    ck_assert_int_eq(begin("other", "ft:tiny:a", delta[0], &o), MB_E_CONFLICT);
    ck_assert_int_eq(mbd_registry_promote(r, "none", "tiny", false, &err), MB_E_NOTFOUND);
    ck_assert_int_eq(mbd_registry_promote(r, "tiny", "none", false, &err), MB_E_NOTFOUND);
    ck_assert_int_eq(mbd_registry_promote(r, "tiny", "other", false, &err), MB_E_CONFLICT);
    ck_assert_int_eq(mbd_registry_promote(r, "other", "ft:tiny:a", false, &err), MB_E_CONFLICT);
    ck_assert_int_eq(mbd_registry_rollback(r, "tiny", &err), MB_E_CONFLICT);
    ck_assert_int_eq(mbd_registry_rollback(r, "none", &err), MB_E_NOTFOUND);
    ck_assert_int_eq(mbd_registry_unpublish(r, "tiny", &err), MB_E_CONFLICT);
    ck_assert_int_eq(mbd_registry_unpublish(r, "none", &err), MB_E_NOTFOUND);
    ck_assert_int_eq(mbd_registry_pin(r, "none", true, &err), MB_E_NOTFOUND);
    /* To itself: as it is, and nothing to roll back to. */
    mb_assert_ok(mbd_registry_promote(r, "tiny", "tiny", false, &err), &err);
    mb_assert_ok(mbd_registry_promote(r, "tiny", epoch_of("tiny"), false, &err), &err);
    ck_assert_int_eq(mbd_registry_rollback(r, "tiny", &err), MB_E_CONFLICT);
}
END_TEST

START_TEST(a_pinned_name_refuses_what_is_automatic)
{
    struct outcome o;
    publish_well("ft:tiny:a", delta[0]);
    char was[MBD_EPOCH_ID_MAX + 1];
    (void) snprintf(was, sizeof was, "%s", epoch_of("ft:tiny:a"));
    mb_assert_ok(mbd_registry_pin(r, "tiny", true, &err), &err);
    mb_assert_ok(mbd_registry_pin(r, "ft:tiny:a", true, &err), &err);
    ck_assert_int_eq(mbd_registry_promote(r, "tiny", "ft:tiny:a", true, &err), MB_E_CONFLICT);
    struct mbd_publication p = { .model = "tiny",
                                 .name = "ft:tiny:a",
                                 .delta = delta[1],
                                 .automatic = true,
                                 .done = on_published,
                                 .arg = &o };
    ck_assert_int_eq(mbd_registry_publish(r, &p, &err), MB_E_CONFLICT);
    mb_assert_ok(mbd_registry_pin(r, "ft:tiny:a", false, &err), &err);
    /* Pinned while it is loaded. */
    o = (struct outcome) { 0 };
    mb_assert_ok(mbd_registry_publish(r, &p, &err), &err);
    mb_assert_ok(mbd_registry_pin(r, "ft:tiny:a", true, &err), &err);
    await(&o);
    ck_assert_int_eq(o.status, MB_E_CONFLICT);
    ck_assert_str_eq(epoch_of("ft:tiny:a"), was);
    ck_assert_uint_eq(n_alive(), 2);
    /* A person may. */
    mb_assert_ok(mbd_registry_promote(r, "tiny", "ft:tiny:a", false, &err), &err);
    publish_well("ft:tiny:a", delta[1]);
    mb_assert_ok(mbd_registry_rollback(r, "ft:tiny:a", &err), &err);
    ck_assert_str_eq(epoch_of("ft:tiny:a"), was);
}
END_TEST

START_TEST(several_at_once_come_in_their_order)
{
    struct outcome o[DELTAS], full;
    char name[DELTAS][32];
    for (int i = 0; i < DELTAS; i++) {
        (void) snprintf(name[i], sizeof name[i], "ft:tiny:%d", i / 2); /* each twice */
        mb_assert_ok(begin("tiny", name[i], delta[i], &o[i]), &err);
    }
    for (int i = 0; i < DELTAS; i++) {
        await(&o[i]);
        ck_assert_msg(o[i].status == MB_OK, "%s", o[i].what);
    }
    for (int i = 1; i < DELTAS; i += 2) {
        ck_assert_str_eq(epoch_of(name[i]), o[i].id);
        mb_assert_ok(mbd_registry_rollback(r, name[i], &err), &err);
        ck_assert_str_eq(epoch_of(name[i]), o[i - 1].id);
    }
    /* The same one under two names is one epoch. */
    publish_well("again", delta[0]);
    ck_assert_ptr_eq(mbd_registry_find(r, "again")->epoch,
                     mbd_registry_find(r, name[0])->epoch);
    /* And a bound. */
    struct outcome many[MBD_PUBLISHING_MAX];
    for (int i = 0; i < MBD_PUBLISHING_MAX; i++) {
        mb_assert_ok(begin("tiny", "many", delta[i % DELTAS], &many[i]), &err);
    }
    ck_assert_int_eq(begin("tiny", "one-more", delta[0], &full), MB_E_LIMIT);
    for (int i = 0; i < MBD_PUBLISHING_MAX; i++) {
        await(&many[i]);
    }
}
END_TEST

/* Reads delta[0], to be damaged. */
static uint8_t *read_delta(size_t *ret_n)
{
    struct mb_file_map m;
    mb_assert_ok(mb_file_map(delta[0], &m, &err), &err);
    uint8_t *at = malloc(m.n);
    memcpy(at, m.at, m.n);
    *ret_n = m.n;
    mb_file_unmap(&m);
    return at;
}

static void write_bad(const void *at, size_t n)
{
    FILE *f = fopen(bad_path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(at, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
}

/* Publishing what stands at path fails with want, says why, and nothing else has happened. */
static void expect_refusal(const char *path, enum mb_status want, const char *why)
{
    struct answer before = answer_of("tiny", 5);
    size_t names = mbd_registry_count(r), alive = n_alive();
    struct outcome o = publish("tiny", "bad", path);
    ck_assert_msg(o.status == want, "%s instead of %s: %s", mb_status_name(o.status),
                  mb_status_name(want), o.what);
    ck_assert_msg(strstr(o.what, why) != NULL, "'%s' does not say '%s'", o.what, why);
    ck_assert_uint_eq(mbd_registry_count(r), names);
    ck_assert_uint_eq(n_alive(), alive);
    struct answer after = answer_of("tiny", 5);
    ck_assert(same(&before, &after));
}

START_TEST(what_is_wrong_with_a_delta_is_said_and_changes_nothing)
{
    size_t n;
    uint8_t *at = read_delta(&n);
    struct mb_delta_header *h = (struct mb_delta_header *) (void *) at;
    expect_refusal("/nowhere/delta", MB_E_NOTFOUND, "No such file");
    expect_refusal(dir, MB_E_INVALID, "not a regular file");
    expect_refusal(base_path, MB_E_FORMAT, "this is no delta");
    write_bad(at, n / 2);
    expect_refusal(bad_path, MB_E_FORMAT, "file_bytes");
    write_bad(at, 10);
    expect_refusal(bad_path, MB_E_FORMAT, "header");
    at[n - 5] ^= 1; /* in the last piece */
    write_bad(at, n);
    expect_refusal(bad_path, MB_E_FORMAT, "it is damaged");
    at[n - 5] ^= 1;
    /* A digest that is not of what it makes, with all checksums put right. */
    h->target_digest ^= 1;
    h->header_checksum = mb_checksum(h, offsetof(struct mb_delta_header, header_checksum));
    write_bad(at, n);
    expect_refusal(bad_path, MB_E_FORMAT, "what it makes is not");
    h->target_digest ^= 1;
    h->base_digest ^= 1;
    h->header_checksum = mb_checksum(h, offsetof(struct mb_delta_header, header_checksum));
    write_bad(at, n);
    expect_refusal(bad_path, MB_E_INVALID, "the delta joins");
    free(at);
}
END_TEST

/* A delta from the base to something in memory that is not a version of it: made as mb_delta_make
 * would, had it not looked. */
static void expect_other_model(void (*change)(uint8_t *at, struct mb_checkpoint *c),
                               enum mb_status want, const char *why);

static void other_shape(uint8_t *at, struct mb_checkpoint *c)
{
    ((struct mb_format_header *) (void *) at)->context = 300;
}

static void other_tokenizer(uint8_t *at, struct mb_checkpoint *c)
{
    const struct mb_section *s = mb_checkpoint_find(c, "tokenizer");
    uint8_t *text = at + s->offset;
    uint8_t *eos = memmem(text, s->bytes, "</s>", 4);
    ck_assert_ptr_nonnull(eos);
    eos[2] = 'z';
}

static void nothing_finite(uint8_t *at, struct mb_checkpoint *c)
{
    uint32_t *norm = (uint32_t *) (void *) (at + mb_checkpoint_find(c, "final_norm")->offset);
    norm[1] = 0x7fc00000;
}

/* The delta of one piece: header, one entry, and the whole exclusive or as a stored zstd frame. */
static void write_crafted(const uint8_t *from, const uint8_t *to, size_t n,
                          uint64_t from_digest, uint64_t to_digest)
{
    ck_assert_uint_le(n, MB_DELTA_PIECE);
    size_t n_blocks = (n + 65535) / 65536, n_frame = 4 + 1 + 4 + n + 3 * n_blocks;
    size_t at_data = sizeof(struct mb_delta_header) + sizeof(struct mb_delta_entry);
    uint8_t *out = calloc(1, at_data + n_frame), *p = out + at_data;
    const uint8_t head[5] = { 0x28, 0xb5, 0x2f, 0xfd, 0xa0 }; /* single segment, 4 byte size */
    memcpy(p, head, 5);
    uint32_t size = (uint32_t) n;
    memcpy(p + 5, &size, 4);
    p += 9;
    for (size_t i = 0; i < n; i += 65536) {
        size_t k = n - i < 65536 ? n - i : 65536;
        uint32_t block = (uint32_t) k << 3 | (i + k == n); /* raw */
        memcpy(p, &block, 3);
        p += 3;
        for (size_t j = 0; j < k; j++) {
            *p++ = from[i + j] ^ to[i + j];
        }
    }
    struct mb_delta_entry *e =
        (struct mb_delta_entry *) (void *) (out + sizeof(struct mb_delta_header));
    *e = (struct mb_delta_entry) { .offset = at_data,
                                   .bytes = (uint32_t) n_frame,
                                   .checksum = mb_checksum(out + at_data, n_frame) };
    struct mb_delta_header *h = (struct mb_delta_header *) (void *) out;
    *h = (struct mb_delta_header) { .version = MB_DELTA_VERSION,
                                    .header_bytes = sizeof *h,
                                    .file_bytes = at_data + n_frame,
                                    .base_digest = from_digest,
                                    .target_digest = to_digest,
                                    .base_bytes = n,
                                    .target_bytes = n,
                                    .piece_bytes = MB_DELTA_PIECE,
                                    .n_pieces = 1,
                                    .table_checksum = mb_checksum(e, sizeof *e) };
    memcpy(h->magic, MB_DELTA_MAGIC, sizeof h->magic);
    h->header_checksum = mb_checksum(h, offsetof(struct mb_delta_header, header_checksum));
    write_bad(out, at_data + n_frame);
    free(out);
}

static void expect_other_model(void (*change)(uint8_t *at, struct mb_checkpoint *c),
                               enum mb_status want, const char *why)
{
    struct mb_checkpoint *c, *t;
    mb_assert_ok(mb_checkpoint_open(base_path, &c, &err), &err);
    size_t n = (size_t) mb_checkpoint_bytes(c);
    uint8_t *at = aligned_alloc(64, (n + 63) / 64 * 64);
    memcpy(at, mb_checkpoint_memory(c), n);
    change(at, c);
    delta_file_put_right(at, n);
    mb_assert_ok(mb_checkpoint_of_memory(at, n, &t, &err), &err);
    write_crafted(mb_checkpoint_memory(c), at, n, mb_checkpoint_digest(c),
                  mb_checkpoint_digest(t));
    expect_refusal(bad_path, want, why);
    mb_checkpoint_free(t);
    mb_checkpoint_free(c);
    free(at);
}

START_TEST(another_model_is_no_epoch_of_this_one)
{
    expect_other_model(other_shape, MB_E_INVALID, "differ in shape");
    expect_other_model(other_tokenizer, MB_E_INVALID, "differ in tokenizer");
    expect_other_model(nothing_finite, MB_E_FORMAT, "not finite");
}
END_TEST

START_TEST(a_drain_takes_no_more)
{
    struct outcome o, late;
    mb_assert_ok(begin("tiny", "ft:tiny:a", delta[0], &o), &err);
    mbd_registry_drain(r);
    ck_assert_int_eq(begin("tiny", "ft:tiny:b", delta[1], &late), MB_E_UNAVAILABLE);
    mbd_registry_stop(r); /* whoever asked before is told, one way or the other */
    ck_assert_uint_eq(o.n, 1);
    ck_assert(o.status == MB_OK || o.status == MB_E_CANCELLED);
    ck_assert_uint_eq(late.n, 0);
}
END_TEST

START_TEST(sealed_weights_do_not_care_about_their_file)
{
    teardown();
    start(4, MBD_WEIGHTS_MEMFD);
    struct answer before = answer_of("tiny", 1);
    int fd = mbd_registry_descriptor(r, "tiny");
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(mbd_registry_descriptor(r, "none"), -1);
    ck_assert_int_eq(fcntl(fd, F_GET_SEALS),
                     F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
    ck_assert_int_lt(ftruncate(fd, 0), 0);
    ck_assert_int_lt(write(fd, "x", 1), 0);
    char kept[64];
    (void) snprintf(kept, sizeof kept, "%s/kept", dir);
    ck_assert_int_eq(link(base_path, kept), 0);
    ck_assert_int_eq(unlink(base_path), 0); /* its place */
    int other = open(base_path, O_CREAT | O_WRONLY, 0644);
    ck_assert_int_eq(write(other, "nonsense", 8), 8);
    ck_assert_int_eq(close(other), 0);
    publish_well("ft:tiny:a", delta[0]);
    struct answer after = answer_of("tiny", 1);
    ck_assert(same(&before, &after));
    ck_assert_int_eq(rename(kept, base_path), 0);
    publish_well("ft:tiny:b", delta[1]);
    struct answer sealed = answer_of("ft:tiny:a", 1);
    teardown();
    setup();
    publish_well("ft:tiny:a", delta[0]);
    struct answer mapped = answer_of("ft:tiny:a", 1);
    ck_assert(same(&sealed, &mapped));
}
END_TEST

/* Mappings of this process, and KiB of its own memory. */
static void look_at_memory(size_t *ret_maps, long *ret_kib)
{
    char line[512];
    FILE *f = fopen("/proc/self/maps", "r");
    *ret_maps = 0;
    while (f && fgets(line, sizeof line, f)) {
        *ret_maps += strstr(line, base_path) != NULL;
    }
    (void) fclose(f);
    f = fopen("/proc/self/status", "r");
    *ret_kib = 0;
    while (f && fgets(line, sizeof line, f)) {
        (void) sscanf(line, "RssAnon: %ld", ret_kib);
    }
    (void) fclose(f);
}

/* Epochs come and go while requests run on them; each is loaded anew. */
static void come_and_go(int n)
{
    struct mbd_request *q[2] = { NULL };
    struct answer want[2], got[2];
    for (int i = 0; i < 2; i++) {
        publish_well("measure", delta[i]);
        want[i] = answer_of("measure", 9);
        mb_assert_ok(mbd_registry_unpublish(r, "measure", &err), &err);
    }
    for (int i = 0; i < n; i++) {
        struct answer *a = &got[i % 2];
        publish_well("ft:tiny:new", delta[i % 2]);
        mb_assert_ok(mbd_registry_promote(r, "tiny", "ft:tiny:new", false, &err), &err);
        if (q[i % 2]) { /* of the round before the last: what it ran on may be gone by now */
            finish(q[i % 2], a);
            ck_assert(same(a, &want[i % 2]));
        }
        *a = (struct answer) { 0 };
        q[i % 2] = ask("tiny", 9, TOKENS);
        mb_assert_ok(mbd_registry_unpublish(r, "ft:tiny:new", &err), &err);
        mb_assert_ok(mbd_registry_promote(r, "tiny", mbd_registry_base(r, 0)->epochs[0]->id,
                                          false, &err),
                     &err);
    }
    finish(q[0], &got[0]);
    finish(q[1], &got[1]);
}

START_TEST(epochs_come_and_go_and_leave_nothing)
{
    enum { ROUNDS = MB_SANITIZED ? 20 : 100, GROWTH_KIB_MAX = 512 };
    size_t maps, maps_after;
    long kib, kib_after;
    teardown();
    start(0, MBD_WEIGHTS_FILE); /* nothing is kept to roll back to */
    come_and_go(20);
    ck_assert_uint_eq(n_alive(), 1);
    look_at_memory(&maps, &kib);
    come_and_go(ROUNDS);
    ck_assert_uint_eq(n_alive(), 1);
    for (int i = 0; i < 20000; i++) { /* the last is unmapped on another thread */
        look_at_memory(&maps_after, &kib_after);
        if (maps_after <= 1) {
            break;
        }
        rest();
    }
    ck_assert_uint_eq(maps_after, 1);
    if (!MB_SANITIZED) {
        ck_assert_msg(kib_after - kib <= GROWTH_KIB_MAX, "%ld KiB became %ld", kib, kib_after);
    }
    teardown();
    setup();
}
END_TEST

static Suite *make_suite(void)
{
    Suite *s = suite_create("registry");
    TCase *t = tcase_create("epochs");
    tcase_add_unchecked_fixture(t, make_files, remove_files);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_delta_becomes_a_model_of_its_own);
    tcase_add_test(t, a_swap_is_seen_by_the_next_request_only);
    tcase_add_test(t, epochs_beside_each_other_do_not_mix);
    tcase_add_test(t, what_nobody_needs_is_let_go);
    tcase_add_test(t, a_request_keeps_its_epoch_to_its_end_and_no_longer);
    tcase_add_test(t, what_a_name_may_become);
    tcase_add_test(t, a_pinned_name_refuses_what_is_automatic);
    tcase_add_test(t, several_at_once_come_in_their_order);
    tcase_add_test(t, what_is_wrong_with_a_delta_is_said_and_changes_nothing);
    tcase_add_test(t, another_model_is_no_epoch_of_this_one);
    tcase_add_test(t, epochs_come_and_go_and_leave_nothing);
    tcase_add_test(t, a_drain_takes_no_more);
    tcase_add_test(t, sealed_weights_do_not_care_about_their_file);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return mb_run_suite(make_suite());
}
