#include "sponsor/labels.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/table.h"

static void *need(void *p)
{
    if (!p)
        log_die(1, "out of memory");
    return p;
}

static bool number(const char *text, double *x)
{
    char *end;
    *x = strtod(text, &end);
    return end != text && *end == 0 && isfinite(*x);
}

/* ---- ids ---- */

static int compare_ids(const void *a, const void *b, void *labels)
{
    const struct labels *l = labels;
    return strcmp(l->id[*(const uint32_t *)a], l->id[*(const uint32_t *)b]);
}

static int index_ids(struct labels *l, const char *path, char *error, size_t size)
{
    l->by_id = need(calloc(l->common + 1u, sizeof *l->by_id));
    for (uint32_t i = 0; i < l->common; i++)
        l->by_id[i] = i;
    qsort_r(l->by_id, l->common, sizeof *l->by_id, compare_ids, l);
    for (uint32_t i = 1; i < l->common; i++)
        if (!strcmp(l->id[l->by_id[i]], l->id[l->by_id[i - 1]])) {
            snprintf(error, size, "%s: id \"%s\" stands in rows %u and %u: ids must be unique", path,
                     l->id[l->by_id[i]], l->by_id[i - 1] + 1, l->by_id[i] + 1);
            return -1;
        }
    return 0;
}

int64_t labels_find(const struct labels *l, const char *id)
{
    size_t lo = 0, hi = l->by_id ? l->common : 0;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int order = strcmp(id, l->id[l->by_id[mid]]);
        if (order == 0)
            return l->by_id[mid];
        *(order < 0 ? &hi : &lo) = order < 0 ? mid : mid + 1;
    }
    return -1;
}

/* A copy of a column's cells, so that the table can go. */
static int keep_ids(struct labels *l, struct table *t, const char *path, const char *column, char *error,
                    size_t size)
{
    int col = table_find(t, column);
    if (col < 0) {
        snprintf(error, size, "%s: no column \"%s\" (the id)", path, column);
        return -1;
    }
    size_t used = 0;
    for (uint32_t i = 0; i < l->common; i++) {
        size_t n = strlen(need((char *)(uintptr_t)table_text(t, i, (size_t)col)));
        if (n == 0 || n > 256) {
            snprintf(error, size, "%s:%zu: an id must have 1 to 256 bytes", path, table_line(t, i));
            return -1;
        }
        used += n + 1;
    }
    char *at = l->id_text = need(malloc(used + 1));
    l->id = need(calloc(l->common + 1u, sizeof *l->id));
    for (uint32_t i = 0; i < l->common; i++) {
        l->id[i] = at;
        at = stpcpy(at, table_text(t, i, (size_t)col)) + 1;
    }
    return index_ids(l, path, error, size);
}

/* ---- classes ---- */

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int compare_number(const void *a, const void *b)
{
    double x, y;
    number(*(char *const *)a, &x);
    number(*(char *const *)b, &y);
    return (x > y) - (x < y);
}

static int find_classes(struct labels *l, struct table *t, size_t col, char *error, size_t size)
{
    enum { LIMIT = 1000 };
    size_t n = table_rows(t);
    bool numbers = true;
    double x;
    for (size_t i = 0; i < n; i++) {
        const char *text = need((char *)(uintptr_t)table_text(t, i, col));
        size_t j = 0;
        while (j < l->n_classes && strcmp(l->class_name[j], text))
            j++;
        if (j < l->n_classes || !*text)
            continue;
        if (j == LIMIT) {
            snprintf(error, size, "more than %d classes: is the task a regression?", LIMIT);
            return -1;
        }
        l->class_name = need(reallocarray(l->class_name, j + 1, sizeof *l->class_name));
        l->class_name[l->n_classes++] = need(strdup(text));
        numbers &= number(text, &x);
    }
    qsort(l->class_name, l->n_classes, sizeof *l->class_name, numbers ? compare_number : compare_text);
    if (l->n_classes < 2 || (l->kind == TASK_BINARY && l->n_classes != 2)) {
        snprintf(error, size, "the target has %zu classes%s%s, the task needs %s", l->n_classes,
                 l->n_classes == 1 ? ", all " : "", l->n_classes == 1 ? l->class_name[0] : "",
                 l->kind == TASK_BINARY ? "2" : "at least 2");
        return -1;
    }
    return 0;
}

bool labels_value(const struct labels *l, const char *text, double *y)
{
    double x, z;
    bool numeric = number(text, &x);
    if (!l->class_name)
        return numeric && (*y = x, l->kind != TASK_COUNT || x >= 0);
    for (size_t j = 0; j < l->n_classes; j++)
        if (!strcmp(l->class_name[j], text) || (numeric && number(l->class_name[j], &z) && z == x)) {
            *y = (double)j;
            return true;
        }
    return false;
}

uint32_t labels_outputs(const struct labels *l)
{
    return l->kind == TASK_MULTICLASS ? (uint32_t)l->n_classes : 1;
}

/* ---- joining ---- */

struct pair {
    uint32_t row, label;
};

static int compare_pairs(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    return (x->row > y->row) - (x->row < y->row);
}

/* Which common row each label belongs to. */
static int join(struct labels *l, struct table *t, const char *path, const char *id, struct pair *pair,
                char *error, size_t size)
{
    int col = id ? table_find(t, id) : -1;
    if (id && col < 0) {
        snprintf(error, size, "%s: no column \"%s\" (the id)", path, id);
        return -1;
    }
    for (uint32_t i = 0; i < l->n; i++) {
        const char *text = id ? table_text(t, i, (size_t)col) : NULL;
        int64_t row = id && l->id ? labels_find(l, text) : (int64_t)i;
        if (row < 0) {
            snprintf(error, size, "%s:%zu: id \"%s\" is not in [data]", path, table_line(t, i), text);
            return -1;
        }
        pair[i] = (struct pair){(uint32_t)row, i};
    }
    qsort(pair, l->n, sizeof *pair, compare_pairs);
    for (size_t i = 1; i < l->n; i++)
        if (pair[i].row == pair[i - 1].row) {
            snprintf(error, size, "%s:%zu: the same id as on line %zu: one label per row", path,
                     table_line(t, pair[i].label), table_line(t, pair[i - 1].label));
            return -1;
        }
    return 0;
}

static int fill(struct labels *l, struct table *t, const char *path, size_t target, const struct pair *pair,
                char *error, size_t size)
{
    l->y = need(calloc(l->n + 1, sizeof *l->y));
    l->row = need(calloc(l->n + 1, sizeof *l->row));
    for (size_t i = 0; i < l->n; i++) {
        const char *text = need((char *)(uintptr_t)table_text(t, pair[i].label, target));
        l->row[i] = pair[i].row;
        if (!labels_value(l, text, &l->y[i])) {
            snprintf(error, size, "%s:%zu: the target is \"%s\": expected %s", path,
                     table_line(t, pair[i].label), text,
                     l->class_name           ? "a class"
                     : l->kind == TASK_COUNT ? "a count, 0 or more"
                                             : "a number");
            return -1;
        }
    }
    return 0;
}

static int read_labels(struct labels *l, const struct conf *c, struct table *t, char *error, size_t size)
{
    const char *path = conf_text(c, "labels", "", "path", ""),
               *name = conf_text(c, "labels", "", "target", "");
    const char *id = conf_text(c, "labels", "", "id", NULL);
    char why[256];
    int target = table_find(t, name);
    struct pair *pair = NULL;
    int bad = -1;
    l->n = table_rows(t);
    if (target < 0)
        snprintf(error, size, "%s: no column \"%s\" (the target)", path, name);
    else if (l->n < 2)
        snprintf(error, size, "%s: %zu labelled rows: at least 2 are needed", path, l->n);
    else if (!(id && l->id) && l->n != l->common)
        snprintf(error, size,
                 "%s: %zu labels for %u rows of [data]: name an id column in [labels] and [data]", path, l->n,
                 l->common);
    else if (l->kind != TASK_REGRESSION && l->kind != TASK_COUNT &&
             find_classes(l, t, (size_t)target, why, sizeof why) < 0)
        snprintf(error, size, "%s: %s", path, why);
    else {
        pair = need(calloc(l->n, sizeof *pair));
        bad = join(l, t, path, id, pair, error, size) < 0 ||
                      fill(l, t, path, (size_t)target, pair, error, size) < 0
                  ? -1
                  : 0;
    }
    free(pair);
    return bad;
}

int labels_read(const struct conf *c, enum task_kind kind, struct labels *l, char *error, size_t size)
{
    const char *labels = conf_text(c, "labels", "", "path", ""),
               *data = conf_text(c, "data", "", "path", NULL);
    const char *id = data ? conf_text(c, "data", "", "id", NULL) : conf_text(c, "labels", "", "id", NULL);
    int bad = -1;
    *l = (struct labels){.kind = kind};
    *error = 0;
    struct table *t = table_open_words(data ? data : labels, error, size);
    if (t && table_rows(t) > INT32_MAX)
        snprintf(error, size, "%s: more than %d rows", data ? data : labels, INT32_MAX);
    if (!t || *error)
        goto out;
    l->common = (uint32_t)table_rows(t);
    if (id && keep_ids(l, t, data ? data : labels, id, error, size) < 0)
        goto out;
    if (data && strcmp(data, labels)) {
        table_free(t);
        t = table_open_words(labels, error, size);
    }
    bad = t ? read_labels(l, c, t, error, size) : -1;
out:
    table_free(t);
    if (bad)
        labels_free(l);
    return bad;
}

void labels_free(struct labels *l)
{
    for (size_t i = 0; i < l->n_classes; i++)
        free(l->class_name[i]);
    free(l->class_name);
    free(l->y);
    free(l->row);
    free(l->id);
    free(l->id_text);
    free(l->by_id);
    *l = (struct labels){0};
}
