//! The environment, read in one place.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use oci::{Platform, Timestamp};

use crate::args::{MaxCache, ProgressMode};
use crate::proxies::Proxies;

/// Everything that Drydock takes from its environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Where docker's `config.json` is: `DOCKER_CONFIG`, else `.docker` in the home directory.
    pub docker_config: Option<PathBuf>,
    /// `BUILDKIT_PROGRESS`.
    pub progress: Option<ProgressMode>,
    /// Whether `NO_COLOR` has a value.
    pub no_color: bool,
    /// `BUILDKIT_COLORS`, to be parsed by [`crate::progress::colours::Colours`].
    pub colors: Option<String>,
    /// `BUILDKIT_TTY_LOG_LINES`: log lines under a running step.
    pub tty_log_lines: Option<usize>,
    /// `TTY_DISPLAY_RATE`: milliseconds between two drawings.
    pub tty_display_rate: Option<u64>,
    /// `BUILDKIT_STEP_LOG_MAX_SIZE`: bytes of output of one step; -1 is no limit.
    pub step_log_max_size: Option<i64>,
    /// `BUILDKIT_STEP_LOG_MAX_SPEED`: bytes per second; -1 is no limit.
    pub step_log_max_speed: Option<i64>,
    /// `TERM`.
    pub term: Option<String>,
    /// `SSL_CERT_FILE` and what is in the directories of `SSL_CERT_DIR`, in place of the system's
    /// trust store.
    pub certificates: Certificates,
    /// The proxy variables.
    pub proxies: Proxies,
    /// `DRYDOCK_CDI_DIRS`: directories of device specifications, the last one wins.
    pub cdi_directories: Option<Vec<PathBuf>>,
    /// `DRYDOCK_MAX_CACHE`: how much the state directory may take.
    pub max_cache: Option<MaxCache>,
    /// `DRYDOCK_ROOT`.
    pub root: Option<PathBuf>,
    /// `XDG_DATA_HOME`, if it is absolute.
    pub data_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `SOURCE_DATE_EPOCH`.
    pub source_date_epoch: Option<Timestamp>,
    /// `DOCKER_DEFAULT_PLATFORM`.
    pub platform: Option<Platform>,
    /// What is wrong with it. For whoever does not build it does not matter.
    pub problems: Vec<EnvironmentError>,
    /// All variables that are text, for `--build-arg KEY`.
    pub variables: BTreeMap<String, String>,
}

/// `SSL_CERT_FILE` and `SSL_CERT_DIR`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificates {
    /// One file with certificates.
    pub file: Option<PathBuf>,
    /// Directories with files of certificates.
    pub directories: Vec<PathBuf>,
}

/// Why the environment cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}={value:?} {reason}")]
pub struct EnvironmentError {
    /// Which variable.
    pub variable: &'static str,
    /// What it holds.
    pub value: String,
    /// What it should hold.
    pub reason: String,
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        Self::new(std::env::vars_os())
    }

    /// An environment of these variables. An empty value counts as none, except for
    /// `--build-arg`; so does one that makes no sense, which is told by [`Environment::check`].
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let all: BTreeMap<OsString, OsString> = variables.into_iter().collect();
        let raw = |name: &str| all.get(&OsString::from(name)).filter(|v| !v.is_empty());
        let path = |name: &str| raw(name).map(PathBuf::from);
        let text = |name: &str| raw(name).map(|v| v.to_string_lossy().into_owned());
        let home = path("HOME");
        let docker_config =
            path("DOCKER_CONFIG").or_else(|| home.as_ref().map(|h| h.join(".docker")));
        let certificates = Certificates {
            file: path("SSL_CERT_FILE"),
            directories: raw("SSL_CERT_DIR")
                .map(|dirs| std::env::split_paths(dirs).filter(|d| d != Path::new("")).collect())
                .unwrap_or_default(),
        };
        let mut problems = Vec::new();
        let wrong = &mut problems;
        Self {
            docker_config,
            progress: value("BUILDKIT_PROGRESS", &text, progress, wrong),
            no_color: raw("NO_COLOR").is_some(),
            colors: text("BUILDKIT_COLORS"),
            tty_log_lines: value("BUILDKIT_TTY_LOG_LINES", &text, number("lines"), wrong),
            tty_display_rate: value("TTY_DISPLAY_RATE", &text, number("milliseconds"), wrong),
            step_log_max_size: value("BUILDKIT_STEP_LOG_MAX_SIZE", &text, number("bytes"), wrong),
            step_log_max_speed: value("BUILDKIT_STEP_LOG_MAX_SPEED", &text, number("bytes"), wrong),
            term: text("TERM"),
            certificates,
            proxies: Proxies::from_variables(&text),
            max_cache: value("DRYDOCK_MAX_CACHE", &text, str::parse, wrong),
            root: path("DRYDOCK_ROOT"),
            cdi_directories: raw("DRYDOCK_CDI_DIRS")
                .map(|dirs| std::env::split_paths(dirs).filter(|d| d != Path::new("")).collect()),
            data_home: path("XDG_DATA_HOME").filter(|p| p.is_absolute()),
            source_date_epoch: value("SOURCE_DATE_EPOCH", &text, epoch, wrong),
            platform: value(
                "DOCKER_DEFAULT_PLATFORM",
                &text,
                |t| t.parse().map_err(|_| "is not a platform such as linux/amd64".to_owned()),
                wrong,
            ),
            problems,
            home,
            variables: all
                .into_iter()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
        }
    }

    /// Whether all variables make sense.
    ///
    /// # Errors
    /// With the first one that does not.
    pub fn check(&self) -> Result<(), EnvironmentError> {
        self.problems.first().cloned().map_or(Ok(()), Err)
    }

    /// A variable that is text, as it is.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The state directory: `option` (`--root`), else `DRYDOCK_ROOT`, else
    /// `/var/lib/drydock` for root and `$XDG_DATA_HOME/drydock` (`~/.local/share/drydock`) for
    /// others. None for somebody without a home.
    pub fn state_directory(&self, option: Option<&Path>, is_root: bool) -> Option<PathBuf> {
        if let Some(root) = option.or(self.root.as_deref()) {
            return Some(root.to_owned());
        }
        if is_root {
            return Some(PathBuf::from("/var/lib/drydock"));
        }
        let data =
            self.data_home.clone().or_else(|| Some(self.home.as_ref()?.join(".local/share")));
        data.map(|d| d.join("drydock"))
    }
}

fn value<T>(
    variable: &'static str,
    get: &dyn Fn(&str) -> Option<String>,
    parse: impl Fn(&str) -> Result<T, String>,
    wrong: &mut Vec<EnvironmentError>,
) -> Option<T> {
    let value = get(variable)?;
    match parse(value.trim()) {
        Ok(parsed) => Some(parsed),
        Err(reason) => {
            wrong.push(EnvironmentError { variable, value, reason });
            None
        }
    }
}

fn progress(text: &str) -> Result<ProgressMode, String> {
    <ProgressMode as clap::ValueEnum>::from_str(text, false)
        .map_err(|_| "is none of auto, plain, tty, quiet, rawjson".to_owned())
}

fn number<T: std::str::FromStr>(what: &'static str) -> impl Fn(&str) -> Result<T, String> {
    move |text| text.parse().map_err(|_| format!("is not a number of {what}"))
}

/// Parses `SOURCE_DATE_EPOCH`: seconds since the epoch, not negative
/// (reproducible-builds.org's specification).
///
/// # Errors
/// If it is no such number.
pub fn epoch(text: &str) -> Result<Timestamp, String> {
    /// The last second of the year 9999, after which RFC 3339 cannot write a time.
    const LAST: i64 = 253_402_300_799;
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<i64>() {
        Ok(seconds) if digits && seconds <= LAST => Ok(Timestamp::from_seconds(seconds)),
        _ => Err("is not a number of seconds since 1970".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(variables: &[(&str, &str)]) -> Result<Environment, EnvironmentError> {
        let environment = Environment::new(variables.iter().map(|(k, v)| (k.into(), v.into())));
        environment.check().map(|()| environment)
    }

    #[test]
    fn reads_what_is_set() {
        let env = new(&[
            ("HOME", "/home/a"),
            ("BUILDKIT_PROGRESS", "plain"),
            ("NO_COLOR", "1"),
            ("SOURCE_DATE_EPOCH", "1700000000"),
            ("SSL_CERT_DIR", "/a:/b"),
            ("DOCKER_DEFAULT_PLATFORM", "linux/x86_64"),
            ("BUILDKIT_STEP_LOG_MAX_SIZE", "-1"),
            ("X", ""),
        ])
        .unwrap();
        assert_eq!(env.docker_config, Some("/home/a/.docker".into()));
        assert_eq!(env.progress, Some(ProgressMode::Plain));
        assert!(env.no_color);
        assert_eq!(env.source_date_epoch, Some(Timestamp::from_seconds(1_700_000_000)));
        assert_eq!(env.certificates.directories, [PathBuf::from("/a"), "/b".into()]);
        assert_eq!(env.platform.map(|p| p.to_string()).as_deref(), Some("linux/amd64"));
        assert_eq!(env.step_log_max_size, Some(-1));
        assert_eq!(env.variables.get("X").map(String::as_str), Some(""));
        let env = new(&[("HOME", "/h"), ("DOCKER_CONFIG", "/d"), ("NO_COLOR", "")]).unwrap();
        assert_eq!((env.docker_config, env.no_color), (Some("/d".into()), false));
        assert_eq!(new(&[]).unwrap(), Environment::default());
    }

    #[test]
    fn refuses_values_that_make_no_sense() {
        for (name, bad) in [
            ("SOURCE_DATE_EPOCH", "yesterday"),
            ("SOURCE_DATE_EPOCH", "-1"),
            ("SOURCE_DATE_EPOCH", "+1"),
            ("SOURCE_DATE_EPOCH", "999999999999999999999"),
            ("SOURCE_DATE_EPOCH", "253402300800"),
            ("BUILDKIT_PROGRESS", "fancy"),
            ("DOCKER_DEFAULT_PLATFORM", "a/b/c/d"),
            ("TTY_DISPLAY_RATE", "fast"),
        ] {
            let error = new(&[(name, bad)]).unwrap_err();
            assert!(error.to_string().starts_with(&format!("{name}={bad:?} is n")), "{error}");
            // Whoever only lists images is not bothered.
            Environment::new([(name.into(), bad.into())]);
        }
    }

    #[test]
    fn state_directory() {
        let env = new(&[("HOME", "/h"), ("XDG_DATA_HOME", "relative")]).unwrap();
        let dir = |e: &Environment, o: Option<&str>, root| {
            e.state_directory(o.map(Path::new), root).map(|p| p.to_str().unwrap().to_owned())
        };
        assert_eq!(dir(&env, None, true).as_deref(), Some("/var/lib/drydock"));
        assert_eq!(dir(&env, None, false).as_deref(), Some("/h/.local/share/drydock"));
        let env = new(&[("XDG_DATA_HOME", "/x"), ("DRYDOCK_ROOT", "/r")]).unwrap();
        assert_eq!(dir(&env, None, false).as_deref(), Some("/r"));
        assert_eq!(dir(&env, Some("/o"), true).as_deref(), Some("/o"));
        let env = new(&[("XDG_DATA_HOME", "/x")]).unwrap();
        assert_eq!(dir(&env, None, false).as_deref(), Some("/x/drydock"));
        assert_eq!(dir(&Environment::default(), None, false), None);
    }
}
