//! What can happen to a state directory, at random: many builders beside collections, kills, full
//! disks, losses of power, damaged files. `DRYDOCK_TORTURE=N` does N times as much as usual.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tests::context::Context;
use tests::disk::Disk;
use tests::drydock::{Drydock, Output, Run};
use tests::image_view::ImageView;
use tests::progress::End;
use tests::random::Random;
use tests::{host, require_programs, require_root};

/// `small`, or so many times more.
fn times(small: u32) -> u32 {
    let factor = std::env::var("DRYDOCK_TORTURE").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    small.saturating_mul(factor)
}

/// Steps of every kind whose result depends on `SALT`.
fn sample() -> Context {
    Context::new(
        "FROM busybox AS made\nARG SALT\nRUN mkdir /d && echo $SALT > /d/salt && yes $SALT | head -c 50000 > /d/big\n\
         FROM busybox\nARG SALT\nCOPY a sub /c/\nCOPY --link --from=made /d /d\n\
         RUN mv /d/salt /d/moved && ln /d/moved /d/linked && cat /c/* /d/* | sha256sum > /sum\n\
         RUN rm /d/big && chmod 700 /c\n",
    )
    .file("a", "A".repeat(9000))
    .file("sub/one", "1")
    .file("sub/two", "2")
    .settle()
}

fn salted(drydock: &Drydock, context: &Context, salt: u32) -> Run {
    drydock.build(context).arg(format!("--build-arg=SALT={salt}")).args(["-t", "app"])
}

/// Says nothing that would make people worry.
fn calm(output: &Output) {
    for word in ["WARN", "warning", "ERROR", "corrupt", "panic"] {
        assert!(!output.stderr.contains(word), "{output}");
    }
}

fn same(got: &ImageView, want: &ImageView, what: &str) {
    assert_eq!(want.root.differences(&got.root), Vec::<String>::new(), "{what}");
    assert_eq!(want.config["config"], got.config["config"], "{what}");
}

fn entries(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    names.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// Ends a loop on another thread, also when a case fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// One of eight builds, some of which share steps.
fn start_builder(drydock: &Drydock, number: u32, round: u32) -> (PathBuf, tests::drydock::Running) {
    let variant = number % 4;
    let context = Context::new(&format!(
        "FROM busybox AS a\nRUN cat /proc/sys/kernel/random/uuid > /a # {round}\n\
         FROM busybox\nCOPY --from=a /a /a\nCOPY f /f\nRUN echo {variant} > /v && cat /a > /c\n"
    ))
    .file("f", format!("file {variant}"));
    let dest = drydock.place(&format!("{number}.tar"));
    let mut run = drydock.build(&context);
    for name in ["kept", "fleeting"] {
        run = run.args(["-t", &format!("{name}{number}")]);
    }
    if number.is_multiple_of(3) {
        run = run.args(["--jobs", "1"]);
    }
    let run = run.args(["-o", &format!("type=oci,dest={}", dest.display())]);
    (dest, run.start())
}

#[test]
fn privileged_builders_beside_collections() {
    require_root!();
    let mut random = Random::announced("builders beside collections");
    let drydock = Drydock::new();
    let (over, collected) = (AtomicBool::new(false), AtomicUsize::new(0));
    let collect = |mut random: Random| {
        while !over.load(Ordering::SeqCst) {
            let fleeting = format!("fleeting{}", random.below(8));
            let commands: [&[&str]; 5] = [
                &["prune", "-f"],
                &["prune", "-a", "-f"],
                &["du"],
                &["images"],
                &["rmi", &fleeting],
            ];
            let command = commands[random.below(5) as usize];
            let output = drydock.command(command[0]).args(&command[1..]).output();
            let gone = output.stderr.contains("no such image");
            assert!(output.status.success() || gone, "{command:?}: {output}");
            collected.fetch_add(1, Ordering::SeqCst);
        }
    };
    let seeds = [random.number(), random.number()];
    std::thread::scope(|scope| {
        let _ends = Ends(&over);
        let collectors = seeds.map(|seed| scope.spawn(move || collect(Random::new(seed))));
        for round in 0..times(2) {
            let builders: Vec<_> = (0..8).map(|n| start_builder(&drydock, n, round)).collect();
            for (number, (dest, builder)) in builders.into_iter().enumerate() {
                let output = builder.finish();
                assert!(output.status.success(), "{output}");
                calm(&output);
                let image = ImageView::archive(&dest);
                assert_eq!(image.text("a"), image.text("c"));
                assert_eq!(image.text("f"), format!("file {}", number % 4));
                assert_eq!(image.text("v"), format!("{}\n", number % 4));
            }
            for number in 0..8 {
                drydock.command("inspect").arg(format!("kept{number}")).ok();
            }
        }
        over.store(true, Ordering::SeqCst);
        for collector in collectors {
            collector.join().unwrap();
        }
    });
    assert_eq!(host::mounts_below(drydock.state()), Vec::<String>::new());
    let builds = 8 * times(2);
    eprintln!("{builds} builds beside {} collections and other commands", collected.into_inner());
}

#[test]
fn privileged_any_command_may_be_killed() {
    require_root!();
    let mut random = Random::announced("any command may be killed");
    let drydock = Drydock::new();
    let (context, undisturbed) = (sample(), Drydock::new());
    let begun = Instant::now();
    salted(&drydock, &context, 0).ok();
    let whole = begun.elapsed().as_micros() as u64;
    for round in 1..=times(15) {
        let commands: [&[&str]; 4] =
            [&["prune", "-a", "-f"], &["rmi", "app"], &["tag", "app", "other"], &["du"]];
        let command = commands[random.below(4) as usize];
        let mut running = [
            salted(&drydock, &context, round).start(),
            drydock.command(command[0]).args(&command[1..]).start(),
        ];
        std::thread::sleep(Duration::from_micros(random.below(whole)));
        running.iter_mut().for_each(tests::drydock::Running::kill);
        running.into_iter().for_each(|r| drop(r.finish()));
        let (image, output) = salted(&drydock, &context, round).image_and_output();
        calm(&output);
        let want = salted(&undisturbed, &context, round).image();
        same(&image, &want, &format!("round {round}, beside {command:?}"));
        drydock.command("inspect").arg("app").ok();
    }
    assert!(host::wait_until(Duration::from_secs(5), || host::users_of(drydock.state()).is_empty()));
    drydock.command("prune").args(["-a", "-f"]).ok();
    for bucket in ["trash", "leases", "done", "inflight"] {
        let mut left = entries(&drydock.state().join(bucket));
        // A temporary file may be another process's: it is only taken when it is a day old.
        left.retain(|name| !name.starts_with(".tmp-"));
        assert_eq!(left, Vec::<String>::new(), "{bucket}");
    }
    let unfinished = entries(&drydock.state().join("snapshots-v1"));
    assert!(!unfinished.iter().any(|n| n.ends_with(".active")), "{unfinished:?}");
    eprintln!("{} builds and as many other commands were killed", times(15));
}

#[test]
fn privileged_the_disk_may_be_full() {
    require_root!();
    require_programs!("mkfs.ext4", "mount", "umount");
    let mut random = Random::announced("the disk may be full");
    let Some(disk) = Disk::new(24) else { return tests::skip::say("torture", "no loop devices") };
    let drydock = Drydock::at(&disk.root().join("state"));
    let (context, undisturbed) = (sample(), Drydock::new());
    salted(&drydock, &context, 0).ok();
    let dest = disk.root().join("image.tar");
    let mut full = 0;
    for round in 1..=times(12) {
        let least = random.below(3) * 100_000;
        disk.fill(least + random.below(400_000));
        let to = format!("type=oci,dest={}", dest.display());
        let output = salted(&drydock, &context, round).args(["-o", &to]).output();
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output}");
        if output.status.success() {
            ImageView::archive(&dest);
            fs::remove_file(&dest).unwrap();
        } else {
            full += 1;
            let told = output.stderr.contains("No space left");
            // What a program in a container says is its own.
            let inside = output.steps().iter().any(|s| matches!(s.end, End::Failed(_)));
            assert!(told || inside, "{output}");
            assert!(!dest.exists(), "half of an image is left: {output}");
        }
        if random.below(2) == 0 {
            drydock.command("prune").args(["-a", "-f"]).ok();
        }
        disk.clear();
        let (image, output) = salted(&drydock, &context, round).image_and_output();
        calm(&output);
        let want = salted(&undisturbed, &context, round).image();
        same(&image, &want, &format!("round {round}"));
        drydock.command("prune").arg("-f").ok();
    }
    eprintln!("the disk was too full for {full} of {} builds", times(12));
}

/// Runs a command as after a reboot: in another boot.
fn rebooted(run: Run, boot: &Path) -> Run {
    let script =
        format!("mount --bind '{}' /proc/sys/kernel/random/boot_id && exec \"$@\"", boot.display());
    run.wrapped(["unshare", "-m", "sh", "-c", &script, "sh"])
}

#[test]
fn privileged_the_power_may_go() {
    require_root!();
    require_programs!("mkfs.ext4", "mount", "umount", "unshare");
    let mut random = Random::announced("the power may go");
    let Some(disk) = Disk::that_loses_power(64) else {
        return tests::skip::say("torture", "no loop devices");
    };
    let drydock = Drydock::at(&disk.root().join("state"));
    let (context, undisturbed) = (sample(), Drydock::new());
    let over = AtomicBool::new(false);
    let mut moments = 0;
    std::thread::scope(|scope| {
        let _ends = Ends(&over);
        scope.spawn(|| {
            for salt in 0.. {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let name = format!("v{}", salt % 5);
                salted(&drydock, &context, salt % 50).args(["-t", &name]).ok();
                if salt % 8 == 7 {
                    drydock.command("prune").arg("-f").ok();
                }
            }
        });
        for round in 0..times(3) {
            std::thread::sleep(Duration::from_micros(100_000 + random.below(500_000)));
            let Some(copy) = disk.unplugged() else { continue };
            moments += 1;
            let next = Drydock::at(&copy.root().join("state"));
            let boot = another_boot(&copy, &mut random);
            after_a_reboot(&next, &boot, &context, &undisturbed, round);
        }
    });
    eprintln!("power went {moments} times in the middle of builds and collections");
}

/// A file that says it is another boot.
fn another_boot(copy: &Disk, random: &mut Random) -> PathBuf {
    let boot = copy.beside("boot");
    let text = format!("{:08x}-3b5a-48d8-b774-eeca844b30ad\n", random.number() as u32);
    fs::write(&boot, text).unwrap();
    boot
}

/// Builds one after the other until it is told to stop, and notes which have ended.
fn keep_building(drydock: &Drydock, first: u32, over: &AtomicBool, ended: &Mutex<Vec<u32>>) {
    let context = sample();
    for salt in (first..).step_by(2) {
        if over.load(Ordering::SeqCst) {
            return;
        }
        salted(drydock, &context, salt).args(["-t", &format!("w{first}")]).ok();
        ended.lock().unwrap().push(salt);
    }
}

#[test]
fn privileged_what_had_ended_outlasts_a_loss_of_power() {
    require_root!();
    require_programs!("mkfs.ext4", "mount", "umount", "unshare");
    let mut random = Random::announced("what had ended outlasts a loss of power");
    let (mut moments, mut builds, mut steps) = (0, 0, 0);
    let (context, undisturbed) = (sample(), Drydock::new());
    let wanted = times(4);
    while moments < wanted {
        // A new one before it is full.
        let Some(disk) = Disk::that_loses_power(48) else {
            return tests::skip::say("torture", "no loop devices");
        };
        let drydock = Drydock::at(&disk.root().join("state"));
        let (over, ended) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            let _ends = Ends(&over);
            // Two, so that one syncs and folds what the other publishes.
            for first in [0, 1] {
                let (drydock, over, ended) = (&drydock, &over, &ended);
                scope.spawn(move || keep_building(drydock, first, over, ended));
            }
            let one = || !ended.lock().unwrap().is_empty();
            assert!(host::wait_until(Duration::from_secs(100), one));
            for _ in 0..10.min(wanted - moments) {
                std::thread::sleep(Duration::from_micros(200_000 + random.below(600_000)));
                let known = ended.lock().unwrap().clone();
                let Some(copy) = disk.unplugged() else { continue };
                moments += 1;
                let next = Drydock::at(&copy.root().join("state"));
                let boot = another_boot(&copy, &mut random);
                let last = known.last().copied();
                let any = known.get(random.below(known.len() as u64) as usize).copied();
                for salt in last.into_iter().chain(any) {
                    let what = format!("build {salt}, lost power at moment {moments}");
                    let (image, output) =
                        rebooted(salted(&next, &context, salt), &boot).image_and_output();
                    calm(&output);
                    assert_eq!(output.executed(), Vec::<String>::new(), "{what}: {output}");
                    same(&image, &salted(&undisturbed, &context, salt).image(), &what);
                    builds += 1;
                    steps += output.steps().iter().filter(|s| s.end == End::Cached).count();
                }
            }
        });
    }
    eprintln!("power went {moments} times: {builds} builds that had ended had all {steps} steps");
}

/// Every image that has a name is whole, and builds give the right images.
fn after_a_reboot(next: &Drydock, boot: &Path, context: &Context, other: &Drydock, round: u32) {
    let listed = rebooted(next.command("images"), boot).ok();
    calm(&listed);
    let names: BTreeSet<String> = listed
        .text()
        .lines()
        .filter_map(|l| l.split_whitespace().next())
        .filter(|n| n.starts_with('v'))
        .map(str::to_owned)
        .collect();
    for name in &names {
        rebooted(next.command("inspect"), boot).arg(name).ok();
    }
    if let Some(name) = names.first() {
        let from = Context::new(&format!("FROM {name}\nRUN cat /c/* > /all\n"));
        let image = rebooted(next.build(&from), boot).image();
        let salt = image.text("d/moved").trim().parse().unwrap();
        let want = salted(other, context, salt).image();
        for path in want.root.paths() {
            assert_eq!(want.root.line(path), image.root.line(path), "round {round}: {name}");
        }
    }
    for salt in round..round + 2 {
        let (image, output) = rebooted(salted(next, context, salt), boot).image_and_output();
        calm(&output);
        same(&image, &salted(other, context, salt).image(), &format!("round {round}"));
    }
    for command in ["du", "prune"] {
        let force = (command == "prune").then_some("-f");
        calm(&rebooted(next.command(command), boot).args(force).ok());
    }
}

/// A file of the state directory that is not what was written.
fn damage(path: &Path, random: &mut Random) -> &'static str {
    let mut bytes = fs::read(path).unwrap();
    let (how, bytes) = match random.below(4) {
        0 => ("emptied", Vec::new()),
        1 => ("cut", bytes[..bytes.len() / 2].to_vec()),
        2 if !bytes.is_empty() => {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
            ("one bit flipped", bytes)
        }
        _ => ("overwritten", random.bytes(bytes.len().max(9))),
    };
    fs::write(path, bytes).unwrap();
    how
}

#[test]
fn privileged_files_may_be_damaged() {
    require_root!();
    let mut random = Random::announced("files may be damaged");
    let drydock = Drydock::new();
    let context = sample();
    let want = salted(&drydock, &context, 0).image();
    let mut damaged = 0;
    for round in 0..times(25) {
        // In turn, so that the many files of one do not hide the few of another.
        let kinds = ["records-v1", "images-v1", "context-v1", "used", "generation", "watermark"];
        let place = drydock.state().join(kinds[(round as usize) % kinds.len()]);
        let mut files: Vec<PathBuf> = match place.is_dir() {
            true => entries(&place).iter().map(|n| place.join(n)).collect(),
            false => vec![place],
        };
        files.sort();
        if files.is_empty() {
            continue;
        }
        let file = files.swap_remove(random.below(files.len() as u64) as usize);
        let how = damage(&file, &mut random);
        damaged += 1;
        let what = format!("round {round}: {} {how}", file.display());
        for _ in 0..2 {
            let run = salted(&drydock, &context, 0);
            let (image, output) = run.image_and_output();
            assert!(!output.stderr.contains("panic"), "{what}: {output}");
            same(&image, &want, &what);
        }
        for command in ["images", "du"] {
            drydock.command(command).ok();
        }
    }
    drydock.command("prune").args(["-a", "-f"]).ok();
    eprintln!("{damaged} files were damaged");
}
