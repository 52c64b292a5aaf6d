/* msg: the messages of proto/gal.proto as plain structures. The only room that includes the protobuf header.
 * A decoder here trusts nothing: memory is bounded by a constant, every length, enumeration and string is
 * checked, unknown fields are refused. */
#ifndef GAL_MSG_H
#define GAL_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROTOCOL_VERSION 1
#define GAL_VERSION      "0.1.0"

enum {
    RUN_BYTES = 16,
    DIGEST_BYTES = 32,
    MSG_TEXT = 256,
    MSG_NAME = 64,
    MSG_MAX_HEADER = 64 << 10, /* bytes of a packed Header */
    MSG_MAX_ROUNDS = 4096,
    MSG_MAX_OUTPUTS = 65536,
    CHUNK_MIN = 4096,
    CHUNK_MAX = 1 << 20,
};

/* The numbers of Header's oneof. */
enum msg_kind {
    MSG_HELLO = 10,
    MSG_WELCOME,
    MSG_TASK,
    MSG_ACCEPT,
    MSG_REFUSE,
    MSG_ALIGN,
    MSG_ALIGNED,
    MSG_FIT,
    MSG_FITTED,
    MSG_SETTLE,
    MSG_PREDICT,
    MSG_PREDICTED,
    MSG_ERROR,
    MSG_BYE,
    MSG_CHUNK,
    MSG_CLOSE,
    MSG_ACK,
    MSG_PEER = 30,
    MSG_KINDS
};

/* "Fit", "Fitted", …; "?" for no kind. */
const char *msg_name(uint32_t kind);

/* What a transfer carries: rows × cols values of a type, row-major, in chunks of `chunk` bytes. */
struct shape {
    uint32_t rows, cols, dtype, chunk;
    bool resume, again;
};

/* Bytes of the whole array, and its number of chunks. */
uint64_t shape_bytes(const struct shape *s);
uint32_t shape_chunks(const struct shape *s);

enum peer_state { PEER_GONE, PEER_THERE, PEER_TRAFFIC };

struct msg {
    enum msg_kind kind;
    bool has_run;
    uint8_t run[RUN_BYTES];
    uint32_t round;
    struct shape array; /* Task, Fit, Fitted, Predict, Predicted */
    union {
        struct {
            uint32_t version;
            char program[MSG_NAME];
            uint64_t instance;
        } hello; /* and Welcome, without the instance */
        struct {
            char name[MSG_NAME], loss[MSG_NAME], predict[MSG_NAME];
            uint32_t outputs, rounds, fit_rows, answer_rows, dtype, common_rows;
            bool has_ids;
            uint8_t ids[DIGEST_BYTES], trace_key[DIGEST_BYTES];
        } task;
        struct {
            bool deterministic, linear;
        } accept;
        struct {
            char code[MSG_NAME], text[MSG_TEXT];
            uint32_t rows;
        } refuse; /* and Error (no rows) and Bye (text alone) */
        struct {
            uint32_t prefix;
            uint8_t ids[DIGEST_BYTES];
        } align;
        struct {
            bool equal;
            uint32_t rows;
        } aligned;
        struct {
            bool settled;
            uint8_t commitment[DIGEST_BYTES], head[DIGEST_BYTES];
        } settle;
        struct {
            uint32_t rounds;
            uint32_t n_coefficients;
            const double *coefficients; /* of the caller; after msg_unpack valid until the next call */
        } predict;
        struct {
            uint32_t index;
            uint8_t digest[DIGEST_BYTES];
        } chunk;
        struct {
            uint8_t digest[DIGEST_BYTES];
            uint32_t chunks, rows, cols;
        } close;
        struct {
            uint32_t kind, next;
        } ack;
        struct {
            uint32_t state;
            uint64_t bytes_out, bytes_in;
        } peer;
    } u;
};

/* True if the kind is followed by chunks and a Close. */
bool msg_is_transfer(uint32_t kind);

/* Packs into bytes[MSG_MAX_HEADER]; the number of bytes, or 0 if it does not fit. */
size_t msg_pack(const struct msg *m, uint8_t bytes[static MSG_MAX_HEADER]);

/* NULL and *m, or the reason why these bytes are not a message (a static string). Not for two threads at
 * once. */
const char *msg_unpack(const uint8_t *bytes, size_t size, struct msg *m);

/* run as 32 hexadecimal digits. */
void msg_run_hex(const uint8_t run[static RUN_BYTES], char hex[static 2 * RUN_BYTES + 1]);

#endif
