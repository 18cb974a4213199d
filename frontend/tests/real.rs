//! Dockerfiles as public projects write them: nothing in them is worth a remark.

mod support;

use std::fs;
use std::path::Path;

use frontend::{lower, parse};
use support::{Images, options};

/// The least number of them.
const LEAST: usize = 24;

fn texts() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let mut texts: Vec<(String, String)> =
        files.map(|path| (name(&path), fs::read_to_string(&path).unwrap())).collect();
    texts.sort();
    assert!(texts.len() >= LEAST, "{}", texts.len());
    texts
}

/// Lowers every stage of a file; what there is to say of it.
fn remarks(name: &str, text: &str) -> Vec<String> {
    let parsed = parse(name, text);
    let mut remarks: Vec<String> =
        parsed.diagnostics.iter().map(|d| format!("{name}: {}", d.message)).collect();
    for stage in 0..parsed.dockerfile.stages().len() {
        let mut options = options();
        options.target = Some(stage.to_string());
        match lower(&parsed, &options, &Images::default()) {
            Ok(lowered) => {
                let all = lowered.warnings.iter();
                remarks.extend(all.map(|w| format!("{name}, stage {stage}: {}", w.message)));
                assert_eq!(lowered.history.len(), lowered.config.history.len(), "{name}");
            }
            Err(error) => remarks.push(format!("{name}, stage {stage}: {error}")),
        }
    }
    remarks
}

#[test]
fn no_remarks() {
    let remarks: Vec<String> =
        texts().iter().flat_map(|(name, text)| remarks(name, text)).collect();
    assert!(remarks.is_empty(), "{}", remarks.join("\n"));
}

#[test]
fn printing_keeps_what_they_say() {
    for (name, text) in texts() {
        let tree = parse(&name, &text).dockerfile;
        let printed = tree.to_string();
        let again = parse(&name, &printed);
        assert!(tree.same_as(&again.dockerfile), "{name}\n{printed}");
        assert_eq!(remarks(&name, &printed), remarks(&name, &text), "{printed}");
    }
}
