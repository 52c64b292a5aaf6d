/* status: what a running daemon is doing, whom it hears, and what it waits for. */
#include "deploy/gal/ask.h"
#include "deploy/gal/client.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static void show_since(const json_t *object)
{
    double since = member_real(object, "since", 0);
    if (since > 0)
        printf(" for %.0f s", difftime(time(NULL), (time_t)since));
}

static void show_children(const json_t *answer)
{
    size_t i;
    json_t *child;
    char now[16], peak[16];
    json_array_foreach(json_object_get(answer, "children"), i, child)
    {
        printf("  %-11s pid %lld, %s (peak %s)", member_text(child, "program", "?"),
               (long long)member_int(child, "pid", 0),
               human_bytes(1024 * member_real(child, "rss_kb", 0), now),
               human_bytes(1024 * member_real(child, "rss_peak_kb", 0), peak));
        long long restarts = (long long)member_int(child, "restarts", 0);
        if (restarts)
            printf(", restarted %lld times: see its log", restarts);
        putchar('\n');
    }
}

static void show_link(const json_t *link)
{
    size_t i;
    json_t *peer;
    if (!json_is_object(link)) {
        puts("  link        starting");
        return;
    }
    const char *listening = member_text(link, "listening", NULL);
    if (listening)
        printf("  listening   %s\n", listening);
    json_array_foreach(json_object_get(link, "peers"), i, peer)
    {
        printf("  peer        %s %s", member_text(peer, "name", "?"),
               json_is_true(json_object_get(peer, "up")) ? "connected" : "not connected");
        show_since(peer);
        putchar('\n');
    }
}

static void show_core(const json_t *core)
{
    size_t i;
    json_t *name;
    printf("  core        %s", member_text(core, "state", "starting"));
    show_since(core);
    if (json_object_get(core, "round") && *member_text(core, "run", ""))
        printf(", task %s, run %s, round %lld of %lld", member_text(core, "task", "?"),
               member_text(core, "run", "?"), (long long)member_int(core, "round", 0),
               (long long)member_int(core, "rounds", 0));
    json_array_foreach(json_object_get(core, "waiting_for"), i, name)
        printf("%s%s", i ? ", " : "; waits for ", json_string_value(name) ? json_string_value(name) : "?");
    if (*member_text(core, "text", ""))
        printf("\n              %s", member_text(core, "text", ""));
    putchar('\n');
}

static void show_worker(const json_t *worker)
{
    printf("  worker      %s, model %s, %lld rows, %lld columns\n", member_text(worker, "state", "starting"),
           member_text(worker, "model", "?"), (long long)member_int(worker, "rows", 0),
           (long long)member_int(worker, "columns", 0));
}

/* What an assistor agreed to, sponsor by sponsor, and what is used up of it. */
static void show_consent(const json_t *worker)
{
    size_t i;
    const char *key;
    json_t *one, *value;
    json_array_foreach(json_object_get(worker, "consent"), i, one)
    {
        printf("  consent     %s: %lld rounds used, %lld predictions today", member_text(one, "sponsor", "?"),
               (long long)member_int(one, "rounds_used", 0),
               (long long)member_int(one, "predicted_today", 0));
        json_object_foreach(one, key, value)
        {
            if (!strcmp(key, "sponsor") || !strcmp(key, "rounds_used") || !strcmp(key, "predicted_today"))
                continue;
            if (json_is_string(value))
                printf("; %s = %s", key, json_string_value(value));
            else
                printf("; %s = %.15g", key, json_number_value(value));
        }
        putchar('\n');
    }
}

static void show(const json_t *answer)
{
    const json_t *core = json_object_get(answer, "core"), *worker = json_object_get(answer, "worker");
    printf("%s (%s, version %s, pid %lld)\n", member_text(answer, "name", "?"),
           member_text(answer, "role", "?"), member_text(answer, "version", "?"),
           (long long)member_int(answer, "pid", 0));
    show_children(answer);
    show_link(json_object_get(answer, "link"));
    if (json_is_object(core) || !strcmp(member_text(answer, "role", ""), "sponsor"))
        show_core(core);
    if (json_is_object(worker))
        show_worker(worker);
    show_consent(worker);
}

static int run(const struct command *self, int argc, char **argv)
{
    return ask_daemon(self, argc, argv, "status", show);
}

const struct command command_status = {
    .name = "status",
    .arguments = "[-c CONFIG | --state DIR | CONFIG] [--json]",
    .summary = "what a running daemon does, and what it waits for",
    .options = ask_options,
    .n_options = ASK_OPTIONS,
    .run = run,
};
