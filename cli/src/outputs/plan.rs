//! All outputs of a build together.

use oci::Reference;

use crate::args::{BuildArgs, OutputKind, OutputSpec};

/// What becomes of the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputPlan {
    /// Names under which it enters the local store; none keeps it out.
    pub store: Vec<Reference>,
    /// What is written, loaded and pushed. Each has the names that its image goes by.
    pub exports: Vec<OutputSpec>,
}

/// Why outputs do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A push without a name.
    #[error("a push needs a name: give -t NAME")]
    PushWithoutName,
    /// Two outputs want standard output.
    #[error("only one output can go to standard output")]
    TwoOnStdout,
    /// Two outputs want one file.
    #[error("two outputs write {0}")]
    SameDestination(String),
    /// There is no image whose id could be written.
    #[error("{0} needs an image: type=tar and type=local have no digest")]
    NoImage(&'static str),
}

impl OutputPlan {
    /// What `--tag`, `--output`, `--push` and `--load` ask for together.
    ///
    /// # Errors
    /// If they do not go together.
    pub fn new(args: &BuildArgs) -> Result<Self, PlanError> {
        let mut exports = args.outputs.clone();
        if args.push {
            let mut images = exports.iter_mut().filter(|o| o.kind == OutputKind::Image).peekable();
            if images.peek().is_none() {
                exports.push(OutputSpec::push());
            } else {
                images.for_each(|o| o.push = true);
            }
        }
        if args.load && !exports.iter().any(|o| o.kind == OutputKind::Load) {
            exports.push(OutputSpec::load());
        }
        let mut store = unique(args.tags.clone());
        for export in &mut exports {
            let named = !export.names.is_empty();
            if export.kind == OutputKind::Image {
                store.extend(export.names.iter().cloned());
            }
            if !named && export.is_image() {
                export.names = unique(args.tags.clone());
            }
        }
        let plan = Self { store: unique(store), exports };
        plan.check(args)?;
        Ok(plan)
    }

    /// Whether nothing was asked for: the build runs and caches.
    pub fn is_empty(&self) -> bool {
        self.store.is_empty() && self.exports.is_empty()
    }

    /// Whether the result has a digest.
    pub fn has_image(&self) -> bool {
        self.is_empty() || !self.store.is_empty() || self.exports.iter().any(OutputSpec::is_image)
    }

    /// All names of the image, each once.
    pub fn names(&self) -> Vec<Reference> {
        let exported = self.exports.iter().flat_map(|e| e.names.iter().cloned());
        unique(self.store.iter().cloned().chain(exported).collect())
    }

    fn check(&self, args: &BuildArgs) -> Result<(), PlanError> {
        if self.exports.iter().any(|o| o.push && o.names.is_empty()) {
            return Err(PlanError::PushWithoutName);
        }
        if self.exports.iter().filter(|o| o.to_stdout()).count() > 1 {
            return Err(PlanError::TwoOnStdout);
        }
        let files: Vec<_> = self.exports.iter().filter_map(file).collect();
        for (i, file) in files.iter().enumerate() {
            if files[..i].contains(file) {
                return Err(PlanError::SameDestination(file.display().to_string()));
            }
        }
        if !self.has_image() && args.iidfile.is_some() {
            return Err(PlanError::NoImage("--iidfile"));
        }
        Ok(())
    }
}

fn file(output: &OutputSpec) -> Option<&std::path::Path> {
    use crate::args::Stream;
    match &output.kind {
        OutputKind::Oci(Stream::File(p))
        | OutputKind::Docker(Stream::File(p))
        | OutputKind::Tar(Stream::File(p))
        | OutputKind::OciLayout(p) => Some(p),
        _ => None,
    }
}

fn unique(names: Vec<Reference>) -> Vec<Reference> {
    let mut kept: Vec<Reference> = Vec::with_capacity(names.len());
    for name in names {
        if !kept.contains(&name) {
            kept.push(name);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{self, Command};

    fn plan(line: &str) -> Result<OutputPlan, PlanError> {
        let line = format!("drydock build {line} .");
        match args::parse(line.split_whitespace().map(Into::into)).unwrap().command {
            Command::Build(args) => OutputPlan::new(&args),
            other => panic!("{other:?}"),
        }
    }

    fn familiar(names: &[Reference]) -> Vec<String> {
        names.iter().map(Reference::familiar).collect()
    }

    #[test]
    fn together() {
        assert!(plan("").unwrap().is_empty());
        let p = plan("-t a -t b:1 -t a:latest").unwrap();
        assert_eq!(familiar(&p.store), ["a:latest", "b:1"]);
        assert!(p.exports.is_empty() && !p.is_empty());
        let p = plan("-t a -o type=oci,dest=x --push").unwrap();
        assert_eq!(p.exports.len(), 2);
        assert!(p.exports[1].push);
        assert_eq!(familiar(&p.exports[0].names), ["a:latest"]);
        let p = plan("-t a -o type=image,name=b --push").unwrap();
        assert_eq!(familiar(&p.store), ["a:latest", "b:latest"]);
        assert_eq!(familiar(&p.exports[0].names), ["b:latest"]);
        assert!(p.exports[0].push);
        assert_eq!(plan("--load -o type=docker").unwrap().exports.len(), 1);
        assert_eq!(familiar(&p.names()), ["a:latest", "b:latest"]);
    }

    #[test]
    fn not_together() {
        assert_eq!(plan("--push"), Err(PlanError::PushWithoutName));
        assert_eq!(plan("-o type=registry"), Err(PlanError::PushWithoutName));
        assert_eq!(plan("-o - -o type=oci"), Err(PlanError::TwoOnStdout));
        assert!(matches!(
            plan("-o type=oci,dest=x -o type=tar,dest=x"),
            Err(PlanError::SameDestination(_))
        ));
        assert_eq!(plan("-o out --iidfile i"), Err(PlanError::NoImage("--iidfile")));
        assert!(plan("-o out -t a --iidfile i").is_ok() && plan("--iidfile i").is_ok());
    }
}
