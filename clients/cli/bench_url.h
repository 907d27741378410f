/* mbool bench --url: load for a daemon, and what its clients see of it. */
#ifndef MBC_BENCH_URL_H
#define MBC_BENCH_URL_H

#include "clients/cli/command.h"
#include "clients/http/load_generator.h"

/* Returns the exit status: MBC_FAILED also when every request failed. */
int mbc_bench_url(const char *host, const struct mbc_load_options *o, bool json);

#endif
