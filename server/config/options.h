/* What mboold was told to do: one struct, filled from four sources. Later ones win:
 *
 *     defaults  <  configuration file (JSON)  <  environment (MBOOLD_*)  <  command line
 *
 * One table (table.c) names every option: its flag, its variable, its key, type, range, default
 * and help.
 *
 * Life:    _init/_fini. Threads: a value; read-only after loading. */
#ifndef MBD_OPTIONS_H
#define MBD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/completion.h"
#include "proto/status.h"

#define MBD_MODELS_MAX        16
#define MBD_EPOCH_OPTIONS_MAX 32
#define MBD_EPOCHS_MAX        64 /* that a name was: of --epochs-max */

struct mbd_model_option {
    char name[MB_MODEL_NAME_MAX + 1];
    char *file;
};

/* What a flip delta makes of a model, under a name of its own. */
struct mbd_epoch_option {
    char name[MB_MODEL_NAME_MAX + 1], model[MB_MODEL_NAME_MAX + 1];
    char *delta;
};

/* Where the bytes of checkpoints are: in their files, or copied to sealed memory. */
enum mbd_weights_kind { MBD_WEIGHTS_FILE, MBD_WEIGHTS_MEMFD };

/* Addresses are numbers: a name's meaning could change between check and use. */
struct mbd_address {
    char host[64]; /* "127.0.0.1", "::1" */
    uint16_t port; /* 0: any free one */
};

enum mbd_log_level { MBD_LOG_DEBUG, MBD_LOG_INFO, MBD_LOG_WARN, MBD_LOG_ERROR };
enum mbd_log_format { MBD_LOG_TEXT, MBD_LOG_JSON };

struct mbd_options {
    struct mbd_model_option models[MBD_MODELS_MAX];
    size_t n_models;
    struct mbd_epoch_option epochs[MBD_EPOCH_OPTIONS_MAX];
    size_t n_epochs;
    uint32_t epochs_max;
    int weights;    /* enum mbd_weights_kind */
    char *config;   /* the file that was read, or NULL */
    char *key_name; /* of the actions that make a line for the file of keys */

    uint32_t threads; /* 0: as many as this process may use */
    bool pin;
    const char *isa; /* a constant */
    uint32_t sequences_max;
    uint32_t step_tokens;
    uint32_t step_time_ms; /* 0: no bound */
    uint32_t context;      /* 0: the model's */
    uint64_t kv_memory;
    bool prefix_cache;
    uint32_t queue_requests;
    uint64_t queue_tokens;
    uint32_t default_max_tokens;

    struct mbd_address listen;
    struct mbd_address ops_listen; /* host "": none; probes and metrics are on listen */
    char *hosts;        /* names that Host may have, commas between; NULL: by listen */
    char *cors_origins; /* of pages that may ask; NULL: none, "*": all */
    char *keys;         /* their file; NULL: nobody needs one */
    bool insecure;
    char *tls_cert, *tls_key; /* both or neither */
    uint64_t body_max;
    uint64_t body_memory;
    uint32_t connections;
    uint32_t per_ip_connections; /* 0: no bound of its own */
    uint32_t header_timeout_ms;
    uint32_t body_timeout_ms;
    uint32_t idle_timeout_ms;
    uint32_t ping_interval_ms;
    uint32_t drain_timeout_ms;
    uint32_t heartbeat_timeout_ms;

    char *state_dir; /* NULL: no files, no jobs */
    uint64_t file_bytes_max;
    uint64_t file_bytes_total;
    uint32_t finetune_slots;
    uint32_t finetune_queue;
    uint32_t finetune_threads; /* 0: half of threads */
    uint64_t finetune_memory;  /* 0: half of the machine's */
    uint32_t finetune_hang_ms;
    const char *finetune_priority;                    /* a constant */
    struct mbd_model_option teachers[MBD_MODELS_MAX]; /* file: a folder */
    size_t n_teachers;

    int log_level;  /* enum mbd_log_level */
    int log_format; /* enum mbd_log_format */
};

enum mbd_action {
    MBD_ACTION_RUN,
    MBD_ACTION_HELP,
    MBD_ACTION_VERSION,
    MBD_ACTION_PRINT_DEFAULTS,
    MBD_ACTION_CHECK_CONFIG,
    MBD_ACTION_CHECK_HEALTH,
    MBD_ACTION_NEW_KEY,
    MBD_ACTION_HASH_KEY,
};

void mbd_options_init(struct mbd_options *o); /* the defaults; owns nothing yet */
void mbd_options_fini(struct mbd_options *o);

/* Can only this machine ask there? */
bool mbd_address_is_loopback(const struct mbd_address *a);

/* Fills o, which was _init'ed, from the file that --config or MBOOLD_CONFIG names, from env
 * (like environ) and from argv. For the actions that only print, nothing else is looked at.
 * Errors: MB_E_INVALID naming the option, where it was set, and what is allowed; MB_E_NOTFOUND
 * and MB_E_IO for the file; MB_E_NOMEM. */
enum mb_status mbd_options_load(struct mbd_options *o, int argc, const char *const *argv,
                                const char *const *env, enum mbd_action *ret,
                                struct mb_error *err);

#endif
