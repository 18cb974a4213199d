//! From the syntax tree to a graph and an image plan.
//!
//! The stages that the target needs are planned from the last to the first (a stage depends only
//! on earlier ones; the ONBUILD triggers of a base image may add to what it needs), and then
//! lowered from the first to the last.

mod add;
mod age;
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
mod outline;
mod plan;
mod request;
mod run;
mod stage;

use std::sync::Arc;

use graph::{Definition, SourceMap, Span, VertexIndex};
use oci::{Digest, ImageConfig, Platform};

pub use outline::outline;
pub use request::{
    Entitlement, ImageLocation, ImageRequest, ImageResolver, LowerOptions, NamedContext,
    ResolvedImage, StepAge,
};

use crate::call::{self, Target};
use crate::lint::{self, Setting};
use crate::{Diagnostic, Parsed, ast};
use age::Ages;
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
    /// The warnings that are switched on, by position: those of the syntax, too.
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
    /// The Dockerfile is wrong; all of these are errors, and in file 0.
    #[error("{}", first_error(.0))]
    Diagnostics(Vec<Diagnostic>),
    /// There are warnings, and a build argument makes them fail the build. (`# check=` itself is
    /// a place in the file: then it is a diagnostic.)
    #[error("{}", violation(.0))]
    Strict(Vec<&'static str>),
    /// The build argument with the settings of the checks makes no sense.
    #[error("failed to parse check options: {name}={value}: {reason}", name = lint::setting::VARIABLE)]
    Check {
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no stage of the target's name.
    #[error("target stage {name:?} could not be found{}", did_you_mean(.suggestion))]
    Target {
        /// What was asked for.
        name: String,
        /// A name that is close to it.
        suggestion: Option<String>,
    },
    /// `--ttl` names what is not there.
    #[error("no step is {step:?} of --ttl (a stage, STAGE:N, or a piece of an instruction); there is{}", some(.steps))]
    Step {
        /// What was asked for.
        step: String,
        /// The steps of the build.
        steps: Vec<String>,
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

fn violation(rules: &[&'static str]) -> String {
    format!("lint violation found for rules: {}", rules.join(", "))
}

fn some(steps: &[String]) -> String {
    if steps.is_empty() { " none".to_owned() } else { format!(": {}", age::listed(steps)) }
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
    lower_with_warnings(parsed, options, images, &mut Vec::new())
}

/// As [`lower()`]; `warnings` gets all that are switched on, by position, also where an error
/// follows.
///
/// # Errors
/// As [`lower()`].
pub fn lower_with_warnings(
    parsed: &Parsed,
    options: &LowerOptions,
    images: &dyn ImageResolver,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Lowered, LowerError> {
    let given = options.build_args.get(lint::setting::VARIABLE);
    let setting = Setting::new(&parsed.dockerfile, given).map_err(|reason| LowerError::Check {
        value: given.cloned().unwrap_or_default(),
        reason,
    })?;
    let mut found = parsed.remarks.clone();
    let result = lower_all(parsed, options, images, &mut found);
    found.retain(|warning| setting.tells(&parsed.dockerfile, warning));
    found.sort_by_key(|warning| warning.span.start);
    warnings.clone_from(&found);
    let lowered = result?;
    check_strict(parsed, &setting, given.is_some(), &found)?;
    Ok(Lowered { warnings: found, ..lowered })
}

fn lower_all(
    parsed: &Parsed,
    options: &LowerOptions,
    images: &dyn ImageResolver,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Lowered, LowerError> {
    let plan = plan(parsed, options, images, warnings)?;
    let Stages { definition, warnings: found, errors, done, ages } =
        lower_stages(parsed, options, &plan);
    warnings.extend(found);
    fail_on(errors)?;
    ages.check(&plan)?;
    Ok(finish(&plan, parsed, options, definition, done))
}

/// The plan of a file that has no errors of the language.
fn plan<'a>(
    parsed: &'a Parsed,
    options: &LowerOptions,
    images: &dyn ImageResolver,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Plan<'a>, LowerError> {
    check_language(parsed, options)?;
    Plan::make(parsed, options, images, warnings)
}

/// Fails on errors of the language, and on a file in another language.
fn check_language(parsed: &Parsed, options: &LowerOptions) -> Result<(), LowerError> {
    if let Some(error) = frontend::foreign(parsed, options) {
        return Err(LowerError::Diagnostics(vec![error]));
    }
    if parsed.has_errors() {
        return Err(LowerError::Diagnostics(all_errors(parsed, options)));
    }
    Ok(())
}

/// The stages of a Dockerfile.
///
/// # Errors
/// If the Dockerfile has errors of the language, or is written in another one.
pub fn targets(parsed: &Parsed, options: &LowerOptions) -> Result<Vec<Target>, LowerError> {
    check_language(parsed, options)?;
    Ok(call::targets(&parsed.dockerfile))
}

fn fail_on(mut errors: Vec<Diagnostic>) -> Result<(), LowerError> {
    if errors.is_empty() {
        return Ok(());
    }
    errors.sort_by_key(|error| error.span.start);
    Err(LowerError::Diagnostics(errors))
}

/// What comes of lowering the stages of a plan.
struct Stages {
    definition: Definition,
    warnings: Vec<Diagnostic>,
    errors: Vec<Diagnostic>,
    done: Vec<Option<StageState>>,
    ages: Ages,
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
        ignored: lint::ignored::Ignored::new(&options.ignore),
        proxy: environment::proxy(options),
        ages: Ages::new(plan, &options.step_ages),
    };
    for at in 0..plan.stages.len() {
        if plan.stages[at].needed {
            lowering.stage(at);
        }
    }
    let Lowering { definition, warnings, errors, done, ages, .. } = lowering;
    // A stage whose base is unknown lacks variables: what its steps miss means nothing.
    let warnings = if plan.errors.is_empty() { warnings } else { Vec::new() };
    Stages { definition, warnings, errors, done, ages }
}

/// The problems of a file that has errors of the language: those, and what else is wrong with it
/// as far as it can be told without its images.
fn all_errors(parsed: &Parsed, options: &LowerOptions) -> Vec<Diagnostic> {
    let errors = parsed.diagnostics.iter().filter(|d| d.is_error());
    let mut all: Vec<Diagnostic> = errors.cloned().collect();
    let invalid = |i: &ast::Instruction| matches!(i.kind, ast::Kind::Invalid);
    let from = |i: &ast::Instruction| i.keyword.value.eq_ignore_ascii_case("from");
    let broken = parsed.dockerfile.instructions.iter().any(|i| invalid(i) && from(i));
    // Without a FROM, instructions belong to nothing, or to the wrong stage.
    if broken || parsed.dockerfile.stages().is_empty() {
        return all;
    }
    if let Ok(plan) = Plan::make(parsed, options, &StandIns, &mut Vec::new()) {
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

/// Fails on warnings under `check=error=true`.
fn check_strict(
    parsed: &Parsed,
    setting: &Setting<'_>,
    given: bool,
    warnings: &[Diagnostic],
) -> Result<(), LowerError> {
    if !setting.strict() || warnings.is_empty() {
        return Ok(());
    }
    let mut rules: Vec<&'static str> = warnings.iter().filter_map(|w| w.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    match &parsed.dockerfile.directives.check {
        Some(check) if !given => {
            let error = Diagnostic::error(check.text.span, violation(&rules));
            let error = error.label("\"error=true\" makes warnings fail the build");
            Err(LowerError::Diagnostics(vec![error]))
        }
        _ => Err(LowerError::Strict(rules)),
    }
}

fn finish(
    plan: &Plan<'_>,
    parsed: &Parsed,
    options: &LowerOptions,
    definition: Definition,
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
        warnings: Vec::new(),
        unused_build_args: environment::unused(parsed, options, plan),
        source_date_epoch: environment::epoch(options, &plan.globals),
        stage_names,
        target_stage: plan.stages[plan.target].shown.clone(),
    }
}
