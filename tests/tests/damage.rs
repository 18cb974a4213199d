//! Damage to every kind of file of the state directory: a flipped bit, a cut, an emptied and a
//! missing file. It is found, told in a line, and costs a rebuild of that part only: never a wrong
//! image, never a failed build, never a state directory that has to be removed by hand.
//! `DRYDOCK_TORTURE=N` damages N times as many files of each kind.

mod damage {
    pub(crate) mod table;
}

use std::collections::BTreeMap;
use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use damage::table::{KINDS, Kind, MAY_BE_NONE, NEVER_ALONE, below};
use tests::context::Context;
use tests::drydock::{Drydock, Output, Run};
use tests::git_server::GitServer;
use tests::http_server::{HttpServer, Page};
use tests::image_view::ImageView;
use tests::random::Random;
use tests::require_root;

/// The seed of the bits and bytes in `make test`.
const SEED: u64 = 20;

/// What is built: two stages, of which every step can be told by a word.
struct Sample {
    context: Context,
    git: GitServer,
    _http: HttpServer,
}

impl Sample {
    fn new() -> Self {
        let (git, http) = (GitServer::start(), HttpServer::start());
        git.repository("r").write("dir/file", "a file of a repository\n").commit("all");
        http.put("/page", Page::new("a page").etag("\"1\""));
        let context = Context::new(&format!(
            "FROM busybox AS made\nRUN mkdir /m && echo first > /m/first\nCOPY a sub /m/\n\
             RUN cat /m/first /m/a > /m/second && mkdir /m/deep && echo deep > /m/deep/file\n\
             FROM busybox\nWORKDIR /work\nCOPY --from=made /m/second /m/second\nCOPY --link b /b\n\
             ADD {} /page\nADD {} /src\n\
             RUN --mount=type=cache,target=/k cat /b /m/second > /third && echo k >> /k/k\n",
            http.url("/page"),
            git.url("r"),
        ));
        let context = context
            .file("a", "A".repeat(5000))
            .file("b", "B".repeat(5000))
            .file("sub/one", "1")
            .settle();
        Self { context, git, _http: http }
    }
}

fn in_snapshots(state: &Path, file: &str) -> Vec<PathBuf> {
    let dirs = fs::read_dir(state.join("snapshots-v1")).unwrap().map(|e| e.unwrap().path());
    // Those that were found damaged do not count any more.
    let mut files: Vec<PathBuf> = dirs
        .filter(|dir| dir.join("meta").exists())
        .map(|dir| dir.join(file))
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

/// Leaves files of all kinds, and the sample's image.
fn enrich(drydock: &Drydock, context: &Context) {
    let text = "FROM busybox\nRUN --mount=type=cache,target=/c,sharing=locked,commit=on-success \\\n\
                echo c > /c/c\n";
    build(drydock, &Context::new(text)).ok();
    let to = format!("type=local,dest={}", drydock.place("cache").display());
    build(drydock, &Context::new(text)).args(["--cache-to", &to, "--max-cache=10g"]).ok();
    drydock.build(&Context::new("FROM busybox\nRUN echo told; exit 3\n")).fails();
    drydock.build(&Context::new("FROM busybox\nRUN echo away > /away\n")).ok();
    drydock.command("prune").arg("-f").ok();
    image(drydock, context);
    build(drydock, context).args(["--max-cache=10g", "--no-cache"]).ok();
    for command in ["verify", "du"] {
        drydock.command(command).ok();
    }
    image(drydock, context);
}

/// What happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum How {
    Flipped,
    Cut,
    Emptied,
    Removed,
}

impl How {
    fn happen(self, path: &Path, random: &mut Random) {
        if let Ok(target) = fs::read_link(path) {
            let mut text = target.into_os_string().into_encoded_bytes();
            fs::remove_file(path).unwrap();
            match self {
                Self::Removed => return,
                Self::Flipped => text[0] ^= 1,
                Self::Cut | Self::Emptied => text.truncate(1),
            }
            return symlink(String::from_utf8(text).unwrap(), path).unwrap();
        }
        let mut bytes = fs::read(path).unwrap();
        match self {
            Self::Flipped if !bytes.is_empty() => {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << random.below(8);
            }
            Self::Cut => bytes.truncate(bytes.len() / 2),
            Self::Removed => return fs::remove_file(path).unwrap(),
            Self::Flipped | Self::Emptied => bytes.clear(),
        }
        // In place: a file may be linked.
        fs::write(path, bytes).unwrap();
    }
}

fn build(drydock: &Drydock, context: &Context) -> Run {
    let to =
        format!("type=oci,rewrite-timestamp=true,dest={}", drydock.place("image.tar").display());
    let run = drydock.build(context).args(["-t", "app", "-o", &to]);
    run.env("SOURCE_DATE_EPOCH", "1600000000")
}

fn image(drydock: &Drydock, context: &Context) -> (ImageView, Output) {
    let output = build(drydock, context).ok();
    (ImageView::archive(&drydock.place("image.tar")), output)
}

fn same(got: &ImageView, want: &ImageView, what: &str) {
    assert_eq!(want.root.differences(&got.root), Vec::<String>::new(), "{what}");
    assert_eq!(want.config_digest, got.config_digest, "{what}");
}

#[derive(Debug, Default)]
struct Counts {
    files: usize,
    told: usize,
    rebuilds: usize,
    steps: usize,
}

/// Damages a file, builds twice, and looks at what that did and told.
fn check(
    kind: &Kind,
    how: How,
    file: &Path,
    (drydock, context, want): (&Drydock, &Context, &ImageView),
    random: &mut Random,
) -> (bool, usize) {
    let what = format!("{}: {how:?}: {}", kind.name, file.display());
    let state = drydock.state();
    if kind.without_blobs {
        below(&state.join("blobs-v1")).iter().for_each(|blob| fs::remove_file(blob).unwrap());
    }
    how.happen(file, random);
    let (got, output) = image(drydock, context);
    assert!(!output.stderr.contains("panic"), "{what}: {output}");
    same(&got, want, &what);
    let ran = output.executed();
    let wrong: Vec<&String> =
        ran.iter().filter(|step| !kind.may_run.iter().any(|word| step.contains(word))).collect();
    assert!(wrong.is_empty(), "{what}: run again: {wrong:?}\n{output}");
    let told = output.stderr.contains("WARN") || output.stderr.contains("damaged");
    // What is missing is as if it had never been there.
    let missing = how == How::Removed && !NEVER_ALONE.contains(&kind.name);
    let quiet = missing || ran.is_empty() && (!kind.told || how == How::Emptied);
    assert!(told || quiet, "{what}: nothing told: {output}");
    // All is as it was.
    let (got, next) = image(drydock, context);
    same(&got, want, &what);
    assert_eq!(next.executed(), Vec::<String>::new(), "{what}: {output}\nthen: {next}");
    for word in ["WARN", "damaged", "ERROR"] {
        assert!(!next.stderr.contains(word), "{what}: {word} also in the build after: {next}");
    }
    drydock.command("du").ok();
    let inspect = drydock.command("inspect").arg("app").ok();
    assert!(!inspect.stderr.contains("WARN"), "{what}: {inspect}");
    (told, ran.len())
}

#[test]
fn privileged_damage_costs_a_rebuild_of_that_part() {
    require_root!();
    let factor = std::env::var("DRYDOCK_TORTURE").ok().and_then(|n| n.parse().ok());
    let mut random = match factor {
        Some(_) => Random::announced("damage"),
        None => Random::new(SEED),
    };
    let sample = Sample::new();
    let (mut drydock, context) = (Drydock::new(), &sample.context);
    let want = image(&drydock, context).0;
    let mut counts: BTreeMap<&str, Counts> = BTreeMap::new();
    for (at, kind) in KINDS.iter().enumerate() {
        // Of a kind two things are enough here; all of them happen to other kinds.
        let mut ways = vec![How::Flipped, How::Cut, How::Emptied, How::Removed];
        if factor.is_none() {
            ways.rotate_left(at % 4);
            ways = vec![ways[0], ways[2]];
        }
        for how in ways {
            for _ in 0..factor.unwrap_or(1) {
                if kind.name.starts_with("snapshot") {
                    // Without what was given up before.
                    drydock = Drydock::new();
                    image(&drydock, context);
                }
                let mut files = kind.files(drydock.state());
                if files.is_empty() {
                    enrich(&drydock, context);
                    files = kind.files(drydock.state());
                }
                assert!(!files.is_empty() || MAY_BE_NONE.contains(&kind.name), "{}", kind.name);
                if files.is_empty() {
                    continue;
                }
                let file = files.swap_remove(random.below(files.len() as u64) as usize);
                let bench = (&drydock, context, &want);
                let (told, ran) = check(kind, how, &file, bench, &mut random);
                let count = counts.entry(kind.name).or_default();
                count.files += 1;
                count.told += usize::from(told);
                count.rebuilds += usize::from(ran > 0);
                count.steps += ran;
            }
        }
    }
    drydock.command("prune").args(["-a", "-f"]).ok();
    for (kind, count) in counts {
        eprintln!("damage: {kind}: {count:?}");
    }
}

#[test]
fn privileged_every_file_is_of_a_kind() {
    require_root!();
    let sample = Sample::new();
    let drydock = Drydock::new();
    enrich(&drydock, &sample.context);
    let state = drydock.state();
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for file in below(state) {
        let path = file.strip_prefix(state).unwrap();
        let mut kinds = KINDS.iter().filter(|kind| kind.covers(path)).peekable();
        assert!(kinds.peek().is_some(), "no kind of the table covers {}", path.display());
        kinds.for_each(|kind| *found.entry(kind.name).or_default() += 1);
    }
    for name in ["ledger", "images without a name", "what was evicted", "git repository", "locks"] {
        assert!(found.contains_key(name), "no {name}: {found:?}");
    }
}

#[test]
fn privileged_a_damaged_repository_gives_the_right_files() {
    require_root!();
    let sample = Sample::new();
    let (drydock, mut random) = (Drydock::new(), Random::new(SEED));
    let url = sample.git.url("r");
    let add = |at: usize| {
        let context = Context::new(&format!("FROM scratch\nADD {url} /{at}\n"));
        let (image, output) = drydock.bare_build(&context).image_and_output();
        assert_eq!(image.text(&format!("{at}/dir/file")), "a file of a repository\n", "{output}");
    };
    add(0);
    let kind = KINDS.iter().find(|kind| kind.name == "git repository").unwrap();
    let count = kind.files(drydock.state()).len();
    assert!(count > 5, "{count} files");
    for at in 0..count {
        for (n, how) in [How::Flipped, How::Cut, How::Removed].into_iter().enumerate() {
            let files = kind.files(drydock.state());
            if let Some(file) = files.get(at) {
                how.happen(file, &mut random);
                add(1 + at * 3 + n);
            }
        }
    }
}

#[test]
fn privileged_a_damaged_configuration_is_an_error() {
    require_root!();
    let (drydock, context) =
        (Drydock::new(), Context::new("FROM scratch\nCOPY a /\n").file("a", "A"));
    drydock.build(&context).ok();
    let config = drydock.state().join("config.json");
    let text = r#"{"maxCache": "10g"}"#;
    for bad in [&text[..10], "\0", r#"{"maxCacle": "10g"}"#, r#"{"maxCache": "10q"}"#] {
        fs::write(&config, bad).unwrap();
        let output = drydock.build(&context).fails();
        assert!(output.stderr.contains("config.json"), "{output}");
        assert_eq!(fs::read_to_string(&config).unwrap(), bad, "people wrote it");
    }
    fs::write(&config, text).unwrap();
    assert_eq!(drydock.build(&context).ok().executed(), Vec::<String>::new());
}

#[test]
fn privileged_verify_finds_what_nobody_reads() {
    require_root!();
    let sample = Sample::new();
    let (drydock, context) = (Drydock::new(), &sample.context);
    let want = image(&drydock, context).0;
    let state = drydock.state().to_owned();
    let inside = |path: &str| in_snapshots(&state, path).remove(0);
    type Damage<'a> = (&'a str, &'a dyn Fn());
    let mode =
        |path: PathBuf, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let first = || fs::write(inside("fs/m/first"), "FIRST\n").unwrap();
    let deep = || fs::remove_dir_all(inside("fs/m/deep/file").parent().unwrap()).unwrap();
    let setuid = || mode(inside("fs/m/second"), 0o4755);
    let base = || fs::write(inside("fs/etc/passwd"), "root::0:0::/:/bin/sh\n").unwrap();
    let blob = || How::Flipped.happen(&below(&state.join("blobs-v1"))[0], &mut Random::new(SEED));
    let manifest = || fs::remove_file(inside("manifest")).unwrap();
    let meta = || fs::write(inside("meta"), "{}").unwrap();
    let damages: [Damage; 7] = [
        ("content", &first),
        ("directory", &deep),
        ("mode", &setuid),
        ("base", &base),
        ("blob", &blob),
        ("manifest", &manifest),
        ("meta", &meta),
    ];
    for (what, damage) in damages {
        let good = drydock.command("verify").ok();
        assert!(good.text().ends_with("are good"), "{what}: {good}");
        damage();
        let found = drydock.command("verify").fails();
        assert!(found.stderr.contains("damaged"), "{what}: {found}");
        drydock.command("verify").ok();
        let (got, output) = image(&drydock, context);
        same(&got, &want, what);
        assert!(!output.stderr.contains("WARN"), "{what}: {output}");
        let (_, next) = image(&drydock, context);
        assert_eq!(next.executed(), Vec::<String>::new(), "{what}: {output}\nthen: {next}");
    }
}
