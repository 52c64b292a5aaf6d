/* sim_options: the options of `gal simulate` and every complaint about them that needs no file. */
#include "deploy/gal/sim.h"

#include "common/log.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT(letter, name, value, help, member)                                                              \
    {                                                                                                        \
        OPTION_TEXT, letter, name, value, NULL, help, offsetof(struct sim_options, member)                   \
    }

const struct option_row sim_option_rows[] = {
    TEXT('t', "target", "COL", "the column to predict", target),
    TEXT(0, "task", "KIND", "regression, count, binary or multiclass (guessed)", task),
    TEXT(0, "loss", "NAME", "the overarching loss (by the task)", loss),
    TEXT('m', "orgs", "M", "organizations to deal the columns to (2)", orgs_text),
    TEXT(0, "split", "FILE.json", "rows and columns as the file says, instead of --orgs and --test", split),
    TEXT(0, "id", "COL", "the rows' names (their numbers)", id),
    TEXT(0, "model", "NAME,…", "local models, dealt to the organizations in blocks (linear)", model),
    TEXT('r', "rounds", "T", "assistance rounds (10)", rounds),
    TEXT(0, "solver", "NAME", "paper", solver),
    TEXT(0, "weights", "NAME", "assistance weights: exact or uniform (exact)", weights),
    TEXT(0, "rate", "R", "assisted learning rate: search or fixed:X (search)", rate),
    TEXT(0, "fit-on", "ROWS", "where weights and rate are fitted: auto or train (auto)", fit_on),
    TEXT(0, "validation", "SHARE", "rows for stopping: auto or a share (auto)", validation),
    TEXT(0, "test", "SHARE", "rows kept out and scored afterwards (0.2)", test),
    TEXT(0, "predict", "HOW", "sum or per-round (sum)", predict),
    TEXT(0, "dtype", "TYPE", "of numbers on the wire: f32 or f64 (f32)", dtype),
    TEXT(0, "lambda", "X", "ridge of linear models: a number or auto (0.001)", lambda),
    TEXT(0, "baselines", "LIST", "of alone,joint: run these too (none)", baselines),
    TEXT(0, "threads", "N", "of each daemon's mathematics (1)", threads),
    TEXT(0, "seed", "N", "deals rows and columns, and is the run's (0)", seed_text),
    {OPTION_LIST, 0, "set", "S.KEY=VALUE", NULL,
     "a line of the daemons' configuration: task.*, policy.*, model.*, link.*, …",
     offsetof(struct sim_options, set)},
    TEXT(0, "report", "FILE.html", "not built yet", report),
    TEXT('o', "out", "DIR", "work in this new directory and keep it", out),
    {OPTION_FLAG, 'k', "keep", NULL, NULL, "keep the working directory", offsetof(struct sim_options, keep)},
    {OPTION_FLAG, 0, "json", NULL, NULL, "one JSON document on standard output",
     offsetof(struct sim_options, json)},
};
const size_t sim_option_count = sizeof sim_option_rows / sizeof *sim_option_rows;

const struct sim_options sim_defaults = {
    .orgs_text = "2",
    .model = "linear",
    .rounds = "10",
    .solver = "paper",
    .weights = "exact",
    .rate = "search",
    .fit_on = "auto",
    .validation = "auto",
    .test = "0.2",
    .predict = "sum",
    .dtype = "f32",
    .lambda = "0.001",
    .threads = "1",
    .seed_text = "0",
};

static bool in_list(const char *list, const char *word, size_t n)
{
    for (const char *at = list; at && n; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (!strncmp(at, word, n) && (at[n] == '\0' || at[n] == '|'))
            return true;
    return false;
}

static int choose(const char *option, const char *word, size_t n, const char *built, const char *later)
{
    if (in_list(built, word, n))
        return 0;
    if (in_list(later, word, n))
        log_error("%s %.*s: not built yet: this version has %s", option, (int)n, word, built);
    else
        log_error("%s %.*s: need %s", option, (int)n, word, built);
    return -1;
}

/* Every word of a list joined by commas. */
static int choose_all(const char *option, const char *list, const char *built, const char *later)
{
    for (;; list++) {
        size_t n = strcspn(list, ",");
        if (choose(option, list, n, built, later))
            return -1;
        list += n;
        if (!*list)
            return 0;
    }
}

static int check_choices(const struct sim_options *o)
{
    const struct {
        const char *option, *word, *built, *later;
    } all[] = {
        {"--task", o->task, "regression|count|binary|multiclass", ""},
        {"--loss", o->loss, "squared|absolute|poisson|logistic|softmax", "huber|quantile"},
        {"--solver", o->solver, "paper", "corrective"},
        {"--weights", o->weights, "exact|uniform", "cone"},
        {"--fit-on", o->fit_on, "auto|train", "rotate|cross|held-out"},
        {"--predict", o->predict, "sum|per-round", "secure-sum"},
        {"--dtype", o->dtype, "f32|f64", "bf16|int8"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const char *word = all[i].word;
        size_t n = word ? strlen(word) : 0;
        if (word && !strncmp(word, "held-out:", 9))
            n = 8;
        if (word && choose(all[i].option, word, n, all[i].built, all[i].later))
            return -1;
    }
    if (choose_all("--model", o->model, "linear", "gb|svm|mlp|exec"))
        return -1;
    return o->baselines ? choose_all("--baselines", o->baselines, "alone|joint", "late|al|interm") : 0;
}

static int check_numbers(struct sim_options *o)
{
    long ignored;
    double x;
    if (parse_long("--orgs", o->orgs_text, 1, 1024, &o->orgs) ||
        parse_long("--rounds", o->rounds, 1, 4096, &ignored) ||
        parse_long("--threads", o->threads, 1, 1024, &ignored) ||
        parse_long("--seed", o->seed_text, 0, 9007199254740991, &o->seed) ||
        parse_real("--test", o->test, 0, 0.99, &o->test_share))
        return -1;
    if (strcmp(o->validation, "auto") && parse_real("--validation", o->validation, 0, 0.5, &x))
        return -1;
    if (strcmp(o->lambda, "auto") && parse_real("--lambda", o->lambda, 0, HUGE_VAL, &x))
        return -1;
    if (!strcmp(o->rate, "search"))
        return 0;
    if (strncmp(o->rate, "fixed:", 6)) {
        log_error("--rate %s: need search or fixed:X", o->rate);
        return -1;
    }
    return parse_real("--rate fixed:", o->rate + 6, 1e-300, HUGE_VAL, &x);
}

int sim_options_check(struct sim_options *o)
{
    if (!o->target) {
        log_error("simulate: --target COL is missing: the column to predict");
        return -1;
    }
    if (o->report) {
        log_error("--report: not built yet: use --json");
        return -1;
    }
    if (check_choices(o) || check_numbers(o))
        return -1;
    o->alone = o->baselines && strstr(o->baselines, "alone");
    o->joint = o->baselines && strstr(o->baselines, "joint");
    o->keep |= o->out != NULL;
    return 0;
}
