/* Runs in a step. dns: asks the first name server of /etc/resolv.conf. leak PORT4 PORT6 OUT: sends
   to loopback addresses through eth0, then to a server outside and waits for its answer.
   abstract NAME: connects to an abstract socket. tcp ADDRESS PORT SECONDS: what a server says, or
   "no" (nc closes its half of a connection first, and not every passt tells it of the other). */
#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static const char *name(int error) {
    return error == ECONNREFUSED ? "ECONNREFUSED" : strerror(error);
}

static int patient(int family) {
    struct timeval wait = {.tv_sec = 20};
    int fd = socket(family, SOCK_DGRAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    return fd;
}

static int dns(void) {
    char line[256], server[128] = "";
    FILE *file = fopen("/etc/resolv.conf", "r");
    while (file && fgets(line, sizeof line, file))
        if (!server[0])
            sscanf(line, "nameserver %127s", server);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53)};
    if (inet_pton(AF_INET, server, &to.sin_addr) != 1)
        return 2;
    static const unsigned char query[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
                                         "\x04name\x04test\x00\x00\x01\x00\x01";
    unsigned char answer[512];
    int fd = patient(AF_INET);
    if (sendto(fd, query, sizeof query - 1, 0, (void *)&to, sizeof to) < 0)
        return perror("sendto"), 3;
    ssize_t length = recv(fd, answer, sizeof answer, 0);
    if (length < 4)
        return perror("recv"), 4;
    const unsigned char *end = answer + length;
    printf("%s says %d.%d.%d.%d\n", server, end[-4], end[-3], end[-2], end[-1]);
    return 0;
}

static void leak(const char *address, int port) {
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int is_four = inet_pton(AF_INET, address, &four.sin_addr) == 1;
    int fd = socket(is_four ? AF_INET : AF_INET6, SOCK_DGRAM, 0);
    if (!is_four)
        inet_pton(AF_INET6, address, &six.sin6_addr);
    if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5) < 0)
        perror("SO_BINDTODEVICE");
    void *to = is_four ? (void *)&four : (void *)&six;
    for (int i = 0; i < 3; i++)
        sendto(fd, "leak", 4, 0, to, is_four ? sizeof four : sizeof six);
    close(fd);
}

static int outside(int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    char answer[16];
    int fd = patient(AF_INET);
    inet_pton(AF_INET, "203.0.113.1", &to.sin_addr);
    if (sendto(fd, "hello", 5, 0, (void *)&to, sizeof to) < 0 || recv(fd, answer, 16, 0) < 0)
        return perror("outside"), 5;
    puts("answered");
    return 0;
}

static int tcp(const char *address, int port, int seconds) {
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int is_four = inet_pton(AF_INET, address, &four.sin_addr) == 1;
    if (!is_four)
        inet_pton(AF_INET6, address, &six.sin6_addr);
    struct timeval wait = {.tv_sec = seconds};
    int fd = socket(is_four ? AF_INET : AF_INET6, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    void *to = is_four ? (void *)&four : (void *)&six;
    char text[64];
    ssize_t length = -1;
    if (connect(fd, to, is_four ? sizeof four : sizeof six) == 0)
        length = recv(fd, text, sizeof text, 0);
    if (length <= 0)
        return puts("no"), 6;
    printf("%.*s", (int)length, text);
    return 0;
}

static int abstract(const char *text) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t length = strlen(text);
    memcpy(to.sun_path + 1, text, length);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    socklen_t size = offsetof(struct sockaddr_un, sun_path) + 1 + length;
    int result = connect(fd, (void *)&to, size);
    printf("abstract %s\n", result < 0 ? name(errno) : "connected");
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "dns"))
        return dns();
    if (argc > 2 && !strcmp(argv[1], "abstract"))
        return abstract(argv[2]);
    if (argc > 4 && !strcmp(argv[1], "tcp"))
        return tcp(argv[2], atoi(argv[3]), atoi(argv[4]));
    if (argc > 4 && !strcmp(argv[1], "leak")) {
        leak("127.0.0.1", atoi(argv[2]));
        leak("0.0.0.0", atoi(argv[2]));
        leak("::1", atoi(argv[3]));
        leak("::ffff:127.0.0.1", atoi(argv[2]));
        return outside(atoi(argv[4]));
    }
    return 1;
}
