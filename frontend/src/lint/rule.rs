//! The table of the rules.

/// A rule: what it is called, and what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// As `# check=` and warnings call it.
    pub name: &'static str,
    /// What it is about, in one line.
    pub description: &'static str,
    /// The page that explains it; none where Docker's reference has none.
    pub url: Option<&'static str>,
    /// Whether it is silent unless `experimental=` names it.
    pub experimental: bool,
}

const fn stable(name: &'static str, url: &'static str, description: &'static str) -> Rule {
    Rule { name, description, url: Some(url), experimental: false }
}

/// The start of every page's address.
macro_rules! page {
    ($name:literal) => {
        concat!("https://docs.docker.com/go/dockerfile/rule/", $name, "/")
    };
}

/// All rules (BuildKit: `linter/ruleset.go`).
pub const RULES: [Rule; 22] = [
    stable(
        "StageNameCasing",
        page!("stage-name-casing"),
        "Names of stages are written in lower case",
    ),
    stable("FromAsCasing", page!("from-as-casing"), "AS is written in the letter case of FROM"),
    stable(
        "NoEmptyContinuation",
        page!("no-empty-continuation"),
        "Empty lines inside an instruction are deprecated",
    ),
    stable(
        "ConsistentInstructionCasing",
        page!("consistent-instruction-casing"),
        "All instructions are written in the same letter case",
    ),
    stable("DuplicateStageName", page!("duplicate-stage-name"), "Names of stages are unique"),
    stable(
        "ReservedStageName",
        page!("reserved-stage-name"),
        "Reserved words are no names of stages",
    ),
    stable(
        "JSONArgsRecommended",
        page!("json-args-recommended"),
        "ENTRYPOINT and CMD are written as JSON, so that signals of the operating system arrive",
    ),
    stable(
        "MaintainerDeprecated",
        page!("maintainer-deprecated"),
        "MAINTAINER is deprecated: a label names the author of an image",
    ),
    stable(
        "UndefinedArgInFrom",
        page!("undefined-arg-in-from"),
        "FROM uses only arguments that are declared before it",
    ),
    stable(
        "WorkdirRelativePath",
        page!("workdir-relative-path"),
        "The first WORKDIR is absolute, so that it does not depend on the base image",
    ),
    stable("UndefinedVar", page!("undefined-var"), "Variables are defined before they are used"),
    stable(
        "MultipleInstructionsDisallowed",
        page!("multiple-instructions-disallowed"),
        "A stage has one CMD, ENTRYPOINT and HEALTHCHECK at most: only the last one counts",
    ),
    stable(
        "LegacyKeyValueFormat",
        page!("legacy-key-value-format"),
        "Keys and values are written with \"=\" between them",
    ),
    Rule {
        name: "InvalidBaseImagePlatform",
        description: "The platform of a base image is the one that is built for",
        url: None,
        experimental: false,
    },
    stable(
        "RedundantTargetPlatform",
        page!("redundant-target-platform"),
        "FROM --platform=$TARGETPLATFORM is what FROM does anyway",
    ),
    stable(
        "SecretsUsedInArgOrEnv",
        page!("secrets-used-in-arg-or-env"),
        "Secrets are not handed over by ARG or ENV: both are kept in the image",
    ),
    stable(
        "InvalidDefaultArgInFrom",
        page!("invalid-default-arg-in-from"),
        "The defaults of the arguments in FROM give the name of an image",
    ),
    stable(
        "FromPlatformFlagConstDisallowed",
        page!("from-platform-flag-const-disallowed"),
        "FROM --platform is no constant",
    ),
    stable(
        "CopyIgnoredFile",
        page!("copy-ignored-file"),
        "COPY and ADD name no file that .dockerignore excludes",
    ),
    Rule {
        name: "InvalidDefinitionDescription",
        description: "A comment directly above a stage or an argument describes it, and begins \
            with its name; an empty line or an empty comment sets other comments apart",
        url: Some(page!("invalid-definition-description")),
        experimental: true,
    },
    stable(
        "ExposeProtoCasing",
        page!("expose-proto-casing"),
        "The protocol in EXPOSE is written in lower case",
    ),
    stable(
        "ExposeInvalidFormat",
        page!("expose-invalid-format"),
        "EXPOSE names ports of the container only, neither addresses nor ports of the host",
    ),
];

/// The rule of this name.
pub fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_named_after_their_rules() {
        for rule in &RULES {
            let Some(url) = rule.url else { continue };
            let page = url.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            assert_eq!(page.replace('-', ""), rule.name.to_lowercase());
        }
    }
}
