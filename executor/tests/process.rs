//! Arguments, environment, users, directories, output and exit of a process.

mod harness;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::Duration;

use executor::{ExecError, ExitStatus, ResourceLimit};
use harness::{Fixture, bind, ready, tmpfs};

#[test]
fn privileged_exit_codes_and_signals() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    assert_eq!(it.run(&it.spec(&["true"])).code(), 0);
    assert_eq!(it.run(&it.shell("exit 7")).code(), 7);
    let killed = it.run(&it.shell("kill -9 $$"));
    assert_eq!(killed.outcome.status, ExitStatus::Signal(9));
    let segv = it.run(&it.shell("kill -SEGV $$"));
    assert_eq!(segv.outcome.status, ExitStatus::Signal(11));
    assert_eq!(segv.outcome.status.code(), 139);
    let busy = it.run(&it.shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"));
    assert!(busy.outcome.cpu_time > Duration::ZERO);
    assert!(busy.outcome.duration >= busy.outcome.cpu_time / 4);
}

#[test]
fn privileged_output_streams_are_separate() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let ran = it.run(&it.shell("echo out; echo err >&2; echo named > /dev/stdout"));
    assert_eq!((&ran.out[..], &ran.err[..]), ("out\nnamed\n", "err\n"));
    let much = it.run(&it.shell("head -c 3000000 /dev/zero | tr '\\0' x"));
    assert_eq!(much.out.len(), 3_000_000);
    let mut spec = it.shell("echo by name > /dev/stderr; tty -s");
    spec.user = "app".into();
    let ran = it.run(&spec);
    assert_eq!((ran.code(), &ran.err[..]), (1, "by name\n"), "and no terminal");
}

#[test]
fn privileged_stdin_is_at_its_end() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    assert_eq!(it.sh("cat; read line || echo end"), "end\n");
}

#[test]
fn privileged_environment() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let mut spec = it.spec(&["env"]);
    spec.env =
        vec![("A".into(), "1".into()), ("B".into(), "x=y z".into()), ("A".into(), "2".into())];
    let ran = it.run(&spec);
    let path = format!("PATH={}", executor::DEFAULT_PATH);
    assert_eq!(ran.out.lines().collect::<Vec<_>>(), ["A=2", "B=x=y z", &path, "HOME=/root"]);
    spec.env = vec![("HOME".into(), "/h".into()), ("PATH".into(), "/nowhere:/bin".into())];
    assert_eq!(it.run(&spec).out, "HOME=/h\nPATH=/nowhere:/bin\n");
}

#[test]
fn privileged_programs_that_do_not_start() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    fs::write(it.lower("bin/noformat"), "plain text").unwrap();
    fs::write(it.lower("bin/noloader"), "#!/lib/none\n").unwrap();
    fs::write(it.lower("bin/noexec"), "").unwrap();
    for name in ["noformat", "noloader"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(it.lower("bin").join(name), mode).unwrap();
    }
    let message = |name: &str| it.try_run(&it.spec(&[name])).unwrap_err().to_string();
    assert_eq!(message("nothing"), r#"exec "nothing": executable file not found in $PATH"#);
    assert_eq!(message("/bin/nothing"), r#"exec "/bin/nothing": no such file or directory"#);
    assert!(message("noexec").starts_with(r#"exec "/bin/noexec": permission denied"#));
    assert!(message("noformat").starts_with(r#"exec "/bin/noformat": exec format error"#));
    assert!(message("noloader").contains("interpreter"));
    let mut spec = it.spec(&["true"]);
    spec.env = vec![("PATH".into(), "/sbin".into())];
    assert!(matches!(it.try_run(&spec), Err(ExecError::NotFound { .. })));
    assert!(matches!(it.try_run(&it.spec(&[])), Err(ExecError::NoCommand)));
    assert!(matches!(it.try_run(&it.spec(&["a\0b"])), Err(ExecError::Unpassable { .. })));
}

#[test]
fn privileged_users() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let script = "echo $(id -u) $(id -g) $(id -G) $HOME";
    for (user, expected) in [
        ("", "0 0 0 /root"),
        ("app", "1000 1001 1001 10 /home/app"),
        ("app:wheel", "1000 10 10 /home/app"),
        ("1000", "1000 1001 1001 10 /home/app"),
        ("4000", "4000 0 0 /"),
        ("4000:4001", "4000 4001 4001 /"),
    ] {
        let mut spec = it.shell(script);
        spec.user = user.into();
        assert_eq!(it.run(&spec).out.trim_end(), expected, "{user:?}");
    }
    let mut spec = it.spec(&["true"]);
    spec.user = "nobody".into();
    assert_eq!(
        it.try_run(&spec).unwrap_err().to_string(),
        "unable to find user nobody: no matching entries in passwd file"
    );
}

#[test]
fn privileged_users_come_from_inside_the_root() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    fs::remove_file(it.lower("etc/passwd")).unwrap();
    symlink("../../../../../../../../etc/passwd", it.lower("etc/passwd")).unwrap();
    let mut spec = it.spec(&["true"]);
    spec.user = "root".into();
    let error = it.try_run(&spec).unwrap_err();
    assert!(matches!(error, ExecError::User(_)), "{error}");
}

#[test]
fn privileged_working_directories() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let mut spec = it.spec(&["pwd"]);
    spec.cwd = "/new/deep".into();
    spec.user = "app".into();
    assert_eq!(it.run(&spec).out, "/new/deep\n");
    let made = fs::metadata(it.upper("new/deep")).unwrap();
    assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (1000, 1001, 0o755));
    // As with runc: a directory that only root may enter is entered all the same.
    fs::create_dir(it.lower("secret")).unwrap();
    fs::set_permissions(it.lower("secret"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
    spec.cwd = "/secret".into();
    spec.args = vec!["/bin/true".into()];
    assert_eq!(it.run(&spec).code(), 0);
    fs::write(it.lower("file"), "").unwrap();
    spec.cwd = "/file".into();
    assert!(matches!(it.try_run(&spec), Err(ExecError::Directory { .. })));
    spec.cwd = "/file/below".into();
    assert!(matches!(it.try_run(&spec), Err(ExecError::Directory { .. })));
    spec.cwd = "relative".into();
    assert!(matches!(it.try_run(&spec), Err(ExecError::Relative { .. })));
    symlink("/home/app", it.lower("link")).unwrap();
    spec.cwd = "/link".into();
    spec.args = vec!["/bin/pwd".into()];
    assert_eq!(it.run(&spec).out, "/home/app\n");
}

#[test]
fn privileged_working_directory_inside_a_mount() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let cache = it.dir.join("cache");
    fs::create_dir(&cache).unwrap();
    let mut spec = it.shell("echo x > made");
    spec.mounts = vec![bind(&cache, "/cache")];
    spec.cwd = "/cache/work".into();
    it.run(&spec);
    assert_eq!(fs::read_to_string(cache.join("work/made")).unwrap(), "x\n");
    assert_eq!(it.changes(), ["dev", "proc", "sys"]);
}

#[test]
fn privileged_umask_and_limits() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let mut spec = it.shell("umask; ulimit -n; ulimit -Hn");
    let files = ResourceLimit { resource: 7, soft: 100, hard: 200 };
    spec.limits.rlimits = vec![files];
    assert_eq!(it.run(&spec).out, "0022\n100\n200\n");
    let inherited = it.sh("ulimit -n");
    assert_ne!(inherited, "100\n");
}

#[test]
fn privileged_injected_files() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let file = |path: &str, mode, data: &str| executor::InjectedFile {
        path: path.into(),
        mode,
        owner: (0, 0),
        data: data.into(),
    };
    let mut spec = it.spec(&["/dev/pipes/EOF", "argument"]);
    spec.files = vec![
        file("/dev/pipes/EOF", 0o755, "#!/bin/sh\necho $0 $1\ncat /run/secrets/s\necho x > $0"),
        file("/run/secrets/s", 0o400, "hidden\n"),
    ];
    spec.mounts = vec![tmpfs("/tmp")];
    let ran = it.run(&spec);
    assert_eq!(ran.out, "/dev/pipes/EOF argument\nhidden\n");
    assert!(ran.err.contains("Read-only file system"), "{}", ran.err);
    assert_eq!(it.changes(), ["dev", "proc", "sys"]);
}
