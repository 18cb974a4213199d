//! A cache that is right: whatever is edited, a build with what was kept makes the same image as one
//! without, and runs nothing whose inputs were there before; a plan says beforehand what runs, and
//! each cause that is told is one that there is. `DRYDOCK_TORTURE=N` does N times as many edits.

mod differential {
    pub(crate) mod edit;
    pub(crate) mod files;
    pub(crate) mod line;
    pub(crate) mod oracle;
    pub(crate) mod stages;
}

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use differential::edit::{Edit, Scene};
use differential::files::{Files, Node};
use differential::line::{HUSH, WEB};
use differential::oracle::{Built, Change, is_step, place};
use differential::stages::{Contexts, Step, TRIGGERS};
use serde_json::{Value, json};
use tests::base_image::BaseImage;
use tests::context::Context;
use tests::drydock::{Drydock, Output, Run};
use tests::http_server::{HttpServer, Page};
use tests::image_view::ImageView;
use tests::progress::End;
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
    images: [PathBuf; 4],
    server: HttpServer,
    dockerfile: PathBuf,
    /// What is on disk.
    scene: Scene,
    /// What steps of earlier builds depended on.
    seen: BTreeSet<String>,
    /// The last build of each target; none after one that failed.
    built: BTreeMap<&'static str, Option<Built>>,
    /// What was said, and is not so.
    wrong: Vec<String>,
    counts: Counts,
}

/// What a build is told to make again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    Nothing,
    /// `--no-cache-filter` with a stage.
    Filter(usize),
    /// `--ttl` with a stage.
    Age(usize),
    /// `--no-cache`.
    All,
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
    /// Of these, those that were told to, again.
    again: usize,
    /// Of those that ran, those whose causes were looked at.
    told: usize,
    /// Steps that a plan could not be sure of.
    maybe: usize,
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
        let images = base_images(&drydock);
        Self {
            drydock,
            context,
            extra,
            images,
            server: HttpServer::start(),
            dockerfile,
            scene,
            seen: BTreeSet::new(),
            built: BTreeMap::new(),
            wrong: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Brings the disk to `scene`.
    fn show(&mut self, scene: Scene) {
        scene.files.write(self.context.path(), Some(&self.scene.files));
        scene.extra.write(self.extra.path(), Some(&self.scene.extra));
        self.scene = scene;
    }

    /// Writes what stands beside the contexts.
    fn write_beside(&self) {
        let Scene { files, extra, stages, beside, .. } = &self.scene;
        let lines = |rules: &[&str]| rules.join("\n");
        let server = self.server.url("");
        let server = server.trim_start_matches("http://");
        fs::write(&self.dockerfile, stages.text().replace(WEB, server.trim_end_matches('/')))
            .unwrap();
        let list = self.drydock.place("Dockerfile.dockerignore");
        if *beside {
            fs::write(list, lines(&files.ignore)).unwrap();
            let _ = fs::remove_file(self.context.join(".dockerignore"));
        } else {
            let _ = fs::remove_file(list);
            self.context.write(".dockerignore", lines(&files.ignore));
        }
        self.extra.write(".dockerignore", lines(&extra.ignore));
        fs::write(self.drydock.place("secret"), format!("secret {}", stages.secret)).unwrap();
        let page = format!("page {}\n", stages.page);
        self.server.put("/f", Page::new(page).etag(&format!("\"{}\"", stages.page)));
    }

    fn run(&self, drydock: &Drydock) -> Run {
        let stages = &self.scene.stages;
        let args = stages.args.iter().map(|(arg, n)| format!("--build-arg={arg}={n}"));
        let args = args.chain(stages.alias.then(|| "--build-arg=BASE=other".to_owned()));
        let layout = self.images[stages.image].display();
        let images =
            ["busybox", "other"].map(|name| format!("{name}=oci-layout://{layout}:latest"));
        let extra = format!("extra={}", self.extra.path().display());
        let secret = format!("id=s,src={}", self.drydock.place("secret").display());
        let to = format!(
            "type=oci,rewrite-timestamp=true,dest={}",
            drydock.place("image.tar").display()
        );
        let run = drydock.bare_build(&self.context).args(["-f", self.dockerfile.to_str().unwrap()]);
        let run = run.args(args).args(["--build-context", &extra]);
        let run = run.args(images.map(|image| format!("--build-context={image}")));
        let run = run.args(["--secret", &secret, "--target", stages.stages[stages.target].name]);
        let run = if self.scene.git { run.arg("--context-modes=git") } else { run };
        run.args(["-o", &to]).env("SOURCE_DATE_EPOCH", "1600000000")
    }

    /// Changes something, and looks at what becomes of it. `earlier` are scenes to go back to, `before`
    /// is the one before this one.
    fn edit(
        &mut self,
        number: u32,
        earlier: &mut Vec<Scene>,
        before: &mut Scene,
        random: &mut Random,
    ) {
        let mut scene = self.scene.clone();
        let edit = scene.edit(random);
        let mut again = Again::Nothing;
        match edit {
            Edit::Back => {
                scene.clone_from(&earlier[random.below(earlier.len() as u64) as usize]);
            }
            Edit::Revert => scene.clone_from(before),
            Edit::Filter | Edit::Age => {
                let needed = scene.stages.needed();
                let stages: Vec<usize> = (0..3).filter(|at| needed[*at]).collect();
                let stage = stages[random.below(stages.len() as u64) as usize];
                again = if edit == Edit::Age { Again::Age(stage) } else { Again::Filter(stage) };
            }
            Edit::Fresh => again = Again::All,
            Edit::Again | Edit::Touch => disturb(edit, &self.context, &scene.files, random),
            _ => {}
        }
        let known = earlier.contains(&scene);
        if scene != self.scene {
            before.clone_from(&self.scene);
        }
        self.show(scene);
        let Counts { idle, ran, failed, .. } = self.counts;
        self.check(&format!("edit {number}: {edit:?}"), again);
        let silent = known
            || matches!(
                edit,
                Edit::Order | Edit::Name | Edit::Comment | Edit::Secret | Edit::Cache | Edit::Alias
            );
        let ended = self.counts.failed == failed;
        if silent && again == Again::Nothing && ended {
            assert_eq!(
                (self.counts.idle, self.counts.ran),
                (idle + 1, ran),
                "edit {number}: {edit:?}"
            );
        }
        self.counts.edits += 1;
        self.counts.back += u32::from(matches!(edit, Edit::Back | Edit::Revert));
        *self.counts.kinds.entry(edit).or_default() += 1;
        if ended {
            earlier.push(self.scene.clone());
        }
        if earlier.len() > REMEMBERED {
            earlier.remove(0);
        }
    }

    /// Builds the scene with what is kept and without; `what` says how it came about.
    fn check(&mut self, what: &str, again: Again) {
        self.write_beside();
        let fresh = Drydock::new();
        let stage = |at: usize| self.scene.stages.stages[at].name;
        let again_args = match again {
            Again::Nothing => Vec::new(),
            Again::Filter(at) => vec![format!("--no-cache-filter={}", stage(at))],
            Again::Age(at) => vec![format!("--ttl={}=0", stage(at))],
            Again::All => vec!["--no-cache".to_owned()],
        };
        let run = self.run(&self.drydock).args(again_args);
        let plan = run.clone().arg("--plan=json").output();
        let (cached, clean) = std::thread::scope(|scope| {
            let clean = scope.spawn(|| self.run(&fresh).arg("--no-cache").output());
            (run.arg("--explain").output(), clean.join().unwrap())
        });
        let told = {
            let Scene { files, stages, .. } = &self.scene;
            let text = stages.text();
            format!("{what}\n{text}\n{files:?}\n{plan}\n{cached}\n{clean}")
        };
        assert!(!told.contains("panicked"), "{told}");
        // What takes the place of something else may be refused, with a cache and without.
        let failed = !cached.status.success();
        assert_eq!(failed, !clean.status.success(), "{told}");
        let Scene { files, extra, stages, git, beside, .. } = &self.scene;
        let contexts = Contexts { main: files, extra, git: *git, beside: *beside };
        let steps = stages.steps(&contexts);
        let forced = forced(again, &steps);
        let ran = steps_run(&cached);
        for step in &ran {
            let known =
                steps.get(step).map(|it| self.seen.contains(&it.key) && !forced.contains(&it.key));
            assert_eq!(known, Some(false), "{step} ran, and had no reason to: {told}");
        }
        assert!(steps_run(&clean).iter().all(|step| steps.contains_key(step)), "{told}");
        if failed {
            assert_eq!(last_error(&cached), last_error(&clean), "{told}");
            self.counts.failed += 1;
            self.built.insert(stages.stages[stages.target].name, None);
            return;
        }
        let places = [&self.drydock, &fresh].map(|drydock| drydock.place("image.tar"));
        assert_same(places.map(|place| ImageView::archive(&place)), &told);
        let keys: BTreeSet<&String> = ran.iter().map(|step| &steps[step].key).collect();
        assert!(forced.iter().all(|key| keys.contains(key)), "not all ran again: {told}");
        self.check_words(steps, &ran, again, &plan, &told);
    }

    /// Whether what was said of a build that went well is so. What is not does not keep later edits
    /// from being looked at.
    fn check_words(
        &mut self,
        steps: BTreeMap<String, Step>,
        ran: &BTreeSet<String>,
        again: Again,
        plan: &Output,
        told: &str,
    ) {
        let Scene { files, extra, stages, beside, .. } = &self.scene;
        let target = stages.stages[stages.target].name;
        let mut wrong = Vec::new();
        let known = |place: &str| steps.get(place).is_some_and(|it| self.seen.contains(&it.key));
        let (maybe, planned) = planned(plan, ran, &known).unwrap_or_else(|why| {
            wrong.push(why);
            (0, BTreeMap::new())
        });
        let built = Built {
            steps,
            image: stages.image,
            page: stages.page,
            ignore: [files.ignore.clone(), extra.ignore.clone()],
            beside: *beside,
        };
        let causes = self.causes(ran);
        for (step, causes) in &causes {
            let right = self.is_right(step, causes, again, &built, target, &planned);
            wrong.extend(right.err().map(|why| format!("{step} ran: {why}")));
        }
        let new = built.steps.values().filter(|it| !self.seen.contains(&it.key)).count();
        let counts = &mut self.counts;
        counts.idle += u32::from(new == 0);
        counts.steps += built.steps.len();
        counts.may += new;
        counts.ran += ran.len();
        counts.again += if again == Again::Nothing { 0 } else { ran.len() };
        counts.told += causes.len();
        counts.maybe += maybe;
        self.seen.extend(built.steps.values().map(|it| it.key.clone()));
        self.built.insert(target, Some(built));
        for why in wrong {
            let _ = writeln!(std::io::stderr(), "WRONG {why}: {told}");
            self.wrong.push(why);
        }
    }

    /// The causes of the steps that ran, as they can be read later.
    fn causes(&self, ran: &BTreeSet<String>) -> BTreeMap<String, Vec<Value>> {
        if ran.is_empty() {
            return BTreeMap::new();
        }
        let output = self.drydock.command("explain").arg("--json").ok();
        assert!(!output.text().contains(HUSH), "{output}");
        let document: Value = serde_json::from_str(&output.text()).unwrap();
        let mut causes = BTreeMap::new();
        for step in document["ran"].as_array().unwrap() {
            let title = step["step"].as_str().unwrap();
            if is_step(title) {
                causes.insert(place(title).unwrap(), step["causes"].as_array().unwrap().clone());
            }
        }
        assert!(causes.keys().eq(ran), "{causes:?} {ran:?}");
        causes
    }

    /// Whether the causes of a step are those that it has.
    fn is_right(
        &self,
        step: &str,
        causes: &[Value],
        again: Again,
        new: &Built,
        target: &str,
        planned: &BTreeMap<String, Vec<Value>>,
    ) -> Result<(), String> {
        if let Some(planned) = planned.get(step)
            && !causes.starts_with(planned)
        {
            return Err(format!("planned for {planned:?}, and not for {causes:?}"));
        }
        if again != Again::Nothing {
            let name = match again {
                Again::All => "no-cache",
                Again::Filter(_) => "no-cache-filter",
                _ => "expired",
            };
            let good = causes.len() == 1 && causes[0]["cause"] == name;
            return if good { Ok(()) } else { Err(format!("{causes:?} are not {name}")) };
        }
        let first = causes.len() == 1 && causes[0]["cause"] == "first-build";
        let all = self.built.values();
        match self.built.get(target) {
            Some(Some(old)) => Change { old, new }.check(step, causes),
            Some(None) => Ok(()),
            // What it is compared with is one of the others.
            None if self.built.is_empty() && first => Ok(()),
            None if all.clone().any(Option::is_none) => Ok(()),
            None => {
                let mut wrong = format!("{causes:?} without an earlier build");
                for old in all.flatten() {
                    match (Change { old, new }).check(step, causes) {
                        Ok(()) => return Ok(()),
                        Err(why) => wrong = why,
                    }
                }
                Err(wrong)
            }
        }
    }
}

/// The keys of the steps that have to run whatever there is.
fn forced(again: Again, steps: &BTreeMap<String, Step>) -> BTreeSet<String> {
    let forced = |step: &&Step| match again {
        Again::Nothing => false,
        Again::Filter(at) | Again::Age(at) => step.stage == at,
        Again::All => true,
    };
    steps.values().filter(forced).map(|step| step.key.clone()).collect()
}

/// Of how many steps the plan was not sure, and the causes that it knew; or what it said of one
/// that was not so. `known` are the steps that an earlier build made.
fn planned(
    plan: &Output,
    ran: &BTreeSet<String>,
    known: &dyn Fn(&str) -> bool,
) -> Result<(usize, BTreeMap<String, Vec<Value>>), String> {
    let text = plan.text();
    if text.contains(HUSH) {
        return Err("the plan tells a secret".to_owned());
    }
    let document: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let (mut maybe, mut causes) = (0, BTreeMap::new());
    let mut left = ran.clone();
    for step in document["steps"].as_array().into_iter().flatten() {
        let title = step["step"].as_str().unwrap_or_default();
        let Some(place) = place(title).filter(|_| is_step(title)) else { continue };
        let runs = left.remove(&place);
        match step["fate"].as_str() {
            Some("cached") if !runs => {}
            Some("run") if runs => {
                causes.insert(place, step["causes"].as_array().cloned().unwrap_or_default());
            }
            // What it is told changed; that a build before the last made just that cannot be seen
            // before the steps that it comes after have run.
            Some("run") if step["after"] != json!([]) && known(&place) => {}
            Some("maybe") => maybe += 1,
            fate => return Err(format!("{title} was planned to be {fate:?}, and ran: {runs}")),
        }
    }
    match left.first() {
        Some(step) => Err(format!("{step} was not planned")),
        None => Ok((maybe, causes)),
    }
}

/// Whether a build with a cache made the same image as one without.
fn assert_same([got, want]: [ImageView; 2], told: &str) {
    assert_eq!(want.root.differences(&got.root), Vec::<String>::new(), "{told}");
    assert_eq!(listing(&want), listing(&got), "{told}");
    assert_eq!(want.config, got.config, "{told}");
    assert_eq!(want.manifest_digest, got.manifest_digest, "{told}");
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

/// The base image, one with other files, one with another environment, and one with triggers.
fn base_images(drydock: &Drydock) -> [PathBuf; 4] {
    let first = BaseImage::layout().to_owned();
    let [run, copy] = TRIGGERS;
    let triggers = format!("ONBUILD ENV T=trigger\nONBUILD {run}\nONBUILD {copy}");
    let [files, env, triggers] = [
        ("files", "RUN echo 2 > /etc/version"),
        ("env", "ENV E=base"),
        ("triggers", triggers.as_str()),
    ]
    .map(|(name, line)| {
        let dest = drydock.place(name);
        let to = format!("type=oci,tar=false,dest={}", dest.display());
        let dockerfile = Context::new(&format!("FROM busybox\n{line}\n"));
        drydock.build(&dockerfile).args(["-t", "base", "-o", &to]).ok();
        dest
    });
    [first, files, env, triggers]
}

fn last_error(output: &Output) -> Option<&str> {
    output.stderr.lines().rfind(|line| line.starts_with("ERROR: "))
}

/// The steps of the Dockerfile that ran, as `one 2`.
fn steps_run(output: &Output) -> BTreeSet<String> {
    let steps = output.steps().into_iter();
    let ran = steps.filter(|step| step.end == End::Done && is_step(&step.name));
    ran.filter_map(|step| place(&step.name)).collect()
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
    bench.check("at first", Again::Nothing);
    let mut earlier = vec![bench.scene.clone()];
    let mut before = bench.scene.clone();
    let factor = std::env::var("DRYDOCK_TORTURE").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    for number in 0..EDITS * factor {
        bench.edit(number, &mut earlier, &mut before, &mut random);
    }
    let counts = &bench.counts;
    let _ = writeln!(std::io::stderr(), "every edit builds as without a cache: {counts:?}");
    assert_eq!(bench.wrong, Vec::<String>::new());
    // A model that allows everything, or nothing, says nothing.
    assert!(
        counts.may < counts.steps && counts.ran > 0 && counts.ran - counts.again <= counts.may,
        "{counts:?}"
    );
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
