//! A cache that is right: whatever is edited, a build with what was kept makes the same image as one
//! without, and runs nothing whose inputs were there before. `DRYDOCK_TORTURE=N` does N times as
//! many edits.

mod differential {
    pub(crate) mod edit;
    pub(crate) mod files;
    pub(crate) mod stages;
}

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use differential::edit::{Edit, Scene};
use differential::files::{Files, Node};
use differential::stages::Contexts;
use tests::base_image::BaseImage;
use tests::context::Context;
use tests::drydock::{Drydock, Output, Run};
use tests::image_view::ImageView;
use tests::random::Random;
use tests::require_root;
use tests::tree::Entry;

/// The seed of the edits that every run of the tests makes.
const FEW: u64 = 7;

/// How many edits there are in `make test`.
const EDITS: u32 = 40;
/// How many scenes one can go back to.
const REMEMBERED: usize = 8;

/// A scene on disk, and the state directory that sees all of them.
struct Bench {
    drydock: Drydock,
    context: Context,
    extra: Context,
    /// OCI layouts of the base images.
    images: [PathBuf; 3],
    dockerfile: PathBuf,
    /// What is on disk.
    scene: Scene,
    /// What steps of earlier builds depended on.
    seen: BTreeSet<String>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    edits: u32,
    /// Edits after which nothing may run.
    idle: u32,
    /// Edits that led back to a scene that was built before.
    back: u32,
    /// Builds that failed, both ways alike. The others are counted below.
    failed: u32,
    /// Steps of all builds.
    steps: usize,
    /// Those that may run.
    may: usize,
    /// Those that ran.
    ran: usize,
    kinds: BTreeMap<Edit, u32>,
}

impl Bench {
    fn new() -> Self {
        let drydock = Drydock::new();
        let [context, extra] = [Context::empty(), Context::empty()];
        let scene = Scene::new();
        scene.files.write(context.path(), None);
        scene.extra.write(extra.path(), None);
        let dockerfile = drydock.place("Dockerfile");
        let (seen, counts) = (BTreeSet::new(), Counts::default());
        let images = base_images(&drydock);
        Self { drydock, context, extra, images, dockerfile, scene, seen, counts }
    }

    /// Brings the disk to `scene`.
    fn show(&mut self, scene: Scene) {
        scene.files.write(self.context.path(), Some(&self.scene.files));
        scene.extra.write(self.extra.path(), Some(&self.scene.extra));
        self.scene = scene;
    }

    /// Writes what stands beside the contexts.
    fn write_beside(&self) {
        let Scene { files, extra, stages, .. } = &self.scene;
        let lines = |rules: &[&str]| rules.join("\n");
        fs::write(&self.dockerfile, stages.text()).unwrap();
        fs::write(self.drydock.place("Dockerfile.dockerignore"), lines(&files.ignore)).unwrap();
        self.extra.write(".dockerignore", lines(&extra.ignore));
        fs::write(self.drydock.place("secret"), format!("secret {}", stages.secret)).unwrap();
    }

    fn run(&self, drydock: &Drydock) -> Run {
        let stages = &self.scene.stages;
        let args = stages.args.iter().map(|(arg, n)| format!("--build-arg={arg}={n}"));
        let image = format!("busybox=oci-layout://{}:latest", self.images[stages.image].display());
        let extra = format!("extra={}", self.extra.path().display());
        let secret = format!("id=s,src={}", self.drydock.place("secret").display());
        let to = format!(
            "type=oci,rewrite-timestamp=true,dest={}",
            drydock.place("image.tar").display()
        );
        let run = drydock.bare_build(&self.context).args(["-f", self.dockerfile.to_str().unwrap()]);
        let run = run.args(args).args(["--build-context", &image, "--build-context", &extra]);
        let run = run.args(["--secret", &secret, "--target", stages.stages[stages.target].name]);
        let run = if self.scene.git { run.arg("--context-modes=git") } else { run };
        run.args(["-o", &to]).env("SOURCE_DATE_EPOCH", "1600000000")
    }

    /// Builds the scene with what is kept and without; `what` says how it came about.
    fn check(&mut self, what: &str) {
        self.write_beside();
        let fresh = Drydock::new();
        let (cached, clean) = std::thread::scope(|scope| {
            let clean = scope.spawn(|| self.run(&fresh).arg("--no-cache").output());
            (self.run(&self.drydock).output(), clean.join().unwrap())
        });
        let told = || {
            format!(
                "{what}\n{}\n{}{cached}\n{clean}",
                self.scene.stages.text(),
                self.scene.files.at(&["."], false)
            )
        };
        // What takes the place of something else may be refused, with a cache and without.
        let failed = !cached.status.success();
        assert_eq!(failed, !clean.status.success(), "{}", told());
        if failed {
            assert_eq!(last_error(&cached), last_error(&clean), "{}", told());
        } else {
            let places = [&self.drydock, &fresh].map(|drydock| drydock.place("image.tar"));
            let [got, want] = places.map(|place| ImageView::archive(&place));
            assert_eq!(want.root.differences(&got.root), Vec::<String>::new(), "{}", told());
            assert_eq!(listing(&want), listing(&got), "{}", told());
            assert_eq!(want.config, got.config, "{}", told());
            assert_eq!(want.manifest_digest, got.manifest_digest, "{}", told());
        }
        let Scene { files, extra, stages, git, .. } = &self.scene;
        let keys = stages.keys(&Contexts { main: files, extra, git: *git });
        let ran = steps_run(&cached);
        for step in &ran {
            let known = keys.get(step).map(|key| self.seen.contains(key));
            assert_eq!(known, Some(false), "{step} ran, and had no reason to: {}", told());
        }
        assert!(steps_run(&clean).iter().all(|step| keys.contains_key(step)), "{}", told());
        if failed {
            self.counts.failed += 1;
            return;
        }
        let new = keys.values().filter(|key| !self.seen.contains(*key)).count();
        self.counts.idle += u32::from(new == 0);
        self.counts.steps += keys.len();
        self.counts.may += new;
        self.counts.ran += ran.len();
        self.seen.extend(keys.into_values());
    }
}

/// What is in each layer, with its times.
fn listing(image: &ImageView) -> Vec<String> {
    let above = image.layers.iter().enumerate().skip(1);
    let lines = above.flat_map(|(number, layer)| {
        let line = move |e: &Entry| format!("{number} {} {} {}", e.name, e.mtime, e.summary());
        layer.entries.iter().map(line)
    });
    lines.collect()
}

/// The base image, one with other files, and one with another environment.
fn base_images(drydock: &Drydock) -> [PathBuf; 3] {
    let first = BaseImage::layout().to_owned();
    let [files, env] =
        [("files", "RUN echo 2 > /etc/version"), ("env", "ENV E=base")].map(|(name, line)| {
            let dest = drydock.place(name);
            let to = format!("type=oci,tar=false,dest={}", dest.display());
            let dockerfile = Context::new(&format!("FROM busybox\n{line}\n"));
            drydock.build(&dockerfile).args(["-t", "base", "-o", &to]).ok();
            dest
        });
    [first, files, env]
}

fn last_error(output: &Output) -> Option<&str> {
    output.stderr.lines().rfind(|line| line.starts_with("ERROR: "))
}

/// The steps of the Dockerfile that ran, as `one 2`.
fn steps_run(output: &Output) -> Vec<String> {
    let place = |name: String| {
        let (stage, rest) = name[1..].split_once(' ')?;
        let (number, _) = rest.trim_start().split_once('/')?;
        Some(format!("{stage} {number}"))
    };
    output.executed().into_iter().filter_map(place).collect()
}

/// Changes a file in ways that do not count.
fn disturb(edit: Edit, context: &Context, files: &Files, random: &mut Random) {
    let all: Vec<_> = files.names.iter().filter(|(_, n)| matches!(n, Node::File(_))).collect();
    let (name, _) = all[random.below(all.len() as u64) as usize];
    let path = context.join(name);
    if edit == Edit::Touch {
        let time = SystemTime::now() - Duration::from_secs(random.below(1000));
        File::open(&path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
        return;
    }
    // All names of an inode stay together.
    let alone = all.iter().filter(|(_, node)| *node == &files.names[name]).count() == 1;
    if alone {
        let other = context.join("new");
        fs::copy(&path, &other).unwrap();
        fs::rename(&other, &path).unwrap();
    }
}

#[test]
fn privileged_every_edit_builds_as_without_a_cache() {
    require_root!();
    let named = ["DRYDOCK_TORTURE", "DRYDOCK_TEST_SEED"].map(|name| std::env::var(name).is_ok());
    // A few edits are always the same ones, so that a run says something about a change.
    let mut random = match named.contains(&true) {
        true => Random::announced("every edit builds as without a cache"),
        false => Random::new(FEW),
    };
    let mut bench = Bench::new();
    bench.check("at first");
    let mut earlier = vec![bench.scene.clone()];
    let factor = std::env::var("DRYDOCK_TORTURE").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    for number in 0..EDITS * factor {
        let mut scene = bench.scene.clone();
        let edit = scene.edit(&mut random);
        match edit {
            Edit::Back => {
                scene.clone_from(&earlier[random.below(earlier.len() as u64) as usize]);
            }
            Edit::Again | Edit::Touch => disturb(edit, &bench.context, &scene.files, &mut random),
            _ => {}
        }
        let known = earlier.contains(&scene);
        bench.show(scene);
        let Counts { idle, ran, failed, .. } = bench.counts;
        bench.check(&format!("edit {number}: {edit:?}"));
        let silent = known
            || matches!(
                edit,
                Edit::Order | Edit::Name | Edit::Comment | Edit::Secret | Edit::Cache
            );
        if silent && bench.counts.failed == failed {
            assert_eq!(
                (bench.counts.idle, bench.counts.ran),
                (idle + 1, ran),
                "edit {number}: {edit:?}"
            );
        }
        bench.counts.edits += 1;
        bench.counts.back += u32::from(edit == Edit::Back);
        *bench.counts.kinds.entry(edit).or_default() += 1;
        if bench.counts.failed == failed {
            earlier.push(bench.scene.clone());
        }
        if earlier.len() > REMEMBERED {
            earlier.remove(0);
        }
    }
    let counts = &bench.counts;
    let _ = writeln!(std::io::stderr(), "every edit builds as without a cache: {counts:?}");
    // A model that allows everything, or nothing, says nothing.
    assert!(counts.may < counts.steps && counts.ran > 0 && counts.ran <= counts.may, "{counts:?}");
    assert!(counts.failed < counts.edits / 4, "{counts:?}");
    assert!(counts.idle > counts.edits / 10 && counts.idle < counts.edits, "{counts:?}");
}

#[test]
fn privileged_times_of_copied_files_do_not_decide_what_is_in_a_layer() {
    require_root!();
    let build = |drydock: &Drydock, context: &Context| {
        let dest = drydock.place("image.tar");
        let to = format!("type=oci,rewrite-timestamp=true,dest={}", dest.display());
        let run = drydock.build(context).args(["-o", &to]).env("SOURCE_DATE_EPOCH", "1600000000");
        run.ok();
        ImageView::archive(&dest)
    };
    let drydock = Drydock::new();
    let context = Context::new("FROM scratch\nCOPY in /d/\n").file("in/f", "1").file("in/g/h", "2");
    build(&drydock, &context);
    // The first copy is known, with older times than the second one has.
    context.set_time("in/f", SystemTime::UNIX_EPOCH + Duration::from_secs(1000));
    context.set_time("in/g", SystemTime::UNIX_EPOCH + Duration::from_secs(2000));
    context.write("Dockerfile", "FROM scratch\nCOPY in /d/\nCOPY in /d/\n");
    let (got, want) = (build(&drydock, &context), build(&Drydock::new(), &context));
    assert_eq!(listing(&want), listing(&got));
    assert_eq!(want.manifest_digest, got.manifest_digest);
    assert_eq!(got.layers[1].names(), ["d", "d/f", "d/g", "d/g/h"]);
}
