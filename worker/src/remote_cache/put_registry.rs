//! A cache in a registry.

use std::io::{self, Read};

use exporter::{Report, Upload};
use oci::{Descriptor, Reference};
use registry::Client;

use super::export::{CacheExportError, Put};

/// A repository and a tag in it.
pub(super) struct Registry<'a> {
    pub(super) client: &'a Client,
    pub(super) reference: &'a Reference,
}

impl Put for Registry<'_> {
    fn has(&self, manifest: &Descriptor) -> bool {
        // Whatever else it answers will show when something is pushed.
        let there = self.client.head(self.reference).ok().flatten();
        there.is_some_and(|there| there.digest == manifest.digest)
    }

    fn blob(
        &self,
        blob: &Descriptor,
        // What a registry has it has verified.
        _suspect: bool,
        from: Option<&Reference>,
        open: &(dyn Fn() -> io::Result<Box<dyn Read + Send>> + Sync),
        report: &dyn Report,
    ) -> Result<(), CacheExportError> {
        let part = format!("writing layer {}", blob.digest);
        let progress = Upload { part: &part, report };
        let cancelled = || report.cancelled();
        self.client.push_blob(self.reference, blob, from, open, &progress, &cancelled)?;
        report.done(&part);
        Ok(())
    }

    fn finish(&self, manifest: &Descriptor, bytes: &[u8]) -> Result<(), CacheExportError> {
        self.client.push_manifest(self.reference, &manifest.media_type, bytes)?;
        Ok(())
    }
}
