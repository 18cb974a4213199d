//! Where the binary under test is.

use std::path::PathBuf;

/// Names the binary in place of the one in the target directory.
const VARIABLE: &str = "DRYDOCK_BIN";

/// The `drydock` binary: `DRYDOCK_BIN`, else the one beside the running test in the target
/// directory, where `cargo build` puts it.
///
/// # Panics
/// If it is not there: it is not built from here, so that tests never wait for a compiler.
pub fn drydock() -> PathBuf {
    let path = match std::env::var_os(VARIABLE) {
        Some(path) => PathBuf::from(path),
        None => profile_directory().join("drydock"),
    };
    assert!(
        path.is_file(),
        "{} is not there: build it first (`cargo build -p cli` in the same profile, as `make test` \
         does), or name one in {VARIABLE}",
        path.display()
    );
    path
}

/// The directory of the profile in the target directory, such as `target/debug`.
pub(crate) fn profile_directory() -> PathBuf {
    let exe = std::env::current_exe().expect("the running test has a path");
    let parent = exe.parent().expect("a file has a parent");
    // Tests run from `deps`, binaries from the directory above it.
    match parent.file_name() {
        Some(name) if name == "deps" => parent.parent().expect("deps has a parent").to_owned(),
        _ => parent.to_owned(),
    }
}
