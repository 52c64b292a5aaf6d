/* A CSV file, gzip'd or not: all that can be asked of a table, and that the answers agree with each other. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/table.h"
#include "tests/fuzz/fuzz.h"

enum { ROWS = 300 };

/* A numeric cell is the number that strtod reads in its text. */
static void check_number(const char *text, double value)
{
    char *end;
    if (!*text) {
        MUST(isnan(value));
        return;
    }
    double x = strtod(text, &end);
    MUST(!*end && x == value);
}

static void check_column(struct table *t, size_t j, size_t rows)
{
    char error[256] = "";
    const double *x = table_numbers(t, j, error, sizeof error);
    MUST(table_find(t, table_name(t, j)) == (int)j);
    MUST(!x || table_numeric(t, j));
    MUST(x ? !*error : *error && !strchr(error, '\n'));
    for (size_t i = 0; i < rows; i++) {
        const char *text = table_text(t, i, j);
        MUST(text);
        if (x)
            check_number(text, x[i]);
    }
}

static void check_records(struct table *t, size_t rows)
{
    for (size_t i = 0; i < rows; i++) {
        const char *const *record = table_record(t, i);
        MUST(record);
        for (size_t j = 0; j < table_cols(t); j++)
            MUST(!strcmp(record[j], table_text(t, i, j)));
    }
    const char *const *record = table_record(t, 0);
    MUST(record && !strcmp(record[0], table_text(t, 0, 0)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char too_long[8192]; /* no name can be as long as this, whatever the fuzzer learns */
    memset(too_long, 'x', sizeof too_long - 1);
    char error[256] = "";
    MUST(!table_open("/nowhere/none.csv", NULL, 0) && !table_open("/proc/self", error, sizeof error));
    fuzz_file(data, size);
    struct table *t = table_open(fuzz_path(), error, sizeof error);
    if (!t) {
        MUST(*error && !strchr(error, '\n'));
        return 0;
    }
    size_t rows = table_rows(t) < ROWS ? table_rows(t) : ROWS, cols = table_cols(t), line = 0;
    MUST(rows > 0 && cols > 0 && table_find(t, too_long) < 0);
    if (cols * rows < 100000) {
        for (size_t j = 0; j < cols; j++)
            check_column(t, j, rows);
        check_records(t, rows);
    }
    for (size_t i = 0; i < rows; i += 16) {
        MUST(table_line(t, i) > line);
        line = table_line(t, i);
    }
    table_free(t);
    return 0;
}
