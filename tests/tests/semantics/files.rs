//! COPY and ADD.

use tests::require_root;

use crate::check;

#[test]
fn privileged_copies() {
    require_root!();
    check(&[
        (
            "wildcards",
            r#"COPY w?.txt /a/
COPY w[^1]*.txt /b/
COPY g[[]1].txt /c/
COPY nomatch* a /d/
COPY d2/* /e/
COPY ["sp ace", "/f g"]
"#,
            r#">> COPY w?.txt /a/ # buildkit
>> COPY w[^1]*.txt /b/ # buildkit
>> COPY g[[]1].txt /c/ # buildkit
>> COPY nomatch* a /d/ # buildkit
>> COPY d2/* /e/ # buildkit
>> COPY sp ace /f g # buildkit
a: d 755 0:0
a/w1.txt: f 644 0:0 "w1"
a/w2.txt: f 644 0:0 "w2"
b: d 755 0:0
b/w2.txt: f 644 0:0 "w2"
c: d 755 0:0
c/g[1].txt: f 644 0:0 "g1"
d: d 755 0:0
d/a: f 644 0:0 "A"
e: d 755 0:0
e/f: f 644 0:0 "F2"
e/k: f 644 0:0 "K"
f g: f 644 0:0 "S"
"#,
        ),
        (
            "sources that are links",
            r"FROM scratch
COPY lnk /1
COPY dlnk /2
COPY up /3
COPY dlnk/f /4
COPY dir/l* /5/
",
            r#">> COPY lnk /1 # buildkit
>> COPY dlnk /2 # buildkit
>> COPY up /3 # buildkit
>> COPY dlnk/f /4 # buildkit
>> COPY dir/l* /5/ # buildkit
1: f 644 0:0 "A"
2: d 755 0:0
2/.hidden: f 644 0:0 "H"
2/f: f 644 0:0 "F"
2/lnk: l 0:0 -> f
2/sub: d 700 0:0
2/sub/g: f 644 0:0 "G"
3: f 644 0:0 "B"
4: f 644 0:0 "F"
5: d 755 0:0
5/lnk: f 644 0:0 "F"
"#,
        ),
        (
            "sources outside of the context",
            r"FROM scratch
COPY ../a ../../b /up/
COPY //a /abs
COPY dir/sub/../f /f
",
            r#">> COPY ../a ../../b /up/ # buildkit
>> COPY //a /abs # buildkit
>> COPY dir/sub/../f /f # buildkit
abs: f 644 0:0 "A"
f: f 644 0:0 "F"
up: d 755 0:0
up/a: f 644 0:0 "A"
up/b: f 644 0:0 "B"
"#,
        ),
        (
            "several directories in one",
            r"FROM scratch
COPY dir d2 /m/
",
            r#">> COPY dir d2 /m/ # buildkit
m: d 755 0:0
m/.hidden: f 644 0:0 "H"
m/f: f 644 0:0 "F2"
m/lnk: l 0:0 -> f
m/sub: d 711 0:0
m/sub/g: f 644 0:0 "G"
m/sub/k: f 644 0:0 "K"
"#,
        ),
        (
            "a directory that is there keeps its own, those below take the source's",
            r"RUN mkdir -p /ex/sub && chmod 711 /ex /ex/sub && chown 5:6 /ex /ex/sub
COPY dir /ex
",
            r#">> RUN /bin/sh -c mkdir -p /ex/sub && chmod 711 /ex /ex/sub && chown 5:6 /ex /ex/sub # buildkit
>> COPY dir /ex # buildkit
ex: d 711 5:6
ex/.hidden: f 644 0:0 "H"
ex/f: f 644 0:0 "F"
ex/lnk: l 0:0 -> f
ex/sub: d 700 0:0
ex/sub/g: f 644 0:0 "G"
"#,
        ),
        (
            "destinations that are links",
            r"RUN mkdir /tgt && ln -s /tgt /lk && ln -s ../../../up /esc && ln -s /nowhere /dang && echo f > /file && ln -s /file /flk
COPY a /lk
COPY b /lk/new
COPY a /esc
COPY a /dang
COPY a /flk
COPY dir/sub /lk/deep/er
",
            r#">> RUN /bin/sh -c mkdir /tgt && ln -s /tgt /lk && ln -s ../../../up /esc && ln -s /nowhere /dang && echo f > /file && ln -s /file /flk # buildkit
>> COPY a /lk # buildkit
>> COPY b /lk/new # buildkit
>> COPY a /esc # buildkit
>> COPY a /dang # buildkit
>> COPY a /flk # buildkit
>> COPY dir/sub /lk/deep/er # buildkit
dang: l 0:0 -> /nowhere
esc: l 0:0 -> ../../../up
file: f 644 0:0 "A"
flk: l 0:0 -> /file
lk: l 0:0 -> /tgt
nowhere: f 644 0:0 "A"
tgt: d 755 0:0
tgt/a: f 644 0:0 "A"
tgt/deep: d 755 0:0
tgt/deep/er: d 755 0:0
tgt/deep/er/g: f 644 0:0 "G"
tgt/new: f 644 0:0 "B"
up: f 644 0:0 "A"
"#,
        ),
        (
            "links and files over one another",
            r"FROM scratch
COPY a lnk /x/
COPY dir /x/d/
COPY d2 /x/d/
COPY dir/lnk /x/a
",
            r#">> COPY a lnk /x/ # buildkit
>> COPY dir /x/d/ # buildkit
>> COPY d2 /x/d/ # buildkit
>> COPY dir/lnk /x/a # buildkit
x: d 755 0:0
x/a: f 644 0:0 "F"
x/d: d 755 0:0
x/d/.hidden: f 644 0:0 "H"
x/d/f: f 644 0:0 "F2"
x/d/lnk: l 0:0 -> f
x/d/sub: d 711 0:0
x/d/sub/g: f 644 0:0 "G"
x/d/sub/k: f 644 0:0 "K"
x/lnk: f 644 0:0 "A"
"#,
        ),
        (
            "owners",
            r"COPY --chown=1:2 a /1
COPY --chown=1000 a /2
COPY --chown=app a /3
COPY --chown=:appg a /4
COPY --chown=app:33 dir /5/6
COPY --chown=3:4 a /tmp/
COPY --chown=app: a /7
USER app:
WORKDIR /8
",
            r#"User: "app:"
WorkingDir: "/8"
>> COPY --chown=1:2 a /1 # buildkit
>> COPY --chown=1000 a /2 # buildkit
>> COPY --chown=app a /3 # buildkit
>> COPY --chown=:appg a /4 # buildkit
>> COPY --chown=app:33 dir /5/6 # buildkit
>> COPY --chown=3:4 a /tmp/ # buildkit
>> COPY --chown=app: a /7 # buildkit
> USER app:
>> WORKDIR /8
1: f 644 1:2 "A"
2: f 644 1000:1000 "A"
3: f 644 1000:1001 "A"
4: f 644 0:1001 "A"
5: d 755 1000:33
5/6: d 755 1000:33
5/6/.hidden: f 644 1000:33 "H"
5/6/f: f 644 1000:33 "F"
5/6/lnk: l 1000:33 -> f
5/6/sub: d 700 1000:33
5/6/sub/g: f 644 1000:33 "G"
7: f 644 1000:0 "A"
8: d 755 1000:0
tmp/a: f 644 3:4 "A"
"#,
        ),
        (
            "modes",
            r"FROM scratch
COPY suid /1
COPY --chmod=600 a /2/3
COPY --chmod=u=rwX,go=rX dir /4
COPY --chmod=+x a /5
COPY --chmod=a-w,u+s suid /6
COPY --chmod=-x,+X suid /7
COPY --chmod=g=u,o= a /8/9
ARG M=0640
COPY --chmod=$M a /10
",
            r#">> COPY suid /1 # buildkit
>> COPY --chmod=600 a /2/3 # buildkit
>> COPY --chmod=u=rwX,go=rX dir /4 # buildkit
>> COPY --chmod=+x a /5 # buildkit
>> COPY --chmod=a-w,u+s suid /6 # buildkit
>> COPY --chmod=-x,+X suid /7 # buildkit
>> COPY --chmod=g=u,o= a /8/9 # buildkit
> ARG M=0640
>> COPY --chmod=0640 a /10 # buildkit
1: f 6755 0:0 "s"
10: f 640 0:0 "A"
2: d 600 0:0
2/3: f 600 0:0 "A"
4: d 755 0:0
4/.hidden: f 644 0:0 "H"
4/f: f 644 0:0 "F"
4/lnk: l 0:0 -> f
4/sub: d 755 0:0
4/sub/g: f 644 0:0 "G"
5: f 755 0:0 "A"
6: f 6555 0:0 "s"
7: f 6755 0:0 "s"
8: d 770 0:0
8/9: f 660 0:0 "A"
"#,
        ),
        (
            "exclusions and parents",
            r"FROM scratch
COPY --exclude=sub --exclude=.h* dir /1
COPY --parents dir/sub/g d2/f /2/
COPY --parents dir/./sub/g /3/
COPY --parents d*/f /4/
",
            r#">> COPY dir /1 # buildkit
>> COPY --parents dir/sub/g d2/f /2/ # buildkit
>> COPY --parents dir/./sub/g /3/ # buildkit
>> COPY --parents d*/f /4/ # buildkit
1: d 755 0:0
1/f: f 644 0:0 "F"
1/lnk: l 0:0 -> f
2: d 755 0:0
2/d2: d 755 0:0
2/d2/f: f 644 0:0 "F2"
2/dir: d 750 0:0
2/dir/sub: d 700 0:0
2/dir/sub/g: f 644 0:0 "G"
3: d 755 0:0
3/sub: d 700 0:0
3/sub/g: f 644 0:0 "G"
4: d 755 0:0
4/d2: d 755 0:0
4/d2/f: f 644 0:0 "F2"
4/dir: d 750 0:0
4/dir/f: f 644 0:0 "F"
"#,
        ),
        (
            "hard links within one instruction",
            r"FROM scratch
COPY hl /1
COPY hl/one hl/two /2/
",
            r#">> COPY hl /1 # buildkit
>> COPY hl/one hl/two /2/ # buildkit
1: d 755 0:0
1/one: f 644 0:0 "same"
1/two: f 644 0:0 "same" = 1/one
2: d 755 0:0
2/one: f 644 0:0 "same"
2/two: f 644 0:0 "same"
"#,
        ),
        (
            "archives",
            r"FROM scratch
ADD t.dat /1/
ADD t.tgz /2
COPY t.dat /3
ADD empty.tar /4
ADD escape.tar a /5/
ADD --chown=9:10 t.dat /6/
",
            r#">> ADD t.dat /1/ # buildkit
>> ADD t.tgz /2 # buildkit
>> COPY t.dat /3 # buildkit
>> ADD empty.tar /4 # buildkit
>> ADD escape.tar a /5/ # buildkit
>> ADD --chown=9:10 t.dat /6/ # buildkit
1: d 755 0:0
1/td: d 700 5:6
1/td/f: f 4755 7:8 "tf"
1/td/l: l 0:0 -> f
1/top: f 644 3:0 "top"
2: d 755 0:0
2/td: d 700 5:6
2/td/f: f 4755 7:8 "tf"
2/td/l: l 0:0 -> f
2/top: f 644 3:0 "top"
3: f 644 0:0 4096 sha256:9885fc6cd9da100f1e17a8fb13c53904da50846047e55c2db63a62d1975045cc
4: f 644 0:0 ""
5: d 755 0:0
5/a: f 644 0:0 "A"
5/l: l 0:0 -> /
5/up: f 644 0:0 "up"
6: d 755 9:10
6/td: d 700 9:10
6/td/f: f 4755 9:10 "tf"
6/td/l: l 9:10 -> f
6/top: f 644 9:10 "top"
"#,
        ),
    ]);
}
