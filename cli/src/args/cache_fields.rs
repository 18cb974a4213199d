//! What `--cache-from` and `--cache-to` have in common: `type=TYPE[,KEY=VALUE…]`.

use oci::Reference;

use super::csv;
use super::suggest::did_you_mean;

/// Types that BuildKit has besides.
const OTHERS: &[&str] = &["gha", "s3", "azblob"];

/// Whether a registry needs no trusted, encrypted connection.
pub(super) const INSECURE: &str = "registry.insecure";

/// The fields of one option.
pub(super) struct Fields {
    kind: String,
    pairs: Vec<(String, String)>,
}

impl Fields {
    /// Takes `text` apart: a word without `=` is given back as it is.
    ///
    /// # Errors
    /// If a key is given twice, or the type is none of `types`.
    pub(super) fn parse(text: &str, types: &[&str]) -> Result<Result<String, Self>, String> {
        let fields = csv::fields(text).map_err(|e| e.to_string())?;
        if let [only] = &fields[..]
            && !text.contains('=')
        {
            return match text {
                "" => Err("expected the name of a cache in a registry, or type=TYPE,…".to_owned()),
                _ => Ok(Ok(only.clone())),
            };
        }
        let mut pairs: Vec<(String, String)> = Vec::with_capacity(fields.len());
        for field in &fields {
            let (key, value) =
                field.split_once('=').ok_or_else(|| format!("{field:?} is not KEY=VALUE"))?;
            let key = key.trim().to_lowercase();
            if pairs.iter().any(|(known, _)| *known == key) {
                return Err(format!("key {key:?} is given twice"));
            }
            pairs.push((key, value.to_owned()));
        }
        let kind = pairs.iter().find(|(key, _)| key == "type").map(|(_, value)| value.clone());
        let there = types.join(", ");
        let kind = kind.ok_or_else(|| format!("type= is missing (one of {there})"))?;
        if OTHERS.contains(&kind.as_str()) {
            return Err(format!("not supported: type={kind} (there are {there})"));
        }
        if !types.contains(&kind.as_str()) {
            return Err(format!(
                "unknown type {kind:?} (one of {there}){}",
                did_you_mean(&kind, types)
            ));
        }
        Ok(Err(Self { kind, pairs }))
    }

    /// The type.
    pub(super) fn kind(&self) -> &str {
        &self.kind
    }

    /// Refuses keys that are not in `known`.
    pub(super) fn check(&self, known: &[&str]) -> Result<(), String> {
        let unknown =
            self.pairs.iter().find(|(key, _)| key != "type" && !known.contains(&key.as_str()));
        match unknown {
            None => Ok(()),
            Some((key, _)) => Err(format!(
                "type={} has no key {key:?} (there are {}){}",
                self.kind,
                known.join(", "),
                did_you_mean(key, known)
            )),
        }
    }

    /// A value; an empty one is as if it were not there.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A value that has to be there.
    pub(super) fn required(&self, key: &str) -> Result<&str, String> {
        self.get(key).ok_or_else(|| format!("type={} needs {key}=", self.kind))
    }

    /// A switch.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let known = super::switch::boolean(value);
        known.map(Some).ok_or_else(|| format!("{key}={value} is not true or false"))
    }

    /// The name of something in a registry.
    pub(super) fn reference(text: &str) -> Result<Reference, String> {
        text.parse().map_err(|e: oci::reference::ReferenceError| e.to_string())
    }
}
