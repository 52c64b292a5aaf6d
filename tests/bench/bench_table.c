/* bench_table: loading 1e6 × 16 numbers (%.6f) against getline and strtod, and with words in a column. Prints
 * times and ratios; the file goes into TMPDIR and is removed. `bench_table ROWS` for another size. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/table.h"

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void generate(const char *path, size_t rows)
{
    FILE *f = fopen(path, "w");
    unsigned long long r = 1;

    if (!f)
        exit(1);
    for (size_t j = 0; j < 16; j++)
        fprintf(f, "x%zu%c", j, j == 15 ? '\n' : ',');
    for (size_t i = 0; i < rows * 16; i++) {
        r = r * 6364136223846793005u + 1442695040888963407u;
        fprintf(f, "%.6f%c", ((double)(r >> 11) * 0x1p-53 - 0.5) * 200, i % 16 == 15 ? '\n' : ',');
    }
    fclose(f);
}

static double by_strtod(const char *path, double *sum)
{
    double start = now();
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;

    if (!f || getline(&line, &room, f) < 0)
        exit(1);
    while (getline(&line, &room, f) > 0)
        for (char *p = line, *end; *p && *p != '\n'; p = *end == ',' ? end + 1 : end)
            *sum += strtod(p, &end);
    free(line);
    fclose(f);
    return now() - start;
}

static double by_table(const char *path, double *sum)
{
    double start = now();
    char error[256];
    struct table *t = table_open(path, error, sizeof error);

    if (!t)
        exit(1);
    double seconds = now() - start;
    for (size_t i = 0; i < table_rows(t); i++)
        for (size_t j = 0; j < 16; j++)
            *sum += table_numbers(t, j, error, sizeof error)[i];
    table_free(t);
    return seconds;
}

int main(int argc, char **argv)
{
    const char *folder = getenv("TMPDIR");
    size_t rows = argc > 1 ? (size_t)strtoul(argv[1], NULL, 10) : 1000000;
    char path[256];
    struct rusage usage;
    double ours = 1e9, theirs = 1e9, a = 0, b = 0;

    snprintf(path, sizeof path, "%s/bench_table.%ld.csv", folder ? folder : "/tmp", (long)getpid());
    generate(path, rows);
    for (int i = 0; i < 3; i++) {
        a = b = 0;
        double s = by_strtod(path, &a), t = by_table(path, &b);
        theirs = s < theirs ? s : theirs;
        ours = t < ours ? t : ours;
    }
    unlink(path);
    getrusage(RUSAGE_SELF, &usage);
    printf("table %zu x 16: %.3f s; getline and strtod %.3f s: %.1f times faster; sums %s; peak %ld MB\n",
           rows, ours, theirs, theirs / ours, a == b ? "equal" : "DIFFER", usage.ru_maxrss / 1024);
    return a == b ? 0 : 1;
}
