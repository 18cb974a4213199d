//! Flags of `docker buildx build` that do nothing here: some never will, some not yet.

use clap::Args;

/// Flags that are understood and refused, so that no build silently lacks what was asked for.
#[derive(Args, Clone, Debug, Default)]
pub struct LaterArgs {
    #[arg(long, hide = true)]
    annotation: Vec<String>,
    #[arg(long, hide = true)]
    attest: Vec<String>,
    #[arg(long, hide = true)]
    policy: Vec<String>,
    #[arg(long, hide = true)]
    provenance: Option<String>,
    #[arg(long, hide = true)]
    sbom: Option<String>,
}

impl LaterArgs {
    /// The first flag that is given and not supported yet.
    pub fn given(&self) -> Option<&'static str> {
        // Attestations that are switched off are what a build without them does anyway.
        let wanted = |o: &Option<String>| {
            o.as_deref().is_some_and(|v| super::switch::boolean(v) != Some(false))
        };
        let flags = [
            ("--annotation", !self.annotation.is_empty()),
            ("--attest", !self.attest.is_empty()),
            ("--policy", !self.policy.is_empty()),
            ("--provenance", wanted(&self.provenance)),
            ("--sbom", wanted(&self.sbom)),
        ];
        flags.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }
}

/// Flags of the classic builder that mean nothing to this one: a warning, and on it goes.
#[derive(Args, Clone, Debug, Default)]
pub struct IgnoredArgs {
    #[arg(long, hide = true)]
    builder: Option<String>,
    #[arg(long, hide = true)]
    compress: bool,
    #[arg(long, hide = true)]
    force_rm: bool,
    #[arg(long, hide = true)]
    isolation: Option<String>,
    #[arg(long, hide = true)]
    no_trunc: bool,
    #[arg(long, hide = true)]
    rm: bool,
    #[arg(long, hide = true)]
    security_opt: Vec<String>,
    #[arg(long, hide = true)]
    squash: bool,
}

impl IgnoredArgs {
    /// One warning for each flag that is given.
    pub fn warnings(&self) -> Vec<String> {
        let flags = [
            ("--builder", self.builder.is_some(), "there is one builder, and no daemon"),
            ("--compress", self.compress, "contexts are read in place, never sent"),
            ("--force-rm", self.force_rm, "steps leave no containers behind"),
            ("--isolation", self.isolation.is_some(), "every step runs in the same sandbox"),
            ("--no-trunc", self.no_trunc, "step names are never shortened in plain progress"),
            ("--rm", self.rm, "steps leave no containers behind"),
            ("--security-opt", !self.security_opt.is_empty(), "the sandbox is always on"),
            ("--squash", self.squash, "copy from a stage into an empty one instead"),
        ];
        flags
            .into_iter()
            .filter(|(_, given, _)| *given)
            .map(|(flag, _, why)| format!("{flag} has no effect: {why}"))
            .collect()
    }
}
