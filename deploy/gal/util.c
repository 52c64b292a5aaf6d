/* util: memory, lists of words, numbers in and out, for a command that runs once and ends. */
#include "deploy/gal/gal.h"

#include "common/log.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void *must_alloc(size_t n, size_t size)
{
    void *memory = calloc(n ? n : 1, size);
    if (!memory)
        log_die(GAL_FAILED, "out of memory");
    return memory;
}

char *must_format(const char *format, ...)
{
    char *text;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        log_die(GAL_FAILED, "out of memory");
    va_end(args);
    return text;
}

void words_add(struct words *w, const char *word)
{
    const char **longer = reallocarray(w->word, w->n + 1, sizeof *longer);
    if (!longer)
        log_die(GAL_FAILED, "out of memory");
    w->word = longer;
    w->word[w->n++] = word;
}

void words_free(struct words *w)
{
    free(w->word);
    *w = (struct words){0};
}

const char *human_bytes(double bytes, char text[static 16])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    size_t u = 0;
    while (bytes >= 999.5 && u < 4) {
        bytes /= 1000;
        u++;
    }
    snprintf(text, 16, "%.*f %s", u == 0 || bytes >= 99.95 ? 0 : bytes >= 9.995 ? 1 : 2, bytes, units[u]);
    return text;
}

int parse_long(const char *option, const char *text, long lo, long hi, long *value)
{
    char *end;
    errno = 0;
    *value = strtol(text, &end, 10);
    if (end != text && !*end && !errno && *value >= lo && *value <= hi)
        return 0;
    log_error("%s %s: need a whole number from %ld to %ld", option, text, lo, hi);
    return -1;
}

int parse_real(const char *option, const char *text, double lo, double hi, double *value)
{
    char *end;
    *value = strtod(text, &end);
    if (end != text && !*end && isfinite(*value) && *value >= lo && *value <= hi)
        return 0;
    log_error("%s %s: need a number from %g to %g", option, text, lo, hi);
    return -1;
}
