/* A load generator for MQTT 5: requests on one topic, answers on another, so many on their way at a time.
 *
 *     mqtt_load PORT HEAR_PORT TOPIC HEAR_TOPIC PAYLOAD QOS IN_FLIGHT SECONDS
 *
 * It asks at the broker on PORT of 127.0.0.1 and hears at the one on HEAR_PORT, over one connection where both
 * are the same. The file PAYLOAD is published to TOPIC as it is; each message that comes on HEAR_TOPIC is
 * acknowledged and lets the next request go, both in one write. An answer with the word "error" in it is an
 * error. Answers are taken to come in the order of the requests. It takes a twentieth of the processor's time
 * that a client in Python takes, so that what is measured is the other side. One line of JSON tells what it
 * found.
 */
#define NAME "mqtt_load"
#include "mqtt.h"
#include <sys/stat.h>
#include <time.h>

enum { MOST = 1 << 22, RING = 1 << 16, SILENCE_MS = 5000 };

static char *payload, *topic;
static size_t payload_size;
static int qos;
static uint64_t answered, errors, refused, from_ns, since_ns[RING];
static uint32_t asked, heard;
static uint16_t packet_id;
static float *times_us;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static char *read_file(const char *path, size_t *size) {
    struct stat about;
    FILE *file = fopen(path, "rb");
    if (!file || fstat(fileno(file), &about)) die(path);
    char *data = malloc((size_t)about.st_size + 1);
    *size = fread(data, 1, (size_t)about.st_size, file);
    fclose(file);
    return data;
}

static void ask(Connection *one) {
    size_t size = 2 + strlen(topic) + (qos ? 2 : 0) + 1 + payload_size;
    unsigned char *at = put_text(packet(one, PUBLISH << 4 | qos << 1, size), topic);
    if (qos) {
        if (!++packet_id) packet_id = 1;
        *at++ = (unsigned char)(packet_id >> 8);
        *at++ = (unsigned char)packet_id;
    }
    *at++ = 0;
    put(at, payload, payload_size);
    since_ns[asked++ % RING] = now_ns();
}

static void on_publish(Connection *hears, Connection *asks, const unsigned char *at, size_t size, int flags) {
    uint64_t now = now_ns(), since = since_ns[heard++ % RING];
    size_t behind = 2 + ((size_t)at[0] << 8 | at[1]);
    if (flags >> 1 & 3) {
        unsigned char *ack = packet(hears, PUBACK << 4, 2);
        put(ack, at + behind, 2);
    }
    if (since >= from_ns) {
        if (answered < MOST) times_us[answered] = (float)((double)(now - since) / 1000.0);
        answered++;
    }
    if (memmem(at + behind, size - behind, "\"error\"", 7)) errors++;
    ask(asks);
}

static void on_packet(Connection *one, Connection *asks, const unsigned char *at, size_t size, int first) {
    switch (first >> 4) {
    case PUBLISH: on_publish(one, asks, at, size, first & 15); break;
    case PUBACK: refused += size > 2 && at[2] >= 0x80; break;
    default: on_answer(one, at, size, first);
    }
}

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int main(int count, char **words) {
    if (count != 9) fail("PORT HEAR_PORT TOPIC HEAR_TOPIC PAYLOAD QOS IN_FLIGHT SECONDS");
    Connection asks = {0}, other = {0}, *hears = strcmp(words[1], words[2]) ? &other : &asks;
    topic = words[3];
    payload = read_file(words[5], &payload_size);
    qos = atoi(words[6]);
    int in_flight = atoi(words[7]);
    double seconds = atof(words[8]);
    if (payload_size > CAPACITY / 2 || in_flight < 1 || in_flight > RING / 2 || qos > 1) fail("a value out of range");
    times_us = malloc(MOST * sizeof *times_us);
    open_at(&asks, atoi(words[1]), "asks");
    if (hears != &asks) open_at(hears, atoi(words[2]), "hears");
    subscribe(hears, words[4], qos);
    uint64_t now = now_ns(), end_ns;
    from_ns = now + (uint64_t)(seconds * 0.2e9);
    end_ns = from_ns + (uint64_t)(seconds * 1e9);
    for (int i = 0; i < in_flight; i++) ask(&asks);
    flush(&asks);
    while ((now = now_ns()) < end_ns) {
        struct pollfd ready[2] = {{asks.fd, POLLIN, 0}, {hears->fd, POLLIN, 0}};
        if (poll(ready, hears == &asks ? 1 : 2, SILENCE_MS) <= 0) fail("no answer within 5 s");
        if (ready[0].revents) receive(&asks, &asks);
        if (hears != &asks && ready[1].revents) receive(hears, &asks);
        flush(hears);
        flush(&asks);
    }
    size_t kept = answered < MOST ? answered : MOST;
    if (!kept) fail("nothing was answered");
    qsort(times_us, kept, sizeof *times_us, by_size);
    printf("{\"per_s\": %.1f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"answered\": %llu, \"errors\": %llu, "
           "\"refused\": %llu}\n",
           (double)answered / ((double)(now - from_ns) / 1e9), times_us[kept / 2], times_us[kept * 99 / 100],
           (unsigned long long)answered, (unsigned long long)errors, (unsigned long long)refused);
    return errors || refused ? 1 : 0;
}
