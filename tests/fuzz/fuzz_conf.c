/* A configuration file, read for a role (first byte 0 or 1); or a packed configuration (2); several are
 * separated by a byte 0xff. What was accepted holds what its rules say when it is read as the daemons read
 * it, and survives packing. */
#include "common/conf_read.c"

#include "tests/fuzz/fuzz.h"

static void check_item(const struct conf *c, const struct conf_item *it, enum conf_role role)
{
    struct reader r = {.role = role, .error = (char[512]){0}, .error_size = 512};
    const struct rule *rule = rule_find(&r, it->section, it->key);
    MUST(rule && *it->key && *it->value);
    if (rule->type == INTEGER) {
        long n = conf_int(c, it->section, it->name, it->key, -1);
        MUST((double)n >= rule->lo && (double)n <= rule->hi);
        MUST((double)n == conf_real(c, it->section, it->name, it->key, -1));
    }
    if (rule->type == CHOICE)
        MUST(in_list(rule->choices, it->value));
    if (rule->type == KEY)
        MUST(strlen(it->value) == 40);
    if (rule->type == PATH)
        MUST(*it->value == '/' && strlen(it->value) < PATH_MAX);
    if (rule->type == SHARE && strcmp(it->value, "auto"))
        MUST(conf_real(c, it->section, it->name, it->key, -1) >= rule->lo);
}

static bool all(const struct conf_item *it, unsigned process)
{
    (void)it;
    (void)process;
    return true;
}

static void round_trip(const struct conf *c, bool (*keep_item)(const struct conf_item *, unsigned),
                       unsigned process)
{
    struct conf back;
    size_t size, n = 0;
    uint8_t *bytes = conf_pack(c, keep_item, process, &size);
    MUST(bytes && conf_unpack(bytes, size, &back) == 0 && !strcmp(back.file, c->file));
    for (size_t i = 0; i < c->n; i++) {
        const struct conf_item *a = &c->items[i], *b = &back.items[n];
        if (!keep_item(a, process))
            continue;
        MUST(n++ < back.n && !strcmp(a->section, b->section) && !strcmp(a->name, b->name) &&
             !strcmp(a->key, b->key) && !strcmp(a->value, b->value) && a->line == b->line);
    }
    MUST(n == back.n);
    conf_free(&back);
    free(bytes);
}

static void read_file(const uint8_t *data, size_t size, enum conf_role role)
{
    struct conf c;
    char error[512];
    fuzz_file(data, size);
    if (conf_read(fuzz_path(), role, &c, error, sizeof error) < 0) {
        MUST(*error && !strncmp(error, fuzz_path(), strlen(fuzz_path())));
        return;
    }
    MUST(!*error);
    for (size_t i = 0; i < c.n; i++)
        check_item(&c, &c.items[i], role);
    round_trip(&c, all, 0);
    round_trip(&c, conf_for, CONF_LINK);
    round_trip(&c, conf_for, CONF_CORE);
    round_trip(&c, conf_for, CONF_WORKER);
    conf_free(&c);
}

static void unpack(const uint8_t *data, size_t size)
{
    struct conf c;
    if (conf_unpack(data, size, &c) < 0)
        return;
    for (size_t i = 0; conf_name(&c, "peer", i); i++)
        conf_real(&c, "peer", conf_name(&c, "peer", i), "key", 0);
    round_trip(&c, all, 0);
    conf_free(&c);
}

static void one(const uint8_t *data, size_t size)
{
    if (size < 1)
        return;
    if (data[0] % 3 == 2)
        unpack(data + 1, size - 1);
    else
        read_file(data + 1, size - 1, data[0] % 3 ? CONF_ASSISTOR : CONF_SPONSOR);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = data + size, *next;
    for (; (next = memchr(data, 0xff, (size_t)(end - data))); data = next + 1)
        one(data, (size_t)(next - data));
    one(data, (size_t)(end - data));
    return 0;
}
