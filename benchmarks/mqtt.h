/* What programs that speak MQTT 5 to a broker on 127.0.0.1 share: packets out, packets in, one connection.
 *
 * Whoever includes this says NAME, for its words, and has on_packet, which is given each packet that came.
 * A broker is believed: nothing it sends is looked at twice.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CAPACITY = 8 << 20 };
enum { CONNACK = 2, PUBLISH = 3, PUBACK = 4, SUBACK = 9 };

typedef struct {
    int fd, is_up, is_subscribed;
    unsigned char *in, *out;
    size_t filled, waiting;
} Connection;

static void die(const char *what) {
    fprintf(stderr, NAME ": %s: %s\n", what, errno ? strerror(errno) : "failed");
    exit(1);
}

static void fail(const char *what) {
    errno = 0;
    die(what);
}

static void flush(Connection *one) {
    for (size_t sent = 0; sent < one->waiting;) {
        ssize_t n = send(one->fd, one->out + sent, one->waiting - sent, MSG_NOSIGNAL);
        if (n <= 0) die("send");
        sent += (size_t)n;
    }
    one->waiting = 0;
}

/* Put a packet of so many bytes behind what waits; where its body goes. */
static unsigned char *packet(Connection *one, int first, size_t length) {
    if (one->waiting + length + 5 > CAPACITY) flush(one);
    unsigned char *at = one->out + one->waiting;
    *at++ = (unsigned char)first;
    size_t left = length;
    do *at++ = (unsigned char)((left & 127) | (left > 127 ? 128 : 0)); while (left >>= 7);
    one->waiting = (size_t)(at - one->out) + length;
    return at;
}

static unsigned char *put(unsigned char *at, const void *data, size_t size) {
    memcpy(at, data, size);
    return at + size;
}

static unsigned char *put_text(unsigned char *at, const char *text) {
    size_t size = strlen(text);
    *at++ = (unsigned char)(size >> 8);
    *at++ = (unsigned char)size;
    return put(at, text, size);
}

static void on_packet(Connection *one, Connection *other, const unsigned char *at, size_t size, int first);

/* The broker's answers to what it was asked at first; anything else was not awaited. */
static void on_answer(Connection *one, const unsigned char *at, size_t size, int first) {
    switch (first >> 4) {
    case CONNACK: if (at[1]) fail("the broker refused us"); one->is_up = 1; break;
    case SUBACK: if (at[size - 1] >= 0x80) fail("the broker refused the subscription"); one->is_subscribed = 1; break;
    default: fail("a packet of a kind that was not awaited");
    }
}

/* Read once and act on all that is whole. */
static void receive(Connection *one, Connection *other) {
    ssize_t n = recv(one->fd, one->in + one->filled, CAPACITY - one->filled, 0);
    if (n <= 0) { if (!n) errno = 0; die("the broker closed the connection"); }
    one->filled += (size_t)n;
    size_t at = 0;
    while (one->filled - at >= 2) {
        size_t length = 0, head = 1;
        int is_whole = 0;
        for (; head < 5 && at + head < one->filled && !is_whole; head++) {
            length |= (size_t)(one->in[at + head] & 127) << 7 * (head - 1);
            is_whole = one->in[at + head] < 128;
        }
        if (!is_whole || one->filled - at < head + length) break;
        if (head + length > CAPACITY) fail("a packet that is too large");
        on_packet(one, other, one->in + at + head, length, one->in[at]);
        at += head + length;
    }
    memmove(one->in, one->in + at, one->filled -= at);
}

static void open_at(Connection *one, int port, const char *name) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int at_once = 1;
    char id[64];
    one->in = malloc(CAPACITY);
    one->out = malloc(CAPACITY);
    one->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(one->fd, (void *)&place, sizeof place)) die("connect");
    setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
    snprintf(id, sizeof id, NAME "-%s-%d", name, getpid());
    unsigned char *at = packet(one, 0x10, 11 + 2 + strlen(id));
    at = put(at, "\0\4MQTT\5\2\0\0\0", 11);
    put_text(at, id);
    flush(one);
    while (!one->is_up) receive(one, one);
}

static void subscribe(Connection *one, const char *filter, int qos) {
    unsigned char *at = packet(one, 0x82, 3 + 2 + strlen(filter) + 1);
    at = put_text(put(at, "\0\1\0", 3), filter);
    *at = (unsigned char)qos;
    flush(one);
    while (!one->is_subscribed) receive(one, one);
}
