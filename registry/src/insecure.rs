//! Registries that people said need no trusted, encrypted connection (`registry.insecure=true`).
//!
//! BuildKit: util/resolver, where a registry is both `insecure` and `http`: HTTPS without a look at
//! the certificate, and plain HTTP where that is what the server speaks. It holds for what was asked
//! of this registry alone: nothing else is trusted more for it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError, RwLock};

use ureq::http::Uri;

/// The registries, and what each of them speaks.
#[derive(Debug, Default)]
pub(crate) struct Insecure {
    hosts: RwLock<BTreeSet<String>>,
    schemes: Mutex<HashMap<String, &'static str>>,
}

impl Insecure {
    /// From now on `host` (with its port, as in a URL) needs no trusted connection.
    pub(crate) fn allow(&self, host: &str) {
        self.hosts.write().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned());
    }

    pub(crate) fn has(&self, host: &str) -> bool {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner).contains(host)
    }

    /// Whether `url` is of such a registry.
    pub(crate) fn covers(&self, url: &Uri) -> bool {
        url.authority().is_some_and(|authority| self.has(authority.as_str()))
    }

    /// What `host` speaks: `answers` tells whether it does this scheme, and is asked once.
    pub(crate) fn scheme(&self, host: &str, answers: impl Fn(&str) -> bool) -> &'static str {
        // Whoever comes second waits for the first one's answer.
        let mut schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = schemes.get(host) {
            return known;
        }
        match ["https", "http"].into_iter().find(|scheme| answers(scheme)) {
            Some(found) => {
                schemes.insert(host.to_owned(), found);
                found
            }
            // What is wrong shows when something is wanted of it.
            None => "https",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_is_spoken_is_asked_once() {
        let insecure = Insecure::default();
        let asked = Cell::new(0);
        let only = |what: &'static str| {
            let asked = &asked;
            move |scheme: &str| {
                asked.set(asked.get() + 1);
                scheme == what
            }
        };
        assert_eq!(insecure.scheme("a:5000", only("http")), "http");
        assert_eq!(insecure.scheme("a:5000", only("https")), "http");
        assert_eq!(asked.get(), 2);
        assert_eq!(insecure.scheme("b", only("neither")), "https");
        assert_eq!(insecure.scheme("b", only("https")), "https");
    }

    #[test]
    fn it_holds_for_that_host_and_port() {
        let insecure = Insecure::default();
        insecure.allow("a:5000");
        let covers = |url: &str| insecure.covers(&url.parse().unwrap());
        assert!(covers("https://a:5000/v2/") && covers("http://a:5000/x"));
        assert!(
            !covers("https://a/v2/") && !covers("https://a:5001/") && !covers("https://b.a:5000/")
        );
    }
}
