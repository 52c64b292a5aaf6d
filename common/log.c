#include "common/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *program_name = "gal", *organization_name = "";

void log_open(const char *program, const char *organization)
{
    program_name = program;
    organization_name = organization;
}

/* One write per line, so that the lines of several processes on one terminal stay whole. */
__attribute__((format(printf, 1, 0))) static void write_line(const char *format, va_list ap)
{
    char line[1024];
    int head = snprintf(line, sizeof line, "%s%s%s: ", program_name, *organization_name ? " " : "",
                        organization_name);
    size_t used = head < 0 ? 0 : (size_t)head;
    int body = vsnprintf(line + used, sizeof line - used, format, ap);
    used += body < 0 ? 0 : (size_t)body;
    if (used > sizeof line - 2)
        used = sizeof line - 2;
    line[used++] = '\n';
    if (write(STDERR_FILENO, line, used) < 0)
        return; /* nobody is left to tell */
}

void log_info(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    write_line(format, ap);
    va_end(ap);
}

void log_error(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    write_line(format, ap);
    va_end(ap);
}

void log_limited(unsigned kind, const char *format, ...)
{
    static struct {
        time_t last;
        unsigned long suppressed;
        bool used;
    } kinds[LOG_KINDS];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    kind %= LOG_KINDS;
    if (kinds[kind].used && now.tv_sec - kinds[kind].last < 10) {
        kinds[kind].suppressed++;
        return;
    }
    char text[900];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (kinds[kind].suppressed)
        log_error("%s (and %lu more like it before)", text, kinds[kind].suppressed);
    else
        log_error("%s", text);
    kinds[kind].used = true;
    kinds[kind].last = now.tv_sec;
    kinds[kind].suppressed = 0;
}

_Noreturn void log_die(int status, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    write_line(format, ap);
    va_end(ap);
    exit(status);
}
