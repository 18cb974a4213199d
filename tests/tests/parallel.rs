//! Several builders on one state directory.

use std::time::Duration;

use rustix::process::Signal;
use tests::context::Context;
use tests::drydock::Drydock;
use tests::image_view::ImageView;
use tests::{host, require_root};

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

#[test]
fn privileged_a_waiter_goes_on_when_the_owner_dies() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new("FROM busybox\nRUN echo it-began; sleep 1; echo it-ended > /x\n");
    let mut owner = drydock.build(&context).start();
    owner.wait_for("it-began");
    let waiter = drydock.build(&context).args(["-o", &to(&drydock, 1)]).start();
    std::thread::sleep(Duration::from_millis(300));
    owner.kill();
    owner.finish();
    let output = waiter.finish();
    assert!(output.status.success(), "{output}");
    assert_eq!(ImageView::archive(&drydock.place("1.tar")).text("x"), "it-ended\n");
}

#[test]
fn privileged_an_interrupted_owner_does_not_take_waiters_along() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new("FROM busybox\nRUN echo it-began; sleep 1; echo it-ended > /x\n");
    let mut owner = drydock.build(&context).args(["-o", &to(&drydock, 1)]).start();
    owner.wait_for("it-began");
    let waiter = drydock.build(&context).args(["-o", &to(&drydock, 2)]).start();
    std::thread::sleep(Duration::from_millis(300));
    owner.signal(Signal::INT);
    let output = owner.finish();
    assert_eq!(output.status.code(), Some(1), "{output}");
    let output = waiter.finish();
    assert!(output.status.success(), "{output}");
    assert_eq!(ImageView::archive(&drydock.place("2.tar")).text("x"), "it-ended\n");
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
