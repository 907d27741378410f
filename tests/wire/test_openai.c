/* Goal:   programs written for OpenAI's API work against mboold unchanged.
 * Method: OpenAI's own client for Node, in openai-node/check.mjs, against the daemon.
 *         tests/run installs it where there is an npm. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/check_main.h"
#include "tests/wire/daemon.h"

START_TEST(the_official_client)
{
    char modules[1024], command[4096];
    (void) snprintf(modules, sizeof modules, "%s/openai-node", getenv("MB_BUILD"));
    (void) snprintf(command, sizeof command, "%s/node_modules/openai/package.json", modules);
    if (access(command, R_OK) != 0 || system("node --version >/dev/null 2>&1") != 0) {
        mb_skip("OpenAI's client for Node is not installed");
    }
    char state[1100], remove[1200];
    (void) snprintf(state, sizeof state, "--state-dir=%s.state", wire_model_path());
    (void) snprintf(remove, sizeof remove, "rm -rf '%s.state'", wire_model_path());
    struct wire_daemon d = wire_start(
        (const char *[]) { "--max-sequences=4", "--queue-requests=12", "--kv-memory=64M", state,
                           "--finetune-priority=normal", NULL });
    (void) snprintf(command, sizeof command,
                    "node '%s/tests/wire/openai-node/check.mjs' http://127.0.0.1:%d/v1 '%s'",
                    getenv("MB_SOURCE"), d.port, modules);
    int status = system(command);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the client ended with %d",
                  WEXITSTATUS(status));
    wire_stop(&d);
    ck_assert_int_eq(system(remove), 0);
}
END_TEST

int main(void)
{
    wire_folder_make();
    Suite *s = suite_create("wire_openai");
    TCase *t = tcase_create("client");
    tcase_add_test(t, the_official_client);
    suite_add_tcase(s, t);
    int status = mb_run_suite(s);
    wire_folder_remove();
    return status;
}
