//! Which frontend a Dockerfile asks for: any version of Docker's own is this one.

use graph::Span;

use super::LowerOptions;
use crate::{Diagnostic, Parsed};

/// The repositories whose language this is.
const FRONTENDS: [&str; 2] =
    ["docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream"];

/// BuildKit's word for the frontend that is built in.
const BUILT_IN: &str = "dockerfile.v0";

/// The build argument that counts more than `# syntax=`.
const BUILD_ARG: &str = "BUILDKIT_SYNTAX";

/// The error that another frontend is asked for.
pub(super) fn foreign(parsed: &Parsed, options: &LowerOptions) -> Option<Diagnostic> {
    let given = options.build_args.get(BUILD_ARG).map(String::as_str);
    let (name, error) =
        match (given.filter(|g| !g.is_empty()), &parsed.dockerfile.directives.syntax) {
            (Some(given), _) => {
                // As in `# syntax=`: options of a frontend may follow its image.
                let name = given.split(' ').next().unwrap_or_default();
                let error =
                    Diagnostic::error(Span::default(), message(&format!("{BUILD_ARG}={name}")));
                (name, error.help("leave the build argument out if the file is written in it"))
            }
            (None, Some(word)) => {
                let error = Diagnostic::error(word.span, message(&word.value));
                (word.value.as_str(), error.help("remove the line if the file is written in it"))
            }
            (None, None) => return None,
        };
    let known = name == BUILT_IN
        || name
            .parse::<oci::Reference>()
            .is_ok_and(|reference| FRONTENDS.contains(&reference.repository().as_str()));
    (!known).then_some(error)
}

fn message(name: &str) -> String {
    format!(
        "{name:?} is another frontend, which can not be run: only the language of \
         docker/dockerfile is built in"
    )
}
