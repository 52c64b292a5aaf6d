#include "common/digest.h"

#include <string.h>

static void le32(uint32_t x, uint8_t out[static 4])
{
    for (size_t i = 0; i < 4; i++)
        out[i] = (uint8_t)(x >> (8 * i));
}

void digest_bytes(const uint8_t key[static DIGEST_BYTES], const void *bytes, size_t n,
                  uint8_t out[static DIGEST_BYTES])
{
    crypto_generichash(out, DIGEST_BYTES, bytes, n, key, DIGEST_BYTES);
}

void digest_begin(struct digest_transfer *d, const uint8_t key[static DIGEST_BYTES])
{
    crypto_generichash_init(&d->state, key, DIGEST_BYTES, DIGEST_BYTES);
}

void digest_chunk(struct digest_transfer *d, const uint8_t chunk[static DIGEST_BYTES])
{
    crypto_generichash_update(&d->state, chunk, DIGEST_BYTES);
}

void digest_end(struct digest_transfer *d, const struct msg *opening, uint8_t out[static DIGEST_BYTES])
{
    const uint32_t words[5] = {opening->kind, opening->round, opening->array.rows, opening->array.cols,
                               opening->array.dtype};
    uint8_t bytes[20];
    for (size_t i = 0; i < 5; i++)
        le32(words[i], bytes + 4 * i);
    crypto_generichash_update(&d->state, bytes, sizeof bytes);
    crypto_generichash_final(&d->state, out, DIGEST_BYTES);
}

void digest_ids(const uint8_t key[static DIGEST_BYTES], const char *const *ids, size_t n,
                uint8_t out[static DIGEST_BYTES])
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, key, DIGEST_BYTES, DIGEST_BYTES);
    for (size_t i = 0; i < n; i++) {
        uint8_t len[4];
        size_t size = strlen(ids[i]);
        le32((uint32_t)size, len);
        crypto_generichash_update(&state, len, sizeof len);
        crypto_generichash_update(&state, (const uint8_t *)ids[i], size);
    }
    crypto_generichash_final(&state, out, DIGEST_BYTES);
}
