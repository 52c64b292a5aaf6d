/* Reads the one INI file of an organization and checks every key against the schema below: the only place
 * that knows which keys exist, what they may hold, which role uses them and which process gets them. */
#include "common/conf.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum type { TEXT, NAME, PATH, INTEGER, REAL, CHOICE, KEY, ADDRESS, RATE, SHARE, LATER };

struct rule {
    const char *section, *key;
    enum type type;
    unsigned roles, to;
    double lo, hi;
    const char *choices; /* CHOICE: what is built, joined by | */
    const char *later;   /* CHOICE: what a later version will know */
};

#define BOTH (CONF_SPONSOR | CONF_ASSISTOR)
#define S    CONF_SPONSOR
#define A    CONF_ASSISTOR
#define L    CONF_LINK
#define C    CONF_CORE
#define W    CONF_WORKER

/* Where a section takes a name ([peer NAME]), it is required, but for [policy]. "*" accepts any key. */
static const struct rule rules[] = {
    {"organization", "name", NAME, BOTH, L | C | W, 0, 0, NULL, NULL},
    {"organization", "key", PATH, BOTH, L, 0, 0, NULL, NULL},
    {"organization", "state", PATH, BOTH, L | C | W, 0, 0, NULL, NULL},
    {"sandbox", "mode", CHOICE, BOTH, L | C | W, 0, 0, "require|prefer|off", NULL},
    {"link", "chunk", INTEGER, BOTH, L | C | W, 4096, 1048576, NULL, NULL},
    {"link", "dtype", CHOICE, BOTH, L | C | W, 0, 0, "f32|f64", "bf16|int8"},
    {"link", "heartbeat", INTEGER, BOTH, L, 100, 60000, NULL, NULL},
    {"data", "path", PATH, BOTH, C | W, 0, 0, NULL, NULL},
    {"data", "id", TEXT, BOTH, C | W, 0, 0, NULL, NULL},
    {"data", "columns", TEXT, BOTH, W, 0, 0, NULL, NULL},
    {"data", "exclude", TEXT, BOTH, W, 0, 0, NULL, NULL},
    {"model", "*", TEXT, BOTH, W, 0, 0, NULL, NULL},
    {"listen", "address", ADDRESS, S, L, 0, 0, NULL, NULL},
    {"peer", "key", KEY, BOTH, L | C, 0, 0, NULL, NULL},
    {"peer", "key2", KEY, BOTH, L, 0, 0, NULL, NULL},
    {"labels", "path", PATH, S, C, 0, 0, NULL, NULL},
    {"labels", "id", TEXT, S, C, 0, 0, NULL, NULL},
    {"labels", "target", TEXT, S, C | W, 0, 0, NULL, NULL},
    {"task", "kind", CHOICE, S, C, 0, 0, "regression|count|binary|multiclass", NULL},
    {"task", "loss", CHOICE, S, C, 0, 0, "squared|absolute|poisson|logistic|softmax", "huber|quantile"},
    {"task", "declare_loss", CHOICE, S, C, 0, 0, "yes|no", NULL},
    {"task", "rounds", INTEGER, S, C, 1, 4096, NULL, NULL},
    {"task", "solver", CHOICE, S, C, 0, 0, "paper", "corrective"},
    {"task", "weights", CHOICE, S, C, 0, 0, "exact|uniform", "cone"},
    {"task", "rate", RATE, S, C, 0, 0, NULL, NULL},
    {"task", "fit_on", CHOICE, S, C, 0, 0, "auto|train", "rotate|cross|held-out"},
    {"task", "validation", SHARE, S, C, 0, 0.5, NULL, NULL},
    {"task", "patience", INTEGER, S, C, 1, 10000, NULL, NULL},
    {"task", "align", CHOICE, S, C, 0, 0, "position", "psi|hash"},
    {"task", "predict", CHOICE, S, C, 0, 0, "sum|per-round", "secure-sum"},
    {"task", "privacy", CHOICE, S, C, 0, 0, "none", "label-dp|laplace|interval"},
    {"task", "rows", CHOICE, S, C, 0, 0, "all-have-it", "sponsor"},
    {"task", "absent", CHOICE, S, C, 0, 0, "wait", "skip|stop"},
    {"task", "seed", INTEGER, S, C, 0, 9007199254740991.0, NULL, NULL},
    {"task", "capture", CHOICE, S, C, 0, 0, "yes|no", NULL},
    {"task", "start", CHOICE, S, C, 0, 0, "auto|manual", NULL},
    {"sponsor", "address", ADDRESS, A, L, 0, 0, NULL, NULL},
    {"sponsor", "key", KEY, A, L | W, 0, 0, NULL, NULL},
    {"sponsor", "key2", KEY, A, L, 0, 0, NULL, NULL},
    {"policy", "allow_reconstruction", CHOICE, A, W, 0, 0, "yes|no", NULL},
    {"policy", "tasks", TEXT, A, W, 0, 0, NULL, NULL},
    {"policy", "min_rows", INTEGER, A, W, 1, 2147483647, NULL, NULL},
    {"policy", "max_outputs", INTEGER, A, W, 1, 65536, NULL, NULL},
    {"policy", "max_rounds", INTEGER, A, W, 1, 4096, NULL, NULL},
    {"policy", "max_rounds_total", INTEGER, A, W, 1, 1e9, NULL, NULL},
    {"policy", "max_predictions_per_day", INTEGER, A, W, 0, 1e15, NULL, NULL},
    {"policy", "round_to", REAL, A, W, 1e-12, 1e12, NULL, NULL},
    {"policy", "require_loss", CHOICE, A, W, 0, 0, "yes|no", NULL},
    {"data", "table", LATER, BOTH, 0, 0, 0, NULL, NULL},
    {"data", "query", LATER, BOTH, 0, 0, 0, NULL, NULL},
    {"task", "deadline", LATER, S, 0, 0, 0, NULL, NULL},
    {"task", "quorum", LATER, S, 0, 0, 0, NULL, NULL},
    {"task", "held_out", LATER, S, 0, 0, 0, NULL, NULL},
    {"http", "*", LATER, S, 0, 0, 0, NULL, NULL},
};
enum { RULES = sizeof rules / sizeof *rules };

static const char *const named_sections[] = {"peer", "task", "sponsor", NULL};

struct reader {
    FILE *in;
    const char *path;
    unsigned line;
    bool continued; /* the line begins with a blank: more of the value before, */
    bool first;     /* unless there is none before it in this section */
    enum conf_role role;
    struct conf *conf;
    size_t size, used;
    char *error;
    size_t error_size;
};

__attribute__((format(printf, 3, 4))) static int fail(struct reader *r, unsigned line, const char *format,
                                                      ...)
{
    if (*r->error)
        return 0; /* the first finding is the one to mend first */
    int used = line ? snprintf(r->error, r->error_size, "%s:%u: ", r->path, line)
                    : snprintf(r->error, r->error_size, "%s: ", r->path);
    va_list ap;
    va_start(ap, format);
    if (used >= 0 && (size_t)used < r->error_size)
        vsnprintf(r->error + used, r->error_size - (size_t)used, format, ap);
    va_end(ap);
    return 0;
}

/* Edit distance, for "did you mean". Words are short. */
static size_t distance(const char *a, const char *b)
{
    size_t row[64], n = strlen(b);
    if (n >= 64)
        return SIZE_MAX;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; *a; a++, i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t best = diagonal + (*a != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[n];
}

static bool in_list(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = list; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (!strncmp(at, word, n) && (at[n] == 0 || at[n] == '|'))
            return true;
    return false;
}

bool conf_for(const struct conf_item *item, unsigned process)
{
    for (size_t i = 0; i < RULES; i++)
        if (!strcmp(rules[i].section, item->section) &&
            (*rules[i].key == '*' || !strcmp(rules[i].key, item->key)))
            return rules[i].to & process;
    return false;
}

static const struct rule *rule_find(struct reader *r, const char *section, const char *key)
{
    const struct rule *nearest = NULL;
    size_t best = SIZE_MAX;
    bool known = false;
    for (size_t i = 0; i < RULES; i++) {
        const struct rule *rule = &rules[i];
        if (!(rule->roles & r->role))
            continue;
        if (!strcmp(rule->section, section)) {
            known = true;
            if (*rule->key == '*' || !strcmp(rule->key, key))
                return rule;
        }
        size_t d = strcmp(rule->section, section) ? distance(section, rule->section) + 100
                                                  : distance(key, rule->key);
        if (d < best) {
            best = d;
            nearest = rule;
        }
    }
    if (known)
        fail(r, r->line, "unknown key \"%s\" in [%s] (did you mean \"%s\"?)", key, section, nearest->key);
    else
        fail(r, r->line, "unknown section [%s] for %s (did you mean [%s]?)", section,
             r->role == CONF_SPONSOR ? "a sponsor" : "an assistor",
             nearest ? nearest->section : "organization");
    return NULL;
}

static bool name_ok(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n <= 40 &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == n &&
           *name != '.';
}

static bool number(const char *text, double *value)
{
    char *end;
    errno = 0;
    *value = strtod(text, &end);
    return end != text && *end == 0 && isfinite(*value);
}

/* As conf_int will read it: digits alone, not 1e3 or 0x10. */
static bool whole(const char *text)
{
    text += *text == '-';
    return *text && strspn(text, "0123456789") == strlen(text);
}

static int check_number(struct reader *r, const struct rule *rule, const char *value)
{
    double x;
    if (!number(value, &x) || (rule->type == INTEGER && !whole(value)))
        return fail(r, r->line, "%s = %s: expected %s", rule->key, value,
                    rule->type == INTEGER ? "a whole number" : "a number");
    if (x < rule->lo || x > rule->hi)
        return fail(r, r->line, "%s = %s: must be from %.16g to %.16g", rule->key, value, rule->lo, rule->hi);
    return 1;
}

static int check_choice(struct reader *r, const struct rule *rule, const char *value)
{
    if (in_list(rule->choices, value))
        return 1;
    if (rule->later && in_list(rule->later, value))
        return fail(r, r->line, "%s = %s is not built yet: use one of %s", rule->key, value, rule->choices);
    return fail(r, r->line, "%s = %s: expected one of %s", rule->key, value, rule->choices);
}

static int check_value(struct reader *r, const struct rule *rule, const char *value)
{
    double x;
    switch (rule->type) {
    case NAME:
        if (!name_ok(value))
            return fail(r, r->line, "%s = %s: a name has 1 to 40 letters, digits, _ . or -", rule->key,
                        value);
        return 1;
    case KEY:
        if (strlen(value) != 40)
            return fail(r, r->line, "%s: %zu characters, a public key has 40 (the line of NAME.pub)",
                        rule->key, strlen(value));
        return 1;
    case ADDRESS:
        if (strncmp(value, "tcp://", 6) || !strrchr(value + 6, ':') || strlen(value) > 200)
            return fail(r, r->line, "%s = %s: expected tcp://HOST:PORT", rule->key, value);
        return 1;
    case INTEGER:
    case REAL:
        return check_number(r, rule, value);
    case CHOICE:
        return check_choice(r, rule, value);
    case RATE:
        if (!strcmp(value, "search") || (!strncmp(value, "fixed:", 6) && number(value + 6, &x) && x > 0))
            return 1;
        return fail(r, r->line, "%s = %s: expected search, or fixed:X with X > 0", rule->key, value);
    case SHARE:
        return !strcmp(value, "auto") ? 1 : check_number(r, rule, value);
    case LATER:
        return fail(r, r->line, "%s: not built yet; remove the line", rule->section);
    case TEXT:
    case PATH:
        break;
    }
    return *value ? 1 : fail(r, r->line, "%s: no value", rule->key);
}

/* A copy at the end of the configuration's text; items hold offsets until the text has its final place. */
static size_t keep(struct reader *r, const char *s)
{
    size_t n = strlen(s) + 1, at = r->used;
    if (r->used + n > r->size) {
        r->size = 2 * (r->used + n) + 1024;
        char *text = realloc(r->conf->text, r->size);
        if (!text)
            abort(); /* a configuration of some kilobytes */
        r->conf->text = text;
    }
    memcpy(r->conf->text + at, s, n);
    r->used += n;
    return at;
}

/* Paths are relative to the file that names them. */
static int absolute(struct reader *r, const char *value, char out[PATH_MAX])
{
    char here[PATH_MAX], base[PATH_MAX];
    snprintf(here, sizeof here, "%s", r->path);
    char *slash = strrchr(here, '/');
    if (slash)
        slash[1] = 0;
    if (!realpath(slash ? here : ".", base))
        return fail(r, r->line, "%s", strerror(errno));
    int n =
        *value == '/' ? snprintf(out, PATH_MAX, "%s", value) : snprintf(out, PATH_MAX, "%s/%s", base, value);
    return n < PATH_MAX ? 1 : fail(r, r->line, "the path is too long");
}

#define OFFSET(at) ((const char *)(uintptr_t)(at))

static int add_item(struct reader *r, const char *section, const char *name, const char *key,
                    const char *value)
{
    struct conf *c = r->conf;
    struct conf_item *items = reallocarray(c->items, c->n + 1, sizeof *items);
    if (!items)
        abort();
    c->items = items;
    items[c->n++] = (struct conf_item){OFFSET(keep(r, section)), OFFSET(keep(r, name)), OFFSET(keep(r, key)),
                                       OFFSET(keep(r, value)), r->line};
    return 1;
}

/* The longer value must be one too. */
static int continue_value(struct reader *r, const char *value)
{
    char longer[8192];
    struct conf_item *last = &r->conf->items[r->conf->n - 1];
    const char *text = r->conf->text;
    const struct rule *rule = rule_find(r, text + (uintptr_t)last->section, text + (uintptr_t)last->key);
    int n = snprintf(longer, sizeof longer, "%s%s", text + (uintptr_t)last->value, value);
    if (n >= (rule && rule->type == PATH ? PATH_MAX : (int)sizeof longer))
        return fail(r, r->line, "the value is too long");
    if (!rule || !check_value(r, rule, longer))
        return 0;
    last->value = OFFSET(keep(r, longer));
    return 1;
}

static int on_value(void *user, const char *full, const char *key, const char *value)
{
    struct reader *r = user;
    char section[64], path[PATH_MAX] = "";
    if (*r->error)
        return 0;
    if (r->continued && !r->first)
        return continue_value(r, value);
    r->first = false;
    snprintf(section, sizeof section, "%s", full);
    char *name = section + strcspn(section, " \t");
    if (*name)
        *name++ = 0;
    name += strspn(name, " \t");
    if (!*section)
        return fail(r, r->line, "\"%s\" stands before the first [section]", key);
    if (!*key)
        return fail(r, r->line, "a value without a key");
    const struct rule *rule = rule_find(r, section, key);
    if (!rule)
        return 0;
    bool needs = false;
    for (size_t i = 0; named_sections[i]; i++)
        needs |= !strcmp(named_sections[i], section);
    if ((needs && !name_ok(name)) || (!needs && *name && strcmp(section, "policy")))
        return fail(r, r->line, needs ? "[%s] needs a name: [%s NAME]" : "[%s] takes no name", section,
                    section);
    for (size_t i = 0; i < r->conf->n; i++) {
        const struct conf_item *it = &r->conf->items[i];
        const char *text = r->conf->text;
        if (!strcmp(text + (uintptr_t)it->section, section) && !strcmp(text + (uintptr_t)it->name, name) &&
            !strcmp(text + (uintptr_t)it->key, key))
            return fail(r, r->line, "%s is given twice in [%s] (first on line %u)", key, full, it->line);
    }
    if (!check_value(r, rule, value))
        return 0;
    if (rule->type == PATH && !absolute(r, value, path))
        return 0;
    return add_item(r, section, name, key, rule->type == PATH ? path : value);
}

/* inih cuts lines at 199 bytes and section names at 49 without a word: refuse them first. */
static char *next_line(char *line, int size, void *stream)
{
    struct reader *r = stream;
    if (!fgets(line, size, r->in))
        return NULL;
    r->line++;
    r->continued = isspace((unsigned char)line[0]);
    size_t n = strlen(line);
    if (n + 1 == (size_t)size && line[n - 1] != '\n') {
        fail(r, r->line,
             "longer than %d characters: continue the value on a next line that begins with a blank",
             size - 2);
        return NULL;
    }
    r->first |= line[0] == '[';
    if (line[0] == '[' && n > 49) {
        fail(r, r->line, "a section's name has at most 47 characters");
        return NULL;
    }
    return line;
}

static void resolve(struct conf *c)
{
    for (size_t i = 0; i < c->n; i++) {
        struct conf_item *it = &c->items[i];
        it->section = c->text + (uintptr_t)it->section;
        it->name = c->text + (uintptr_t)it->name;
        it->key = c->text + (uintptr_t)it->key;
        it->value = c->text + (uintptr_t)it->value;
    }
}

/* What a role cannot do without. */
static void check_whole(struct reader *r)
{
    const struct conf *c = r->conf;
    bool sponsor = r->role == CONF_SPONSOR;
    static const char *const required[][2] = {
        {"organization", "name"}, {"organization", "key"}, {"organization", "state"}};
    for (size_t i = 0; i < 3; i++)
        if (!conf_find(c, required[i][0], "", required[i][1]))
            fail(r, 0, "no \"%s\" in [%s]", required[i][1], required[i][0]);
    if (sponsor && (!conf_find(c, "labels", "", "path") || !conf_find(c, "labels", "", "target")))
        fail(r, 0, "a sponsor needs [labels] with path and target");
    if (sponsor && !conf_name(c, "task", 0))
        fail(r, 0, "a sponsor needs a section [task NAME]");
    if (sponsor && conf_name(c, "peer", 0) && !conf_find(c, "listen", "", "address"))
        fail(r, 0, "a sponsor with peers needs [listen] with an address");
    if (!sponsor && !conf_name(c, "sponsor", 0))
        fail(r, 0, "an assistor needs a section [sponsor NAME] with address and key");
    if (!sponsor && !conf_find(c, "data", "", "path"))
        fail(r, 0, "an assistor needs [data] with a path");
    if (sponsor && !conf_find(c, "data", "", "path") && !conf_name(c, "peer", 0))
        fail(r, 0, "nobody to learn from: no [data] of its own and no [peer NAME]");
    const char *name;
    for (size_t i = 0; (name = conf_name(c, "policy", i)); i++)
        if (*name && !conf_find(c, "sponsor", name, "key"))
            fail(r, 0, "[policy %s]: there is no [sponsor %s]", name, name);
    for (size_t i = 0; (name = conf_name(c, "peer", i)); i++)
        if (!conf_find(c, "peer", name, "key"))
            fail(r, 0, "[peer %s] has no key", name);
    for (size_t i = 0; (name = conf_name(c, "sponsor", i)); i++)
        if (!conf_find(c, "sponsor", name, "key") || !conf_find(c, "sponsor", name, "address"))
            fail(r, 0, "[sponsor %s] needs an address and a key", name);
    for (size_t i = 0; (name = conf_name(c, "task", i)); i++)
        if (!conf_find(c, "task", name, "kind"))
            fail(r, 0, "[task %s] has no kind: regression, count, binary or multiclass", name);
}

int conf_read(const char *path, enum conf_role role, struct conf *c, char *error, size_t size)
{
    *c = (struct conf){0};
    *error = 0;
    struct reader r = {.in = fopen(path, "re"),
                       .path = path,
                       .role = role,
                       .first = true,
                       .conf = c,
                       .error = error,
                       .error_size = size};
    if (!r.in) {
        fail(&r, 0, "%s", strerror(errno));
        return -1;
    }
    size_t file = keep(&r, path);
    int bad = ini_parse_stream(next_line, &r, on_value, &r);
    if (bad > 0)
        fail(&r, (unsigned)bad, "neither [section] nor key = value");
    if (ferror(r.in))
        fail(&r, 0, "%s", strerror(errno));
    fclose(r.in);
    c->file = c->text + file;
    resolve(c);
    if (!*error)
        check_whole(&r);
    if (!*error)
        return 0;
    conf_free(c);
    return -1;
}
