/* conf: one organization's configuration as a list of values that were checked when the file was read
 * (conf_read). The supervisor reads it and passes each process only the sections that it needs. */
#ifndef GAL_CONF_H
#define GAL_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conf_item {
    const char *section; /* "task" of [task main] */
    const char *name;    /* "main", or "" */
    const char *key, *value;
    uint32_t line;
};

struct conf {
    const char *file;
    struct conf_item *items;
    size_t n;
    char *text; /* what the items point into */
};

enum conf_role { CONF_SPONSOR = 1, CONF_ASSISTOR = 2 };
enum conf_process { CONF_LINK = 1, CONF_CORE = 2, CONF_WORKER = 4 };

/* The value, or `otherwise` where the file has none. Owned by the configuration. */
const char *conf_text(const struct conf *c, const char *section, const char *name, const char *key,
                      const char *otherwise);
double conf_real(const struct conf *c, const char *section, const char *name, const char *key,
                 double otherwise);
long conf_int(const struct conf *c, const char *section, const char *name, const char *key, long otherwise);

/* The item itself, for messages that name its line, or NULL. */
const struct conf_item *conf_find(const struct conf *c, const char *section, const char *name,
                                  const char *key);

/* Names of the sections [section NAME] in the order of the file: the i-th, or NULL. */
const char *conf_name(const struct conf *c, const char *section, size_t i);

/* As bytes (malloc'd, the caller frees) with the items that `keep` accepts, and back. 0 or −1. */
uint8_t *conf_pack(const struct conf *c, bool (*keep)(const struct conf_item *, unsigned), unsigned process,
                   size_t *size);
int conf_unpack(const uint8_t *bytes, size_t size, struct conf *c);
void conf_free(struct conf *c);

/* conf_read.c: reads and checks the file for a role. On failure −1 and one line "FILE:LINE: what and what to
 * do" in `error`. */
int conf_read(const char *path, enum conf_role role, struct conf *c, char *error, size_t size);

/* conf_read.c: true if that process gets the item. */
bool conf_for(const struct conf_item *item, unsigned process);

#endif
