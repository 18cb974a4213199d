//! The devices that this host's specifications describe.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::spec::{Device, Spec};

/// The largest specification, in bytes; those of machines with eight cards have 100 kB.
const MAX_FILE: u64 = 4 * 1024 * 1024;
/// The most specifications of a directory.
const MAX_FILES: usize = 1024;
/// How many names a message lists.
const MAX_LISTED: usize = 20;

/// A file that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which.
    pub file: PathBuf,
    /// Why not.
    pub reason: String,
}

/// All devices that are known, by full name.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    directories: Vec<PathBuf>,
    pub(super) files: Vec<SpecFile>,
    /// Positions of file and device.
    devices: BTreeMap<String, (usize, usize)>,
    problems: Vec<Problem>,
}

/// A specification that can be used.
#[derive(Debug, Clone)]
pub(super) struct SpecFile {
    pub(super) path: PathBuf,
    pub(super) spec: Spec,
    /// The number of its directory.
    priority: usize,
}

impl Registry {
    /// Reads the specifications of these directories: files named `.json` or `.yaml`. A device
    /// that is in several is the one of the last directory; if two files of that one have it, it
    /// is nobody's (CDI: `pkg/cdi/cache.go`). A directory that is not there has none.
    #[must_use]
    pub fn read(directories: &[PathBuf]) -> Self {
        let mut registry = Self { directories: directories.to_vec(), ..Self::default() };
        for (priority, directory) in directories.iter().enumerate() {
            registry.read_directory(directory, priority);
        }
        registry.index();
        registry
    }

    fn read_directory(&mut self, directory: &Path, priority: usize) {
        let mut problem = |file: &Path, reason: String| {
            self.problems.push(Problem { file: file.to_owned(), reason });
        };
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => return problem(directory, error.to_string()),
        };
        let is_spec =
            |path: &PathBuf| path.extension().is_some_and(|it| it == "json" || it == "yaml");
        let paths = entries.flatten().map(|entry| entry.path()).filter(is_spec);
        let mut paths: Vec<PathBuf> = paths.take(MAX_FILES + 1).collect();
        if paths.len() > MAX_FILES {
            return problem(directory, format!("there are more than {MAX_FILES} specifications"));
        }
        paths.sort();
        for path in paths {
            let is_yaml = path.extension().is_some_and(|it| it == "yaml");
            match read_text(&path).and_then(|text| Spec::parse(&text, is_yaml)) {
                Ok(spec) => self.files.push(SpecFile { path, spec, priority }),
                Err(reason) => self.problems.push(Problem { file: path, reason }),
            }
        }
    }

    fn index(&mut self) {
        let mut owners: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
        for (file, SpecFile { spec, .. }) in self.files.iter().enumerate() {
            for (device, Device { name, .. }) in spec.devices.iter().enumerate() {
                let name = format!("{}={name}", spec.kind);
                owners.entry(name).or_default().push((file, device));
            }
        }
        for (name, mut all) in owners {
            let highest = all.iter().map(|it| self.files[it.0].priority).max();
            all.retain(|it| Some(self.files[it.0].priority) == highest);
            if let [one] = all[..] {
                self.devices.insert(name, one);
                continue;
            }
            for (file, _) in &all[1..] {
                let first = self.files[all[0].0].path.display();
                let reason = format!("{name} is in {first} too, so neither is used");
                self.problems.push(Problem { file: self.files[*file].path.clone(), reason });
            }
        }
    }

    /// What could not be used, and why.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The full names of all devices, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.devices.keys().map(String::as_str)
    }

    /// A device and the specification that it is in.
    pub(super) fn device(&self, name: &str) -> Option<(usize, &Device)> {
        let &(file, device) = self.devices.get(name)?;
        Some((file, &self.files[file].spec.devices[device]))
    }

    /// An annotation of a device, else that of its specification.
    pub(super) fn annotation(&self, name: &str, key: &str) -> Option<&str> {
        let (file, device) = self.device(name)?;
        let own = device.annotations.get(key);
        own.or_else(|| self.files[file].spec.annotations.get(key)).map(String::as_str)
    }

    /// What is known, for an error about something that is not.
    pub(super) fn known(&self) -> String {
        let places = self.directories.iter().map(|it| it.display().to_string());
        let places = places.collect::<Vec<_>>().join(" and ");
        let names: Vec<&str> = self.names().take(MAX_LISTED).collect();
        let more = self.devices.len() - names.len();
        let mut text = match names.is_empty() {
            true => format!("no devices are known from {places}"),
            false => format!("{} are known from {places}", names.join(", ")),
        };
        if more > 0 {
            text.push_str(&format!(", and {more} more"));
        }
        for Problem { file, reason } in self.problems.iter().take(MAX_LISTED) {
            text.push_str(&format!("; {} cannot be used: {reason}", file.display()));
        }
        text
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    if !file.metadata().is_ok_and(|it| it.is_file()) {
        return Err("it is not a file".to_owned());
    }
    let mut text = String::new();
    let read = file.take(MAX_FILE + 1).read_to_string(&mut text);
    match read.map_err(|error| error.to_string())? as u64 {
        0..=MAX_FILE => Ok(text),
        _ => Err(format!("it is larger than {MAX_FILE} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, kind: &str, devices: &[&str]) {
        let device = |name: &&str| {
            format!("{{\"name\":\"{name}\",\"containerEdits\":{{\"env\":[\"A=b\"]}}}}")
        };
        let devices = devices.iter().map(device).collect::<Vec<_>>().join(",");
        let text =
            format!("{{\"cdiVersion\":\"0.3.0\",\"kind\":\"{kind}\",\"devices\":[{devices}]}}");
        fs::write(dir.join(name), text).unwrap();
    }

    #[test]
    fn later_directories_win_and_equals_lose() {
        let temp = tempfile::tempdir().unwrap();
        let (etc, run) = (temp.path().join("etc"), temp.path().join("run"));
        fs::create_dir(&etc).unwrap();
        fs::create_dir(&run).unwrap();
        write(&etc, "a.json", "v.com/c", &["both", "twice", "won"]);
        write(&etc, "b.yaml", "v.com/c", &["twice", "won"]);
        write(&run, "c.json", "v.com/c", &["both", "won"]);
        write(&run, "d.txt", "v.com/c", &["text"]);
        fs::write(run.join("broken.yaml"), "kind: [").unwrap();
        fs::create_dir(run.join("dir.json")).unwrap();
        let missing = temp.path().join("missing");
        let all = Registry::read(&[etc, run.clone(), missing]);
        assert_eq!(all.names().collect::<Vec<_>>(), ["v.com/c=both", "v.com/c=won"]);
        for name in ["v.com/c=both", "v.com/c=won"] {
            assert_eq!(all.files[all.device(name).unwrap().0].path, run.join("c.json"));
        }
        let known = all.known();
        assert!(known.contains("broken.yaml cannot be used"), "{known}");
        assert!(known.contains("dir.json cannot be used: it is not a file"), "{known}");
        assert!(known.contains("v.com/c=twice is in"), "{known}");
        assert_eq!(all.problems().len(), 3, "{:?}", all.problems());
    }

    #[test]
    fn sizes_are_bounded() {
        let temp = tempfile::tempdir().unwrap();
        File::create(temp.path().join("a.json")).unwrap().set_len(MAX_FILE + 1).unwrap();
        fs::write(temp.path().join("b.json"), b"\xff\xfe").unwrap();
        let all = Registry::read(&[temp.path().to_owned()]);
        assert!(all.problems()[0].reason.contains("larger than"), "{:?}", all.problems());
        assert_eq!((all.problems().len(), all.names().count()), (2, 0));
    }
}
