#include "server/config/table.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(member) offsetof(struct mbd_options, member)
#define ANY        .min = 0, .max = 0

enum { KIB = 1024, MIB = 1024 * 1024 };

const struct mbd_row mbd_table[] = {
    { "model", MBD_KIND_MODELS, 0, ANY, .value = "", .metavar = "NAME=FILE",
      .group = "models and engine",
      .help =
          "serve the checkpoint FILE under NAME; may be repeated. In the environment: with "
          "commas between; in the file: an object. A new FILE takes the place of a served one by "
          "rename; one that is written over or cut short in place ends the daemon" },
    { "epoch", MBD_KIND_EPOCHS, 0, ANY, .value = "", .metavar = "NAME=MODEL+FILE",
      .help =
          "serve under NAME, too, what the flip delta FILE makes of MODEL; may be repeated. It "
          "shares MODEL's engine, and its memory but for the pages that differ. In the "
          "environment: with commas between; in the file: an object of \"MODEL+FILE\"" },
    { "epochs-max", MBD_KIND_U32, AT(epochs_max), 0, MBD_EPOCHS_MAX, "4", .metavar = "N",
      .help = "epochs that a model was before, kept so that it can be rolled back to them" },
    { "weights", MBD_KIND_CHOICE, AT(weights), ANY, .value = "file",
      .choices = { "file", "memfd" }, .metavar = "WHERE",
      .help =
          "file: map the checkpoint itself. memfd: copy it to sealed memory, in huge pages where "
          "the system allows them; then nothing that becomes of the file can end the daemon" },
    { "threads", MBD_KIND_U32, AT(threads), 0, 256, "0", .metavar = "N",
      .help =
          "threads that compute; 0: as many as there are processors for this process, by its "
          "affinity and the CPU quota of its control group" },
    { "pin", MBD_KIND_BOOL, AT(pin), ANY, .value = "true", .metavar = "BOOL",
      .help =
          "keep each computing thread on a processor of its own; --no-pin lets them move, as "
          "does a CPU quota of less than the processors" },
    { "isa", MBD_KIND_WORD, AT(isa), ANY, .value = "auto",
      .choices = { "auto", "c", "avx2", "avx512", "avx512vnni" }, .metavar = "SET",
      .help = "instruction set of the kernels; no effect on any result" },
    { "max-sequences", MBD_KIND_U32, AT(sequences_max), 1, 1024, "16", .metavar = "N",
      .help = "sequences that are computed at once; others wait in the queue" },
    { "step-tokens", MBD_KIND_U32, AT(step_tokens), 1, 65536, "256", .metavar = "N",
      .help = "tokens of a step: those that decode first, then parts of prompts; at least "
              "max-sequences" },
    { "step-time", MBD_KIND_SECONDS, AT(step_time_ms), 0, 60, "0.15", .metavar = "SECONDS",
      .help =
          "while others stream, a step takes as much of a prompt as this time allows, and so "
          "their tokens come at least so often. Longer: prompts are read faster. 0: no bound "
          "but step-tokens" },
    { "context", MBD_KIND_U32, AT(context), 0, 1 << 20, "0", .metavar = "N",
      .help =
          "positions of a sequence, prompt and completion; 0: what the model was made for" },
    { "kv-memory", MBD_KIND_BYTES, AT(kv_memory), 0, 0x1p50, "0", .metavar = "BYTES",
      .help = "memory of the KV cache; 0: enough for max-sequences at full context, within a "
              "quarter of this machine's, or of what its control group may use" },
    { "prefix-cache", MBD_KIND_BOOL, AT(prefix_cache), ANY, .value = "true", .metavar = "BOOL",
      .help =
          "keep what was computed of prompts in free blocks of the KV cache, for requests of the "
          "same API key that begin alike; no effect on any result" },
    { "queue-requests", MBD_KIND_U32, AT(queue_requests), 1, 65536, "128", .metavar = "N",
      .help = "requests that may wait; beyond it 429" },
    { "queue-tokens", MBD_KIND_U64, AT(queue_tokens), 1, 0x1p40, "1048576", .metavar = "N",
      .help = "prompt tokens that may wait; beyond it 429" },
    { "default-max-tokens", MBD_KIND_U32, AT(default_max_tokens), 1, MB_MAX_TOKENS_MAX, "16",
      .metavar = "N", .help = "length of a completion whose request does not say max_tokens" },

    { "listen", MBD_KIND_ADDRESS, AT(listen), ANY, .value = "127.0.0.1:8080",
      .metavar = "ADDRESS:PORT", .group = "network",
      .help = "where to listen: 127.0.0.1:8080, [::1]:8080; port 0 takes a free one" },
    { "ops-listen", MBD_KIND_ADDRESS, AT(ops_listen), ANY, .value = "",
      .metavar = "ADDRESS:PORT",
      .help = "a port of their own for /healthz, /readyz and /metrics, with connections of its "
              "own; they are then there and nowhere else. None: they are on --listen" },
    { "host", MBD_KIND_TEXT, AT(hosts), ANY, .value = "", .metavar = "NAMES",
      .help =
          "names, with commas between, by which it may be asked (the header Host); * is any. Numbers "
          "and localhost always may. None: only these where it listens on loopback, so that no page of "
          "the web can call itself by a name that leads here; elsewhere any" },
    { "cors-origin", MBD_KIND_TEXT, AT(cors_origins), ANY, .value = "", .metavar = "ORIGINS",
      .help =
          "pages of the web that may ask, as https://app.example.com, with commas between; * is any. "
          "None: a request that a browser sends for another origin is refused" },
    { "keys", MBD_KIND_TEXT, AT(keys), ANY, .value = "", .metavar = "FILE",
      .help =
          "API keys: whoever asks must have one of this file, and may do what its scopes say. "
          "--new-key makes a line of it; read anew at SIGHUP. None: whoever can reach "
          "--listen may do everything" },
    { "insecure", MBD_KIND_BOOL, AT(insecure), ANY, .value = "false", .metavar = "BOOL",
      .help = "without keys, listen where other machines can ask all the same" },
    { "tls-cert", MBD_KIND_TEXT, AT(tls_cert), ANY, .value = "", .metavar = "FILE",
      .help =
          "speak TLS at --listen, with this certificate and its chain (PEM), and --tls-key; both "
          "are read anew at SIGHUP. --ops-listen stays without" },
    { "tls-key", MBD_KIND_TEXT, AT(tls_key), ANY, .value = "", .metavar = "FILE",
      .help = "the certificate's private key (PEM, without a password)" },
    { "max-body", MBD_KIND_BYTES, AT(body_max), 1 * KIB, MB_BODY_BYTES_MAX, "8M",
      .metavar = "BYTES", .help = "size of a request's body; beyond it 413" },
    { "body-memory", MBD_KIND_BYTES, AT(body_memory), 1 * MIB, 0x1p40, "256M",
      .metavar = "BYTES", .help = "memory for all bodies at once; beyond it 503" },
    { "connections", MBD_KIND_U32, AT(connections), 1, 65536, "1024", .metavar = "N",
      .help =
          "connections at once; more wait to be accepted. When less than an eighth is left, the "
          "oldest that waits for a request is closed for each new one" },
    { "per-ip-connections", MBD_KIND_U32, AT(per_ip_connections), 0, 65536, "0", .metavar = "N",
      .help = "connections of one address; more are closed. 0: no such bound" },
    { "header-timeout", MBD_KIND_SECONDS, AT(header_timeout_ms), 0.05, 3600, "10",
      .metavar = "SECONDS", .help = "for a request's header to arrive whole; then 408" },
    { "body-timeout", MBD_KIND_SECONDS, AT(body_timeout_ms), 0.05, 3600, "60",
      .metavar = "SECONDS", .help = "for a request's body to arrive whole; then 408" },
    { "idle-timeout", MBD_KIND_SECONDS, AT(idle_timeout_ms), 1, 3600, "75",
      .metavar = "SECONDS",
      .help = "until a silent connection is closed: between requests, or when a client stops "
              "reading its answer. Above the two before" },
    { "ping-interval", MBD_KIND_SECONDS, AT(ping_interval_ms), 0.05, 3600, "15",
      .metavar = "SECONDS", .help = "between comments in a stream that has nothing to say" },

    { "state-dir", MBD_KIND_TEXT, AT(state_dir), ANY, .value = "", .metavar = "DIR",
      .group = "fine-tuning",
      .help =
          "keep files, jobs and what they make in this folder, for one daemon alone; without "
          "it there are no /v1/files and no /v1/fine_tuning" },
    { "file-bytes-max", MBD_KIND_BYTES, AT(file_bytes_max), 1 * KIB, 0x1p40, "512M",
      .metavar = "BYTES", .help = "size of an uploaded file; beyond it 413" },
    { "file-bytes-total", MBD_KIND_BYTES, AT(file_bytes_total), 1 * KIB, 0x1p50, "16G",
      .metavar = "BYTES", .help = "of all uploaded files together; beyond it 400" },
    { "finetune-slots", MBD_KIND_U32, AT(finetune_slots), 0, 64, "1", .metavar = "N",
      .help = "jobs that train at once, each in a process of its own; 0: jobs only wait" },
    { "finetune-queue", MBD_KIND_U32, AT(finetune_queue), 1, 10000, "64", .metavar = "N",
      .help = "jobs that are not done: running, waiting and paused; beyond it 429" },
    { "finetune-threads", MBD_KIND_U32, AT(finetune_threads), 0, 256, "0", .metavar = "N",
      .help =
          "threads of a training, in the idle scheduling class; 0: half of those that serve" },
    { "finetune-memory", MBD_KIND_BYTES, AT(finetune_memory), 0, 0x1p50, "0",
      .metavar = "BYTES",
      .help = "memory of its own that a training may take; beyond it the job fails. 0: half of "
              "this machine's, or of what its control group may use" },
    { "finetune-priority", MBD_KIND_WORD, AT(finetune_priority), ANY, .value = "idle",
      .choices = { "idle", "nice", "normal" }, .metavar = "CLASS",
      .help = "idle: a training has the processors that nobody else wants; nice: the smallest "
              "share of them; normal: as much as serving, for processors of its own" },
    { "finetune-hang", MBD_KIND_SECONDS, AT(finetune_hang_ms), 0.5, 86400, "600",
      .metavar = "SECONDS",
      .help = "without a step until a training counts as hung, and is started again from its "
              "last snapshot" },
    { "teacher", MBD_KIND_TEACHERS, AT(teachers), ANY, .value = "", .metavar = "NAME=FOLDER",
      .help = "a float model that jobs may distil from, by NAME; may be repeated" },

    { "drain-timeout", MBD_KIND_SECONDS, AT(drain_timeout_ms), 0, 86400, "30",
      .metavar = "SECONDS", .group = "operation",
      .help = "after SIGTERM, for running requests to end; then they are cancelled" },
    { "heartbeat-timeout", MBD_KIND_SECONDS, AT(heartbeat_timeout_ms), 1, 3600, "5",
      .metavar = "SECONDS", .help = "without a step of the engine until /healthz says 503" },
    { "log-level", MBD_KIND_CHOICE, AT(log_level), ANY, .value = "info",
      .choices = { "debug", "info", "warn", "error" }, .metavar = "LEVEL",
      .help = "what is logged to standard error" },
    { "log-format", MBD_KIND_CHOICE, AT(log_format), ANY, .value = "text",
      .choices = { "text", "json" }, .metavar = "FORMAT", .help = "key=value, or JSON lines" },

    { "config", MBD_KIND_TEXT, AT(config), ANY, .value = "", .metavar = "FILE",
      .group = "configuration", .help = "read options from this JSON file" },
    { "check-config", MBD_KIND_ACTION, 0, MBD_ACTION_CHECK_CONFIG, 0,
      .help = "check all options, open the models, and leave: 0 when all is well" },
    { "check-health", MBD_KIND_ACTION, 0, MBD_ACTION_CHECK_HEALTH, 0,
      .help =
          "ask the daemon that runs with these options here whether it is alive, and leave: "
          "0 when it is" },
    { "new-key", MBD_KIND_ACTION, AT(key_name), MBD_ACTION_NEW_KEY, 0, .metavar = "NAME",
      .help =
          "make an API key: print it to standard error, this once, and its line for the file "
          "of keys to standard output, and leave" },
    { "hash-key", MBD_KIND_ACTION, AT(key_name), MBD_ACTION_HASH_KEY, 0, .metavar = "NAME",
      .help =
          "read a key from standard input, print its line for the file of keys, and leave" },
    { "print-defaults", MBD_KIND_ACTION, 0, MBD_ACTION_PRINT_DEFAULTS, 0,
      .help = "print a configuration file with every default, and leave" },
    { "help", MBD_KIND_ACTION, 0, MBD_ACTION_HELP, 0, .help = "print this, and leave" },
    { "version", MBD_KIND_ACTION, 0, MBD_ACTION_VERSION, 0,
      .help = "print the version, and leave" },
    { 0 },
};

/* ---- names ------------------------------------------------------------------------------- */

static bool same_name(const char *row, const char *name, size_t n)
{
    if (strlen(row) != n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (row[i] != (name[i] == '_' ? '-' : name[i])) {
            return false;
        }
    }
    return true;
}

/* Levenshtein's distance; both are short. */
static size_t distance(const char *a, const char *b, size_t n_b)
{
    size_t row[MBD_NAME_MAX + 1];
    size_t n_a = strlen(a);
    assert(n_a <= MBD_NAME_MAX);
    for (size_t i = 0; i <= n_a; i++) {
        row[i] = i;
    }
    for (size_t j = 1; j <= n_b; j++) {
        size_t diagonal = row[0];
        row[0] = j;
        for (size_t i = 1; i <= n_a; i++) {
            size_t swap = diagonal + (a[i - 1] != (b[j - 1] == '_' ? '-' : b[j - 1]));
            size_t best = row[i] < row[i - 1] ? row[i] + 1 : row[i - 1] + 1;
            diagonal = row[i];
            row[i] = swap < best ? swap : best;
        }
    }
    return row[n_a];
}

const struct mbd_row *mbd_table_find(const char *name, size_t n, const char **ret_near)
{
    size_t best = n / 2 < 4 ? (n + 1) / 2 : 4; /* as far as this, a guess does not help */
    *ret_near = NULL;
    for (const struct mbd_row *row = mbd_table; row->name; row++) {
        if (same_name(row->name, name, n)) {
            return row;
        }
        size_t d = n <= MBD_NAME_MAX ? distance(row->name, name, n) : best;
        if (d < best) {
            best = d;
            *ret_near = row->name;
        }
    }
    return NULL;
}

void mbd_table_variable(const struct mbd_row *row, char *ret)
{
    int n = snprintf(ret, MBD_NAME_MAX, "MBOOLD_%s", row->name);
    assert(n > 0 && n < MBD_NAME_MAX);
    for (char *c = ret; *c; c++) {
        *c = *c == '-' ? '_' : (char) toupper((unsigned char) *c);
    }
}

void mbd_table_key(const struct mbd_row *row, char *ret)
{
    (void) snprintf(ret, MBD_NAME_MAX, "%s", row->name);
    for (char *c = ret; *c; c++) {
        *c = *c == '-' ? '_' : *c;
    }
}

bool mbd_table_in_environment(const struct mbd_row *row)
{
    return row->kind != MBD_KIND_ACTION;
}

bool mbd_table_in_file(const struct mbd_row *row)
{
    return row->kind != MBD_KIND_ACTION && strcmp(row->name, "config") != 0;
}

/* ---- values ------------------------------------------------------------------------------ */

/* 8388608 as "8M": the largest unit that divides it. */
static void bytes_text(double bytes, char *ret, size_t n)
{
    static const char units[] = " KMGT";
    size_t u = 0;
    uint64_t b = (uint64_t) bytes;
    while (b != 0 && b % 1024 == 0 && u < 4) {
        b /= 1024;
        u++;
    }
    (void) snprintf(ret, n, "%llu%.*s", (unsigned long long) b, u > 0, units + u);
}

static void choices_text(const struct mbd_row *row, char *ret, size_t n)
{
    size_t at = 0;
    ret[0] = '\0';
    for (size_t i = 0; row->choices[i] && at < n; i++) {
        at += (size_t) snprintf(ret + at, n - at, "%s%s", i ? ", " : "", row->choices[i]);
    }
}

void mbd_table_range(const struct mbd_row *row, char *ret, size_t n)
{
    char min[32], max[32];
    switch (row->kind) {
    case MBD_KIND_U32:
    case MBD_KIND_U64:
        (void) snprintf(ret, n, "%.0f..%.0f", row->min, row->max);
        break;
    case MBD_KIND_BYTES:
        bytes_text(row->min, min, sizeof min);
        bytes_text(row->max, max, sizeof max);
        (void) snprintf(ret, n, "%s..%s", min, max);
        break;
    case MBD_KIND_SECONDS:
        (void) snprintf(ret, n, "%g..%g", row->min, row->max);
        break;
    case MBD_KIND_BOOL:
        (void) snprintf(ret, n, "true, false");
        break;
    case MBD_KIND_CHOICE:
    case MBD_KIND_WORD:
        choices_text(row, ret, n);
        break;
    case MBD_KIND_ADDRESS:
        (void) snprintf(ret, n, "a numeric address and a port, 127.0.0.1:8080 or [::1]:8080");
        break;
    case MBD_KIND_MODELS:
    case MBD_KIND_TEACHERS:
        (void) snprintf(ret, n, "%s, NAME of 1 to %d of A-Z a-z 0-9 . _ : / -", row->metavar,
                        MB_MODEL_NAME_MAX);
        break;
    case MBD_KIND_EPOCHS:
        (void) snprintf(ret, n,
                        "NAME=MODEL+FILE, NAME and MODEL of 1 to %d of A-Z a-z 0-9 "
                        ". _ : / -",
                        MB_MODEL_NAME_MAX);
        break;
    case MBD_KIND_TEXT:
    case MBD_KIND_ACTION:
    case MBD_KINDS:
        ret[0] = '\0';
        break;
    }
}

static enum mb_status refuse(const struct mbd_row *row, const char *text, const char *what,
                             struct mb_error *err)
{
    char range[160];
    mbd_table_range(row, range, sizeof range);
    return mb_fail(err, MB_E_INVALID, 0, "%s: '%.100s' is not allowed: it must be %s%s", what,
                   text, row->choices[0] || row->kind == MBD_KIND_BOOL ? "one of " : "", range);
}

/* Digits only, no sign, no space; false when there are none or the value is beyond uint64. */
static bool parse_digits(const char *text, uint64_t *ret, const char **ret_end)
{
    if (!isdigit((unsigned char) text[0])) {
        return false;
    }
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno != 0) {
        return false;
    }
    *ret = v;
    *ret_end = end;
    return true;
}

static bool parse_integer(const struct mbd_row *row, const char *text, uint64_t *ret)
{
    uint64_t v;
    const char *end;
    if (!parse_digits(text, &v, &end)) {
        return false;
    }
    if (row->kind == MBD_KIND_BYTES && *end) {
        static const char units[] = "KMGT";
        const char *u = strchr(units, toupper((unsigned char) *end));
        unsigned shift = u ? 10 * (unsigned) (u - units + 1) : 0;
        if (!u || v > UINT64_MAX >> shift) {
            return false;
        }
        v <<= shift;
        end++;
    }
    if (*end || (double) v < row->min || (double) v > row->max) {
        return false;
    }
    *ret = v;
    return true;
}

static bool parse_seconds(const struct mbd_row *row, const char *text, uint32_t *ret)
{
    /* strtod alone would take "nan", "0x10" and the locale's comma. */
    size_t n = strspn(text, "0123456789.");
    char *end;
    double s = strtod(text, &end);
    if (n == 0 || text[n] || *end || s < row->min || s > row->max) {
        return false;
    }
    *ret = (uint32_t) (s * 1000 + 0.5);
    return true;
}

static bool parse_bool(const char *text, bool *ret)
{
    bool yes = strcmp(text, "true") == 0 || strcmp(text, "1") == 0 || strcmp(text, "yes") == 0;
    bool no = strcmp(text, "false") == 0 || strcmp(text, "0") == 0 || strcmp(text, "no") == 0;
    *ret = yes;
    return yes || no;
}

static bool parse_address(const char *text, struct mbd_address *ret)
{
    const char *colon = strrchr(text, ':');
    if (!colon) {
        return false;
    }
    size_t n = (size_t) (colon - text);
    bool six = n >= 2 && text[0] == '[' && colon[-1] == ']';
    if (six) {
        text++;
        n -= 2;
    }
    struct mbd_address a = { 0 };
    if (n >= sizeof a.host) {
        return false;
    }
    memcpy(a.host, text, n);
    struct in6_addr scratch;
    if (inet_pton(six ? AF_INET6 : AF_INET, a.host, &scratch) != 1) {
        return false;
    }
    uint64_t port;
    const char *end;
    if (!parse_digits(colon + 1, &port, &end) || *end || port > UINT16_MAX) {
        return false;
    }
    a.port = (uint16_t) port;
    *ret = a;
    return true;
}

/* Of an address that need not be, "" is none. */
static bool set_address(const struct mbd_row *row, const char *text, struct mbd_address *ret)
{
    if (!*text && !row->value[0]) {
        *ret = (struct mbd_address) { 0 };
        return true;
    }
    return parse_address(text, ret);
}

/* Of a list, of n in *ret_n. */
static enum mb_status add_model(const struct mbd_row *row, const char *text, size_t n,
                                const char *what, struct mbd_model_option *at, size_t *ret_n,
                                struct mb_error *err)
{
    const char *equals = memchr(text, '=', n);
    if (!equals || !mb_is_model_name(text, (size_t) (equals - text)) ||
        equals + 1 == text + n) {
        return refuse(row, text, what, err);
    }
    if (*ret_n == MBD_MODELS_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "%s: more than %d", what, MBD_MODELS_MAX);
    }
    struct mbd_model_option m = { 0 };
    memcpy(m.name, text, (size_t) (equals - text));
    for (size_t i = 0; i < *ret_n; i++) {
        if (strcmp(at[i].name, m.name) == 0) {
            return mb_fail(err, MB_E_INVALID, 0, "%s: the name '%s' is given twice", what,
                           m.name);
        }
    }
    m.file = strndup(equals + 1, (size_t) (text + n - (equals + 1)));
    if (!m.file) {
        return mb_fail(err, MB_E_NOMEM, 0, "%s: no memory", what);
    }
    at[(*ret_n)++] = m;
    return MB_OK;
}

/* NAME=MODEL+FILE, whose FILE may hold any of these. */
static enum mb_status add_epoch(const struct mbd_row *row, const char *text, size_t n,
                                const char *what, struct mbd_options *o, struct mb_error *err)
{
    const char *equals = memchr(text, '=', n), *end = text + n;
    const char *plus = equals ? memchr(equals, '+', (size_t) (end - equals)) : NULL;
    struct mbd_epoch_option e = { 0 };
    if (!plus || !mb_is_model_name(text, (size_t) (equals - text)) ||
        !mb_is_model_name(equals + 1, (size_t) (plus - equals - 1)) || plus + 1 == end) {
        return refuse(row, text, what, err);
    }
    if (o->n_epochs == MBD_EPOCH_OPTIONS_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "%s: more than %d epochs", what,
                       MBD_EPOCH_OPTIONS_MAX);
    }
    memcpy(e.name, text, (size_t) (equals - text));
    memcpy(e.model, equals + 1, (size_t) (plus - equals - 1));
    e.delta = strndup(plus + 1, (size_t) (end - plus - 1));
    if (!e.delta) {
        return mb_fail(err, MB_E_NOMEM, 0, "%s: no memory", what);
    }
    o->epochs[o->n_epochs++] = e;
    return MB_OK;
}

/* Of a list, one or several with commas between. */
static enum mb_status add_pairs(const struct mbd_row *row, const char *text, const char *what,
                                struct mbd_options *o, struct mb_error *err)
{
    for (;;) {
        size_t n = strcspn(text, ",");
        enum mb_status st =
            row->kind == MBD_KIND_EPOCHS ? add_epoch(row, text, n, what, o, err)
            : row->kind == MBD_KIND_MODELS
                ? add_model(row, text, n, what, o->models, &o->n_models, err)
                : add_model(row, text, n, what, o->teachers, &o->n_teachers, err);
        if (st != MB_OK || !text[n]) {
            return st;
        }
        text += n + 1;
    }
}

static enum mb_status set_text(char **place, const char *text, const char *what,
                               struct mb_error *err)
{
    char *copy = NULL;
    if (*text && !(copy = strdup(text))) {
        return mb_fail(err, MB_E_NOMEM, 0, "%s: no memory", what);
    }
    free(*place);
    *place = copy;
    return MB_OK;
}

static int choice_index(const struct mbd_row *row, const char *text)
{
    for (int i = 0; row->choices[i]; i++) {
        if (strcmp(row->choices[i], text) == 0) {
            return i;
        }
    }
    return -1;
}

enum mb_status mbd_table_set(const struct mbd_row *row, const char *text, const char *what,
                             struct mbd_options *o, struct mb_error *err)
{
    void *place = (char *) o + row->offset;
    uint64_t v = 0;
    bool ok = true;
    switch (row->kind) {
    case MBD_KIND_TEXT:
    case MBD_KIND_ACTION:
        return set_text(place, text, what, err);
    case MBD_KIND_MODELS:
    case MBD_KIND_EPOCHS:
    case MBD_KIND_TEACHERS:
        return add_pairs(row, text, what, o, err);
    case MBD_KIND_ADDRESS:
        ok = set_address(row, text, place);
        break;
    case MBD_KIND_U32:
        ok = parse_integer(row, text, &v);
        if (ok) {
            *(uint32_t *) place = (uint32_t) v;
        }
        break;
    case MBD_KIND_U64:
    case MBD_KIND_BYTES:
        ok = parse_integer(row, text, place);
        break;
    case MBD_KIND_SECONDS:
        ok = parse_seconds(row, text, place);
        break;
    case MBD_KIND_BOOL:
        ok = parse_bool(text, place);
        break;
    case MBD_KIND_CHOICE:
        ok = choice_index(row, text) >= 0;
        if (ok) {
            *(int *) place = choice_index(row, text);
        }
        break;
    case MBD_KIND_WORD:
        ok = choice_index(row, text) >= 0;
        if (ok) {
            *(const char **) place = row->choices[choice_index(row, text)];
        }
        break;
    case MBD_KINDS:
        break;
    }
    return ok ? MB_OK : refuse(row, text, what, err);
}

bool mbd_table_is_list(const struct mbd_row *row)
{
    return row->kind == MBD_KIND_MODELS || row->kind == MBD_KIND_EPOCHS ||
           row->kind == MBD_KIND_TEACHERS;
}

static void forget_models(struct mbd_model_option *at, size_t *n)
{
    for (size_t i = 0; i < *n; i++) {
        free(at[i].file);
    }
    *n = 0;
}

void mbd_table_forget(enum mbd_kind list, struct mbd_options *o)
{
    if (list == MBD_KIND_MODELS) {
        forget_models(o->models, &o->n_models);
    } else if (list == MBD_KIND_TEACHERS) {
        forget_models(o->teachers, &o->n_teachers);
    } else {
        for (size_t i = 0; i < o->n_epochs; i++) {
            free(o->epochs[i].delta);
        }
        o->n_epochs = 0;
    }
}

void mbd_options_init(struct mbd_options *o)
{
    *o = (struct mbd_options) { 0 };
    for (const struct mbd_row *row = mbd_table; row->name; row++) {
        if (row->kind == MBD_KIND_ACTION || !row->value[0]) {
            continue;
        }
        struct mb_error err;
        enum mb_status st = mbd_table_set(row, row->value, row->name, o, &err);
        assert(st == MB_OK); /* no default needs memory */
        (void) st;
    }
}

bool mbd_address_is_loopback(const struct mbd_address *a)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, a->host, &v4) == 1) {
        return ntohl(v4.s_addr) >> 24 == 127;
    }
    return inet_pton(AF_INET6, a->host, &v6) == 1 &&
           (IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127));
}

void mbd_options_fini(struct mbd_options *o)
{
    mbd_table_forget(MBD_KIND_MODELS, o);
    mbd_table_forget(MBD_KIND_EPOCHS, o);
    mbd_table_forget(MBD_KIND_TEACHERS, o);
    free(o->state_dir);
    free(o->config);
    free(o->key_name);
    free(o->hosts);
    free(o->cors_origins);
    free(o->keys);
    free(o->tls_cert);
    free(o->tls_key);
    *o = (struct mbd_options) { 0 };
}

/* ---- what the table prints --------------------------------------------------------------- */

/* text, broken at spaces so that no line passes column 92, each after the first indented. */
static void put_wrapped(struct mb_bytes *ret, const char *text, size_t indent)
{
    size_t column = indent;
    while (*text) {
        size_t n = strcspn(text, " ");
        if (column > indent && column + 1 + n > 92) {
            mb_bytes_printf(ret, "\n%*s", (int) indent, "");
            column = indent;
        } else if (column > indent) {
            mb_bytes_put_u8(ret, ' ');
            column++;
        }
        mb_bytes_put(ret, text, n);
        column += n;
        text += n + (text[n] == ' ');
    }
    mb_bytes_put_u8(ret, '\n');
}

static void put_facts(struct mb_bytes *ret, const struct mbd_row *row, size_t indent)
{
    char range[160], variable[MBD_NAME_MAX];
    mbd_table_range(row, range, sizeof range);
    mbd_table_variable(row, variable);
    bool in_words = row->kind == MBD_KIND_ADDRESS || mbd_table_is_list(row);
    mb_bytes_printf(ret, "%*s[", (int) indent, "");
    if (range[0] && !in_words) {
        mb_bytes_printf(ret, "%s; ", range);
    }
    if (row->value[0]) {
        mb_bytes_printf(ret, "default %s; ", row->value);
    }
    mb_bytes_printf(ret, "%s]\n", variable);
}

void mbd_table_help(struct mb_bytes *ret)
{
    const int indent = 30;
    mb_bytes_put_text(ret, "usage: mboold --model NAME=FILE [--OPTION VALUE ...]\n\n"
                           "Serves checkpoints over HTTP, in the shape of OpenAI's API.\n"
                           "Defaults < configuration file < environment < command line.\n");
    for (const struct mbd_row *row = mbd_table; row->name; row++) {
        if (row->group) {
            mb_bytes_printf(ret, "\n%s\n", row->group);
        }
        char flag[64];
        (void) snprintf(flag, sizeof flag, "--%s%s%s", row->name, row->metavar ? " " : "",
                        row->metavar ? row->metavar : "");
        mb_bytes_printf(ret, "  %-*s", indent - 2, flag);
        put_wrapped(ret, row->help, (size_t) indent);
        if (row->kind != MBD_KIND_ACTION) {
            put_facts(ret, row, (size_t) indent);
        }
    }
    mb_bytes_put_text(ret,
                      "\nexit status: 0 it ended as it should; 1 it failed; 2 the "
                      "configuration was wrong\n"
                      "signals: SIGTERM and SIGINT let running requests end, then leave; a "
                      "second one\n"
                      "         leaves at once. SIGHUP reads keys and certificate anew\n");
}

void mbd_table_defaults(struct mb_bytes *ret)
{
    const char *between = "{\n";
    for (const struct mbd_row *row = mbd_table; row->name; row++) {
        if (!mbd_table_in_file(row)) {
            continue;
        }
        char key[MBD_NAME_MAX];
        mbd_table_key(row, key);
        const char *v = row->value;
        bool bare = row->kind == MBD_KIND_BOOL || (v[0] && !v[strspn(v, "0123456789.")]);
        mb_bytes_printf(ret, "%s    \"%s\": ", between, key);
        if (mbd_table_is_list(row)) {
            mb_bytes_put_text(ret, "{}");
        } else {
            mb_bytes_printf(ret, bare ? "%s" : "\"%s\"", v);
        }
        between = ",\n";
    }
    mb_bytes_put_text(ret, "\n}\n");
}
