//! What a state directory is configured with: `config.json` in it. Pure, but for the reading.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cache::ceiling::Limit;
use cache::gc::Filter;
use cache::gc::filter;
use cache::gc::policy::{self, Rule, Space};
use frontend::parse_size;
use serde::Deserialize;
use worker::NamedRule;

use crate::args::MaxCache;
use crate::environment::Environment;

/// The file in the state directory.
const FILE: &str = "config.json";

/// It is not read further than this, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// How often rules are applied at most, where nobody says otherwise.
const INTERVAL: Duration = Duration::from_secs(600);

/// The settings of a state directory.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `maxCache`.
    pub max_cache: Option<MaxCache>,
    /// The rules by which the cache is kept small, with their names; in order.
    pub rules: Vec<NamedRule>,
    /// How often they are applied at most.
    pub interval: Duration,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("cannot use {}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
}

/// The document.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    max_cache: Option<String>,
    gc: Option<Collection>,
}

/// `gc`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Collection {
    enabled: Option<bool>,
    interval: Option<String>,
    policy: Option<Vec<Written>>,
}

/// A rule as it is written, in the words of buildkitd.toml.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    keep_duration: Option<String>,
    reserved_space: Option<String>,
    max_used_space: Option<String>,
    min_free_space: Option<String>,
    #[serde(default)]
    filters: Vec<String>,
    #[serde(default)]
    all: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let rules = policy::defaults().into_iter().enumerate();
        let named = |(at, rule)| NamedRule { name: format!("default gc rule {}", at + 1), rule };
        Self { max_cache: None, rules: rules.map(named).collect(), interval: INTERVAL }
    }
}

impl Settings {
    /// Reads the settings of the state directory `root`; where there are none, the default ones.
    ///
    /// # Errors
    /// If they cannot be read or used.
    pub fn read(root: &Path) -> Result<Self, SettingsError> {
        let path = root.join(FILE);
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            other => other,
        };
        let mut text = String::new();
        match file.and_then(|file| file.take(MAX_FILE).read_to_string(&mut text)) {
            Err(source) => Err(SettingsError::Read { path, source }),
            Ok(_) => Self::parse(&text).map_err(|reason| SettingsError::Format { path, reason }),
        }
    }

    /// Understands the text of the file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document: Document = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let mut settings = Self::default();
        if let Some(text) = document.max_cache {
            settings.max_cache = Some(text.parse().map_err(|e| format!("maxCache: {e}"))?);
        }
        let Some(gc) = document.gc else { return Ok(settings) };
        if let Some(text) = gc.interval {
            settings.interval = time("gc.interval", &text)?;
        }
        if let Some(written) = gc.policy {
            let rules = written.into_iter().enumerate();
            settings.rules =
                rules.map(|(at, rule)| rule.named(at + 1)).collect::<Result<_, _>>()?;
        }
        if gc.enabled == Some(false) {
            settings.rules.clear();
        }
        Ok(settings)
    }

    /// How much the cache may take: what the command line says, else the environment, else the
    /// file. None for no limit.
    pub fn limit(&self, flag: Option<&MaxCache>, environment: &Environment) -> Option<Limit> {
        let said = |max: &MaxCache, rule: String| (max.bytes > 0).then_some((max.bytes, rule));
        let found = match (flag, &environment.max_cache, &self.max_cache) {
            (Some(max), ..) => said(max, format!("--max-cache {max}")),
            (None, Some(max), _) => said(max, format!("DRYDOCK_MAX_CACHE={max}")),
            (None, None, Some(max)) => said(max, format!("maxCache {max} in {FILE}")),
            (None, None, None) => None,
        };
        found.map(|(bytes, rule)| Limit { bytes, rule })
    }
}

impl Written {
    fn named(self, number: usize) -> Result<NamedRule, String> {
        let at = |key: &str| format!("gc.policy, rule {number}, {key}");
        let age = self.keep_duration.map(|text| time(&at("keepDuration"), &text)).transpose()?;
        let space = |key: &str, text: Option<String>| -> Result<Option<Space>, String> {
            text.map(|text| {
                self::space(&text).ok_or_else(|| {
                    format!("{}: {text:?} is no size such as 512MB, 10GB or 20%", at(key))
                })
            })
            .transpose()
        };
        let filters = self
            .filters
            .iter()
            .map(|text| Filter::parse(text).map_err(|error| format!("{}: {error}", at("filters"))));
        let rule = Rule {
            keep_duration: age,
            reserved_space: space("reservedSpace", self.reserved_space)?,
            max_used_space: space("maxUsedSpace", self.max_used_space)?,
            min_free_space: space("minFreeSpace", self.min_free_space)?,
            filters: filters.collect::<Result<_, _>>()?,
            all: self.all,
        };
        Ok(NamedRule { name: format!("gc rule {number} of {FILE}"), rule })
    }
}

fn time(what: &str, text: &str) -> Result<Duration, String> {
    let wrong = || format!("{what}: {text:?} is no length of time such as 90s, 48h or 60d");
    filter::duration(text).ok_or_else(wrong)
}

fn space(text: &str) -> Option<Space> {
    match text.trim().strip_suffix('%') {
        Some(percent) => {
            let percent: f64 = percent.trim().parse().ok()?;
            (0.0..=100.0).contains(&percent).then_some(Space::Percent(percent))
        }
        None => parse_size(text.trim()).map(Space::Bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_how_much() {
        let settings = Settings::parse(r#"{"maxCache": "3GB"}"#).unwrap();
        let none = Environment::default();
        let some = Environment::new([("DRYDOCK_MAX_CACHE".into(), "2g".into())]);
        let flag: MaxCache = "1g".parse().unwrap();
        let off: MaxCache = "0".parse().unwrap();
        let rule = |limit: Option<Limit>| limit.map(|l| (l.bytes >> 30, l.rule));
        let said = |bytes, rule: &str| Some((bytes, rule.to_owned()));
        assert_eq!(rule(settings.limit(Some(&flag), &some)), said(1, "--max-cache 1g"));
        assert_eq!(rule(settings.limit(None, &some)), said(2, "DRYDOCK_MAX_CACHE=2g"));
        assert_eq!(rule(settings.limit(None, &none)), said(3, "maxCache 3GB in config.json"));
        assert_eq!(rule(settings.limit(Some(&off), &some)), None);
        assert_eq!(rule(Settings::default().limit(None, &none)), None);
    }

    #[test]
    fn rules() {
        let settings = Settings::parse(
            r#"{"gc": {"interval": "0s", "policy": [
                {"keepDuration": "48h", "filters": ["type==exec.cachemount"]},
                {"reservedSpace": "1GB", "maxUsedSpace": "10%", "all": true}]}}"#,
        )
        .unwrap();
        assert_eq!(settings.interval, Duration::ZERO);
        let [first, second] = &settings.rules[..] else { panic!("{settings:?}") };
        assert_eq!(first.rule.keep_duration, Some(Duration::from_secs(48 * 3600)));
        assert_eq!((first.rule.filters.len(), first.rule.all), (1, false));
        assert_eq!(second.rule.max_used_space, Some(Space::Percent(10.0)));
        assert_eq!(second.name, "gc rule 2 of config.json");
        assert!(Settings::parse(r#"{"gc": {"enabled": false}}"#).unwrap().rules.is_empty());
        assert_eq!(Settings::parse("{}").unwrap().rules.len(), policy::defaults().len());
    }

    #[test]
    fn mistakes_are_told() {
        for (text, part) in [
            ("{", "EOF"),
            (r#"{"maxcache": "1g"}"#, "unknown field `maxcache`"),
            (r#"{"maxCache": "much"}"#, "maxCache: "),
            (r#"{"gc": {"interval": "soon"}}"#, "gc.interval: \"soon\" is no length of time"),
            (r#"{"gc": {"policy": [{}, {"minFreeSpace": "120%"}]}}"#, "rule 2, minFreeSpace: "),
            (r#"{"gc": {"policy": [{"filters": ["tipe==x"]}]}}"#, "rule 1, filters: "),
        ] {
            let error = Settings::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
