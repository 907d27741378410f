#include "server/clock.h"
#include "server/jobs/parts.h"

static void head(struct mb_bytes *ret, const char *name, const char *type, const char *help)
{
    mb_bytes_printf(ret, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void counter(struct mb_bytes *ret, const char *name, const char *help, double value)
{
    head(ret, name, "counter", help);
    mb_bytes_printf(ret, "%s %.9g\n", name, value);
}

static void gauge(struct mb_bytes *ret, const char *name, const char *help, double value)
{
    head(ret, name, "gauge", help);
    mb_bytes_printf(ret, "%s %.9g\n", name, value);
}

static void put_jobs(const struct mbd_jobs *j, struct mb_bytes *ret)
{
    uint64_t n[MB_JOB_STATUSES];
    if (mbd_store_count_jobs(j->service->store, n, NULL) != MB_OK) {
        return; /* better no figure than a wrong one */
    }
    head(ret, "mboold_finetune_jobs", "gauge", "Fine-tuning jobs by status.");
    for (int s = 0; s < MB_JOB_STATUSES; s++) {
        mb_bytes_printf(ret, "mboold_finetune_jobs{status=\"%s\"} %llu\n",
                        mb_job_status_name((enum mb_job_status) s), (unsigned long long) n[s]);
    }
}

void mbd_jobs_metrics(const struct mbd_jobs *j, struct mb_bytes *ret)
{
    double throttled_s = (double) j->throttled_ms / 1000;
    uint64_t now = mbd_now_ns(), heard = j->heard_ns;
    for (const struct mbd_job *job = j->first; job; job = job->next) {
        uint64_t last = job->process ? job->heard_ns : 0;
        heard = last > heard ? last : heard;
    }
    put_jobs(j, ret);
    gauge(ret, "mboold_finetune_trainers", "Trainers that run.", (double) mbd_jobs_trainers(j));
    counter(ret, "mboold_finetune_steps_total", "Steps of trainers.", (double) j->steps);
    counter(ret, "mboold_finetune_tokens_total", "Tokens of these steps.", (double) j->tokens);
    counter(ret, "mboold_finetune_flips_total", "Weights that changed their level in them.",
            (double) j->flips);
    counter(ret, "mboold_finetune_restarts_total", "Trainers started again, after a bad end.",
            (double) j->restarts);
    counter(ret, "mboold_finetune_throttled_seconds_total",
            "Time that trainers stood still because requests waited.", throttled_s);
    if (heard > 0) {
        gauge(ret, "mboold_finetune_silence_seconds", "Since a trainer was last heard of.",
              (double) (now - heard) / (double) MBD_SECOND_NS);
    }
}
