//! Pushing an image to a registry.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use cache::BlobStore;
use oci::{Descriptor, Reference};
use registry::Client;

use crate::archive::open_blob;
use crate::{Bundle, ExportError, Image, Report};

/// How many blobs are uploaded at the same time.
const UPLOADS: usize = 4;

/// Pushes `image` under every one of `names`: blobs first, then the config, then the manifest,
/// so that a tag never points to missing content. A repository gets each blob once.
///
/// # Errors
/// If a registry refuses or fails, or a blob cannot be read.
pub fn push(
    image: &Image,
    bundle: &Bundle,
    names: &[Reference],
    blobs: &BlobStore,
    client: &Client,
    report: &dyn Report,
) -> Result<Descriptor, ExportError> {
    let mut pushed: BTreeSet<String> = BTreeSet::new();
    for name in names {
        if pushed.insert(name.repository()) {
            push_blobs(image, bundle, name, blobs, client, report)?;
        }
        let part = format!("pushing manifest for {name}");
        report.progress(&part, 0, bundle.descriptor.size);
        client
            .push_manifest(name, &bundle.descriptor.media_type, &bundle.manifest)
            .map_err(|source| ExportError::Push { reference: name.clone(), source })?;
        report.done(&part);
    }
    Ok(bundle.descriptor.clone())
}

fn push_blobs(
    image: &Image,
    bundle: &Bundle,
    name: &Reference,
    blobs: &BlobStore,
    client: &Client,
    report: &dyn Report,
) -> Result<(), ExportError> {
    let mut jobs: Vec<(usize, &Descriptor)> = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, layer) in bundle.layers.iter().enumerate() {
        if seen.insert(layer.digest) {
            jobs.push((index, layer));
        }
    }
    let queue = Mutex::new(jobs.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        let upload = || -> Result<(), ExportError> {
            while let Some((index, layer)) = next() {
                if report.cancelled() {
                    return Err(ExportError::Cancelled);
                }
                let mount = image.layers.origin(index).filter(|o| o.domain() == name.domain());
                let open = || -> io::Result<Box<dyn Read + Send>> {
                    image.layers.bring(index, layer).map_err(io::Error::other)?;
                    let blob = open_blob(blobs, layer).map_err(io::Error::other)?;
                    Ok(Box::new(blob))
                };
                push_blob(client, name, layer, mount.as_ref(), &open, report).inspect_err(
                    |_| {
                        // The others stop at their next layer.
                        while next().is_some() {}
                    },
                )?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..UPLOADS).map(|_| scope.spawn(upload)).collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, Result<(), ExportError>>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().map(join).collect::<Result<Vec<()>, _>>()
    })?;
    let open = || -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(bundle.config.clone())))
    };
    push_blob(client, name, &bundle.config_descriptor, None, &open, report)
}

fn push_blob(
    client: &Client,
    name: &Reference,
    blob: &Descriptor,
    mount: Option<&Reference>,
    open: &dyn Fn() -> io::Result<Box<dyn Read + Send>>,
    report: &dyn Report,
) -> Result<(), ExportError> {
    let part = format!("pushing layer {}", blob.digest);
    let progress = Upload { part: &part, report };
    client
        .push_blob(name, blob, mount, open, &progress, &|| report.cancelled())
        .map_err(|source| ExportError::Push { reference: name.clone(), source })?;
    report.done(&part);
    Ok(())
}

/// Tells a [`Report`] of an upload.
pub struct Upload<'a> {
    /// What the report calls it.
    pub part: &'a str,
    /// Who is told.
    pub report: &'a dyn Report,
}

impl registry::Progress for Upload<'_> {
    fn bytes(&self, done: u64, total: u64) {
        self.report.progress(self.part, done, total);
    }

    fn retrying(&self, what: &str, error: &str, attempt: u32) {
        self.report.progress(&format!("retrying {what} ({attempt}): {error}"), 0, 0);
    }
}
