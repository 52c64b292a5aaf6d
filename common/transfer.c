#include "common/transfer.h"

#include <stdlib.h>
#include <string.h>

bool transfer_same(const struct msg *a, const struct msg *b)
{
    return a->kind == b->kind && a->round == b->round && a->has_run == b->has_run &&
           !memcmp(a->run, b->run, RUN_BYTES);
}

/* Bytes of chunk i of a shape. */
static uint64_t chunk_bytes(const struct shape *s, uint32_t i)
{
    uint64_t begin = (uint64_t)i * s->chunk, left = shape_bytes(s) - begin;
    return left < s->chunk ? left : s->chunk;
}

struct outgoing *outgoing_new(const struct msg *opening, const uint8_t key[static DIGEST_BYTES])
{
    uint32_t chunks = shape_chunks(&opening->array);
    struct outgoing *o = calloc(1, sizeof *o + chunks * sizeof o->chunk[0]);
    if (!o)
        return NULL;
    o->users = 1;
    o->opening = *opening;
    o->chunks = chunks;
    digest_begin(&o->digesting, key);
    memcpy(o->digest, key, DIGEST_BYTES); /* until it is closed */
    return o;
}

void outgoing_release(struct outgoing *o)
{
    if (!o || --o->users)
        return;
    for (uint32_t i = 0; i < o->have; i++)
        free(o->chunk[i].bytes);
    free(o);
}

int outgoing_add(struct outgoing *o, const uint8_t *bytes, size_t len)
{
    if (o->have == o->chunks || len != chunk_bytes(&o->opening.array, o->have))
        return -1;
    uint8_t *copy = malloc(len);
    if (!copy)
        return -1;
    memcpy(copy, bytes, len);
    o->chunk[o->have].bytes = copy;
    o->chunk[o->have].len = (uint32_t)len;
    digest_bytes(o->digest, bytes, len, o->chunk[o->have].digest);
    digest_chunk(&o->digesting, o->chunk[o->have].digest);
    o->have++;
    return 0;
}

int outgoing_close(struct outgoing *o)
{
    if (o->have != o->chunks || o->closed)
        return -1;
    digest_end(&o->digesting, &o->opening, o->digest);
    o->closed = true;
    return 0;
}

bool incoming_open(struct incoming *in, const struct msg *opening, const uint8_t key[static DIGEST_BYTES])
{
    const struct shape *a = &in->opening.array, *b = &opening->array;
    bool same_shape =
        a->rows == b->rows && a->cols == b->cols && a->dtype == b->dtype && a->chunk == b->chunk;
    bool forgotten =
        in->complete && opening->kind == MSG_PREDICT; /* nobody stores what is predicted: it is sent again */
    if (opening->array.resume && in->active && !forgotten && same_shape &&
        transfer_same(&in->opening, opening) && !memcmp(in->key, key, DIGEST_BYTES))
        return true;
    *in = (struct incoming){.active = true, .opening = *opening, .chunks = shape_chunks(&opening->array)};
    memcpy(in->key, key, DIGEST_BYTES);
    digest_begin(&in->digesting, key);
    return false;
}

const char *incoming_chunk(struct incoming *in, uint32_t index, const uint8_t *bytes, size_t len,
                           const uint8_t *expected)
{
    uint8_t digest[DIGEST_BYTES];
    if (!in->active || in->complete)
        return "a chunk outside a transfer";
    if (index != in->next || index >= in->chunks)
        return "a chunk out of order";
    if (len != chunk_bytes(&in->opening.array, index))
        return "a chunk of the wrong length";
    digest_bytes(in->key, bytes, len, digest);
    if (expected && memcmp(digest, expected, DIGEST_BYTES))
        return "a chunk whose digest is wrong";
    digest_chunk(&in->digesting, digest);
    in->next++;
    return NULL;
}

const char *incoming_close(struct incoming *in, const struct msg *close)
{
    const struct shape *s = &in->opening.array;
    if (!in->active)
        return "the end of a transfer that did not begin";
    if (in->next != in->chunks)
        return "the end of a transfer before its last chunk";
    if (!in->complete)
        digest_end(&in->digesting, &in->opening, in->digest);
    in->complete = true;
    if (close && (close->u.close.chunks != in->chunks || close->u.close.rows != s->rows ||
                  close->u.close.cols != s->cols))
        return "the end of a transfer of another shape";
    if (close && memcmp(close->u.close.digest, in->digest, DIGEST_BYTES))
        return "a transfer whose digest is wrong";
    return NULL;
}
