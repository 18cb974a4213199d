/* Runs in a step. dns: asks the first name server of /etc/resolv.conf. leak PORT4 PORT6 OUT: sends
   to loopback addresses through eth0, then to a server outside and waits for its answer.
   abstract NAME: connects to an abstract socket. tcp ADDRESS PORT TRIES: what a server says, or "no". */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
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

/* Sends until there is an answer, its length: a datagram may be lost. */
static ssize_t ask(struct sockaddr_in *to, const void *text, size_t size, void *answer) {
    struct timeval wait = {.tv_sec = 2};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    for (int i = 0; i < 15; i++) {
        if (sendto(fd, text, size, 0, (void *)to, sizeof *to) < 0)
            perror("sendto");
        ssize_t length = recv(fd, answer, 512, 0);
        if (length >= 0)
            return length;
    }
    return -1;
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
    ssize_t length = ask(&to, query, sizeof query - 1, answer);
    if (length < 4)
        return puts("no answer"), 4;
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
    void *to = is_four ? (void *)&four : (void *)&six;
    socklen_t size = is_four ? sizeof four : sizeof six;
    int index = if_nametoindex("eth0");
    uint32_t network_order = htonl(index);
    setsockopt(fd, is_four ? IPPROTO_IP : IPPROTO_IPV6, is_four ? IP_UNICAST_IF : IPV6_UNICAST_IF,
               &network_order, sizeof network_order);
    sendto(fd, "leak", 4, 0, to, size);
    char control[CMSG_SPACE(sizeof(struct in6_pktinfo))] = {0};
    struct iovec text = {.iov_base = "leak", .iov_len = 4};
    struct msghdr message = {.msg_name = to, .msg_namelen = size, .msg_iov = &text,
                             .msg_iovlen = 1, .msg_control = control};
    message.msg_controllen =
        is_four ? CMSG_SPACE(sizeof(struct in_pktinfo)) : CMSG_SPACE(sizeof(struct in6_pktinfo));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = is_four ? IPPROTO_IP : IPPROTO_IPV6;
    header->cmsg_type = is_four ? IP_PKTINFO : IPV6_PKTINFO;
    header->cmsg_len =
        is_four ? CMSG_LEN(sizeof(struct in_pktinfo)) : CMSG_LEN(sizeof(struct in6_pktinfo));
    if (is_four)
        ((struct in_pktinfo *)CMSG_DATA(header))->ipi_ifindex = index;
    else
        ((struct in6_pktinfo *)CMSG_DATA(header))->ipi6_ifindex = index;
    sendmsg(fd, &message, 0);
    if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5) < 0)
        perror("SO_BINDTODEVICE");
    for (int i = 0; i < 3; i++)
        sendto(fd, "leak", 4, 0, to, size);
    close(fd);
}

static int outside(int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    char answer[512];
    inet_pton(AF_INET, "203.0.113.1", &to.sin_addr);
    puts(ask(&to, "hello", 5, answer) < 0 ? "no answer" : "answered");
    return 0;
}

static int once(const char *address, int port, int seconds) {
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
    if (connect(fd, to, is_four ? sizeof four : sizeof six) == 0 && send(fd, "?", 1, 0) == 1)
        length = recv(fd, text, sizeof text, 0);
    if (length > 0)
        printf("%.*s", (int)length, text);
    close(fd);
    return length > 0;
}

/* Not every pasta completes every connection on a busy machine. */
static int tcp(const char *address, int port, int tries) {
    for (int i = 1; i <= tries; i++)
        if (once(address, port, i))
            return 0;
    return puts("no"), 6;
}

/* Sockets that routing does not see. */
static void raw(void) {
    int families[] = {AF_INET, AF_INET6, AF_PACKET, AF_XDP};
    int refused = 1;
    for (int i = 0; i < 4; i++) {
        int fd = socket(families[i], SOCK_RAW, families[i] <= AF_INET6 ? IPPROTO_ICMP : 0);
        refused = refused && fd < 0;
    }
    puts(refused ? "raw refused" : "raw");
    puts(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP) < 0 ? "no ping" : "ping");
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
        raw();
        leak("127.0.0.1", atoi(argv[2]));
        leak("0.0.0.0", atoi(argv[2]));
        leak("::1", atoi(argv[3]));
        leak("::", atoi(argv[3]));
        leak("::ffff:127.0.0.1", atoi(argv[2]));
        return outside(atoi(argv[4]));
    }
    return 1;
}
