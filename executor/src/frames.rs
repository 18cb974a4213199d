//! Carrying frames between a tap interface and a socket of passt's.
//!
//! Each direction has a thread of its own, so that neither waits for the other. What would mean the
//! host itself to passt is dropped here: a step can send to 127.0.0.1 through eth0 (with
//! SO_BINDTODEVICE, or a raw socket), and older versions of passt deliver that to the host's
//! own loopback interface.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::{Builder, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// The largest frame: a packet of 65535 bytes and a header of 14.
const FRAME_BYTES: usize = 65_535 + ETHERNET;
/// Bytes before a packet.
const ETHERNET: usize = 14;
/// Bytes that tell the length of a frame in the stream, big-endian (passt(1); QEMU's `-netdev
/// socket`).
const LENGTH: usize = 4;
/// How much is sent at once.
const BATCH_BYTES: usize = 256 * 1024;
/// How much is received at once.
const RECEIVE_BYTES: usize = 256 * 1024;

/// The threads. They end when the other end of the socket is closed; dropping waits for that.
pub(crate) struct Pump {
    threads: [Option<JoinHandle<()>>; 2],
}

impl Pump {
    pub(crate) fn new(tap: OwnedFd, stream: UnixStream) -> io::Result<Self> {
        let (tap, other_tap) = (tap.try_clone()?, tap);
        let other_stream = stream.try_clone()?;
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            Builder::new().name(name.to_owned()).spawn(work).map(Some)
        };
        // An error is the end of the connection, which passt's end tells, too.
        let out = spawn("frames out", Box::new(move || drop(outward(&tap, stream))))?;
        let inward = move || drop(inward(File::from(other_tap), other_stream));
        let into = spawn("frames in", Box::new(inward))?;
        Ok(Self { threads: [out, into] })
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        for thread in self.threads.iter_mut().filter_map(Option::take) {
            // A panic was told where it happened.
            let _ = thread.join();
        }
    }
}

/// From the interface to the stream, until that is closed.
fn outward(tap: &OwnedFd, mut stream: UnixStream) -> io::Result<()> {
    let mut batch = vec![0; BATCH_BYTES];
    loop {
        let open = {
            let mut fds = [
                PollFd::new(tap, PollFlags::IN),
                // Only that it was closed: what there is to read is the other thread's.
                PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::empty()),
            ];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            fds[1].revents().is_empty()
        };
        if !open {
            return Ok(());
        }
        let filled = collect(tap, &mut batch)?;
        stream.write_all(&batch[..filled])?;
    }
}

/// Takes frames that are there, as many as fit; how many bytes of `batch` they fill.
fn collect(tap: &OwnedFd, batch: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = batch.get_mut(filled..filled + LENGTH + FRAME_BYTES) {
        let (header, data) = room.split_at_mut(LENGTH);
        match rustix::io::read(tap, &mut *data) {
            Ok(length) if may_leave(&data[..length]) => {
                // FRAME_BYTES is less than 1 << 32.
                header.copy_from_slice(&(length as u32).to_be_bytes());
                filled += LENGTH + length;
            }
            Ok(_) | Err(Errno::INTR) => {}
            // EIO: the interface is down, which only a step without confinement can do.
            Err(Errno::AGAIN | Errno::IO) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(filled)
}

/// From the stream to the interface, until the stream ends.
fn inward(mut tap: File, mut stream: UnixStream) -> io::Result<()> {
    let mut buffer = vec![0; RECEIVE_BYTES];
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(()),
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        let mut start = 0;
        while let Some(frame) = first(&buffer[start..filled])? {
            // A frame that the interface does not take is lost, as on any network.
            let _ = tap.write(frame);
            start += LENGTH + frame.len();
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
    }
}

/// The first frame of a stream, if it is there as a whole.
fn first(bytes: &[u8]) -> io::Result<Option<&[u8]>> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length > FRAME_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(rest.get(..length))
}

/// Lets ARP, IPv4 and IPv6 pass, but for addresses that mean the host itself to whom they are
/// handed: 127.0.0.0/8, 0.0.0.0/8, and the IPv6 ones that begin with 16 zero bits (`::`, `::1`,
/// mapped IPv4). Frames of other kinds, such as those of a VLAN, are nothing to passt.
fn may_leave(frame: &[u8]) -> bool {
    const ARP: u16 = 0x0806;
    const IPV4: u16 = 0x0800;
    const IPV6: u16 = 0x86dd;
    let Some((header, packet)) = frame.split_first_chunk::<ETHERNET>() else { return false };
    match u16::from_be_bytes([header[12], header[13]]) {
        ARP => true,
        IPV4 => {
            let address = |at| part::<4>(packet, at).map(Ipv4Addr::from);
            let (Some(source), Some(target)) = (address(12), address(16)) else { return false };
            !source.is_loopback() && !target.is_loopback() && target.octets()[0] != 0
        }
        IPV6 => {
            let address = |at| part::<16>(packet, at).map(Ipv6Addr::from);
            let (Some(source), Some(target)) = (address(8), address(24)) else { return false };
            !source.is_loopback() && target.segments()[0] != 0
        }
        _ => false,
    }
}

fn part<const N: usize>(packet: &[u8], at: usize) -> Option<[u8; N]> {
    packet.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4(source: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        let mut frame = vec![0; 34];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[26..30].copy_from_slice(&source);
        frame[30..34].copy_from_slice(&target);
        frame
    }

    fn ipv6(source: &str, target: &str) -> Vec<u8> {
        let octets = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        let mut frame = vec![0; 54];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[22..38].copy_from_slice(&octets(source));
        frame[38..54].copy_from_slice(&octets(target));
        frame
    }

    #[test]
    fn frames_for_the_host_itself_do_not_leave() {
        let own = [10, 0, 2, 100];
        for target in [[10, 0, 2, 3], [192, 0, 2, 1], [8, 8, 8, 8], [255; 4], [224, 0, 0, 1]] {
            assert!(may_leave(&ipv4(own, target)), "{target:?}");
            assert!(!may_leave(&ipv4([127, 0, 0, 1], target)), "{target:?}");
        }
        assert!(may_leave(&ipv4([0; 4], [255; 4])));
        for target in [[127, 0, 0, 1], [127, 255, 0, 9], [0; 4], [0, 0, 0, 1]] {
            assert!(!may_leave(&ipv4(own, target)), "{target:?}");
        }
        for target in ["2001:db8::1", "fe80::1", "ff02::1", "64:ff9b::7f00:1"] {
            assert!(may_leave(&ipv6("fd00::1", target)), "{target}");
            assert!(may_leave(&ipv6("::", target)), "{target}");
            assert!(!may_leave(&ipv6("::1", target)), "{target}");
        }
        for target in ["::1", "::", "::ffff:127.0.0.1", "::127.0.0.1"] {
            assert!(!may_leave(&ipv6("fd00::1", target)), "{target}");
        }
    }

    #[test]
    fn nor_do_frames_of_other_kinds_or_parts_of_frames() {
        let frame = |kind: [u8; 2]| {
            let mut frame = vec![0; 60];
            frame[12..14].copy_from_slice(&kind);
            frame
        };
        assert!(may_leave(&frame([8, 6])));
        for kind in [[0x81, 0], [0x88, 0xa8], [0x88, 0x64], [0, 60]] {
            assert!(!may_leave(&frame(kind)), "{kind:?}");
        }
        let (four, six) = (ipv4([10; 4], [10; 4]), ipv6("fd00::1", "fd00::2"));
        for whole in [&four, &six] {
            assert!((0..whole.len()).all(|length| !may_leave(&whole[..length])));
        }
    }

    #[test]
    fn frames_of_a_stream() {
        assert_eq!(first(&[0, 0]).unwrap(), None);
        assert_eq!(first(&[0, 0, 0, 2, 1]).unwrap(), None);
        assert_eq!(first(&[0, 0, 0, 2, 1, 2, 3]).unwrap(), Some(&[1, 2][..]));
        assert_eq!(first(&[0, 0, 0, 0]).unwrap(), Some(&[][..]));
        assert!(first(&[0, 1, 0, 14]).is_err());
        assert!(first(&[0, 1, 0, 13]).unwrap().is_none());
    }
}
