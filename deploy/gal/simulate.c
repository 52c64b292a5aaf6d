/* simulate: a whole federation on this host: real daemons over CURVE on loopback, each with its slice of one
 * file. */
#include "deploy/gal/sim.h"

#include "common/log.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void interrupt(int number)
{
    (void)number;
    sim_interrupted = 1;
}

/* Without SA_RESTART: every wait ends, and the way out takes the daemons and the directory along. */
static void catch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = interrupt};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &action, NULL);
}

static bool is_empty(const char *path)
{
    DIR *dir = opendir(path);
    size_t entries = 0;
    if (!dir)
        return false;
    while (entries < 3 && readdir(dir)) /* . and .. */
        entries++;
    closedir(dir);
    return entries == 2;
}

/* The absolute path (free it) of a new or empty directory, or NULL after one line. */
static char *work_directory(const char *out)
{
    if (!out) {
        const char *tmp = getenv("TMPDIR");
        char *path = must_format("%s/gal-simulate.XXXXXX", tmp && *tmp ? tmp : "/tmp");
        if (mkdtemp(path)) {
            char *whole = realpath(path, NULL);
            free(path);
            return whole;
        }
        log_error("%s: %s", path, strerror(errno));
        free(path);
        return NULL;
    }
    if (mkdir(out, 0700) && errno != EEXIST) {
        log_error("%s: %s", out, strerror(errno));
        return NULL;
    }
    if (!is_empty(out)) {
        log_error("%s: is not an empty directory: --out needs a new one", out);
        return NULL;
    }
    return realpath(out, NULL);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st;
    (void)kind;
    (void)walk;
    return remove(path);
}

/* Joint holds every column that some organization holds, in the file's order. */
static struct columns all_columns(const struct sim_data *d)
{
    struct columns all = {must_alloc(d->cols, sizeof *all.col), 0};
    bool *used = must_alloc(d->cols, sizeof *used);
    for (size_t m = 0; m < d->orgs; m++)
        for (size_t j = 0; j < d->features[m].n; j++)
            used[d->features[m].col[j]] = true;
    for (size_t j = 0; j < d->cols; j++)
        if (used[j])
            all.col[all.n++] = j;
    free(used);
    return all;
}

static int run_baseline(const struct sim_options *o, const struct sim_data *d, const char *name,
                        const char *dir, const struct columns *features, json_t *runs)
{
    json_t *result = NULL;
    char *sub = must_format("%s/%s", dir, name);
    int status = mkdir(sub, 0700) ? GAL_FAILED : sim_run(o, d, name, sub, features, 1, &result);
    json_array_append_new(runs, result ? result : json_null());
    free(sub);
    return status;
}

static int run_all(const struct sim_options *o, const struct sim_data *d, const char *dir, json_t *runs)
{
    json_t *result = NULL;
    struct columns all = all_columns(d);
    int status = sim_run(o, d, "gal", dir, d->features, d->orgs, &result);
    json_array_append_new(runs, result);
    if (!status && o->alone)
        status = run_baseline(o, d, "alone", dir, &d->features[0], runs);
    if (!status && o->joint)
        status = run_baseline(o, d, "joint", dir, &all, runs);
    free(all.col);
    return status;
}

static int check_set(const struct sim_options *o, const struct sim_data *d)
{
    for (size_t i = 0; i < o->set.n; i++) {
        const char *bad = conf_set_check(o->set.word[i], (long)d->orgs);
        if (bad) {
            log_error("--set %s: %s", o->set.word[i], bad);
            return -1;
        }
    }
    return 0;
}

static int simulate(const struct sim_options *o, const struct sim_data *d)
{
    char *dir = work_directory(o->out);
    if (!dir)
        return GAL_USAGE;
    json_t *runs = json_array();
    catch_signals();
    if (d->orgs > 1)
        log_info("the organizations' policies say allow_reconstruction = yes, as this is a simulation");
    int status = run_all(o, d, dir, runs);
    if (!status && o->json)
        sim_report_json(o, d, runs);
    else if (!status)
        sim_report_text(o, d, runs, o->out ? o->out : dir);
    json_decref(runs);
    if (o->keep)
        log_info("kept: %s", dir);
    else
        nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(dir);
    return status;
}

static int run(const struct command *self, int argc, char **argv)
{
    struct sim_options o = sim_defaults;
    struct sim_data d = {0};
    struct words rest = {0};
    int status = GAL_USAGE;
    if (options_parse(self, argc, argv, &o, 1, 1, &rest) || sim_options_check(&o))
        goto out;
    o.data = rest.word[0];
    if (!sim_data_open(&d, &o) && !check_set(&o, &d))
        status = simulate(&o, &d);
out:
    sim_data_free(&d);
    words_free(&o.set);
    words_free(&rest);
    return status;
}

const struct command command_simulate = {
    .name = "simulate",
    .arguments = "DATA.csv --target COL [options]",
    .summary = "a whole federation on this host, from one file",
    .details = "One sponsor and M - 1 assistors run as real daemons and speak CURVE on loopback. --out DIR "
               "leaves DIR/sponsor,\n"
               "DIR/org2, … each with its configuration, key, data, log and trace.",
    .options = sim_option_rows,
    .n_options = 25,
    .run = run,
};
