//! From the syntax tree to a graph and an image plan.
//!
//! The stages that the target needs are planned from the last to the first (a stage depends only
//! on earlier ones; the ONBUILD triggers of a base image may add to what it needs), and then
//! lowered from the first to the last.

mod add;
mod base;
mod context;
mod copy;
mod environment;
mod frontend;
mod history;
mod metadata;
mod mount;
mod names;
mod origin;
mod plan;
mod request;
mod run;
mod stage;

use std::sync::Arc;

use graph::{Definition, SourceMap, Span, VertexIndex};
use oci::{Digest, ImageConfig, Platform};

pub use request::{
    Entitlement, ImageLocation, ImageRequest, ImageResolver, LowerOptions, NamedContext,
    ResolvedImage,
};

use crate::{Diagnostic, Parsed, ast};
use plan::Plan;
use stage::{Lowering, StageState};

/// The name of the main build context's source vertex.
pub const MAIN_CONTEXT: &str = "context";

/// What a history entry of [`Lowered::config`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistorySource {
    /// An entry of the base image's history, by position; its time is already in it.
    Base(usize),
    /// The layer of a vertex.
    Step(VertexIndex),
    /// An instruction that makes no layer.
    Metadata,
}

/// The image that the target rests on in the end.
#[derive(Clone, Debug)]
pub struct ResolvedBase {
    /// As it is shown, with its digest.
    pub name: String,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The platform that was asked for.
    pub platform: Platform,
    /// The vertex that brings it in; none if it has no layers.
    pub vertex: Option<VertexIndex>,
    /// Its config: `rootfs.diff_ids` are the layers below [`Lowered::layers`].
    pub config: Arc<ImageConfig>,
}

/// A graph and the plan of an image.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// What has to be done for the target.
    pub definition: Definition,
    /// The vertex whose result is the target's root file system; none for an empty one.
    pub result: Option<VertexIndex>,
    /// The target's config: the base's history and ours (ours without `created`), `diff_ids`
    /// empty.
    pub config: ImageConfig,
    /// What each entry of `config.history` stands for; of equal length.
    pub history: Vec<HistorySource>,
    /// The image that the target rests on; none if it starts from scratch.
    pub base: Option<ResolvedBase>,
    /// The vertices that make the layers above the base, lowest first: one per entry of `history`
    /// that is a [`HistorySource::Step`].
    pub layers: Vec<VertexIndex>,
    /// Warnings beyond those of [`Parsed::diagnostics`].
    pub warnings: Vec<Diagnostic>,
    /// Build arguments that no ARG names and that are not predefined.
    pub unused_build_args: Vec<String>,
    /// SOURCE_DATE_EPOCH as a build argument or an ARG before the first FROM gives it: seconds, or
    /// the name of a context whose time counts; empty for none.
    pub source_date_epoch: Option<String>,
    /// The stages of the file: their names, or `stage-N`.
    pub stage_names: Vec<String>,
    /// The name of the target among them.
    pub target_stage: String,
}

/// Why a Dockerfile cannot be lowered.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// The Dockerfile is wrong; at least one of these is an error. All of them are in file 0.
    #[error("{}", first_error(.0))]
    Diagnostics(Vec<Diagnostic>),
    /// There is no stage of the target's name.
    #[error("target stage {name:?} could not be found{}", did_you_mean(.suggestion))]
    Target {
        /// What was asked for.
        name: String,
        /// A name that is close to it.
        suggestion: Option<String>,
    },
    /// An image could not be resolved.
    #[error("{reference}: {source}")]
    Resolve {
        /// Where the image is named in the Dockerfile.
        span: Span,
        /// The image, as named there.
        reference: String,
        /// A stage or an image whose name is close to it.
        suggestion: Option<String>,
        /// The resolver's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn first_error(diagnostics: &[Diagnostic]) -> String {
    let first = diagnostics.iter().find(|d| d.is_error());
    first.map_or_else(String::new, |d| d.message.clone())
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map_or_else(String::new, |s| format!(" (did you mean {s:?}?)"))
}

/// Lowers what the target needs.
///
/// # Errors
/// If the Dockerfile has errors (all that can be found are reported), the target does not exist,
/// or an image cannot be resolved.
pub fn lower(
    parsed: &Parsed,
    options: &LowerOptions,
    images: &dyn ImageResolver,
) -> Result<Lowered, LowerError> {
    if let Some(error) = frontend::foreign(parsed, options) {
        return Err(LowerError::Diagnostics(vec![error]));
    }
    if parsed.has_errors() {
        return Err(LowerError::Diagnostics(all_errors(parsed, options)));
    }
    let plan = Plan::make(parsed, options, images)?;
    let Stages { definition, warnings, errors, done } = lower_stages(parsed, options, &plan);
    check_strict(parsed, &warnings, errors)?;
    Ok(finish(&plan, parsed, options, definition, warnings, done))
}

/// What comes of lowering the stages of a plan.
struct Stages {
    definition: Definition,
    warnings: Vec<Diagnostic>,
    errors: Vec<Diagnostic>,
    done: Vec<Option<StageState>>,
}

fn lower_stages(parsed: &Parsed, options: &LowerOptions, plan: &Plan<'_>) -> Stages {
    let source_map = SourceMap { files: vec![parsed.source.clone()] };
    let mut lowering = Lowering {
        parsed,
        options,
        plan,
        definition: Definition::new(source_map),
        warnings: Vec::new(),
        errors: plan.errors.clone(),
        done: (0..plan.stages.len()).map(|_| None).collect(),
        sources: Default::default(),
        proxy: environment::proxy(options),
    };
    for at in 0..plan.stages.len() {
        if plan.stages[at].needed {
            lowering.stage(at);
        }
    }
    let Lowering { definition, warnings, errors, done, .. } = lowering;
    // A stage whose base is unknown lacks variables: what its steps miss means nothing.
    let later = if plan.errors.is_empty() { warnings } else { Vec::new() };
    let mut warnings = plan.warnings.clone();
    warnings.extend(later);
    warnings.retain(|w| !crate::is_skipped(&parsed.dockerfile, w));
    Stages { definition, warnings, errors, done }
}

/// The problems of a file that has errors of the language: those, and what else is wrong with it
/// as far as it can be told without its images.
fn all_errors(parsed: &Parsed, options: &LowerOptions) -> Vec<Diagnostic> {
    let mut all = parsed.diagnostics.clone();
    let invalid = |i: &ast::Instruction| matches!(i.kind, ast::Kind::Invalid);
    let from = |i: &ast::Instruction| i.keyword.value.eq_ignore_ascii_case("from");
    let broken = parsed.dockerfile.instructions.iter().any(|i| invalid(i) && from(i));
    // Without a FROM, instructions belong to nothing, or to the wrong stage.
    if broken || parsed.dockerfile.stages().is_empty() {
        return all;
    }
    if let Ok(plan) = Plan::make(parsed, options, &StandIns) {
        all.extend(lower_stages(parsed, options, &plan).errors);
        all.sort_by_key(|d| d.span.start);
    }
    all
}

/// Takes every image for an empty one.
struct StandIns;

impl ImageResolver for StandIns {
    fn resolve(
        &self,
        request: &ImageRequest,
    ) -> Result<ResolvedImage, Box<dyn std::error::Error + Send + Sync>> {
        let config = ImageConfig::scratch(request.platform.clone());
        let name = request.reference.to_string();
        Ok(ResolvedImage { manifest: Digest::of(name.as_bytes()), name, config })
    }
}

/// Fails on errors, and on warnings under `# check=error=true`.
fn check_strict(
    parsed: &Parsed,
    warnings: &[Diagnostic],
    mut errors: Vec<Diagnostic>,
) -> Result<(), LowerError> {
    let strict = parsed.dockerfile.directives.check.as_ref().filter(|c| c.error);
    let warned = parsed.diagnostics.iter().chain(warnings);
    if let Some(check) = strict
        && errors.is_empty()
        && warned.clone().next().is_some()
    {
        let message = "there are warnings, and \"check=error=true\" makes them fail the build";
        errors.push(Diagnostic::error(check.text.span, message));
    }
    if errors.is_empty() {
        return Ok(());
    }
    let mut all: Vec<Diagnostic> = warned.cloned().collect();
    all.append(&mut errors);
    all.sort_by_key(|d| d.span.start);
    Err(LowerError::Diagnostics(all))
}

fn finish(
    plan: &Plan<'_>,
    parsed: &Parsed,
    options: &LowerOptions,
    definition: Definition,
    warnings: Vec<Diagnostic>,
    mut done: Vec<Option<StageState>>,
) -> Lowered {
    let (entries, history) = history::flatten(&done, plan.target);
    // The target is needed, so it was lowered.
    let state = done[plan.target].take().unwrap_or_else(|| StageState::empty(&options.platform));
    let base = state.base.as_deref().cloned();
    let layers = history.iter().filter_map(|h| match h {
        HistorySource::Step(vertex) => Some(*vertex),
        _ => None,
    });
    let layers = layers.collect();
    let result = state.root;
    let mut config = state.into_config();
    config.history = entries;
    config.config.labels.extend(options.labels.iter().cloned());
    let stage_names = plan.stages.iter().map(|s| s.shown.clone()).collect();
    Lowered {
        definition,
        result,
        config,
        history,
        base,
        layers,
        warnings,
        unused_build_args: environment::unused(parsed, options, plan),
        source_date_epoch: environment::epoch(options, &plan.globals),
        stage_names,
        target_stage: plan.stages[plan.target].shown.clone(),
    }
}
