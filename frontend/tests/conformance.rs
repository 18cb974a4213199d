//! The configs and layer counts that BuildKit gave the shared conformance cases, where they are
//! at hand.

mod support;

use std::fs;

use frontend::{lower, parse};
use serde_json::Value;
use support::{Images, options, vectors};

/// Several sources onto one path without a slash: Docker's documentation demands a directory,
/// BuildKit lets the last file win in silence. Here it is an error.
const DEVIATIONS: [&str; 1] = ["bud-copy-globs-Containerfile.missing"];

#[test]
fn configs_and_layers() {
    let Some(folder) = vectors("cases") else { return };
    let mut wrong = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let case = path.file_name().unwrap().to_string_lossy().into_owned();
        let expect = fs::read_to_string(path.join("expect.json")).unwrap();
        let mut expect: Value = serde_json::from_str(&expect).unwrap();
        let text = fs::read_to_string(path.join("context/Dockerfile")).unwrap();
        let lowered = match lower(&parse("Dockerfile", &text), &options(), &Images::default()) {
            Ok(lowered) => lowered,
            Err(_) if DEVIATIONS.contains(&case.as_str()) => continue,
            Err(e) => {
                wrong.push(format!("{case}: {e}"));
                continue;
            }
        };
        expect["config"].as_object_mut().unwrap().remove("ArgsEscaped");
        let config = serde_json::to_value(&lowered.config.config).unwrap();
        if config != expect["config"] {
            wrong.push(format!("{case}: want {}\n got {config}", expect["config"]));
        }
        let below = lowered.base.map_or(0, |base| base.config.rootfs.diff_ids.len());
        let layers = (lowered.layers.len() + below) as u64;
        if expect["layers"].as_u64() != Some(layers) {
            wrong.push(format!("{case}: want {} layers, got {layers}", expect["layers"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
