//! `--iidfile` and `--metadata-file`.

use oci::{Descriptor, Digest, Reference};
use serde_json::{Map, Value, json};

/// What is known of a finished image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageResult {
    /// The digest of its config: the image's id.
    pub config: Option<Digest>,
    /// Its manifest, if an exporter made one.
    pub manifest: Option<Descriptor>,
    /// Its names.
    pub names: Vec<Reference>,
}

impl ImageResult {
    /// The image's id as `docker build` prints it: the config's digest, else the manifest's.
    pub fn id(&self) -> Option<Digest> {
        self.config.or(self.manifest.as_ref().map(|m| m.digest))
    }

    /// The JSON document of `--metadata-file`.
    pub fn metadata(&self) -> String {
        let mut map = Map::new();
        if let Some(config) = self.config {
            map.insert("containerimage.config.digest".to_owned(), json!(config.to_string()));
        }
        if let Some(manifest) = &self.manifest {
            map.insert("containerimage.descriptor".to_owned(), json!(manifest));
            map.insert("containerimage.digest".to_owned(), json!(manifest.digest.to_string()));
        }
        if !self.names.is_empty() {
            let names: Vec<String> = self.names.iter().map(ToString::to_string).collect();
            map.insert("image.name".to_owned(), json!(names.join(",")));
        }
        format!("{:#}\n", Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buildx_keys() {
        let config = Digest::of(b"config");
        let manifest = Descriptor::of(oci::media_type::OCI_MANIFEST, b"manifest");
        let result = ImageResult {
            config: Some(config),
            manifest: Some(manifest.clone()),
            names: vec!["a".parse().unwrap(), "localhost:5000/b:1".parse().unwrap()],
        };
        let value: Value = serde_json::from_str(&result.metadata()).unwrap();
        assert_eq!(value["containerimage.config.digest"], config.to_string());
        assert_eq!(value["containerimage.digest"], manifest.digest.to_string());
        assert_eq!(value["containerimage.descriptor"]["size"], 8);
        assert_eq!(value["image.name"], "docker.io/library/a:latest,localhost:5000/b:1");
        assert_eq!(result.id(), Some(config));
        assert_eq!(ImageResult::default().metadata(), "{}\n");
    }
}
