//! What each rule says. The beginnings are the words that people search for.

use graph::Span;
use oci::Platform;

use crate::Diagnostic;

/// `text`, and what was probably meant, in the words of BuildKit.
fn meant(text: String, suggestion: Option<&str>) -> String {
    match suggestion {
        Some(near) => format!("{text} (did you mean {near}?)"),
        None => text,
    }
}

pub(crate) fn stage_name_casing(span: Span, name: &str) -> Diagnostic {
    let message = format!("Stage name '{name}' should be lowercase");
    Diagnostic::warning("StageNameCasing", span, message)
}

pub(crate) fn from_as_casing(span: Span, from: &str, between: &str) -> Diagnostic {
    let message = format!("'{between}' and '{from}' keywords' casing do not match");
    Diagnostic::warning("FromAsCasing", span, message)
}

pub(crate) fn empty_continuation(span: Span) -> Diagnostic {
    Diagnostic::warning("NoEmptyContinuation", span, "Empty continuation line")
        .help("remove it, or start it with \"#\"")
}

pub(crate) fn instruction_casing(span: Span, keyword: &str, wanted: &str) -> Diagnostic {
    let message =
        format!("Command '{keyword}' should match the case of the command majority ({wanted})");
    Diagnostic::warning("ConsistentInstructionCasing", span, message)
}

pub(crate) fn duplicate_stage_name(span: Span, name: &str) -> Diagnostic {
    let message = format!("Duplicate stage name {name:?}, stage names should be unique");
    Diagnostic::warning("DuplicateStageName", span, message)
}

pub(crate) fn reserved_stage_name(span: Span, name: &str) -> Diagnostic {
    let message = format!("Stage name should not use the same name as reserved stage {name:?}");
    Diagnostic::warning("ReservedStageName", span, message)
}

pub(crate) fn json_args(span: Span, keyword: &str) -> Diagnostic {
    let message = format!(
        "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
    );
    Diagnostic::warning("JSONArgsRecommended", span, message)
}

pub(crate) fn maintainer(span: Span) -> Diagnostic {
    let message = "Maintainer instruction is deprecated in favor of using label";
    Diagnostic::warning("MaintainerDeprecated", span, message)
        .help("write LABEL org.opencontainers.image.authors=\"…\"")
}

pub(crate) fn undefined_arg(span: Span, name: &str, near: Option<&str>) -> Diagnostic {
    let message = meant(format!("FROM argument '{name}' is not declared"), near);
    Diagnostic::warning("UndefinedArgInFrom", span, message)
}

pub(crate) fn undefined_var(span: Span, name: &str, near: Option<&str>) -> Diagnostic {
    let near = near.map(|near| format!("${near}"));
    let message = meant(format!("Usage of undefined variable '${name}'"), near.as_deref());
    Diagnostic::warning("UndefinedVar", span, message)
}

pub(crate) fn relative_workdir(span: Span, path: &str) -> Diagnostic {
    let message =
        format!("Relative workdir {path:?} can have unexpected results if the base image changes");
    Diagnostic::warning("WorkdirRelativePath", span, message)
}

pub(crate) fn repeated(span: Span, keyword: &str) -> Diagnostic {
    let message = format!(
        "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
    );
    Diagnostic::warning("MultipleInstructionsDisallowed", span, message)
}

pub(crate) fn legacy_pair(span: Span, keyword: &str) -> Diagnostic {
    let message = format!(
        "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
    );
    Diagnostic::warning("LegacyKeyValueFormat", span, message)
}

pub(crate) fn base_platform(
    span: Span,
    image: &str,
    wanted: &Platform,
    found: &Platform,
) -> Diagnostic {
    let message = format!(
        "Base image {image} was pulled with platform \"{found}\", expected \"{wanted}\" for current build"
    );
    Diagnostic::warning("InvalidBaseImagePlatform", span, message)
}

pub(crate) fn redundant_platform(span: Span, written: &str) -> Diagnostic {
    let message = format!(
        "Setting platform to predefined {written} in FROM is redundant as this is the default behavior"
    );
    Diagnostic::warning("RedundantTargetPlatform", span, message)
}

pub(crate) fn secret(span: Span, keyword: &str, name: &str) -> Diagnostic {
    let message =
        format!("Do not use ARG or ENV instructions for sensitive data ({keyword} {name:?})");
    Diagnostic::warning("SecretsUsedInArgOrEnv", span, message)
        .help("hand it to the step that needs it: RUN --mount=type=secret")
}

pub(crate) fn default_arg(span: Span, written: &str) -> Diagnostic {
    let message =
        format!("Default value for ARG {written} results in empty or invalid base image name");
    Diagnostic::warning("InvalidDefaultArgInFrom", span, message)
}

pub(crate) fn constant_platform(span: Span, platform: &str) -> Diagnostic {
    let message = format!("FROM --platform flag should not use constant value {platform:?}");
    Diagnostic::warning("FromPlatformFlagConstDisallowed", span, message)
}

pub(crate) fn ignored_file(span: Span, add: bool, path: &str) -> Diagnostic {
    let verb = if add { "Add" } else { "Copy" };
    let message = format!("Attempting to {verb} file {path:?} that is excluded by .dockerignore");
    Diagnostic::warning("CopyIgnoredFile", span, message)
}

pub(crate) fn definition_description(span: Span, keyword: &str, name: &str) -> Diagnostic {
    let message =
        format!("Comment for {keyword} should follow the format: `# {name} <description>`");
    Diagnostic::warning("InvalidDefinitionDescription", span, message)
}

pub(crate) fn protocol_casing(span: Span, port: &str) -> Diagnostic {
    let message = format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
    Diagnostic::warning("ExposeProtoCasing", span, message)
}

pub(crate) fn expose_format(span: Span, port: &str) -> Diagnostic {
    let message = format!(
        "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
    );
    Diagnostic::warning("ExposeInvalidFormat", span, message)
}
