//! How old a result may be that stands in for the work.

use std::time::Duration;

/// Which results of a vertex a build accepts instead of running it, by when their step started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Freshness {
    /// Any.
    #[default]
    Any,
    /// Those that started at most so long before the build (`RUN --ttl`); with zero none from
    /// before it.
    MaxAge(Duration),
    /// None from before the build, and what the step keeps between builds (its cache mounts) starts
    /// anew too: `--no-cache`.
    Build,
}

impl Freshness {
    /// The one of both that accepts less.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Build, _) | (_, Self::Build) => Self::Build,
            (Self::MaxAge(a), Self::MaxAge(b)) => Self::MaxAge(a.min(b)),
            (Self::MaxAge(age), Self::Any) | (Self::Any, Self::MaxAge(age)) => Self::MaxAge(age),
            (Self::Any, Self::Any) => Self::Any,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_one_wins_in_any_order() {
        let hours = |n: u64| Freshness::MaxAge(Duration::from_secs(n * 3600));
        let rising = [Freshness::Any, hours(24), hours(1), hours(0), Freshness::Build];
        for (at, low) in rising.iter().enumerate() {
            for high in &rising[at..] {
                assert_eq!(low.stricter(*high), *high);
                assert_eq!(high.stricter(*low), *high);
            }
        }
    }
}
