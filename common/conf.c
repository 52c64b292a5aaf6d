#include "common/conf.h"

#include <stdlib.h>
#include <string.h>

const struct conf_item *conf_find(const struct conf *c, const char *section, const char *name,
                                  const char *key)
{
    for (size_t i = 0; i < c->n; i++) {
        const struct conf_item *item = &c->items[i];
        if (!strcmp(item->section, section) && !strcmp(item->key, key) &&
            !strcmp(item->name, name ? name : ""))
            return item;
    }
    return NULL;
}

const char *conf_text(const struct conf *c, const char *section, const char *name, const char *key,
                      const char *otherwise)
{
    const struct conf_item *item = conf_find(c, section, name, key);
    return item ? item->value : otherwise;
}

double conf_real(const struct conf *c, const char *section, const char *name, const char *key,
                 double otherwise)
{
    const char *text = conf_text(c, section, name, key, NULL);
    return text ? strtod(text, NULL) : otherwise;
}

long conf_int(const struct conf *c, const char *section, const char *name, const char *key, long otherwise)
{
    const char *text = conf_text(c, section, name, key, NULL);
    return text ? strtol(text, NULL, 10) : otherwise;
}

const char *conf_name(const struct conf *c, const char *section, size_t i)
{
    const char *last = NULL;
    for (size_t j = 0; j < c->n; j++) {
        const struct conf_item *item = &c->items[j];
        if (strcmp(item->section, section) || (last && !strcmp(last, item->name)))
            continue;
        last = item->name;
        if (i-- == 0)
            return last;
    }
    return NULL;
}

enum { FIELDS = 4 };

uint8_t *conf_pack(const struct conf *c, bool (*keep)(const struct conf_item *, unsigned), unsigned process,
                   size_t *size)
{
    size_t need = strlen(c->file) + 1;
    for (size_t i = 0; i < c->n; i++) {
        const struct conf_item *it = &c->items[i];
        need += strlen(it->section) + strlen(it->name) + strlen(it->key) + strlen(it->value) + FIELDS +
                sizeof it->line;
    }
    uint8_t *bytes = malloc(need), *at = bytes;
    if (!bytes)
        return NULL;
    at = (uint8_t *)stpcpy((char *)at, c->file) + 1;
    for (size_t i = 0; i < c->n; i++) {
        const struct conf_item *it = &c->items[i];
        if (!keep(it, process))
            continue;
        const char *field[FIELDS] = {it->section, it->name, it->key, it->value};
        for (size_t f = 0; f < FIELDS; f++)
            at = (uint8_t *)stpcpy((char *)at, field[f]) + 1;
        memcpy(at, &it->line, sizeof it->line);
        at += sizeof it->line;
    }
    *size = (size_t)(at - bytes);
    return bytes;
}

/* The string at *at, which must end before `end`; *at moves behind it. NULL if it does not. */
static const char *next_string(const char **at, const char *end)
{
    const char *s = *at, *zero = memchr(s, 0, (size_t)(end - s));
    if (!zero)
        return NULL;
    *at = zero + 1;
    return s;
}

int conf_unpack(const uint8_t *bytes, size_t size, struct conf *c)
{
    *c = (struct conf){.text = malloc(size ? size : 1)};
    if (!c->text)
        return -1;
    memcpy(c->text, bytes, size);
    const char *at = c->text, *end = c->text + size;
    c->file = next_string(&at, end);
    while (c->file && at < end) {
        const char *field[FIELDS];
        for (size_t f = 0; f < FIELDS; f++)
            if (!(field[f] = next_string(&at, end)))
                goto bad;
        struct conf_item *items = reallocarray(c->items, c->n + 1, sizeof *items);
        if (!items)
            goto bad;
        c->items = items;
        if ((size_t)(end - at) < sizeof items->line)
            goto bad;
        items[c->n] = (struct conf_item){field[0], field[1], field[2], field[3], 0};
        memcpy(&items[c->n++].line, at, sizeof items->line);
        at += sizeof items->line;
    }
    if (c->file)
        return 0;
bad:
    conf_free(c);
    return -1;
}

void conf_free(struct conf *c)
{
    free(c->items);
    free(c->text);
    *c = (struct conf){0};
}
