//! One request and its answer: connections, TLS, proxies, redirects.
//!
//! Redirects are followed here and not by the HTTP library, because the rules matter: at most ten,
//! never from HTTPS to plain HTTP on another machine, and the `Authorization` header stays with
//! the origin it was made for (blob storage behind a registry has its own keys in the URL).

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::http::{self, HeaderMap, HeaderValue, Method, Uri, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig};
use ureq::{Agent, BodyReader, SendBody, Timeout};

use crate::ProxyConfig;
use crate::config::{ClientConfig, Timeouts, TrustRoots};
use crate::error::{Answer, ErrorKind};
use crate::insecure::Insecure;
use crate::pace::Pace;
use crate::url;

/// Redirects that are followed for one request.
const MAX_REDIRECTS: usize = 10;
/// What is read of an error's body, in bytes.
const MAX_ERROR_BODY: usize = 64 << 10;
/// The largest file of certificates, in bytes.
const MAX_CERTIFICATES: u64 = 16 << 20;

/// The body of a request.
pub(crate) enum Payload<'a> {
    /// None, for GET and HEAD.
    None,
    /// These bytes.
    Bytes(&'a [u8]),
    /// Exactly `size` bytes of what `open` gives; opened again when the request is sent again.
    Stream { open: &'a dyn Fn() -> io::Result<Box<dyn Read + 'a>>, size: u64 },
}

/// A request.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: Uri,
    pub(crate) headers: Vec<(header::HeaderName, HeaderValue)>,
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) payload: Payload<'a>,
}

impl<'a> Request<'a> {
    pub(crate) fn new(method: Method, url: Uri, payload: Payload<'a>) -> Self {
        Self { method, url, headers: Vec::new(), authorization: None, payload }
    }

    pub(crate) fn get(url: Uri) -> Self {
        Self::new(Method::GET, url, Payload::None)
    }

    pub(crate) fn header(mut self, name: header::HeaderName, value: &str) -> Self {
        // A value that no header can hold comes from a media type in a manifest: it is left out,
        // and the server answers that it is missing.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }
}

/// An answer, with its body still to be read.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Where it came from, after redirects.
    pub(crate) url: Uri,
    body: BodyReader<'static>,
    pace: Pace,
}

/// What TLS a connection needs.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Tls {
    None,
    Trusted,
    /// Whoever answers is believed.
    Any,
}

/// Connections, shared by all threads.
pub(crate) struct Transport {
    roots: TrustRoots,
    proxy: ProxyConfig,
    user_agent: String,
    timeouts: Timeouts,
    idle_connections: usize,
    /// By proxy, and by what TLS is needed.
    agents: Mutex<HashMap<(Option<String>, Tls), Agent>>,
    pub(crate) insecure: Insecure,
    closed: AtomicBool,
}

impl Transport {
    pub(crate) fn new(config: &ClientConfig) -> Self {
        Self {
            roots: config.roots.clone(),
            proxy: config.proxy.clone(),
            // Nothing that a header cannot hold.
            user_agent: config.user_agent.chars().filter(|c| matches!(c, ' '..='~')).collect(),
            timeouts: config.timeouts,
            idle_connections: config.per_host.max(1) + 1,
            agents: Mutex::default(),
            insecure: Insecure::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Ends every request under way, and refuses new ones.
    pub(crate) fn shutdown(&self) {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::SeqCst);
        for (_, agent) in agents.drain() {
            agent.shutdown();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Sends `request`, and follows redirects.
    ///
    /// # Errors
    /// If no answer came. An answer of any status is `Ok`.
    pub(crate) fn send(&self, request: &Request<'_>) -> Result<Reply, ErrorKind> {
        let mut url = request.url.clone();
        // Once it has left, the header does not come back: the way back was chosen by a stranger.
        let mut at_home = true;
        for _ in 0..=MAX_REDIRECTS {
            let mut reply = self.exchange(request, &url, at_home)?;
            let Some(location) = reply.redirect(&request.method) else {
                return Ok(reply);
            };
            reply.drain();
            let next = url::join(&url, &location)?;
            self.check_redirect(&url, &next)?;
            at_home &= url::same_origin(&request.url, &next);
            url = next;
        }
        Err(ErrorKind::Protocol(format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// Refuses to leave HTTPS.
    fn check_redirect(&self, from: &Uri, to: &Uri) -> Result<(), ErrorKind> {
        if url::is_https(from) && self.is_exposed(to) {
            return Err(ErrorKind::Protocol(format!(
                "{} redirects from https to http ({})",
                url::origin(from),
                url::origin(to)
            )));
        }
        Ok(())
    }

    /// Whether what is sent to `url` crosses the network in the clear, and nobody said that it may.
    pub(crate) fn is_exposed(&self, url: &Uri) -> bool {
        url::is_exposed(url) && !self.insecure.covers(url)
    }

    fn exchange(&self, what: &Request<'_>, url: &Uri, at_home: bool) -> Result<Reply, ErrorKind> {
        let agent = self.agent(url)?;
        let mut request = http::Request::builder().method(&what.method).uri(url);
        for (name, value) in &what.headers {
            request = request.header(name, value);
        }
        if at_home && let Some(value) = &what.authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let build = |e: http::Error| ErrorKind::Protocol(e.to_string());
        let host = url::origin(url);
        let result = match &what.payload {
            Payload::None => agent.run(request.body(()).map_err(build)?),
            Payload::Bytes(bytes) => agent.run(request.body(*bytes).map_err(build)?),
            Payload::Stream { open, size } => {
                let mut source = SourceReader::new(open().map_err(ErrorKind::Source)?, *size);
                let request = request.header(header::CONTENT_LENGTH, *size);
                let body = SendBody::from_reader(&mut source);
                let result = agent.run(request.body(body).map_err(build)?);
                if let Some(error) = source.error {
                    return Err(ErrorKind::Source(error));
                }
                result
            }
        };
        let response = result.map_err(|e| convert(e, &host))?;
        let (parts, body) = response.into_parts();
        Ok(Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            url: url.clone(),
            body: body.into_reader(),
            pace: Pace::new(self.timeouts.idle),
        })
    }

    fn agent(&self, url: &Uri) -> Result<Agent, ErrorKind> {
        let proxy = self.proxy.select(url);
        let tls = match url::is_https(url) || proxy.is_some_and(|p| p.starts_with("https://")) {
            false => Tls::None,
            true if self.insecure.covers(url) => Tls::Any,
            true => Tls::Trusted,
        };
        let key = (proxy.map(str::to_owned), tls);
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_closed() {
            return Err(ErrorKind::Cancelled);
        }
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let agent = self.build(proxy, tls)?;
        agents.insert(key, agent.clone());
        Ok(agent)
    }

    fn build(&self, proxy: Option<&str>, tls: Tls) -> Result<Agent, ErrorKind> {
        let proxy = match proxy {
            Some(address) => Some(ureq::Proxy::new(address).map_err(|_| {
                // The address itself may hold a password.
                ErrorKind::Config("the proxy's address is not valid".to_owned())
            })?),
            None => None,
        };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .user_agent(self.user_agent.as_str())
            .timeout_connect(Some(self.timeouts.connect))
            .timeout_recv_response(Some(self.timeouts.idle))
            .timeout_per_read(Some(self.timeouts.idle))
            .timeout_per_write(Some(self.timeouts.idle))
            .max_idle_connections_per_host(self.idle_connections);
        let builder = TlsConfig::builder();
        config = match tls {
            Tls::None => config,
            Tls::Trusted => config.tls_config(builder.root_certs(self.certificates()?).build()),
            Tls::Any => config.tls_config(builder.disable_verification(true).build()),
        };
        Ok(config.build().new_agent())
    }

    fn certificates(&self) -> Result<RootCerts, ErrorKind> {
        let TrustRoots::Files(files) = &self.roots else {
            return Ok(RootCerts::PlatformVerifier);
        };
        let mut found = Vec::new();
        for path in files {
            let fail = |why: String| {
                ErrorKind::Config(format!("certificates in {}: {why}", path.display()))
            };
            let mut pem = Vec::new();
            std::fs::File::open(path)
                .and_then(|f| f.take(MAX_CERTIFICATES).read_to_end(&mut pem))
                .map_err(|e| fail(e.to_string()))?;
            let before = found.len();
            for item in ureq::tls::parse_pem(&pem) {
                match item {
                    Ok(PemItem::Certificate(certificate)) => found.push(certificate),
                    Ok(_) => {}
                    Err(e) => return Err(fail(e.to_string())),
                }
            }
            if found.len() == before {
                return Err(fail("there are none".to_owned()));
            }
        }
        Ok(RootCerts::from(found))
    }
}

impl Reply {
    /// Where it sends a request with `method`. The method and the body never change, so 301, 302
    /// and 303 count for GET and HEAD only.
    fn redirect(&self, method: &Method) -> Option<String> {
        let fetch = matches!(*method, Method::GET | Method::HEAD);
        match self.status {
            307 | 308 => {}
            301..=303 if fetch => {}
            _ => return None,
        }
        self.text(header::LOCATION)
    }

    /// A header as text; bytes that are no UTF-8 are replaced.
    pub(crate) fn text(&self, name: impl header::AsHeaderName) -> Option<String> {
        self.headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
    }

    /// All values of a header that may come several times.
    pub(crate) fn texts(&self, name: impl header::AsHeaderName) -> Vec<String> {
        let values = self.headers.get_all(name).iter();
        values.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect()
    }

    /// The `Content-Length`, if there is one.
    pub(crate) fn length(&self) -> Option<u64> {
        self.text(header::CONTENT_LENGTH)?.trim().parse().ok()
    }

    /// Reads on in the body; 0 is its end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        let since = Instant::now();
        loop {
            match self.body.read(buffer) {
                Ok(n) if n == 0 || self.pace.keeps(n, since.elapsed()) => return Ok(n),
                Ok(_) => {
                    let (host, kind) = (url::origin(&self.url), io::ErrorKind::TimedOut);
                    return Err(ErrorKind::network(&host, kind, "the connection is too slow"));
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(convert(ureq::Error::from(e), &url::origin(&self.url))),
            }
        }
    }

    /// The whole body, of at most `limit` bytes.
    pub(crate) fn bytes(mut self, what: &'static str, limit: u64) -> Result<Vec<u8>, ErrorKind> {
        let too_large = ErrorKind::TooLarge { what, limit };
        if self.length().is_some_and(|n| n > limit) {
            return Err(too_large);
        }
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 32 << 10];
        loop {
            let n = self.read(&mut buffer)?;
            if n == 0 {
                return Ok(bytes);
            }
            if (bytes.len() + n) as u64 > limit {
                return Err(too_large);
            }
            bytes.extend_from_slice(&buffer[..n]);
        }
    }

    /// Reads a small body to its end, so that the connection can be used again.
    pub(crate) fn drain(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        let mut buffer = [0; 4096];
        while body.len() < MAX_ERROR_BODY {
            match self.read(&mut buffer) {
                Ok(n) if n > 0 => body.extend_from_slice(&buffer[..n]),
                _ => break,
            }
        }
        body
    }

    /// What it says, when it is no success.
    pub(crate) fn answer(mut self) -> Answer {
        let after = self.text(header::RETRY_AFTER).and_then(|t| t.trim().parse().ok());
        let body = self.drain();
        Answer::new(self.status, after.map(Duration::from_secs), &body)
    }
}

/// Gives exactly `left` bytes to the HTTP library, and remembers whose fault a failure is.
struct SourceReader<'a> {
    inner: Box<dyn Read + 'a>,
    left: u64,
    error: Option<io::Error>,
}

impl<'a> SourceReader<'a> {
    fn new(inner: Box<dyn Read + 'a>, size: u64) -> Self {
        Self { inner, left: size, error: None }
    }
}

impl Read for SourceReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let result = loop {
            match self.inner.read(&mut buffer[..most]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) => {
                    let message = format!("it is {} bytes shorter than its descriptor", self.left);
                    break Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
                result => break result,
            }
        };
        result.inspect(|&n| self.left -= n as u64).map_err(|e| {
            let kind = e.kind();
            self.error = Some(e);
            io::Error::from(kind)
        })
    }
}

/// The library's error as ours.
fn convert(error: ureq::Error, host: &str) -> ErrorKind {
    let tls = |message: String| ErrorKind::Tls { host: host.to_owned(), message };
    let network = |kind, message: &str| ErrorKind::network(host, kind, message);
    match error {
        // TCP has no such error: it comes from inside TLS.
        ureq::Error::Io(e) if e.kind() == io::ErrorKind::InvalidData => tls(e.to_string()),
        ureq::Error::Io(source) => ErrorKind::Network { host: host.to_owned(), source },
        ureq::Error::Timeout(timeout) => network(
            io::ErrorKind::TimedOut,
            match timeout {
                Timeout::Resolve | Timeout::Connect => "no connection in time",
                _ => "the connection went silent",
            },
        ),
        ureq::Error::HostNotFound => network(io::ErrorKind::NotFound, "host not found"),
        ureq::Error::ConnectionFailed => network(io::ErrorKind::Other, "connection failed"),
        ureq::Error::ConnectProxyFailed(why) => network(
            io::ErrorKind::Other,
            &format!("the proxy refused: {}", crate::error::clean(&why)),
        ),
        ureq::Error::Tls(why) => tls(why.to_owned()),
        ureq::Error::Rustls(e) => tls(e.to_string()),
        other => ErrorKind::Protocol(format!("{host}: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_encrypted() {
        let transport = Transport::new(&ClientConfig::default());
        let check = |a: &str, b: &str| {
            transport.check_redirect(&url::parse(a).unwrap(), &url::parse(b).unwrap()).is_ok()
        };
        assert!(check("https://a/", "https://b/"));
        assert!(!check("https://a/", "http://a/"));
        assert!(check("https://a/", "http://127.0.0.1:5000/"));
        assert!(check("http://localhost/", "http://b/"));
        transport.insecure.allow("b:5000");
        assert!(check("https://a/", "http://b:5000/") && !check("https://a/", "http://b/"));
    }

    #[test]
    fn a_short_source_is_its_own_fault() {
        let mut reader = SourceReader::new(Box::new(&b"abc"[..]), 5);
        let mut text = Vec::new();
        assert!(reader.read_to_end(&mut text).is_err());
        assert!(reader.error.unwrap().to_string().contains("2 bytes shorter"));
        let mut reader = SourceReader::new(Box::new(&b"abcdef"[..]), 5);
        assert_eq!(reader.read_to_end(&mut text).unwrap(), 5);
    }

    #[test]
    fn bad_configuration_says_which() {
        let config = |roots, proxy: &str| ClientConfig {
            roots,
            proxy: ProxyConfig { https: Some(proxy.into()), ..Default::default() },
            ..Default::default()
        };
        let get = |config: &ClientConfig| {
            let request = Request::get(url::parse("https://registry.invalid/v2/").unwrap());
            Transport::new(config).send(&request).err().unwrap().to_string()
        };
        let files = TrustRoots::Files(vec!["/nonexistent/ca.pem".into()]);
        assert!(get(&config(files, "")).contains("/nonexistent/ca.pem"));
        let error = get(&config(TrustRoots::System, "http://u:hunter2@:x:y"));
        assert!(error.contains("proxy") && !error.contains("hunter2"), "{error}");
        let empty = tempfile::NamedTempFile::new().unwrap();
        let error = get(&config(TrustRoots::Files(vec![empty.path().into()]), ""));
        assert!(error.contains("there are none"), "{error}");
    }

    #[test]
    fn closed_means_cancelled() {
        let transport = Transport::new(&ClientConfig::default());
        transport.shutdown();
        let request = Request::get(url::parse("http://127.0.0.1:1/").unwrap());
        assert!(matches!(transport.send(&request), Err(ErrorKind::Cancelled)));
    }
}
