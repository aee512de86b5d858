/* The least that a daemon behind a broker can do: answers at once what it is asked, and runs nothing.
 *
 *     mqtt_echo_floor PORT FILTER TOPIC
 *
 * What comes on FILTER at QoS 1 is sent to TOPIC, its first 128 bytes, as mqtt_echo.py does, and acknowledged
 * when the broker has acknowledged the answer. All that follows from one read leaves in one write. So it is the
 * broker and the asker that bound it, which is why it is asked: nothing behind the same two is faster.
 */
#define NAME "mqtt_echo_floor"
#include "mqtt.h"

enum { ANSWER_BYTES = 128, IDS = 1 << 16 };

static const char *topic;
static uint16_t packet_id, asked_as[IDS];

static void on_publish(Connection *one, const unsigned char *at, size_t size) {
    size_t behind = 2 + ((size_t)at[0] << 8 | at[1]);
    uint16_t id = (uint16_t)(at[behind] << 8 | at[behind + 1]);
    size_t body = behind + 2 + 1 + at[behind + 2]; /* its properties: none, or few bytes */
    size_t length = size - body < ANSWER_BYTES ? size - body : ANSWER_BYTES;
    if (!++packet_id) packet_id = 1;
    asked_as[packet_id] = id;
    unsigned char *out = put_text(packet(one, PUBLISH << 4 | 1 << 1, 2 + strlen(topic) + 2 + 1 + length), topic);
    *out++ = (unsigned char)(packet_id >> 8);
    *out++ = (unsigned char)packet_id;
    *out++ = 0;
    put(out, at + body, length);
}

static void on_puback(Connection *one, const unsigned char *at) {
    uint16_t id = asked_as[at[0] << 8 | at[1]];
    unsigned char *out = packet(one, PUBACK << 4, 2);
    *out++ = (unsigned char)(id >> 8);
    *out = (unsigned char)id;
}

static void on_packet(Connection *one, Connection *other, const unsigned char *at, size_t size, int first) {
    (void)other;
    if (first >> 4 == PUBLISH) on_publish(one, at, size);
    else if (first >> 4 == PUBACK) on_puback(one, at);
    else on_answer(one, at, size, first);
}

int main(int count, char **words) {
    Connection one = {0};
    if (count != 4) fail("PORT FILTER TOPIC");
    topic = words[3];
    open_at(&one, atoi(words[1]), "echo");
    subscribe(&one, words[2], 1);
    printf("connected\n");
    fflush(stdout);
    for (;;) {
        receive(&one, &one);
        flush(&one);
    }
}
