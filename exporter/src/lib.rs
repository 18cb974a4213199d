//! Exporters: what becomes of a finished image.
//!
//! An [`Image`] (a final config and its [`Layers`]) goes to an OCI layout or archive, a Docker
//! archive, a plain tar or directory of the root file system, or a registry. Layers and merged
//! trees are reached through the [`Layers`] trait, which the worker implements: nothing here
//! knows of snapshots.

mod archive;
mod bundle;
mod error;
mod image;
mod local;
mod push;
mod report;
mod rootfs;
mod turn;

pub use archive::{docker_archive, oci_archive, oci_layout};
pub use bundle::{Bundle, bundle, bundle_to_push};
pub use error::ExportError;
pub use image::{Image, LayerError, LayerFormat, Layers};
pub use local::local;
pub use push::{Upload, push};
pub use report::Report;
pub use rootfs::rootfs_tar;
