//! Nothing that is written into a Dockerfile makes the frontend panic, take long, or lose track
//! of where things stand.

mod support;

use std::time::{Duration, Instant};

use frontend::{lower, parse, parse_ignore};
use proptest::prelude::*;
use support::invariants::check;
use support::{Images, lowered, options};

/// Pieces of which most Dockerfiles, right and wrong ones, can be put together.
const PIECES: &[&str] = &[
    "FROM ",
    "busybox",
    "scratch",
    " AS ",
    "a",
    "b",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "ARG ",
    "LABEL ",
    "WORKDIR ",
    "USER ",
    "CMD ",
    "ENTRYPOINT ",
    "EXPOSE ",
    "VOLUME ",
    "STOPSIGNAL ",
    "SHELL ",
    "HEALTHCHECK ",
    "ONBUILD ",
    "MAINTAINER ",
    "\n",
    "\n",
    "\n",
    "\\\n",
    "\\",
    "`",
    "\r\n",
    " ",
    "\t",
    "#",
    "# escape=`\n",
    "# syntax=docker/dockerfile:1\n",
    "# check=skip=all\n",
    "--from=",
    "--chown=",
    "--chmod=",
    "--mount=",
    "--exclude=",
    "--parents",
    "--network=none",
    "--ttl=7d",
    "--platform=",
    "--",
    "=",
    "$",
    "${",
    "}",
    ":-",
    ":+",
    ":?",
    "##",
    "%%",
    "/",
    "//",
    "\"",
    "'",
    "[",
    "]",
    ",",
    "*",
    "**",
    "?",
    "<<",
    "<<-",
    "EOF",
    "EOF\n",
    "<<EOF\n",
    "NONE",
    "type=cache,target=/x",
    "80",
    "80-90/udp",
    "0",
    "1",
    "..",
    "é",
    "\u{feff}",
    "\0",
    "x=y",
];

fn dockerfile() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..60).prop_map(|p| p.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        check(&text);
        let _ = parse_ignore(&text);
    }

    #[test]
    fn any_pieces(text in dockerfile()) {
        check(&text);
    }

    #[test]
    fn any_pieces_after_a_from(text in dockerfile()) {
        check(&format!("FROM busybox AS first\n{text}"));
    }
}

/// Far more than it takes, far less than quadratic work would.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn big_files_take_linear_time() {
    let start = Instant::now();
    let lap = |what: &str| println!("{what}: {:?}", start.elapsed());
    let line = "RUN echo 'some words' && echo \"more $WORDS\" \\\n    && true\n";
    let big = format!("FROM busybox\n{}", line.repeat(100_000));
    let parsed = parse("Dockerfile", &big);
    lap("parsed");
    assert!(lower(&parsed, &options(), &Images::default()).is_ok());
    lap("instructions");
    let mut many = String::from("FROM busybox\n");
    for n in 0..50_000 {
        many.push_str(&format!("ENV V{n}={n}\nLABEL L{n}=$V{n}\n"));
    }
    assert_eq!(lowered(&many).config.config.labels.len(), 50_000);
    lap("variables");
    let mut stages = String::from("FROM scratch AS s0\n");
    for n in 1..20_000 {
        stages.push_str(&format!("FROM s{} AS s{n}\nRUN {n}\n", n - 1));
    }
    assert_eq!(lowered(&stages).layers.len(), 19_999);
    lap("stages");
    let continued = format!("FROM busybox\nRUN {}x << y\n", "word \\\n".repeat(1_000_000));
    assert_eq!(lowered(&continued).layers.len(), 1);
    lap("one long line");
    let mut undefined = String::from("FROM scratch\n");
    for n in 0..20_000 {
        undefined.push_str(&format!("ENV V{n}=$U{n}\n"));
    }
    assert_eq!(lowered(&undefined).warnings.len(), 20_000);
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}
