//! `--call`: what is asked of the Dockerfile instead of an image.

use super::csv;
use super::suggest;
use super::switch;

/// What to do with a Dockerfile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Call {
    /// Build it.
    #[default]
    Build,
    /// Report what is doubtful or wrong in it.
    Check,
    /// Tell what a target takes: arguments, secrets, ssh agents, caches.
    Outline,
    /// List its stages.
    Targets,
    /// Tell which line of which ignore file decides about paths.
    Ignore,
    /// List the calls.
    Describe,
}

impl Call {
    /// All of them, by name. `lint` is what the frontend of BuildKit calls `check`.
    pub const NAMES: [(&'static str, Self); 7] = [
        ("build", Self::Build),
        ("check", Self::Check),
        ("lint", Self::Check),
        ("outline", Self::Outline),
        ("targets", Self::Targets),
        ("ignore", Self::Ignore),
        ("subrequests.describe", Self::Describe),
    ];
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON document.
    Json,
}

/// `--call=NAME[,format=json|text][,ignorestatus=true]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallSpec {
    /// What is asked.
    pub call: Call,
    /// How the answer is written.
    pub format: CallFormat,
    /// `ignorestatus`: status 0 also where a check finds something (buildx).
    pub ignore_status: bool,
}

/// Reads the value of `--call`.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<CallSpec, String> {
    let mut spec = CallSpec::default();
    let mut named = false;
    for field in csv::fields(text).map_err(|e| e.to_string())? {
        match field.split_once('=') {
            Some(("format", name)) => spec.format = format(name)?,
            Some(("ignorestatus", value)) => {
                spec.ignore_status = switch::boolean(value)
                    .ok_or_else(|| format!("ignorestatus={value} is neither true nor false"))?;
            }
            Some((key, _)) => {
                let near = suggest::did_you_mean(key, &["format", "ignorestatus"]);
                return Err(format!("unknown option {key:?}{near}"));
            }
            None if named => return Err(format!("more than one call: {field:?}")),
            None => {
                spec.call = call(&field)?;
                named = true;
            }
        }
    }
    Ok(spec)
}

/// Reads a format.
///
/// # Errors
/// If there is no such format.
pub fn format(text: &str) -> Result<CallFormat, String> {
    match text {
        "json" => Ok(CallFormat::Json),
        "text" => Ok(CallFormat::Text),
        other => Err(format!("unknown format {other:?} (json or text)")),
    }
}

fn call(name: &str) -> Result<Call, String> {
    // The calls are requests of BuildKit's frontend, and may be written as such.
    let short = name.strip_prefix("frontend.").unwrap_or(name);
    let known = Call::NAMES.iter().find(|(n, _)| *n == short);
    known.map(|(_, call)| *call).ok_or_else(|| {
        let names: Vec<&str> = Call::NAMES.iter().map(|(n, _)| *n).collect();
        format!("unknown call {name:?}{}", suggest::did_you_mean(name, &names))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_options() {
        for (text, call, format) in [
            ("build", Call::Build, CallFormat::Text),
            ("check", Call::Check, CallFormat::Text),
            ("lint,format=json", Call::Check, CallFormat::Json),
            ("format=json,outline", Call::Outline, CallFormat::Json),
            ("targets,format=text", Call::Targets, CallFormat::Text),
            ("ignore", Call::Ignore, CallFormat::Text),
            ("frontend.subrequests.describe", Call::Describe, CallFormat::Text),
        ] {
            let spec = parse(text).unwrap();
            assert_eq!((spec.call, spec.format), (call, format), "{text}");
        }
        assert!(parse("check,ignorestatus=true").unwrap().ignore_status);
        for (text, part) in [
            ("chekc", "did you mean \"check\""),
            ("", "unknown call"),
            ("check,outline", "more than one"),
            ("check,format=xml", "json or text"),
            ("check,fromat=json", "format"),
            ("check,ignorestatus=x", "neither"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
