//! A few lines of HTTP/1.1 for the harness: one request per connection, bodies in memory.
//!
//! Not a client for anything but loopback: no TLS, no redirects, no limits worth the name.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The longest line of a head, in bytes.
const MAX_LINE: u64 = 64 << 10;
/// How long a peer may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// A request or an answer: its first line, headers and body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Request line or status line.
    pub first: String,
    /// In order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body, without a transfer coding.
    pub body: Vec<u8>,
}

impl Message {
    /// The first header called `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Replaces a header; `None` removes it.
    pub fn set_header(&mut self, name: &str, value: Option<&str>) {
        self.headers.retain(|(n, _)| n != name);
        if let Some(value) = value {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
    }

    /// The status of an answer; 0 if this is none.
    pub fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
    }

    /// The method of a request.
    pub fn method(&self) -> &str {
        self.first.split(' ').next().unwrap_or_default()
    }

    /// The target of a request: path and query.
    pub fn target(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }

    /// An answer with a JSON body.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self {
            first: format!("HTTP/1.1 {status} Status"),
            headers: vec![("content-type".into(), "application/json".into())],
            body: body.to_string().into_bytes(),
        }
    }

    /// The head as it is sent.
    pub fn head(&self) -> String {
        let mut head = format!("{}\r\n", self.first);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head
    }
}

/// Sends a request to `address` and reads the answer.
///
/// # Errors
/// If the connection fails or the answer is not HTTP.
pub fn request(
    address: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Message> {
    let mut message =
        Message { first: format!("{method} {target} HTTP/1.1"), ..Message::default() };
    message.set_header("host", Some(address));
    for (name, value) in headers {
        message.set_header(name, Some(value));
    }
    message.body = body.to_vec();
    forward(address, message)
}

/// Sends `message` to `address` and reads the answer.
///
/// # Errors
/// If the connection fails or the answer is not HTTP.
pub fn forward(address: &str, mut message: Message) -> io::Result<Message> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(SILENCE))?;
    message.set_header("connection", Some("close"));
    if !message.body.is_empty() || !matches!(message.method(), "GET" | "HEAD") {
        message.set_header("content-length", Some(&message.body.len().to_string()));
    }
    message.set_header("transfer-encoding", None);
    let written =
        stream.write_all(message.head().as_bytes()).and_then(|()| stream.write_all(&message.body));
    // A server that refuses a request may answer before it has read the body.
    let mut reader = BufReader::new(stream);
    match read_message(&mut reader, message.method() == "HEAD", true)? {
        Some(answer) => Ok(answer),
        None => Err(written.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())),
    }
}

/// Reads the next request of a connection; none at its end.
///
/// # Errors
/// If it breaks off or is not HTTP.
pub fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Message>> {
    reader.get_ref().set_read_timeout(Some(SILENCE))?;
    read_message(reader, false, false)
}

fn read_message(
    reader: &mut impl BufRead,
    no_body: bool,
    answer: bool,
) -> io::Result<Option<Message>> {
    let first = line(reader)?;
    if first.is_empty() {
        return Ok(None);
    }
    let mut message = Message { first, ..Message::default() };
    loop {
        let line = line(reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        message.headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    if no_body || matches!(message.status(), 204 | 304) {
        return Ok(Some(message));
    }
    let length = message.header("content-length").and_then(|l| l.parse::<u64>().ok());
    let chunked = message.header("transfer-encoding").is_some_and(|t| t.contains("chunked"));
    match (chunked, length) {
        (true, _) => message.body = read_chunks(reader)?,
        (false, Some(length)) => {
            reader.take(length).read_to_end(&mut message.body)?;
            if (message.body.len() as u64) < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        (false, None) if answer => {
            reader.read_to_end(&mut message.body)?;
        }
        (false, None) => {}
    }
    Ok(Some(message))
}

fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(reader)?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        if size == 0 {
            while !line(reader)?.is_empty() {}
            return Ok(body);
        }
        let before = body.len() as u64;
        reader.take(size).read_to_end(&mut body)?;
        if body.len() as u64 - before < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line(reader)?;
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut text = Vec::new();
    reader.take(MAX_LINE).read_until(b'\n', &mut text)?;
    while matches!(text.last(), Some(b'\n' | b'\r')) {
        text.pop();
    }
    String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData.into())
}
