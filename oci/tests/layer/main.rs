//! Tests of `oci::layer` through its public surface: properties, hostile input, and the way
//! through GNU tar and back.

mod builder;
mod compression;
mod gnu_tar;
mod hostile;
mod make;
mod manifest;
mod other_tools;
mod reader;
mod tree;
mod writer;
