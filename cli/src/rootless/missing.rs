//! What a user namespace lacks, and how to get it.

/// Something that building as an ordinary user needs and that is not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A program that maps ids.
    Program(&'static str),
    /// A range of user or group ids for this user.
    Range {
        /// The file that has none.
        file: &'static str,
        /// The user, by name where there is one.
        user: String,
    },
    /// A switch of the kernel forbids it: what would allow it.
    Switch(&'static str),
    /// The kernel, or a filter of system calls, forbids it.
    Kernel(String),
    /// Programs give no rights to this process.
    Privileges,
    /// The programs are there, and did not do it.
    Map(String),
}

/// Why no user namespace could be had: everything that is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "as an ordinary user this needs a user namespace with a range of ids, and {}",
    self.reasons()
)]
pub struct Unavailable(pub Vec<Missing>);

impl Missing {
    fn message(&self) -> String {
        match self {
            Self::Program(name) => format!("the program {name} is not installed"),
            Self::Range { file, user } => format!("{file} has no range for {user}"),
            Self::Switch(allow) => {
                let name = allow.split('=').next().unwrap_or(allow);
                format!("the setting {name} forbids it")
            }
            Self::Privileges => {
                "this process has no_new_privs, under which newuidmap and newgidmap \
                                 can map nothing"
                    .to_owned()
            }
            Self::Kernel(reason) | Self::Map(reason) => reason.clone(),
        }
    }

    /// How to get it.
    fn hint(&self) -> String {
        match self {
            Self::Program(_) => "install newuidmap and newgidmap: `apt install uidmap`, elsewhere \
                                 the package shadow-utils or shadow"
                .to_owned(),
            Self::Range { user, .. } => format!(
                "give {user} a range that nobody else has, as root: `usermod --add-subuids \
                 100000-165535 --add-subgids 100000-165535 {user}`"
            ),
            Self::Switch(allow) => format!("allow it, as root: `sysctl -w {allow}`"),
            Self::Kernel(_) => "in a container, allow the system calls unshare and mount \
                                (`--security-opt seccomp=unconfined`); or run it as root"
                .to_owned(),
            Self::Privileges => "start it without no_new_privs (systemd: NoNewPrivileges=no; in a \
                                 container without --security-opt no-new-privileges)"
                .to_owned(),
            Self::Map(_) => "newuidmap and newgidmap must be set-user-id root, in a place that is \
                             not mounted nosuid, and the process must not have no_new_privs; or \
                             run it as root"
                .to_owned(),
        }
    }
}

impl Unavailable {
    /// What is missing, in one line.
    pub fn reasons(&self) -> String {
        self.0.iter().map(Missing::message).collect::<Vec<_>>().join("; ")
    }

    /// How to get what is missing, each advice once.
    pub fn hints(&self) -> Vec<String> {
        let mut hints: Vec<String> = self.0.iter().map(Missing::hint).collect();
        hints.dedup();
        hints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_and_the_programs_refuse() {
        let error = Unavailable(vec![Missing::Kernel("no: EPERM".into())]);
        assert!(error.to_string().ends_with("no: EPERM"));
        assert!(error.hints()[0].contains("seccomp=unconfined"));
        assert!(Unavailable(vec![Missing::Map("no".into())]).hints()[0].contains("nosuid"));
    }
}
