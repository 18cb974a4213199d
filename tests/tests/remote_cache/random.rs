//! Random projects and edits: a fresh machine with the cache of the last version does what the
//! machine does that made it, and no more.

use std::collections::BTreeSet;
use std::fs;

use tests::context::Context;
use tests::drydock::Drydock;
use tests::random::Random;
use tests::require_root;

use super::place::*;

/// Projects, and edits of each.
const SIZE: (u64, usize) = (4, 3);
/// Files of the context, and files that each stage begins with.
const FILES: u64 = 4;

/// One instruction; numbers are files of the context, of the stage, or words.
#[derive(Clone, Copy, Debug)]
enum Step {
    Write(u64),
    Join(u64, u64),
    Copy(u64),
    Link(u64),
    From(u64, u64),
    Bind(u64, u64),
    Remove,
    Dir(u64),
    Env(u64),
}

struct Project {
    random: Random,
    stages: Vec<Vec<Step>>,
    files: Vec<u64>,
}

impl Project {
    fn new(seed: u64) -> Self {
        let mut project = Self { random: Random::new(seed), stages: Vec::new(), files: vec![0; 4] };
        for stage in 0..2 + project.random.below(2) {
            let count = 2 + project.random.below(4);
            let steps = (0..count).map(|_| project.step(stage)).collect();
            project.stages.push(steps);
        }
        project
    }

    /// A step of the stage `stage`.
    fn step(&mut self, stage: u64) -> Step {
        let random = &mut self.random;
        let (a, b) = (random.below(FILES), random.below(FILES));
        match random.below(if stage == 0 { 7 } else { 11 }) {
            0 => Step::Write(random.below(100)),
            1 => Step::Join(a, b),
            2 => Step::Copy(a),
            3 => Step::Link(a),
            4 => Step::Remove,
            5 => Step::Dir(a),
            6 => Step::Env(a),
            7 | 8 => Step::From(random.below(stage), a),
            _ => Step::Bind(random.below(stage), a),
        }
    }

    /// Changes something.
    fn edit(&mut self) {
        let file = self.random.below(FILES) as usize;
        let stage = self.random.below(self.stages.len() as u64);
        let step = self.step(stage);
        let steps = &mut self.stages[stage as usize];
        let at = self.random.below(steps.len() as u64) as usize;
        match self.random.below(4) {
            0 => self.files[file] += 1,
            1 => steps[at] = step,
            2 => steps.insert(at, step),
            _ => {
                steps.remove(at);
                steps.push(step);
            }
        }
    }

    /// A clone of it.
    fn context(&self) -> Context {
        let mut text = String::new();
        for (at, steps) in self.stages.iter().enumerate() {
            text.push_str(&format!(
                "FROM busybox AS s{at}\nRUN --network=none echo s{at} > /f0; echo 1 > /f1; echo 2 > /f2; echo 3 > /f3\n"
            ));
            steps.iter().enumerate().for_each(|(n, step)| text.push_str(&line(n, *step)));
        }
        let context = Context::new(&text);
        let files = self.files.iter().enumerate();
        files.fold(context, |it, (at, n)| it.file(&format!("c{at}"), format!("{at} {n}\n")))
    }
}

fn line(n: usize, step: Step) -> String {
    let run = "RUN --network=none";
    match step {
        Step::Write(word) => format!("{run} echo {word} > /w{n}\n"),
        Step::Join(a, b) => format!("{run} cat /f{a} /f{b} > /f{b}.new && mv /f{b}.new /f{b}\n"),
        Step::Copy(file) => format!("COPY c{file} /copied/\n"),
        Step::Link(file) => format!("COPY --link c{file} /linked{n}/\n"),
        Step::From(stage, file) => format!("COPY --from=s{stage} /f{file} /from{n}/\n"),
        Step::Bind(stage, file) => format!(
            "{run} --mount=type=bind,from=s{stage},source=/f{file},target=/m cat /m > /bound{n}\n"
        ),
        Step::Remove => format!("{run} rm -rf /w0 /w1 /copied /linked0 /from1\n"),
        Step::Dir(a) => format!("WORKDIR /dir{a}\n"),
        Step::Env(a) => format!("ENV A={a}\n"),
    }
}

#[test]
fn privileged_random_projects_hit_elsewhere_what_they_hit_at_home() {
    require_root!();
    let factor = std::env::var("DRYDOCK_TORTURE").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let mut counts = (0, 0, 0);
    for seed in 0..SIZE.0 * factor {
        let mut project = Project::new(seed);
        for round in 0..SIZE.1 {
            // A machine that knows one version, as its cache does.
            let home = Drydock::new();
            let dir = home.place("cache");
            let to = to_dir(&dir, ",mode=max");
            home.build(&project.context()).args(["--cache-to", &to]).ok();
            project.edit();
            let context = project.context();
            let (machine, run) = fresh(&context, &from_dir(&dir));
            let (there, told) = run.image_and_output();
            assert_no_complaint(&told);
            // Half of the layers are lost: more is run, and the same comes out.
            let lossy = machine.place("lossy");
            lose_some(&dir, &lossy, &mut project.random);
            let (_machine, run) = fresh(&context, &from_dir(&lossy));
            let (lossy, more) = run.image_and_output();
            let (here, output) = home.build(&context).image_and_output();
            let names = |output: &tests::drydock::Output| -> BTreeSet<String> {
                output.executed().into_iter().collect()
            };
            let case = format!("seed {seed}, round {round}:\n{told}\n{output}");
            assert_eq!(names(&told), names(&output), "{case}");
            assert_eq!(there.root.differences(&here.root), Vec::<String>::new(), "{case}");
            assert_eq!(lossy.root.differences(&here.root), Vec::<String>::new(), "{more}");
            assert!(names(&more).is_superset(&names(&output)), "{case}\n{more}");
            counts.0 += 1;
            counts.1 += names(&output).len();
            counts.2 += names(&more).len();
        }
    }
    println!(
        "{} edits: {} steps ran, with half of the layers lost {}",
        counts.0, counts.1, counts.2
    );
    assert!(counts.2 > counts.1);
}

/// A copy of a cache without half of its layers.
fn lose_some(from: &std::path::Path, to: &std::path::Path, random: &mut Random) {
    fs::create_dir_all(to.join("blobs/sha256")).unwrap();
    let layers: BTreeSet<_> = Cache::open(from).layers().into_iter().map(|it| it.digest).collect();
    for name in ["oci-layout", "index.json"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    let mut names: Vec<_> = fs::read_dir(from.join("blobs/sha256")).unwrap().flatten().collect();
    names.sort_by_key(fs::DirEntry::file_name);
    for entry in names {
        let name = entry.file_name().to_string_lossy().into_owned();
        let layer = layers.iter().any(|digest| digest.hex() == name.as_str());
        if !layer || random.below(2) == 0 {
            fs::copy(entry.path(), to.join("blobs/sha256").join(name)).unwrap();
        }
    }
}
