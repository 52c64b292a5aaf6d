#include "common/inbox.h"

#include <stdlib.h>
#include <string.h>

int inbox_open(struct inbox *b, const struct msg *opening)
{
    inbox_clear(b);
    b->opening = *opening;
    uint64_t size = shape_bytes(&opening->array);
    b->bytes = malloc(size ? size : 1);
    b->active = b->bytes;
    return b->active ? 0 : -1;
}

void inbox_chunk(struct inbox *b, const uint8_t *bytes, size_t len)
{
    if (!b->active || len > shape_bytes(&b->opening.array) - b->used)
        return;
    memcpy(b->bytes + b->used, bytes, len);
    b->used += len;
}

bool inbox_whole(const struct inbox *b)
{
    return b->active && b->used == shape_bytes(&b->opening.array);
}

void inbox_clear(struct inbox *b)
{
    free(b->bytes);
    *b = (struct inbox){0};
}
