//! Putting an image together: a config and layers from the result of a build.

use std::sync::Arc;

use cache::StoredImage;
use exporter::{Image, LayerFormat, Layers};
use oci::{History, ImageConfig, Reference, Timestamp};
use rayon::prelude::*;
use snapshotter::SnapshotId;

use crate::engine::Engine;
use crate::error::WorkerError;
use crate::output::TreeOutput;
use crate::remote_cache::LazyTree;

use super::layers::{AssembledLayer, Making};
use super::{ImageHandle, ImageLayers, Origin};

/// The domain of facts that tell when an image without steps of its own was first made.
const STAMP_FACT: &str = "stamp";

/// Where an entry of an image's history comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistorySource {
    /// The base image: it stays as it is.
    Base,
    /// A step of this build that made a layer: the position among its layers.
    Step(usize),
    /// An instruction of this build that only changed the config.
    Metadata,
}

/// What an image is put together from.
pub struct Assembly<'a> {
    /// The config; its diff ids, `created` and the times of its own history are filled in.
    pub config: ImageConfig,
    /// For each entry of the config's history where it comes from.
    pub history: &'a [HistorySource],
    /// The image that the target rests on; none for an empty root file system.
    pub base: Option<&'a Arc<ImageHandle>>,
    /// The results that made the layers on top of the base, in order.
    pub steps: &'a [TreeOutput],
    /// The target's result; none for an empty root file system.
    pub result: Option<&'a TreeOutput>,
    /// SOURCE_DATE_EPOCH.
    pub epoch: Option<Timestamp>,
    /// Whether the times of files in new layers are rewritten too.
    pub rewrite: bool,
    /// Whether only the files are wanted: diff ids, which take reading and hashing every new layer,
    /// are left out of the config then.
    pub files_only: bool,
    /// The format of layer blobs, where they are needed at once.
    pub format: Option<LayerFormat>,
}

impl Engine {
    /// Puts an image together. Layers of the base are taken as they are; new ones get their diff
    /// ids.
    ///
    /// # Errors
    /// If a layer cannot be read, or layers and history disagree.
    pub fn assemble(
        self: &Arc<Self>,
        assembly: Assembly<'_>,
    ) -> Result<(Image, Arc<ImageLayers>), WorkerError> {
        let leaf = assembly.result.and_then(|r| r.snapshot);
        let elsewhere = assembly.result.and_then(TreeOutput::elsewhere);
        let layers = match (elsewhere, &leaf) {
            (Some(lazy), _) => lazy_layers(&assembly, lazy)?,
            (None, Some(leaf)) => self.layers_of(&assembly, &self.snapshotter.chain(leaf)?)?,
            (None, None) => self.layers_of(&assembly, &[])?,
        };
        let mut config = assembly.config;
        // The base's cache is no part of what is built on it.
        config.cache = None;
        let base = assembly.base.map_or(0, |b| b.layers.len());
        let sources = fit_history(&mut config.history, assembly.history, base);
        config.rootfs.diff_ids = layers.iter().map(|l| l.diff_id).collect();
        let files_only = assembly.files_only;
        let made = config.history.iter().filter(|h| !h.empty_layer).count();
        if made != layers.len() && !files_only {
            return Err(WorkerError::Internal(format!(
                "the image has {} layers and its history tells of {made}",
                layers.len()
            )));
        }
        let origin = assembly.base.map_or(Origin::Store, |b| b.origin.clone());
        let stamp = |config: &ImageConfig| self.stamp(config);
        set_times(&mut config, &sources, assembly.steps, assembly.epoch, &stamp)?;
        let layers = Arc::new(ImageLayers::new(self.clone(), layers, origin, leaf));
        let dynamic: Arc<dyn Layers> = layers.clone();
        Ok((Image { config, layers: dynamic, epoch: assembly.epoch }, layers))
    }

    /// The base's layers as it lists them, then the layers of this build.
    fn layers_of(
        &self,
        assembly: &Assembly<'_>,
        chain: &[SnapshotId],
    ) -> Result<Vec<AssembledLayer>, WorkerError> {
        let base = assembly.base.map_or(0, |b| b.layers.len());
        if chain.len() != base + assembly.steps.len() {
            return Err(WorkerError::Internal(format!(
                "a chain of {} snapshots for {base} layers of the base and {} steps",
                chain.len(),
                assembly.steps.len()
            )));
        }
        let mut layers = Vec::with_capacity(chain.len());
        if let Some(image) = assembly.base {
            let diff_ids = image.config.rootfs.diff_ids.iter();
            for ((layer, diff_id), id) in image.layers.iter().zip(diff_ids).zip(chain) {
                let blob = layer.blob().cloned();
                let (diff_id, snapshot) = (*diff_id, Some(*id));
                let (making, origin) = (None, None);
                layers.push(AssembledLayer { diff_id, snapshot, making, blob, origin });
            }
        }
        if assembly.files_only {
            return Ok(layers);
        }
        let own: Vec<AssembledLayer> = chain[base..]
            .par_iter()
            .zip(assembly.steps)
            .map(|(id, step)| {
                // The layer's own, so that it is made into a tar once for all bases it is on.
                let making = Making {
                    snapshot: self.snapshotter.layer_of(id)?.to_string(),
                    rewrite: step.rewrite,
                    epoch: assembly.epoch.filter(|_| assembly.rewrite),
                };
                let diff_id = self.diff_id(&making, assembly.format.as_ref())?;
                Ok(AssembledLayer {
                    diff_id,
                    snapshot: Some(*id),
                    making: Some(making),
                    blob: None,
                    origin: None,
                })
            })
            .collect::<Result<_, WorkerError>>()?;
        layers.extend(own);
        Ok(layers)
    }

    /// When an image without steps was first made here: the same config gives the same time.
    fn stamp(&self, config: &ImageConfig) -> Result<Timestamp, WorkerError> {
        let key = blake3::hash(&config.to_json());
        let known = self.state.get_fact(STAMP_FACT, key.as_bytes());
        let known = known.and_then(|b| String::from_utf8(b).ok()).and_then(|t| t.parse().ok());
        if let Some(known) = known {
            return Ok(known);
        }
        let now = Timestamp::now();
        self.state.put_fact(STAMP_FACT, key.as_bytes(), now.to_string().as_bytes())?;
        Ok(now)
    }

    /// Stores an image under each of `names`. Where it was just `pushed` to, all its layers are.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn store_image(
        &self,
        image: &Image,
        layers: &ImageLayers,
        names: &[Reference],
        pushed: Option<&Reference>,
    ) -> Result<oci::Descriptor, WorkerError> {
        let (config, _held) =
            self.put_blob(oci::media_type::OCI_CONFIG, &image.config.to_json())?;
        let mut size = 0;
        for layer in layers.stored() {
            size += match (layer.snapshot.and_then(|id| id.parse().ok()), layer.blob) {
                (Some(id), _) => self.snapshotter.get(&id)?.size,
                (None, blob) => blob.map_or(0, |blob| blob.size),
            };
        }
        for name in names {
            self.state.images().put(&StoredImage {
                reference: Some(name.to_string()),
                config: config.clone(),
                snapshot: layers.leaf().map(ToString::to_string),
                layers: layers.stored(),
                source: pushed.or(layers.source()).map(ToString::to_string),
                manifest: None,
                platform: image.config.platform.clone(),
                created: image.config.created,
                size,
                stored: Timestamp::now(),
            })?;
        }
        Ok(config)
    }
}

/// The base's layers as it lists them, then those of a cache: all are elsewhere.
fn lazy_layers(
    assembly: &Assembly<'_>,
    lazy: &LazyTree,
) -> Result<Vec<AssembledLayer>, WorkerError> {
    let mut layers = Vec::new();
    if let Some(image) = assembly.base {
        for (layer, diff_id) in image.layers.iter().zip(&image.config.rootfs.diff_ids) {
            let (blob, origin) = (layer.blob().cloned(), None);
            let (snapshot, making) = (None, None);
            layers.push(AssembledLayer { diff_id: *diff_id, snapshot, making, blob, origin });
        }
    }
    let gone = || WorkerError::Internal("a layer of the result is nowhere".to_owned());
    let blobs = lazy.blobs().ok_or_else(gone)?;
    if blobs.len() != assembly.steps.len() && !assembly.files_only {
        return Err(WorkerError::Internal(format!(
            "a result of {} layers for {} steps",
            blobs.len(),
            assembly.steps.len()
        )));
    }
    layers.extend(blobs.into_iter().map(|layer| AssembledLayer {
        diff_id: layer.diff_id,
        snapshot: None,
        making: None,
        blob: Some(layer.blob.clone()),
        origin: lazy.origin().cloned(),
    }));
    Ok(layers)
}

/// Makes a base's history tell of just as many layers as it has; what other tools write may not.
/// Entries too many are without a layer then, layers too many get an entry that says nothing.
/// Returns where each entry comes from.
fn fit_history(
    history: &mut Vec<History>,
    sources: &[HistorySource],
    layers: usize,
) -> Vec<HistorySource> {
    let mut sources = sources.to_vec();
    let base = sources.iter().take_while(|s| **s == HistorySource::Base).count();
    let base = base.min(history.len());
    let told = history[..base].iter().filter(|h| !h.empty_layer).count();
    for entry in history[..base].iter_mut().filter(|h| !h.empty_layer).skip(layers) {
        entry.empty_layer = true;
    }
    for _ in told..layers {
        history.insert(base, History::default());
        sources.insert(base, HistorySource::Base);
    }
    sources
}

/// Fills in `created` and the times of the history. A step has the time when it was made, also
/// when it comes from the cache; an instruction that made no layer has the time of what stands before it.
fn set_times(
    config: &mut ImageConfig,
    sources: &[HistorySource],
    steps: &[TreeOutput],
    epoch: Option<Timestamp>,
    stamp: &dyn Fn(&ImageConfig) -> Result<Timestamp, WorkerError>,
) -> Result<(), WorkerError> {
    if sources.len() != config.history.len() {
        return Err(WorkerError::Internal("history and its sources differ in length".to_owned()));
    }
    let own = |source: &HistorySource| *source != HistorySource::Base;
    let first = match epoch {
        Some(epoch) => epoch,
        None => match steps.first() {
            Some(step) => step.created,
            None if !sources.iter().any(own) => config.created.unwrap_or_default(),
            None => {
                config.created = None;
                stamp(config)?
            }
        },
    };
    let mut last = first;
    for (entry, source) in config.history.iter_mut().zip(sources) {
        let time = match source {
            HistorySource::Base => continue,
            HistorySource::Metadata => last,
            HistorySource::Step(at) => epoch
                .or_else(|| steps.get(*at).map(|s| s.created))
                .ok_or_else(|| WorkerError::Internal(format!("history names step {at}")))?,
        };
        last = time;
        entry.created = Some(time);
    }
    if sources.iter().any(own) || epoch.is_some() || config.created.is_none() {
        config.created = Some(last);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use HistorySource::{Base, Metadata, Step};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn step(seconds: i64) -> TreeOutput {
        TreeOutput {
            snapshot: None,
            content: crate::key::empty_content(),
            created: at(seconds),
            rewrite: crate::Rewrite::Clamp,
            lease: None,
            lazy: None,
        }
    }

    /// A config with a base's first entry from second 5.
    fn config(sources: &[HistorySource]) -> ImageConfig {
        let mut config = ImageConfig::scratch(oci::Platform::host());
        config.created = Some(at(5));
        let entry = |source: &HistorySource| History {
            created: (*source == Base).then(|| at(5)),
            empty_layer: *source == Metadata,
            ..History::default()
        };
        config.history = sources.iter().map(entry).collect();
        config
    }

    /// `created`, and the times of the history, in seconds.
    fn times(
        sources: &[HistorySource],
        steps: &[TreeOutput],
        epoch: Option<Timestamp>,
    ) -> (i64, Vec<i64>) {
        let mut config = config(sources);
        let stamp = |config: &ImageConfig| {
            assert_eq!(config.created, None, "the key of a stamp has no time");
            Ok(at(77))
        };
        set_times(&mut config, sources, steps, epoch, &stamp).unwrap();
        let seconds = |time: Option<Timestamp>| time.unwrap().seconds;
        (seconds(config.created), config.history.iter().map(|h| seconds(h.created)).collect())
    }

    #[test]
    fn steps_bring_their_times() {
        let steps = [step(10), step(20)];
        let sources = [Base, Metadata, Step(0), Metadata, Step(1), Metadata];
        assert_eq!(times(&sources, &steps, None), (20, vec![5, 10, 10, 10, 20, 20]));
        let epoch = Some(at(3));
        assert_eq!(times(&sources, &steps, epoch), (3, vec![5, 3, 3, 3, 3, 3]));
    }

    #[test]
    fn without_steps() {
        assert_eq!(times(&[Base, Metadata], &[], None), (77, vec![5, 77]));
        assert_eq!(times(&[Base], &[], None), (5, vec![5]));
        assert_eq!(times(&[Base], &[], Some(at(3))), (3, vec![5]));
        assert_eq!(times(&[Metadata], &[], Some(at(3))), (3, vec![3]));
        let mut config = config(&[Base]);
        assert!(set_times(&mut config, &[], &[], None, &|_| Ok(at(0))).is_err());
    }

    #[test]
    fn histories_fit_their_layers() {
        let fitted = |base: &[bool], layers: usize| {
            let entry = |empty: &bool| History { empty_layer: *empty, ..History::default() };
            let mut history: Vec<History> = base.iter().map(entry).collect();
            history.push(History { created_by: "RUN".into(), ..History::default() });
            let mut sources = vec![Base; base.len()];
            sources.push(Step(0));
            let sources = fit_history(&mut history, &sources, layers);
            assert_eq!(sources.len(), history.len());
            assert_eq!(sources.last(), Some(&Step(0)));
            assert_eq!(history.last().unwrap().created_by, "RUN");
            history.iter().map(|h| h.empty_layer).collect::<Vec<_>>()
        };
        assert_eq!(fitted(&[false, true, false], 2), [false, true, false, false]);
        assert_eq!(fitted(&[false, true, false], 1), [false, true, true, false]);
        assert_eq!(fitted(&[false, true], 3), [false, true, false, false, false]);
        assert_eq!(fitted(&[], 0), [false]);
    }
}
