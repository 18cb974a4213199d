//! A network of a process's own that reaches the world through a program in the builder's network:
//! `pasta` (passt(1)) ends its connections there and makes new ones, as an ordinary process does.
//!
//! The namespace is made first; then pasta is launched on it like any other process, alone in a pid
//! namespace whose init ends with the builder; then the step enters. So however a builder ends,
//! pasta does, too.
//!
//! A packet for 127.0.0.1 can be sent through any interface, and older versions of pasta deliver
//! it to the host's own. So the namespace's routing keeps such packets
//! ([`sys::network::keep_loopback`]), and confined processes in it may not go round the
//! routing: they do not have CAP_NET_RAW ([`withheld`]).

use std::ffi::{CStr, CString};
use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use sys::capability::{self, Capabilities};
use sys::launch::{Child, LaunchError, launch, wait_readable};
use sys::network::{NetworkError as SystemError, TUN};
use sys::program::{Confinement, FdIndex, Namespaces, Payload, Program};

use crate::cancel::CancelToken;
use crate::error::ExecError;
use crate::spec::Network;

/// The process's interface.
const INTERFACE: &CStr = c"eth0";
/// Its address, in the block that other user-mode networks use as well; nobody outside sees it.
const IPV4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
const IPV4_BITS: &str = "24";
const IPV4_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// A unique local address (RFC 4193). Without IPv6 on the host it is not used.
const IPV6: Ipv6Addr = Ipv6Addr::new(0xfd64, 0x7264, 0x796b, 0, 0, 0, 0, 0x100);
const IPV6_GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfd64, 0x7264, 0x796b, 0, 0, 0, 0, 2);
/// Stands for the host's first name server, where that is asked for.
pub(crate) const DNS_IPV4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// The same for IPv6.
pub(crate) const DNS_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd64, 0x7264, 0x796b, 0, 0, 0, 0, 3);

/// What pasta needs: to enter the namespace, configure it, and lock itself in. It drops them.
const CAPABILITIES: Capabilities = Capabilities::SYS_ADMIN
    .union(Capabilities::NET_ADMIN)
    .union(Capabilities::SYS_CHROOT)
    .union(Capabilities::SETUID)
    .union(Capabilities::SETGID)
    .union(Capabilities::SETPCAP);
/// How long pasta may take until the network is there; it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much is kept of what pasta says.
const TOLD_BYTES: usize = 4096;
/// How many lines of it are told.
const TOLD_LINES: usize = 3;

/// Why a process does not get a network of its own.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// pasta is not installed.
    #[error(
        "the network mode isolated needs the program pasta, which is not installed (on Debian and \
         Ubuntu: `apt install passt`)"
    )]
    NoProgram,
    /// /dev/net/tun cannot be used.
    #[error("the network mode isolated needs {TUN}, which cannot be opened: {errno}; {}", advice(*errno))]
    NoDevice {
        /// Cause.
        errno: Errno,
    },
    /// The namespace or its interface cannot be made.
    #[error(transparent)]
    System(SystemError),
    /// pasta cannot be started.
    #[error("cannot start pasta: {0}")]
    Launch(#[from] LaunchError),
    /// The network was not there in time, or pasta ended before.
    #[error("the network of the step cannot be made: pasta {what}{told}")]
    Failed {
        /// What became of it.
        what: &'static str,
        /// What it said.
        told: Told,
    },
}

/// What pasta said, if anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told(String);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

fn advice(errno: Errno) -> String {
    match errno {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => {
            format!(
                "load the kernel's module (`modprobe tun`), or give it to the container (--device {TUN})"
            )
        }
        Errno::PERM => format!("give it to the container (--device {TUN})"),
        _ => format!("let this user open it, as root: `chmod 0666 {TUN}`"),
    }
}

/// Whether this host can give a process a network of its own.
///
/// # Errors
/// What is missing, and how to get it.
pub(crate) fn check(program: Option<&Path>) -> Result<(), NetworkError> {
    program.ok_or(NetworkError::NoProgram)?;
    sys::network::open_tun().map(drop).map_err(|errno| NetworkError::NoDevice { errno })
}

/// Capabilities that a confined process does not get in this network: raw sockets, packet sockets
/// and those of XDP send what no routing has seen.
pub(crate) fn withheld(network: Network) -> Capabilities {
    match network {
        Network::Host | Network::None => Capabilities::empty(),
        Network::Isolated => Capabilities::NET_RAW,
    }
}

/// The address of this host as a process reaches it.
pub(crate) fn gateway(network: Network) -> Option<IpAddr> {
    match network {
        Network::Host => Some(Ipv4Addr::LOCALHOST.into()),
        Network::None => None,
        Network::Isolated => sys::network::outward_addresses().into_iter().flatten().next(),
    }
}

/// A network namespace that is connected while this lives.
pub(crate) struct Link {
    /// What the step enters.
    pub(crate) namespace: OwnedFd,
    child: Child,
    told: OwnedFd,
}

impl Link {
    /// Makes a network. Addresses in `forwarded` stand for the host's first name server.
    pub(crate) fn new(
        program: Option<&PathBuf>,
        forwarded: &[IpAddr],
        cancel: &CancelToken,
    ) -> Result<Self, ExecError> {
        let program = program.ok_or(NetworkError::NoProgram)?;
        let namespace = sys::network::guarded_namespace().map_err(NetworkError::System)?;
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(failed("make a pipe"));
        let ((ready, stdout), (told, stderr)) = (pipe()?, pipe()?);
        // Nobody reads what it says while the step runs: it must not wait for that.
        for end in [&told, &stderr] {
            fcntl_setfl(end, OFlags::NONBLOCK).map_err(failed("set up a pipe"))?;
        }
        let stdin = namespace.try_clone();
        let stdin =
            stdin.map_err(|source| ExecError::Io { operation: "copy a descriptor", source })?;
        let program = launched(program, forwarded, [stdin, stdout, stderr])?;
        let child = launch(&program).map_err(NetworkError::from)?;
        // The write ends must not stay here, or an end would never be seen.
        drop(program);
        let link = Self { namespace, child, told };
        link.await_network(&ready, cancel)?;
        sys::network::keep_loopback(link.namespace.as_fd(), INTERFACE)
            .map_err(NetworkError::System)?;
        Ok(link)
    }

    /// pasta writes its process id when all is set up (passt(1), `--pid`).
    fn await_network(&self, ready: &OwnedFd, cancel: &CancelToken) -> Result<(), ExecError> {
        let wait = |source| ExecError::Io { operation: "wait for pasta", source };
        let stop = cancel.fd().map_err(wait)?;
        let end = Instant::now() + PATIENCE;
        let failed = |what| NetworkError::Failed { what, told: self.told() };
        loop {
            if cancel.is_cancelled() {
                return Err(ExecError::Cancelled);
            }
            let left = end.saturating_duration_since(Instant::now());
            let fds = [Some(ready.as_fd()), Some(self.child.pidfd()), Some(stop)];
            let [written, ended, stopped] = wait_readable(fds, Some(left)).map_err(wait)?;
            if written && matches!(rustix::io::read(ready, &mut [0_u8; 16]), Ok(1..)) {
                return Ok(());
            }
            if written || ended {
                return Err(failed("ended").into());
            }
            if !stopped && left.is_zero() {
                return Err(failed("did not get ready").into());
            }
        }
    }

    /// What pasta said before it ended, if it has: then the process lost its network.
    pub(crate) fn lost(&self) -> Option<Told> {
        let now = Some(Duration::ZERO);
        let ended = wait_readable([Some(self.child.pidfd())], now).is_ok_and(|[ended]| ended);
        ended.then(|| self.told())
    }

    fn told(&self) -> Told {
        let mut text = vec![0; TOLD_BYTES];
        let length = rustix::io::read(&self.told, &mut text[..]).unwrap_or(0);
        Told(last_lines(&String::from_utf8_lossy(&text[..length])))
    }
}

fn failed(operation: &'static str) -> impl Fn(Errno) -> ExecError {
    move |errno| ExecError::Io { operation, source: errno.into() }
}

/// The last lines that say something, as one. A host without a system log makes others.
fn last_lines(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let mut lines: Vec<&str> =
        lines.filter(|line| !line.is_empty() && !line.ends_with("bytes to syslog")).collect();
    lines.drain(..lines.len().saturating_sub(TOLD_LINES));
    lines.join("; ")
}

/// pasta as a process whose init is ours. Its standard input is the network namespace, its
/// standard output tells when it is ready.
fn launched(
    program: &Path,
    forwarded: &[IpAddr],
    [stdin, stdout, stderr]: [OwnedFd; 3],
) -> Result<Program, ExecError> {
    let have = capability::effective().map_err(failed("read the builder's capabilities"))?;
    let text = |bytes: &[u8]| {
        CString::new(bytes).map_err(|_| ExecError::Unpassable {
            what: "path",
            value: program.display().to_string(),
        })
    };
    let args = arguments(forwarded);
    Ok(Program {
        namespaces: Namespaces { pid: true, ..Namespaces::default() },
        // No step uses it.
        root: FdIndex(0),
        fds: Vec::new(),
        steps: Vec::new(),
        confinement: Confinement { capabilities: CAPABILITIES & have, filter: None },
        payload: Payload {
            candidates: vec![text(program.as_os_str().as_bytes())?],
            args: args.iter().map(|it| text(it.as_bytes())).collect::<Result<_, _>>()?,
            env: Vec::new(),
            directory: c"/".to_owned(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            limits: Vec::new(),
            stdin,
            stdout,
            stderr,
        },
    })
}

/// Nothing of the host is brought in but a way out: no port either way, no host behind the
/// router's address, no configuration by DHCP.
fn arguments(forwarded: &[IpAddr]) -> Vec<String> {
    let mut args: Vec<String> = [
        "pasta --foreground --quiet --runas 0 --netns /proc/self/fd/0 --no-netns-quit",
        "--pid /proc/self/fd/1 --config-net --no-map-gw --no-dhcp --no-dhcpv6 --no-ra",
        "--tcp-ports none --udp-ports none --tcp-ns none --udp-ns none",
    ]
    .iter()
    .flat_map(|part| part.split(' ').map(str::to_owned))
    .collect();
    let mut add = |option: &str, value: String| args.extend([option.to_owned(), value]);
    add("--ns-ifname", INTERFACE.to_string_lossy().into_owned());
    add("--address", IPV4.to_string());
    add("--netmask", IPV4_BITS.to_owned());
    add("--gateway", IPV4_GATEWAY.to_string());
    add("--address", IPV6.to_string());
    add("--gateway", IPV6_GATEWAY.to_string());
    for address in forwarded {
        add("--dns-forward", address.to_string());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_in() {
        let args = arguments(&[DNS_IPV4.into()]).join(" ");
        for part in [
            "--no-map-gw",
            "--tcp-ports none",
            "--udp-ports none",
            "--tcp-ns none",
            "--udp-ns none",
            "--ns-ifname eth0",
        ] {
            assert!(args.contains(part), "{part}: {args}");
        }
        assert!(args.ends_with("--dns-forward 10.0.2.3"), "{args}");
        assert!(!arguments(&[]).join(" ").contains("dns"));
    }

    #[test]
    fn what_is_missing() {
        assert!(matches!(check(None), Err(NetworkError::NoProgram)));
        assert!(NetworkError::NoProgram.to_string().contains("apt install passt"));
        for (errno, advice) in [
            (Errno::NOENT, "modprobe tun"),
            (Errno::ACCESS, "chmod 0666 /dev/net/tun"),
            (Errno::PERM, "--device /dev/net/tun"),
        ] {
            let text = NetworkError::NoDevice { errno }.to_string();
            assert!(text.contains(advice), "{text}");
        }
    }

    #[test]
    fn what_it_said() {
        let text =
            "Failed to send 46 bytes to syslog\na\nb\n\nFailed to send 1 bytes to syslog\nc\nd\n";
        assert_eq!(last_lines(text), "b; c; d");
        assert_eq!(Told(last_lines("")).to_string(), "");
        assert_eq!(Told("x".into()).to_string(), ": x");
    }

    #[test]
    fn ways_to_this_host() {
        assert_eq!(gateway(Network::Host), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(gateway(Network::None), None);
        assert!(gateway(Network::Isolated).is_none_or(|it| !it.is_unspecified()));
    }
}
