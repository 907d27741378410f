/* Goal:   a job's request, a trainer's task and its events mean the same on both sides of the text.
 * Method: texts in, structs out, and back; what may not be is refused by its name. */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "proto/json/job_json.h"
#include "proto/json/task_json.h"
#include "tests/check_main.h"

static struct mb_job_request r;
static struct mb_wire_error w;

static enum mb_status decode(const char *text)
{
    return mb_job_request_decode(text, strlen(text), &r, &w);
}

START_TEST(a_request_is_read)
{
    ck_assert_int_eq(
        decode(
            "{\"model\":\"m\",\"training_file\":\"f\",\"validation_file\":\"v\",\"suffix\":\"s\","
            "\"seed\":7,\"hyperparameters\":{\"n_epochs\":9},\"method\":{\"type\":\"supervised\","
            "\"supervised\":{\"hyperparameters\":{\"n_epochs\":2,\"batch_size\":\"auto\"}}},"
            "\"metadata\":{\"a\":\"b\"},\"what\":1,\"mbool\":{\"optimizer\":\"stochastic\","
            "\"steps\":5,\"promote\":\"if_better\",\"promote_margin\":0.5,\"teacher\":null}}"),
        MB_OK);
    ck_assert_str_eq(r.model, "m");
    ck_assert_str_eq(r.validation_file, "v");
    ck_assert_uint_eq(r.seed, 7);
    ck_assert_uint_eq(r.hyper.n_epochs, 2); /* the new place wins */
    ck_assert_uint_eq(r.hyper.batch_size, 0);
    ck_assert(r.stochastic && r.steps == 5 && r.promote == MB_PROMOTE_IF_BETTER);
    ck_assert_str_eq(r.metadata, "{\"a\":\"b\"}");
    mb_job_request_fini(&r);
}
END_TEST

static const struct {
    const char *more, *param;
} refused[] = {
    { "\"suffix\":\"a/b\"", "suffix" },
    { "\"suffix\":\"\"", "suffix" },
    { "\"seed\":2147483648", "seed" },
    { "\"hyperparameters\":{\"n_epochs\":1.5}", "hyperparameters.n_epochs" },
    { "\"hyperparameters\":[]", "hyperparameters" },
    { "\"method\":{}", "method.type" },
    { "\"method\":{\"type\":\"supervised\",\"supervised\":{\"hyperparameters\":{\"batch_size\":0}}}",
      "method.supervised.hyperparameters.batch_size" },
    { "\"metadata\":{\"a\":null}", "metadata" },
    { "\"mbool\":{\"flip_rate\":0}", "mbool.flip_rate" },
    { "\"mbool\":{\"steps\":-1}", "mbool.steps" },
    { "\"mbool\":{\"kernels_trained\":\"some\"}", "mbool.kernels_trained" },
    { "\"mbool\":{\"promote\":\"if_better\"}", "mbool.promote" },
    { "\"mbool\":7", "mbool" },
};

START_TEST(what_may_not_be_is_named)
{
    char text[256];
    (void) snprintf(text, sizeof text, "{\"model\":\"m\",\"training_file\":\"f\",%s}",
                    refused[_i].more);
    ck_assert_int_eq(decode(text), MB_E_INVALID);
    ck_assert_str_eq(w.param, refused[_i].param);
    ck_assert_int_eq(decode("{\"model\":\"m\"}"), MB_E_INVALID);
    ck_assert_str_eq(w.param, "training_file");
}
END_TEST

START_TEST(a_task_comes_back)
{
    char base[] = "b\"", training[] = "t", in[] = "f", body[] = "{\"a\":1}", isa[] = "auto",
         priority[] = "idle";
    struct mb_task back, t = { .base = base,
                               .base_digest = UINT64_MAX,
                               .training = training,
                               .folder = in,
                               .body = body,
                               .seed = 3,
                               .threads = 2,
                               .memory = 1ull << 63,
                               .isa = isa,
                               .priority = priority,
                               .resume = true };
    struct mb_error err;
    char *line = mb_task_encode(&t);
    ck_assert_int_eq(line[strlen(line) - 1], '\n');
    mb_assert_ok(mb_task_decode(line, strlen(line), &back, &err), &err);
    ck_assert_str_eq(back.base, t.base);
    ck_assert_str_eq(back.body, t.body);
    ck_assert_ptr_null(back.start);
    ck_assert_uint_eq(back.base_digest, UINT64_MAX);
    ck_assert_uint_eq(back.memory, 1ull << 63);
    ck_assert(back.resume && back.seed == 3);
    mb_task_fini(&back);
    free(line);
    ck_assert_int_eq(mb_task_decode("{}", 2, &back, &err), MB_E_FORMAT);
    ck_assert_int_eq(mb_task_decode("[", 1, &back, &err), MB_E_FORMAT);
}
END_TEST

START_TEST(an_event_comes_back)
{
    struct mb_error err;
    for (int kind = 0; kind < MB_TASK_EVENTS; kind++) {
        struct mb_task_event e = { .kind = (enum mb_task_event_kind) kind,
                                   .step = 4,
                                   .total_steps = 9,
                                   .flips = 1ull << 40,
                                   .loss = kind ? 0.1 : (double) NAN,
                                   .status = MB_E_NOMEM,
                                   .is_users = true,
                                   .file = "step-4.delta",
                                   .epoch = "0123456789abcdef",
                                   .message = "line 1\nline 2 \xff" },
                             back;
        char *line = mb_task_event_encode(&e);
        ck_assert_ptr_eq(strchr(line, '\n'), line + strlen(line) - 1);
        mb_assert_ok(mb_task_event_decode(line, strlen(line), &back, &err), &err);
        ck_assert_int_eq(back.kind, kind);
        ck_assert_uint_eq(back.flips, 1ull << 40);
        ck_assert(kind ? back.loss == 0.1 : isnan(back.loss));
        ck_assert_str_eq(back.epoch, e.epoch);
        ck_assert(back.status == MB_E_NOMEM && back.is_users);
        free(line);
    }
    struct mb_task_event back;
    ck_assert_int_eq(mb_task_event_decode("{\"event\":\"none\"}", 16, &back, &err),
                     MB_E_FORMAT);
}
END_TEST

START_TEST(a_job_is_written)
{
    mb_job_request_init(&r);
    struct mb_job_view v = { .id = "ftjob-1",
                             .model = "m",
                             .training_file = "f",
                             .request = &r,
                             .status = MB_JOB_PAUSING,
                             .error_code = "x",
                             .error_message = "\xff" };
    char *text = mb_job_encode(&v);
    json_t *root = json_loads(text, 0, NULL);
    ck_assert_ptr_nonnull(root);
    ck_assert_str_eq(json_string_value(json_object_get(root, "status")), "pausing");
    ck_assert(json_is_null(json_object_get(root, "fine_tuned_model")));
    ck_assert(json_is_object(json_object_get(root, "error")));
    json_decref(root);
    free(text);
    const struct mb_job_metrics m = { .step = 1, .train_loss = (double) NAN };
    text = mb_job_metrics_encode(&m, true);
    ck_assert_ptr_nonnull(strstr(text, "\"train_loss\":null"));
    ck_assert_ptr_nonnull(strstr(text, "full_valid_loss"));
    free(text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("job_json");
    TCase *t = tcase_create("job_json");
    tcase_add_test(t, a_request_is_read);
    tcase_add_loop_test(t, what_may_not_be_is_named, 0, sizeof refused / sizeof refused[0]);
    tcase_add_test(t, a_task_comes_back);
    tcase_add_test(t, an_event_comes_back);
    tcase_add_test(t, a_job_is_written);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
