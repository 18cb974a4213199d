//! The stages of a Dockerfile.

use graph::Span;

use crate::ast::Dockerfile;
use crate::lint::note;

/// A stage that can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name in lower case; empty if it has none.
    pub name: String,
    /// Whether it is built where no target is named.
    pub default: bool,
    /// What its comment says; empty if there is none.
    pub description: String,
    /// What stands after FROM, as written.
    pub base: String,
    /// `--platform`, as written; empty if there is none.
    pub platform: String,
    /// The FROM.
    pub span: Span,
}

/// The stages, in order (BuildKit: `dockerfile2llb.ListTargets`).
pub(crate) fn targets(file: &Dockerfile) -> Vec<Target> {
    let stages = file.stages();
    let last = stages.len().saturating_sub(1);
    let target = |(at, stage): (usize, &crate::ast::Stage<'_>)| {
        let name = stage.from.name.as_ref().map(|n| n.value.to_lowercase()).unwrap_or_default();
        let platform = stage.from.platform.as_ref();
        Target {
            default: at == last,
            description: note::description(stage.head, &name).unwrap_or_default().to_owned(),
            base: stage.from.base.value.clone(),
            platform: platform.map(|p| p.value.clone()).unwrap_or_default(),
            span: stage.head.line_span,
            name,
        }
    };
    stages.iter().enumerate().map(target).collect()
}
