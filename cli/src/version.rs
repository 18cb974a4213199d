//! `drydock version`.

use oci::Platform;

/// The version and the platform, on one line.
pub fn text() -> String {
    format!("drydock {} {}\n", env!("CARGO_PKG_VERSION"), Platform::host())
}
