/* A fine-tuning job while it runs: its events as they come; on a terminal a line with the last step,
 * the loss as a curve, and how long it will take. */
#ifndef MBC_JOBS_WATCH_H
#define MBC_JOBS_WATCH_H

#include "clients/http/transport.h"

/* Until the job is done. Begins again where it was when the connection breaks. json: prints the
 * events, one a line. Errors: MB_E_CANCELLED after Ctrl-C (the job goes on); those of asking. */
enum mb_status mbc_jobs_watch(struct mbc_transport *t, const char *job, bool json,
                              struct mb_error *err);

#endif
