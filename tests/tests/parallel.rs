//! Several builders on one state directory.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use tests::context::Context;
use tests::drydock::{Drydock, Running};
use tests::image_view::ImageView;
use tests::{host, require_root};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn to(drydock: &Drydock, number: usize) -> String {
    format!("type=oci,dest={}", drydock.place(&format!("{number}.tar")).display())
}

#[test]
fn privileged_eight_builders_run_each_step_once() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM busybox AS a\nRUN sleep 0.5; cat /proc/sys/kernel/random/uuid > /a\nFROM busybox AS b\nRUN cat /proc/sys/kernel/random/uuid > /b\n\
         FROM busybox\nCOPY --from=a /a /a\nCOPY --from=b /b /b\nCOPY f /f\nRUN cat /proc/sys/kernel/random/uuid > /c\n",
    )
    .file("f", "F");
    let builders: Vec<_> =
        (0..8).map(|n| drydock.build(&context).args(["-o", &to(&drydock, n)]).start()).collect();
    for builder in builders {
        let output = builder.finish();
        assert!(output.status.success(), "{output}");
    }
    let images: Vec<ImageView> =
        (0..8).map(|n| ImageView::archive(&drydock.place(&format!("{n}.tar")))).collect();
    for image in &images {
        for file in ["a", "b", "c"] {
            assert_eq!(image.text(file), images[0].text(file));
        }
    }
    let output = drydock.build(&context).ok();
    assert_eq!(output.executed(), Vec::<String>::new(), "{output}");
    assert_eq!(host::mounts_below(drydock.state()), Vec::<String>::new());
}

#[test]
fn privileged_different_builds_do_not_hinder_each_other() {
    require_root!();
    let drydock = Drydock::new();
    let contexts: Vec<Context> = (0..8)
        .map(|n| {
            Context::new(&format!("FROM busybox\nRUN echo shared > /s\nRUN echo {n} > /n\nCOPY f /f\nRUN cat /n /f > /all\n"))
                .file("f", format!("file {n}"))
        })
        .collect();
    let builders: Vec<_> = contexts
        .iter()
        .enumerate()
        .map(|(n, c)| {
            drydock.build(c).args(["-t", &format!("app{n}"), "-o", &to(&drydock, n)]).start()
        })
        .collect();
    for (n, builder) in builders.into_iter().enumerate() {
        let output = builder.finish();
        assert!(output.status.success(), "{output}");
        let image = ImageView::archive(&drydock.place(&format!("{n}.tar")));
        assert_eq!(image.text("all"), format!("{n}\nfile {n}"));
    }
    let images = drydock.command("images").ok().text();
    assert_eq!(images.lines().count(), 9, "{images}");
}

#[test]
fn privileged_a_step_that_runs_elsewhere_is_waited_for() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM busybox\nRUN echo it-began; sleep 1; cat /proc/sys/kernel/random/uuid > /id\n",
    );
    let mut first = drydock.build(&context).args(["-o", &to(&drydock, 1)]).start();
    first.wait_for("it-began");
    let second = drydock.build(&context).args(["-o", &to(&drydock, 2)]).start();
    for builder in [first, second] {
        let output = builder.finish();
        assert!(output.status.success(), "{output}");
    }
    let id = |n: usize| ImageView::archive(&drydock.place(&format!("{n}.tar"))).text("id");
    assert_eq!(id(1), id(2));
}

/// A step that has begun, and goes on when [`open_gate`] says so.
const GATED: &str = "RUN --mount=type=cache,id=gate,target=/gate echo it-has-beg''un; until [ -e /gate/go ]; do sleep 0.02; done; echo it-ended > /x\n";
const BEGAN: &str = "it-has-begun";

fn open_gate(drydock: &Drydock) {
    let homes = fs::read_dir(drydock.state().join("mounts-v1")).unwrap().flatten();
    homes.for_each(|home| fs::write(home.path().join("0/go"), "").unwrap());
}

#[test]
fn privileged_a_waiter_goes_on_when_the_owner_dies() {
    a_waiter_goes_on_after(Signal::KILL, None);
}

#[test]
fn privileged_an_interrupted_owner_does_not_take_waiters_along() {
    a_waiter_goes_on_after(Signal::INT, Some(1));
}

/// Somewhere in the other build's way to the step.
fn a_waiter_goes_on_after(signal: Signal, status: Option<i32>) {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(&format!("FROM busybox\n{GATED}"));
    let mut owner = drydock.build(&context).args(["-o", &to(&drydock, 1)]).start();
    owner.wait_for(BEGAN);
    let waiter = drydock.build(&context).args(["-o", &to(&drydock, 2)]).start();
    std::thread::sleep(Duration::from_millis(30));
    owner.signal(signal);
    let finishes = |owner: &Running| owner.stderr().contains("for another build");
    let settled = host::wait_until(PATIENCE, || owner.is_over() || finishes(&owner));
    assert!(settled, "{}", owner.stderr());
    open_gate(&drydock);
    let output = owner.finish();
    assert_eq!(output.status.code(), status, "{output}");
    let output = waiter.finish();
    assert!(output.status.success(), "{output}");
    assert_eq!(ImageView::archive(&drydock.place("2.tar")).text("x"), "it-ended\n");
}

#[test]
fn privileged_eight_builds_into_one_directory() {
    require_root!();
    let drydock = Drydock::new();
    // What is a file for one is a directory for the other.
    let context = |n: usize| {
        let own = match n % 2 {
            0 => "COPY f /a\nCOPY f /b/in\nRUN ln -s /b /c && ln /a /d",
            _ => "COPY f /a/in\nCOPY f /b\nCOPY f /c/in\nRUN mkdir /d",
        };
        let text = format!(
            "FROM busybox AS all\nRUN echo {n} > /own\n{own}\nFROM scratch\nCOPY --from=all /a* /own /\nCOPY --from=all / /\n"
        );
        Context::new(&text).file("f", format!("{n}").repeat(100_000))
    };
    let contexts: Vec<Context> = (0..8).map(context).collect();
    let dest = drydock.place("out");
    let start = |context| drydock.build(context).args(["-o", &dest.display().to_string()]).start();
    for round in 0..2 {
        let builds: Vec<_> = contexts.iter().map(start).collect();
        for build in builds {
            let output = build.finish();
            assert!(output.status.success(), "round {round}: {output}");
        }
        let text = |name: &str| fs::read_to_string(dest.join(name)).unwrap();
        let last = text("own");
        let want = last.trim().repeat(100_000);
        let even = last.trim().parse::<usize>().unwrap() % 2 == 0;
        let files: &[&str] = if even { &["a", "b/in", "d"] } else { &["a/in", "b", "c/in"] };
        assert!(files.iter().all(|name| text(name) == want), "round {round}: {last}");
        let names = fs::read_dir(&dest).unwrap().flatten().map(|e| e.file_name());
        assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with(".drydock")));
    }
}

#[test]
fn privileged_pruning_beside_a_build() {
    require_root!();
    let steps: String = (0..10).map(|n| format!("RUN echo {n} > /f{n}\n")).collect();
    let context = Context::new(&format!("FROM busybox\n{steps}"));
    for _ in 0..5 {
        let drydock = Drydock::new();
        let mut build = drydock.build(&context).args(["-o", &to(&drydock, 1)]).start();
        while !build.is_over() {
            drydock.command("prune").args(["-af"]).ok();
        }
        let output = build.finish();
        assert!(output.status.success(), "{output}");
        let image = ImageView::archive(&drydock.place("1.tar"));
        assert!((0..10).all(|n| image.root.has(&format!("f{n}"))));
    }
}
