//! The commands on the local store.

use std::io;
use std::sync::Arc;

use cache::StoredImage;
use exporter::{LayerFormat, bundle};
use oci::{Platform, Reference, Timestamp};
use solver::CancelToken;
use worker::{Engine, WorkerError};

use super::Context;
use super::failure::Failure;
use super::session::Store;
use super::task::Task;
use crate::args::{ImagesArgs, InspectArgs, LoadArgs, PullArgs, PushArgs, RmiArgs, TagArgs};
use crate::console::{self, Terminals};
use crate::errors::chain;
use crate::listing;
use crate::progress::{Progress, View};
use crate::signals;

/// `drydock images`.
pub(crate) fn images(args: &ImagesArgs, context: &Context) -> Result<(), Failure> {
    let engine = Store::open(context)?;
    let images = engine.state().images().list()?;
    let images = listing::select(images, args).map_err(Failure::error)?;
    print(&listing::images(&images, args, Timestamp::now()))
}

fn print(text: &str) -> Result<(), Failure> {
    console::out(text).map_err(Failure::output)
}

/// The image that a name or the beginning of an id stands for.
fn find(engine: &Engine, text: &str) -> Result<StoredImage, Failure> {
    let images = engine.state().images();
    if let Ok(reference) = text.parse::<Reference>()
        && let Some(image) = images.get(&reference.to_string())?
    {
        return Ok(image);
    }
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_hexdigit())
        && let Some(image) = images.find(digits)?
    {
        return Ok(image);
    }
    Err(Failure::error(format!("no such image: {text}")))
}

/// The names of an image.
fn names_of(engine: &Engine, image: &StoredImage) -> Result<Vec<String>, Failure> {
    let all = engine.state().images().list()?;
    Ok(all.into_iter().filter(|i| i.id() == image.id()).filter_map(|i| i.reference).collect())
}

/// `drydock inspect`.
pub(crate) fn inspect(args: &InspectArgs, context: &Context) -> Result<(), Failure> {
    let engine = Store::open(context)?;
    let mut all = Vec::new();
    for name in &args.images {
        let stored = find(&engine, name)?;
        let names = names_of(&engine, &stored)?;
        let config = engine.config_of(&stored)?;
        all.push(listing::inspect(&stored, &names, &config));
    }
    let text = serde_json::to_string_pretty(&all)?;
    print(&format!("{text}\n"))
}

/// `drydock tag`.
pub(crate) fn tag(args: &TagArgs, context: &Context) -> Result<(), Failure> {
    if args.target.digest().is_some() {
        return Err(Failure::error("an image cannot be given a name with a digest"));
    }
    let engine = Store::open(context)?;
    let image = find(&engine, &args.source)?;
    match engine.state().images().tag(&image, &args.target.to_string())? {
        true => Ok(()),
        false => Err(Failure::error(format!("no such image: {}", args.source))),
    }
}

/// `drydock rmi`.
pub(crate) fn rmi(args: &RmiArgs, context: &Context) -> Result<(), Failure> {
    let engine = Store::open(context)?;
    let mut failed = Vec::new();
    for name in &args.images {
        if let Err(reason) = remove(&engine, name, args.force)? {
            failed.push(reason);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::error(failed.join("; "))) }
}

/// Removes one name, or an image by its id; the inner error is why it stays.
fn remove(engine: &Engine, name: &str, force: bool) -> Result<Result<(), String>, Failure> {
    let images = engine.state().images();
    if let Ok(reference) = name.parse::<Reference>()
        && let Some(image) = images.untag(&reference.to_string())?
    {
        print(&format!("Untagged: {}\n", reference.familiar()))?;
        if names_of(engine, &image)?.is_empty() {
            images.remove(&image.id())?;
            print(&format!("Deleted: {}\n", image.id()))?;
        }
        return Ok(Ok(()));
    }
    let Ok(image) = find(engine, name) else {
        return Ok(if force { Ok(()) } else { Err(format!("no such image: {name}")) });
    };
    let count = names_of(engine, &image)?.len();
    if count > 1 && !force {
        return Ok(Err(format!("{name} has {count} names: remove them, or use --force")));
    }
    for removed in images.remove(&image.id())? {
        print(&format!("Untagged: {removed}\n"))?;
    }
    print(&format!("Deleted: {}\n", image.id()))?;
    Ok(Ok(()))
}

/// `drydock load`.
pub(crate) fn load(args: &LoadArgs, context: &Context) -> Result<(), Failure> {
    let engine = Store::open(context)?;
    let host = Platform::host();
    let loaded = match &args.input {
        Some(path) => engine.load(path, &host)?,
        None => {
            // An archive is read in several places: standard input must become a file first.
            let mut file = tempfile::NamedTempFile::new_in(engine.state().run_dir())?;
            io::copy(&mut io::stdin().lock(), &mut file)?;
            engine.load(file.path(), &host).map_err(|error| {
                let name = format!("{:?}", file.path());
                Failure::error(chain::message(&error).replace(&name, "standard input"))
            })?
        }
    };
    engine.state().finish()?;
    for image in loaded.iter().filter(|_| !args.quiet) {
        let names: Vec<String> = image.names.iter().map(Reference::familiar).collect();
        let what = if names.is_empty() { image.id.to_string() } else { names.join(", ") };
        print(&format!("Loaded image: {what}\n"))?;
    }
    Ok(())
}

/// Runs `work` with progress on standard error and signals that cancel it.
fn with_progress<T>(
    context: &Context,
    quiet: bool,
    engine: &Arc<Engine>,
    title: &str,
    work: impl FnOnce(&Task<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let (view, notes) = View::choose(None, quiet, &context.environment, Terminals::of_process());
    let progress = Progress::start(&view)?;
    notes.iter().for_each(|note| progress.note(note));
    let cancel = CancelToken::new();
    let _signals = signals::install(cancel.clone(), |_| {})?;
    let client = engine.clone();
    let _wake = cancel.on_cancel(move || client.client().shutdown());
    let task = Task::start(&progress, &cancel, title);
    let result = work(&task);
    match &result {
        Ok(_) => task.done(),
        Err(failure) => task.failed(failure.summary()),
    }
    let durable = engine.state().finish();
    progress.finish();
    let value = match result {
        Err(_) if cancel.is_cancelled() => {
            return Err(Failure::error(format!("{title} was cancelled")));
        }
        result => result?,
    };
    durable?;
    Ok(value)
}

/// `drydock push`.
pub(crate) fn push(args: &PushArgs, context: &Context) -> Result<(), Failure> {
    let engine = Store::open(context)?;
    let stored = engine
        .state()
        .images()
        .get(&args.name.to_string())?
        .ok_or_else(|| WorkerError::NoImage(args.name.clone()))?;
    let title = format!("pushing {}", args.name.familiar());
    let pushed = with_progress(context, args.quiet, &engine, &title, |task| {
        let report = task.report();
        let image = engine.stored_image(&stored, &args.name)?;
        let format = LayerFormat::default();
        // The manifest that an image came with keeps its digest.
        let made = match engine.original_bundle(&stored)? {
            Some(original) => {
                for index in 0..original.layers.len() {
                    image.layers.blob(index, &format).map_err(Failure::error)?;
                }
                original
            }
            None => bundle(&image, &format, &report)?,
        };
        let names = std::slice::from_ref(&args.name);
        let blobs = engine.state().blobs();
        Ok(exporter::push(&image, &made, names, blobs, engine.client(), &report)?)
    })?;
    print(&format!("{}@{}\n", args.name.repository(), pushed.digest))
}

/// `drydock pull`.
pub(crate) fn pull(args: &PullArgs, context: &Context) -> Result<(), Failure> {
    let engine = Store::open(context)?;
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let title = format!("pulling {}", args.name.familiar());
    let stored = with_progress(context, args.quiet, &engine, &title, |task| {
        Ok(engine.pull_image(&args.name, &platform, &task.context())?)
    })?;
    let digest = stored.manifest.as_ref().map_or_else(|| stored.id(), |m| m.digest);
    print(&format!("{}@{digest}\n", args.name.repository()))
}
