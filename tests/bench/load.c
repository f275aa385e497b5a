/* load PORT CONNECTIONS NANOSECONDS PAUSE SERVER < REQUESTS: asks an epmd for so many ns, with so many connections
 * open at a time, and prints what that cost. bench.load compiles it, and writes the requests.
 *
 * It is in C so that the server is the bottleneck, not the load. Each request is a connection of its own: connect,
 * wait PAUSE ns, send, read to the end, compare, close. Erlang's client sends that long after it has connected;
 * by then a server that was idle has accepted. A request that arrived with its connection would be read without any
 * wait, which nodes never grant. SERVER is the process that serves.
 *
 * REQUESTS are, for each: the size of the packet, the packet, the size of the reply, the reply, and whether the
 * server closes; sizes are 32 bits in the machine's order. If the server does not close (a registration), the reply
 * must begin with the given bytes and have REGISTERED bytes. A wrong reply ends the program with status 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define REGISTERED 6
/* Between one pair of addresses, many connections of held nodes or in TIME_WAIT make it slow to find a free port.
 * The servers listen on every address, so each connection goes to the next of these: 127.0.0.1 and so on. */
#define HOSTS 250
/* A reply up to this size fits into the socket's buffers: one wake-up, when it is complete, is enough. */
#define FITS (1 << 15)

struct request {
    char *packet, *reply;
    uint32_t packet_size, reply_size, closes;
};

struct connection {
    const struct request *request; /* NULL: this place is free */
    int fd;
    int64_t start, due;            /* due 0: the request has been sent */
    size_t got, room;
    char *reply;
};

static struct request *requests;
static size_t request_count, next_request;
static int64_t *latencies;
static size_t latency_count, latency_room;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static void *grown(void *memory, size_t size) {
    memory = realloc(memory, size);
    if (!memory)
        fail("no memory");
    return memory;
}

static int64_t now_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* The CPU time that the threads of a process have had, in ns. The ticks of /proc/PID/stat are 10 ms. */
static int64_t cpu_ns(const char *process) {
    char path[300];
    int64_t total = 0;
    snprintf(path, sizeof path, "/proc/%s/task", process);
    DIR *threads = opendir(path);
    if (!threads)
        fail("%s: %s", path, strerror(errno));
    for (struct dirent *thread; (thread = readdir(threads));) {
        long long spent = 0;
        if (thread->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%s/task/%s/schedstat", process, thread->d_name);
        FILE *stat = fopen(path, "r");
        if (!stat)
            continue; /* it has ended */
        if (fscanf(stat, "%lld", &spent) == 1)
            total += spent;
        fclose(stat);
    }
    closedir(threads);
    return total;
}

static int read_u32(uint32_t *number) {
    return fread(number, sizeof *number, 1, stdin) == 1;
}

static char *read_bytes(uint32_t size) {
    char *bytes = grown(NULL, size + 1);
    if (fread(bytes, 1, size, stdin) != size)
        fail("the requests end early");
    return bytes;
}

static void read_requests(void) {
    struct request next;
    while (read_u32(&next.packet_size)) {
        next.packet = read_bytes(next.packet_size);
        if (!read_u32(&next.reply_size))
            fail("the requests end early");
        next.reply = read_bytes(next.reply_size);
        if (!read_u32(&next.closes))
            fail("the requests end early");
        requests = grown(requests, (request_count + 1) * sizeof *requests);
        requests[request_count++] = next;
    }
    if (!request_count)
        fail("no requests");
}

static void keep_latency(int64_t latency) {
    if (latency_count == latency_room) {
        latency_room = latency_room ? 2 * latency_room : 1 << 16;
        latencies = grown(latencies, latency_room * sizeof *latencies);
    }
    latencies[latency_count++] = latency;
}

static void open_connection(struct connection *connection, int poll, int port, int64_t now, int64_t pause) {
    static uint32_t host;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + host++ % HOSTS);
    connection->request = &requests[next_request++ % request_count];
    connection->start = now;
    connection->got = 0;
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connection->fd < 0 || connect(connection->fd, (struct sockaddr *)&address, sizeof address))
        fail("cannot connect: %s", strerror(errno));
    /* One byte more than the reply, so that the end is waited for. */
    size_t room = connection->request->closes ? connection->request->reply_size + 1 : REGISTERED;
    if (room > connection->room) {
        connection->reply = grown(connection->reply, room);
        connection->room = room;
    }
    int complete = connection->request->closes && room < FITS ? EPOLLRDHUP : EPOLLIN;
    struct epoll_event event = {.events = complete, .data.ptr = connection};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, connection->fd, &event))
        fail("epoll_ctl: %s", strerror(errno));
    connection->due = now_ns(CLOCK_MONOTONIC) + pause;
}

static void send_request(struct connection *connection) {
    const struct request *request = connection->request;
    connection->due = 0;
    if (send(connection->fd, request->packet, request->packet_size, MSG_NOSIGNAL) != request->packet_size)
        fail("cannot send: %s", strerror(errno));
}

static void wrong(const struct connection *connection) {
    fail("wrong reply: %zu bytes: %.*s", connection->got, (int)connection->got, connection->reply);
}

/* Reads what has come, and says whether that is all. */
static int is_complete(struct connection *connection) {
    const struct request *request = connection->request;
    size_t size = request->closes ? request->reply_size + 1 : REGISTERED;
    while (connection->got < size) {
        ssize_t got = recv(connection->fd, connection->reply + connection->got, size - connection->got, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN)
            return 0;
        if (got < 0)
            fail("wrong reply: %s", strerror(errno));
        if (got == 0)
            break;
        connection->got += got;
    }
    if (connection->due)
        wrong(connection); /* it was answered, or closed, without a request */
    if (connection->got != size - request->closes)
        wrong(connection);
    if (memcmp(connection->reply, request->reply, request->reply_size))
        wrong(connection);
    return 1;
}

static void run(int port, size_t count, int64_t end, int64_t pause) {
    struct connection *connections = calloc(count, sizeof *connections);
    struct epoll_event *events = calloc(count, sizeof *events);
    int poll = epoll_create1(0);
    if (!connections || !events || poll < 0)
        fail("cannot start");
    for (;;) {
        size_t open = 0, unsent = 0;
        for (size_t i = 0; i < count; i++) {
            struct connection *connection = &connections[i];
            int64_t now = now_ns(CLOCK_MONOTONIC);
            if (!connection->request && now < end)
                open_connection(connection, poll, port, now, pause);
            else if (connection->request && connection->due && now >= connection->due)
                send_request(connection);
            open += connection->request != NULL;
            unsent += connection->request && connection->due;
        }
        if (!open)
            return;
        /* While a request is due soon, do not sleep: waking up takes longer than that. */
        int ready = epoll_wait(poll, events, count, unsent ? 0 : -1);
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            if (!is_complete(connection))
                continue;
            close(connection->fd);
            connection->request = NULL;
            keep_latency(now_ns(CLOCK_MONOTONIC) - connection->start);
        }
    }
}

static int by_size(const void *one, const void *other) {
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

int main(int count, char **arguments) {
    if (count != 6)
        fail("usage: load PORT CONNECTIONS NANOSECONDS PAUSE SERVER < REQUESTS");
    int port = atoi(arguments[1]);
    size_t connections = strtoul(arguments[2], NULL, 10);
    int64_t pause = strtoll(arguments[4], NULL, 10);
    read_requests();
    int64_t spent = cpu_ns(arguments[5]), own = now_ns(CLOCK_PROCESS_CPUTIME_ID), start = now_ns(CLOCK_MONOTONIC);
    run(port, connections, start + strtoll(arguments[3], NULL, 10), pause);
    int64_t took = now_ns(CLOCK_MONOTONIC) - start;
    own = now_ns(CLOCK_PROCESS_CPUTIME_ID) - own;
    spent = cpu_ns(arguments[5]) - spent;
    qsort(latencies, latency_count, sizeof *latencies, by_size);
    printf("{\"requests\": %zu, \"took\": %lld, \"p50\": %lld, \"p99\": %lld, \"cpu\": %lld, \"load_cpu\": %lld}\n",
           latency_count, (long long)took, (long long)latencies[latency_count / 2],
           (long long)latencies[latency_count * 99 / 100], (long long)spent, (long long)own);
    return 0;
}
