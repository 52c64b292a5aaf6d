/* runs: the runs that a sponsor knows. */
#include "deploy/gal/ask.h"
#include "deploy/gal/client.h"

#include <stdio.h>
#include <time.h>

static void show_run(const json_t *run)
{
    char started[32] = "-";
    const json_t *when = json_object_get(run, "started");
    time_t seconds = (time_t)json_number_value(when);
    struct tm tm;
    if (json_is_number(when) && localtime_r(&seconds, &tm))
        strftime(started, sizeof started, "%Y-%m-%d %H:%M:%S", &tm);
    printf("%-32s  %-16s  %-8s  %6lld  %10lld  %s\n", member_text(run, "run", "-"),
           member_text(run, "task", "-"), member_text(run, "state", "-"),
           (long long)member_int(run, "rounds", 0), (long long)member_int(run, "best_round", 0),
           json_is_string(when) ? json_string_value(when) : started);
}

static void show(const json_t *answer)
{
    size_t i;
    json_t *one;
    printf("%-32s  %-16s  %-8s  %6s  %10s  %s\n", "run", "task", "state", "rounds", "best_round", "started");
    json_array_foreach(json_object_get(answer, "runs"), i, one) show_run(one);
}

static int run(const struct command *self, int argc, char **argv)
{
    return ask_daemon(self, argc, argv, "runs", show);
}

const struct command command_runs = {
    .name = "runs",
    .arguments = "[-c CONFIG | --state DIR | CONFIG] [--json]",
    .summary = "list the runs that a sponsor knows",
    .options = ask_options,
    .n_options = ASK_OPTIONS,
    .run = run,
};
