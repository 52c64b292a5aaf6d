/* progress: see progress.h. */
#include "deploy/gal/progress.h"

#include "deploy/gal/client.h"
#include "deploy/gal/gal.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool live; /* a line without its newline stands on the terminal */

void progress_end(void)
{
    if (live)
        fputc('\n', stderr);
    live = false;
}

static void show(const char *line, bool stays)
{
    if (!isatty(STDERR_FILENO)) {
        fprintf(stderr, "%s\n", line);
        return;
    }
    fprintf(stderr, "%s%s\033[K", live ? "\r" : "", line);
    live = true;
    if (stays)
        progress_end();
    fflush(stderr);
}

static void show_round(const char *run, const json_t *e)
{
    char line[256], out[16], in[16], validation[48] = "";
    if (json_is_number(json_object_get(e, "validation")))
        snprintf(validation, sizeof validation, "  validation %.6g", member_real(e, "validation", 0));
    snprintf(line, sizeof line, "%s: round %lld  objective %.6g%s  rate %.4g  %.3f s  sent %s  received %s",
             run, (long long)member_int(e, "round", 0), member_real(e, "objective", 0), validation,
             member_real(e, "rate", 0), member_real(e, "seconds", 0),
             human_bytes(member_real(e, "bytes_out", 0), out),
             human_bytes(member_real(e, "bytes_in", 0), in));
    show(line, false);
}

static void show_start(const char *run, const json_t *e)
{
    char line[256];
    const json_t *rows = json_object_get(e, "rows");
    snprintf(
        line, sizeof line,
        "%s: task %s, %zu organization%s, %lld rows to fit, %s loss %.6g before the first of %lld rounds",
        run, member_text(e, "task", "?"), json_array_size(json_object_get(e, "orgs")),
        json_array_size(json_object_get(e, "orgs")) == 1 ? "" : "s", (long long)member_int(rows, "fit", 0),
        member_text(e, "loss", ""), member_real(e, "objective", 0), (long long)member_int(e, "rounds", 0));
    show(line, true);
}

void progress_event(const char *run, const json_t *e)
{
    char line[512];
    const char *kind = member_text(e, "event", "");
    if (!strcmp(kind, "round"))
        show_round(run, e);
    else if (!strcmp(kind, "start"))
        show_start(run, e);
    else if (!strcmp(kind, "waiting")) {
        snprintf(line, sizeof line, "%s: %s", run, member_text(e, "text", "waiting"));
        show(line, false);
    } else if (!strcmp(kind, "done")) {
        snprintf(line, sizeof line, "%s: done after %lld rounds in %.3f s (%s)", run,
                 (long long)member_int(e, "rounds", 0), member_real(e, "seconds", 0),
                 member_text(e, "stopped", "rounds"));
        progress_end();
        show(line, true);
    }
}
