/* trace: shows what left and what reached this host, as its link wrote it down. */
#include "deploy/gal/trace.h"

#include "common/log.h"
#include "deploy/gal/client.h"
#include "deploy/gal/gal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct trace_options {
    bool json, follow, diagram, verify;
    const char *round, *replay;
    struct where where;
};

static const struct option_row options[] = {
    {OPTION_FLAG, 'f', "follow", NULL, NULL, "go on as the link writes",
     offsetof(struct trace_options, follow)},
    {OPTION_FLAG, 0, "json", NULL, NULL, "the lines themselves; with --verify the verdict",
     offsetof(struct trace_options, json)},
    {OPTION_FLAG, 0, "diagram", NULL, NULL, "draw one round", offsetof(struct trace_options, diagram)},
    {OPTION_TEXT, 0, "round", "N", NULL, "which (default: the first whole one)",
     offsetof(struct trace_options, round)},
    {OPTION_FLAG, 0, "verify", NULL, NULL,
     "recompute the chain; of two files also compare the runs they share",
     offsetof(struct trace_options, verify)},
    {OPTION_TEXT, 0, "replay", "RUN", NULL,
     "let a sponsor's daemon compute a captured run again (capture = yes)",
     offsetof(struct trace_options, replay)},
    WHERE_OPTIONS(trace_options),
};

struct total {
    size_t n;
    double bytes, wire;
};

static void show_heading(void)
{
    printf("%-12s  %-3s %-12s %-9s %5s  %-14s %-5s %9s  %s\n", "time", "", "peer", "kind", "round",
           "rows x cols", "type", "bytes", "digest");
}

static void show_line(const struct trace_line *l)
{
    char shape[32] = "", bytes[16] = "", round[12] = "";
    if (l->rows)
        snprintf(shape, sizeof shape, "%u x %u", l->rows, l->cols);
    if (l->bytes > 0)
        human_bytes(l->bytes, bytes);
    if (l->round)
        snprintf(round, sizeof round, "%u", l->round);
    const char *arrow = !strcmp(l->dir, "note") ? "" : trace_outward(l) ? "-->" : "<--";
    const char *time = strlen(l->time) > 23 ? l->time + 11 : l->time;
    printf("%-12.12s  %-3s %-12s %-9s %5s  %-14s %-5s %9s  %.8s%s%s\n", time, arrow, l->peer, l->kind, round,
           shape, l->dtype, bytes, l->digest, trace_local(l) ? " own worker" : "", l->repeat ? " again" : "");
}

static void count(struct total total[static 2], const struct trace_line *l)
{
    if (trace_local(l) || !strcmp(l->dir, "note"))
        return;
    struct total *t = &total[trace_outward(l)];
    t->n++;
    t->bytes += l->bytes;
    t->wire += l->wire;
}

static void show_table(const struct trace *t)
{
    struct total total[2] = {0};
    char bytes[2][16], wire[2][16];
    show_heading();
    for (size_t i = 0; i < t->n; i++) {
        show_line(&t->line[i]);
        count(total, &t->line[i]);
    }
    for (int i = 0; i < 2; i++) {
        human_bytes(total[i].bytes, bytes[i]);
        human_bytes(total[i].wire, wire[i]);
    }
    printf("left this host: %zu messages, %s of values (%s on the wire); came in: %zu messages, %s (%s)\n",
           total[1].n, bytes[1], wire[1], total[0].n, bytes[0], wire[0]);
}

static int follow(const char *path, bool json)
{
    FILE *in = fopen(path, "re");
    if (!in) {
        log_error("%s: %s", path, strerror(errno));
        return GAL_USAGE;
    }
    char *text = NULL;
    size_t capacity = 0;
    if (!json)
        show_heading();
    for (long begin = 0; !ferror(stdout); begin = ftell(in)) {
        ssize_t n = getline(&text, &capacity, in);
        if (n <= 0 || text[n - 1] != '\n') { /* not yet a whole line */
            clearerr(in);
            fseek(in, begin, SEEK_SET);
            fflush(stdout);
            poll(NULL, 0, 100);
            continue;
        }
        struct trace_line l = {0};
        const char *bad = trace_parse(&l, text, (size_t)n - 1);
        if (bad)
            log_error("%s: %s", path, bad);
        else if (json)
            fputs(text, stdout);
        else
            show_line(&l);
        trace_line_free(&l);
    }
    free(text);
    fclose(in);
    return GAL_FAILED;
}

static int report(const struct trace_options *o, const struct trace *t, size_t n, size_t shared,
                  const char *bad)
{
    if (o->json) {
        json_t *verdict = json_pack("{s:b, s:[]}", "ok", !bad, "files");
        for (size_t i = 0; i < n; i++)
            json_array_append_new(json_object_get(verdict, "files"),
                                  json_pack("{s:s, s:I}", "file", t[i].path, "lines", (json_int_t)t[i].n));
        if (bad)
            json_object_set_new(verdict, "error", json_string(bad));
        else if (n == 2)
            json_object_set_new(verdict, "shared", json_integer((json_int_t)shared));
        json_dumpf(verdict, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(verdict);
    } else if (bad)
        log_error("%s", bad);
    else {
        for (size_t i = 0; i < n; i++)
            printf("%s: %zu lines, the chain is whole\n", t[i].path, t[i].n);
        if (n == 2)
            printf("both tell the same of the %zu exchange%s they share\n", shared, shared == 1 ? "" : "s");
    }
    return bad ? GAL_FAILED : GAL_DONE;
}

/* A line that cannot be read is, to --verify, a finding and not a mistake of the caller. */
static int verify(const struct trace_options *o, const struct words *files)
{
    struct trace t[2] = {{0}, {0}};
    char error[1024], *bad = NULL;
    size_t shared = 0;
    bool unreadable = false;
    for (size_t i = 0; i < files->n && !bad; i++) {
        if (trace_read(&t[i], files->word[i], error, sizeof error)) {
            bad = error;
            unreadable = t[i].n == 0;
        } else if (trace_verify(&t[i], error, sizeof error))
            bad = error;
    }
    if (!bad && files->n == 2 && trace_compare(&t[0], &t[1], &shared, error, sizeof error))
        bad = error;
    int status = unreadable ? GAL_USAGE : report(o, t, files->n, shared, bad);
    if (unreadable)
        log_error("%s", bad);
    trace_free(&t[0]);
    trace_free(&t[1]);
    return status;
}

static int show_file(const struct trace_options *o, const char *path, unsigned round, bool several)
{
    struct trace t;
    char error[512];
    int status = GAL_USAGE;
    if (trace_read(&t, path, error, sizeof error) ||
        (o->diagram && trace_diagram(&t, round, error, sizeof error))) {
        log_error("%s", error);
        goto out;
    }
    status = GAL_DONE;
    if (o->json)
        for (size_t i = 0; i < t.n; i++)
            puts(t.line[i].text);
    else if (!o->diagram) {
        if (several)
            printf("%s\n", path);
        show_table(&t);
    }
out:
    trace_free(&t);
    return status;
}

static int run(const struct command *self, int argc, char **argv)
{
    struct trace_options o = {0};
    struct words files = {0};
    long round = 0;
    int status = GAL_USAGE;
    if (options_parse(self, argc, argv, &o, 0, 64, &files))
        goto out;
    if (o.round && parse_long("--round", o.round, 1, 1000000, &round))
        goto out;
    if (o.replay) {
        o.where.word = files.n ? files.word[0] : NULL;
        status = trace_replay(&o.where, o.replay, o.json);
    } else if (!files.n)
        log_error("trace: FILE is missing: usage: gal trace %s", self->arguments);
    else if (o.verify + o.follow + o.diagram > 1)
        log_error("trace: choose one of --verify, --follow, --diagram");
    else if ((o.verify && files.n > 2) || (o.follow && files.n > 1))
        log_error("trace: too many files: --verify takes one or two, --follow one");
    else if (o.round && !o.diagram)
        log_error("trace: --round belongs to --diagram");
    else if (o.verify)
        status = verify(&o, &files);
    else if (o.follow)
        status = follow(files.word[0], o.json);
    else {
        status = GAL_DONE;
        for (size_t i = 0; i < files.n && !status; i++)
            status = show_file(&o, files.word[i], (unsigned)round, files.n > 1);
    }
out:
    words_free(&files);
    return status;
}

const struct command command_trace = {
    .name = "trace",
    .arguments =
        "FILE [FILE] [--follow | --diagram [--round N] | --verify] [--json] | --replay RUN -c CONFIG",
    .summary = "what left this host and what reached it: a trace.jsonl as a table",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .run = run,
};
