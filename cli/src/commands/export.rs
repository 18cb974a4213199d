//! What becomes of a finished image.

use std::collections::BTreeMap;
use std::sync::Arc;

use exporter::{Bundle, ExportError, Image, LayerFormat, Report, bundle, bundle_to_push};
use oci::layer::Compression;
use oci::{Descriptor, Reference};
use solver::CancelToken;
use worker::Engine;
use worker::image::ImageLayers;

use super::failure::Failure;
use super::load_into::{ContainerEngine, LoadError};
use super::task::Task;
use crate::args::{LayerCompression, OutputKind, OutputSpec};
use crate::console::Terminals;
use crate::outputs::OutputPlan;
use crate::outputs::metadata::ImageResult;
use crate::outputs::open::{self, OpenOutput, OpenTarget, OutputStream};
use crate::progress::Progress;

/// The image as it is, and with file times rewritten, where each is wanted.
pub(crate) type Variants = BTreeMap<bool, (Image, Arc<ImageLayers>)>;

/// Which variants are wanted: with rewritten file times or without.
pub(crate) fn rewrites(plan: &OutputPlan) -> Vec<bool> {
    let mut wanted: Vec<bool> = plan.exports.iter().map(|o| o.rewrite_timestamp).collect();
    if !plan.store.is_empty() || wanted.is_empty() {
        wanted.push(store_rewrites(plan));
    }
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

/// The local store has what the image output says.
fn store_rewrites(plan: &OutputPlan) -> bool {
    plan.exports.iter().any(|o| o.kind == OutputKind::Image && o.rewrite_timestamp)
}

/// The layer format that each variant is written in first, so that diff id and blob come from
/// one pass.
pub(crate) fn formats(plan: &OutputPlan) -> BTreeMap<bool, LayerFormat> {
    let mut formats = BTreeMap::new();
    for output in plan.exports.iter().filter(|o| needs_blobs(o)) {
        formats.entry(output.rewrite_timestamp).or_insert_with(|| format_of(output));
    }
    formats
}

fn needs_blobs(output: &OutputSpec) -> bool {
    match output.kind {
        OutputKind::Oci(_)
        | OutputKind::OciLayout(_)
        | OutputKind::Docker(_)
        | OutputKind::Load => true,
        OutputKind::Image => output.push,
        OutputKind::Tar(_) | OutputKind::Local(_) | OutputKind::CacheOnly => false,
    }
}

fn format_of(output: &OutputSpec) -> LayerFormat {
    let compression = match output.layers.compression {
        None | Some(LayerCompression::Gzip) => Compression::Gzip,
        Some(LayerCompression::Zstd) => Compression::Zstd,
        Some(LayerCompression::Uncompressed) => Compression::None,
    };
    LayerFormat { compression, level: output.layers.level, force: output.layers.force }
}

/// Names the image in the local store, then exports every output in turn. Each output is complete
/// when its export ended: what comes after it may fail.
pub(crate) fn export(
    engine: &Arc<Engine>,
    plan: &OutputPlan,
    images: &Variants,
    targets: Targets,
    progress: &Progress,
    cancel: &CancelToken,
) -> Result<ImageResult, Failure> {
    let Targets { outputs, loader } = targets;
    let exporter = Exporter { engine, progress, cancel, loader };
    let stored = images.get(&store_rewrites(plan));
    // What was left elsewhere is complete where it is pushed to.
    let wanted = stored.filter(|_| !plan.store.is_empty());
    let to = pushed_to(plan).filter(|_| wanted.is_some_and(|(_, layers)| layers.is_elsewhere()));
    let (now, later) = if to.is_none() { (wanted, None) } else { (None, wanted.zip(to)) };
    if let Some((image, layers)) = now {
        exporter.store(image, layers, &plan.store, None)?;
    }
    let mut manifest = None;
    for output in outputs {
        let (image, _) = &images[&output.spec.rewrite_timestamp];
        if let Some(descriptor) = exporter.one(image, output)? {
            manifest = Some(descriptor);
        }
    }
    if let Some(((image, layers), to)) = later {
        exporter.store(image, layers, &plan.store, Some(to))?;
    }
    let shown = stored.or_else(|| images.values().next()).filter(|_| plan.has_image());
    let config = shown.map(|(image, _)| oci::Digest::of(&image.config.to_json()));
    Ok(ImageResult { config, manifest, names: plan.names() })
}

/// A name under which the image of the local store is pushed, too.
fn pushed_to(plan: &OutputPlan) -> Option<&Reference> {
    let mut pushed = plan.exports.iter().filter(|o| o.kind == OutputKind::Image && o.push);
    pushed.find_map(|output| output.names.first())
}

/// Everything that an image goes to, found ready before the build.
pub(crate) struct Targets {
    outputs: Vec<OpenOutput>,
    loader: Option<ContainerEngine>,
}

impl Targets {
    /// Opens the destinations of `plan`, and finds the engine for what is to be loaded.
    ///
    /// # Errors
    /// If one cannot be used.
    pub(crate) fn open(plan: &OutputPlan, terminals: Terminals) -> Result<Self, Failure> {
        let loads = plan.exports.iter().any(|o| o.kind == OutputKind::Load);
        let loader = if loads { Some(ContainerEngine::find()?) } else { None };
        Ok(Self { outputs: open::open(plan, terminals)?, loader })
    }
}

struct Exporter<'a> {
    engine: &'a Arc<Engine>,
    progress: &'a Progress,
    cancel: &'a CancelToken,
    loader: Option<ContainerEngine>,
}

impl Exporter<'_> {
    /// One output; the manifest's descriptor where one was made.
    fn one(&self, image: &Image, output: OpenOutput) -> Result<Option<Descriptor>, Failure> {
        let OpenOutput { spec, target } = output;
        let names = &spec.names;
        match (&spec.kind, target) {
            (OutputKind::Oci(_), OpenTarget::Stream(stream)) => {
                let title = "exporting to oci image format";
                self.archive(title, image, &spec, stream, exporter::oci_archive)
            }
            (OutputKind::Docker(_), OpenTarget::Stream(stream)) => {
                let title = "exporting to docker image format";
                self.archive(title, image, &spec, stream, exporter::docker_archive)
            }
            (OutputKind::Tar(_), OpenTarget::Stream(mut stream)) => {
                self.task("exporting to tar", |report| {
                    exporter::rootfs_tar(image, &mut stream, report)
                })?;
                stream.finish()?;
                Ok(None)
            }
            (OutputKind::Local(_), OpenTarget::Directory(path)) => {
                let left_out = self.task("exporting to client directory", |report| {
                    exporter::local(image, &path, report)
                })?;
                if !left_out.is_empty() {
                    let count = left_out.len();
                    let why = "only root can make them";
                    self.progress.note(&format!("{count} device nodes were left out: {why}"));
                }
                Ok(None)
            }
            (OutputKind::OciLayout(_), OpenTarget::Directory(path)) => {
                let made = self.task("exporting to oci image layout", |report| {
                    let made = bundle(image, &format_of(&spec), report)?;
                    let blobs = self.engine.state().blobs();
                    exporter::oci_layout(image, &made, names, blobs, &path, report)
                })?;
                Ok(Some(made))
            }
            (OutputKind::Load, _) => {
                let made = self.task("loading into the container engine", |report| {
                    let made = bundle(image, &format_of(&spec), report)?;
                    let blobs = self.engine.state().blobs();
                    let loader = self.loader.ok_or(LoadError::NoEngine)?;
                    loader.load(self.cancel, |out| {
                        exporter::docker_archive(image, &made, names, blobs, out, report)
                    })
                })?;
                Ok(Some(made))
            }
            (OutputKind::Image, _) if spec.push => {
                let made = self.task("pushing", |report| {
                    let made = bundle_to_push(image, &format_of(&spec), report)?;
                    self.push(image, &made, names, report)
                })?;
                Ok(Some(made))
            }
            _ => Ok(None),
        }
    }

    fn push(
        &self,
        image: &Image,
        made: &Bundle,
        names: &[Reference],
        report: &dyn Report,
    ) -> Result<Descriptor, ExportError> {
        let blobs = self.engine.state().blobs();
        exporter::push(image, made, names, blobs, self.engine.client(), report)
    }

    fn archive(
        &self,
        title: &str,
        image: &Image,
        spec: &OutputSpec,
        mut stream: OutputStream,
        write: ArchiveWriter,
    ) -> Result<Option<Descriptor>, Failure> {
        let made = self.task(title, |report| {
            let made = bundle(image, &format_of(spec), report)?;
            let blobs = self.engine.state().blobs();
            write(image, &made, &spec.names, blobs, &mut stream, report)
        })?;
        stream.finish()?;
        Ok(Some(made))
    }

    fn store(
        &self,
        image: &Image,
        layers: &ImageLayers,
        names: &[Reference],
        pushed: Option<&Reference>,
    ) -> Result<(), Failure> {
        let task = Task::start(self.progress, self.cancel, "exporting to image");
        let result = self.engine.store_image(image, layers, names, pushed);
        if let Ok(config) = &result {
            task.part(&format!("writing image {}", config.digest));
            for name in names {
                task.part(&format!("naming to {name}"));
            }
        }
        task.end(result)?;
        Ok(())
    }

    fn task<T, E: std::error::Error + Send + Sync + 'static>(
        &self,
        title: &str,
        work: impl FnOnce(&dyn Report) -> Result<T, E>,
    ) -> Result<T, Failure> {
        let task = Task::start(self.progress, self.cancel, title);
        let result = work(&task.report());
        task.end(result).map_err(Failure::error)
    }
}

/// Writes an archive.
type ArchiveWriter = fn(
    &Image,
    &Bundle,
    &[Reference],
    &cache::BlobStore,
    &mut dyn std::io::Write,
    &dyn Report,
) -> Result<Descriptor, ExportError>;
