//! A cache leaves: which layers go, where they come from, and what stands in the manifest.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use cache::remote::{CONFIG_TYPE, Document};
use cache::{Held, VerifiedBlob};
use exporter::{LayerFormat, Report};
use oci::{Descriptor, Digest, ImageManifest, Reference, media_type};
use rayon::prelude::*;
use solver::{EventSink, StepContext};

use super::carry::{Carried, NodeKind};
use super::document::document;
use super::put_directory::Directory;
use super::put_registry::Registry;
use super::tree::Place;
use crate::engine::Engine;
use crate::error::WorkerError;
use crate::image::{AssembledLayer, Making, Origin, compression_of};

/// How many blobs are written at the same time.
const PARALLEL: usize = 4;

/// Where a cache goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheTarget {
    /// Into a registry.
    Registry(Reference),
    /// Into a directory, under a tag.
    Directory {
        /// The directory.
        path: std::path::PathBuf,
        /// The tag.
        tag: String,
        /// Whether all else that is there goes.
        reset: bool,
    },
}

/// Why a cache cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum CacheExportError {
    /// A layer cannot be made.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The registry refused or failed.
    #[error(transparent)]
    Registry(#[from] registry::RegistryError),
    /// The directory cannot be written.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was being done, as a verb.
        operation: &'static str,
        /// To what.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The build was cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// Something that a cache goes to.
pub(super) trait Put: Sync {
    /// Whether the manifest is what is there already, with all that it names.
    fn has(&self, manifest: &Descriptor) -> bool;

    /// Makes sure that a blob is there. `open` gives its bytes; it is fetched for that first. What is
    /// there of a `suspect` may be damaged.
    fn blob(
        &self,
        blob: &Descriptor,
        suspect: bool,
        from: Option<&Reference>,
        open: &(dyn Fn() -> io::Result<Box<dyn Read + Send>> + Sync),
        report: &dyn Report,
    ) -> Result<(), CacheExportError>;

    /// Gives the manifest, whose blobs are all there, its name.
    fn finish(&self, manifest: &Descriptor, bytes: &[u8]) -> Result<(), CacheExportError>;
}

/// A layer that goes.
struct Parcel {
    diff_id: Digest,
    blob: Descriptor,
    /// Where it is fetched from, if it is not here.
    origin: Option<Origin>,
    _held: Option<Held>,
}

/// The documents of a cache: manifest and config.
struct Packed {
    manifest: Vec<u8>,
    descriptor: Descriptor,
    config: Vec<u8>,
    config_descriptor: Descriptor,
}

impl Engine {
    /// Writes the cache of a build: the layers of every step, or those of the result alone, and the
    /// records of all. Returns what could not be carried, for people.
    ///
    /// # Errors
    /// If a layer cannot be made, or the target cannot be written.
    pub fn export_cache(
        &self,
        carried: &Carried,
        target: &CacheTarget,
        every_step: bool,
        format: &LayerFormat,
        report: &dyn Report,
        events: &dyn EventSink,
    ) -> Result<Vec<String>, CacheExportError> {
        let parcels = self.parcels(carried, every_step, format, report, events)?;
        match target {
            CacheTarget::Registry(reference) => {
                let put = Registry { client: &self.client, reference };
                self.send(carried, &parcels, &put, report)
            }
            CacheTarget::Directory { path, tag, reset } => {
                let put = Directory::open(path, tag, *reset, report)?;
                self.send(carried, &parcels, &put, report)
            }
        }
    }

    /// The layers that go, by the position of the tree that they are the topmost one of.
    fn parcels(
        &self,
        carried: &Carried,
        every_step: bool,
        format: &LayerFormat,
        report: &dyn Report,
        events: &dyn EventSink,
    ) -> Result<BTreeMap<usize, Parcel>, CacheExportError> {
        let wanted: BTreeSet<usize> = match every_step {
            true => (0..carried.nodes.len()).collect(),
            false => carried.chain().into_iter().map(|(_, layer)| layer).collect(),
        };
        let steps = wanted.into_iter();
        let steps: Vec<usize> =
            steps.filter(|at| matches!(carried.nodes[*at].kind, NodeKind::Step(_))).collect();
        let made: Vec<(usize, Option<Parcel>)> = steps
            .into_par_iter()
            .map(|at| {
                if report.cancelled() {
                    return Err(CacheExportError::Cancelled);
                }
                Ok((at, self.parcel(carried, at, format, events)?))
            })
            .collect::<Result<_, CacheExportError>>()?;
        report.done("preparing layers");
        Ok(made.into_iter().filter_map(|(at, parcel)| Some((at, parcel?))).collect())
    }

    /// The topmost layer of a tree; `None` if it is nowhere.
    fn parcel(
        &self,
        carried: &Carried,
        at: usize,
        format: &LayerFormat,
        events: &dyn EventSink,
    ) -> Result<Option<Parcel>, CacheExportError> {
        let mut tree = carried.nodes[at].tree.clone();
        if let Some(lazy) = tree.elsewhere().cloned() {
            let Some(Place::Blob(layer)) = lazy.layers.last().map(|it| it.place.clone()) else {
                return Ok(None);
            };
            if !format.force || compression_of(&layer.blob.media_type) == Some(format.compression) {
                let origin = lazy.origin().cloned();
                let (diff_id, blob) = (layer.diff_id, layer.blob);
                return Ok(Some(Parcel { diff_id, blob, origin, _held: None }));
            }
            let context =
                StepContext { id: events.next_id(), events, cancel: &self.cancel, slot: None };
            match self.bring(&lazy, &context) {
                Ok(brought) => tree = brought,
                Err(super::Absent::Lost) => return Ok(None),
                Err(super::Absent::Failed(error)) => return Err(error.into()),
            }
        }
        let Some(leaf) = &tree.snapshot else { return Ok(None) };
        let layer = self.snapshotter.layer_of(leaf).map_err(WorkerError::from)?;
        let making = Making { snapshot: layer.to_string(), rewrite: tree.rewrite, epoch: None };
        let diff_id = self.diff_id(&making, Some(format))?;
        let layer = AssembledLayer {
            diff_id,
            snapshot: Some(*leaf),
            making: Some(making),
            blob: None,
            origin: None,
        };
        let (blob, held) = self.layer_blob(&layer, &Origin::Store, format)?;
        Ok(Some(Parcel { diff_id, blob, origin: None, _held: Some(held) }))
    }

    fn send(
        &self,
        carried: &Carried,
        parcels: &BTreeMap<usize, Parcel>,
        put: &dyn Put,
        report: &dyn Report,
    ) -> Result<Vec<String>, CacheExportError> {
        let whole = pack(carried, parcels, &BTreeSet::new());
        let suspect = parcels.values().any(|it| carried.suspects.contains(&it.blob.digest));
        if !suspect && put.has(&whole.descriptor) {
            report.done(&format!("cache manifest {} is there", whole.descriptor.digest));
            return Ok(Vec::new());
        }
        let missing = self.send_blobs(parcels, &carried.suspects, put, report)?;
        let lost = missing.iter().map(|(digest, why)| {
            format!("layer {digest} is left out of the exported cache: {why}")
        });
        let lost: Vec<String> = lost.collect();
        let packed = match lost.is_empty() {
            true => whole,
            false => {
                pack(carried, parcels, &missing.into_iter().map(|(digest, _)| digest).collect())
            }
        };
        let config = || -> io::Result<Box<dyn Read + Send>> {
            Ok(Box::new(io::Cursor::new(packed.config.clone())))
        };
        put.blob(&packed.config_descriptor, false, None, &config, report)?;
        put.finish(&packed.descriptor, &packed.manifest)?;
        report.done(&format!("writing cache manifest {}", packed.descriptor.digest));
        Ok(lost)
    }

    /// Sends the layers, each once. Those that cannot be fetched from where they are, are the
    /// answer, with the reason.
    fn send_blobs(
        &self,
        parcels: &BTreeMap<usize, Parcel>,
        suspects: &BTreeSet<Digest>,
        put: &dyn Put,
        report: &dyn Report,
    ) -> Result<Vec<(Digest, String)>, CacheExportError> {
        let mut seen = BTreeSet::new();
        let each: Vec<&Parcel> =
            parcels.values().filter(|parcel| seen.insert(parcel.blob.digest)).collect();
        let queue = Mutex::new(each.into_iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let missing = Mutex::new(Vec::new());
        let work = || -> Result<(), CacheExportError> {
            while let Some(parcel) = next() {
                if report.cancelled() {
                    return Err(CacheExportError::Cancelled);
                }
                let suspect = suspects.contains(&parcel.blob.digest);
                if let Err(error) = self.send_blob(parcel, suspect, put, report) {
                    if parcel.origin.is_none() || report.cancelled() {
                        while next().is_some() {}
                        return Err(error);
                    }
                    let lost = (parcel.blob.digest, error.to_string());
                    missing.lock().unwrap_or_else(PoisonError::into_inner).push(lost);
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..PARALLEL).map(|_| scope.spawn(work)).collect();
            let ended: Vec<_> = workers
                .into_iter()
                .map(|it| it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect();
            ended.into_iter().collect::<Result<(), _>>()
        })?;
        let mut missing = missing.into_inner().unwrap_or_else(PoisonError::into_inner);
        missing.sort();
        Ok(missing)
    }

    fn send_blob(
        &self,
        parcel: &Parcel,
        suspect: bool,
        put: &dyn Put,
        report: &dyn Report,
    ) -> Result<(), CacheExportError> {
        let blob = &parcel.blob;
        let held = Mutex::new(None);
        let open = || -> io::Result<Box<dyn Read + Send>> {
            if let Some(origin) = &parcel.origin {
                let fetched = self.fetch_blob(blob, origin, None).map_err(io::Error::other)?;
                *held.lock().unwrap_or_else(PoisonError::into_inner) = Some(fetched);
            }
            let opened = self.state.blobs().open_verified(blob).map_err(io::Error::other)?;
            let file: VerifiedBlob =
                opened.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            Ok(Box::new(file))
        };
        let from = parcel.origin.as_ref().and_then(Origin::registry);
        put.blob(blob, suspect, from, &open, report)
    }

    /// The records of a build as they stand in the config of its image; none if the image is not
    /// what the build carries. `base` is the number of layers of its base image.
    pub fn inline_cache(
        &self,
        carried: &Carried,
        base: usize,
        diff_ids: &[Digest],
    ) -> Option<serde_json::Value> {
        let chain = carried.chain();
        if base + chain.len() != diff_ids.len() {
            return None;
        }
        let places = chain.iter().rev().enumerate();
        let layers: HashMap<usize, (usize, Digest)> =
            places.map(|(at, (_, layer))| (*layer, (base + at, diff_ids[base + at]))).collect();
        serde_json::to_value(document(carried, &layers)).ok()
    }
}

/// The documents of a cache without the layers `without`.
fn pack(
    carried: &Carried,
    parcels: &BTreeMap<usize, Parcel>,
    without: &BTreeSet<Digest>,
) -> Packed {
    let mut blobs: Vec<Descriptor> = Vec::new();
    let mut layers = HashMap::new();
    for (at, parcel) in parcels.iter().filter(|(_, it)| !without.contains(&it.blob.digest)) {
        let known = blobs.iter().position(|blob| blob.digest == parcel.blob.digest);
        let place = known.unwrap_or_else(|| {
            blobs.push(plain(&parcel.blob));
            blobs.len() - 1
        });
        layers.insert(*at, (place, parcel.diff_id));
    }
    let document: Document = document(carried, &layers);
    let config = document.to_json();
    let config_descriptor = Descriptor::of(CONFIG_TYPE, &config);
    let manifest = ImageManifest::new(config_descriptor.clone(), blobs).to_json();
    let descriptor = Descriptor::of(media_type::OCI_MANIFEST, &manifest);
    Packed { manifest, descriptor, config, config_descriptor }
}

/// A descriptor with nothing but what an OCI manifest needs.
fn plain(blob: &Descriptor) -> Descriptor {
    let kind = match blob.media_type.as_str() {
        media_type::DOCKER_LAYER_GZIP => media_type::OCI_LAYER_GZIP,
        media_type::DOCKER_LAYER => media_type::OCI_LAYER,
        other => other,
    };
    Descriptor::new(kind, blob.digest, blob.size)
}
