//! What is told, as data; the JSON document is this.

use serde::{Deserialize, Serialize};

use super::disk::State;

/// Everything.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) version: String,
    pub(super) kernel: Kernel,
    pub(super) builds: Builds,
    pub(super) state: StateReport,
    pub(super) cache: CacheReport,
    pub(super) snapshots: Snapshots,
    pub(super) control_groups: ControlGroups,
    pub(super) networks: Vec<Ability>,
    pub(super) limits: Vec<Ability>,
    pub(super) programs: Vec<Program>,
    /// The socket of the ssh agent in the environment, if it answers to its name.
    pub(super) ssh_agent: Option<String>,
    /// What would have to change for more.
    pub(super) hints: Vec<String>,
}

/// The machine.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Kernel {
    pub(super) release: String,
    pub(super) architecture: String,
    /// Whether there are filters of system calls.
    pub(super) seccomp: bool,
    /// Whether there are user namespaces.
    pub(super) user_namespaces: bool,
    /// Whether overlayfs is there.
    pub(super) overlay: bool,
    /// Whether overlays take layers one by one.
    pub(super) overlay_appends_layers: bool,
}

/// In which way builds run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Tier {
    /// Root of the machine.
    Root,
    /// Root in a user namespace that somebody else made.
    RootInUserNamespace,
    /// A user with ranges of ids.
    Ranges,
    /// A user with one id.
    OneId,
    /// A user who can have no user namespace.
    #[default]
    None,
}

impl Tier {
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::RootInUserNamespace => "root in a user namespace",
            Self::Ranges => "ordinary user with ranges of ids",
            Self::OneId => "ordinary user with one id",
            Self::None => "none: an ordinary user without a user namespace",
        }
    }
}

/// Builds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Builds {
    pub(super) tier: Tier,
    /// Why there is no better tier, if so.
    pub(super) tier_reason: Option<String>,
    /// Whether RUN works.
    pub(super) run: bool,
    /// Why not.
    pub(super) run_reason: Option<String>,
    /// How many user ids files can have.
    pub(super) users: u64,
    /// How many group ids files can have.
    pub(super) groups: u64,
}

/// The state directory.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct StateReport {
    pub(super) path: String,
    pub(super) exists: bool,
    /// The kind of the file system that it is on, or would be.
    pub(super) file_system: Option<String>,
    /// What an ordinary user can still write there.
    pub(super) free_bytes: Option<u64>,
    /// How deletions are written into snapshots there.
    pub(super) whiteouts: Option<String>,
    /// Whose it is.
    pub(super) owner: Option<u32>,
    /// Why this user cannot use it, if so.
    pub(super) problem: Option<String>,
}

/// How large the cache may become, as far as the environment and the state directory say so.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct CacheReport {
    /// In bytes.
    pub(super) ceiling: Option<u64>,
    /// Who said so.
    pub(super) ceiling_from: Option<String>,
    /// How steps are held that would write more: `freezer` or `signals`.
    pub(super) steps_held_by: String,
    /// Whether the file system of the state directory is not larger than the ceiling: then it
    /// cannot be exceeded for a moment.
    pub(super) exact: bool,
    /// The largest excess over a reservation that was ever seen in this state directory, in bytes.
    pub(super) largest_excess: u64,
    /// How many milliseconds nobody had looked then.
    pub(super) looked_after: u64,
    /// The names of the rules by which the cache is kept small.
    pub(super) rules: Vec<String>,
    /// What is wrong with the settings.
    pub(super) problem: Option<String>,
}

/// How snapshots are stored.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Snapshots {
    /// `overlay`, `user-overlay`, `fuse-overlayfs`, `copy`.
    pub(super) kind: String,
    /// Why not as an overlay.
    pub(super) reason: Option<String>,
    /// Whether the state directory is bound to it.
    pub(super) decided: bool,
}

/// Control groups.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ControlGroups {
    /// `v1`, `v2`, `hybrid`, `none`.
    pub(super) version: String,
    /// Those that limits can be set with.
    pub(super) usable: Vec<String>,
    /// The others.
    pub(super) unusable: Vec<String>,
}

/// Something that a build may ask for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ability {
    pub(super) name: String,
    pub(super) available: bool,
    /// Why not.
    pub(super) reason: Option<String>,
}

impl Ability {
    pub(super) fn new(name: &str, reason: Option<String>) -> Self {
        Self { name: name.to_owned(), available: reason.is_none(), reason }
    }
}

/// A program that is used where it is there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Program {
    pub(super) name: String,
    /// What it is used for.
    pub(super) use_for: String,
    pub(super) path: Option<String>,
}

impl Report {
    /// Adds what the state directory is, and advice that is left to give.
    pub(super) fn advise(&mut self, state: &State) {
        self.state = state.report();
        if let Some(problem) = &self.state.problem {
            self.hints
                .push(format!("{problem}: another one can be given with --root or DRYDOCK_ROOT"));
        }
        if self.snapshots.kind == "copy" && self.snapshots.decided {
            self.hints.push(format!(
                "snapshots in {} are plain copies since it was made: where overlays work now, a new \
                 state directory (--root) is faster",
                self.state.path
            ));
        }
        let mut seen = std::collections::BTreeSet::new();
        self.hints.retain(|hint| seen.insert(hint.clone()));
    }
}
