//! Building as an ordinary user: what a user namespace with a range of ids takes, what of it is
//! missing here, and what is left then: a namespace with one id, or none.
//!
//! [`Host`] is what is known of the machine; [`Host::plan`] is pure. A command that works on the
//! state directory enters the namespace before anything else, with one thread ([`enter`]).

mod missing;

use std::fs;
use std::path::{Path, PathBuf};

pub use missing::{Missing, Unavailable};

use worker::userns::{self, EnterError, Extent, Mapper};

use crate::environment::Environment;

/// The kernel takes 340 extents (user_namespaces(7)); one is the user's own id.
const MAX_RANGES: usize = 339;
/// The last id is no id: it means "unchanged" to chown(2).
const IDS: u32 = u32::MAX;
/// Where programs are that are not in PATH.
const PROGRAM_DIRS: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"];
/// The switches of the kernel that forbid user namespaces, what they say then, and what allows
/// them.
const SWITCHES: [(&str, &str, &str); 3] = [
    ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
    ("user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "kernel.apparmor_restrict_unprivileged_userns=0",
    ),
];

/// What is known of the machine and the user.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// The effective user id.
    pub uid: u32,
    /// The effective group id.
    pub gid: u32,
    /// The user's name as the environment tells it, for users that are in no file.
    pub login: Option<String>,
    /// /etc/passwd.
    pub passwd: String,
    /// /etc/subuid.
    pub subuid: String,
    /// /etc/subgid.
    pub subgid: String,
    /// newuidmap.
    pub newuidmap: Option<PathBuf>,
    /// newgidmap.
    pub newgidmap: Option<PathBuf>,
    /// Those of the switches that forbid user namespaces.
    pub forbidding: Vec<&'static str>,
    /// Whether this process and its children get no rights from set-user-id programs
    /// (`no_new_privs`, prctl(2)).
    pub no_new_privileges: bool,
}

/// Which user namespace can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// The user is 0, and the ranges of the user follow from 1 on; for user ids and for group ids.
    Ranges(Mapper, Mapper),
    /// The user is 0, and nobody else is there: what more would take.
    One(Unavailable),
}

impl Host {
    /// This machine and this process's user.
    pub fn of_process(environment: &Environment) -> Self {
        // What cannot be read has nothing to say.
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let program = |name| find(name, environment.variable("PATH"));
        let forbids = |(file, forbidden, _): &(&str, &str, &str)| {
            read(&format!("/proc/sys/{file}")).trim() == *forbidden
        };
        let login = ["USER", "LOGNAME"].iter().find_map(|name| environment.variable(name));
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            login: login.filter(|name| !name.is_empty()).map(str::to_owned),
            passwd: read("/etc/passwd"),
            subuid: read("/etc/subuid"),
            subgid: read("/etc/subgid"),
            newuidmap: program("newuidmap"),
            newgidmap: program("newgidmap"),
            no_new_privileges: read("/proc/self/status")
                .lines()
                .any(|line| line.split_whitespace().eq(["NoNewPrivs:", "1"])),
            forbidding: SWITCHES.iter().filter(|it| forbids(it)).map(|it| it.2).collect(),
        }
    }

    /// The best namespace that this user can have.
    ///
    /// # Errors
    /// All that is missing, where the kernel's settings forbid every namespace.
    pub fn plan(&self) -> Result<Plan, Unavailable> {
        let user = self.name();
        let mut missing = Vec::new();
        let users = self.mapper("newuidmap", &self.newuidmap, self.uid, &mut missing);
        let groups = self.mapper("newgidmap", &self.newgidmap, self.gid, &mut missing);
        let ranges = [("/etc/subuid", &self.subuid, users), ("/etc/subgid", &self.subgid, groups)]
            .map(|(file, text, mapper)| {
                let ranges = ranges(text, &user, self.uid);
                if ranges.is_empty() {
                    missing.push(Missing::Range { file, user: user.clone() });
                }
                mapper.map(|mut mapper| {
                    append(&mut mapper.extents, &ranges);
                    mapper
                })
            });
        if self.no_new_privileges {
            missing.push(Missing::Privileges);
        }
        missing.extend(self.forbidding.iter().map(|allow| Missing::Switch(allow)));
        if !self.forbidding.is_empty() {
            return Err(Unavailable(missing));
        }
        match ranges {
            [Some(users), Some(groups)] if missing.is_empty() => Ok(Plan::Ranges(users, groups)),
            _ => Ok(Plan::One(Unavailable(missing))),
        }
    }

    fn mapper(
        &self,
        name: &'static str,
        program: &Option<PathBuf>,
        id: u32,
        missing: &mut Vec<Missing>,
    ) -> Option<Mapper> {
        match program {
            Some(program) => {
                let own = Extent { inside: 0, outside: id, count: 1 };
                Some(Mapper { program: program.clone(), extents: vec![own] })
            }
            None => {
                missing.push(Missing::Program(name));
                None
            }
        }
    }

    /// The user's name, else its number.
    fn name(&self) -> String {
        let uid = self.uid.to_string();
        let known = self.passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == uid).then(|| name.to_owned())
        });
        known.or_else(|| self.login.clone()).unwrap_or(uid)
    }
}

/// The ranges of a user, named or numbered: first id and count (subuid(5)).
fn ranges(text: &str, name: &str, uid: u32) -> Vec<(u32, u32)> {
    let uid = uid.to_string();
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        if owner != name && owner != uid {
            return None;
        }
        let first = fields.next()?.parse().ok()?;
        let count = fields.next()?.parse().ok()?;
        (count > 0).then_some((first, count))
    };
    text.lines().filter_map(range).take(MAX_RANGES).collect()
}

/// Appends ranges, each where the last one ended.
fn append(extents: &mut Vec<Extent>, ranges: &[(u32, u32)]) {
    let mut inside = extents.last().map_or(0, |last| last.inside + last.count);
    for &(outside, count) in ranges {
        let count = count.min(IDS - inside);
        if count > 0 {
            extents.push(Extent { inside, outside, count });
            inside += count;
        }
    }
}

/// A program in `path` or where programs usually are.
pub fn find(name: &str, path: Option<&str>) -> Option<PathBuf> {
    let dirs = path.unwrap_or_default().split(':').filter(|dir| dir.starts_with('/'));
    dirs.chain(PROGRAM_DIRS).map(|dir| Path::new(dir).join(name)).find(|place| place.is_file())
}

/// How git calls ssh inside: ssh looks for its files in the home directory of user 0, which is
/// another user's. Like the call that git makes for root, it never asks and leaves nothing behind.
pub fn ssh_command(home: &Path) -> Option<String> {
    const KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];
    let ssh = home.join(".ssh");
    // It goes through a shell, and then through ssh's own reading of options.
    let ssh = ssh.to_str().filter(|path| !path.contains(['\'', '"', '\\', '%', '$']))?;
    let mut command = "ssh -o BatchMode=yes -o ControlPath=none".to_owned();
    command.push_str(&format!(" -o 'UserKnownHostsFile=\"{ssh}/known_hosts\"'"));
    for key in KEYS {
        command.push_str(&format!(" -o 'IdentityFile=\"{ssh}/{key}\"'"));
    }
    Some(command)
}

/// What became of [`enter`].
#[derive(Debug)]
pub enum Entered {
    /// This process is user 0 of a namespace with the user's ids.
    Ranges,
    /// This process is user 0 of a namespace that has no other id: what more would take.
    One(Unavailable),
    /// It is what it was.
    Outside(Unavailable),
}

/// Enters a user namespace, if that can be had.
///
/// # Errors
/// If it turned out too late that it cannot: then this process can only end.
pub fn enter(host: &Host) -> Result<Entered, Unavailable> {
    let (entered, inside) = match host.plan() {
        Ok(Plan::Ranges(users, groups)) => (userns::enter(&users, &groups), Entered::Ranges),
        Ok(Plan::One(missing)) => (userns::enter_one(), Entered::One(missing)),
        Err(unavailable) => return Ok(Entered::Outside(unavailable)),
    };
    match entered {
        Ok(()) => Ok(inside),
        Err(error @ (EnterError::Prepare { .. } | EnterError::Unshare { .. })) => {
            Ok(Entered::Outside(Unavailable(vec![Missing::Kernel(error.to_string())])))
        }
        Err(error @ EnterError::Map { .. }) => {
            Err(Unavailable(vec![Missing::Map(error.to_string())]))
        }
        Err(error @ (EnterError::MapOne { .. } | EnterError::Powerless { .. })) => {
            Err(Unavailable(vec![Missing::Kernel(error.to_string())]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            uid: 1000,
            gid: 1001,
            login: None,
            passwd: "root:x:0:0::/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\n".into(),
            subuid: "bob:100000:65536\nann:165536:65536\n1000:300000:10\n".into(),
            subgid: "ann:165536:65536\n".into(),
            newuidmap: Some("/usr/bin/newuidmap".into()),
            newgidmap: Some("/usr/bin/newgidmap".into()),
            forbidding: Vec::new(),
            no_new_privileges: false,
        }
    }

    fn ranges_of(host: &Host) -> (Mapper, Mapper) {
        match host.plan() {
            Ok(Plan::Ranges(users, groups)) => (users, groups),
            other => panic!("{other:?}"),
        }
    }

    /// What is missing for more than one id.
    fn one_of(host: &Host) -> Vec<Missing> {
        match host.plan() {
            Ok(Plan::One(Unavailable(missing))) => missing,
            other => panic!("{other:?}"),
        }
    }

    fn extents(mapper: &Mapper) -> Vec<(u32, u32, u32)> {
        mapper.extents.iter().map(|e| (e.inside, e.outside, e.count)).collect()
    }

    #[test]
    fn own_id_first_and_the_ranges_behind_it() {
        let (users, groups) = ranges_of(&host());
        let want = [(0, 1000, 1), (1, 165_536, 65536), (65537, 300_000, 10)];
        assert_eq!(extents(&users), want);
        assert_eq!(extents(&groups), [(0, 1001, 1), (1, 165_536, 65536)]);
        assert_eq!(users.program, Path::new("/usr/bin/newuidmap"));
    }

    #[test]
    fn users_that_are_in_no_file() {
        let nameless = Host { passwd: String::new(), login: Some("ann".into()), ..host() };
        assert_eq!(extents(&ranges_of(&nameless).1).len(), 2);
        let numbered = Host { subgid: "1000:7:8".into(), passwd: String::new(), ..host() };
        assert_eq!(extents(&ranges_of(&numbered).1), [(0, 1001, 1), (1, 7, 8)]);
    }

    #[test]
    fn lines_that_say_nothing_and_too_many() {
        assert!(ranges("ann\nann:x:1\nann:1:0\n\nann:1:-4\n:1:2", "ann", 1).is_empty());
        let many = "ann:1:1\n".repeat(1000);
        assert_eq!(ranges(&many, "ann", 1).len(), MAX_RANGES);
        let mut extents = vec![Extent { inside: 0, outside: 5, count: 1 }];
        append(&mut extents, &[(10, u32::MAX), (20, u32::MAX)]);
        assert_eq!(extents[1..], [Extent { inside: 1, outside: 10, count: IDS - 1 }]);
    }

    #[test]
    fn everything_that_is_missing_and_how_to_get_it() {
        let bare = Host { uid: 7, passwd: "eve:x:7:7::/:\n".into(), ..Host::default() };
        let error = Host { forbidding: vec![SWITCHES[2].2], ..bare }.plan().unwrap_err();
        let text = error.to_string();
        for part in ["newuidmap is not", "newgidmap is not", "/etc/subuid has no range for eve"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains("kernel.apparmor_restrict_unprivileged_userns forbids"), "{text}");
        let hints = error.hints();
        assert_eq!(hints.len(), 3, "{hints:?}");
        assert!(hints[0].contains("apt install uidmap"));
        assert!(
            hints[1]
                .contains("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 eve")
        );
        assert!(hints[2].contains("sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"));
    }

    #[test]
    fn ssh_of_the_users_home() {
        let command = ssh_command(Path::new("/home/a b")).unwrap();
        assert!(command.starts_with("ssh -o BatchMode=yes -o ControlPath=none -o '"), "{command}");
        assert!(command.contains(r#"'UserKnownHostsFile="/home/a b/.ssh/known_hosts"'"#));
        assert!(command.ends_with(r#"-o 'IdentityFile="/home/a b/.ssh/id_rsa"'"#));
        assert_eq!(ssh_command(Path::new("/home/o'neil")), None);
    }

    #[test]
    fn one_id_where_more_cannot_be_had() {
        let range = |file| Missing::Range { file, user: "ann".into() };
        let bare = Host { subuid: String::new(), subgid: String::new(), ..host() };
        assert_eq!(one_of(&bare), [range("/etc/subuid"), range("/etc/subgid")]);
        let alone = Host { newuidmap: None, ..host() };
        assert_eq!(one_of(&alone), [Missing::Program("newuidmap")]);
        let kept = Host { no_new_privileges: true, ..host() };
        assert_eq!(one_of(&kept), [Missing::Privileges]);
        assert!(Unavailable(one_of(&kept)).hints()[0].contains("no_new_privs"));
    }

    #[test]
    fn none_where_the_kernel_forbids_it() {
        for (_, _, allow) in SWITCHES {
            let forbidden = Host { forbidding: vec![allow], ..host() };
            assert_eq!(forbidden.plan(), Err(Unavailable(vec![Missing::Switch(allow)])));
        }
        let error = Host { forbidding: vec![SWITCHES[1].2], ..host() }.plan().unwrap_err();
        assert!(error.to_string().contains("user.max_user_namespaces forbids"), "{error}");
        assert!(error.hints()[0].contains("sysctl -w user.max_user_namespaces=15000"));
    }
}
