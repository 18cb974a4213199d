//! What RUN changes, and ignore files.

use tests::drydock::Drydock;
use tests::require_root;

use crate::{check, sample};

#[test]
fn privileged_changes() {
    require_root!();
    check(&[
        (
            "removals",
            r"RUN mkdir -p /d/e /d-x && touch /d/f /d/e/g /d-x/z
RUN rm -r /d && rm -r /home
RUN true
RUN touch /x && rm /x
",
            r#">> RUN /bin/sh -c mkdir -p /d/e /d-x && touch /d/f /d/e/g /d-x/z # buildkit
>> RUN /bin/sh -c rm -r /d && rm -r /home # buildkit
>> RUN /bin/sh -c true # buildkit
>> RUN /bin/sh -c touch /x && rm /x # buildkit
d-x: d 755 0:0
d-x/z: f 644 0:0 ""
home: -
home/app: -
"#,
        ),
        (
            "one kind in place of another",
            r"RUN mkdir -p /d/e && touch /d/f /file && ln -s d /l
RUN rm -r /d && echo now > /d
RUN rm /file && mkdir /file && touch /file/in
RUN rm /l && mkdir /l
",
            r#">> RUN /bin/sh -c mkdir -p /d/e && touch /d/f /file && ln -s d /l # buildkit
>> RUN /bin/sh -c rm -r /d && echo now > /d # buildkit
>> RUN /bin/sh -c rm /file && mkdir /file && touch /file/in # buildkit
>> RUN /bin/sh -c rm /l && mkdir /l # buildkit
d: f 644 0:0 "now\n"
file: d 755 0:0
file/in: f 644 0:0 ""
l: d 755 0:0
"#,
        ),
        (
            "moved directories",
            r"RUN mkdir -p /d/e && echo f > /d/f && echo g > /d/e/g
RUN mv /d /n
RUN mv /n/e /e
",
            r#">> RUN /bin/sh -c mkdir -p /d/e && echo f > /d/f && echo g > /d/e/g # buildkit
>> RUN /bin/sh -c mv /d /n # buildkit
>> RUN /bin/sh -c mv /n/e /e # buildkit
e: d 755 0:0
e/g: f 644 0:0 "g\n"
n: d 755 0:0
n/f: f 644 0:0 "f\n"
"#,
        ),
        (
            "a directory made anew",
            r"RUN mkdir -p /a/b/c /a/bb && touch /a/b/c/f /a/bb/h
RUN rm -rf /a && mkdir -m 700 /a && touch /a/new
",
            r#">> RUN /bin/sh -c mkdir -p /a/b/c /a/bb && touch /a/b/c/f /a/bb/h # buildkit
>> RUN /bin/sh -c rm -rf /a && mkdir -m 700 /a && touch /a/new # buildkit
a: d 700 0:0
a/new: f 644 0:0 ""
"#,
        ),
        (
            "hard links that part",
            r"RUN echo x > /1 && ln /1 /2 && ln /1 /3
RUN echo y >> /1
RUN rm /2 && chmod 600 /3
",
            r#">> RUN /bin/sh -c echo x > /1 && ln /1 /2 && ln /1 /3 # buildkit
>> RUN /bin/sh -c echo y >> /1 # buildkit
>> RUN /bin/sh -c rm /2 && chmod 600 /3 # buildkit
1: f 644 0:0 "x\ny\n"
3: f 600 0:0 "x\n"
"#,
        ),
        (
            "all kinds of files",
            r"RUN mkfifo /p && mknod /c c 1 5 && chown 1:2 /p && chmod 1777 /c && ln -s 'a b' '/s p' && mkdir -m 3755 /sg
",
            r">> RUN /bin/sh -c mkfifo /p && mknod /c c 1 5 && chown 1:2 /p && chmod 1777 /c && ln -s 'a b' '/s p' && mkdir -m 3755 /sg # buildkit
c: c(1,5) 1777 0:0
p: p 644 1:2
s p: l 0:0 -> a b
sg: d 3755 0:0
",
        ),
    ]);
}

#[test]
fn privileged_ignore_files() {
    require_root!();
    let drydock = Drydock::new();
    let mut wrong = String::new();
    for (name, patterns, want) in [
        (
            "a directory but for one file",
            "dir\n!dir/sub/g\n",
            "a b d2 d2/f d2/sub d2/sub/k dir dir/sub dir/sub/g dlnk empty.tar escape.tar g[1].txt hl hl/one hl/two lnk sp ace suid t.dat t.tgz up w1.txt w10.md w2.txt",
        ),
        ("all but some", "*\n!a\n!dir/f\n", "a dir dir/f"),
        (
            "any depth",
            "**/f\n",
            "a b d2 d2/sub d2/sub/k dir dir/.hidden dir/lnk dir/sub dir/sub/g dlnk empty.tar escape.tar g[1].txt hl hl/one hl/two lnk sp ace suid t.dat t.tgz up w1.txt w10.md w2.txt",
        ),
        (
            "below but not itself",
            "dir/**\n**/sub/**\n",
            "a b d2 d2/f d2/sub dir dlnk empty.tar escape.tar g[1].txt hl hl/one hl/two lnk sp ace suid t.dat t.tgz up w1.txt w10.md w2.txt",
        ),
        (
            "comments and blanks",
            "# x\n #a\na # b\n\n  b  \n",
            "a d2 d2/f d2/sub d2/sub/k dir dir/.hidden dir/f dir/lnk dir/sub dir/sub/g dlnk empty.tar escape.tar g[1].txt hl hl/one hl/two lnk sp ace suid t.dat t.tgz up w1.txt w10.md w2.txt",
        ),
        (
            "unclean paths",
            "./a\n/dir/../b\ndir//sub\n",
            "d2 d2/f d2/sub d2/sub/k dir dir/.hidden dir/f dir/lnk dlnk empty.tar escape.tar g[1].txt hl hl/one hl/two lnk sp ace suid t.dat t.tgz up w1.txt w10.md w2.txt",
        ),
        (
            "classes",
            "w[12].txt\n?\n",
            "d2 d2/f d2/sub d2/sub/k dir dir/.hidden dir/f dir/lnk dir/sub dir/sub/g dlnk empty.tar escape.tar g[1].txt hl hl/one hl/two lnk sp ace suid t.dat t.tgz up w10.md",
        ),
        (
            "the last match counts",
            "*\n!d*\nd2\n",
            "dir dir/.hidden dir/f dir/lnk dir/sub dir/sub/g dlnk",
        ),
        ("exceptions of any depth", "**/*\n!**/f\n", "d2 d2/f dir dir/f"),
        (
            "escapes",
            "g\\[1].txt\n! a\nsp ace\n",
            "a b d2 d2/f d2/sub d2/sub/k dir dir/.hidden dir/f dir/lnk dir/sub dir/sub/g dlnk empty.tar escape.tar hl hl/one hl/two lnk suid t.dat t.tgz up w1.txt w10.md w2.txt",
        ),
        (
            "itself",
            "Dockerfile\n.dockerignore\n**/k\n",
            "a b d2 d2/f d2/sub dir dir/.hidden dir/f dir/lnk dir/sub dir/sub/g dlnk empty.tar escape.tar g[1].txt hl hl/one hl/two lnk sp ace suid t.dat t.tgz up w1.txt w10.md w2.txt",
        ),
    ] {
        let context = sample("FROM scratch\nCOPY . /\n").file(".dockerignore", patterns);
        let root = drydock.build(&context).image().root;
        let hidden = ["Dockerfile", ".dockerignore"];
        let paths = root.paths().into_iter().filter(|p| name == "itself" || !hidden.contains(p));
        let got = paths.collect::<Vec<_>>().join(" ");
        if got != want {
            wrong.push_str(&format!("=== ign {name}\n{got}\n=== wanted\n{want}\n===\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
