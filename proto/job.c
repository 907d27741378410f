#include "proto/job.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const char *const statuses[MB_JOB_STATUSES] = {
    [MB_JOB_VALIDATING_FILES] = "validating_files",
    [MB_JOB_QUEUED] = "queued",
    [MB_JOB_RUNNING] = "running",
    [MB_JOB_SUCCEEDED] = "succeeded",
    [MB_JOB_FAILED] = "failed",
    [MB_JOB_CANCELLED] = "cancelled",
    [MB_JOB_PAUSING] = "pausing",
    [MB_JOB_PAUSED] = "paused",
};

const char *mb_job_status_name(enum mb_job_status s)
{
    assert(s < MB_JOB_STATUSES);
    return statuses[s];
}

bool mb_job_status_of(const char *name, enum mb_job_status *ret)
{
    for (int s = 0; s < MB_JOB_STATUSES; s++) {
        if (strcmp(statuses[s], name) == 0) {
            *ret = (enum mb_job_status) s;
            return true;
        }
    }
    return false;
}

bool mb_job_is_final(enum mb_job_status s)
{
    return s == MB_JOB_SUCCEEDED || s == MB_JOB_FAILED || s == MB_JOB_CANCELLED;
}

const char *mb_job_promote_name(enum mb_job_promote p)
{
    static const char *const names[MB_PROMOTES] = { "manual", "always", "if_better" };
    assert(p < MB_PROMOTES);
    return names[p];
}

void mb_job_request_init(struct mb_job_request *r)
{
    *r = (struct mb_job_request) { 0 };
}

void mb_job_request_fini(struct mb_job_request *r)
{
    free(r->model);
    free(r->training_file);
    free(r->validation_file);
    free(r->metadata);
    *r = (struct mb_job_request) { 0 };
}
