//! Reservations of several processes in one state directory.

use std::fs;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::ledger::Survey;
use super::survey::survey;
use super::*;

const MIB: u64 = 1 << 20;

/// A state directory with `cached` MiB that can go.
struct Place {
    dir: tempfile::TempDir,
}

struct Sweeper {
    cached: PathBuf,
    calls: Arc<Mutex<Vec<u64>>>,
}

impl Janitor for Sweeper {
    fn evict(&self, bytes: u64, all_or_nothing: bool) -> Result<u64, Cause> {
        self.calls.lock().unwrap().push(bytes);
        let mut freed = 0;
        let files: Vec<_> = fs::read_dir(&self.cached)?.flatten().map(|e| e.path()).collect();
        if all_or_nothing && (files.len() as u64) * MIB < bytes {
            return Ok(0);
        }
        for file in files {
            if freed < bytes {
                fs::remove_file(file)?;
                freed += MIB;
            }
        }
        Ok(freed)
    }

    fn shares(&self) -> Result<Shares, Cause> {
        Ok(Shares { images: 3 * MIB, leases: vec![("a".into(), MIB), ("b".into(), 2 * MIB)] })
    }

    fn cancelled(&self) -> bool {
        false
    }
}

impl Place {
    fn new(cached: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["locks", "leases", "cached", "grows"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let place = Self { dir };
        (0..cached).for_each(|n| place.write(&format!("cached/{n}"), MIB));
        place
    }

    fn write(&self, name: &str, bytes: u64) {
        fs::write(self.path(name), vec![7; usize::try_from(bytes).unwrap()]).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ceiling(&self, mib: u64, lease: &str) -> (Ceiling, Arc<Mutex<Vec<u64>>>) {
        let calls = Arc::<Mutex<Vec<u64>>>::default();
        let janitor = Sweeper { cached: self.path("cached"), calls: calls.clone() };
        let limit = Limit { bytes: mib * MIB, rule: format!("--max-cache {mib}m") };
        let path = self.dir.path();
        (Ceiling::new(path, limit, lease, &format!("build {lease}"), Box::new(janitor)), calls)
    }

    fn what(&self, name: &'static str) -> What<'static> {
        What { name, paths: vec![self.path("grows").join(name)], ..What::default() }
    }

    fn ledger(&self) -> Ledger {
        Ledger::of(self.dir.path())
    }
}

fn never() -> bool {
    false
}

#[test]
fn what_is_reserved_is_in_the_ledger_until_it_ends() {
    let place = Place::new(4);
    let (ceiling, calls) = place.ceiling(64, "a");
    assert!(!ceiling.was_used());
    let growth = ceiling.grow(place.what("one"), &never).unwrap();
    let ledger = place.ledger();
    assert_eq!(ledger.builds[0].growths[0].granted, 2 * MIB);
    assert_eq!(ledger.builds[0].growths[0].paths, [PathBuf::from("grows/one")]);
    assert!(ledger.surveyed.unwrap().bytes >= 4 * MIB);
    place.write("grows/one", MIB);
    drop(growth);
    let ledger = place.ledger();
    assert!(ledger.builds[0].growths.is_empty() && ledger.surveyed.unwrap().since >= MIB);
    assert!(calls.lock().unwrap().is_empty() && ceiling.was_used());
}

#[test]
fn what_two_write_to_counts_once() {
    let place = Place::new(0);
    let (ceiling, _) = place.ceiling(64, "a");
    for name in ["shared", "own"] {
        fs::create_dir(place.path(name)).unwrap();
        place.write(&format!("{name}/f"), 3 * MIB);
    }
    let surveyed = || place.ledger().surveyed.unwrap();
    let one = ceiling.grow(place.what("one"), &never).unwrap();
    let before = surveyed().bytes;
    one.also_at(vec![place.path("shared")]).unwrap();
    assert!((3 * MIB..4 * MIB).contains(&(before - surveyed().bytes)));
    let two = ceiling.grow(place.what("two"), &never).unwrap();
    two.also_at(vec![place.path("shared"), place.path("own")]).unwrap();
    assert!((6 * MIB..7 * MIB).contains(&(before - surveyed().bytes)));
    let paths = |at: usize| place.ledger().builds[0].growths[at].paths.clone();
    assert_eq!(paths(0), ["grows/one", "shared"].map(PathBuf::from));
    assert_eq!(paths(1), ["grows/two", "own"].map(PathBuf::from));
    drop((one, two));
    let Survey { bytes, since, .. } = surveyed();
    assert!((before..before + MIB).contains(&(bytes + since)), "{before} {bytes} {since}");
}

#[test]
fn what_ended_in_a_burst_gets_room_or_fails() {
    let place = Place::new(8);
    let (ceiling, calls) = place.ceiling(24, "a");
    let burst = |name: &'static str, bytes: u64| {
        let growth = ceiling.grow(place.what(name), &never).unwrap();
        place.write(&format!("grows/{name}"), bytes);
        growth.end();
        growth.watch(&|_| {});
        growth.failure()
    };
    // There is room; old results have to go; nothing can go.
    assert_eq!(burst("small", 2 * MIB), None);
    assert!(calls.lock().unwrap().is_empty());
    assert_eq!(burst("large", 16 * MIB), None);
    assert!(!calls.lock().unwrap().is_empty());
    let full = burst("larger", 18 * MIB).unwrap();
    assert!(full.to_string().contains("larger wrote 18MiB, but the ceiling is 24MiB"), "{full}");
}

#[test]
fn who_waits_for_the_ledger_says_for_whom_and_not_for_ever() {
    let place = Place::new(0);
    let (ceiling, _) = place.ceiling(8, "a");
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let hears = heard.clone();
    ceiling.listen(Box::new(move |text| hears.lock().unwrap().push(text.to_owned())));
    let lock = place.path("locks/ledger");
    let wait_until = |done: &dyn Fn() -> bool| {
        while !done() {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let held = crate::lock::FileLock::acquire(&lock, crate::lock::Mode::Exclusive).unwrap();
    std::thread::scope(|scope| {
        let grows = scope.spawn(|| ceiling.grow(place.what("one"), &never).map(drop));
        wait_until(&|| !heard.lock().unwrap().is_empty());
        drop(held);
        grows.join().unwrap().unwrap();
    });
    let own = format!("which process {} has locked", std::process::id());
    assert!(heard.lock().unwrap()[0].ends_with(&own), "{heard:?}");
    // One that was stopped, as Ctrl-Z does.
    let mut holder = std::process::Command::new("flock");
    holder.arg("--close").arg(&lock).arg("cat").stdin(std::process::Stdio::piped());
    let mut holder = holder.spawn().unwrap();
    let file = fs::File::open(&lock).unwrap();
    wait_until(&|| {
        let free = crate::lock::try_lock(&file, crate::lock::Mode::Shared).unwrap();
        crate::lock::unlock(&file);
        !free
    });
    let pid = rustix::process::Pid::from_child(&holder);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let Err(Refused::Ledger(error)) = ceiling.grow(place.what("two"), &never) else { panic!() };
    let told = format!("is locked by process {}, which is stopped", holder.id());
    assert!(error.to_string().contains(&told), "{error}");
    let last = heard.lock().unwrap().last().unwrap().clone();
    assert!(last.contains(&format!("kill -CONT {}", holder.id())), "{last}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    ceiling.grow(place.what("three"), &never).unwrap();
}

#[test]
fn the_dead_have_reserved_nothing() {
    let place = Place::new(0);
    let (dead, _) = place.ceiling(8, "dead");
    std::mem::forget(dead.grow(What { expected: Some(6 * MIB), ..place.what("x") }, &never));
    let (ceiling, _) = place.ceiling(8, "a");
    let growth = ceiling.grow(What { expected: Some(6 * MIB), ..place.what("y") }, &never);
    assert!(growth.is_ok());
    assert_eq!(place.ledger().builds.len(), 1);
}

#[test]
fn eviction_makes_room_and_no_more_than_is_there() {
    let place = Place::new(12);
    let (ceiling, calls) = place.ceiling(16, "a");
    let large = What { expected: Some(8 * MIB), ..place.what("large") };
    let growth = ceiling.grow(large, &never).unwrap();
    assert!(!calls.lock().unwrap().is_empty());
    assert!(fs::read_dir(place.path("cached")).unwrap().count() < 12);
    let too_large = What { expected: Some(40 * MIB), ..place.what("larger") };
    let left = fs::read_dir(place.path("cached")).unwrap().count();
    drop(growth);
    let Err(Refused::Full(full)) = ceiling.grow(too_large, &never) else { panic!() };
    // It could never have been enough: nothing went for it.
    assert_eq!(fs::read_dir(place.path("cached")).unwrap().count(), left);
    let text = full.to_string();
    for part in [
        "larger wrote 0B and needs 40MiB",
        "16MiB (--max-cache 16m)",
        "3MiB by images",
        "this build",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(place.ledger().builds[0].growths.is_empty());
}

#[test]
fn who_counts_gets_more_as_it_goes() {
    let place = Place::new(10);
    let (ceiling, _) = place.ceiling(16, "a");
    let growth = ceiling.grow(place.what("blob"), &never).unwrap();
    let mut written = 0;
    let refused = loop {
        if let Err(refused) = growth.take(MIB / 2) {
            break refused;
        }
        written += MIB / 2;
        place.write("grows/blob", written);
        let (total, ledger) = (survey(place.dir.path(), &Default::default()), place.ledger());
        assert!(total <= 16 * MIB, "{total} {written} {ledger:?}");
    };
    assert!(matches!(refused, Refused::Full(_)) && written > 12 * MIB, "{written}");
    assert_eq!(fs::read_dir(place.path("cached")).unwrap().count(), 0);
}

/// A brake that a writer obeys.
#[derive(Default)]
struct Pedal {
    gate: Gate,
    held: AtomicBool,
}

impl Brake for Pedal {
    fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
        self.gate.hold();
    }

    fn release(&self) {
        self.gate.release();
    }

    fn stop(&self) {
        self.gate.stop();
    }
}

/// Writes pieces until it may not any more; how many bytes.
fn write_pieces(place: &Place, name: &str, gate: &Gate, most: u64) -> u64 {
    let mut written = 0;
    fs::create_dir_all(place.path(name)).unwrap();
    while written < most && !gate.pass() {
        place.write(&format!("{name}/{written}"), MIB / 8);
        written += MIB / 8;
        std::thread::sleep(Duration::from_millis(2));
    }
    written
}

#[test]
fn a_writer_is_held_while_room_is_made_and_stopped_when_there_is_none() {
    let place = Place::new(20);
    let (ceiling, _) = place.ceiling(32, "a");
    let growth = ceiling.grow(place.what("step"), &never).unwrap();
    let pedal = Arc::new(Pedal::default());
    growth.hold_by(pedal.clone());
    let told = Mutex::new(Vec::new());
    let written = std::thread::scope(|scope| {
        scope.spawn(|| growth.watch(&|text| told.lock().unwrap().push(text.to_owned())));
        let written = write_pieces(&place, "grows/step", &pedal.gate, 64 * MIB);
        growth.end();
        written
    });
    let full = growth.failure().expect("there is no room for 64 MiB below 32");
    assert!(written > 20 * MIB, "{written}");
    assert!(pedal.held.load(Ordering::SeqCst) && full.written >= 20 * MIB, "{full}");
    assert!(told.lock().unwrap().iter().any(|text| text.contains("made room")), "{told:?}");
    drop(growth);
    let worst = place.ledger().worst;
    let total = survey(place.dir.path(), &Default::default());
    assert!(total <= 32 * MIB + worst.bytes, "{total} {worst:?}");
}

#[test]
fn of_two_that_wait_for_each_other_the_later_one_gives_way() {
    let place = Place::new(0);
    let (ceiling, _) = place.ceiling(24, "a");
    let growths = ["one", "two"].map(|name| ceiling.grow(place.what(name), &never).unwrap());
    let failed = std::thread::scope(|scope| {
        let place = &place;
        let writers = growths.map(|growth| {
            scope.spawn(move || {
                let gate = Arc::new(Gate::default());
                growth.hold_by(gate.clone());
                let name = format!("grows/{}", growth.name);
                let whole = std::thread::scope(|scope| {
                    scope.spawn(|| growth.watch(&|_| {}));
                    let written = write_pieces(place, &name, &gate, 14 * MIB);
                    growth.end();
                    written == 14 * MIB
                });
                if growth.failure().is_some() {
                    fs::remove_dir_all(place.path(&name)).unwrap();
                }
                (whole, growth.failure().is_some())
            })
        });
        writers.map(|writer| writer.join().unwrap())
    });
    // Who wrote what it wanted before the other had to give way is done, too; and who did so between
    // two looks, without room for it, fails at its end.
    assert!(failed.iter().all(|(whole, failed)| *whole || *failed), "{failed:?}");
    assert!(failed.iter().any(|(whole, failed)| *whole && !*failed), "{failed:?}");
}

#[test]
fn who_holds_it_is_told_in_one_line() {
    let holder = |n: u64| Holder {
        title: (n > 0).then(|| format!("build {n}")),
        process: 7,
        own: n == 2,
        bytes: n * MIB,
    };
    let full = Full {
        name: "this step".to_owned(),
        written: 3 * MIB,
        needs: MIB,
        limit: Limit { bytes: 64 * MIB, rule: "--max-cache 64m".to_owned() },
        images: 0,
        holders: [9, 2, 0, 4, 5, 6, 7].map(holder).into(),
    };
    let text = full.to_string();
    let told = "in use: 0B by images with a name, 9MiB by \"build 9\" (process 7), 2MiB by this build, 0B by \
                another command, 4MiB by \"build 4\" (process 7), 5MiB by \"build 5\" (process 7), 13MiB by \
                2 others; wait until the others have ended, or raise the ceiling";
    assert!(text.ends_with(told), "{text}");
    let alone = Full { holders: Vec::new(), ..full.clone() };
    assert!(alone.to_string().ends_with("0B by images with a name; raise the ceiling"), "{alone}");
    let images = Full { images: MIB, ..alone };
    assert!(images.to_string().ends_with("or remove images with `drydock rmi`"), "{images}");
}

#[test]
fn sizes_for_people() {
    for (bytes, text) in [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1KiB"),
        (1536, "1.5KiB"),
        (MIB, "1MiB"),
        ((1 << 30) - 1, "1GiB"),
        (5 << 40, "5TiB"),
    ] {
        assert_eq!(human(bytes), text);
    }
}

#[test]
fn the_size_of_a_snapshot_is_looked_for_once() {
    let place = Place::new(0);
    let dir = place.path("snapshots-v1/ab12");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("meta"), "m").unwrap();
    place.write("snapshots-v1/ab12/data", 2 * MIB);
    let size = snapshot_usage(&dir);
    assert!(size >= 2 * MIB);
    assert_eq!(fs::read_link(dir.join("disk")).unwrap(), PathBuf::from(size.to_string()));
    let before = survey(place.dir.path(), &Default::default());
    fs::remove_file(dir.join("data")).unwrap();
    assert_eq!(survey(place.dir.path(), &Default::default()), before);
}
