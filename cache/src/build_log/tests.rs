//! Keeping and finding what builds told.

use solver::Stream;

use super::*;

fn logs() -> (tempfile::TempDir, BuildLogs, Trash) {
    let dir = tempfile::tempdir().unwrap();
    for name in [BUCKET, "trash"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let (logs, trash) = (BuildLogs::of(dir.path()), Trash::new(dir.path().join("trash")));
    (dir, logs, trash)
}

fn text(logs: &BuildLogs, id: &str, step: u64) -> String {
    let frames = logs.frames(id, step).unwrap().unwrap();
    let data = frames.flat_map(|frame| frame.unwrap().data).collect();
    String::from_utf8(data).unwrap()
}

#[test]
fn what_is_told_is_kept() {
    let (_dir, logs, _) = logs();
    assert_eq!(logs.ids().unwrap(), Vec::<String>::new());
    let recorder = logs.start("app").unwrap();
    let id = recorder.id().to_owned();
    assert!(is_id(&id), "{id}");
    let now = Timestamp::now();
    recorder.log((7, "RUN a"), Stream::Stdout, now, b"one\n").unwrap();
    recorder.log((9, "RUN b"), Stream::Stderr, now, b"other\n").unwrap();
    recorder.log((7, "RUN a"), Stream::Stderr, now, b"two\n").unwrap();
    assert_eq!(logs.read(&id).unwrap().outcome, Outcome::Running);
    recorder.ended(7, End::Failed("exit code: 1".to_owned()), now).unwrap();
    recorder.finish(Some("no".to_owned())).unwrap();
    drop(recorder);
    let build = logs.read(&id).unwrap();
    assert_eq!((build.title.as_str(), build.steps.len()), ("app", 2));
    assert!(matches!(&build.outcome, Outcome::Failed(_, why) if why == "no"));
    assert_eq!(build.steps[0].end, Some((End::Failed("exit code: 1".to_owned()), now)));
    assert_eq!(build.steps[1].end, None);
    assert_eq!(text(&logs, &id, 7), "one\ntwo\n");
    let streams: Vec<_> =
        logs.frames(&id, 7).unwrap().unwrap().map(|f| f.unwrap().stream).collect();
    assert_eq!(streams, [Stream::Stdout, Stream::Stderr]);
    assert!(logs.frames(&id, 8).unwrap().is_none());
}

#[test]
fn large_output_is_whole() {
    let (_dir, logs, _) = logs();
    let recorder = logs.start("app").unwrap();
    let data: Vec<u8> = (0..3 << 20).map(|n| b'a' + (n % 23) as u8).collect();
    recorder.log((1, "RUN"), Stream::Stdout, Timestamp::now(), &data).unwrap();
    assert_eq!(text(&logs, recorder.id(), 1).into_bytes(), data);
}

#[test]
fn what_is_cut_off_ends_there() {
    let (dir, logs, _) = logs();
    let recorder = logs.start("app").unwrap();
    for line in ["one\n", "two\n"] {
        recorder.log((1, "RUN"), Stream::Stdout, Timestamp::now(), line.as_bytes()).unwrap();
    }
    let id = recorder.id().to_owned();
    drop(recorder);
    let build = dir.path().join(BUCKET).join(&id);
    let log = fs::read(build.join("1.log")).unwrap();
    for cut in 0..log.len() {
        fs::write(build.join("1.log"), &log[..cut]).unwrap();
        assert_eq!(text(&logs, &id, 1), if cut < log.len() / 2 { "" } else { "one\n" });
    }
    let journal = fs::read(build.join(JOURNAL)).unwrap();
    fs::write(build.join(JOURNAL), &journal[..journal.len() - 5]).unwrap();
    let read = logs.read(&id).unwrap();
    assert_eq!((read.outcome, read.steps.len()), (Outcome::Interrupted, 0));
}

#[test]
fn the_oldest_go_and_running_ones_stay() {
    let (_dir, logs, trash) = logs();
    let running = logs.start("first").unwrap();
    for _ in 0..MAX_BUILDS + 3 {
        logs.start("next").unwrap().finish(None).unwrap();
    }
    logs.retain(&trash).unwrap();
    let ids = logs.ids().unwrap();
    assert!(ids.contains(&running.id().to_owned()));
    assert!((MAX_BUILDS..=MAX_BUILDS + 1).contains(&ids.len()), "{}", ids.len());
    let gone = |id: &String| logs.remove(id, &trash).unwrap();
    assert_eq!(ids.iter().filter(|id| gone(id)).count(), ids.len() - 1);
    assert_eq!(logs.ids().unwrap(), [running.id()]);
}
