#include "common/trace.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"

enum { LINE = 1024, FIRST_KIND = MSG_TASK, LAST_KIND = MSG_PREDICTED, KINDS = LAST_KIND - FIRST_KIND + 1 };

/* Of one run with one peer. */
struct head {
    char run[2 * RUN_BYTES + 1], peer[MSG_NAME];
    uint8_t digest[DIGEST_BYTES];
    struct {
        bool seen;
        uint32_t round;
        uint8_t digest[DIGEST_BYTES];
    } last[KINDS]; /* rounds of a kind only go up, so the last one tells a repeat */
};

struct trace {
    int fd;
    uint64_t n;
    uint8_t chain[DIGEST_BYTES];
    struct head *head;
    size_t n_heads;
};

static void hex(const uint8_t *bytes, char out[static 2 * DIGEST_BYTES + 1])
{
    sodium_bin2hex(out, 2 * DIGEST_BYTES + 1, bytes, DIGEST_BYTES);
}

static struct head *head_of(struct trace *t, const char *run, const char *peer)
{
    for (size_t i = t->n_heads; i-- > 0;)
        if (!strcmp(t->head[i].run, run) && !strcmp(t->head[i].peer, peer))
            return &t->head[i];
    struct head *all = reallocarray(t->head, t->n_heads + 1, sizeof *all);
    if (!all)
        log_die(1, "out of memory");
    t->head = all;
    struct head *h = &all[t->n_heads++];
    memset(h, 0, sizeof *h);
    snprintf(h->run, sizeof h->run, "%s", run);
    snprintf(h->peer, sizeof h->peer, "%s", peer);
    return h;
}

/* True if this (kind, round, digest) is new for the head, which then includes it: BLAKE2b(head ‖ kind ‖ round
 * ‖ rows ‖ cols ‖ dtype ‖ digest). */
static bool head_include(struct head *h, uint32_t kind, uint32_t round, const struct shape *s,
                         const uint8_t *digest)
{
    if (kind < FIRST_KIND || kind > LAST_KIND ||
        kind == MSG_SETTLE) /* a Settle carries the head, and may be lost */
        return true;
    bool again = h->last[kind - FIRST_KIND].seen && h->last[kind - FIRST_KIND].round == round &&
                 !memcmp(h->last[kind - FIRST_KIND].digest, digest, DIGEST_BYTES);
    if (again)
        return false;
    h->last[kind - FIRST_KIND].seen = true;
    h->last[kind - FIRST_KIND].round = round;
    memcpy(h->last[kind - FIRST_KIND].digest, digest, DIGEST_BYTES);
    const uint32_t words[5] = {kind, round, s->rows, s->cols, s->dtype};
    uint8_t bytes[2 * DIGEST_BYTES + 20];
    memcpy(bytes, h->digest, DIGEST_BYTES);
    for (size_t i = 0; i < 20; i++)
        bytes[DIGEST_BYTES + i] = (uint8_t)(words[i / 4] >> (8 * (i % 4)));
    memcpy(bytes + DIGEST_BYTES + 20, digest, DIGEST_BYTES);
    crypto_generichash(h->digest, DIGEST_BYTES, bytes, sizeof bytes, NULL, 0);
    return true;
}

const uint8_t *trace_head(struct trace *t, const uint8_t run[static RUN_BYTES], const char *peer)
{
    char hex_run[2 * RUN_BYTES + 1];
    msg_run_hex(run, hex_run);
    return head_of(t, hex_run, peer)->digest;
}

/* ---- reading back ---- */

/* The value of "key": in a line that trace_add wrote, without quotes; "" if it is not there. */
static const char *field(const char *line, const char *key, char *out, size_t size)
{
    char quoted[32];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *at = strstr(line, quoted);
    size_t n = 0;
    if (at) {
        at += strlen(quoted);
        at += *at == '"';
        n = strcspn(at, "\",}");
    }
    snprintf(out, size, "%.*s", (int)n, at ? at : "");
    return out;
}

static bool digest_field(const char *line, const char *key, uint8_t out[static DIGEST_BYTES])
{
    char text[2 * DIGEST_BYTES + 1];
    size_t n;
    field(line, key, text, sizeof text);
    return sodium_hex2bin(out, DIGEST_BYTES, text, strlen(text), NULL, &n, NULL) == 0 && n == DIGEST_BYTES;
}

static int restore_line(struct trace *t, const char *line)
{
    char run[2 * RUN_BYTES + 1], peer[MSG_NAME], kind[32], round[16];
    uint8_t digest[DIGEST_BYTES];
    if (!digest_field(line, "chain", t->chain))
        return -1;
    t->n++;
    field(line, "run", run, sizeof run);
    if (!*run || !digest_field(line, "digest", digest))
        return 0;
    struct head *h = head_of(t, run, field(line, "peer", peer, sizeof peer));
    field(line, "kind", kind, sizeof kind);
    for (uint32_t k = FIRST_KIND; k <= LAST_KIND; k++)
        if (!strcmp(kind, msg_name(k))) {
            h->last[k - FIRST_KIND].seen = true;
            h->last[k - FIRST_KIND].round =
                (uint32_t)strtoul(field(line, "round", round, sizeof round), NULL, 10);
            memcpy(h->last[k - FIRST_KIND].digest, digest, DIGEST_BYTES);
        }
    return digest_field(line, "head", h->digest) ? 0 : -1;
}

static int restore(struct trace *t)
{
    char *line = NULL;
    size_t room = 0;
    off_t whole = 0;
    ssize_t n;
    int status = 0;
    FILE *f = fdopen(dup(t->fd), "r");
    if (!f || fseeko(f, 0, SEEK_SET) < 0)
        return -1;
    while (status == 0 && (n = getline(&line, &room, f)) > 0 && line[n - 1] == '\n') {
        status = n < LINE && strlen(line) == (size_t)n ? restore_line(t, line) : -1;
        whole += n;
    }
    bool unread = ferror(f);
    free(line);
    fclose(f);
    if (unread) {
        log_error("trace.jsonl cannot be read: %s", strerror(errno));
        return -1;
    }
    if (status < 0) {
        log_error("trace.jsonl:%lu: not a line of a trace: move the file away to begin a new one",
                  (unsigned long)t->n + 1);
        return -1;
    }
    struct stat st;
    if (fstat(t->fd, &st) == 0 && st.st_size > whole) {
        log_error("trace.jsonl: the last line was cut by a crash and is removed");
        return ftruncate(t->fd, whole);
    }
    return 0;
}

struct trace *trace_open(int fd)
{
    struct trace *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->fd = fd;
    if (restore(t) == 0)
        return t;
    trace_free(t);
    return NULL;
}

void trace_free(struct trace *t)
{
    if (!t)
        return;
    close(t->fd);
    free(t->head);
    free(t);
}

/* ---- writing ---- */

static void timestamp(char out[static 32])
{
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, 32 - n, ".%03ldZ", now.tv_nsec / 1000000);
}

static const char *dtype_name(uint32_t dtype)
{
    static const char *const names[] = {"", "f32", "f64", "u32"};
    return dtype < 4 ? names[dtype] : "";
}

void trace_add(struct trace *t, const struct trace_entry *e)
{
    char line[LINE], when[32], run[2 * RUN_BYTES + 1] = "", digest[2 * DIGEST_BYTES + 1] = "",
                                                   head[2 * DIGEST_BYTES + 1] = "",
                                                   chain[2 * DIGEST_BYTES + 1];
    static const struct shape none;
    const struct shape *s = msg_is_transfer(e->m->kind) ? &e->m->array : &none;
    bool repeat = false;
    if (e->m->has_run && e->digest) {
        msg_run_hex(e->m->run, run);
        struct head *h = head_of(t, run, e->peer);
        repeat = !head_include(h, e->m->kind, e->m->round, s, e->digest);
        hex(h->digest, head);
        hex(e->digest, digest);
    }
    timestamp(when);
    int n = snprintf(
        line, sizeof line,
        "{\"time\":\"%s\",\"n\":%lu,\"dir\":\"%s\",\"peer\":\"%s\",\"kind\":\"%s\",\"run\":\"%s\",\"round\":%"
        "u,"
        "\"rows\":%u,\"cols\":%u,\"dtype\":\"%s\",\"bytes\":%lu,\"wire\":%lu,\"digest\":\"%s\",\"repeat\":%s,"
        "\"head\":\"%s\"",
        when, (unsigned long)++t->n, e->direction, e->peer, msg_name(e->m->kind), run, e->m->round, s->rows,
        s->cols, dtype_name(s->dtype), (unsigned long)e->bytes, (unsigned long)e->wire, digest,
        repeat ? "true" : "false", head);
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, DIGEST_BYTES);
    crypto_generichash_update(&state, t->chain, DIGEST_BYTES);
    crypto_generichash_update(&state, (const uint8_t *)line, (unsigned long long)n);
    crypto_generichash_final(&state, t->chain, DIGEST_BYTES);
    hex(t->chain, chain);
    n += snprintf(line + n, sizeof line - (size_t)n, ",\"chain\":\"%s\"}\n", chain);
    if (write(t->fd, line, (size_t)n) != n)
        log_die(1, "trace.jsonl cannot be written (%s): free the disk and start again; nothing more is sent",
                strerror(errno));
}
