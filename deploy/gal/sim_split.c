/* sim_split: which rows are for training and for testing, and which columns are whose: by the seed, or by a
 * split file. */
#include "deploy/gal/sim.h"

#include "common/log.h"
#include "deploy/gal/client.h"

#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The order in which the seed deals n things; rows and columns have streams of their own. */
static void shuffle(size_t *order, size_t n, long seed, const char *stream)
{
    uint8_t key[randombytes_SEEDBYTES];
    uint64_t *draw = must_alloc(n, sizeof *draw);
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, sizeof key);
    for (int i = 0; i < 8; i++) {
        uint8_t byte = (uint8_t)((unsigned long)seed >> 8 * i & 0xff);
        crypto_generichash_update(&state, &byte, 1);
    }
    crypto_generichash_update(&state, (const uint8_t *)stream, strlen(stream));
    crypto_generichash_final(&state, key, sizeof key);
    randombytes_buf_deterministic(draw, n * sizeof *draw, key);
    for (size_t i = n; i-- > 1;) {
        size_t j = draw[i] % (i + 1), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
    free(draw);
}

bool sim_is_labelled(const struct sim_data *d, size_t row)
{
    return *table_text(d->table, row, d->target) != '\0';
}

static int by_number(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return x < y ? -1 : x > y;
}

int sim_deal_columns(struct sim_data *d, const struct sim_options *o)
{
    size_t *order = must_alloc(d->cols, sizeof *order), n = 0, orgs = (size_t)o->orgs;
    int result = -1;
    for (size_t j = 0; j < d->cols; j++)
        if (j != d->target && (int)j != d->id)
            order[n++] = j;
    if (n < orgs) {
        log_error("%s: %zu columns beside the target cannot be dealt to %zu organizations: fewer --orgs",
                  d->path, n, orgs);
        goto out;
    }
    shuffle(order, n, o->seed, "columns");
    d->orgs = orgs;
    d->features = must_alloc(orgs, sizeof *d->features);
    for (size_t m = 0; m < orgs; m++) {
        struct columns *c = &d->features[m];
        c->col = must_alloc(n / orgs + 1, sizeof *c->col);
        for (size_t j = m; j < n; j += orgs)
            c->col[c->n++] = order[j];
        qsort(c->col, c->n, sizeof *c->col, by_number);
    }
    result = 0;
out:
    free(order);
    return result;
}

/* A class whose last row would leave the training rows keeps it: nobody could learn it otherwise. */
int sim_deal_rows(struct sim_data *d, const struct sim_options *o, const size_t *class_of, size_t classes)
{
    size_t *order = must_alloc(d->rows, sizeof *order), *left = must_alloc(classes, sizeof *left), n = 0;
    for (size_t i = 0; i < d->rows; i++)
        if (sim_is_labelled(d, i)) {
            order[n++] = i;
            d->part[i] = PART_TRAIN;
            if (classes)
                left[class_of[i]]++;
        }
    shuffle(order, n, o->seed, "rows");
    size_t wanted = (size_t)lround(o->test_share * (double)n);
    for (size_t i = 0; i < n && d->test < wanted; i++) {
        if (classes && left[class_of[order[i]]] == 1)
            continue;
        if (classes)
            left[class_of[order[i]]]--;
        d->part[order[i]] = PART_TEST;
        d->test++;
    }
    d->train = n - d->test;
    free(order);
    free(left);
    return 0;
}

/* ---- a split file ---- */

/* A whole number in [0, limit), or −1 after a line that says where. */
static long index_of(const char *file, const char *where, size_t at, const json_t *value, size_t limit)
{
    json_int_t i = json_is_integer(value) ? json_integer_value(value) : -1;
    if (i >= 0 && (size_t)i < limit)
        return (long)i;
    log_error("%s: %s[%zu]: need a whole number from 0 to %zu", file, where, at, limit - 1);
    return -1;
}

static int read_rows(struct sim_data *d, const char *file, const json_t *root, const char *name,
                     enum part part)
{
    size_t at, *count = part == PART_TRAIN ? &d->train : &d->test;
    const json_t *list = json_object_get(root, name);
    json_t *value;
    if (!json_is_array(list)) {
        log_error("%s: need \"%s\": [row, …]", file, name);
        return -1;
    }
    json_array_foreach(list, at, value)
    {
        long row = index_of(file, name, at, value, d->rows);
        if (row < 0)
            return -1;
        if (d->part[row] != PART_NONE) {
            log_error("%s: %s[%zu]: row %ld is listed twice", file, name, at, row);
            return -1;
        }
        if (!sim_is_labelled(d, (size_t)row))
            continue;
        d->part[row] = (uint8_t)part;
        ++*count;
    }
    return 0;
}

static int read_columns(struct sim_data *d, const char *file, const json_t *list, size_t m, bool *taken)
{
    char where[40];
    size_t at;
    json_t *value;
    snprintf(where, sizeof where, "features[%zu]", m);
    if (!json_is_array(list) || !json_array_size(list)) {
        log_error("%s: %s: need [col, …] with at least one column", file, where);
        return -1;
    }
    struct columns *c = &d->features[m];
    c->col = must_alloc(json_array_size(list), sizeof *c->col);
    json_array_foreach(list, at, value)
    {
        long col = index_of(file, where, at, value, d->cols);
        if (col < 0)
            return -1;
        const char *bad = (size_t)col == d->target ? "is the target"
                          : (int)col == d->id      ? "is the id"
                          : taken[col]             ? "is listed twice"
                                                   : NULL;
        if (bad) {
            log_error("%s: %s[%zu]: column %ld (\"%s\") %s", file, where, at, col,
                      table_name(d->table, (size_t)col), bad);
            return -1;
        }
        taken[col] = true;
        c->col[c->n++] = (size_t)col;
    }
    return 0;
}

static int read_features(struct sim_data *d, const char *file, const json_t *list)
{
    d->orgs = json_array_size(list);
    if (!d->orgs || d->orgs > 1024) {
        log_error("%s: need \"features\": [[col, …], …], one list per organization", file);
        return -1;
    }
    bool *taken = must_alloc(d->cols, sizeof *taken);
    d->features = must_alloc(d->orgs, sizeof *d->features);
    int result = 0;
    for (size_t m = 0; m < d->orgs && !result; m++)
        result = read_columns(d, file, json_array_get(list, m), m, taken);
    free(taken);
    return result;
}

int sim_read_split(struct sim_data *d, const struct sim_options *o)
{
    json_error_t why;
    json_t *root = json_load_file(o->split, JSON_REJECT_DUPLICATES, &why);
    if (!root) {
        if (why.line > 0)
            log_error("%s:%d: %s", o->split, why.line, why.text);
        else
            log_error("%s", why.text);
        return -1;
    }
    int result = read_rows(d, o->split, root, "train", PART_TRAIN);
    if (!result)
        result = read_rows(d, o->split, root, "test", PART_TEST);
    if (!result)
        result = read_features(d, o->split, json_object_get(root, "features"));
    json_decref(root);
    return result;
}
