//! Causes, and how people read them.

use std::fmt;

use oci::Timestamp;
use serde::{Deserialize, Serialize};

/// Digits of a digest that are shown.
const DIGITS: usize = 12;

/// Causes that stand in one line; the others are counted.
const SHOWN: usize = 3;

/// Why a step runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Cause {
    /// Nothing is known of an earlier build.
    FirstBuild,
    /// The last build had no such step.
    NewStep,
    /// `--no-cache`.
    NoCache,
    /// `--no-cache-filter`.
    NoCacheFilter {
        /// The stage that it names.
        stage: String,
    },
    /// Its result was older than the step wants it (`RUN --ttl`).
    Expired {
        /// How old it may be.
        seconds: u64,
    },
    /// The text of the instruction.
    Instruction {
        /// The part that changed, as it was.
        old: String,
        /// As it is.
        new: String,
    },
    /// A variable of the step: a build argument or one of the environment.
    Variable {
        /// Its name.
        name: String,
        /// Whether its values look like secrets: then they are not told.
        hidden: bool,
        /// Its old value; none if it was not there.
        old: Option<String>,
        /// Its new value; none if it is gone.
        new: Option<String>,
    },
    /// Something else that the step was told: its user, its network, a mount.
    Setting {
        /// What.
        name: String,
        /// As it was; none if it was not there.
        old: Option<String>,
        /// As it is; none if it is gone.
        new: Option<String>,
    },
    /// Files that the step takes.
    Files {
        /// The first of them.
        #[serde(flatten)]
        first: FileChange,
        /// How many others changed, too.
        more: usize,
        /// Whether the list of what is left out of the context changed as well.
        ignore: bool,
    },
    /// Files that the step takes; which is not known.
    Contents,
    /// The image that the step is based on, or takes files from.
    Image {
        /// Its old name.
        old: String,
        /// Its new name.
        new: String,
        /// Its old digest.
        old_digest: String,
        /// Its new digest.
        new_digest: String,
    },
    /// The result of another step.
    Input {
        /// That step.
        step: String,
    },
    /// A step before this one is new.
    AfterNew {
        /// That step.
        step: String,
    },
    /// A step before this one is no longer there.
    AfterRemoved {
        /// That step.
        step: String,
    },
    /// It comes after another step, both of which were there before.
    Moved {
        /// The step that it comes after.
        step: String,
        /// The step that it came after.
        before: String,
    },
    /// Its result was removed from the cache.
    Evicted {
        /// When.
        at: Timestamp,
        /// By what.
        rule: String,
    },
    /// It failed, or was stopped, when it was run last.
    Unfinished,
    /// Its result is no longer in the cache, for reasons that nobody wrote down.
    Lost,
    /// Another version of the builder made it.
    Builder,
}

/// A change of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Where it is (where it was, if it is gone).
    pub path: String,
    /// What happened.
    #[serde(flatten)]
    pub what: FileWhat,
}

/// What happened to a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum FileWhat {
    /// Another content.
    Content {
        /// The old digest.
        old: String,
        /// The new one.
        new: String,
    },
    /// Another target of a link.
    Target {
        /// The old one.
        old: String,
        /// The new one.
        new: String,
    },
    /// Another kind of file.
    Kind {
        /// The old one.
        old: String,
        /// The new one.
        new: String,
    },
    /// Other permissions.
    Mode {
        /// The old ones, in octal.
        old: String,
        /// The new ones.
        new: String,
    },
    /// Another owner.
    Owner {
        /// The old one, as uid:gid.
        old: String,
        /// The new one.
        new: String,
    },
    /// Another name for the same content.
    Renamed {
        /// The new one.
        new: String,
    },
    /// It is new.
    Added,
    /// It is gone.
    Removed,
}

impl fmt::Display for FileChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.what {
            FileWhat::Content { old, new } => {
                write!(f, "{path} changed ({} → {})", short(old), short(new))
            }
            FileWhat::Target { old, new } => {
                write!(f, "the link {path} changed ({old:?} → {new:?})")
            }
            FileWhat::Kind { old, new } => write!(f, "{path} was a {old} and is a {new}"),
            FileWhat::Mode { old, new } => write!(f, "the mode of {path} changed ({old} → {new})"),
            FileWhat::Owner { old, new } => {
                write!(f, "the owner of {path} changed ({old} → {new})")
            }
            FileWhat::Renamed { new } => write!(f, "{path} was renamed to {new}"),
            FileWhat::Added => write!(f, "{path} was added"),
            FileWhat::Removed => write!(f, "{path} was removed"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstBuild => f.write_str("first build of this step"),
            Self::NewStep => f.write_str("new instruction"),
            Self::NoCache => f.write_str("--no-cache"),
            Self::NoCacheFilter { stage } => write!(f, "--no-cache-filter {stage}"),
            Self::Expired { seconds } => {
                write!(f, "its result is older than {}", age(*seconds))
            }
            Self::Instruction { old, new } => {
                write!(f, "the instruction changed: {old} → {new}")
            }
            Self::Variable { name, hidden: true, old, new } => {
                let what = match (old, new) {
                    (None, _) => "was added",
                    (_, None) => "was removed",
                    _ => "changed",
                };
                write!(f, "variable {name} {what} (value hidden)")
            }
            Self::Variable { name, old, new, .. } => {
                changed(f, &format!("variable {name}"), old.as_deref(), new.as_deref())
            }
            Self::Setting { name, old, new } => changed(f, name, old.as_deref(), new.as_deref()),
            Self::Files { first, more, ignore } => {
                first.fmt(f)?;
                match more {
                    0 => Ok(()),
                    1 => f.write_str(", and 1 more file"),
                    more => write!(f, ", and {more} more files"),
                }?;
                if *ignore { f.write_str(" (the ignore file changed)") } else { Ok(()) }
            }
            Self::Contents => f.write_str("files that it takes changed"),
            Self::Image { old, new, old_digest, new_digest } if old == new => {
                let (old_digest, new_digest) = (short(old_digest), short(new_digest));
                write!(f, "the image {new} changed ({old_digest} → {new_digest})")
            }
            Self::Image { old, new, old_digest, new_digest } => {
                let (old_digest, new_digest) = (short(old_digest), short(new_digest));
                write!(f, "another image: {old} ({old_digest}) → {new} ({new_digest})")
            }
            Self::Input { step } => write!(f, "the result of {step} changed"),
            Self::AfterNew { step } => write!(f, "it comes after a new step, {step}"),
            Self::AfterRemoved { step } => write!(f, "a step before it was removed, {step}"),
            Self::Moved { step, before } => {
                write!(f, "it comes after {step}, no longer after {before}")
            }
            Self::Evicted { at, rule } => {
                let at = Timestamp::from_seconds(at.seconds);
                write!(f, "its result was removed from the cache at {at} by {rule}")
            }
            Self::Unfinished => f.write_str("it did not end well when it was run last"),
            Self::Lost => f.write_str("its result is no longer in the cache"),
            Self::Builder => f.write_str("this version of drydock makes other keys"),
        }
    }
}

fn changed(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    old: Option<&str>,
    new: Option<&str>,
) -> fmt::Result {
    match (old, new) {
        (None, Some(new)) => write!(f, "{what} was added ({new:?})"),
        (Some(old), None) => write!(f, "{what} was removed ({old:?})"),
        (Some(old), Some(new)) => write!(f, "{what} changed ({old:?} → {new:?})"),
        (None, None) => write!(f, "{what} changed"),
    }
}

/// `90` seconds are `90s`, 7200 are `2h`.
fn age(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    let whole =
        units.into_iter().find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{seconds}s"), |(unit, name)| format!("{}{name}", seconds / unit))
}

/// The beginning of a digest.
fn short(digest: &str) -> &str {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.get(..DIGITS).unwrap_or(hex)
}

/// All causes of a step in one line.
pub fn sentence(causes: &[Cause]) -> String {
    let shown: Vec<String> = causes.iter().take(SHOWN).map(ToString::to_string).collect();
    let text = shown.join("; ");
    match causes.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text}; and {more} more"),
    }
}
