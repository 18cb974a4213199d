//! The cache carried between machines: what a fresh one does with it, what it fetches, and what
//! becomes of a cache that is damaged, lies, or is not there.

mod clones;
mod faults;
mod insecure;
mod lies;
mod machines;
mod place;
mod random;
mod writing;
