/* sim_data: reads the file of a simulation, finds out what the task is, and checks what would confuse the
 * daemons. */
#include "deploy/gal/sim.h"

#include "common/log.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUESS_CLASSES 20 /* more distinct integers than that are taken for amounts */
#define CLASSES_MAX   1000

struct classes {
    size_t *of; /* of each labelled row: its class, from 0 */
    size_t n;
};

static int find_column(const struct sim_data *d, const char *option, const char *name)
{
    int col = table_find(d->table, name);
    if (col >= 0)
        return col;
    char names[400] = "";
    for (size_t j = 0; j < d->cols && strlen(names) < 200; j++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%.60s", j ? ", " : "",
                 table_name(d->table, j));
    log_error("%s: no column \"%s\" for %s; there are: %s%s", d->path, name, option, names,
              strlen(names) >= 200 ? ", …" : "");
    return -1;
}

struct compare {
    const struct sim_data *d;
    size_t col;
    const double *number; /* or NULL: by text */
};

static int by_cell(const void *a, const void *b, void *arg)
{
    const struct compare *c = arg;
    size_t i = *(const size_t *)a, j = *(const size_t *)b;
    if (c->number)
        return c->number[i] < c->number[j] ? -1 : c->number[i] > c->number[j];
    return strcmp(table_text(c->d->table, i, c->col), table_text(c->d->table, j, c->col));
}

static struct classes classify(const struct sim_data *d, const double *number)
{
    struct compare c = {d, d->target, number};
    struct classes result = {must_alloc(d->rows, sizeof *result.of), 0};
    size_t *order = must_alloc(d->rows, sizeof *order), n = 0;
    for (size_t i = 0; i < d->rows; i++)
        if (sim_is_labelled(d, i))
            order[n++] = i;
    qsort_r(order, n, sizeof *order, by_cell, &c);
    for (size_t i = 0; i < n; i++) {
        result.n += i == 0 || by_cell(&order[i - 1], &order[i], &c);
        result.of[order[i]] = result.n - 1;
    }
    free(order);
    return result;
}

static bool all_whole(const struct sim_data *d, const double *number)
{
    for (size_t i = 0; i < d->rows; i++)
        if (!isnan(number[i]) && number[i] != floor(number[i]))
            return false;
    return true;
}

/* The task that was asked for must fit the labels; where none was, text or few whole numbers are classes. */
static int settle_task(struct sim_data *d, const char *asked, size_t classes, bool numeric)
{
    bool classes_guessed = !asked && (!numeric || (classes && classes <= GUESS_CLASSES));
    const char *column = table_name(d->table, d->target);
    d->task = asked ? asked : !classes_guessed ? "regression" : classes == 2 ? "binary" : "multiclass";
    bool by_class = !strcmp(d->task, "binary") || !strcmp(d->task, "multiclass");
    const char *bad = NULL;
    if (!by_class && !numeric)
        bad = "has cells that are not numbers: need --task binary or multiclass";
    else if (by_class && classes < 2)
        bad = "has one value only: there is nothing to learn";
    else if (!strcmp(d->task, "binary") && classes != 2)
        bad = "has more than two values: need --task multiclass";
    else if (by_class && classes > CLASSES_MAX)
        bad = "has more than 1000 values: too many for classes";
    if (bad)
        log_error("%s: column \"%s\" %s", d->path, column, bad);
    else if (classes_guessed)
        log_info("\"%s\" has %zu distinct %s: a %s task (--task overrides)", column, classes,
                 numeric ? "whole numbers" : "texts", d->task);
    else if (!asked)
        log_info("\"%s\" holds numbers: a regression task (--task overrides)", column);
    return bad ? -1 : 0;
}

static int check_ids(const struct sim_data *d)
{
    if (d->id < 0)
        return 0;
    struct compare c = {d, (size_t)d->id, NULL};
    size_t *order = must_alloc(d->rows, sizeof *order);
    int result = 0;
    for (size_t i = 0; i < d->rows; i++)
        order[i] = i;
    qsort_r(order, d->rows, sizeof *order, by_cell, &c);
    for (size_t i = 0; i < d->rows && !result; i++) {
        const char *id = table_text(d->table, order[i], (size_t)d->id);
        size_t line = table_line(d->table, order[i]);
        if (!*id)
            log_error("%s:%zu: no id in column \"%s\"", d->path, line, table_name(d->table, (size_t)d->id));
        else if (i && !by_cell(&order[i - 1], &order[i], &c))
            log_error("%s:%zu: id \"%.80s\" is there already in line %zu", d->path, line, id,
                      table_line(d->table, order[i - 1]));
        else
            continue;
        result = -1;
    }
    free(order);
    return result;
}

/* The files that simulate writes have a column "id", and the sponsor leaves a column "target" out of its
 * features. */
static int check_names(const struct sim_data *d)
{
    for (size_t m = 0; m < d->orgs; m++)
        for (size_t j = 0; j < d->features[m].n; j++) {
            const char *name = table_name(d->table, d->features[m].col[j]);
            if (!strcmp(name, "id")) {
                log_error(
                    "%s: column \"id\" cannot be a feature: rows are named by it: pass --id id, or rename it",
                    d->path);
                return -1;
            }
            if (!strcmp(name, "target")) {
                log_error("%s: column \"target\" cannot be a feature when --target is \"%s\": rename it",
                          d->path, table_name(d->table, d->target));
                return -1;
            }
        }
    return 0;
}

static int open_columns(struct sim_data *d, const struct sim_options *o)
{
    char error[512];
    d->path = o->data;
    d->id = -1;
    d->table = table_open(o->data, error, sizeof error);
    if (!d->table) {
        log_error("%s", error);
        return -1;
    }
    d->rows = table_rows(d->table);
    d->cols = table_cols(d->table);
    int target = find_column(d, "--target", o->target);
    if (target < 0 || (o->id && (d->id = find_column(d, "--id", o->id)) < 0))
        return -1;
    d->target = (size_t)target;
    if (d->id == target) {
        log_error("--id and --target are the same column \"%s\"", o->id);
        return -1;
    }
    d->part = must_alloc(d->rows, 1);
    return 0;
}

static int check_parts(const struct sim_data *d)
{
    size_t unlabelled = 0;
    for (size_t i = 0; i < d->rows; i++)
        unlabelled += !sim_is_labelled(d, i);
    if (unlabelled)
        log_info("%zu rows without a value of \"%s\" are left out", unlabelled,
                 table_name(d->table, d->target));
    if (d->train >= 2)
        return 0;
    log_error("%s: %zu rows to train on: need 2 at least", d->path, d->train);
    return -1;
}

int sim_data_open(struct sim_data *d, const struct sim_options *o)
{
    struct classes classes = {NULL, 0};
    *d = (struct sim_data){0};
    if (open_columns(d, o) || check_ids(d))
        return -1;
    char error[512];
    bool numeric = table_numeric(d->table, d->target);
    const double *number = numeric ? table_numbers(d->table, d->target, error, sizeof error) : NULL;
    if (numeric && !number) {
        log_error("%s", error);
        return -1;
    }
    bool amounts = o->task && (!strcmp(o->task, "regression") || !strcmp(o->task, "count"));
    if (!amounts && (!numeric || all_whole(d, number) || o->task))
        classes = classify(d, number);
    int result = settle_task(d, o->task, classes.n, numeric);
    bool by_class = !result && (!strcmp(d->task, "binary") || !strcmp(d->task, "multiclass"));
    if (!result && o->split)
        result = sim_read_split(d, o);
    else if (!result)
        result = sim_deal_columns(d, o) || sim_deal_rows(d, o, classes.of, by_class ? classes.n : 0) ? -1 : 0;
    free(classes.of);
    if (!result && (check_parts(d) || check_names(d)))
        result = -1;
    return result;
}

void sim_data_free(struct sim_data *d)
{
    for (size_t m = 0; d->features && m < d->orgs; m++)
        free(d->features[m].col);
    free(d->features);
    free(d->part);
    table_free(d->table);
    *d = (struct sim_data){0};
}
