//! `--chown`: names to ids, inside the root that is written to.
//!
//! The rules are not those of USER: a number alone is also the group, a name alone brings its
//! group from `/etc/passwd`, a group alone means user 0 (BuildKit: `file/user_linux.go`). A name
//! that the image does not know is an error, as Docker's reference says; BuildKit silently takes 0.

use executor::passwd::{Group, Passwd, read_group, read_passwd};
use graph::Owner;
use sys::root::Root;

use super::error::CopyError;

const PASSWD: &str = "/etc/passwd";

/// A user and a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// The users and groups of a root file system.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    users: Vec<Passwd>,
    groups: Vec<Group>,
}

impl Accounts {
    /// Reads them from `root`; files that are not there are empty. Links are followed inside it.
    ///
    /// # Errors
    /// If a file is there but cannot be read, or is too large.
    pub fn read(root: &Root) -> Result<Self, CopyError> {
        Ok(Self { users: read_passwd(root.fd())?, groups: read_group(root.fd())? })
    }

    /// As [`Self::resolve`], where the files are copied apart from the image (`--link`): nobody has a
    /// name there.
    ///
    /// # Errors
    /// If it is a name.
    pub fn resolve_alone(owner: &Owner) -> Result<Ids, CopyError> {
        Self::default().resolve(owner).map_err(|error| match error {
            CopyError::UnknownUser { name, file, .. } => CopyError::LinkedUser { name, file },
            other => other,
        })
    }

    /// The ids that `owner` means.
    ///
    /// # Errors
    /// If a name is not known.
    pub fn resolve(&self, owner: &Owner) -> Result<Ids, CopyError> {
        let named = |name: &str| self.users.iter().find(|u| u.name == name);
        let (uid, own_gid) = match owner.user.as_str() {
            "" => (0, 0),
            text => match (text.parse::<u32>(), named(text)) {
                (Ok(id), _) => (id, id),
                (Err(_), Some(user)) => (user.uid, user.gid),
                (Err(_), None) => {
                    let names = self.users.iter().map(|u| u.name.as_str());
                    return Err(unknown(text, names));
                }
            },
        };
        let gid = match owner.group.as_deref() {
            None => own_gid,
            // `user:` names no group, and no number is 0 (BuildKit: `llb.WithUser`).
            Some("") => 0,
            Some(text) => match text.parse::<u32>() {
                Ok(id) => id,
                Err(_) => self.group(text).unwrap_or(own_gid),
            },
        };
        Ok(Ids { uid, gid })
    }

    /// The group of `owner` if it is a name that nobody has: then the user's own counts, as if
    /// none were named (BuildKit: `file/user_linux.go`).
    pub fn unknown_group<'o>(&self, owner: &'o Owner) -> Option<&'o str> {
        let group = owner.group.as_deref().filter(|group| !group.is_empty())?;
        let known = group.parse::<u32>().is_ok() || self.group(group).is_some();
        (!known).then_some(group)
    }

    fn group(&self, name: &str) -> Option<u32> {
        self.groups.iter().find(|group| group.name == name).map(|group| group.gid)
    }
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> CopyError {
    let near = graph::nearest(name, known).map(str::to_owned);
    CopyError::UnknownUser { name: name.to_owned(), file: PASSWD, near }
}

#[cfg(test)]
mod tests {
    use super::*;
    use executor::passwd::{parse_group, parse_passwd};

    #[test]
    fn chown_rules() {
        let accounts = Accounts {
            users: parse_passwd(b"root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"),
            groups: parse_group(b"root:x:0:\nappg:x:1002:\n"),
        };
        let ids = |user: &str, group: Option<&str>| {
            let owner = Owner { user: user.into(), group: group.map(Into::into) };
            accounts.resolve(&owner).map(|i| (i.uid, i.gid)).map_err(|e| e.to_string())
        };
        assert_eq!(ids("app", None), Ok((1000, 1001)));
        assert_eq!(ids("1000", None), Ok((1000, 1000)));
        assert_eq!(ids("", Some("appg")), Ok((0, 1002)));
        assert_eq!(ids("app", Some("appg")), Ok((1000, 1002)));
        assert_eq!(ids("app", Some("7")), Ok((1000, 7)));
        assert_eq!(ids("app", Some("")), Ok((1000, 0)));
        assert!(ids("nobody", None).unwrap_err().contains("no such user"));
        let alone = |user: &str, group: Option<&str>| {
            let owner = Owner { user: user.into(), group: group.map(Into::into) };
            Accounts::resolve_alone(&owner).map(|i| (i.uid, i.gid)).map_err(|e| e.to_string())
        };
        assert_eq!(alone("1", Some("2")), Ok((1, 2)));
        let error = alone("app", None).unwrap_err();
        assert!(error.contains("--link") && error.contains("numbers"), "{error}");
        assert!(ids("ap", None).unwrap_err().ends_with("(did you mean \"app\"?)"));
        // A group that nobody has is as if none were named.
        assert_eq!(ids("app", Some("nosuch")), Ok((1000, 1001)));
        assert_eq!(ids("5", Some("nosuch")), Ok((5, 5)));
        let group = |group: &str| {
            let owner = Owner { user: "app".into(), group: Some(group.into()) };
            accounts.unknown_group(&owner).map(str::to_owned)
        };
        assert_eq!(
            (group("nosuch").as_deref(), group("appg"), group("7")),
            (Some("nosuch"), None, None)
        );
    }
}
