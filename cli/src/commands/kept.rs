//! What of a build is kept to be read later, by which name, and where to read it.

use std::path::Path;

use crate::args::BuildArgs;
use crate::progress::KeptFailure;
use crate::request::BuildRequest;

/// What people know a build by: its first tag, its context and its target.
pub(super) fn title(args: &BuildArgs, request: &BuildRequest) -> String {
    let tag = args.tags.first().map(|tag| format!("{} from ", tag.familiar()));
    let target = args.target.as_ref().map(|target| format!(" (target {target})"));
    let parts = [tag, Some(request.context.to_string()), target];
    parts.into_iter().flatten().collect()
}

/// The command that shows all that a step told. `root` is `--root`, as it was given.
pub(super) fn where_to_read(
    KeptFailure { build, step }: &KeptFailure,
    root: Option<&Path>,
) -> String {
    let root = root.map(|root| format!(" --root {}", quoted(&root.display().to_string())));
    format!("the full log: drydock logs{} {build} {step}", root.unwrap_or_default())
}

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_works_as_it_is() {
        let failure = KeptFailure { build: "20260102-030405-abc".to_owned(), step: 7 };
        let told = |root: Option<&str>| where_to_read(&failure, root.map(Path::new));
        assert_eq!(told(None), "the full log: drydock logs 20260102-030405-abc 7");
        assert_eq!(
            told(Some("/a b's")),
            r"the full log: drydock logs --root '/a b'\''s' 20260102-030405-abc 7"
        );
    }
}
