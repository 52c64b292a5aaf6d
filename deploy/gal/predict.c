/* predict: asks a running sponsor for the predictions of named rows, and scores them where the truth is at
 * hand. */
#include "deploy/gal/client.h"
#include "deploy/gal/gal.h"

#include "common/log.h"
#include "common/table.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct predict {
    struct where where;
    const char *out, *truth, *id, *run;
    bool json;
};

static const struct option_row options[] = {
    WHERE_OPTIONS(predict),
    {OPTION_TEXT, 'o', "out", "OUT.csv", NULL, "write the predictions there", offsetof(struct predict, out)},
    {OPTION_MAYBE, 0, "truth", "COL", "target", "score them against a column of the file (target)",
     offsetof(struct predict, truth)},
    {OPTION_TEXT, 0, "id", "COL", NULL, "the column that names the rows (id)", offsetof(struct predict, id)},
    {OPTION_TEXT, 0, "run", "RUN", NULL, "of which run (the last)", offsetof(struct predict, run)},
    {OPTION_FLAG, 0, "json", NULL, NULL, "the daemon's answer as one JSON document",
     offsetof(struct predict, json)},
};

static json_t *column_of(struct table *t, const char *path, const char *name)
{
    int col = table_find(t, name);
    if (col < 0) {
        log_error("%s: no column \"%s\"", path, name);
        return NULL;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < table_rows(t); i++) {
        const char *text = table_text(t, i, (size_t)col);
        if (!*text || json_array_append_new(list, json_string(text))) {
            log_error("%s:%zu: column \"%s\" %s", path, table_line(t, i), name,
                      *text ? "is not UTF-8" : "is empty");
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* ---- scores to what a reader calls a prediction: F itself, exp F, or the classes' probabilities ---- */

enum kind { REGRESSION, COUNT, CLASSES };

static enum kind kind_of(const json_t *answer)
{
    const char *task = member_text(answer, "task_kind", "");
    if (!strcmp(task, "count"))
        return COUNT;
    return strcmp(task, "regression") ? CLASSES : REGRESSION;
}

/* C probabilities from K scores (one score: of the second of two classes). Returns the likeliest class. */
static size_t probabilities(const json_t *scores, size_t classes, double *p)
{
    double top = -INFINITY, sum = 0;
    size_t best = 0, outputs = json_array_size(scores);
    for (size_t k = 0; k < classes; k++) {
        p[k] = outputs == 1 ? (k ? json_number_value(json_array_get(scores, 0)) : 0)
                            : json_number_value(json_array_get(scores, k));
        if (p[k] > top) {
            top = p[k];
            best = k;
        }
    }
    for (size_t k = 0; k < classes; k++)
        sum += p[k] = exp(p[k] - top);
    for (size_t k = 0; k < classes; k++)
        p[k] /= sum;
    return best;
}

static void put_text(FILE *out, const char *text)
{
    if (!strpbrk(text, ",\"\n\r;\t")) {
        fputs(text, out);
        return;
    }
    putc('"', out);
    for (; *text; text++)
        fprintf(out, *text == '"' ? "\"\"" : "%c", *text);
    putc('"', out);
}

static void write_header(FILE *out, enum kind kind, const json_t *classes)
{
    size_t k;
    json_t *class;
    fputs(kind == COUNT ? "id,expected" : kind == REGRESSION ? "id,score" : "id", out);
    if (kind == CLASSES) {
        json_array_foreach(classes, k, class)
        {
            char *name = must_format("p_%s", json_string_value(class));
            putc(',', out);
            put_text(out, name);
            free(name);
        }
        fputs(",class", out);
    }
    putc('\n', out);
}

static void write_rows(FILE *out, const json_t *answer, const json_t *ids)
{
    enum kind kind = kind_of(answer);
    const json_t *classes = json_object_get(answer, "classes");
    size_t i, C = json_array_size(classes);
    json_t *row;
    double *p = must_alloc(C, sizeof *p);
    write_header(out, kind, classes);
    json_array_foreach(json_object_get(answer, "scores"), i, row)
    {
        double score = json_number_value(json_array_get(row, 0));
        put_text(out, json_string_value(json_array_get(ids, i)));
        if (kind != CLASSES)
            fprintf(out, ",%.10g", kind == COUNT ? exp(score) : score);
        else {
            size_t best = probabilities(row, C, p);
            for (size_t k = 0; k < C; k++)
                fprintf(out, ",%.6g", p[k]);
            putc(',', out);
            put_text(out, json_string_value(json_array_get(classes, best)));
        }
        putc('\n', out);
    }
    free(p);
}

/* By a neighbour that is renamed, so that a failure leaves what was there. */
static int write_file(const char *path, const json_t *answer, const json_t *ids)
{
    char *temporary = must_format("%s.part", path);
    FILE *out = fopen(temporary, "we");
    int result = -1;
    if (!out)
        goto out;
    write_rows(out, answer, ids);
    bool bad = fflush(out) || ferror(out) || fsync(fileno(out));
    if (!fclose(out) && !bad && !rename(temporary, path))
        result = 0;
out:
    if (result) {
        log_error("%s: %s", path, strerror(errno));
        unlink(temporary);
    }
    free(temporary);
    return result;
}

static const char *check_answer(const json_t *answer, size_t rows)
{
    size_t i, k, outputs = json_array_size(json_array_get(json_object_get(answer, "scores"), 0));
    size_t classes = json_array_size(json_object_get(answer, "classes"));
    json_t *row, *value;
    if (json_array_size(json_object_get(answer, "scores")) != rows)
        return "the daemon answered another number of rows";
    json_array_foreach(json_object_get(answer, "scores"), i, row)
    {
        if (!outputs || json_array_size(row) != outputs)
            return "the daemon's rows differ in length";
        json_array_foreach(row, k, value)
        {
            if (!json_is_number(value))
                return "the daemon's scores are not numbers";
        }
    }
    json_array_foreach(json_object_get(answer, "classes"), k, value)
    {
        if (!json_is_string(value))
            return "the daemon's classes are not texts";
    }
    if (kind_of(answer) == CLASSES && classes != outputs && (classes != 2 || outputs != 1))
        return "the daemon's scores and classes do not match";
    return NULL;
}

static void show_metrics(json_t *metrics)
{
    const char *name;
    json_t *value;
    json_object_foreach(metrics, name, value)
        printf("%-10s %.6g\n", name, json_is_number(value) ? json_number_value(value) : NAN);
}

static int show(const struct predict *o, json_t *answer, json_t *ids)
{
    const char *bad = check_answer(answer, json_array_size(ids));
    if (bad) {
        log_error("%s", bad);
        return GAL_FAILED;
    }
    if (o->out && write_file(o->out, answer, ids))
        return GAL_FAILED;
    if (o->json) {
        json_object_set(answer, "ids", ids);
        json_dumpf(answer, stdout, JSON_COMPACT);
        putchar('\n');
        return GAL_DONE;
    }
    if (!o->out && !o->truth)
        write_rows(stdout, answer, ids);
    show_metrics(json_object_get(answer, "metrics"));
    return GAL_DONE;
}

/* The request, and its ids in *ids; NULL after one line. */
static json_t *make_request(const struct predict *o, const char *path, json_t **ids)
{
    char error[512];
    json_t *request = NULL, *truth = NULL;
    struct table *t = table_open(path, error, sizeof error);
    if (!t) {
        log_error("%s", error);
        return NULL;
    }
    *ids = column_of(t, path, o->id);
    if (*ids && o->truth)
        truth = column_of(t, path, o->truth);
    if (*ids && (truth || !o->truth))
        request =
            json_pack("{s:s, s:O, s:o*, s:s*}", "cmd", "predict", "ids", *ids, "truth", truth, "run", o->run);
    table_free(t);
    return request;
}

static int run(const struct command *self, int argc, char **argv)
{
    struct predict o = {.id = "id"};
    struct words rest = {0};
    json_t *ids = NULL, *answer = NULL;
    char *state = NULL, error[512];
    int status = GAL_USAGE;
    if (options_parse(self, argc, argv, &o, 1, 1, &rest))
        goto out;
    state = where_state(&o.where);
    json_t *request = state ? make_request(&o, rest.word[0], &ids) : NULL;
    if (!request)
        goto out;
    answer = client_ask(state, request, -1, error, sizeof error);
    if (answer)
        status = show(&o, answer, ids);
    else {
        log_error("%s", error);
        status = GAL_FAILED;
    }
out:
    json_decref(answer);
    json_decref(ids);
    free(state);
    words_free(&rest);
    return status;
}

const struct command command_predict = {
    .name = "predict",
    .arguments = "IDS.csv -c CONFIG | --state DIR [-o OUT.csv] [--truth[=COL]] [--json]",
    .summary = "predict rows with a running sponsor",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .run = run,
};
