//! Token scopes: `repository:library/busybox:pull,push`.
//!
//! Source: distribution's docs/spec/auth/scope.md.

use std::collections::{BTreeMap, BTreeSet};

/// A union of scopes: actions by resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scopes(BTreeMap<String, BTreeSet<String>>);

impl Scopes {
    /// May fetch from `repository`.
    pub(crate) fn pull(repository: &str) -> Self {
        Self::repository(repository, &["pull"])
    }

    /// May fetch from and push to `repository`.
    pub(crate) fn push(repository: &str) -> Self {
        Self::repository(repository, &["pull", "push"])
    }

    fn repository(repository: &str, actions: &[&str]) -> Self {
        let actions = actions.iter().map(|&a| a.to_owned()).collect();
        Self(BTreeMap::from([(format!("repository:{repository}"), actions)]))
    }

    /// Scopes as a challenge writes them, separated by spaces. What has no actions is left out.
    pub(crate) fn parse(text: &str) -> Self {
        let mut scopes = Self::default();
        for scope in text.split_ascii_whitespace() {
            if let Some((resource, actions)) = scope.rsplit_once(':') {
                let set: BTreeSet<String> =
                    actions.split(',').filter(|a| !a.is_empty()).map(str::to_owned).collect();
                if !set.is_empty() && resource.contains(':') {
                    scopes.0.entry(resource.to_owned()).or_default().extend(set);
                }
            }
        }
        scopes
    }

    /// Adds what `other` allows.
    pub(crate) fn union(mut self, other: &Self) -> Self {
        for (resource, actions) in &other.0 {
            self.0.entry(resource.clone()).or_default().extend(actions.iter().cloned());
        }
        self
    }

    /// Each resource with its actions, in a fixed order.
    pub(crate) fn to_list(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|(resource, actions)| {
                let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
                format!("{resource}:{}", actions.join(","))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unions() {
        let scopes = Scopes::push("a/b").union(&Scopes::pull("c")).union(&Scopes::pull("a/b"));
        assert_eq!(scopes.to_list(), ["repository:a/b:pull,push", "repository:c:pull"]);
        let scopes = Scopes::parse("repository:a/b:push registry:catalog:* nonsense x: :y")
            .union(&Scopes::pull("a/b"));
        assert_eq!(scopes.to_list(), ["registry:catalog:*", "repository:a/b:pull,push"]);
    }
}
