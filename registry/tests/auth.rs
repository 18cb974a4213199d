//! Authorization: tokens, passwords, helpers, and who must never see them.

mod common;

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{client, config, noise, world};
use oci::{Descriptor, Reference, media_type};
use registry::{Client, Credential, Credentials, ErrorKind, Pushed, RegistryError, Silent};
use tests::proxy::{ALWAYS, Access, Fault, FaultProxy, Kind, Seen};
use tests::token_server::{Bearer, basic};

fn user(host: &str) -> Credentials {
    with_password(host, "secret")
}

fn with_password(host: &str, password: &str) -> Credentials {
    let credential = Credential::Basic { username: "user".into(), password: password.into() };
    Credentials::fixed(host, credential)
}

fn push(
    client: &Client,
    name: &Reference,
    mount: Option<&Reference>,
    bytes: &[u8],
) -> Result<Pushed, RegistryError> {
    let descriptor = Descriptor::of(media_type::OCI_LAYER, bytes);
    let owned = bytes.to_vec();
    let open = move || Ok(Box::new(io::Cursor::new(owned.clone())) as Box<dyn Read + Send>);
    client.push_blob(name, &descriptor, mount, &open, &Silent, &|| false)
}

fn scopes(seen: &Seen) -> Vec<&str> {
    seen.query.iter().filter(|(n, _)| n == "scope").map(|(_, v)| v.as_str()).collect()
}

#[test]
fn anonymous_tokens() {
    let Some(world) = world(Access::Bearer(Bearer::default())) else { return };
    let client = client();
    client.resolve(&world.app()).unwrap();
    let mut layer = Vec::new();
    client.blob(&world.app(), world.layer(), &mut layer, &Silent, &|| false).unwrap();
    assert!(layer == world.layer);
    let seen = world.proxy.seen();
    let kinds: Vec<Kind> = seen.iter().map(|s| s.kind).collect();
    use Kind::{BlobGet, ManifestGet, Token};
    assert_eq!(kinds, [ManifestGet, Token, ManifestGet, BlobGet], "one token serves both");
    assert_eq!(seen[0].header("authorization"), None, "anonymous first");
    assert_eq!(seen[1].header("authorization"), None);
    assert_eq!(scopes(&seen[1]), ["repository:library/app:pull"]);
    // Nobody pushes anonymously.
    let error = push(&client, &world.name("a/b:c"), None, b"x").unwrap_err();
    assert!(matches!(&error.kind, ErrorKind::Unauthorized { credentials: false, .. }), "{error}");
    assert!(error.to_string().contains("authentication required"), "{error}");
}

#[test]
fn tokens_for_a_password() {
    for field in ["token", "access_token"] {
        let rules = Bearer { anonymous_pull: false, field, ..Bearer::default() };
        let Some(world) = world(Access::Bearer(rules)) else { return };
        let client = Client::new(config(user(world.proxy.address())));
        client.resolve(&world.app()).unwrap();
        let from = world.app();
        let name = world.name("team/app:v1");
        assert_eq!(push(&client, &name, Some(&from), &world.layer).unwrap(), Pushed::Mounted);
        assert_eq!(push(&client, &name, None, &noise(5000)).unwrap(), Pushed::Uploaded);
        let tokens: Vec<Seen> =
            world.proxy.seen().into_iter().filter(|s| s.kind == Kind::Token).collect();
        assert_eq!(scopes(&tokens[0]), ["repository:library/app:pull"]);
        assert_eq!(
            scopes(&tokens[1]),
            ["repository:library/app:pull", "repository:team/app:pull,push"],
            "a mount needs both"
        );
        assert!(tokens.iter().all(|t| t.header("authorization").is_some()));
        let account = |s: &Seen| s.query.iter().any(|(n, v)| n == "account" && v == "user");
        assert!(tokens.iter().all(account));
        let others = world.proxy.seen().into_iter().filter(|s| s.kind != Kind::Token);
        for seen in others {
            let header = seen.header("authorization");
            assert!(header.is_none_or(|h| h.starts_with("Bearer ")), "{seen:?}");
        }
    }
}

#[test]
fn wrong_passwords() {
    let Some(world) = world(Access::Bearer(Bearer::default())) else { return };
    let client = Client::new(config(with_password(world.proxy.address(), "hunter2")));
    let error = client.resolve(&world.app()).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Unauthorized { credentials: true, .. }), "{error}");
    assert!(error.to_string().contains("incorrect username or password"), "{error}");
    let text = format!("{error} {error:?}");
    assert!(!text.contains("hunter2") && !text.contains(&basic("user", "hunter2")), "{text}");
}

#[test]
fn revoked_and_expired_tokens_are_renewed() {
    let rules = Bearer { life: Duration::from_secs(1), ..Bearer::default() };
    let Some(world) = world(Access::Bearer(rules)) else { return };
    let client = client();
    client.resolve(&world.app()).unwrap();
    world.proxy.revoke_tokens();
    client.resolve(&world.app()).unwrap();
    assert_eq!(world.proxy.count(Kind::Token), 2);
    std::thread::sleep(Duration::from_millis(1100));
    world.proxy.forget();
    client.resolve(&world.app()).unwrap();
    let kinds: Vec<Kind> = world.proxy.seen().iter().map(|s| s.kind).collect();
    assert_eq!(kinds, [Kind::Token, Kind::ManifestGet], "an expired token is not even tried");
    // A token that is never good enough ends after one renewal.
    world.proxy.forget();
    world.proxy.inject(Kind::ManifestGet, ALWAYS, Fault::Status(401, None));
    let error = client.resolve(&world.app()).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Unauthorized { .. }), "{error}");
    assert!(world.proxy.count(Kind::ManifestGet) <= 2);
}

#[test]
fn token_servers_are_asked_again() {
    let Some(world) = world(Access::Bearer(Bearer::default())) else { return };
    world.proxy.inject(Kind::Token, 1, Fault::Status(503, None));
    world.proxy.inject(Kind::Token, 1, Fault::Hangup);
    client().resolve(&world.app()).unwrap();
    assert_eq!(world.proxy.count(Kind::Token), 3);
    world.proxy.inject(Kind::Token, 1, Fault::Status(404, None));
    let error = client().resolve(&world.app()).unwrap_err();
    assert!(matches!(&error.kind, ErrorKind::Status(a) if a.status == 404), "{error}");
}

#[test]
fn one_token_for_many_threads() {
    let Some(world) = world(Access::Bearer(Bearer::default())) else { return };
    let client = client();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut layer = Vec::new();
                client.blob(&world.app(), world.layer(), &mut layer, &Silent, &|| false).unwrap();
            });
        }
    });
    assert_eq!(world.proxy.count(Kind::Token), 1);
}

#[test]
fn identity_tokens() {
    for oauth in [true, false] {
        let rules = Bearer {
            anonymous_pull: false,
            refresh_tokens: vec!["refresh+me/=".into()],
            oauth,
            ..Bearer::default()
        };
        let Some(world) = world(Access::Bearer(rules)) else { return };
        let credential =
            Credential::Identity { username: String::new(), token: "refresh+me/=".into() };
        let address = world.proxy.address();
        let client = Client::new(config(Credentials::fixed(address, credential)));
        client.resolve(&world.app()).unwrap();
        let tokens: Vec<String> = world
            .proxy
            .seen()
            .iter()
            .filter(|s| s.kind == Kind::Token)
            .map(|s| s.method.clone())
            .collect();
        let expected: &[&str] = if oauth { &["POST"] } else { &["POST", "GET"] };
        assert_eq!(tokens, expected);
    }
}

#[test]
fn passwords() {
    let access = Access::Basic("user".into(), "secret".into());
    let Some(world) = world(access) else { return };
    let client = Client::new(config(user(world.proxy.address())));
    client.resolve(&world.app()).unwrap();
    assert_eq!(push(&client, &world.name("a/b:c"), None, &noise(5000)).unwrap(), Pushed::Uploaded);
    let refused = world.proxy.seen().iter().filter(|s| s.header("authorization").is_none()).count();
    assert_eq!(refused, 1, "the challenge is remembered");
    let error = common::client().resolve(&world.app()).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Unauthorized { credentials: false, .. }), "{error}");
    let wrong = Client::new(config(with_password(world.proxy.address(), "hunter2")));
    let error = wrong.resolve(&world.app()).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Unauthorized { credentials: true, .. }), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
    let other = Client::new(config(user("example.com")));
    assert!(other.resolve(&world.app()).is_err(), "credentials of another registry");
}

/// Writes a script without ever having it open in this process, so that a fork at the same time
/// in another thread cannot keep it busy.
fn script(path: &Path, text: &str) {
    let mut shell = Command::new("sh")
        .arg("-c")
        .arg("cat > \"$0\" && chmod 755 \"$0\"")
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
}

#[test]
fn helpers_and_config_files() {
    let access = Access::Basic("user".into(), "secret".into());
    let Some(world) = world(access) else { return };
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("calls");
    script(
        &dir.path().join("docker-credential-fake"),
        &format!(
            "#!/bin/sh\nread server\necho \"$1 $server\" >> '{}'\n\
             printf '{{\"Username\":\"user\",\"Secret\":\"secret\"}}'\n",
            log.display()
        ),
    );
    let text = format!(r#"{{"credHelpers":{{"{}":"fake"}}}}"#, world.proxy.address());
    std::fs::write(dir.path().join("config.json"), text).unwrap();
    let credentials = Credentials::from_docker_config(dir.path()).with_helper_dir(dir.path());
    let client = Client::new(config(credentials));
    client.resolve(&world.app()).unwrap();
    client.resolve(&world.app()).unwrap();
    let calls = std::fs::read_to_string(&log).unwrap();
    assert_eq!(calls, format!("get {}\n", world.proxy.address()), "asked once");
    // A file that is no JSON hurts only who needs it.
    std::fs::write(dir.path().join("config.json"), "{").unwrap();
    let client = || Client::new(config(Credentials::from_docker_config(dir.path())));
    let error = client().resolve(&world.app()).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Credentials(_)), "{error}");
    let open = FaultProxy::start(world.server.address(), Access::Open).unwrap();
    let name = format!("{}/library/app:v1", open.address()).parse().unwrap();
    client().resolve(&name).unwrap();
}

#[test]
fn redirects_do_not_see_credentials() {
    let basic = Access::Basic("user".into(), "secret".into());
    for access in [basic, Access::Bearer(Bearer::default())] {
        let Some(world) = world(access) else { return };
        let storage = FaultProxy::start(world.server.address(), Access::Open).unwrap();
        let origin = format!("http://{}", storage.address());
        let client = Client::new(config(user(world.proxy.address())));
        client.resolve(&world.app()).unwrap();
        world.proxy.inject(Kind::BlobGet, ALWAYS, Fault::Redirect(origin.clone()));
        storage.inject(Kind::BlobGet, 1, Fault::DropAfter(1000));
        let mut layer = Vec::new();
        client.blob(&world.app(), world.layer(), &mut layer, &Silent, &|| false).unwrap();
        assert!(layer == world.layer);
        assert_eq!(storage.count(Kind::BlobGet), 2);
        let seen = storage.seen();
        assert!(seen.iter().all(|s| s.header("authorization").is_none()));
        assert_eq!(seen[1].header("range"), Some("bytes=1000-"), "redirects keep the range");
    }
}

#[test]
fn strangers_challenges_are_not_answered() {
    let Some(world) = world(Access::Bearer(Bearer::default())) else { return };
    // The blob storage that the registry redirects to asks for a token itself.
    let stranger = FaultProxy::start(
        world.server.address(),
        Access::Bearer(Bearer { anonymous_pull: false, ..Bearer::default() }),
    )
    .unwrap();
    let client = Client::new(config(user(world.proxy.address())));
    client.resolve(&world.app()).unwrap();
    let origin = format!("http://{}", stranger.address());
    world.proxy.inject(Kind::BlobGet, ALWAYS, Fault::Redirect(origin));
    let error =
        client.blob(&world.app(), world.layer(), &mut Vec::new(), &Silent, &|| false).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Unauthorized { .. }), "{error}");
    assert_eq!(stranger.count(Kind::Token), 0);
    assert!(stranger.seen().iter().all(|s| s.header("authorization").is_none()));
}

#[test]
fn endless_redirects_end() {
    let Some(world) = world(Access::Open) else { return };
    let home = format!("http://{}", world.proxy.address());
    world.proxy.inject(Kind::ManifestGet, ALWAYS, Fault::Redirect(home));
    let error = client().resolve(&world.app()).unwrap_err();
    assert!(error.to_string().contains("more than 10 redirects"), "{error}");
    assert_eq!(world.proxy.count(Kind::ManifestGet), 11);
}

#[test]
fn passwords_do_not_travel_in_the_clear() {
    // An address of TEST-NET-1: it would time out if it were ever asked.
    let realm = Some("http://192.0.2.1/token".to_owned());
    let Some(world) = world(Access::Bearer(Bearer { realm, ..Bearer::default() })) else { return };
    let client = Client::new(config(user(world.proxy.address())));
    let error = client.resolve(&world.app()).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Protocol(_)), "{error}");
    assert!(error.to_string().contains("plain http"), "{error}");
}
