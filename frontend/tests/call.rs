//! What a Dockerfile tells about itself: its stages, and what a target takes.

mod support;

use frontend::{LowerOptions, Outline, OutlineMount, outline, parse, targets};
use support::{Images, busybox, options};

const TEXT: &str = "\
# syntax=docker/dockerfile:1
# check=skip=all

# VERSION picks the base image
ARG VERSION=1
ARG SUFFIX=-slim
# TAG is made of the others
ARG TAG=$VERSION$SUFFIX
ARG UNUSED=x

# base has what all need
FROM busybox:$TAG AS base
# the compiler
ARG CC=gcc EXTRA
ARG TARGETARCH
RUN --mount=type=cache,target=/c --mount=type=secret,id=token,required=true x

# Build makes the program

FROM --platform=$BUILDPLATFORM base AS Build
#
# build makes the program
ARG VERSION
ARG UNUSED=other
RUN --mount=type=ssh --mount=type=secret,id=token x

FROM scratch AS other
ARG NOTHING=1

# other words
#
# final  is small
FROM scratch AS final
COPY --from=build / /
";

fn outline_of(text: &str, options: &LowerOptions, images: &Images) -> Outline {
    outline(&parse("Dockerfile", text), options, images).unwrap()
}

fn args(outline: &Outline) -> Vec<(&str, &str, &str)> {
    outline
        .args
        .iter()
        .map(|a| (a.name.as_str(), a.value.as_str(), a.description.as_str()))
        .collect()
}

fn ids(mounts: &[OutlineMount]) -> Vec<(&str, bool)> {
    mounts.iter().map(|m| (m.id.as_str(), m.required)).collect()
}

#[test]
fn what_a_target_takes() {
    let images = Images::default();
    let found = outline_of(TEXT, &options(), &images);
    assert_eq!((found.name.as_str(), found.description.as_str()), ("final", "is small"));
    assert_eq!(
        args(&found),
        [
            ("VERSION", "1", "picks the base image"),
            ("SUFFIX", "-slim", ""),
            ("TAG", "1-slim", "is made of the others"),
            ("CC", "gcc", ""),
            ("EXTRA", "", ""),
            ("UNUSED", "other", ""),
        ]
    );
    assert_eq!(ids(&found.secrets), [("token", true)]);
    assert_eq!(ids(&found.ssh), [("default", false)]);
    assert_eq!(ids(&found.caches), [("/c", false)]);
    let line = |span: graph::Span| parse("Dockerfile", TEXT).source.line_of(span.start);
    let lines: Vec<usize> = found.args.iter().map(|a| line(a.span)).collect();
    assert_eq!(lines, [5, 6, 8, 14, 14, 24]);
    assert_eq!((line(found.secrets[0].span), line(found.ssh[0].span)), (16, 25));
}

#[test]
fn given_values_and_other_targets() {
    let given = [("TAG", "2"), ("EXTRA", "e"), ("VERSION", "9"), ("NOTHING", "n")];
    let build_args = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let all = LowerOptions { build_args, ..options() };
    let base = LowerOptions { target: Some("base".to_owned()), ..all.clone() };
    let found = outline_of(TEXT, &base, &Images::default());
    assert_eq!((found.name.as_str(), found.description.as_str()), ("base", "has what all need"));
    // A value that is given does not use the default.
    assert_eq!(
        args(&found),
        [("TAG", "2", "is made of the others"), ("CC", "gcc", ""), ("EXTRA", "e", "")]
    );
    let other = LowerOptions { target: Some("other".to_owned()), ..all };
    let images = Images::default();
    assert_eq!(args(&outline_of(TEXT, &other, &images)), [("NOTHING", "n", "")]);
    assert!(images.asked.borrow().is_empty());
}

#[test]
fn triggers_of_a_base_image() {
    let mut config = busybox();
    config.config.on_build =
        vec!["ARG x=1".to_owned(), "RUN --mount=type=secret,id=s,target=/s true".to_owned()];
    let found = outline_of("# c\nFROM triggers\n", &options(), &Images::with("triggers", config));
    assert_eq!((args(&found), ids(&found.secrets)), (vec![("x", "1", "")], vec![("s", false)]));
    assert_eq!((found.args[0].span.start, found.secrets[0].span.start), (4, 4));
    let empty = outline_of("FROM scratch\n", &options(), &Images::default());
    assert_eq!(empty, Outline::default());
}

#[test]
fn the_stages() {
    let parsed = parse("Dockerfile", TEXT);
    let found = targets(&parsed, &options()).unwrap();
    let rows: Vec<_> = found
        .iter()
        .map(|t| (t.name.as_str(), t.default, t.description.as_str(), t.base.as_str()))
        .collect();
    assert_eq!(
        rows,
        [
            ("base", false, "has what all need", "busybox:$TAG"),
            ("build", false, "", "base"),
            ("other", false, "", "scratch"),
            ("final", true, "is small", "scratch"),
        ]
    );
    assert_eq!(found[1].platform, "$BUILDPLATFORM");
    assert_eq!(parsed.source.line_of(found[3].span.start), 33);
    let plain = parse("Dockerfile", "FROM a\nFROM b\n");
    let found = targets(&plain, &options()).unwrap();
    assert_eq!((found.len(), found[0].default, found[1].default), (2, false, true));
    for wrong in ["FROM a\nRUNN\n", "# syntax=other/frontend\nFROM a\n"] {
        assert!(targets(&parse("Dockerfile", wrong), &options()).is_err(), "{wrong}");
    }
}
