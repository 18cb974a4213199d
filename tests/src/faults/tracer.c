/*
 * faults ROOT ACTION NUMBER FILE COMMAND...: runs COMMAND and counts the calls by which it changes
 * something: names and mounts anywhere, the content and the syncing of files below ROOT. ACTION is
 *
 *   count      only counts (NUMBER is of no matter)
 *   kill       kills COMMAND (SIGKILL) in place of the NUMBERth call, counted from 1
 *   <errno>    lets the NUMBERth call fail with this error and not happen
 *   <errno>+   lets that one and all after it fail
 *
 * FILE gets a line for each call that was counted (count) or that ACTION met: what it was. The calls
 * of all threads of COMMAND count, and those of its children until they execute another program. The
 * status is COMMAND's; 113 says that tracing is not possible here.
 *
 * A filter (seccomp(2)) stops a process at these calls alone, so all else is as fast as ever.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { IMPOSSIBLE = 113 };

/* What of a call says where it happens. */
enum what { ANYWHERE, BY_FD, CREATES, CREATES2 };

struct call {
    long number;
    const char *name;
    enum what what;
};

#define CALL(name, what) { SYS_##name, #name, what }

static const struct call calls[] = {
#ifdef SYS_rename
    CALL(rename, ANYWHERE), CALL(link, ANYWHERE), CALL(symlink, ANYWHERE), CALL(mkdir, ANYWHERE),
    CALL(rmdir, ANYWHERE), CALL(unlink, ANYWHERE), CALL(mknod, ANYWHERE),
#endif
#ifdef SYS_renameat
    CALL(renameat, ANYWHERE),
#endif
    CALL(renameat2, ANYWHERE), CALL(linkat, ANYWHERE), CALL(symlinkat, ANYWHERE),
    CALL(mkdirat, ANYWHERE), CALL(unlinkat, ANYWHERE), CALL(mknodat, ANYWHERE),
    CALL(truncate, ANYWHERE), CALL(mount, ANYWHERE), CALL(umount2, ANYWHERE),
    CALL(move_mount, ANYWHERE), CALL(fsmount, ANYWHERE), CALL(pivot_root, ANYWHERE),
    CALL(write, BY_FD), CALL(pwrite64, BY_FD), CALL(writev, BY_FD), CALL(ftruncate, BY_FD),
    CALL(fallocate, BY_FD), CALL(fsync, BY_FD), CALL(fdatasync, BY_FD), CALL(syncfs, BY_FD),
    CALL(sync_file_range, BY_FD), CALL(fsetxattr, BY_FD), CALL(fchmod, BY_FD),
    CALL(openat, CREATES), CALL(openat2, CREATES2),
};

enum { CALLS = sizeof calls / sizeof *calls };

/* COMMAND's file. */
static struct stat program;
static const char *root;
static size_t root_length;

static void die(const char *what) {
    fprintf(stderr, "faults: %s: %s\n", what, strerror(errno));
    exit(IMPOSSIBLE);
}

/* Stops at the calls of the list; of openat only where it makes a file or cuts one. */
static void filter(void) {
    struct sock_filter steps[2 * CALLS + 16];
    unsigned short n = 0;
    steps[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < CALLS; i++) {
        if (calls[i].what == CREATES)
            continue;
        steps[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i].number, 0, 1);
        steps[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    }
    steps[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3);
    steps[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2]));
    steps[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_CREAT | O_TRUNC, 0, 1);
    steps[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    steps[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog all = { n, steps };
    /* Without no_new_privs, which would change what COMMAND can do: only root may. */
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all) != 0)
        die("cannot set the filter");
}

/* Whether a thread still runs COMMAND's program, and not another one, such as a step's. */
static int is_command(pid_t thread) {
    char path[64];
    struct stat now;
    snprintf(path, sizeof path, "/proc/%d/exe", thread);
    return stat(path, &now) == 0 && now.st_dev == program.st_dev && now.st_ino == program.st_ino;
}

/* Text in the memory of a thread; nothing where it cannot be read. */
static void text_at(pid_t thread, unsigned long long address, char *text, size_t size) {
    text[0] = 0;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", thread);
    int memory = open(path, O_RDONLY | O_CLOEXEC);
    if (memory < 0)
        return;
    ssize_t got = pread(memory, text, size - 1, (off_t)address);
    text[got > 0 ? got : 0] = 0;
    close(memory);
}

/* Whether a call counts, and what to say of it. */
static int counts(pid_t thread, const struct call *call, const uint64_t *args, char *what) {
    char target[PATH_MAX] = "", path[64];
    if (call->what == BY_FD) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", thread, (int)args[0]);
        ssize_t length = readlink(path, target, sizeof target - 1);
        target[length > 0 ? length : 0] = 0;
        if (strncmp(target, root, root_length) != 0)
            return 0;
    } else if (call->what == CREATES2) {
        struct open_how how = { 0 };
        char raw[sizeof how + 1];
        text_at(thread, args[2], raw, sizeof raw);
        memcpy(&how, raw, sizeof how);
        if (!(how.flags & (O_CREAT | O_TRUNC)))
            return 0;
        text_at(thread, args[1], target, 512);
    } else if (call->what == CREATES) {
        text_at(thread, args[1], target, 512);
        if (strncmp(target, "/proc/", 6) == 0 || strncmp(target, "/sys/", 5) == 0 || strncmp(target, "/dev/", 5) == 0)
            return 0;
    } else {
        int second = strstr(call->name, "at") != NULL && call->number != SYS_mount;
        text_at(thread, args[second], target, 512);
    }
    snprintf(what, PATH_MAX + 64, "%s %s", call->name, target);
    return 1;
}

/* Lets the call that `thread` has begun fail with `error` in place of being done. */
static void fail(pid_t thread, int error) {
#if defined(__x86_64__)
    struct user_regs_struct regs;
    struct iovec io = { &regs, sizeof regs };
    ptrace(PTRACE_GETREGSET, thread, (void *)NT_PRSTATUS, &io);
    regs.orig_rax = -1;
    regs.rax = -error;
    ptrace(PTRACE_SETREGSET, thread, (void *)NT_PRSTATUS, &io);
#elif defined(__aarch64__)
    int none = -1;
    struct iovec call = { &none, sizeof none };
    ptrace(PTRACE_SETREGSET, thread, (void *)NT_ARM_SYSTEM_CALL, &call);
    struct user_regs_struct regs;
    struct iovec io = { &regs, sizeof regs };
    ptrace(PTRACE_GETREGSET, thread, (void *)NT_PRSTATUS, &io);
    regs.regs[0] = -error;
    ptrace(PTRACE_SETREGSET, thread, (void *)NT_PRSTATUS, &io);
#else
#error "faults: not for this machine"
#endif
}

int main(int argc, char **argv) {
    if (argc < 6)
        return IMPOSSIBLE;
    root = argv[1];
    root_length = strlen(root);
    int counting = strcmp(argv[2], "count") == 0, killing = strcmp(argv[2], "kill") == 0;
    int error = atoi(argv[2]), all_after = strchr(argv[2], '+') != NULL;
    long wanted = atol(argv[3]), number = 0;
    if (stat(argv[5], &program) != 0)
        die(argv[5]);
    FILE *log = fopen(argv[4], "we");
    if (!log)
        die(argv[4]);
    pid_t command = fork();
    if (command < 0)
        die("fork");
    if (command == 0) {
        raise(SIGSTOP);
        filter();
        execv(argv[5], argv + 5);
        die(argv[5]);
    }
    int status, result = IMPOSSIBLE;
    if (waitpid(command, &status, WUNTRACED) != command || !WIFSTOPPED(status))
        die("the command does not start");
    long options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
        PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    if (ptrace(PTRACE_SEIZE, command, 0, options) != 0) {
        kill(command, SIGKILL);
        die("cannot trace");
    }
    kill(command, SIGCONT);
    for (;;) {
        pid_t thread = waitpid(-1, &status, __WALL);
        if (thread < 0) {
            if (errno == EINTR)
                continue;
            break;
        }
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (thread == command)
                result = status;
            continue;
        }
        int signal = WSTOPSIG(status), event = status >> 16;
        if (event == PTRACE_EVENT_SECCOMP) {
            struct __ptrace_syscall_info info = { 0 };
            ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info);
            const struct call *call = NULL;
            for (int i = 0; i < CALLS; i++)
                if (calls[i].number == (long)info.seccomp.nr)
                    call = &calls[i];
            char what[PATH_MAX + 64];
            if (call && is_command(thread) && counts(thread, call, info.seccomp.args, what)) {
                number++;
                int met = !counting && (number == wanted || (all_after && number > wanted));
                if (met || counting) {
                    fprintf(log, "%s\n", what);
                    fflush(log);
                }
                if (met && killing)
                    kill(command, SIGKILL);
                if (met && error)
                    fail(thread, error);
            }
            signal = 0;
        } else if (event == PTRACE_EVENT_STOP) {
            /* A new thread, or a stop that is to last. */
            if (signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU) {
                ptrace(PTRACE_LISTEN, thread, 0, 0);
                continue;
            }
            signal = 0;
        } else if (event) {
            signal = 0;
        }
        ptrace(PTRACE_CONT, thread, 0, signal);
    }
    if (result != IMPOSSIBLE && WIFSIGNALED(result)) {
        signal(WTERMSIG(result), SIG_DFL);
        raise(WTERMSIG(result));
        return 128 + WTERMSIG(result);
    }
    return result == IMPOSSIBLE ? result : WEXITSTATUS(result);
}
