#include "clients/cli/help.h"

#include <string.h>

#include "clients/cli/command.h"
#include "core/base/bytes.h"
#include "core/base/roff.h"
#include "core/base/shell.h"

void mbc_print_commands(FILE *to)
{
    fprintf(to, "usage: mbool COMMAND [ARGUMENT ...]\n\ncommands:\n");
    for (size_t i = 0; mbc_commands[i]; i++) {
        fprintf(to, "  %-10s %s\n", mbc_commands[i]->name, mbc_commands[i]->summary);
    }
    fprintf(to, "\n'mbool COMMAND --help' tells more; 'mbool --version' says which this is.\n");
}

/* ---- mbool(1) ---------------------------------------------------------------------------- */

static const char description[] =
    "Works on model files whose weights are sums of Boolean matrices: makes them, looks into\n"
    "them, measures and runs them; and talks with daemons that serve such models, mboold(8).";
static const char environment[] =
    ".TP\n.B MBOOL_HOST\nWhere the daemon is, when \\-\\-host does not say: HOST, HOST:PORT or a\n"
    "URL of http or https. Without either, 127.0.0.1:8080.\n"
    ".TP\n.B MBOOL_API_KEY\nSent to the daemon as its API key. There is no option for it:\n"
    "command lines can be read by others.\n"
    ".TP\n.B MBOOL_CACERT\nA file of certificates (PEM) that vouch for a daemon of https; without\n"
    "it, those that this machine believes.\n";
static const char statuses[] =
    ".TP\n.B 0\nDone.\n.TP\n.B 1\nIt failed; a line on standard error "
    "says why.\n.TP\n.B 2\nThe command line was wrong.\n.TP\n.B "
    "130\nInterrupted by Ctrl\\-C.\n";

static void put_option(struct mb_bytes *b, const struct mbc_option *o)
{
    mb_bytes_put_text(b, ".TP\n\\fB");
    if (strcmp(o->name, "output") == 0) {
        mb_bytes_put_text(b, "\\-o\\fR, \\fB");
    }
    mb_bytes_put_text(b, "\\-\\-");
    mb_roff_put(b, o->name);
    mb_bytes_put_text(b, "\\fR");
    if (o->value) {
        mb_bytes_put_text(b, " \\fI");
        mb_roff_put(b, o->value);
        mb_bytes_put_text(b, "\\fR");
    }
    mb_bytes_put_u8(b, '\n');
    mb_roff_put(b, o->help);
    mb_bytes_put_u8(b, '\n');
}

static void put_command(struct mb_bytes *b, const struct mbc_command *c)
{
    mb_bytes_put_text(b, ".SS \"mbool ");
    mb_roff_put(b, c->name);
    mb_bytes_put_text(b, " ");
    mb_roff_put(b, c->arguments);
    mb_bytes_put_text(b, "\"\n");
    mb_roff_put(b, c->summary);
    mb_bytes_put_text(b, ".\n");
    if (c->details) {
        mb_bytes_put_text(b, ".PP\n");
        mb_roff_put_paragraphs(b, c->details);
    }
    for (const struct mbc_option *o = c->options; o->name; o++) {
        put_option(b, o);
    }
}

static void put_man(struct mb_bytes *b)
{
    mb_roff_begin(b, "mbool", 1, MB_VERSION,
                  "make, run and talk with models of Boolean matrices");
    mb_bytes_put_text(b, ".SH SYNOPSIS\n\\fBmbool\\fR \\fICOMMAND\\fR [\\fIARGUMENT\\fR ...]\n"
                         ".SH DESCRIPTION\n");
    mb_roff_put_paragraphs(b, description);
    mb_bytes_put_text(b, ".SH COMMANDS\nEvery command also has \\fB\\-\\-help\\fR.\n");
    for (size_t i = 0; mbc_commands[i]; i++) {
        put_command(b, mbc_commands[i]);
    }
    mb_bytes_put_text(b, ".SH ENVIRONMENT\n");
    mb_bytes_put_text(b, environment);
    mb_bytes_put_text(b, ".SH EXIT STATUS\n");
    mb_bytes_put_text(b, statuses);
    mb_bytes_put_text(b, ".SH SEE ALSO\n.BR mboold (8),\n.BR mbool\\-format (5)\n");
}

/* ---- completions ------------------------------------------------------------------------- */

static void put_bash(struct mb_bytes *b)
{
    mb_bytes_put_text(b, "# Made by: mbool help --completion=bash\n"
                         "_mbool()\n{\n"
                         "    local current=${COMP_WORDS[COMP_CWORD]} words=\n"
                         "    COMPREPLY=()\n"
                         "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
                         "        words='help");
    for (size_t i = 0; mbc_commands[i]; i++) {
        mb_bytes_printf(b, " %s", mbc_commands[i]->name);
    }
    mb_bytes_put_text(b, " --help --version'\n"
                         "    elif [[ $current == -* ]]; then\n"
                         "        case ${COMP_WORDS[1]} in\n");
    for (size_t i = 0; mbc_commands[i]; i++) {
        mb_bytes_printf(b, "        %s) words='--help", mbc_commands[i]->name);
        for (const struct mbc_option *o = mbc_commands[i]->options; o->name; o++) {
            mb_bytes_printf(b, " --%s", o->name);
        }
        mb_bytes_put_text(b, "' ;;\n");
    }
    mb_bytes_put_text(b, "        esac\n"
                         "    fi\n"
                         "    [ -z \"$words\" ] || mapfile -t COMPREPLY < "
                         "<(compgen -W \"$words\" -- \"$current\")\n"
                         "}\n"
                         "complete -o default -F _mbool mbool\n");
}

static void put_zsh(struct mb_bytes *b)
{
    mb_bytes_put_text(b, "#compdef mbool\n# Made by: mbool help --completion=zsh\n"
                         "local -a commands\ncommands=(\n");
    for (size_t i = 0; mbc_commands[i]; i++) {
        mb_bytes_printf(b, "    %s:", mbc_commands[i]->name);
        mb_shell_put_quoted(b, mbc_commands[i]->summary, ":\\");
        mb_bytes_put_u8(b, '\n');
    }
    mb_bytes_put_text(b, ")\n"
                         "if (( CURRENT == 2 )); then\n"
                         "    _describe -t commands command commands\n"
                         "    return\n"
                         "fi\n"
                         "local command=$words[2]\n"
                         "shift words\n(( CURRENT-- ))\n"
                         "case $command in\n");
    for (size_t i = 0; mbc_commands[i]; i++) {
        mb_bytes_printf(b, "%s)\n    _arguments", mbc_commands[i]->name);
        for (const struct mbc_option *o = mbc_commands[i]->options; o->name; o++) {
            mb_bytes_printf(b, " \\\n        '*--%s%s['", o->name, o->value ? "=" : "");
            mb_shell_put_quoted(b, o->help, "[]:\\");
            if (o->value) {
                mb_bytes_printf(b, "']:%s:_default'", o->value);
            } else {
                mb_bytes_put_text(b, "']'");
            }
        }
        mb_bytes_put_text(
            b, " \\\n        '--help[print help and exit]' '*:file:_files'\n    ;;\n");
    }
    mb_bytes_put_text(b, "esac\n");
}

static void put_fish(struct mb_bytes *b)
{
    mb_bytes_put_text(b, "# Made by: mbool help --completion=fish\n");
    for (size_t i = 0; mbc_commands[i]; i++) {
        const struct mbc_command *c = mbc_commands[i];
        mb_bytes_printf(b, "complete -c mbool -n __fish_use_subcommand -f -a %s -d ", c->name);
        mb_shell_put_quoted(b, c->summary, "\\");
        mb_bytes_put_u8(b, '\n');
        for (const struct mbc_option *o = c->options; o->name; o++) {
            mb_bytes_printf(
                b, "complete -c mbool -n '__fish_seen_subcommand_from %s' -l %s%s%s -d ",
                c->name, o->name, strcmp(o->name, "output") == 0 ? " -s o" : "",
                o->value ? " -r" : "");
            mb_shell_put_quoted(b, o->help, "\\");
            mb_bytes_put_u8(b, '\n');
        }
    }
}

/* ---- the command ------------------------------------------------------------------------- */

static const struct {
    const char *option;
    void (*put)(struct mb_bytes *b);
} documents[] = {
    { "--man", put_man },
    { "--completion=bash", put_bash },
    { "--completion=zsh", put_zsh },
    { "--completion=fish", put_fish },
};

static int print_document(void (*put)(struct mb_bytes *b))
{
    struct mb_bytes text = { 0 };
    put(&text);
    bool ok = !text.failed && fputs(mb_bytes_text(&text), stdout) >= 0;
    mb_bytes_fini(&text);
    return ok ? MBC_DONE : MBC_FAILED;
}

int mbc_help(int argc, char **argv)
{
    if (argc < 2) {
        mbc_print_commands(stdout);
        return MBC_DONE;
    }
    for (size_t i = 0; i < sizeof documents / sizeof documents[0]; i++) {
        if (strcmp(documents[i].option, argv[1]) == 0) {
            return print_document(documents[i].put);
        }
    }
    for (size_t i = 0; mbc_commands[i]; i++) {
        if (strcmp(mbc_commands[i]->name, argv[1]) == 0) {
            char *asked[] = { argv[1], (char *) "--help", NULL };
            return mbc_commands[i]->run(2, asked);
        }
    }
    fprintf(stderr, "mbool help: there is no command '%s'\n", argv[1]);
    return MBC_USAGE;
}
