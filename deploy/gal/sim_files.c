/* sim_files: writes what each organization gets, a row at a time. Cells are copied as text, so that no digit
 * is lost, and rows keep the order of the source, so that no file tells by position which rows are test rows.
 */
#include "deploy/gal/sim.h"

#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER (256 << 10)

const char *sim_id(const struct sim_data *d, size_t row, char number[static 24])
{
    if (d->id >= 0)
        return table_text(d->table, row, (size_t)d->id);
    snprintf(number, 24, "%zu", row);
    return number;
}

/* Letters, digits and . - + _: what no reader takes for a separator or a quote. */
static bool is_plain(unsigned char c)
{
    return (unsigned char)((c | 0x20) - 'a') < 26 || (unsigned char)(c - '0') < 10 || c == '.' || c == '-' ||
           c == '+' || c == '_';
}

static void put_cell(FILE *out, const char *text)
{
    size_t n = 0;
    while (is_plain((unsigned char)text[n]))
        n++;
    if (!text[n]) {
        fwrite_unlocked(text, 1, n, out);
        return;
    }
    putc_unlocked('"', out);
    for (; *text; text++) {
        if (*text == '"')
            putc_unlocked('"', out);
        putc_unlocked(*text, out);
    }
    putc_unlocked('"', out);
}

static FILE *begin(const char *path)
{
    FILE *out = fopen(path, "wxe");
    if (out)
        setvbuf(out, NULL, _IOFBF, BUFFER);
    else
        log_error("%s: %s", path, strerror(errno));
    return out;
}

static int end(FILE *out, const char *path)
{
    bool bad = ferror(out);
    if (!fclose(out) && !bad)
        return 0;
    log_error("%s: %s", path, errno ? strerror(errno) : "cannot be written");
    return -1;
}

static void put_header(const struct sim_data *d, FILE *out, const struct columns *c)
{
    fputs("id", out);
    for (size_t j = 0; j < c->n; j++) {
        putc(',', out);
        put_cell(out, table_name(d->table, c->col[j]));
    }
    putc('\n', out);
}

static void put_row(FILE *out, const char *id, const char *const *cell, const struct columns *c)
{
    put_cell(out, id);
    for (size_t j = 0; j < c->n; j++) {
        putc_unlocked(',', out);
        put_cell(out, cell[c->col[j]]);
    }
    putc_unlocked('\n', out);
}

/* One pass over the source for all the files of a batch: reading a row costs more than writing it. */
static int put_rows(const struct sim_data *d, FILE *const *out, const struct columns *c, size_t n)
{
    char number[24];
    for (size_t i = 0; i < d->rows && !sim_interrupted; i++) {
        if (d->part[i] == PART_NONE)
            continue;
        const char *const *cell = table_record(d->table, i);
        if (!cell)
            log_die(GAL_FAILED, "out of memory");
        snprintf(number, sizeof number, "%zu", i);
        for (size_t m = 0; m < n; m++)
            put_row(out[m], d->id < 0 ? number : cell[d->id], cell, &c[m]);
    }
    return sim_interrupted ? -1 : 0;
}

int sim_write_features(const struct sim_data *d, char *const *path, const struct columns *c, size_t n)
{
    FILE *out[SIM_BATCH] = {NULL};
    int result = 0;
    for (size_t m = 0; m < n && !result; m++) {
        out[m] = begin(path[m]);
        if (out[m])
            put_header(d, out[m], &c[m]);
        else
            result = -1;
    }
    if (!result)
        result = put_rows(d, out, c, n);
    for (size_t m = 0; m < n; m++)
        if (out[m] && end(out[m], path[m]))
            result = -1;
    return result;
}

int sim_write_labels(const struct sim_data *d, const char *path, enum part part)
{
    char number[24];
    FILE *out = begin(path);
    if (!out)
        return -1;
    fputs("id,target\n", out);
    for (size_t i = 0; i < d->rows; i++) {
        if (d->part[i] != part)
            continue;
        put_cell(out, sim_id(d, i, number));
        putc(',', out);
        put_cell(out, table_text(d->table, i, d->target));
        putc('\n', out);
    }
    return end(out, path);
}
