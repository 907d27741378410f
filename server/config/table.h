/* The table of options, and what it prints. Private to server/config and main.
 *
 * Threads: pure; the table is constant. */
#ifndef MBD_TABLE_H
#define MBD_TABLE_H

#include "core/base/bytes.h"
#include "server/config/options.h"

enum mbd_kind {
    MBD_KIND_TEXT,    /* char * */
    MBD_KIND_ADDRESS, /* struct mbd_address */
    MBD_KIND_U32,
    MBD_KIND_U64,
    MBD_KIND_BYTES,   /* uint64_t; K, M, G, T are powers of 1024 */
    MBD_KIND_SECONDS, /* uint32_t milliseconds; written as seconds, 0.25 is allowed */
    MBD_KIND_BOOL,
    MBD_KIND_CHOICE,   /* int: index in choices */
    MBD_KIND_WORD,     /* const char *: one of choices */
    MBD_KIND_MODELS,   /* NAME=FILE, many */
    MBD_KIND_EPOCHS,   /* NAME=MODEL+FILE, many */
    MBD_KIND_TEACHERS, /* NAME=FOLDER, many */
    MBD_KIND_ACTION,   /* a flag that is no setting; min is the enum mbd_action. With a metavar
                          it takes a text, char * */
    MBD_KINDS
};

struct mbd_row {
    const char *name; /* as a flag: "max-sequences"; the key has '_' for '-' */
    enum mbd_kind kind;
    size_t offset;
    double min, max;   /* both allowed; in the unit that is written */
    const char *value; /* the default, as it would be written; "" for none */
    const char *choices[6];
    const char *metavar;
    const char *group; /* set in the first row of a group */
    const char *help;
};

/* Ends with a NULL name. */
extern const struct mbd_row mbd_table[];

/* The row called so ('-' and '_' are the same), or NULL; *ret_near is then the likeliest name
 * that was meant, or NULL. */
const struct mbd_row *mbd_table_find(const char *name, size_t n, const char **ret_near);

/* Parses text into its place in o. Of a list, adds one, or several with commas between. what says where the text is from: "--threads", "MBOOLD_THREADS",
 * "a.json:3: threads".
 * Errors: MB_E_INVALID: "<what>: '<text>' ... <range>"; MB_E_NOMEM. */
enum mb_status mbd_table_set(const struct mbd_row *row, const char *text, const char *what,
                             struct mbd_options *o, struct mb_error *err);

/* Is it one that may be given several times? What was said of it is forgotten when a later source
 * says something of it. */
bool mbd_table_is_list(const struct mbd_row *row);
void mbd_table_forget(enum mbd_kind list, struct mbd_options *o);

/* "1..1024", "auto, c, avx2", ...: what is allowed, for people. */
void mbd_table_range(const struct mbd_row *row, char *ret, size_t n);

/* "MBOOLD_MAX_SEQUENCES" and "max_sequences". ret has room for MBD_NAME_MAX bytes. */
#define MBD_NAME_MAX 64
void mbd_table_variable(const struct mbd_row *row, char *ret);
void mbd_table_key(const struct mbd_row *row, char *ret);
/* May it stand in the environment and in the file? The file can not name a file. */
bool mbd_table_in_environment(const struct mbd_row *row);
bool mbd_table_in_file(const struct mbd_row *row);

void mbd_table_help(struct mb_bytes *ret);
/* A configuration file that says every default. config/mboold.json is this text. */
void mbd_table_defaults(struct mb_bytes *ret);

#endif
