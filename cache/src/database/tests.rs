//! Damage to the files of the database: what is lost is told.

use std::collections::BTreeMap;

use tempfile::TempDir;

use super::*;

/// Every how manieth byte of the tables is damaged: a prime, so that all kinds of places are.
const STRIDE: usize = 97;

fn open(root: &Path) -> (Database, Arc<Warnings>) {
    let warnings = Arc::new(Warnings::default());
    let trash = Arc::new(Trash::new(root.join("trash")));
    (Database::new(root, trash, warnings.clone()).unwrap(), warnings)
}

fn key(batch: u8, row: u8) -> [u8; 33] {
    let mut key = [b'r'; 33];
    (key[1], key[2]) = (batch, row);
    key
}

fn rows() -> impl Iterator<Item = ([u8; 33], Vec<u8>)> {
    let all = (0..3u8).flat_map(|batch| (0..3u8).map(move |row| (batch, row)));
    all.map(|(batch, row)| (key(batch, row), vec![batch * 16 + row; 60]))
}

/// Three batches, in as many tables.
fn filled() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["trash", "locks"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let (database, warnings) = open(dir.path());
    for batch in 0..3u8 {
        let writer = database.writer().unwrap().unwrap();
        let of_batch = rows().filter(|(key, _)| key[1] == batch);
        let changes: Vec<Change> = of_batch.map(|(key, value)| Change::Put(key, value)).collect();
        writer.apply(&changes).unwrap();
    }
    assert_eq!(warnings.take(), Vec::<String>::new());
    assert_eq!((database.check(), missing(&database)), (9, 0));
    dir
}

fn missing(database: &Database) -> usize {
    let lacks = |(key, value): &([u8; 33], Vec<u8>)| match database.get(key) {
        Some(found) => {
            assert_eq!(found, *value);
            false
        }
        None => true,
    };
    rows().filter(lacks).count()
}

fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let records = fs::read_dir(root.join("records-v1")).unwrap().map(|e| e.unwrap().path());
    let all = records.chain([root.join("generation")]);
    all.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

fn restore(root: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    let records = root.join("records-v1");
    let _ = fs::remove_dir_all(&records);
    fs::create_dir(&records).unwrap();
    files.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
}

/// Looks for all rows; what is missing must have been told. And once more, which is calm.
fn look(root: &Path, what: &str) -> usize {
    let (database, warnings) = open(root);
    let lost = missing(&database);
    let told = warnings.take();
    assert!(lost == 0 || !told.is_empty(), "{what}: {lost} rows are missing and nothing is told");
    drop(database);
    let (database, warnings) = open(root);
    assert_eq!(missing(&database), lost, "{what}");
    assert_eq!(warnings.take(), Vec::<String>::new(), "{what}");
    if lost > 0 {
        again(root, what);
    }
    lost
}

/// What is stored after that stays.
fn again(root: &Path, what: &str) {
    let all: Vec<Change> = rows().map(|(key, value)| Change::Put(key, value)).collect();
    let (database, warnings) = open(root);
    database.writer().unwrap().unwrap().apply(&all).unwrap();
    drop(database);
    let (database, later) = open(root);
    assert_eq!(missing(&database), 0, "{what}: what was stored later is missing");
    assert_eq!((warnings.take(), later.take()), (Vec::new(), Vec::new()), "{what}");
}

#[test]
fn what_a_flipped_bit_loses_is_told() {
    let dir = filled();
    let good = files(dir.path());
    for (path, bytes) in &good {
        let name = path.file_name().unwrap().to_string_lossy();
        assert!(!name.ends_with(".log") || bytes.is_empty(), "nothing is kept in the log");
        let few = name.ends_with(".sst") || name.starts_with("OPTIONS");
        for at in (0..bytes.len()).step_by(if few { STRIDE } else { 3 }) {
            restore(dir.path(), &good);
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(path, bad).unwrap();
            look(dir.path(), &format!("{name}, byte {at}"));
        }
    }
}

#[test]
fn what_a_cut_or_a_removal_loses_is_told() {
    let dir = filled();
    let good = files(dir.path());
    for (path, bytes) in &good {
        let name = path.file_name().unwrap().to_string_lossy();
        let step = if name.starts_with("MANIFEST") { 7 } else { bytes.len().max(2) / 2 };
        for length in (0..bytes.len()).step_by(step) {
            restore(dir.path(), &good);
            fs::write(path, &bytes[..length]).unwrap();
            look(dir.path(), &format!("{name}, cut to {length}"));
        }
        restore(dir.path(), &good);
        fs::remove_file(path).unwrap();
        look(dir.path(), &format!("{name}, removed"));
    }
}

#[test]
fn what_an_earlier_version_wrote_is_not_behind() {
    let dir = filled();
    fs::write(dir.path().join("generation"), 70u64.to_le_bytes()).unwrap();
    assert_eq!(look(dir.path(), "an older file"), 0);
    let (database, warnings) = open(dir.path());
    let writer = database.writer().unwrap().unwrap();
    writer.apply(&[Change::Put([b'f'; 33], vec![1])]).unwrap();
    assert_eq!((database.generation(), missing(&database)), ((71, true), 0));
    assert_eq!(warnings.take(), Vec::<String>::new());
}

#[test]
fn only_the_rows_of_a_damaged_block_are_lost() {
    let dir = filled();
    let (database, _) = open(dir.path());
    let many = |row: u32| {
        let mut key = [b'f'; 33];
        key[1..].copy_from_slice(blake3::hash(&row.to_le_bytes()).as_bytes());
        (key, row.to_le_bytes().repeat(50))
    };
    let count = 2000;
    let changes =
        (0..count).map(many).map(|(key, value)| Change::Put(key, value)).collect::<Vec<_>>();
    database.writer().unwrap().unwrap().apply(&changes).unwrap();
    drop(database);
    let tables = files(dir.path()).into_iter().filter(|(path, _)| path.extension().is_some());
    let (path, mut bytes) = tables.max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
    let (database, warnings) = open(dir.path());
    let lost = (0..count).filter(|row| database.get(&many(*row).0) != Some(many(*row).1)).count();
    assert!(lost > 0 && lost < 100, "{lost} rows of {count}");
    assert_eq!((warnings.take().len(), missing(&database)), (1, 0));
    again(dir.path(), "a block");
}
