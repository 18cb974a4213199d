//! What starting an empty step costs, beside `runc run` and the bare program.
//!
//! All three run `/bin/true` of the base image. The builder's step includes what a step is for:
//! a snapshot before, the diff after, a record. runc is given a directory that is there already, no network
//! namespace and no filter of system calls, which it would have to set up.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::context::Context;
use tests::drydock::Drydock;
use tests::{base_image, skip, temp};

use crate::cases::{Case, Size, with_base};
use crate::part::Part;

/// Runs of a program that one measurement is the mean of.
const PROGRAMS: u32 = 20;

/// The cases of one size.
pub fn part(size: Size) -> Part {
    let mut cases: Vec<Box<dyn Case>> = vec![Box::new(Step::new(size)), Box::new(Bare::new(size))];
    match Runc::new(size) {
        Ok(runc) => cases.push(Box::new(runc)),
        Err(reason) => skip::say("runc run", &reason),
    }
    let how = "/bin/true; the step: a build with them less one without, by their number; the others: \
        the mean of several starts";
    Part { title: "starting a step", how, cases }
}

/// Steps in a row that do nothing, none of them known; less a build without them.
struct Step {
    steps: u32,
    drydock: Drydock,
    rounds: u32,
}

impl Step {
    fn new(size: Size) -> Self {
        Self { steps: size.pick(3, 50), drydock: with_base(), rounds: 0 }
    }

    fn build(&mut self, steps: u32) -> Duration {
        self.rounds += 1;
        let mut text = "FROM base:1\n".to_owned();
        for step in 0..steps {
            // The program is the same in all of them, and so is what it makes.
            text.push_str(&format!("ENV STEP={}.{step}\nRUN [\"/bin/true\"]\n", self.rounds));
        }
        let output = self.drydock.bare_build(&Context::new(&text)).ok();
        assert_eq!(output.executed().len() as u32, steps, "{output}");
        output.elapsed
    }
}

impl Case for Step {
    fn name(&self) -> String {
        format!("an empty step, one of {}", self.steps)
    }

    fn target(&self) -> Option<Duration> {
        Some(Duration::from_millis(15))
    }

    fn run(&mut self) -> Duration {
        let without = self.build(0);
        self.build(self.steps).saturating_sub(without) / self.steps
    }

    fn syncs(&mut self) -> Option<u64> {
        None
    }
}

/// The program by itself: fork and exec.
struct Bare {
    runs: u32,
}

impl Bare {
    fn new(size: Size) -> Self {
        Self { runs: size.pick(1, PROGRAMS) }
    }
}

impl Case for Bare {
    fn name(&self) -> String {
        "the program of the empty step by itself".to_owned()
    }

    fn run(&mut self) -> Duration {
        mean(self.runs, |_| {
            let mut command = Command::new(base_image::busybox());
            command.arg("true");
            command
        })
    }

    fn syncs(&mut self) -> Option<u64> {
        None
    }
}

/// `runc run` of the same program on the same root file system.
struct Runc {
    runs: u32,
    runc: PathBuf,
    bundle: tempfile::TempDir,
    started: u32,
}

impl Runc {
    /// Why it cannot be measured, if it cannot.
    fn new(size: Size) -> Result<Self, String> {
        let runc = skip::program("runc").ok_or("runc is not installed")?;
        let bundle = temp::directory();
        let drydock = with_base();
        let to = format!("type=local,dest={}", bundle.path().join("rootfs").display());
        drydock.bare_build(&Context::new("FROM base:1\n")).args(["-o", &to]).ok();
        configure(&runc, bundle.path())?;
        let mut case = Self { runs: size.pick(1, PROGRAMS / 2), runc, bundle, started: 0 };
        let output = case.command(0).stderr(Stdio::piped()).output().map_err(|e| e.to_string())?;
        case.started += 1;
        if output.status.success() {
            Ok(case)
        } else {
            Err(format!("it fails here: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
    }

    fn command(&self, run: u32) -> Command {
        let mut command = Command::new(&self.runc);
        let name = format!("drydock-bench-{}-{}", std::process::id(), self.started + run);
        command.arg("--root").arg(self.bundle.path().join("state"));
        command.arg("run").arg("--bundle").arg(self.bundle.path()).arg(name);
        command
    }
}

/// Writes runc's own configuration with our program, and less isolation than a step has.
fn configure(runc: &Path, bundle: &Path) -> Result<(), String> {
    let spec = Command::new(runc).args(["spec", "--bundle"]).arg(bundle).output();
    let spec = spec.map_err(|e| e.to_string())?;
    if !spec.status.success() {
        return Err(format!("runc spec fails: {}", String::from_utf8_lossy(&spec.stderr).trim()));
    }
    let file = bundle.join("config.json");
    let text = fs::read(&file).map_err(|e| e.to_string())?;
    let mut config: serde_json::Value = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["/bin/true"]);
    config["root"]["readonly"] = false.into();
    if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "network");
    }
    fs::write(&file, config.to_string()).map_err(|e| e.to_string())
}

impl Case for Runc {
    fn name(&self) -> String {
        "runc run of the same, the directory is there".to_owned()
    }

    fn run(&mut self) -> Duration {
        let time = mean(self.runs, |run| self.command(run));
        self.started += self.runs;
        time
    }

    fn syncs(&mut self) -> Option<u64> {
        None
    }
}

/// The mean time of `runs` commands one after the other.
fn mean(runs: u32, command: impl Fn(u32) -> Command) -> Duration {
    let start = Instant::now();
    for run in 0..runs {
        let status = command(run).stdin(Stdio::null()).status();
        assert!(status.is_ok_and(|status| status.success()), "a measured program failed");
    }
    start.elapsed() / runs.max(1)
}
