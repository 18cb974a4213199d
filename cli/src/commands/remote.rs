//! Caches of other machines: what a build uses of them, and what it gives them.

use std::sync::Arc;

use exporter::LayerFormat;
use oci::layer::Compression;
use solver::{CancelToken, Event, EventSink, Warning};
use worker::image::Wanted;
use worker::remote_cache::{CacheSource, CacheTarget, Carried, Carry, RemoteCaches};
use worker::{Engine, Wants};

use super::export::Variants;
use super::failure::Failure;
use super::task::Task;
use crate::args::cache_from::{CacheFrom, WantedCache};
use crate::args::cache_to::{CachePlace, CacheTo};
use crate::args::{LayerCompression, LayerOptions, OutputKind};
use crate::outputs::OutputPlan;
use crate::progress::Progress;
use crate::request::BuildRequest;

/// The caches of one build.
#[derive(Default)]
pub(super) struct Caches {
    /// Those that it may use.
    pub(super) remote: Option<RemoteCaches>,
    /// Takes what goes elsewhere.
    pub(super) carry: Option<Carry>,
    /// What its result is wanted for.
    pub(super) wants: Wants,
}

impl Caches {
    /// Begins to read the caches that `request` names.
    pub(super) fn start(request: &BuildRequest, engine: &Engine) -> Self {
        allow_insecure(request, engine);
        let from = &request.caches.from;
        let platform = &request.lower.platform;
        let sources = || from.iter().map(source).collect();
        Self {
            remote: (!from.is_empty()).then(|| engine.import_caches(sources(), platform)),
            carry: (!request.caches.to.is_empty()).then(Carry::default),
            wants: wants(&request.outputs, from),
        }
    }
}

/// Tells the client which registries need no trusted connection, before any of them is asked.
fn allow_insecure(request: &BuildRequest, engine: &Engine) {
    let allow = |reference| engine.client().allow_insecure(reference);
    for from in &request.caches.from {
        if let CacheFrom::Registry { reference, insecure: true } = from {
            allow(reference);
        }
    }
    for to in &request.caches.to {
        if let CachePlace::Registry { reference, insecure: true } = &to.place {
            allow(reference);
        }
    }
    for output in request.outputs.exports.iter().filter(|output| output.insecure) {
        output.names.iter().for_each(allow);
    }
}

fn source(from: &CacheFrom) -> CacheSource {
    match from {
        CacheFrom::Registry { reference, .. } => CacheSource::Registry(reference.clone()),
        CacheFrom::Local { src, wanted } => CacheSource::Directory {
            path: src.clone(),
            wanted: match wanted {
                WantedCache::Tag(tag) => Wanted::Tag(tag.clone()),
                WantedCache::Digest(digest) => Wanted::Digest(*digest),
            },
        },
    }
}

/// What the outputs need of the result: layers that only go to a registry may stay in one.
fn wants(plan: &OutputPlan, from: &[CacheFrom]) -> Wants {
    let files = plan.exports.iter().any(|output| {
        output.rewrite_timestamp || matches!(output.kind, OutputKind::Tar(_) | OutputKind::Local(_))
    });
    let pushed = |output: &crate::args::OutputSpec| output.kind == OutputKind::Image && output.push;
    let gone = |output| output == &OutputKind::CacheOnly;
    // A registry can take them from itself: nothing of them comes by here, where it would have to
    // be checked.
    let there = |output: &crate::args::OutputSpec| {
        output.names.iter().all(|name| {
            from.iter().all(|from| {
                matches!(from, CacheFrom::Registry { reference, .. }
                    if reference.domain() == name.domain())
            })
        })
    };
    let stays = plan.store.iter().all(|name| {
        plan.exports.iter().any(|output| pushed(output) && output.names.contains(name))
    });
    if files {
        Wants::Files
    } else if stays
        && plan.exports.iter().all(|output| gone(&output.kind) || (pushed(output) && there(output)))
    {
        Wants::Push
    } else {
        Wants::Blobs
    }
}

/// Puts the cache into the images, where that is wanted.
pub(super) fn put_inline(
    engine: &Engine,
    to: &[CacheTo],
    carried: Option<&Carried>,
    base: usize,
    (images, plan): (&mut Variants, &OutputPlan),
    progress: &Progress,
) {
    if !to.iter().any(|to| to.place == CachePlace::Inline) {
        return;
    }
    if plan.is_empty() || !plan.has_image() {
        warn(
            progress,
            "--cache-to type=inline: the cache is nowhere, since no image is written (-t NAME, \
             --push, -o type=oci, docker, image or registry write one)",
        );
        return;
    }
    for (image, _) in images.values_mut() {
        let diff_ids = &image.config.rootfs.diff_ids;
        image.config.cache = carried.and_then(|it| engine.inline_cache(it, base, diff_ids));
        if image.config.cache.is_none() {
            warn(progress, "--cache-to type=inline: there is no image to put the cache into");
        }
    }
}

/// Sends the cache of a build everywhere where it is wanted.
///
/// # Errors
/// Where it cannot be written and was to (`ignore-error=false`), after all others were.
pub(super) fn export(
    engine: &Arc<Engine>,
    to: &[CacheTo],
    carried: Option<&Carried>,
    progress: &Progress,
    cancel: &CancelToken,
) -> Result<(), Failure> {
    let mut failed = None;
    let Some(carried) = carried else { return Ok(()) };
    for to in to {
        let (target, title) = match &to.place {
            CachePlace::Registry { reference, .. } => {
                (CacheTarget::Registry(reference.clone()), "exporting cache to registry")
            }
            CachePlace::Local { dest, tag, reset } => {
                let (path, tag) = (dest.clone(), tag.clone());
                let reset = *reset;
                let target = CacheTarget::Directory { path, tag, reset };
                (target, "exporting cache to client directory")
            }
            CachePlace::Inline => continue,
        };
        let task = Task::start(progress, cancel, title);
        let (every, format) = (to.every_step, format_of(&to.layers));
        let report = task.report();
        let sent = engine.export_cache(carried, &target, every, &format, &report, progress);
        drop(report);
        match task.end(sent) {
            Ok(lost) => lost.iter().for_each(|text| warn(progress, text)),
            Err(_) if cancel.is_cancelled() => return Err(Failure::error("cancelled")),
            Err(error) if to.must => {
                failed.get_or_insert(error);
            }
            Err(error) => warn(progress, &format!("the cache was not exported: {error}")),
        }
    }
    match failed {
        None => Ok(()),
        Some(error) => {
            Err(Failure::from(error).after("the image is complete, but its cache was not exported"))
        }
    }
}

fn warn(progress: &Progress, message: &str) {
    let message = message.to_owned();
    progress.event(Event::Warning(Warning { id: None, message }));
}

fn format_of(layers: &LayerOptions) -> LayerFormat {
    let compression = match layers.compression {
        None | Some(LayerCompression::Gzip) => Compression::Gzip,
        Some(LayerCompression::Zstd) => Compression::Zstd,
        Some(LayerCompression::Uncompressed) => Compression::None,
    };
    LayerFormat { compression, level: layers.level, force: layers.force }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{self, Command};

    #[test]
    fn layers_stay_elsewhere_where_only_registries_want_them() {
        for (line, expected) in [
            ("", Wants::Push),
            ("-t a", Wants::Blobs),
            ("-t a --push", Wants::Push),
            ("-t a --push --cache-from b", Wants::Push),
            ("-t a --push --cache-from b --cache-from h:5/c", Wants::Blobs),
            ("-t a --push --cache-from type=local,src=d", Wants::Blobs),
            ("--cache-from type=local,src=d", Wants::Push),
            ("-t a -t b -o type=registry,name=a", Wants::Blobs),
            ("-o type=oci,dest=x", Wants::Blobs),
            ("-t a --push -o type=oci,dest=x", Wants::Blobs),
            ("-o type=cacheonly", Wants::Push),
            ("-o out", Wants::Files),
            ("-t a -o type=registry,rewrite-timestamp=true", Wants::Files),
        ] {
            let line = format!("drydock build . {line}");
            let cli = args::parse(line.split_whitespace().map(Into::into)).unwrap();
            let Command::Build(build) = cli.command else { panic!() };
            let plan = OutputPlan::new(&build).unwrap();
            assert_eq!(wants(&plan, &build.caches.from), expected, "{line}");
        }
    }
}
