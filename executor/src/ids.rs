//! The user and groups of a process, against those that the builder's user namespace has.

use sys::userns::Ids;

use crate::error::ExecError;
use crate::user::User;

/// Refuses a user that cannot be had, before anything is made for it: its groups are what it asks
/// for, or it does not run. Where groups cannot be set, and it asks for none but its own, they stay
/// what the builder has.
pub(crate) fn check(user: &mut User, ids: &Ids) -> Result<(), ExecError> {
    let refuse = |what: String| Err(ExecError::NoSuchId { what });
    if !ids.has_user(user.uid) {
        return refuse(format!("user {}", user.uid));
    }
    if let Some(group) = user.groups.iter().chain([&user.gid]).find(|it| !ids.has_group(**it)) {
        return refuse(format!("user {} in group {group}", user.uid));
    }
    if !ids.may_set_groups {
        user.groups.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys::userns::Extent;

    #[test]
    fn users_and_groups() {
        let one = vec![Extent { inside: 0, outside: 1000, count: 1 }];
        let ids = Ids { users: one.clone(), groups: one, may_set_groups: false };
        let checked = |uid, gid, groups: &[u32], ids: &Ids| {
            let mut user = User { uid, gid, groups: groups.to_vec(), home: "/".into() };
            check(&mut user, ids).map(|()| user.groups).map_err(|error| error.to_string())
        };
        assert_eq!(checked(0, 0, &[0], &ids), Ok(Vec::new()));
        assert!(checked(5, 0, &[0], &ids).unwrap_err().contains("user 5"));
        assert!(checked(0, 6, &[6], &ids).unwrap_err().contains("user 0 in group 6"));
        assert!(checked(0, 0, &[0, 10], &ids).unwrap_err().contains("group 10"));
        let free = Ids { may_set_groups: true, ..ids };
        assert_eq!(checked(0, 0, &[0], &free), Ok(vec![0]));
    }
}
