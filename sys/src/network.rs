//! Network devices of the calling thread's network namespace, and namespaces of their own.

use std::ffi::CStr;
use std::fs::OpenOptions;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

/// The device that tap interfaces come from.
pub const TUN: &str = "/dev/net/tun";
/// Keeps an IPv6 address from being useless until nobody has objected to it (ip-sysctl.rst).
const ACCEPT_DAD: &str = "/proc/sys/net/ipv6/conf/default/accept_dad";

/// Where an address of this host is looked for: in no network of its own, whatever that has (an
/// anycast one of RFC 7526, which is out of use, and one of IPv6 alike). Nothing is sent there.
const OUTSIDE: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 88, 99, 1)), 9),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2002, 0xc058, 0x6301, 0, 0, 0, 0, 1)), 9),
];

/// Why there is no network namespace with a tap interface.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No thread, or the kernel refuses the namespace.
    #[error("cannot make a network namespace: {errno}")]
    Namespace {
        /// Cause.
        errno: Errno,
    },
    /// [`TUN`] cannot be opened.
    #[error("cannot open {TUN}: {errno}")]
    Device {
        /// Cause.
        errno: Errno,
    },
    /// An interface cannot be made or set up.
    #[error("cannot {operation}: {errno}")]
    Interface {
        /// What was done.
        operation: &'static str,
        /// Cause.
        errno: Errno,
    },
}

/// What a tap interface is to be like.
#[derive(Debug, Clone, Copy)]
pub struct Tap {
    /// Its name, of at most 15 bytes.
    pub name: &'static CStr,
    /// Most bytes of a packet.
    pub mtu: u16,
    /// Its address, the bits of its network, and the router.
    pub ipv4: (Ipv4Addr, u8, Ipv4Addr),
    /// The same for IPv6. Where the kernel has none, it is left out.
    pub ipv6: Option<(Ipv6Addr, u8, Ipv6Addr)>,
}

/// A network namespace with `lo` and a tap interface.
#[derive(Debug)]
pub struct TapNamespace {
    /// The namespace; it lives as long as this, or a process in it.
    pub namespace: OwnedFd,
    /// The other end of the interface: a frame of ethernet with each read or write, which do not
    /// wait. The interface lives as long as this.
    pub tap: OwnedFd,
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

/// Makes a network namespace with `lo` and a tap interface, both up.
///
/// # Errors
/// [`NetworkError`].
pub fn namespace_with_tap(tap: Tap) -> Result<TapNamespace, NetworkError> {
    let make = move || {
        crate::namespace::unshare(UnshareFlags::NEWNET)
            .map_err(|errno| NetworkError::Namespace { errno })?;
        let fd = open_tun().map_err(|errno| NetworkError::Device { errno })?;
        set_up(fd.as_fd(), &tap)?;
        let own = std::fs::File::open("/proc/thread-self/ns/net");
        let own = own.map_err(|error| NetworkError::Namespace { errno: errno_of(&error) })?;
        Ok(TapNamespace { namespace: own.into(), tap: fd })
    };
    // The namespace of a thread ends with it.
    let thread = std::thread::Builder::new().name("network".into()).spawn(make);
    let thread = thread.map_err(|_| NetworkError::Namespace { errno: Errno::AGAIN })?;
    thread.join().unwrap_or(Err(NetworkError::Namespace { errno: Errno::CANCELED }))
}

fn set_up(fd: BorrowedFd<'_>, tap: &Tap) -> Result<(), NetworkError> {
    let to = |operation| move |errno| NetworkError::Interface { operation, errno };
    loopback_up().map_err(to("bring the loopback device up"))?;
    // Where this cannot be written the address is of use a second later.
    let _ = std::fs::write(ACCEPT_DAD, "0");
    let mut made = request(tap.name);
    // IFF_TAP and IFF_NO_PI are below 1 << 15.
    made.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    control(fd, libc::TUNSETIFF, &mut made).map_err(to("make a tap interface"))?;
    rustix::fs::fcntl_setfl(fd, rustix::fs::OFlags::NONBLOCK).map_err(to("set up a descriptor"))?;
    let socket = socket(libc::AF_INET).map_err(to("open a socket"))?;
    let mut mtu = request(tap.name);
    mtu.ifr_ifru.ifru_mtu = tap.mtu.into();
    control(socket.as_fd(), libc::SIOCSIFMTU, &mut mtu).map_err(to("set an interface's MTU"))?;
    let (address, bits, gateway) = tap.ipv4;
    for (ioctl, value) in [(libc::SIOCSIFADDR, address), (libc::SIOCSIFNETMASK, mask(bits))] {
        let mut set = request(tap.name);
        set.ifr_ifru.ifru_addr = ipv4(value);
        control(socket.as_fd(), ioctl, &mut set).map_err(to("set an interface's address"))?;
    }
    let mut up = request(tap.name);
    // As above.
    up.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    control(socket.as_fd(), libc::SIOCSIFFLAGS, &mut up).map_err(to("bring an interface up"))?;
    // SAFETY: all-zero is a valid rtentry: no device, the default metric.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = ipv4(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = ipv4(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = ipv4(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    control(socket.as_fd(), libc::SIOCADDRT, &mut route).map_err(to("add a route"))?;
    match &tap.ipv6 {
        Some(ipv6) => match set_up_ipv6(tap.name, *ipv6) {
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL | Errno::ACCESS | Errno::PERM) => Ok(()),
            other => other.map_err(to("set an interface's IPv6 address")),
        },
        None => Ok(()),
    }
}

/// `struct in6_rtmsg` (linux/ipv6_route.h).
#[repr(C)]
struct Route6 {
    target: libc::in6_addr,
    source: libc::in6_addr,
    gateway: libc::in6_addr,
    kind: u32,
    target_bits: u16,
    source_bits: u16,
    metric: u32,
    info: libc::c_ulong,
    flags: u32,
    interface: libc::c_int,
}

fn set_up_ipv6(
    name: &CStr,
    (address, bits, gateway): (Ipv6Addr, u8, Ipv6Addr),
) -> Result<(), Errno> {
    let socket = socket(libc::AF_INET6)?;
    let mut index = request(name);
    control(socket.as_fd(), libc::SIOCGIFINDEX, &mut index)?;
    // SAFETY: the call above has set the number, which is valid with any bits anyway.
    let interface = unsafe { index.ifr_ifru.ifru_ifindex };
    let ipv6 = |address: Ipv6Addr| libc::in6_addr { s6_addr: address.octets() };
    let mut set = libc::in6_ifreq {
        ifr6_addr: ipv6(address),
        ifr6_prefixlen: bits.into(),
        ifr6_ifindex: interface,
    };
    control(socket.as_fd(), libc::SIOCSIFADDR, &mut set)?;
    let mut route = Route6 {
        target: ipv6(Ipv6Addr::UNSPECIFIED),
        source: ipv6(Ipv6Addr::UNSPECIFIED),
        gateway: ipv6(gateway),
        kind: 0,
        target_bits: 0,
        source_bits: 0,
        metric: 1,
        info: 0,
        flags: u32::from(libc::RTF_UP | libc::RTF_GATEWAY),
        interface,
    };
    control(socket.as_fd(), libc::SIOCADDRT, &mut route)
}

/// A request of the kernel that reads, or writes, a structure.
fn control<T>(fd: BorrowedFd<'_>, request: libc::Ioctl, value: &mut T) -> Result<(), Errno> {
    // SAFETY: the callers pair each request with the structure that it is about (netdevice(7),
    // Documentation/networking/tuntap.rst), which is valid for the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(value)) };
    crate::errno::check(result.into()).map(drop)
}

fn socket(family: libc::c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: no memory is passed; the result is a new descriptor or -1.
    unsafe {
        let fd = libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        crate::errno::check(fd.into())?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

fn mask(bits: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0))
}

/// `struct sockaddr_in` as the plain address that requests hold: port, then four bytes.
fn ipv4(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (place, byte) in data[2..].iter_mut().zip(address.octets()) {
        *place = byte.cast_signed();
    }
    // AF_INET is 2.
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
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

/// A request about the interface `name`, which is cut at the kernel's 15 bytes.
fn request(name: &CStr) -> libc::ifreq {
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (place, byte) in request.ifr_name[..room].iter_mut().zip(name.to_bytes()) {
        *place = byte.cast_signed();
    }
    request
}

/// Brings `lo` up; the kernel then gives it 127.0.0.1 and ::1 (netdevice(7)). Does not allocate.
///
/// # Errors
/// The kernel's refusal; `EPERM` without CAP_NET_ADMIN.
pub fn loopback_up() -> Result<(), Errno> {
    let socket = socket(libc::AF_INET)?;
    let mut request = request(c"lo");
    // IFF_UP and IFF_RUNNING are below 1 << 15.
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    control(socket.as_fd(), libc::SIOCSIFFLAGS, &mut request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        for (bits, text) in [(0, "0.0.0.0"), (8, "255.0.0.0"), (24, "255.255.255.0")] {
            assert_eq!(mask(bits).to_string(), text);
        }
        assert_eq!(mask(32), Ipv4Addr::BROADCAST);
    }

    #[test]
    fn privileged_a_namespace_with_an_interface() {
        let tap = Tap {
            name: c"eth0",
            mtu: 9000,
            ipv4: (Ipv4Addr::new(10, 0, 2, 100), 24, Ipv4Addr::new(10, 0, 2, 2)),
            ipv6: Some(("fd00::100".parse().unwrap(), 64, "fd00::2".parse().unwrap())),
        };
        let made = match namespace_with_tap(tap) {
            Ok(made) => made,
            Err(error) if !rustix::process::geteuid().is_root() => {
                return eprintln!("skipped: it needs root ({error})");
            }
            Err(NetworkError::Device { errno }) => return eprintln!("skipped: {TUN}: {errno}"),
            Err(error) => panic!("{error}"),
        };
        let kind = rustix::thread::LinkNameSpaceType::Network;
        let seen = std::thread::spawn(move || {
            rustix::thread::move_into_link_name_space(made.namespace.as_fd(), Some(kind)).unwrap();
            outward_addresses()
        });
        let [v4, v6] = seen.join().unwrap();
        assert_eq!(v4, Some(IpAddr::V4(tap.ipv4.0)));
        assert!(v6.is_none_or(|it| it == IpAddr::V6(tap.ipv6.unwrap().0)), "{v6:?}");
    }
}
