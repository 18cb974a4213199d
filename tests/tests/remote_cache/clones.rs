//! Clones of one commit, in other folders, of other users, at other times: they have the same keys,
//! so what one of them made none of the others makes again.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tests::base_image::BaseImage;
use tests::drydock::{Drydock, is_instruction};
use tests::image_view::ImageView;
use tests::person::{Person, make, ok};
use tests::progress::{End, plain};
use tests::require_root;

use super::place::*;

/// Every kind of step, and of what enters a key.
const DOCKERFILE: &str = "ARG BASE=busybox
FROM $BASE AS build
ARG LEVEL=3
ENV MODE=release LEVEL=$LEVEL
WORKDIR /src
COPY . .
RUN --network=none --mount=type=cache,target=/cache sh tool.sh $MODE > /made && touch /cache/x
RUN --network=none --mount=type=bind,target=/here --mount=type=tmpfs,target=/t \\
    cat /here/deep/er/file > /bound && id -u > /who
FROM busybox
COPY --from=build --chown=app:appg /made /bound /app/
COPY --link --chmod=755 tool.sh link /linked/
USER app
WORKDIR /home/app/new
RUN --network=none <<EOT
  id -un > user
  ls -ln /linked > list
EOT
";

/// Writes a clone: with modes as this umask leaves them, and times of its own.
fn clone_to(dir: &Path, umask: u32, age: u64, owner: Option<(u32, u32)>) {
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000 + age);
    fs::create_dir_all(dir.join("deep/er")).unwrap();
    let files: [(&str, &str, u32); 4] = [
        ("Dockerfile", DOCKERFILE, 0o666),
        ("tool.sh", "#!/bin/sh\necho tool $1\n", 0o777),
        ("deep/er/file", "deep\n", 0o666),
        (".dockerignore", "*.log\n", 0o666),
    ];
    for (name, text, mode) in files {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode & !umask)).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    }
    symlink("deep/er/file", dir.join("link")).unwrap();
    for name in ["deep/er", "deep", ""] {
        let path = dir.join(name);
        fs::set_permissions(&path, Permissions::from_mode(0o777 & !umask)).unwrap();
        File::open(&path).unwrap().set_modified(modified).unwrap();
    }
    if let Some((uid, gid)) = owner {
        let names = files.map(|(name, ..)| name).into_iter().chain(["deep/er", "deep", ""]);
        names.for_each(|name| chown(dir.join(name), Some(uid), Some(gid)).unwrap());
    }
}

/// Somebody with a clone, and a state directory that nobody has used.
struct Builder<'a> {
    person: Option<&'a Person>,
    context: PathBuf,
    snapshotter: &'static str,
    modes: &'static str,
}

impl Builder<'_> {
    /// Builds with what `more` says; returns the image and the steps that were run.
    fn build(&self, more: &[&str]) -> (ImageView, Vec<String>) {
        let image = |context: &str, base: &str, dest: &Path| {
            let to = format!("type=oci,dest={}", dest.display());
            let base = format!("busybox=oci-layout://{base}:latest");
            let own = ["build", "--progress=plain", context, "--build-context", &base, "-o", &to];
            let options = ["--context-modes", self.modes, "--snapshotter", self.snapshotter];
            own.iter().chain(&options).chain(more).map(|it| (*it).to_owned()).collect::<Vec<_>>()
        };
        let context = self.context.to_str().unwrap();
        let (view, told) = match self.person {
            Some(person) => {
                let home = person.place("home");
                let dest = home.join("image.tar");
                let base = person.place("base");
                let mut args = image(context, base.to_str().unwrap(), &dest);
                // Fresh each time.
                let number = fs::read_dir(&home).unwrap().count();
                let root = home.join(format!("root{number}"));
                args.extend(["--root".to_owned(), root.to_str().unwrap().to_owned()]);
                let told = ok(&person.run(args));
                (ImageView::archive(&dest), told)
            }
            None => {
                let machine = Drydock::new();
                let dest = machine.place("image.tar");
                let mut args = image(context, BaseImage::layout().to_str().unwrap(), &dest);
                let command = args.remove(0);
                let run = machine.command(&command).args(args);
                let output = run.env("SOURCE_DATE_EPOCH", "1000000000").ok();
                (ImageView::archive(&dest), output.stderr)
            }
        };
        let ran = plain(&told).into_iter().filter(|it| it.end == End::Done);
        (view, ran.map(|it| it.name).filter(|name| is_instruction(name)).collect())
    }
}

/// The keys of all steps that a cache has records of.
fn keys(cache: &Path) -> BTreeSet<String> {
    let cache = Cache::open(cache);
    let records = cache.document["records"].as_array().unwrap().iter();
    records.map(|record| record["key"].as_str().unwrap().to_owned()).collect()
}

/// Builds in every clone, and with the cache of each in the next one.
fn go_round(builders: &[Builder<'_>], place: &Path) {
    let mut made = Vec::new();
    for (at, builder) in builders.iter().enumerate() {
        let dir = place.join(format!("cache{at}"));
        let (image, ran) = builder.build(&["--cache-to", &to_dir(&dir, ",mode=max")]);
        assert_eq!(ran.len(), 8, "{ran:?}");
        made.push((dir, image));
    }
    let all: Vec<_> = made.iter().map(|(dir, _)| keys(dir)).collect();
    assert!(all[0].len() >= 8, "{all:?}");
    for (at, keys) in all.iter().enumerate() {
        assert_eq!(*keys, all[0], "builder {at}");
    }
    for (at, builder) in builders.iter().enumerate() {
        let (dir, image) = &made[(at + 1) % made.len()];
        let (other, ran) = builder.build(&["--cache-from", &from_dir(dir)]);
        assert_eq!(ran, Vec::<String>::new(), "builder {at}");
        assert_eq!(other.manifest_digest, image.manifest_digest, "builder {at}");
    }
}

#[test]
fn privileged_clones_of_root_and_of_an_ordinary_user() {
    require_root!();
    let case = "privileged_clones_of_root_and_of_an_ordinary_user";
    let Some(person) = Person::new(case, true) else { return };
    let own = Drydock::new();
    let owner = {
        use std::os::unix::fs::MetadataExt;
        let meta = fs::metadata(person.place("home")).unwrap();
        Some((meta.uid(), meta.gid()))
    };
    let theirs = [make(&person.place("of theirs")), make(&person.place("b"))];
    let ours = [own.place("of-root"), own.place("elsewhere/of/root")];
    clone_to(&theirs[0], 0o077, 1, owner);
    clone_to(&theirs[1], 0o002, 20_000, owner);
    clone_to(&ours[0], 0o022, 300_000_000, None);
    clone_to(&ours[1], 0o027, 4, None);
    let builder = |person, context: &PathBuf, snapshotter| {
        let context = context.clone();
        Builder { person, context, snapshotter, modes: "git" }
    };
    let place = person.place("home").join("caches");
    fs::create_dir(&place).unwrap();
    chown(&place, owner.map(|it| it.0), owner.map(|it| it.1)).unwrap();
    // Each has the cache of another user. Plain copies take their time, so there is one of them.
    let builders = [
        builder(None, &ours[0], "auto"),
        builder(Some(&person), &theirs[0], "copy"),
        builder(None, &ours[1], "auto"),
        builder(Some(&person), &theirs[1], "auto"),
    ];
    go_round(&builders, &place);
}

#[test]
fn privileged_clones_with_the_same_modes() {
    require_root!();
    let own = Drydock::new();
    let folders = [own.place("a"), own.place("b/c")];
    clone_to(&folders[0], 0o022, 0, None);
    clone_to(&folders[1], 0o022, 1_000_000, Some((1234, 4321)));
    let builders = folders.each_ref().map(|context| Builder {
        person: None,
        context: context.clone(),
        snapshotter: "auto",
        modes: "keep",
    });
    go_round(&builders, &own.place("caches"));
}
