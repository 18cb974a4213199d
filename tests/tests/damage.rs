//! Damage to every kind of file of the state directory: a flipped bit, a cut, an emptied and a
//! missing file. It is found, told in a line, and costs a rebuild of that part only: never a wrong
//! image, never a failed build, never a state directory that has to be removed by hand.
//! `DRYDOCK_TORTURE=N` damages N times as many files of each kind.

use std::collections::BTreeMap;
use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tests::context::Context;
use tests::drydock::{Drydock, Output, Run};
use tests::image_view::ImageView;
use tests::random::Random;
use tests::require_root;

/// The seed of the bits and bytes in `make test`.
const SEED: u64 = 20;

/// Two stages, of which every step can be told by a word.
fn sample() -> Context {
    Context::new(
        "FROM busybox AS made\nRUN mkdir /m && echo first > /m/first\nCOPY a sub /m/\n\
         RUN cat /m/first /m/a > /m/second && mkdir /m/deep && echo deep > /m/deep/file\n\
         FROM busybox\nWORKDIR /work\nCOPY --from=made /m/second /m/second\nCOPY --link b /b\n\
         RUN --mount=type=cache,target=/k cat /b /m/second > /third && echo k >> /k/k\n",
    )
    .file("a", "A".repeat(5000))
    .file("b", "B".repeat(5000))
    .file("sub/one", "1")
    .settle()
}

/// What is damaged, and what that may cost.
struct Kind {
    name: &'static str,
    /// The files, in the state directory of a finished build.
    files: fn(&Path) -> Vec<PathBuf>,
    /// Words of the steps that may run again. Others must not.
    may_run: &'static [&'static str],
    /// Whether a line has to tell.
    told: bool,
    /// Whether layers are written anew: else the blobs of all are there and nobody reads what
    /// they were made of.
    without_blobs: bool,
}

const ALL: &[&str] = &["first", "COPY a sub", "deep", "WORKDIR", "--from=made", "--link", "third"];
/// The steps after the second one of the first stage, and what is copied from there.
const UPPER: &[&str] = &["deep", "--from=made", "third"];

const KINDS: &[Kind] = &[
    Kind {
        name: "format",
        files: |s| vec![s.join("format")],
        may_run: &[],
        told: true,
        without_blobs: false,
    },
    Kind {
        name: "generation",
        files: |s| vec![s.join("generation")],
        may_run: &[],
        told: false,
        without_blobs: false,
    },
    Kind {
        name: "watermark",
        files: |s| vec![s.join("watermark")],
        may_run: &[],
        told: false,
        without_blobs: false,
    },
    Kind {
        name: "kind of snapshots",
        files: |s| vec![s.join("snapshots-v1/kind")],
        may_run: ALL,
        told: true,
        without_blobs: false,
    },
    Kind {
        name: "records: CURRENT",
        files: |s| vec![s.join("records-v1/CURRENT")],
        may_run: ALL,
        told: true,
        without_blobs: false,
    },
    Kind {
        name: "records: MANIFEST",
        files: |s| named(&s.join("records-v1"), "MANIFEST"),
        may_run: ALL,
        told: false,
        without_blobs: false,
    },
    Kind {
        name: "records: tables",
        files: |s| named(&s.join("records-v1"), ".sst"),
        may_run: ALL,
        told: false,
        without_blobs: false,
    },
    Kind {
        name: "records: log",
        files: |s| named(&s.join("records-v1"), ".log"),
        may_run: ALL,
        told: false,
        without_blobs: false,
    },
    Kind {
        name: "published record",
        files: |s| published(s),
        may_run: &[],
        told: true,
        without_blobs: false,
    },
    Kind {
        name: "blobs",
        files: |s| below(&s.join("blobs-v1/sha256")),
        may_run: &[],
        told: false,
        without_blobs: false,
    },
    Kind {
        name: "image names",
        files: |s| named(&s.join("images-v1"), "name-"),
        may_run: &[],
        told: true,
        without_blobs: false,
    },
    Kind {
        name: "pulled images",
        files: |s| named(&s.join("images-v1"), "digest-"),
        may_run: &[],
        told: false,
        without_blobs: false,
    },
    Kind {
        name: "context index",
        files: |s| below(&s.join("context-v1")),
        may_run: &[],
        told: false,
        without_blobs: false,
    },
    Kind {
        name: "uses",
        files: |s| below(&s.join("used")),
        may_run: &[],
        told: false,
        without_blobs: false,
    },
    Kind {
        name: "history",
        files: |s| below(&s.join("history-v1")),
        may_run: &[],
        told: false,
        without_blobs: false,
    },
    Kind {
        name: "build logs",
        files: |s| below(&s.join("builds-v1")),
        may_run: &[],
        told: false,
        without_blobs: false,
    },
    Kind {
        name: "cache mount",
        files: |s| notes_of_mounts(s),
        may_run: &[],
        told: false,
        without_blobs: false,
    },
    Kind {
        name: "lease",
        files: |s| {
            planted(
                &s.join("leases").join("0123456789abcdef"),
                "+snapshot 0123456789abcdef\n+in-progress fedcba9876543210\n",
            )
        },
        may_run: &[],
        told: false,
        without_blobs: false,
    },
    Kind {
        name: "part of a download",
        files: |s| planted(&s.join("inflight").join(format!("blob-{}", "7".repeat(64))), "a part"),
        may_run: &[],
        told: false,
        without_blobs: false,
    },
    Kind {
        name: "snapshot: meta",
        files: |s| in_snapshots(s, "meta"),
        may_run: ALL,
        told: true,
        without_blobs: false,
    },
    Kind {
        name: "snapshot: manifest",
        files: |s| in_snapshots(s, "manifest"),
        may_run: ALL,
        told: false,
        without_blobs: false,
    },
    Kind {
        name: "snapshot: manifest, layers written",
        files: |s| in_snapshots(s, "manifest"),
        may_run: ALL,
        told: false,
        without_blobs: true,
    },
    Kind {
        name: "snapshot: upper file",
        files: |s| in_snapshots(s, "fs/m/deep/file"),
        may_run: UPPER,
        told: false,
        without_blobs: true,
    },
    Kind {
        name: "snapshot: file of the image",
        files: |s| in_snapshots(s, "fs/third"),
        may_run: &["third"],
        told: true,
        without_blobs: true,
    },
    Kind {
        name: "snapshot: linked file of the image",
        files: |s| in_snapshots(s, "fs/b"),
        may_run: &["--link", "third"],
        told: true,
        without_blobs: true,
    },
    Kind {
        name: "snapshot: copied file of the image",
        files: |s| in_snapshots(s, "fs/m/second"),
        may_run: &["deep", "--from=made", "--link", "third"],
        told: false,
        without_blobs: true,
    },
];

/// What nobody removes alone: a missing one is told as well.
const NEVER_ALONE: [&str; 1] = ["snapshot: meta"];

/// Of which there may be no file.
const MAY_BE_NONE: [&str; 4] = ["records: log", "pulled images", "build logs", "history"];

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    all.sort();
    all
}

fn below(dir: &Path) -> Vec<PathBuf> {
    let files = entries(dir).into_iter().flat_map(|path| match path.is_dir() {
        true => below(&path),
        false => vec![path],
    });
    files.collect()
}

fn named(dir: &Path, part: &str) -> Vec<PathBuf> {
    let fits = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().contains(part);
    entries(dir).into_iter().filter(fits).collect()
}

fn in_snapshots(state: &Path, file: &str) -> Vec<PathBuf> {
    let files = entries(&state.join("snapshots-v1")).into_iter().map(|dir| dir.join(file));
    // Those that were found damaged do not count any more.
    files.filter(|path| path.is_file() && snapshot_of(path).join("meta").exists()).collect()
}

fn snapshot_of(file: &Path) -> PathBuf {
    let part = |path: &Path| path.parent().is_some_and(|p| p.ends_with("snapshots-v1"));
    file.ancestors().find(|path| part(path)).unwrap().to_owned()
}

fn notes_of_mounts(state: &Path) -> Vec<PathBuf> {
    let notes =
        |dir: &PathBuf| entries(dir).into_iter().filter(|p| p.is_file()).collect::<Vec<_>>();
    entries(&state.join("mounts-v1")).iter().flat_map(notes).collect()
}

/// A file that a killed process could have left.
fn planted(path: &Path, text: &str) -> Vec<PathBuf> {
    fs::write(path, text).unwrap();
    vec![path.to_owned()]
}

/// A value that no step has, as a kill would leave it: not folded yet.
fn published(state: &Path) -> Vec<PathBuf> {
    planted(
        &state.join("done").join("5".repeat(64)),
        "DDV1 and so on, which is long enough to be a frame",
    )
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
    assert_eq!(next.executed(), Vec::<String>::new(), "{what}: {next}");
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
    let (mut drydock, context) = (Drydock::new(), sample());
    let want = image(&drydock, &context).0;
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
                    image(&drydock, &context);
                }
                let mut files = (kind.files)(drydock.state());
                assert!(!files.is_empty() || MAY_BE_NONE.contains(&kind.name), "{}", kind.name);
                if files.is_empty() {
                    continue;
                }
                let file = files.swap_remove(random.below(files.len() as u64) as usize);
                let bench = (&drydock, &context, &want);
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
fn privileged_verify_finds_what_nobody_reads() {
    require_root!();
    let (drydock, context) = (Drydock::new(), sample());
    let want = image(&drydock, &context).0;
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
        let (got, output) = image(&drydock, &context);
        same(&got, &want, what);
        assert!(!output.stderr.contains("WARN"), "{what}: {output}");
        let (_, next) = image(&drydock, &context);
        assert_eq!(next.executed(), Vec::<String>::new(), "{what}: {next}");
    }
}
