//! The user of a process, looked up in its root file system; never in the host's databases.

use std::os::fd::BorrowedFd;

use crate::passwd::{self, Group, Passwd, PasswdError};

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, the primary one first (CVE-2023-25173: without it a process could
    /// escape "negative" permissions of its own group).
    pub groups: Vec<u32>,
    /// What HOME becomes when the environment has none.
    pub home: String,
}

/// A user or group that the root file system does not know.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A name without a line in `/etc/passwd`.
    #[error("unable to find user {name}: no matching entries in passwd file")]
    UnknownUser {
        /// The name.
        name: String,
    },
    /// A name without a line in `/etc/group`.
    #[error("unable to find group {name}: no matching entries in group file")]
    UnknownGroup {
        /// The name.
        name: String,
    },
    /// A number that no user or group can have.
    #[error("user and group ids must be in range 0-{max}, not {id}", max = passwd::MAX_ID)]
    Range {
        /// The number.
        id: String,
    },
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] PasswdError),
}

/// The user that `spec` means in this root.
///
/// # Errors
/// [`UserError`].
pub fn resolve(root: BorrowedFd<'_>, spec: &str) -> Result<User, UserError> {
    resolve_in(&passwd::read_passwd(root)?, &passwd::read_group(root)?, spec)
}

/// The rules, as BuildKit and runc have them together: a number matches ids only; an unknown
/// number is itself, with group 0 and home `/`; a user's groups come from the group file only
/// when no group was named.
///
/// # Errors
/// [`UserError`], files excepted.
pub fn resolve_in(users: &[Passwd], groups: &[Group], spec: &str) -> Result<User, UserError> {
    let (name, group) = match spec.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|it| !it.is_empty())),
        None => (spec, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let number = number(name)?;
    let line = users.iter().find(|user| match number {
        Some(uid) => user.uid == uid,
        None => user.name == name,
    });
    let uid = match (line, number) {
        (Some(line), _) => line.uid,
        (None, Some(uid)) => uid,
        (None, None) => return Err(UserError::UnknownUser { name: name.into() }),
    };
    let gid = match group {
        Some(group) => find_group(groups, group)?,
        None => line.map_or(0, |it| it.gid),
    };
    let mut all = vec![gid];
    if let (None, Some(line)) = (group, line) {
        for group in groups {
            if group.members.contains(&line.name) && !all.contains(&group.gid) {
                all.push(group.gid);
            }
        }
    }
    let home = line.map_or("", |it| &it.home);
    let home = if home.is_empty() { "/" } else { home }.to_owned();
    Ok(User { uid, gid, groups: all, home })
}

fn find_group(groups: &[Group], name: &str) -> Result<u32, UserError> {
    if let Some(gid) = number(name)? {
        return Ok(gid);
    }
    groups
        .iter()
        .find(|group| group.name == name)
        .map(|group| group.gid)
        .ok_or_else(|| UserError::UnknownGroup { name: name.into() })
}

/// `None` for a name.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    passwd::id(text).map(Some).ok_or_else(|| UserError::Range { id: text.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        let users = passwd::parse_passwd(
            b"root:x:0:0::/root:\napp:x:1000:1001::/home/app:\nnohome:x:5:6:::\n7:x:8:9::/seven:\n",
        );
        let groups = passwd::parse_group(
            b"root:x:0:root\nwheel:x:10:root,app\napp:x:1001:app\naudio:x:63:app\n",
        );
        resolve_in(&users, &groups, spec)
            .map(|it| (it.uid, it.gid, it.groups, it.home))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn table() {
        let ok =
            |uid, gid, groups: &[u32], home: &str| Ok((uid, gid, groups.to_vec(), home.into()));
        assert_eq!(check(""), ok(0, 0, &[0, 10], "/root"));
        assert_eq!(check("root"), ok(0, 0, &[0, 10], "/root"));
        assert_eq!(check("app"), ok(1000, 1001, &[1001, 10, 63], "/home/app"));
        assert_eq!(check("1000"), ok(1000, 1001, &[1001, 10, 63], "/home/app"));
        assert_eq!(check("app:wheel"), ok(1000, 10, &[10], "/home/app"));
        assert_eq!(check("app:55"), ok(1000, 55, &[55], "/home/app"));
        assert_eq!(check("app:"), ok(1000, 1001, &[1001, 10, 63], "/home/app"));
        assert_eq!(check("4000"), ok(4000, 0, &[0], "/"));
        assert_eq!(check("4000:audio"), ok(4000, 63, &[63], "/"));
        assert_eq!(check("nohome"), ok(5, 6, &[6], "/"));
        assert_eq!(check("7"), ok(7, 0, &[0], "/"), "a number is never a name");
        assert_eq!(check(":63"), ok(0, 63, &[63], "/root"));
    }

    #[test]
    fn refusals() {
        assert_eq!(
            check("x").unwrap_err(),
            "unable to find user x: no matching entries in passwd file"
        );
        assert_eq!(
            check("app:x").unwrap_err(),
            "unable to find group x: no matching entries in group file"
        );
        for id in ["2147483648", "-1", "99999999999999999999"] {
            assert!(check(id).unwrap_err().contains("range"), "{id}");
        }
    }

    #[test]
    fn without_files() {
        let user = resolve_in(&[], &[], "").unwrap();
        assert_eq!(user, User { uid: 0, gid: 0, groups: vec![0], home: "/".into() });
    }
}
