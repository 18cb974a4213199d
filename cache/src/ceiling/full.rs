//! That there is no room left, and who has it.

use std::fmt;

use super::Limit;

/// So many holders are told one by one.
const MAX_SHOWN: usize = 5;

/// Who needs what of a state directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// What images with a name need, in bytes.
    pub images: u64,
    /// What each running process needs, by its lease; in bytes. What images need as well is in it.
    pub leases: Vec<(String, u64)>,
}

/// A build that holds something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// What people know it by; none for what is no build.
    pub title: Option<String>,
    /// Its process id; 0 if that is not known.
    pub process: u32,
    /// Whether it is the build that fails.
    pub own: bool,
    /// What it needs, with its reservations, in bytes.
    pub bytes: u64,
}

/// There is no room, and nothing that could go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Full {
    /// What was to be written: the name of a step.
    pub name: String,
    /// What it has written, in bytes.
    pub written: u64,
    /// What it needs besides, at least, in bytes; nothing where it had ended.
    pub needs: u64,
    /// The ceiling.
    pub limit: Limit,
    /// What images with a name need, in bytes.
    pub images: u64,
    /// Who holds the rest, the largest first.
    pub holders: Vec<Holder>,
}

impl std::error::Error for Full {}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the cache is full: {} wrote {}", self.name, human(self.written))?;
        if self.needs > 0 {
            write!(f, " and needs {} more", human(self.needs))?;
        }
        write!(
            f,
            ", but the ceiling is {} ({}), and all that is left is in use: ",
            human(self.limit.bytes),
            self.limit.rule
        )?;
        write!(f, "{} by images with a name", human(self.images))?;
        for holder in self.holders.iter().take(MAX_SHOWN) {
            write!(f, ", {} by ", human(holder.bytes))?;
            match (&holder.title, holder.own) {
                (_, true) => f.write_str("this build")?,
                (Some(title), _) => write!(f, "{title:?} (process {})", holder.process)?,
                (None, _) => f.write_str("another command")?,
            }
        }
        if let Some(rest) = self.holders.get(MAX_SHOWN..).filter(|rest| !rest.is_empty()) {
            let bytes = rest.iter().map(|holder| holder.bytes).sum();
            write!(f, ", {} by {} others", human(bytes), rest.len())?;
        }
        let others = self.holders.iter().any(|holder| !holder.own);
        let advice = match (others, self.images > 0) {
            (false, false) => "raise the ceiling",
            (false, true) => "raise the ceiling, or remove images with `drydock rmi`",
            (true, false) => "wait until the others have ended, or raise the ceiling",
            (true, true) => {
                "wait until the others have ended, raise the ceiling, or remove images with \
                 `drydock rmi`"
            }
        };
        write!(f, "; {advice}")
    }
}

/// A number of bytes with a binary unit, rounded to one digit after the point: `1.5GiB`.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut tenths = u128::from(bytes) * 10;
    let mut unit = 0;
    // What would be shown as 1024 is one of the next.
    while tenths >= 10_235 && unit + 1 < UNITS.len() {
        tenths = (tenths + 512) / 1024;
        unit += 1;
    }
    match tenths % 10 {
        0 => format!("{}{}", tenths / 10, UNITS[unit]),
        rest => format!("{}.{rest}{}", tenths / 10, UNITS[unit]),
    }
}
