//! A network for a case: a network namespace with addresses of its own and a route to nowhere, in
//! which servers of the case listen and builds run. Nothing of the machine's network is used.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::host::wait_until;
use crate::skip;

/// The address of the namespace's only interface besides `lo`.
pub const ADDRESS: &str = "203.0.113.1";
/// The same for IPv6, where the machine has that.
pub const ADDRESS_V6: &str = "2001:db8::1";

/// Mounts are the namespace's own, too: cases put other files over those of the machine.
const SETUP: &str = "set -e
mount --make-rprivate /
ip link set lo up
ip link add out0 type veth peer name out1
ip link set out1 up
ip address add 203.0.113.1/24 dev out0
ip link set out0 up
ip route add default via 203.0.113.254
if ip address add 2001:db8::1/64 dev out0 nodad 2> /dev/null; then
    ip route add default via 2001:db8::fe
fi
";

/// The namespace, kept by a process.
pub struct Lan {
    keeper: Child,
    namespace: File,
    /// Whether it has IPv6.
    pub v6: bool,
}

impl Lan {
    /// None, with a printed reason, where it cannot be made. `mounts` is a script for its mounts.
    ///
    /// # Panics
    /// If its keeper is not what it was started as.
    pub fn new(case: &str, mounts: &str) -> Option<Self> {
        if !skip::is_root() {
            skip::say(case, "it makes a network, which needs root");
            return None;
        }
        for name in ["ip", "unshare", "nsenter"] {
            if skip::program(name).is_none() {
                skip::say(case, &format!("{name} is not installed"));
                return None;
            }
        }
        let script = format!("{SETUP}{mounts}\necho ready\nexec cat > /dev/null\n");
        let mut keeper = Command::new("unshare")
            .args(["--net", "--mount", "--", "/bin/sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare is there");
        let mut line = String::new();
        let _ = BufReader::new(keeper.stdout.take().expect("it is piped")).read_line(&mut line);
        if line != "ready\n" {
            let mut told = String::new();
            let _ = keeper.stderr.take().expect("it is piped").read_to_string(&mut told);
            let _ = keeper.wait();
            skip::say(case, &format!("no network can be made: {}", told.trim()));
            return None;
        }
        let namespace = File::open(format!("/proc/{}/ns/net", keeper.id())).expect("it waits");
        let mut lan = Self { keeper, namespace, v6: false };
        lan.v6 = lan.inside(|| TcpListener::bind((ADDRESS_V6, 0)).is_ok());
        Some(lan)
    }

    /// The same where a step can have a network of its own.
    pub fn with_pasta(case: &str, mounts: &str) -> Option<Self> {
        if skip::program("pasta").is_none() {
            skip::say(case, "pasta is not installed (package passt)");
            return None;
        }
        if let Err(error) = File::options().read(true).write(true).open("/dev/net/tun") {
            skip::say(case, &format!("/dev/net/tun cannot be opened: {error}"));
            return None;
        }
        Self::new(case, mounts)
    }

    /// The words that run a command in it; the command keeps the process id.
    pub fn enter(&self) -> [String; 5] {
        let pid = self.keeper.id().to_string();
        ["nsenter", "--net", "--mount", "--target", &pid].map(str::to_owned)
    }

    /// Does something in it: sockets stay where they were made.
    ///
    /// # Panics
    /// If the work does, or the namespace cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(self.namespace.as_fd(), kind).expect("we are root");
                work()
            });
            thread.join().expect("the work in the network failed")
        })
    }

    /// A TCP server there, which says `word` to everybody.
    ///
    /// # Panics
    /// If the address is none of the namespace's.
    pub fn tcp(&self, address: &str, word: &'static str) -> Server {
        self.serve(address, move |stream| {
            let _ = stream.write_all(format!("{word}\n").as_bytes());
        })
    }

    /// A TCP server there, which leaves it to the other side to say something first and to end
    /// the connection: not every pasta delivers what is said right after the beginning or before
    /// the end. It is there until the process ends, and so is its thread.
    ///
    /// # Panics
    /// If the address is none of the namespace's.
    pub fn serve(
        &self,
        address: &str,
        answer: impl Fn(&mut TcpStream) + Send + Sync + 'static,
    ) -> Server {
        let address: IpAddr = address.parse().expect("it is an address");
        let listener = self.inside(|| TcpListener::bind((address, 0)).expect("it is ours"));
        let (port, seen) = (listener.local_addr().expect("it listens").port(), Arc::default());
        let server = Server { port, seen: Arc::clone(&seen) };
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                seen.fetch_add(1, Ordering::SeqCst);
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || {
                    if stream.read_exact(&mut [0]).is_ok() {
                        answer(&mut stream);
                        let _ = std::io::copy(&mut stream, &mut std::io::sink());
                    }
                });
            }
        });
        server
    }

    /// A name server there, at port 53, to which every name has the address `answer`.
    ///
    /// # Panics
    /// If the address is none of the namespace's.
    pub fn names(&self, address: &str, answer: [u8; 4]) {
        let address: IpAddr = address.parse().expect("it is an address");
        let socket = self.inside(|| UdpSocket::bind((address, 53)).expect("it is ours"));
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                let _ = socket.send_to(&reply(&query[..length], answer), from);
            }
        });
    }

    /// A UDP socket there.
    ///
    /// # Panics
    /// If the address is none of the namespace's.
    pub fn udp(&self, address: &str) -> (UdpSocket, SocketAddr) {
        let address: IpAddr = address.parse().expect("it is an address");
        let socket = self.inside(|| UdpSocket::bind((address, 0)).expect("it is ours"));
        let place = socket.local_addr().expect("it is bound");
        (socket, place)
    }

    /// A UDP server there, which sends back what it gets; its port.
    ///
    /// # Panics
    /// If the address is none of the namespace's.
    pub fn echo(&self, address: &str) -> u16 {
        let (socket, place) = self.udp(address);
        std::thread::spawn(move || {
            let mut bytes = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut bytes) {
                let _ = socket.send_to(&bytes[..length], from);
            }
        });
        place.port()
    }

    /// The processes in it but its keeper, with their names.
    ///
    /// # Panics
    /// If /proc cannot be read.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let own = fs::read_link(format!("/proc/{}/ns/net", self.keeper.id())).expect("it waits");
        let list = fs::read_dir("/proc").expect("/proc is mounted");
        list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid| *pid != self.keeper.id())
            .filter(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|it| it == own))
            .map(|pid| {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                (pid, name.trim().to_owned())
            })
            .collect()
    }

    /// The processes of pasta in it.
    pub fn pastas(&self) -> Vec<u32> {
        let all = self.processes().into_iter();
        // The program is passt, also as a variant for newer processors, by another name.
        all.filter(|(_, name)| name.starts_with("pasta") || name.starts_with("passt"))
            .map(|(pid, _)| pid)
            .collect()
    }

    /// Waits until no process is left in it.
    ///
    /// # Panics
    /// If some stay.
    pub fn expect_empty(&self) {
        let empty = wait_until(std::time::Duration::from_secs(20), || self.processes().is_empty());
        assert!(empty, "left behind: {:?}", self.processes());
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// A TCP server of a case.
pub struct Server {
    /// Its port.
    pub port: u16,
    seen: Arc<AtomicUsize>,
}

impl Server {
    /// How many have come.
    pub fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }
}

/// The query again as a response with one address (RFC 1035, 4.1).
fn reply(query: &[u8], answer: [u8; 4]) -> Vec<u8> {
    let mut reply = query.to_vec();
    if let Some(counts) = reply.get_mut(2..12) {
        counts.copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    }
    // The name of the question, an address of the internet, for a minute, four bytes.
    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    reply.extend(answer);
    reply
}
