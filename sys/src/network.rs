//! Network devices of the calling thread's network namespace, and namespaces of their own.

use std::ffi::CStr;
use std::fs::OpenOptions;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// The device that tap interfaces come from.
pub const TUN: &str = "/dev/net/tun";
/// Who may use ICMP sockets, by group (icmp(7)).
const PING_GROUPS: &str = "/proc/sys/net/ipv4/ping_group_range";
/// All groups; where not all are there, those of a usual range; else the first.
const PING_RANGES: [&str; 3] = ["0\t2147483647", "0\t65535", "0\t0"];

/// What means the host itself to whom an IPv4 packet is handed: loopback addresses, and this host on
/// this network (RFC 1122, 3.2.1.3).
const OWN_IPV4: [(Ipv4Addr, u8); 2] =
    [(Ipv4Addr::new(127, 0, 0, 0), 8), (Ipv4Addr::UNSPECIFIED, 8)];
/// The same for IPv6: what begins with 16 zero bits, which is `::`, `::1`, mapped IPv4.
const OWN_IPV6: (Ipv6Addr, u8) = (Ipv6Addr::UNSPECIFIED, 16);

/// Where an address of this host is looked for: in no network of its own, whatever that has (an
/// anycast one of RFC 7526, which is out of use, and one of IPv6 alike). Nothing is sent there.
const OUTSIDE: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 88, 99, 1)), 9),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2002, 0xc058, 0x6301, 0, 0, 0, 0, 1)), 9),
];

/// Why there is no network namespace.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No thread, or the kernel refuses the namespace.
    #[error("cannot make a network namespace: {errno}")]
    Namespace {
        /// Cause.
        errno: Errno,
    },
    /// `lo` stays down.
    #[error("cannot bring the loopback device up: {errno}")]
    Loopback {
        /// Cause.
        errno: Errno,
    },
    /// The kernel does not take what its routing is to do with packets for loopback addresses.
    #[error("cannot keep packets for {address}/{bits} in a network namespace: {errno}")]
    Routing {
        /// Whose packets.
        address: IpAddr,
        /// Bits of the address that count.
        bits: u8,
        /// Cause.
        errno: Errno,
    },
}

/// Opens [`TUN`].
///
/// # Errors
/// `ENOENT` without the kernel's module, `EACCES` where it is not for this user, `EPERM` where a
/// control group forbids it.
pub fn open_tun() -> Result<OwnedFd, Errno> {
    let opened = OpenOptions::new().read(true).write(true).open(TUN);
    opened.map(Into::into).map_err(|error| errno_of(&error))
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Makes a network namespace with `lo`, which is up, in which ICMP sockets may be used. IPv6
/// packets for the host itself go to `lo` alone, see [`keep_loopback`].
///
/// The namespace lives as long as the descriptor, or a process in it.
///
/// # Errors
/// [`NetworkError`].
pub fn guarded_namespace() -> Result<OwnedFd, NetworkError> {
    on_a_thread(|| {
        crate::namespace::unshare(UnshareFlags::NEWNET)
            .map_err(|errno| NetworkError::Namespace { errno })?;
        loopback_up().map_err(|errno| NetworkError::Loopback { errno })?;
        let (address, bits) = OWN_IPV6;
        match ask(&prohibition(address, bits)) {
            // A kernel without IPv6 sends none.
            Ok(()) | Err(Errno::AFNOSUPPORT | Errno::OPNOTSUPP) => {}
            Err(errno) => {
                return Err(NetworkError::Routing { address: address.into(), bits, errno });
            }
        }
        // Without it ping(8) takes a raw socket.
        let _ = PING_RANGES.iter().find(|range| std::fs::write(PING_GROUPS, range).is_ok());
        let own = std::fs::File::open("/proc/thread-self/ns/net");
        own.map(Into::into).map_err(|error| NetworkError::Namespace { errno: errno_of(&error) })
    })
}

/// Sees to it that no packet for the host itself leaves a namespace of [`guarded_namespace`]
/// through `interface`, its only one besides `lo`, although sockets can name it (SO_BINDTODEVICE in
/// socket(7)): for IPv4 such packets are local on it, too. They have to find a route: without
/// one, the kernel takes them for neighbours on a named interface (`ip_route_output_key_hash_rcu`).
/// For IPv6 a rule refuses them: routes of other interfaces do not count there.
///
/// # Errors
/// [`NetworkError`].
pub fn keep_loopback(namespace: BorrowedFd<'_>, interface: &CStr) -> Result<(), NetworkError> {
    on_a_thread(|| {
        rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
            .map_err(|errno| NetworkError::Namespace { errno })?;
        // SAFETY: a C string that is valid for the call.
        let index = unsafe { libc::if_nametoindex(interface.as_ptr()) };
        for (address, bits) in OWN_IPV4 {
            ask(&local_route(address, bits, index)).map_err(|errno| NetworkError::Routing {
                address: address.into(),
                bits,
                errno,
            })?;
        }
        Ok(())
    })
}

/// The namespace of a thread ends with it.
fn on_a_thread<T: Send>(
    work: impl FnOnce() -> Result<T, NetworkError> + Send,
) -> Result<T, NetworkError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("network".into()).spawn_scoped(scope, work);
        let thread = thread.map_err(|_| NetworkError::Namespace { errno: Errno::AGAIN })?;
        thread.join().unwrap_or(Err(NetworkError::Namespace { errno: Errno::CANCELED }))
    })
}

/// Sends a request of rtnetlink(7), and waits for its acknowledgement.
fn ask(message: &[u8]) -> Result<(), Errno> {
    // SAFETY: no memory is passed; the result is a new descriptor or -1.
    let socket = unsafe {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        let fd = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE);
        crate::errno::check(fd.into())?;
        OwnedFd::from_raw_fd(fd)
    };
    rustix::io::write(&socket, message)?;
    let mut answer = [0_u8; 256];
    let length = rustix::io::read(&socket, &mut answer)?;
    // A header of 16 bytes, then an error as a negative number; 0 is success.
    let code = answer[..length].get(16..20).and_then(|it| it.try_into().ok());
    match i32::from_ne_bytes(code.ok_or(Errno::BADMSG)?) {
        0 => Ok(()),
        code => Err(Errno::from_raw_os_error(code.saturating_neg())),
    }
}

/// A rule, right after that for local addresses, by which packets to these are refused.
fn prohibition(address: Ipv6Addr, bits: u8) -> Vec<u8> {
    const FRA_DST: u16 = 1;
    const FRA_PRIORITY: u16 = 6;
    const FR_ACT_PROHIBIT: u8 = 8;
    let priority = 1_u32.to_ne_bytes();
    // `struct fib_rule_hdr`; families are below 256.
    let header = [libc::AF_INET6 as u8, bits, 0, 0, 0, 0, 0, FR_ACT_PROHIBIT, 0, 0, 0, 0];
    let attributes = [(FRA_DST, &address.octets()[..]), (FRA_PRIORITY, &priority[..])];
    request(libc::RTM_NEWRULE, header, &attributes)
}

/// A route by which packets to these are for this host, also where a socket names the interface.
fn local_route(address: Ipv4Addr, bits: u8, interface: u32) -> Vec<u8> {
    let (table, by, scope) = (libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, libc::RT_SCOPE_HOST);
    // `struct rtmsg`; families are below 256.
    let header = [libc::AF_INET as u8, bits, 0, 0, table, by, scope, libc::RTN_LOCAL, 0, 0, 0, 0];
    let (octets, interface) = (address.octets(), interface.to_ne_bytes());
    let attributes = [(libc::RTA_DST, &octets[..]), (libc::RTA_OIF, &interface[..])];
    request(libc::RTM_NEWROUTE, header, &attributes)
}

/// A message: `struct nlmsghdr`, a header of 12 bytes, and attributes, whose values are of a
/// multiple of 4 bytes.
fn request(kind: u16, header: [u8; 12], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = header.to_vec();
    for (kind, value) in attributes {
        // At most 20: the length counts its own header.
        body.extend((4 + value.len() as u16).to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(*value);
    }
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    // Less than 100.
    let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    // 16 bits by definition of `struct nlmsghdr`.
    message.extend((flags as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// The addresses by which this host reaches others: of IPv4 and of IPv6, where it has a route.
#[must_use]
pub fn outward_addresses() -> [Option<IpAddr>; 2] {
    OUTSIDE.map(|outside| {
        let any = match outside {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        // Sends nothing: it looks for a route.
        socket.connect(outside).ok()?;
        socket.local_addr().ok().map(|it| it.ip()).filter(|it| !it.is_unspecified())
    })
}

/// Brings `lo` up; the kernel then gives it 127.0.0.1 and ::1 (netdevice(7)). Does not allocate.
///
/// # Errors
/// The kernel's refusal; `EPERM` without CAP_NET_ADMIN.
pub fn loopback_up() -> Result<(), Errno> {
    // SAFETY: no memory is passed; the result is a new descriptor or -1.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        crate::errno::check(fd.into())?;
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = byte.cast_signed();
    }
    // IFF_UP and IFF_RUNNING are below 1 << 15.
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is valid for the call and names a device.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    crate::errno::check(result.into()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn privileged_loopback_works_in_a_guarded_namespace() {
        let namespace = match guarded_namespace() {
            Ok(namespace) => namespace,
            Err(error) if !rustix::process::geteuid().is_root() => {
                return eprintln!("skipped: it needs root ({error})");
            }
            Err(error) => panic!("{error}"),
        };
        // There is no other interface yet.
        keep_loopback(namespace.as_fd(), c"lo").unwrap();
        let none = keep_loopback(namespace.as_fd(), c"eth7");
        assert!(matches!(none, Err(NetworkError::Routing { .. })), "{none:?}");
        let reaches = |target: &str| {
            let target: SocketAddr = target.parse().unwrap();
            let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let reached = on_a_thread(|| {
                let kind = Some(LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).unwrap();
                assert_eq!(outward_addresses(), [None, None]);
                Ok(UdpSocket::bind(any).and_then(|it| it.connect(target)))
            });
            reached.unwrap().map_err(|error| error.kind())
        };
        assert_eq!(reaches("127.0.0.1:9"), Ok(()));
        assert_eq!(reaches("0.1.2.3:9"), Ok(()));
        // Where the kernel has IPv6.
        assert_ne!(reaches("[::1]:9"), Err(std::io::ErrorKind::PermissionDenied));
        assert_ne!(reaches("[::2]:9"), Ok(()));
    }
}
