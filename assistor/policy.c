#include "assistor/policy.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char policy_schema[] = "CREATE TABLE rounds_used (sponsor TEXT PRIMARY KEY, rounds INTEGER NOT NULL);"
                             "CREATE TABLE rows_predicted (sponsor TEXT NOT NULL, day TEXT NOT NULL, rows "
                             "INTEGER NOT NULL, PRIMARY KEY (sponsor, day));";

/* The sponsor's own section counts where it has the key, else the general one. */
static const struct conf_item *rule(const struct policy *p, const char *key)
{
    const struct conf_item *own = conf_find(p->conf, "policy", p->sponsor, key);
    return own ? own : conf_find(p->conf, "policy", "", key);
}

static bool says(const struct policy *p, const char *key, const char *value)
{
    const struct conf_item *item = rule(p, key);
    return item && !strcmp(item->value, value);
}

static double limit(const struct policy *p, const char *key)
{
    const struct conf_item *item = rule(p, key);
    return item ? strtod(item->value, NULL) : INFINITY;
}

__attribute__((format(printf, 1, 2))) static const char *because(const char *format, ...)
{
    static char text[MSG_TEXT];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    return text;
}

static int64_t rounds_used(const struct policy *p, struct store *s)
{
    sqlite3_stmt *q = store_query(s, "SELECT rounds FROM rounds_used WHERE sponsor = ?", "t", p->key);
    int64_t n = q ? sqlite3_column_int64(q, 0) : 0;
    store_done(q);
    return n;
}

static int64_t rows_today(const struct policy *p, struct store *s)
{
    sqlite3_stmt *q = store_query(
        s, "SELECT rows FROM rows_predicted WHERE sponsor = ? AND day = date('now')", "t", p->key);
    int64_t n = q ? sqlite3_column_int64(q, 0) : 0;
    store_done(q);
    return n;
}

/* One of the names in a list like "risk, churn". */
static bool listed(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = list; *at; at += strcspn(at, ",")) {
        at += strspn(at, ", \t");
        size_t len = strcspn(at, ", \t");
        if (len == n && !strncmp(at, name, n))
            return true;
    }
    return false;
}

const char *policy_task(const struct policy *p, struct store *s, const struct msg *task, size_t d,
                        bool linear, bool again)
{
    if (!p->sponsor)
        return NULL;
    const struct conf_item *tasks = rule(p, "tasks");
    uint32_t T = task->u.task.rounds, K = task->u.task.outputs, n = task->u.task.fit_rows;
    if (tasks && !listed(tasks->value, task->u.task.name))
        return because("task \"%s\" is not among the tasks = that we agreed to", task->u.task.name);
    if (K > limit(p, "max_outputs"))
        return because("%u outputs, at most %.0f are agreed to (max_outputs)", K, limit(p, "max_outputs"));
    if (rule(p, "min_rows") && n < limit(p, "min_rows"))
        return because("%u rows to fit on, at least %.0f are needed (min_rows)", n, limit(p, "min_rows"));
    if (T > limit(p, "max_rounds"))
        return because("%u rounds, at most %.0f are agreed to (max_rounds)", T, limit(p, "max_rounds"));
    if (says(p, "require_loss", "yes") && !*task->u.task.loss)
        return because(
            "the loss is not declared: set declare_loss = yes in the sponsor's [task] (require_loss)");
    if (again)
        return NULL;
    int64_t used = rounds_used(p, s);
    if ((double)(used + T) > limit(p, "max_rounds_total"))
        return because("%u rounds after %ld before, at most %.0f in all are agreed to (max_rounds_total)", T,
                       (long)used, limit(p, "max_rounds_total"));
    if (linear && (size_t)used + T >= d && d && !says(p, "allow_reconstruction", "yes"))
        return because(
            "with a linear model %ld rounds can rebuild our %zu columns: fewer rounds, another model, or "
            "allow_reconstruction = yes here",
            (long)used + T, d);
    return NULL;
}

const char *policy_round(const struct policy *p, struct store *s)
{
    if (!p->sponsor)
        return NULL;
    int64_t used = rounds_used(p, s);
    if ((double)used + 1 > limit(p, "max_rounds_total"))
        return because("%ld rounds are used up (max_rounds_total)", (long)used);
    store_run(s, "INSERT INTO rounds_used VALUES (?, 1) ON CONFLICT DO UPDATE SET rounds = rounds + 1", "t",
              p->key);
    return NULL;
}

const char *policy_predict(const struct policy *p, struct store *s, size_t n)
{
    if (!p->sponsor)
        return NULL;
    int64_t used = rows_today(p, s);
    if ((double)used + (double)n > limit(p, "max_predictions_per_day"))
        return because(
            "%zu predictions after %ld today, at most %.0f a day are agreed to (max_predictions_per_day)", n,
            (long)used, limit(p, "max_predictions_per_day"));
    store_run(s,
              "INSERT INTO rows_predicted VALUES (?, date('now'), ?) ON CONFLICT DO UPDATE SET rows = rows + "
              "excluded.rows",
              "ti", p->key, (int64_t)n);
    return NULL;
}

void policy_round_answers(const struct policy *p, double *a, size_t n)
{
    if (!p->sponsor || !rule(p, "round_to"))
        return;
    double step = limit(p, "round_to");
    for (size_t i = 0; i < n; i++)
        a[i] = step * nearbyint(a[i] / step);
}

char *policy_status(const struct policy *p, struct store *s)
{
    static const char *const numbers[] = {
        "min_rows", "max_outputs", "max_rounds", "max_rounds_total", "max_predictions_per_day", "round_to"};
    static const char *const words[] = {"tasks", "require_loss", "allow_reconstruction"};
    char *json = NULL;
    size_t size;
    FILE *f = open_memstream(&json, &size);
    if (!f)
        return NULL;
    fprintf(f, "{\"sponsor\":\"%s\",\"rounds_used\":%ld,\"predicted_today\":%ld", p->sponsor,
            (long)rounds_used(p, s), (long)rows_today(p, s));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (rule(p, numbers[i]))
            fprintf(f, ",\"%s\":%.17g", numbers[i], limit(p, numbers[i]));
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (rule(p, words[i]))
            fprintf(f, ",\"%s\":\"%s\"", words[i], rule(p, words[i])->value);
    fputs("}", f);
    fclose(f);
    return json;
}
