//! What all kinds of snapshot have to do alike: one suite, run on each.
//!
//! After every step the mounted view is compared with what the manifests say, entry by entry.

mod changes;
mod foundation;
mod harness;
mod layers;
mod life;
mod random;
mod rebase;
