//! Root file systems of steps: deep chains, and hosts where overlayfs does not work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::context::Context;
use tests::drydock::Drydock;
use tests::{require_root, skip};

#[test]
fn privileged_two_hundred_layers() {
    require_root!();
    let drydock = Drydock::new();
    let mut text = "FROM busybox\n".to_owned();
    let mut context = Context::empty();
    for n in 0..200 {
        text.push_str(&format!("COPY f{n} /many/f{n}\n"));
        context = context.file(&format!("f{n}"), format!("{n}"));
    }
    text.push_str(
        "RUN ls /many | wc -l > /count && cat /many/f0 /many/f199 > /ends && rm /many/f100\n",
    );
    let context = context.file("Dockerfile", text);
    let image = drydock.build(&context).image();
    assert_eq!(image.layers.len(), 202);
    assert_eq!(image.text("count").trim(), "200");
    assert_eq!(image.text("ends"), "0199");
    assert_eq!(image.root.below("many").len(), 199);
    // One more on top of an image of that depth, from the local store.
    drydock.build(&context).args(["-t", "deep"]).ok();
    let image = drydock.bare_build(&Context::new("FROM deep\nRUN touch /on-top\n")).image();
    assert_eq!(image.layers.len(), 203);
}

/// An overlay mount, on which no upper directory can be.
struct Overlay {
    place: PathBuf,
}

impl Overlay {
    fn mount(dir: &Path) -> Result<Self, String> {
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir(dir.join(name)).map_err(|e| e.to_string())?;
        }
        let path = |name: &str| dir.join(name).display().to_string();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            path("lower"),
            path("upper"),
            path("work")
        );
        let place = dir.join("merged");
        let output = Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(&place)
            .output()
            .map_err(|e| e.to_string())?;
        if output.status.success() {
            Ok(Self { place })
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.place).status();
    }
}

#[test]
fn privileged_plain_copies_where_overlayfs_does_not_work() {
    require_root!();
    let dir = tests::temp::directory();
    let overlay = match Overlay::mount(dir.path()) {
        Ok(overlay) => overlay,
        Err(reason) => {
            skip::say("plain copies", &format!("no overlay can be mounted: {reason}"));
            return;
        }
    };
    let drydock = Drydock::at(&overlay.place.join("state"));
    let context = Context::new(
        "FROM busybox AS a\nRUN mkdir -p /d/e && echo 1 > /d/e/f && ln /d/e/f /d/h && chown -R 5:6 /d\n\
         RUN rm -r /d/e && mv /bin/vi /bin/vi2 && chmod 4755 /d/h\nCOPY x /d/x\n\
         FROM busybox\nCOPY --from=a /d /d\nRUN cat /d/h > /out\n",
    )
    .file("x", "X");
    let (image, output) = drydock.build(&context).image_and_output();
    let told = output.stderr.lines().filter(|l| l.contains("overlay")).count();
    assert_eq!(told, 1, "said once: {output}");
    let want = Drydock::new().build(&context).image();
    assert_eq!(want.root.differences(&image.root), Vec::<String>::new());
    let names = |i: &tests::image_view::ImageView| -> Vec<Vec<String>> {
        i.layers.iter().map(|l| l.names().iter().map(|n| (*n).to_owned()).collect()).collect()
    };
    assert_eq!(names(&want), names(&image), "the same layers");
    let target = |d: &Drydock| d.build(&context).args(["--target", "a"]).image();
    let (one, two) = (target(&drydock), target(&Drydock::new()));
    assert_eq!(names(&one), names(&two));
    assert_eq!(one.root.differences(&two.root), Vec::<String>::new());
    let output = drydock.build(&context).ok();
    assert_eq!(output.executed(), Vec::<String>::new(), "{output}");
}

#[test]
fn privileged_nothing_stays_mounted() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new("FROM busybox\nRUN echo x > /x\nRUN exit 1\n");
    drydock.build(&context).fails();
    drydock.build(&Context::new("FROM busybox\nRUN echo x > /x\n")).args(["-t", "app"]).ok();
    assert_eq!(tests::host::mounts_below(drydock.state()), Vec::<String>::new());
    assert!(tests::host::users_of(drydock.state()).is_empty());
}
