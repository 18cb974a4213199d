//! SOURCE_DATE_EPOCH where it is no number: the time of a context, or of what a stage adds
//! (BuildKit: `dockerfile2llb/epoch.go`).

use frontend::ast::Kind;
use frontend::{ImageResolver, LowerOptions, Lowered, NamedContext, Parsed};
use graph::{Op, SourceOp};
use oci::Timestamp;
use worker::ContextInput;

use super::failure::Failure;
use super::load_context::Loader;
use crate::contexts::ContextSource;
use crate::environment;

/// The build argument.
pub(crate) const EPOCH: &str = "SOURCE_DATE_EPOCH";
/// Its value for the time of the main context.
const MAIN: &str = "context";

/// The name that SOURCE_DATE_EPOCH has in place of a number.
pub(crate) fn name_in(lowered: &Lowered) -> Option<String> {
    let text = lowered.source_date_epoch.as_deref()?;
    (!text.is_empty() && text.parse::<i64>().is_err()).then(|| text.to_owned())
}

/// The number that SOURCE_DATE_EPOCH has; none if it is empty or not given.
///
/// # Errors
/// If it is no time.
pub(crate) fn number_in(lowered: &Lowered) -> Result<Option<Timestamp>, Failure> {
    match lowered.source_date_epoch.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => environment::epoch(text)
            .map(Some)
            .map_err(|reason| Failure::error(format!("{EPOCH}={text} {reason}"))),
    }
}

/// What a time is asked of.
pub(crate) struct Question<'a> {
    pub(crate) loader: &'a Loader<'a>,
    pub(crate) parsed: &'a Parsed,
    pub(crate) images: &'a dyn ImageResolver,
    /// The main context.
    pub(crate) main: &'a ContextInput,
}

impl Question<'_> {
    /// The time of what `name` means, in seconds; none where that has no time.
    ///
    /// # Errors
    /// If it means nothing, or cannot be had.
    pub(crate) fn time_of(&self, name: &str) -> Result<Option<i64>, Failure> {
        let request = self.loader.request;
        let time = if name == MAIN {
            match &request.context {
                ContextSource::Directory(_) => None,
                ContextSource::Git(git) => self.time(&SourceOp::Git(git.clone()))?,
                ContextSource::Http(http) => self.time(&SourceOp::Http(http.clone()))?,
                ContextSource::Stdin => match self.main {
                    ContextInput::Tree(tree) => self.loader.engine.newest_file(tree)?,
                    _ => None,
                },
            }
        } else {
            match request.named.kinds.get(&name.to_lowercase()) {
                None => self.time(&self.stage(name)?)?,
                Some(NamedContext::Stage(stage)) => self.time(&self.stage(stage)?)?,
                Some(NamedContext::Git(git)) => self.time(&SourceOp::Git(git.clone()))?,
                Some(NamedContext::Http(http)) => self.time(&SourceOp::Http(http.clone()))?,
                Some(NamedContext::Local | NamedContext::Image(_) | NamedContext::Layout) => None,
            }
        };
        Ok(time.map(|t| t.seconds))
    }

    /// When a commit was made, or when a file was last changed: else the newest file in it.
    fn time(&self, source: &SourceOp) -> Result<Option<Timestamp>, Failure> {
        match source {
            SourceOp::Git(git) => self.loader.commit_time(git).map(Some),
            SourceOp::Http(http) => {
                let file = self.loader.file(http, &format!("[internal] load time for {EPOCH}"))?;
                match file.modified()? {
                    None if file.is_archive()? => {
                        Ok(self.loader.engine.newest_file(&self.loader.unpack(&file)?)?)
                    }
                    modified => Ok(modified),
                }
            }
            SourceOp::Image(_) | SourceOp::Local(_) => Ok(None),
        }
    }

    /// The only thing that a stage adds to nothing.
    fn stage(&self, name: &str) -> Result<SourceOp, Failure> {
        let wrong = |what: &str| Failure::error(format!("{EPOCH}={name}: {what}"));
        let stages = self.parsed.dockerfile.stages();
        let called = |stage: &&frontend::ast::Stage<'_>| {
            stage.from.name.as_ref().is_some_and(|n| n.value.eq_ignore_ascii_case(name))
        };
        let Some(stage) = stages.iter().find(called) else {
            return Err(wrong(
                "expected a number of seconds, \"context\", or the name of a context or a stage",
            ));
        };
        let plain = |kind: &Kind| matches!(kind, Kind::Arg(_) | Kind::Add(_));
        if !stage.body.iter().all(|i| plain(&i.kind)) {
            return Err(wrong("a stage that gives a time has nothing but ARG and one ADD"));
        }
        let target = Some(name.to_owned());
        let mut options = LowerOptions { target, ..self.loader.request.lower.clone() };
        options.build_args.remove(EPOCH);
        let lowered = frontend::lower(self.parsed, &options, self.images)?;
        let targets: Vec<_> = lowered.result.into_iter().collect();
        let sources: Vec<&SourceOp> = lowered
            .definition
            .reachable(&targets)
            .into_iter()
            .filter_map(|at| match &lowered.definition.vertex(at).op {
                Op::Source(source) => Some(source),
                _ => None,
            })
            .collect();
        match (sources.as_slice(), lowered.layers.len()) {
            ([source @ (SourceOp::Http(_) | SourceOp::Git(_))], 1) => Ok((*source).clone()),
            _ => Err(wrong("a stage that gives a time is FROM scratch with one ADD of one URL")),
        }
    }
}
