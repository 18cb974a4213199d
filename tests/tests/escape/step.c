/* What a hostile step tries, one line of output for each try: its name, then the name of the error
   or "ok". Nothing here harms a host whose sandbox has a hole: what would be changed is set to what
   it was, or belongs to the test. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/keyctl.h>
#include <linux/reboot.h>
#include <linux/sched.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void say(const char *name, long result) {
    int error = errno;
    printf("%s %s\n", name, result < 0 ? strerrorname_np(error) : "ok");
    fflush(stdout);
}

#define TRY(name, call) (errno = 0, say(name, (long)(call)))

static int opened(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd;
}

static void mounts(void) {
    int fd;
    mkdir("/m", 0755);
    TRY("mount-tmpfs", mount("none", "/m", "tmpfs", 0, ""));
    TRY("mount-proc", mount("none", "/m", "proc", 0, ""));
    TRY("mount-bind", mount("/", "/m", NULL, MS_BIND | MS_REC, NULL));
    TRY("mount-remount", mount("none", "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL));
    TRY("mount-shared", mount("none", "/", NULL, MS_SHARED | MS_REC, NULL));
    TRY("mount-move", mount("/proc/sys", "/m", NULL, MS_MOVE, NULL));
    TRY("umount", umount2("/proc/sys", MNT_DETACH));
    TRY("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/", 1));
    TRY("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
    TRY("fspick", syscall(SYS_fspick, AT_FDCWD, "/", 0));
    TRY("fsmount", syscall(SYS_fsmount, -1, 0, 0));
    TRY("move_mount", syscall(SYS_move_mount, AT_FDCWD, "/proc/sys", AT_FDCWD, "/m", 0));
    TRY("mount_setattr", syscall(SYS_mount_setattr, AT_FDCWD, "/proc/sys", 0, NULL, 0));
    TRY("pivot_root", syscall(SYS_pivot_root, "/m", "/m"));
    rmdir("/m");
    TRY("unshare-user", unshare(CLONE_NEWUSER));
    TRY("unshare-mount", unshare(CLONE_NEWNS));
    TRY("unshare-network", unshare(CLONE_NEWNET));
    TRY("clone-user", syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
    struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    TRY("clone3-user", syscall(SYS_clone3, &args, sizeof args));
    TRY("init-namespace", opened("/proc/1/ns/mnt", O_RDONLY));
    fd = open("/proc/self/ns/mnt", O_RDONLY);
    TRY("setns", setns(fd, 0));
    close(fd);
}

static void init_process(void) {
    char bytes[64];
    struct iovec own = {bytes, sizeof bytes}, other = {(void *)environ, sizeof bytes};
    TRY("init-attach", ptrace(PTRACE_ATTACH, 1, 0, 0));
    TRY("init-seize", ptrace(PTRACE_SEIZE, 1, 0, 0));
    TRY("init-mem", opened("/proc/1/mem", O_RDWR));
    TRY("init-root", opened("/proc/1/root/etc", O_RDONLY));
    TRY("init-cwd", opened("/proc/1/cwd", O_RDONLY));
    TRY("init-fd", readlink("/proc/1/fd/0", bytes, sizeof bytes));
    TRY("init-environ", opened("/proc/1/environ", O_RDONLY));
    TRY("init-maps", opened("/proc/1/maps", O_RDONLY));
    TRY("init-exe", opened("/proc/1/exe", O_WRONLY));
    TRY("init-vm-read", process_vm_readv(1, &own, 1, &other, 1, 0));
    TRY("init-vm-write", process_vm_writev(1, &own, 1, &other, 1, 0));
    TRY("kcmp", syscall(SYS_kcmp, 1, getpid(), 0, 0, 0));
    TRY("pidfd_getfd", syscall(SYS_pidfd_getfd, -1, 0, 0));
    /* The kernel drops signals from inside to the first process of a namespace. */
    TRY("init-kill", kill(1, SIGKILL));
    TRY("own-exe", opened("/proc/self/exe", O_WRONLY));
}

static void kernel(void) {
    struct timeval now;
    struct timespec precise;
    struct timex timex = {0};
    gettimeofday(&now, NULL);
    clock_gettime(CLOCK_REALTIME, &precise);
    adjtimex(&timex);
    timex.modes = ADJ_TICK;
    TRY("init_module", syscall(SYS_init_module, "", 0, ""));
    TRY("finit_module", syscall(SYS_finit_module, -1, "", 0));
    TRY("delete_module", syscall(SYS_delete_module, "no-such-module", 0));
    TRY("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0));
    TRY("kexec_file_load", syscall(SYS_kexec_file_load, -1, -1, 0, NULL, 0));
    TRY("bpf", syscall(SYS_bpf, 0, NULL, 0));
    TRY("perf_event_open", syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
    TRY("userfaultfd", syscall(SYS_userfaultfd, 0));
    TRY("io_uring_setup", syscall(SYS_io_uring_setup, 1, NULL));
    TRY("fanotify_init", syscall(SYS_fanotify_init, 0, 0));
    TRY("open_by_handle_at", syscall(SYS_open_by_handle_at, AT_FDCWD, NULL, 0));
    TRY("swapon", syscall(SYS_swapon, "/no-such-file", 0));
    TRY("swapoff", syscall(SYS_swapoff, "/no-such-file"));
    TRY("reboot", syscall(SYS_reboot, 0xfee1dead, 672274793, LINUX_REBOOT_CMD_CAD_OFF, NULL));
    TRY("settimeofday", settimeofday(&now, NULL));
    TRY("clock_settime", clock_settime(CLOCK_REALTIME, &precise));
    TRY("adjtimex", adjtimex(&timex));
    TRY("sethostname", sethostname("escaped", 7));
    TRY("setdomainname", setdomainname("escaped", 7));
    TRY("quotactl", syscall(SYS_quotactl, 0, "/no-such-device", 0, NULL));
    TRY("acct", syscall(SYS_acct, "/no-such-file"));
    TRY("syslog", klogctl(10, NULL, 0));
    TRY("vhangup", syscall(SYS_vhangup));
    TRY("set_mempolicy", syscall(SYS_set_mempolicy, 0, NULL, 0));
    TRY("personality", syscall(SYS_personality, 0x0040000));
#if defined(__x86_64__)
    TRY("iopl", syscall(SYS_iopl, 3));
    TRY("ioperm", syscall(SYS_ioperm, 0x80, 1, 1));
#endif
    TRY("add_key", syscall(SYS_add_key, "user", "x", "x", 1, KEY_SPEC_SESSION_KEYRING));
    TRY("request_key", syscall(SYS_request_key, "user", "drydock-escape", NULL, 0));
    TRY("keyctl-search",
        syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, "user", "drydock-escape", 0));
    TRY("vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq device = {.ifr_name = "lo"};
    ioctl(fd, SIOCGIFFLAGS, &device);
    TRY("network-device", ioctl(fd, SIOCSIFFLAGS, &device));
    close(fd);
    struct sched_param param = {.sched_priority = 1};
    TRY("realtime", sched_setscheduler(0, SCHED_FIFO, &param));
    TRY("priority", setpriority(PRIO_PROCESS, 0, -20));
}

static void empty(const char *path) {
    char name[256], byte;
    struct stat stat_;
    snprintf(name, sizeof name, "masked:%s", path);
    int count = 0, fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &stat_) < 0) {
        say(name, -1);
        return;
    }
    if (S_ISDIR(stat_.st_mode)) {
        DIR *dir = fdopendir(fd);
        for (struct dirent *entry; (entry = readdir(dir));)
            count += entry->d_name[0] != '.';
        closedir(dir);
    } else {
        count = read(fd, &byte, 1);
        close(fd);
    }
    printf("%s %s\n", name, count ? "full" : "empty");
}

static void files(void) {
    const char *written[] = {
        "/proc/sys/kernel/hostname", "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/randomize_va_space", "/proc/sys/vm/overcommit_memory",
        "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity",
        "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/fs/cgroup/cgroup.procs",
        "/sys/fs/cgroup/memory/release_agent"};
    const char *masked[] = {
        "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
        "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
        "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"};
    const char *fixed[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/sys"};
    char name[256];
    for (size_t i = 0; i < sizeof written / sizeof *written; i++) {
        snprintf(name, sizeof name, "write:%s", written[i]);
        TRY(name, opened(written[i], O_WRONLY));
    }
    for (size_t i = 0; i < sizeof masked / sizeof *masked; i++)
        empty(masked[i]);
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        struct statvfs stat_;
        int known = statvfs(fixed[i], &stat_) == 0;
        printf("fixed:%s %s\n", fixed[i], known && stat_.f_flag & ST_RDONLY ? "yes" : "no");
    }
    TRY("sys-mkdir", mkdir("/sys/escaped", 0755));
    TRY("terminal", opened("/dev/tty", O_RDWR));
    TRY("terminal-input", ioctl(0, TIOCSTI, "x"));
    int flags = FS_IMMUTABLE_FL, fd = open("/immutable", O_CREAT | O_RDWR, 0644);
    TRY("immutable", ioctl(fd, FS_IOC_SETFLAGS, &flags));
    close(fd);
    /* A file of a lower layer, by ways around its name. */
    fd = open("/escape", O_RDONLY);
    void *map = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    snprintf(name, sizeof name, "/proc/self/map_files/%lx-%lx", (long)map, (long)map + 4096);
    TRY("lower-mapped", opened(name, O_RDWR));
    close(fd);
    fd = open("/etc/group", O_RDONLY);
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    int again = open(name, O_RDWR | O_APPEND);
    if (again < 0 || write(again, "lower\n", 6) != 6)
        printf("lower-reopened %s\n", strerrorname_np(errno));
    close(again);
    linkat(AT_FDCWD, name, AT_FDCWD, "/linked", AT_SYMLINK_FOLLOW);
    again = open("/linked", O_WRONLY | O_APPEND | O_CREAT, 0644);
    if (write(again, "linked\n", 7) != 7)
        printf("lower-linked %s\n", strerrorname_np(errno));
    close(again);
    close(fd);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }

static void list(const char *title, const char *path, int numbers_only) {
    char *names[4096];
    int count = 0;
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir)) && count < 4096;)
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(dir) &&
            (!numbers_only || atoi(entry->d_name)))
            names[count++] = strdup(entry->d_name);
    qsort(names, count, sizeof *names, by_name);
    printf("%s", title);
    for (int i = 0; i < count; i++)
        printf("%c%s", i ? ',' : ' ', names[i]);
    printf("\n");
    if (dir)
        closedir(dir);
}

static void identity(void) {
    const char *spaces[] = {"mnt", "pid", "ipc", "uts", "cgroup", "net", "user"};
    const char *wanted[] = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Seccomp",
                            "NoNewPrivs"};
    char line[512], value[256], path[64];
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status))
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
            if (!strncmp(line, wanted[i], strlen(wanted[i])) && line[strlen(wanted[i])] == ':' &&
                sscanf(line + strlen(wanted[i]) + 1, "%255s", value) == 1)
                printf("%s %s\n", wanted[i], value);
    fclose(status);
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++) {
        snprintf(path, sizeof path, "/proc/self/ns/%s", spaces[i]);
        ssize_t length = readlink(path, value, sizeof value - 1);
        value[length < 0 ? 0 : length] = 0;
        printf("namespace:%s %s\n", spaces[i], value);
    }
}

/* Makes nodes in a directory and opens them. */
static void nodes(const char *dir) {
    struct { const char *name; mode_t kind; unsigned major, minor; } all[] = {
        {"disk", S_IFBLK, 254, 0}, {"loop", S_IFBLK, 7, 0}, {"mem", S_IFCHR, 1, 1},
        {"kmsg", S_IFCHR, 1, 11},  {"null", S_IFCHR, 1, 3}, {"fuse", S_IFCHR, 10, 229}};
    char path[256], name[300];
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        snprintf(path, sizeof path, "%s/node-%s", dir, all[i].name);
        snprintf(name, sizeof name, "mknod:%s", path);
        TRY(name, mknod(path, all[i].kind | 0666, makedev(all[i].major, all[i].minor)));
        snprintf(name, sizeof name, "open:%s", path);
        TRY(name, opened(path, O_RDONLY));
        unlink(path);
    }
}

/* What lies outside: a directory of the host and a process. */
static void outside(const char *directory, int process) {
    char path[4096];
    TRY("outside-directory", opened(directory, O_RDONLY));
    snprintf(path, sizeof path, "/proc/self/root/../../../../../..%s", directory);
    TRY("outside-dots", opened(path, O_RDONLY));
    TRY("outside-kill", kill(process, 0));
    TRY("outside-attach", ptrace(PTRACE_ATTACH, process, 0, 0));
    snprintf(path, sizeof path, "/proc/%d/root", process);
    TRY("outside-process", opened(path, O_RDONLY));
    /* The usual way out of a chroot. */
    mkdir("/jail", 0755);
    int fd = open("/", O_RDONLY | O_DIRECTORY);
    if (chroot("/jail") == 0 && fchdir(fd) == 0) {
        for (int i = 0; i < 64; i++)
            if (chdir("..") < 0)
                break;
        if (chroot(".") < 0)
            say("outside-chroot", -1);
    }
    TRY("outside-after-chroot", opened(directory, O_RDONLY));
    close(fd);
    rmdir("/jail");
}

static void read_only(const char *dir) {
    char path[256];
    snprintf(path, sizeof path, "%s/new", dir);
    TRY("bind-create", open(path, O_CREAT | O_WRONLY, 0644));
    snprintf(path, sizeof path, "%s/kept", dir);
    TRY("bind-write", open(path, O_WRONLY));
    TRY("bind-truncate", truncate(path, 0));
    TRY("bind-unlink", unlink(path));
    TRY("bind-mode", chmod(path, 0777));
    TRY("bind-owner", chown(path, 1, 1));
    TRY("bind-times", utimes(path, NULL));
    TRY("bind-link", link(path, "/from-bind"));
    TRY("bind-temporary", open(dir, O_TMPFILE | O_WRONLY, 0644));
    int fd = open(path, O_RDONLY);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    TRY("bind-reopen", open(path, O_WRONLY));
}

/* A process that does all to stay alive, and writes as long as it does. */
static void stay(void) {
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_IGN);
    for (int i = 0; i < 2; i++) {
        if (fork())
            _exit(0);
        setsid();
    }
    int fd = open("/alive", O_CREAT | O_WRONLY | O_APPEND, 0644);
    for (int i = 0; i < 3; i++)
        close(i);
    for (;;) {
        if (write(fd, "x", 1) < 0)
            fd = open("/alive", O_WRONLY | O_APPEND);
        usleep(100);
    }
}

/* So many processes as there may be, which all do nothing. */
static void fill(int most) {
    int count = 0;
    while (count < most) {
        pid_t child = fork();
        if (child == 0) {
            pause();
            _exit(0);
        }
        if (child < 0)
            break;
        count++;
    }
    printf("forked %d %s\n", count, count < most ? strerrorname_np(errno) : "all");
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(mode, "all") && argc == 4) {
        /* First: what the others open does not count. */
        list("descriptors", "/proc/self/fd", 0);
        list("processes", "/proc", 1);
        list("devices", "/dev", 0);
        identity();
        mounts();
        init_process();
        kernel();
        files();
        nodes("/");
        nodes("/dev");
        nodes("/dev/shm");
        outside(argv[2], atoi(argv[3]));
    } else if (!strcmp(mode, "identity")) {
        identity();
    } else if (!strcmp(mode, "nodes") && argc == 3) {
        nodes(argv[2]);
    } else if (!strcmp(mode, "read-only") && argc == 3) {
        read_only(argv[2]);
    } else if (!strcmp(mode, "stay")) {
        stay();
    } else if (!strcmp(mode, "fill") && argc > 2) {
        fill(atoi(argv[2]));
    } else if (!strcmp(mode, "immutable") && argc == 3) {
        int flags = FS_IMMUTABLE_FL, fd = open(argv[2], O_CREAT | O_RDWR, 0644);
        TRY("immutable", ioctl(fd, FS_IOC_SETFLAGS, &flags));
    } else if (!strcmp(mode, "search-key")) {
        TRY("keyctl-search", syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, "user",
                                     "drydock-escape", 0));
    } else if (!strcmp(mode, "with-key") && argc > 2) {
        /* Outside: runs a program with a key in its session's keyring. */
        syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
        if (syscall(SYS_add_key, "user", "drydock-escape", "secret", 6,
                    KEY_SPEC_SESSION_KEYRING) < 0 && errno != ENOSYS)
            return 125;
        execv(argv[2], argv + 2);
        return 126;
    } else {
        return 2;
    }
    return 0;
}
