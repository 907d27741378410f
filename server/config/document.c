#include "server/config/document.h"

#include <string.h>

#include "core/base/roff.h"
#include "core/base/shell.h"
#include "server/config/table.h"

/* ---- manual pages ------------------------------------------------------------------------ */

/* "1..1024. Default 16." after what a row does. */
static void put_values(struct mb_bytes *b, const struct mbd_row *row)
{
    char range[160];
    mbd_table_range(row, range, sizeof range);
    mb_roff_put(b, row->help);
    mb_bytes_put_text(b, ".\n");
    if (range[0] && row->kind != MBD_KIND_ADDRESS && !mbd_table_is_list(row)) {
        mb_bytes_put_text(b, "Allowed: ");
        mb_roff_put(b, range);
        mb_bytes_put_text(b, ".\n");
    }
    if (row->value[0]) {
        mb_bytes_put_text(b, "Default: ");
        mb_roff_put(b, row->value);
        mb_bytes_put_text(b, ".\n");
    }
}

static void put_flag(struct mb_bytes *b, const struct mbd_row *row)
{
    mb_bytes_put_text(b, ".TP\n\\fB\\-\\-");
    mb_roff_put(b, row->name);
    mb_bytes_put_text(b, "\\fR");
    if (row->metavar) {
        mb_bytes_put_text(b, " \\fI");
        mb_roff_put(b, row->metavar);
        mb_bytes_put_text(b, "\\fR");
    }
    if (mbd_table_in_environment(row)) {
        char variable[MBD_NAME_MAX];
        mbd_table_variable(row, variable);
        mb_bytes_printf(b, ", \\fB%s\\fR", variable);
    }
    mb_bytes_put_u8(b, '\n');
    if (row->kind == MBD_KIND_ACTION) {
        mb_roff_put(b, row->help);
        mb_bytes_put_text(b, ".\n");
    } else {
        put_values(b, row);
    }
}

static void put_man(struct mb_bytes *b)
{
    mb_roff_begin(b, "mboold", 8, MB_VERSION, "serve models of Boolean matrices over HTTP");
    mb_bytes_put_text(b,
                      ".SH SYNOPSIS\n\\fBmboold\\fR \\fB\\-\\-model\\fR \\fINAME\\fR=\\fIFILE"
                      "\\fR [\\fB\\-\\-\\fIOPTION VALUE\\fR ...]\n.SH DESCRIPTION\n"
                      "Serves checkpoints over HTTP, in the shape of OpenAI's API.\n"
                      "Options come from four sources, of which later ones win: defaults,\n"
                      "the configuration file, the environment, the command line.\n"
                      ".SH OPTIONS\n");
    for (const struct mbd_row *row = mbd_table; row->name; row++) {
        if (row->group) {
            mb_bytes_put_text(b, ".SS \"");
            mb_roff_put(b, row->group);
            mb_bytes_put_text(b, "\"\n");
        }
        put_flag(b, row);
    }
    mb_bytes_put_text(b,
                      ".SH SIGNALS\nSIGTERM and SIGINT let running requests end, then leave; a "
                      "second one leaves at once.\nSIGHUP reads keys and certificate anew.\n"
                      ".SH EXIT STATUS\n"
                      ".TP\n.B 0\nIt ended as it should.\n"
                      ".TP\n.B 1\nIt failed, or a second signal came.\n"
                      ".TP\n.B 2\nThe configuration was wrong.\n"
                      ".SH SEE ALSO\n.BR mbool (1),\n.BR mboold.conf (5),\n"
                      ".BR mbool\\-format (5)\n");
}

static void put_conf(struct mb_bytes *b)
{
    mb_roff_begin(b, "mboold.conf", 5, MB_VERSION, "configuration file of mboold");
    mb_bytes_put_text(
        b,
        ".SH DESCRIPTION\nThe file that \\fB\\-\\-config\\fR or \\fBMBOOLD_CONFIG\\fR names. It\n"
        "is one JSON object; a key that is not listed here is an error. What it does not say\n"
        "is the default, and the environment and the command line overrule it.\n"
        "\\fBmboold \\-\\-print\\-defaults\\fR prints a file with every default,\n"
        "\\fBmboold \\-\\-check\\-config\\fR tries one.\n.SH KEYS\n");
    for (const struct mbd_row *row = mbd_table; row->name; row++) {
        if (!mbd_table_in_file(row)) {
            continue;
        }
        char key[MBD_NAME_MAX];
        mbd_table_key(row, key);
        mb_bytes_put_text(b, ".TP\n.B ");
        mb_roff_put(b, key);
        mb_bytes_put_u8(b, '\n');
        put_values(b, row);
    }
    mb_bytes_put_text(b, ".SH EXAMPLE\n.nf\n{\n"
                         "    \"model\": { \"llama\": \"/var/lib/mboold/llama.mbool\" },\n"
                         "    \"listen\": \"0.0.0.0:8080\",\n"
                         "    \"keys\": \"/etc/mboold.keys\",\n"
                         "    \"log_format\": \"json\"\n"
                         "}\n.fi\n.SH SEE ALSO\n.BR mboold (8)\n");
}

/* ---- completions ------------------------------------------------------------------------- */

static void put_bash(struct mb_bytes *b)
{
    mb_bytes_put_text(b, "# Made by: mboold --help=bash\n_mboold()\n{\n"
                         "    local current=${COMP_WORDS[COMP_CWORD]}\n"
                         "    COMPREPLY=()\n"
                         "    case ${COMP_WORDS[COMP_CWORD - 1]} in\n");
    for (const struct mbd_row *row = mbd_table; row->name; row++) {
        if (row->choices[0]) {
            mb_bytes_printf(b, "    --%s) mapfile -t COMPREPLY < <(compgen -W '", row->name);
            for (size_t i = 0; row->choices[i]; i++) {
                mb_bytes_printf(b, "%s%s", i ? " " : "", row->choices[i]);
            }
            mb_bytes_put_text(b, "' -- \"$current\"); return ;;\n");
        }
    }
    mb_bytes_put_text(b, "    esac\n    [[ $current != -* ]] || mapfile -t COMPREPLY < "
                         "<(compgen -W '");
    for (const struct mbd_row *row = mbd_table; row->name; row++) {
        mb_bytes_printf(b, "%s--%s", row == mbd_table ? "" : " ", row->name);
    }
    mb_bytes_put_text(b, "' -- \"$current\")\n}\ncomplete -o default -F _mboold mboold\n");
}

static void put_choices(struct mb_bytes *b, const struct mbd_row *row)
{
    for (size_t i = 0; row->choices[i]; i++) {
        mb_bytes_printf(b, "%s%s", i ? " " : "", row->choices[i]);
    }
}

static void put_zsh(struct mb_bytes *b)
{
    mb_bytes_put_text(b, "#compdef mboold\n# Made by: mboold --help=zsh\n_arguments");
    for (const struct mbd_row *row = mbd_table; row->name; row++) {
        bool has_value = row->metavar && row->kind != MBD_KIND_BOOL;
        mb_bytes_printf(b, " \\\n    '*--%s%s['", row->name, has_value ? "=" : "");
        mb_shell_put_quoted(b, row->help, "[]:\\");
        mb_bytes_put_text(b, "']");
        if (has_value && row->choices[0]) {
            mb_bytes_printf(b, ":%s:(", row->metavar);
            put_choices(b, row);
            mb_bytes_put_u8(b, ')');
        } else if (has_value) {
            mb_bytes_printf(b, ":%s:_default", row->metavar);
        }
        mb_bytes_put_u8(b, '\'');
    }
    mb_bytes_put_u8(b, '\n');
}

static void put_fish(struct mb_bytes *b)
{
    mb_bytes_put_text(b, "# Made by: mboold --help=fish\n");
    for (const struct mbd_row *row = mbd_table; row->name; row++) {
        bool has_value = row->metavar && row->kind != MBD_KIND_BOOL;
        mb_bytes_printf(b, "complete -c mboold -l %s%s", row->name, has_value ? " -r" : "");
        if (row->choices[0]) {
            mb_bytes_put_text(b, " -f -a '");
            put_choices(b, row);
            mb_bytes_put_u8(b, '\'');
        }
        mb_bytes_put_text(b, " -d ");
        mb_shell_put_quoted(b, row->help, "\\");
        mb_bytes_put_u8(b, '\n');
    }
}

mbd_document_fn *mbd_document_find(const char *name)
{
    static const struct {
        const char *name;
        mbd_document_fn *put;
    } documents[] = {
        { "man", put_man }, { "conf", put_conf }, { "bash", put_bash },
        { "zsh", put_zsh }, { "fish", put_fish },
    };
    for (size_t i = 0; i < sizeof documents / sizeof documents[0]; i++) {
        if (strcmp(documents[i].name, name) == 0) {
            return documents[i].put;
        }
    }
    return NULL;
}
