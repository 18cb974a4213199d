//! Files behind plain URLs: conditions, redirects, broken connections, who is told what.

mod common;

use common::{Notes, Sink, client, noise};
use registry::{Download, ErrorKind, Get, RegistryError, RemoteFile};
use tests::http_server::{HttpServer, Page};

const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn ask<'a>(client: &'a registry::Client, get: &Get<'_>) -> Result<Download<'a>, RegistryError> {
    client.download(get, &registry::Silent, &|| false)
}

/// The whole file, what is said of it, and how often something went wrong.
fn fetch(get: &Get<'_>) -> Result<(Sink, RemoteFile, usize), RegistryError> {
    let (client, notes) = (client(), Notes::default());
    let answer = client.download(get, &notes, &|| false)?;
    assert!(answer.is_modified());
    let mut sink = Sink::default();
    let (file, size) = answer.receive(&mut sink, &notes, &|| false)?;
    assert_eq!(size, sink.data.len() as u64);
    Ok((sink, file, notes.retries()))
}

fn at(url: &str) -> Get<'_> {
    Get { url, ..Get::default() }
}

#[test]
fn a_file_and_what_is_said_of_it() {
    let server = HttpServer::start();
    let page = Page::new("hello").etag("W/\"1\"").modified(OLD);
    server.put("/a/b%20c", page.header("content-disposition", "attachment; filename=\"../d e\""));
    server.put("/plain%20name", Page::new(""));
    let (sink, file, _) = fetch(&at(&server.url("/a/b%20c?x=1"))).unwrap();
    assert_eq!(sink.data, b"hello");
    assert_eq!((file.etag.as_deref(), file.last_modified.as_deref()), (Some("W/\"1\""), Some(OLD)));
    assert_eq!((file.name.as_str(), file.length, file.settled), ("d e", Some(5), true));
    assert_eq!(file.modified.unwrap().seconds, 784_111_777);
    let (sink, file, _) = fetch(&at(&server.url("/plain name"))).unwrap();
    assert_eq!((sink.data.len(), file.name.as_str(), file.length), (0, "plain name", Some(0)));
    assert_eq!(file.modified, None);
}

#[test]
fn a_young_time_tells_nothing() {
    let server = HttpServer::start();
    server.put("/f", Page::new("x").modified("Sat, 01 Aug 2026 11:59:30 GMT"));
    let (_, file, _) = fetch(&at(&server.url("/f"))).unwrap();
    assert!(file.modified.is_some() && !file.settled);
}

#[test]
fn conditions() {
    let server = HttpServer::start();
    server.put("/tag", Page::new("x").etag("\"1\""));
    server.put("/time", Page::new("x").modified(OLD));
    server.put("/always", Page::status(304));
    let client = client();
    let asked = |path: &str, etag, last_modified| {
        let url = server.url(path);
        ask(&client, &Get { url: &url, etag, last_modified, authorization: None })
    };
    assert!(!asked("/tag", Some("\"1\""), None).unwrap().is_modified());
    assert!(!asked("/tag", Some("W/\"1\""), Some(OLD)).unwrap().is_modified());
    assert!(asked("/tag", Some("\"2\""), None).unwrap().is_modified());
    assert!(!asked("/time", None, Some(OLD)).unwrap().is_modified());
    assert!(asked("/time", None, Some("Sun, 06 Nov 1994 08:49:38 GMT")).unwrap().is_modified());
    // Nobody asked whether it is the same as what.
    let error = asked("/always", None, None).err().unwrap();
    assert!(matches!(error.kind, ErrorKind::Status(ref a) if a.status == 304), "{error}");
}

#[test]
fn redirects_and_where_they_lead() {
    let (home, other) = (HttpServer::start(), HttpServer::start());
    other.put("/x/there", Page::new("far"));
    home.put("/away", Page::redirect(&other.url("/x/there")));
    home.put("/near", Page::redirect("there?a=b"));
    home.put("/there", Page::new("close"));
    home.put("/loop", Page::redirect("/loop"));
    let get = |url: &str| {
        let authorization = Some(&b"Bearer hunter2"[..]);
        fetch(&Get { url, authorization, ..Get::default() })
    };
    let (sink, file, _) = get(&home.url("/away")).unwrap();
    assert_eq!((sink.data.as_slice(), file.name.as_str()), (&b"far"[..], "there"));
    assert_eq!(home.visits("/away")[0].header("authorization"), Some("Bearer hunter2"));
    assert_eq!(other.visits("/x/there")[0].header("authorization"), None);
    get(&home.url("/near")).unwrap();
    assert_eq!(home.visits("/there")[0].header("authorization"), Some("Bearer hunter2"));
    let error = get(&home.url("/loop")).err().unwrap().to_string();
    assert!(error.contains("more than 10 redirects") && !error.contains("hunter2"), "{error}");
}

#[test]
fn a_password_in_the_url() {
    let server = HttpServer::start();
    server.put("/f", Page::new("x").only_for("Basic dTpwQDE="));
    let url = |user: &str| format!("http://{user}@{}/f?key=hunter2", server.address());
    assert_eq!(fetch(&at(&url("u:p%401"))).unwrap().0.data, b"x");
    let error = fetch(&at(&url("u:hunter2"))).err().unwrap();
    assert!(matches!(error.kind, ErrorKind::Unauthorized { credentials: true, .. }), "{error}");
    let shown = format!("download http://…@{}/f?…: the credentials were refused", server.address());
    assert!(error.to_string().starts_with(&shown), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[test]
fn refusals() {
    let server = HttpServer::start();
    server.put("/gone", Page::status(410));
    server.put("/busy", Page::status(503));
    server.put("/half", Page::status(206));
    let error = |path: &str| fetch(&at(&server.url(path))).err().unwrap().to_string();
    let url = |path: &str| server.url(path);
    assert_eq!(error("/f"), format!("download {}: not found: 404 Not Found", url("/f")));
    assert_eq!(error("/gone"), format!("download {}: the server answered 410 Gone", url("/gone")));
    assert_eq!((server.count("/gone"), server.count("/f")), (1, 1));
    assert!(error("/busy").contains("503 Service Unavailable"));
    assert_eq!(server.count("/busy"), 4);
    assert!(error("/half").contains("a part came that was not asked for"));
    for url in ["ftp://h/f", "http:///f", "f"] {
        assert!(matches!(fetch(&at(url)).err().unwrap().kind, ErrorKind::Protocol(_)), "{url}");
    }
    let gone = format!("http://{}/f", HttpServer::start().address());
    assert!(matches!(fetch(&at(&gone)).err().unwrap().kind, ErrorKind::Network { .. }));
}

#[test]
fn goes_on_where_a_strong_tag_says_that_it_is_the_same() {
    let server = HttpServer::start();
    let body = noise(300_000);
    server.put("/f", Page::new(body.clone()).etag("\"1\"").ranges().cut(100_000).cut(50_000));
    let (sink, _, failures) = fetch(&at(&server.url("/f"))).unwrap();
    assert!(sink.data == body);
    assert_eq!((sink.restarts, failures), (0, 2));
    let visits = server.visits("/f");
    let ranges: Vec<_> = visits.iter().map(|v| v.header("range")).collect();
    assert_eq!(ranges, [None, Some("bytes=100000-"), Some("bytes=150000-")]);
    assert_eq!(visits[2].header("if-range"), Some("\"1\""));
}

#[test]
fn starts_over_where_nothing_says_so() {
    let server = HttpServer::start();
    let body = noise(300_000);
    for (path, page) in [
        ("/untagged", Page::new(body.clone()).ranges()),
        ("/weak", Page::new(body.clone()).etag("W/\"1\"").ranges()),
        ("/unranged", Page::new(body.clone()).etag("\"1\"")),
    ] {
        server.put(path, page.cut(100_000));
        let (sink, _, failures) = fetch(&at(&server.url(path))).unwrap();
        assert!(sink.data == body, "{path}");
        assert_eq!((sink.restarts, failures), (1, 1), "{path}");
    }
    assert_eq!(server.visits("/weak")[1].header("range"), None);
}

#[test]
fn what_changed_in_between_is_not_mixed() {
    let server = HttpServer::start();
    let (old, new) = (noise(300_000), vec![7; 200_000]);
    server.put("/f", Page::new(old).etag("\"1\"").ranges().cut(100_000));
    let client = client();
    let get = server.url("/f");
    let answer = ask(&client, &at(&get)).unwrap();
    server.put("/f", Page::new(new.clone()).etag("\"2\"").ranges());
    let mut sink = Sink::default();
    let (file, _) = answer.receive(&mut sink, &registry::Silent, &|| false).unwrap();
    assert!(sink.data == new);
    assert_eq!((file.etag.as_deref(), file.length), (Some("\"2\""), Some(200_000)));
}

#[test]
fn without_a_size_the_end_is_the_end() {
    let server = HttpServer::start();
    server.put("/f", Page::new("some text").unannounced());
    let (sink, file, _) = fetch(&at(&server.url("/f"))).unwrap();
    assert_eq!((sink.data.as_slice(), file.length), (&b"some text"[..], None));
}

#[test]
fn can_be_stopped() {
    let server = HttpServer::start();
    server.put("/f", Page::new(noise(3_000_000)));
    let (client, url) = (client(), server.url("/f"));
    let answer = ask(&client, &at(&url)).unwrap();
    let mut sink = Sink::default();
    let error = answer.receive(&mut sink, &registry::Silent, &|| true).err().unwrap();
    assert!(matches!(error.kind, ErrorKind::Cancelled));
    client.shutdown();
    assert!(matches!(ask(&client, &at(&url)).err().unwrap().kind, ErrorKind::Cancelled));
}
