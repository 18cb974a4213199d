//! Copying the data of regular files the cheapest way that the file systems allow.
//!
//! First a reflink (`FICLONE`: shared extents, no data moves), then `copy_file_range` (in the
//! kernel), then reads and writes. Holes stay holes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::walk::Stat;

/// How much is read at once, in bytes.
const CHUNK: usize = 1 << 20;

/// The most that one `copy_file_range` is asked for, in bytes: it can't be interrupted meanwhile.
const RANGE: u64 = 1 << 30;

/// Copies the whole content of the regular file `source` into the empty regular file `target`
/// (open for writing, at its beginning). Returns the number of bytes.
///
/// # Errors
/// Those of reading and writing; what `target` holds then is unspecified.
pub fn copy_file(source: impl AsFd, target: impl AsFd) -> io::Result<u64> {
    let (source, target) = (source.as_fd(), target.as_fd());
    let stat = Stat::of_fd(source)?;
    if stat.size == 0 {
        // Files of proc and sysfs say that they are empty and are not.
        return copy_stream(source, target, false, &mut |_| {});
    }
    if clone(source, target) {
        return Ok(stat.size);
    }
    if is_sparse(&stat) {
        return copy_sparse(source, target, stat.size);
    }
    copy_range(source, target, 0, stat.size)?;
    // It may have grown meanwhile: copy what there is now.
    let done = rustix::fs::seek(target, SeekFrom::End(0))?;
    rustix::fs::seek(source, SeekFrom::Start(done))?;
    Ok(done + copy_stream(source, target, false, &mut |_| {})?)
}

/// As [`copy_file`], and gives every byte, in order, to `hash` on the way. A hole is given as
/// zeros.
///
/// # Errors
/// Those of reading and writing; what `target` holds then is unspecified.
pub fn copy_hashing(
    source: impl AsFd,
    target: impl AsFd,
    hash: &mut dyn FnMut(&[u8]),
) -> io::Result<u64> {
    let (source, target) = (source.as_fd(), target.as_fd());
    let stat = Stat::of_fd(source)?;
    if stat.size > 0 && clone(source, target) {
        // What was cloned is hashed, not the source, which could have changed since: but the
        // target may be open for writing only, so a change is looked for instead.
        let read = read_all(source, hash)?;
        let after = Stat::of_fd(source)?;
        if read != stat.size || (after.mtime, after.ctime) != (stat.mtime, stat.ctime) {
            return Err(io::Error::other("the file changed while it was copied"));
        }
        return Ok(read);
    }
    copy_stream(source, target, is_sparse(&stat), hash)
}

/// Gives every byte of an open file from its present position to `hash`, in order. Returns their
/// number.
///
/// # Errors
/// Those of reading.
pub fn read_all(source: impl AsFd, hash: &mut dyn FnMut(&[u8])) -> io::Result<u64> {
    let mut buffer = vec![0u8; buffer_size(&source)?];
    let mut total = 0;
    loop {
        match rustix::io::read(&source, &mut buffer[..]) {
            Ok(0) => return Ok(total),
            Ok(n) => {
                hash(&buffer[..n]);
                total += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Small files get small buffers: clearing a large one costs more than reading them.
fn buffer_size(source: impl AsFd) -> io::Result<usize> {
    let size = Stat::of_fd(source)?.size;
    Ok(usize::try_from(size).unwrap_or(CHUNK).saturating_add(1).clamp(4096, CHUNK))
}

fn is_sparse(stat: &Stat) -> bool {
    stat.blocks * 512 < stat.size
}

fn clone(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> bool {
    rustix::fs::ioctl_ficlone(target, source).is_ok()
}

/// Copies the range `from..end` to the same place in `target`, or less if `source` ends earlier.
fn copy_range(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    from: u64,
    end: u64,
) -> io::Result<()> {
    let (mut read_at, mut write_at) = (from, from);
    while read_at < end {
        let want = usize::try_from((end - read_at).min(RANGE)).unwrap_or(CHUNK);
        let result = rustix::fs::copy_file_range(
            source,
            Some(&mut read_at),
            target,
            Some(&mut write_at),
            want,
        );
        match result {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            // Across file systems, or one that doesn't know it.
            Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM) => {
                return copy_range_by_hand(source, target, read_at, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_range_by_hand(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    from: u64,
    end: u64,
) -> io::Result<()> {
    let mut buffer = vec![0u8; CHUNK.min(usize::try_from(end - from).unwrap_or(CHUNK))];
    let mut at = from;
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(CHUNK).min(buffer.len());
        match rustix::io::pread(source, &mut buffer[..want], at) {
            Ok(0) => break,
            Ok(n) => {
                write_all_at(target, &buffer[..n], at)?;
                at += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_sparse(source: BorrowedFd<'_>, target: BorrowedFd<'_>, size: u64) -> io::Result<u64> {
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(source, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole from here on.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => at,
            Err(error) => return Err(error.into()),
        };
        let hole = match rustix::fs::seek(source, SeekFrom::Hole(data)) {
            Ok(hole) => hole,
            Err(Errno::INVAL) => size,
            Err(error) => return Err(error.into()),
        };
        copy_range(source, target, data, hole)?;
        at = hole;
    }
    rustix::fs::ftruncate(target, size)?;
    Ok(size)
}

/// Reads to the end and writes; with `holes`, chunks of zeros are left out.
fn copy_stream(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    holes: bool,
    hash: &mut dyn FnMut(&[u8]),
) -> io::Result<u64> {
    let start = rustix::fs::tell(target)?;
    let mut at = start;
    let mut failed = None;
    let total = read_all(source, &mut |chunk| {
        if failed.is_some() {
            return;
        }
        hash(chunk);
        if !(holes && chunk.iter().all(|b| *b == 0)) {
            failed = write_all_at(target, chunk, at).err();
        }
        at += chunk.len() as u64;
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    if holes {
        rustix::fs::ftruncate(target, at)?;
    }
    Ok(total)
}

fn write_all_at(target: BorrowedFd<'_>, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(target, bytes, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = &bytes[n..];
                at += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Seek, SeekFrom, Write};

    fn pair(dir: &std::path::Path, content: impl FnOnce(&mut File)) -> (File, File) {
        let mut file = File::create(dir.join("source")).unwrap();
        content(&mut file);
        drop(file);
        (File::open(dir.join("source")).unwrap(), File::create(dir.join("target")).unwrap())
    }

    fn same(dir: &std::path::Path) -> bool {
        std::fs::read(dir.join("source")).unwrap() == std::fs::read(dir.join("target")).unwrap()
    }

    #[test]
    fn data_is_the_same_either_way() {
        for size in [0, 1, 4095, 4096, CHUNK - 1, CHUNK, 3 * CHUNK + 7] {
            let data: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            let dir = tempfile::tempdir().unwrap();
            let (source, target) = pair(dir.path(), |f| f.write_all(&data).unwrap());
            assert_eq!(copy_file(&source, &target).unwrap(), size as u64);
            assert!(same(dir.path()), "{size}");
            let (source, target) = pair(dir.path(), |f| f.write_all(&data).unwrap());
            let mut seen = Vec::new();
            let n = copy_hashing(&source, &target, &mut |b| seen.extend_from_slice(b)).unwrap();
            assert_eq!(n, size as u64);
            assert!(same(dir.path()) && seen == data, "{size}");
        }
    }

    #[test]
    fn holes_stay() {
        let dir = tempfile::tempdir().unwrap();
        let make = |f: &mut File| {
            f.seek(SeekFrom::Start(8 << 20)).unwrap();
            f.write_all(b"in the middle").unwrap();
            f.set_len(24 << 20).unwrap();
        };
        for hashing in [false, true] {
            let (source, target) = pair(dir.path(), make);
            if !is_sparse(&Stat::of_fd(&source).unwrap()) {
                println!("skipped: no holes on this file system");
                return;
            }
            let copied = if hashing {
                copy_hashing(&source, &target, &mut |_| {}).unwrap()
            } else {
                copy_file(&source, &target).unwrap()
            };
            assert_eq!(copied, 24 << 20);
            assert!(same(dir.path()));
            assert!(Stat::of_fd(&target).unwrap().blocks * 512 < 4 << 20, "{hashing}");
        }
    }

    #[test]
    fn files_that_claim_to_be_empty() {
        let dir = tempfile::tempdir().unwrap();
        let target = File::create(dir.path().join("target")).unwrap();
        let copied = copy_file(File::open("/proc/self/status").unwrap(), &target).unwrap();
        assert!(copied > 100);
    }
}
