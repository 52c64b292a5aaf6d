/* train: tells a running sponsor to start its task and shows the run as it goes. */
#include "deploy/gal/client.h"
#include "deploy/gal/gal.h"
#include "deploy/gal/progress.h"

#include "common/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct train {
    struct where where;
    const char *task;
    bool json;
};

static const struct option_row options[] = {
    WHERE_OPTIONS(train),
    {OPTION_TEXT, 't', "task", "NAME", NULL, "which task (needless where there is one)",
     offsetof(struct train, task)},
    {OPTION_FLAG, 0, "json", NULL, NULL, "the daemon's events as they come, one JSON object per line",
     offsetof(struct train, json)},
};

static int follow(struct client *c, bool json)
{
    json_t *event;
    char error[512];
    for (;;) {
        int got = client_read(c, -1, &event, error, sizeof error);
        if (got == 0)
            continue;
        if (got < 0) {
            progress_end();
            log_error("%s", error);
            return GAL_FAILED;
        }
        const char *kind = member_text(event, "event", "");
        bool done = !strcmp(kind, "done"), failed = !done && json_object_get(event, "error");
        if (json) {
            json_dumpf(event, stdout, JSON_COMPACT);
            putchar('\n');
            fflush(stdout);
        } else
            progress_event("train", event);
        if (failed) {
            progress_end();
            log_error("%s", member_text(event, "error", "the run failed"));
        }
        json_decref(event);
        if (done || failed)
            return done ? GAL_DONE : GAL_FAILED;
    }
}

static int run(const struct command *self, int argc, char **argv)
{
    struct train o = {0};
    struct words rest = {0};
    struct client *c = NULL;
    char *state = NULL, error[512];
    int status = GAL_USAGE;
    if (options_parse(self, argc, argv, &o, 0, 1, &rest))
        goto out;
    o.where.word = rest.n ? rest.word[0] : NULL;
    state = where_state(&o.where);
    if (!state)
        goto out;
    status = GAL_FAILED;
    c = client_open(state, error, sizeof error);
    if (!c) {
        log_error("%s", error);
        goto out;
    }
    json_t *request = json_pack("{s:s, s:s*}", "cmd", "train", "task", o.task);
    if (client_send(c, request))
        log_error("%s: the daemon closed the connection", state);
    else
        status = follow(c, o.json);
out:
    client_close(c);
    free(state);
    words_free(&rest);
    return status;
}

const struct command command_train = {
    .name = "train",
    .arguments = "[-c CONFIG | --state DIR | CONFIG] [--task NAME] [--json]",
    .summary = "start a running sponsor's task and watch it",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .run = run,
};
