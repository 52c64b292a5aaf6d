/* trace_read: the lines of a trace file. */
#include "deploy/gal/trace.h"

#include "common/log.h"
#include "deploy/gal/client.h"
#include "deploy/gal/gal.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned member_u32(const json_t *object, const char *name)
{
    json_int_t value = member_int(object, name, 0);
    return value < 0 || value > UINT32_MAX ? 0 : (unsigned)value;
}

const char *trace_parse(struct trace_line *l, const char *text, size_t length)
{
    static json_error_t why;
    json_t *json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &why);
    if (!json)
        return why.text;
    l->json = json;
    l->dir = member_text(json, "dir", NULL);
    l->kind = member_text(json, "kind", NULL);
    if (!l->dir || !l->kind)
        return "no line of a trace: \"dir\" or \"kind\" is missing";
    l->time = member_text(json, "time", "");
    l->peer = member_text(json, "peer", "");
    l->run = member_text(json, "run", "");
    l->dtype = member_text(json, "dtype", "");
    l->digest = member_text(json, "digest", "");
    l->head = member_text(json, "head", "");
    l->round = member_u32(json, "round");
    l->rows = member_u32(json, "rows");
    l->cols = member_u32(json, "cols");
    l->bytes = member_real(json, "bytes", 0);
    l->wire = member_real(json, "wire", 0);
    l->repeat = json_is_true(json_object_get(json, "repeat"));
    return NULL;
}

void trace_line_free(struct trace_line *l)
{
    json_decref(l->json);
    free(l->text);
}

void trace_free(struct trace *t)
{
    for (size_t i = 0; i < t->n; i++)
        trace_line_free(&t->line[i]);
    free(t->line);
    *t = (struct trace){0};
}

static struct trace_line *append(struct trace *t, size_t *room)
{
    if (t->n == *room) {
        *room = *room ? 2 * *room : 256;
        struct trace_line *longer = reallocarray(t->line, *room, sizeof *longer);
        if (!longer)
            log_die(GAL_FAILED, "out of memory");
        t->line = longer;
    }
    t->line[t->n] = (struct trace_line){0};
    return &t->line[t->n++];
}

int trace_read(struct trace *t, const char *path, char *error, size_t size)
{
    *t = (struct trace){.path = path};
    FILE *in = fopen(path, "re");
    if (!in) {
        snprintf(error, size, "%s: %s", path, strerror(errno));
        return -1;
    }
    size_t room = 0, capacity = 0;
    char *text = NULL;
    ssize_t n;
    const char *bad = NULL;
    errno = 0;
    while (!bad && (n = getline(&text, &capacity, in)) > 0) {
        t->cut = text[n - 1] != '\n';
        if (t->cut)
            break;
        struct trace_line *l = append(t, &room);
        text[--n] = '\0';
        l->text = text;
        l->length = (size_t)n;
        bad = trace_parse(l, text, (size_t)n);
        text = NULL;
        capacity = 0;
    }
    if (bad)
        snprintf(error, size, "%s:%zu: %s", path, t->n, bad);
    else if (ferror(in))
        snprintf(error, size, "%s: %s", path, strerror(errno));
    int result = bad || ferror(in) ? -1 : 0;
    free(text);
    fclose(in);
    return result;
}

bool trace_outward(const struct trace_line *l)
{
    return !strcmp(l->dir, "out") || !strcmp(l->dir, "local-out");
}

bool trace_local(const struct trace_line *l)
{
    return !strncmp(l->dir, "local-", 6);
}
