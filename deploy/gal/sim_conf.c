/* sim_conf: the configuration files of a simulation's daemons, and `--set` on top of them. Which keys exist
 * is the daemons' business: they refuse what they do not know, with file and line. */
#include "deploy/gal/sim.h"

#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct conf_line {
    char *section, *key, *value;
};

struct conf_draft {
    struct conf_line *line;
    size_t n;
};

/* [NAME.]section.key=value, taken apart. */
struct setting {
    char *text; /* what the others point into */
    const char *name, *section, *key, *value;
};

struct conf_draft *conf_draft_new(void)
{
    return must_alloc(1, sizeof(struct conf_draft));
}

void conf_draft_free(struct conf_draft *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->line[i].section);
        free(c->line[i].key);
        free(c->line[i].value);
    }
    free(c->line);
    free(c);
}

void conf_draft_set(struct conf_draft *c, const char *section, const char *key, const char *value)
{
    for (size_t i = 0; i < c->n; i++)
        if (!strcmp(c->line[i].section, section) && !strcmp(c->line[i].key, key)) {
            free(c->line[i].value);
            c->line[i].value = must_format("%s", value);
            return;
        }
    struct conf_line *longer = reallocarray(c->line, c->n + 1, sizeof *longer);
    if (!longer)
        log_die(GAL_FAILED, "out of memory");
    c->line = longer;
    c->line[c->n++] =
        (struct conf_line){must_format("%s", section), must_format("%s", key), must_format("%s", value)};
}

/* false: not of that form. The caller frees s->text. */
static bool take_apart(struct setting *s, const char *option)
{
    *s = (struct setting){.text = must_format("%s", option), .name = ""};
    char *equals = strchr(s->text, '='), *dot = strchr(s->text, '.');
    if (!equals || !equals[1] || !dot || dot > equals)
        return false;
    *equals = '\0';
    *dot = '\0';
    s->value = equals + 1;
    s->section = s->text;
    s->key = dot + 1;
    char *second = strchr(dot + 1, '.');
    if (second) {
        *second = '\0';
        s->name = s->text;
        s->section = dot + 1;
        s->key = second + 1;
    }
    return *s->section && *s->key;
}

static bool known_section(const char *section)
{
    static const char *const sections[] = {"task", "policy", "model", "link", "sandbox", "data", "http"};
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
        if (!strcmp(sections[i], section))
            return true;
    return false;
}

static bool known_name(const char *name, long orgs)
{
    char known[24];
    for (long m = 0; m < orgs; m++)
        if (!strcmp(name, sim_org_name((size_t)m, known)))
            return true;
    return false;
}

const char *conf_set_check(const char *option, long orgs)
{
    struct setting s;
    const char *bad = NULL;
    if (!take_apart(&s, option))
        bad = "need section.key=value, or organization.section.key=value";
    else if (!known_section(s.section))
        bad = "the section must be task, policy, model, link, sandbox, data or http";
    else if (*s.name && !known_name(s.name, orgs))
        bad = "there is no organization of that name: they are sponsor, org2, org3 …";
    else if (strchr(option, '\n'))
        bad = "a value is one line";
    free(s.text);
    return bad;
}

void conf_draft_override(struct conf_draft *c, const char *name, const struct words *set)
{
    bool sponsor = !strcmp(name, "sponsor");
    for (size_t i = 0; i < set->n; i++) {
        struct setting s;
        bool well_formed = take_apart(&s, set->word[i]);
        bool mine = well_formed && (!*s.name || !strcmp(s.name, name));
        bool task = mine && !strcmp(s.section, "task");
        if (mine && (task || !strcmp(s.section, "http")))
            mine = sponsor;
        else if (mine && !strcmp(s.section, "policy"))
            mine = !sponsor;
        if (mine)
            conf_draft_set(c, task ? "task main" : s.section, s.key, s.value);
        free(s.text);
    }
}

static bool seen_before(const struct conf_draft *c, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (!strcmp(c->line[j].section, c->line[i].section))
            return true;
    return false;
}

int conf_draft_write(const struct conf_draft *c, const char *path)
{
    FILE *out = fopen(path, "wxe");
    if (!out) {
        log_error("%s: %s", path, strerror(errno));
        return -1;
    }
    for (size_t i = 0; i < c->n; i++) {
        if (seen_before(c, i))
            continue;
        fprintf(out, "%s[%s]\n", i ? "\n" : "", c->line[i].section);
        for (size_t j = i; j < c->n; j++)
            if (!strcmp(c->line[j].section, c->line[i].section))
                fprintf(out, "%s = %s\n", c->line[j].key, c->line[j].value);
    }
    bool bad = ferror(out);
    if (!fclose(out) && !bad)
        return 0;
    log_error("%s: %s", path, strerror(errno));
    return -1;
}
