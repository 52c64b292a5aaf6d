/* ask: see ask.h. */
#include "deploy/gal/ask.h"

#include "common/log.h"
#include "deploy/gal/client.h"

#include <stdio.h>
#include <stdlib.h>

struct ask {
    struct where where;
    bool json;
};

const struct option_row ask_options[ASK_OPTIONS] = {
    WHERE_OPTIONS(ask),
    {OPTION_FLAG, 0, "json", NULL, NULL, "the daemon's answer as one JSON document",
     offsetof(struct ask, json)},
};

int ask_daemon(const struct command *self, int argc, char **argv, const char *question,
               void (*show)(const json_t *))
{
    struct ask o = {0};
    struct words rest = {0};
    char *state = NULL, error[512];
    int status = GAL_USAGE;
    if (options_parse(self, argc, argv, &o, 0, 1, &rest))
        goto out;
    o.where.word = rest.n ? rest.word[0] : NULL;
    state = where_state(&o.where);
    if (!state)
        goto out;
    status = GAL_FAILED;
    json_t *answer = client_ask(state, json_pack("{s:s}", "cmd", question), 10000, error, sizeof error);
    if (!answer) {
        log_error("%s", error);
        goto out;
    }
    status = GAL_DONE;
    if (o.json) {
        json_dumpf(answer, stdout, JSON_INDENT(1));
        putchar('\n');
    } else
        show(answer);
    json_decref(answer);
out:
    free(state);
    words_free(&rest);
    return status;
}
