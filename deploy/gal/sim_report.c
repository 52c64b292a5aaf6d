/* sim_report: what a simulation found: the JSON document of the contract, or one screen for a reader. */
#include "deploy/gal/sim.h"

#include "deploy/gal/client.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHTS_SHOWN 8

static const json_t *run_named(const json_t *runs, const char *name)
{
    size_t i;
    json_t *run;
    json_array_foreach(runs, i, run)
    {
        if (!strcmp(member_text(run, "name", ""), name))
            return run;
    }
    return NULL;
}

static json_t *copy_members(const json_t *run)
{
    static const char *const members[] = {"name",       "model", "solver",  "loss",       "rounds",
                                          "best_round", "test",  "seconds", "peak_rss_kb"};
    json_t *copy = json_object();
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        json_t *value = json_object_get(run, members[i]);
        json_object_set(copy, members[i], value ? value : json_null());
    }
    return copy;
}

void sim_report_json(const struct sim_options *o, const struct sim_data *d, const json_t *runs)
{
    (void)o;
    size_t i;
    json_t *run, *list = json_array();
    json_array_foreach(runs, i, run)
    {
        json_array_append_new(list, copy_members(run));
    }
    json_t *outputs = json_object_get(json_array_get(runs, 0), "outputs");
    json_t *document = json_pack("{s:s, s:{s:I, s:I, s:I, s:O}, s:s, s:I, s:o}", "version", GAL_VERSION,
                                 "data", "rows", (json_int_t)d->rows, "train", (json_int_t)d->train, "test",
                                 (json_int_t)d->test, "outputs", outputs ? outputs : json_null(), "task",
                                 d->task, "orgs", (json_int_t)d->orgs, "runs", list);
    json_dumpf(document, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    putchar('\n');
    json_decref(document);
}

static void show_weights(const json_t *weights)
{
    size_t m;
    json_t *w;
    json_array_foreach(weights, m, w)
    {
        if (m == WEIGHTS_SHOWN && json_array_size(weights) > WEIGHTS_SHOWN + 1) {
            printf(" …");
            return;
        }
        printf(" %.2f", json_number_value(w));
    }
}

static void show_rounds(const json_t *run)
{
    size_t i;
    json_t *round;
    char out[16], in[16];
    printf("round  objective      rate  seconds       sent   received   weights (sponsor, org2, …)\n");
    printf("%5d  %9.5g\n", 0, member_real(run, "objective", NAN));
    json_array_foreach(json_object_get(run, "rounds"), i, round)
    {
        printf("%5lld  %9.5g  %8.4g  %7.3f  %9s  %9s  ", (long long)member_int(round, "round", 0),
               member_real(round, "objective", NAN), member_real(round, "rate", NAN),
               member_real(round, "seconds", 0), human_bytes(member_real(round, "bytes_out", 0), out),
               human_bytes(member_real(round, "bytes_in", 0), in));
        show_weights(json_object_get(round, "weights"));
        putchar('\n');
    }
}

static void show_scores(const struct sim_data *d, const json_t *runs)
{
    static const char *const columns[][2] = {{"alone", "Alone"}, {"gal", "GAL"}, {"joint", "Joint"}};
    const char *metric;
    json_t *ignored, *gal = json_object_get(run_named(runs, "gal"), "test");
    printf("\n%-24s", "");
    for (size_t i = 0; i < 3; i++)
        if (run_named(runs, columns[i][0]))
            printf("%10s", columns[i][1]);
    putchar('\n');
    json_object_foreach(gal, metric, ignored)
    {
        printf("test %-19s", metric);
        for (size_t i = 0; i < 3; i++) {
            const json_t *run = run_named(runs, columns[i][0]);
            double value = member_real(json_object_get(run, "test"), metric, NAN);
            if (run && isnan(value))
                printf("%10s", "-");
            else if (run)
                printf("%10.4g", value);
        }
        putchar('\n');
    }
    if (!d->test)
        puts("no test rows: --test SHARE keeps some out");
}

static void show_meaning(const json_t *runs)
{
    bool alone = run_named(runs, "alone"), joint = run_named(runs, "joint");
    putchar('\n');
    if (alone)
        puts("Alone: the sponsor with its own columns.");
    puts("GAL:   every organization kept its columns; residuals and fitted values crossed.");
    if (joint)
        puts("Joint: all columns pooled in one place, for comparison.");
    if (!alone || !joint)
        puts("--baselines alone,joint shows what the sponsor reaches by itself, and what pooled data would "
             "give.");
}

void sim_report_text(const struct sim_options *o, const struct sim_data *d, const json_t *runs,
                     const char *dir)
{
    const json_t *run = run_named(runs, "gal");
    size_t columns = 0;
    for (size_t m = 0; m < d->orgs; m++)
        columns += d->features[m].n;
    printf("%s: %zu rows to learn from, %zu to test;\n%zu columns held by %zu organization%s; a %s task\n\n",
           d->path, d->train, d->test, columns, d->orgs, d->orgs == 1 ? "" : "s", d->task);
    show_rounds(run);
    show_scores(d, runs);
    show_meaning(runs);
    if (d->orgs < 2)
        return;
    puts("\nSee for yourself what left one organization's host:");
    const char *gal = program_invocation_name; /* as it was called: the line can be pasted */
    if (o->keep)
        printf("    %s trace %s/org2/trace.jsonl\n", gal, dir);
    else
        printf("    %s simulate %s --target %s --out DIR && %s trace DIR/org2/trace.jsonl\n", gal, o->data,
               o->target, gal);
}
