/* features: from an organization's table to the matrix its model sees. Holds private data and names of
 * private columns: they go into this organization's own error lines and store, nowhere else. What is learned
 * here comes from FIT rows alone. */
#include "assistor/features.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"

#define CATEGORIES 32 /* the most that get a column of their own */
#define BLOCK                                                                                                \
    256 /* rows of X written at a time: X stays in the cache while its columns are filled one by one */

static const uint8_t magic[8] = "GALfea\0\1"; /* the last byte is the version */

enum kind { NUMBER = 1, TEXT = 2 };

struct source {
    char *name;
    enum kind kind;
    double mean, deviation; /* NUMBER */
    uint32_t n;             /* TEXT: categories, the most frequent first: one column each */
    bool pooled;            /* TEXT: and one for all others */
    char **categories;
};

struct features {
    size_t n, width;
    struct source *sources;
};

struct count {
    const char *text;
    size_t n;
};

__attribute__((format(printf, 3, 4))) static void *fail(char *error, size_t size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (size)
        vsnprintf(error, size, format, args);
    va_end(args);
    for (char *p = error; size && *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    return NULL;
}

static void *no_memory(char *error, size_t size)
{
    return fail(error, size, "not enough memory to prepare the features");
}

static size_t width(const struct source *s)
{
    return s->kind == NUMBER ? 1 : s->n + s->pooled;
}

static void source_free(struct source *s)
{
    for (uint32_t i = 0; s->categories && i < s->n; i++)
        free(s->categories[i]);
    free(s->categories);
    free(s->name);
}

static size_t change(char a, char b)
{
    return a == b ? 0 : tolower((unsigned char)a) == tolower((unsigned char)b) ? 1 : 2;
}

/* Twice Levenshtein's distance of the first 63 bytes, another case being half a change. */
static size_t distance(const char *a, const char *b)
{
    size_t n = strnlen(a, 63), m = strnlen(b, 63), row[64];

    for (size_t j = 0; j <= m; j++)
        row[j] = 2 * j;
    for (size_t i = 1; i <= n; i++) {
        size_t corner = row[0];
        row[0] = 2 * i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = corner + change(a[i - 1], b[j - 1]);
            corner = row[j];
            if (row[j] + 2 < best)
                best = row[j] + 2;
            if (row[j - 1] + 2 < best)
                best = row[j - 1] + 2;
            row[j] = best;
        }
    }
    return row[m];
}

static const char *nearest(const struct table *t, const char *name)
{
    const char *best = table_name(t, 0);

    for (size_t j = 1; j < table_cols(t); j++)
        if (distance(name, table_name(t, j)) < distance(name, best))
            best = table_name(t, j);
    return best;
}

/* Sets used[column] for each name of the list; −1 with an error line if one is not in the table. */
static int mark(const struct table *t, const char *list, bool value, bool *used, char *error, size_t size)
{
    char *copy = strdup(list), *rest = copy, *name;
    int status = -1;

    if (!copy) {
        no_memory(error, size);
        return -1;
    }
    while ((name = strsep(&rest, ","))) {
        name += strspn(name, " \t");
        size_t n = strlen(name);
        while (n && (name[n - 1] == ' ' || name[n - 1] == '\t'))
            name[--n] = '\0';
        if (!n)
            continue;
        int col = table_find(t, name);
        if (col < 0) {
            fail(error, size, "no column \"%.60s\"; the nearest is \"%.60s\"", name, nearest(t, name));
            goto out;
        }
        used[col] = value;
    }
    status = 0;
out:
    free(copy);
    return status;
}

static bool nothing(const char *list)
{
    return !list || !list[strspn(list, " \t,")];
}

/* Mean and population deviation, missing cells counting as the mean; 0, or 1 if the column is constant or
 * empty. In units of the largest value, so that squares stay finite, and the mean in two passes, so that a
 * large one loses no digits. */
static int moments(const double *x, const uint32_t *rows, size_t n, struct source *s)
{
    double low = INFINITY, high = -INFINITY, sum = 0, squares = 0;
    size_t present = 0;

    for (size_t i = 0; i < n; i++) {
        low = fmin(low, x[rows[i]]);
        high = fmax(high, x[rows[i]]);
        present += isnan(x[rows[i]]) ? 0 : 1;
    }
    if (!(low < high))
        return 1;
    double unit = fmax(fabs(low), fabs(high)), mean = 0;
    for (int pass = 0; pass < 2; pass++, mean += sum / (double)present, sum = 0)
        for (size_t i = 0; i < n; i++)
            if (!isnan(x[rows[i]]))
                sum += x[rows[i]] / unit - mean;
    for (size_t i = 0; i < n; i++)
        if (!isnan(x[rows[i]]))
            squares += (x[rows[i]] / unit - mean) * (x[rows[i]] / unit - mean);
    s->mean = mean * unit;
    s->deviation = sqrt(squares / (double)n) * unit;
    return !(s->deviation > 0);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The most frequent first, of equal ones the first by its bytes: the same rows in any order give the same
 * columns. */
static int by_count(const void *a, const void *b)
{
    const struct count *x = a, *y = b;

    if (x->n != y->n)
        return x->n < y->n ? 1 : -1;
    return strcmp(x->text, y->text);
}

/* Sorted texts[0…n) to their distinct ones with counts, by_count; returns how many. `counts` has room for n.
 */
static size_t count_texts(const char **texts, size_t n, struct count *counts)
{
    size_t distinct = 0;

    qsort(texts, n, sizeof *texts, by_text);
    for (size_t i = 0; i < n; i++) {
        if (!i || strcmp(texts[i], texts[i - 1]))
            counts[distinct++] = (struct count){.text = texts[i]};
        counts[distinct - 1].n++;
    }
    qsort(counts, distinct, sizeof *counts, by_count);
    return distinct;
}

/* 0, 1 if the column is constant or empty, −1 for lack of memory. */
static int learn_categories(struct table *t, size_t col, const uint32_t *rows, size_t n, struct source *s)
{
    const char **texts = calloc(n + 1, sizeof *texts);
    struct count *counts = calloc(n + 1, sizeof *counts);
    size_t present = 0, distinct;
    int status = -1;

    if (!texts || !counts)
        goto out;
    for (size_t i = 0; i < n; i++) {
        const char *text = table_text(t, rows[i], col);
        if (!text)
            goto out;
        if (*text)
            texts[present++] = text;
    }
    distinct = count_texts(texts, present, counts);
    status = 1;
    if (!distinct || (distinct == 1 && present == n))
        goto out;
    status = -1;
    s->pooled = distinct > CATEGORIES;
    s->categories = calloc(CATEGORIES, sizeof *s->categories);
    if (!s->categories)
        goto out;
    for (; s->n < CATEGORIES && s->n < distinct; s->n++) {
        s->categories[s->n] = strdup(counts[s->n].text);
        if (!s->categories[s->n])
            goto out;
    }
    status = 0;
out:
    free(texts);
    free(counts);
    return status;
}

/* Learns one column; a dropped one leaves no source. −1 with an error line. */
static int learn(struct features *f, struct table *t, size_t col, const uint32_t *rows, size_t n, char *error,
                 size_t size)
{
    struct source s = {.name = strdup(table_name(t, col)), .kind = table_numeric(t, col) ? NUMBER : TEXT};
    int dropped = -1;

    if (s.name && s.kind == NUMBER) {
        const double *x = table_numbers(t, col, error, size);
        if (!x) {
            source_free(&s);
            return -1;
        }
        dropped = moments(x, rows, n, &s);
    } else if (s.name) {
        dropped = learn_categories(t, col, rows, n, &s);
    }
    if (dropped) {
        source_free(&s);
        if (dropped < 0)
            no_memory(error, size);
        return dropped < 0 ? -1 : 0;
    }
    f->width += width(&s);
    f->sources[f->n++] = s;
    return 0;
}

struct features *features_fit(struct table *t, const char *columns, const char *exclude, const uint32_t *rows,
                              size_t n, char *error, size_t size)
{
    struct features *f = calloc(1, sizeof *f), *fitted = NULL;
    bool *used = calloc(table_cols(t), sizeof *used);

    if (f)
        f->sources = calloc(table_cols(t), sizeof *f->sources);
    if (!f || !used || !f->sources) {
        no_memory(error, size);
        goto out;
    }
    memset(used, nothing(columns), table_cols(t) * sizeof *used);
    if (!nothing(columns) && mark(t, columns, true, used, error, size))
        goto out;
    if (!nothing(exclude) && mark(t, exclude, false, used, error, size))
        goto out;
    for (size_t j = 0; j < table_cols(t); j++)
        if (used[j] && learn(f, t, j, rows, n, error, size))
            goto out;
    fitted = f;
    f = NULL;
out:
    features_free(f);
    free(used);
    return fitted;
}

void features_free(struct features *f)
{
    if (!f)
        return;
    for (size_t i = 0; i < f->n; i++)
        source_free(&f->sources[i]);
    free(f->sources);
    free(f);
}

size_t features_width(const struct features *f)
{
    return f->width;
}

/* (x − mean)/deviation, by halves: the difference of two large values must not overflow. */
static double standardised(const struct source *s, double x)
{
    return isnan(x) ? 0 : (x / 2 - s->mean / 2) / s->deviation * 2;
}

/* Column of s in which this text has its 1, or width(s) if it has none. */
static size_t category(const struct source *s, const char *text)
{
    if (!*text)
        return width(s);
    for (uint32_t i = 0; i < s->n; i++)
        if (!strcmp(text, s->categories[i]))
            return i;
    return s->n; /* the pool, or beyond the last column */
}

/* Where one source finds its cells and puts its values. */
struct feed {
    const struct source *source;
    const double *x; /* NUMBER */
    size_t col, to;
};

/* A numeric column may arrive as text (a word among test rows) but then it is not what was fitted. −1 with an
 * error line. */
static int connect(const struct features *f, struct table *t, struct feed *feeds, char *error, size_t size)
{
    size_t to = 0;

    for (size_t i = 0; i < f->n; i++) {
        const struct source *s = &f->sources[i];
        int col = table_find(t, s->name);
        if (col < 0) {
            fail(error, size,
                 "no column \"%.60s\", which the models were fitted on; the nearest is \"%.60s\"", s->name,
                 nearest(t, s->name));
            return -1;
        }
        feeds[i] = (struct feed){.source = s, .col = (size_t)col, .to = to};
        to += width(s);
        if (s->kind == TEXT)
            continue;
        feeds[i].x = table_numbers(t, (size_t)col, error, size);
        if (!feeds[i].x)
            return -1;
    }
    return 0;
}

static int fill(const struct feed *feed, struct table *t, const uint32_t *rows, size_t n, double *a,
                size_t stride, char *error, size_t size)
{
    const struct source *s = feed->source;

    for (size_t i = 0; i < n; i++) {
        double *to = a + i * stride + feed->to;
        if (s->kind == NUMBER) {
            *to = standardised(s, feed->x[rows[i]]);
            if (isfinite(*to))
                continue;
            fail(error, size,
                 "line %zu: column \"%.60s\": %g is too far from the rows that were fitted (%g ± %g)",
                 table_line(t, rows[i]), s->name, feed->x[rows[i]], s->mean, s->deviation);
            return -1;
        }
        const char *text = table_text(t, rows[i], feed->col);
        if (!text) {
            no_memory(error, size);
            return -1;
        }
        size_t j = category(s, text);
        if (j < width(s))
            to[j] = 1;
    }
    return 0;
}

int features_apply(const struct features *f, struct table *t, const uint32_t *rows, size_t n, struct mat *X,
                   char *error, size_t size)
{
    struct feed *feeds = calloc(f->n + 1, sizeof *feeds);
    int status = -1;

    *X = (struct mat){0};
    if (!feeds || mat_init(X, n, f->width)) {
        no_memory(error, size);
        goto out;
    }
    if (connect(f, t, feeds, error, size))
        goto out;
    for (size_t i = 0; i < n; i += BLOCK)
        for (size_t j = 0; j < f->n; j++)
            if (fill(&feeds[j], t, rows + i, n - i < BLOCK ? n - i : BLOCK, X->a + i * f->width, f->width,
                     error, size))
                goto out;
    status = 0;
out:
    if (status)
        mat_free(X);
    free(feeds);
    return status;
}

static uint8_t *put_text(uint8_t *p, const char *text)
{
    size_t n = strlen(text);

    return bytes_put(bytes_put_u32(p, (uint32_t)n), text, n);
}

/* magic, sources, then for each: kind, name, and mean, deviation or pooled, categories. */
uint8_t *features_save(const struct features *f, size_t *size)
{
    size_t room = sizeof magic + 4;

    for (size_t i = 0; i < f->n; i++) {
        const struct source *s = &f->sources[i];
        room += 4 + 4 + strlen(s->name) + 16;
        for (uint32_t j = 0; j < s->n; j++)
            room += 4 + strlen(s->categories[j]);
    }
    uint8_t *bytes = malloc(room), *p = bytes;
    if (!bytes)
        return NULL;
    p = bytes_put(p, magic, sizeof magic);
    p = bytes_put_u32(p, (uint32_t)f->n);
    for (size_t i = 0; i < f->n; i++) {
        const struct source *s = &f->sources[i];
        p = put_text(bytes_put_u32(p, s->kind), s->name);
        if (s->kind == NUMBER) {
            p = bytes_put_f64(bytes_put_f64(p, s->mean), s->deviation);
            continue;
        }
        p = bytes_put_u32(bytes_put_u32(p, s->pooled), s->n);
        for (uint32_t j = 0; j < s->n; j++)
            p = put_text(p, s->categories[j]);
    }
    *size = (size_t)(p - bytes);
    return bytes;
}

static char *take_text(struct bytes_in *in)
{
    size_t n = bytes_u32(in);
    const uint8_t *p = bytes_take(in, n);

    if (!p || memchr(p, 0, n))
        return NULL;
    return strndup((const char *)p, n);
}

/* −1 on bytes that are no source; what was read so far is for source_free. */
static int take_source(struct bytes_in *in, struct source *s)
{
    s->kind = bytes_u32(in);
    s->name = take_text(in);
    if (!s->name)
        return -1;
    if (s->kind == NUMBER) {
        s->mean = bytes_f64(in);
        s->deviation = bytes_f64(in);
        return in->bad || !isfinite(s->mean) || !isfinite(s->deviation) || !(s->deviation > 0) ? -1 : 0;
    }
    uint32_t pooled = bytes_u32(in), n = bytes_u32(in);
    if (s->kind != TEXT || in->bad || pooled > 1 || !n || n > CATEGORIES)
        return -1;
    s->pooled = pooled;
    s->categories = calloc(n, sizeof *s->categories);
    if (!s->categories)
        return -1;
    for (; s->n < n; s->n++) {
        s->categories[s->n] = take_text(in);
        if (!s->categories[s->n])
            return -1;
    }
    return 0;
}

struct features *features_load(const uint8_t *bytes, size_t size)
{
    struct bytes_in in = {.p = bytes, .end = bytes + size};
    const uint8_t *head = bytes_take(&in, sizeof magic);
    uint32_t n = bytes_u32(&in);

    /* a source takes at least 16 bytes: no count makes us take more memory than a few times what was given */
    if (in.bad || memcmp(head, magic, sizeof magic) || n > size / 16)
        return NULL;
    struct features *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->sources = calloc((size_t)n + 1, sizeof *f->sources);
    if (!f->sources)
        goto bad;
    while (f->n < n) {
        struct source *s = &f->sources[f->n++];
        if (take_source(&in, s))
            goto bad;
        f->width += width(s);
    }
    if (in.p == in.end)
        return f;
bad:
    features_free(f);
    return NULL;
}
