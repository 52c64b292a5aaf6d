/* make_table ROWS COLS SEED: a CSV on standard output for benchmarks: COLS columns of uniform noise in (−1,
 * 1) with six decimals, then `y`, a random linear function of all of them plus noise. Made here, drawn from
 * nobody's data. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t state;

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t draw(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static char *put(char *at, int32_t millionths, char end)
{
    uint32_t x = (uint32_t)abs(millionths);
    if (millionths < 0)
        *at++ = '-';
    *at++ = (char)('0' + x / 1000000);
    *at++ = '.';
    for (uint32_t d = 100000; d; d /= 10)
        *at++ = (char)('0' + x / d % 10);
    *at++ = end;
    return at;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: make_table ROWS COLS SEED > FILE.csv\n");
        return 2;
    }
    size_t rows = strtoul(argv[1], NULL, 10), cols = strtoul(argv[2], NULL, 10);
    state = strtoul(argv[3], NULL, 10);
    double *beta = calloc(cols + 1, sizeof *beta);
    char *line = malloc(12 * (cols + 2));
    if (!beta || !line)
        return 1;
    for (size_t j = 0; j < cols; j++) {
        beta[j] = (double)(draw() >> 11) / (double)(1ULL << 52) - 1;
        printf("x%zu,", j);
    }
    printf("y\n");
    for (size_t i = 0; i < rows; i++) {
        char *at = line;
        double y = (double)(draw() >> 11) / (double)(1ULL << 52) - 1;
        for (size_t j = 0; j < cols; j++) {
            int32_t x = (int32_t)(draw() % 1999999) - 999999;
            y += beta[j] * 1e-6 * x;
            at = put(at, x, ',');
        }
        at = put(at, (int32_t)(y * 1e5), '\n');
        if (fwrite(line, 1, (size_t)(at - line), stdout) != (size_t)(at - line))
            return 1;
    }
    free(beta);
    free(line);
    return 0;
}
