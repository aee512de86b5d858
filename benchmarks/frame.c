/* A client in C for the native protocol that sends frames by passed memory (docs/protocol.md, Passed memory).
 *
 *     gcc -O2 -Wall -Wextra -Werror -o frame frame.c
 *     ./frame /run/edged/edged.sock MODEL INPUT 1,1080,1920,3 [CALLS [KEY]]
 *
 * The model takes one uint8 input of that shape. The frame is written anew before each call, every byte of it the
 * number of the call (modulo 128) and one of them 255 less the number modulo 100; what a call takes is measured from its
 * RUN to its ANSWER. A KEY keeps all of them on one side of a rollout. It waits on the core that wrote the frame, and says which one that is. Printed are the p50 in microseconds, the time of the run in the daemon, and the first bytes of the
 * last answer's first output. It needs libc and nothing else, and reads little-endian numbers where they lie.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { ERROR = 5, PREPARE = 8, PREPARED = 9, RUN = 10, ANSWER = 11 };
enum { LEND = 18, READY, PASS, LENT, RECALL, BIND, BOUND, NEAR = 25 };
enum { HEADER = 32, MOST = 65536, MOST_CALLS = 1000000, ALIGNED = 64 };

typedef struct { unsigned char magic[4]; uint8_t version, kind; uint16_t flags; uint64_t id;
                 uint32_t head_bytes, reserved; uint64_t body_bytes; } Header;
typedef struct { unsigned char bytes[MOST]; size_t size, at; } Words; /* a msgpack head, written or read */

static int sock;
static uint64_t last_id;

static void die(const char *what) { fprintf(stderr, "frame: %s\n", what); exit(1); }
static void die_of(const char *call) { fprintf(stderr, "frame: %s: %s\n", call, strerror(errno)); exit(1); }

/* msgpack: just the forms that heads are made of. */
static void put(Words *to, uint64_t value, int bytes) {
    if (to->size + (size_t)bytes > MOST) die("a head that is too long");
    while (bytes--) to->bytes[to->size++] = (unsigned char)(value >> (8 * bytes)); /* big-endian */
}
static void put_array(Words *to, unsigned count) { put(to, 0x90 | count, 1); } /* up to 15 */
static void put_number(Words *to, uint64_t value) {
    if (value < 128) put(to, value, 1);
    else { put(to, 0xcf, 1); put(to, value, 8); }
}
static void put_text(Words *to, const char *text) {
    size_t size = strlen(text);
    if (size > 255) die("a name that is too long");
    put(to, 0xd9, 1); put(to, size, 1);
    while (*text) put(to, (unsigned char)*text++, 1);
}
static uint64_t get(Words *from, int bytes) {
    uint64_t value = 0;
    if (from->at + (size_t)bytes > from->size) die("a head that ends too soon");
    while (bytes--) value = value << 8 | from->bytes[from->at++];
    return value;
}
static uint64_t get_number(Words *from) { /* nil counts as 1: an axis that is free has one row here */
    uint64_t first = get(from, 1);
    if (first < 128) return first;
    if (first == 0xc0) return 1;
    if (first == 0xc2 || first == 0xc3) return first & 1;
    if (first < 0xcc || first > 0xcf) die("expected a number");
    return get(from, 1 << (first - 0xcc));
}
static size_t get_array(Words *from) {
    uint64_t first = get(from, 1);
    if (first >> 4 == 9) return first & 15;
    if (first != 0xdc && first != 0xdd) die("expected an array");
    return get(from, first == 0xdc ? 2 : 4);
}
static void get_text(Words *from, char *text, size_t room) {
    uint64_t first = get(from, 1);
    size_t size = first >> 5 == 5 ? first & 31 : first >= 0xd9 && first <= 0xdb ? get(from, 1 << (first - 0xd9)) : 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char letter = (unsigned char)get(from, 1);
        if (i + 1 < room) text[i] = (char)letter;
    }
    text[size < room ? size : room - 1] = 0;
}

static void send_all(const void *data, size_t size, int descriptor) {
    const char *at = data;
    while (size) {
        union { char room[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control = {{0}};
        struct iovec piece = {(void *)at, size};
        struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
        if (descriptor >= 0) {
            message.msg_control = control.room;
            message.msg_controllen = sizeof control.room;
            struct cmsghdr *first = CMSG_FIRSTHDR(&message);
            first->cmsg_level = SOL_SOCKET;
            first->cmsg_type = SCM_RIGHTS;
            first->cmsg_len = CMSG_LEN(sizeof(int));
            memcpy(CMSG_DATA(first), &descriptor, sizeof descriptor);
        }
        ssize_t sent = sendmsg(sock, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) die_of("sendmsg");
        descriptor = -1; /* it went with the first byte */
        at += sent;
        size -= (size_t)sent;
    }
}
static void receive(void *data, size_t size) {
    for (char *at = data; size;) {
        ssize_t got = recv(sock, at, size, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) die_of("recv");
        if (got == 0) die("the daemon closed the connection");
        at += got;
        size -= (size_t)got;
    }
}
static uint64_t send_frame(int kind, const Words *head, int descriptor) {
    unsigned char frame[HEADER + MOST + 8] = {0};
    Header header = {{'E', 'D', 'G', 'D'}, 1, (uint8_t)kind, 0, ++last_id, (uint32_t)head->size, 0, 0};
    memcpy(frame, &header, HEADER);
    memcpy(frame + HEADER, head->bytes, head->size);
    send_all(frame, HEADER + (head->size + 7) / 8 * 8, descriptor);
    return last_id;
}
/* The answer to a request: its head is left in `head`, its body, which is small here, is dropped. */
static void take_answer(int kind, uint64_t id, Words *head) {
    Header header;
    unsigned char rest[4096];
    receive(&header, HEADER);
    if (memcmp(header.magic, "EDGD", 4) || header.version != 1 || header.head_bytes > MOST - 8) die("no frame of edged");
    head->size = header.head_bytes;
    head->at = 0;
    receive(head->bytes, (header.head_bytes + 7) / 8 * 8);
    for (uint64_t left = header.body_bytes; left;) {
        size_t piece = left < sizeof rest ? (size_t)left : sizeof rest;
        receive(rest, piece);
        left -= piece;
    }
    if (header.kind == ERROR) {
        char code[64], name[64], text[512];
        get_array(head);
        get_text(head, code, sizeof code), get_text(head, name, sizeof name), get_text(head, text, sizeof text);
        fprintf(stderr, "frame: %s (%s): %s\n", code, name, text);
        exit(2);
    }
    if (header.kind != kind || header.id != id) die("another answer than the one expected");
}

static size_t element_bytes(const char *dtype) {
    const char *digits = strpbrk(dtype, "123468");
    return digits ? (size_t)atoi(digits) / 8 : 1; /* bool has one */
}
static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
static int compare(const void *a, const void *b) {
    uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;
    return (one > other) - (one < other);
}

/* A wait for what was written on this core, on this core: the daemon, which is told, may come here for it. The program's
 * own mask is changed for that time alone, and only while runs are short (docs/protocol.md, NEAR). */
enum { SHORT_NS = 1000000 };
static cpu_set_t everywhere;
static int core = -1, told = -1, times_there;

static int stay(uint64_t run_ns) {
    cpu_set_t only;
    int now = sched_getcpu();
    if (run_ns >= SHORT_NS || now < 0 || sched_getaffinity(0, sizeof everywhere, &everywhere) || CPU_COUNT(&everywhere) < 2)
        return 0;
    CPU_ZERO(&only);
    CPU_SET((size_t)now, &only);
    if (sched_setaffinity(0, sizeof only, &only)) return 0;
    times_there = now == core ? times_there + 1 : 1;
    core = now;
    return 1;
}
static void go(void) {
    static Words head;
    sched_setaffinity(0, sizeof everywhere, &everywhere);
    if (times_there < 2 || core == told) return;
    head.size = 0;
    put_array(&head, 1), put_number(&head, (uint64_t)core);
    send_frame(NEAR, &head, -1); /* has no answer */
    told = core;
}

int main(int argc, char **argv) {
    if (argc < 5) die("usage: frame SOCKET MODEL INPUT AXIS,AXIS,... [CALLS [KEY]]");
    long calls = argc > 5 ? atol(argv[5]) : 1;
    const char *key = argc > 6 ? argv[6] : "";
    size_t key_bytes = strlen(key);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(argv[1]) >= sizeof address.sun_path || calls < 1 || calls > MOST_CALLS || key_bytes > 1024) die("a path or number that is too long");
    strcpy(address.sun_path, argv[1]);
    sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sock < 0 || connect(sock, (struct sockaddr *)&address, sizeof address)) die_of("connect");

    static Words words;
    uint64_t axes[8];
    unsigned rank = 0;
    size_t frame_bytes = 1, place_bytes = 0;
    for (char *axis = strtok(argv[4], ","); axis && rank < 8; axis = strtok(NULL, ",")) {
        axes[rank] = strtoull(axis, NULL, 10);
        frame_bytes *= axes[rank++];
    }
    if (!frame_bytes || frame_bytes > (1u << 30)) die("a frame that is empty or too large");

    put_array(&words, 4); /* model, release, inputs, outputs */
    put_text(&words, argv[2]), put(&words, 0xc0, 1);
    put_array(&words, 1), put_array(&words, 3), put_text(&words, argv[3]), put_text(&words, "uint8");
    put_array(&words, rank);
    for (unsigned i = 0; i < rank; i++) put_number(&words, axes[i]);
    put_array(&words, 0);
    take_answer(PREPARED, send_frame(PREPARE, &words, -1), &words);
    char name[256], dtype[32];
    get_array(&words); /* handle, release, generation, outputs */
    uint64_t handle = get_number(&words);
    get_number(&words), get_number(&words);
    size_t outputs = get_array(&words);
    if (!outputs || outputs > 15) die("a model with no output, or more than this program takes");
    get_array(&words), get_text(&words, name, sizeof name), get_text(&words, dtype, sizeof dtype);
    place_bytes = element_bytes(dtype);
    for (size_t left = get_array(&words); left; left--) place_bytes *= get_number(&words);

    size_t offset = (frame_bytes + ALIGNED - 1) / ALIGNED * ALIGNED, size = offset + place_bytes;
    int memory = memfd_create("frame", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memory < 0 || ftruncate(memory, (off_t)size) || fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK)) die_of("memfd");
    unsigned char *mine = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (mine == MAP_FAILED) die_of("mmap");
    words.size = 0;
    put_array(&words, 1), put_number(&words, size);
    take_answer(READY, send_frame(LEND, &words, -1), &words);
    words.size = 0;
    take_answer(LENT, send_frame(PASS, &words, memory), &words);
    close(memory);
    get_array(&words);
    uint64_t region = get_number(&words);

    words.size = 0;
    put_array(&words, 4), put_number(&words, handle), put_number(&words, 0);
    put_array(&words, 1), put_array(&words, 2), put_number(&words, region), put_number(&words, 0);
    put_array(&words, (unsigned)outputs), put_array(&words, 3);
    put_number(&words, region), put_number(&words, offset), put_number(&words, place_bytes);
    for (size_t i = 1; i < outputs; i++) put(&words, 0xc0, 1); /* the others come in the body */
    take_answer(BOUND, send_frame(BIND, &words, -1), &words);
    get_array(&words);
    uint32_t bound = (uint32_t)get_number(&words);

    uint64_t *times = calloc((size_t)calls, sizeof *times), run_ns = SHORT_NS;
    if (!times) die_of("calloc");
    words.size = 16; /* handle, rows, timeout in microseconds */
    for (long call = 0; call < calls; call++) {
        memset(mine, (int)(call % 128), frame_bytes);
        mine[(size_t)call * 1009 % frame_bytes] = (unsigned char)(255 - call % 100);
        memset(words.bytes, 0, 16);
        memcpy(words.bytes, &bound, sizeof bound);
        memcpy(words.bytes + 16, key, key_bytes);
        words.size = 16 + key_bytes;
        uint64_t began = now_ns();
        int stays = stay(run_ns);
        take_answer(ANSWER, send_frame(RUN, &words, -1), &words);
        if (stays) go();
        times[call] = now_ns() - began;
        memcpy(&run_ns, words.bytes + 24, sizeof run_ns);
    }
    qsort(times, (size_t)calls, sizeof *times, compare);
    printf("p50_us %.1f\nrun_us %.1f\n%s", (double)times[calls / 2] / 1e3, (double)run_ns / 1e3, name);
    for (size_t i = 0; i < place_bytes && i < 16; i++) printf(" %02x", mine[offset + i]);
    printf("\n");
    free(times);
    return 0;
}
