//! The corners of COPY, ADD and WORKDIR: names, kinds and owners that meet one another.

use tests::require_root;

use crate::{Case, check};

/// What each is for, its Dockerfile, and its image.
const CORNERS: &[Case] = &[
    (
        "paths from variables",
        r#"ENV A=dir/f D=/d/ S="sp ace" G=w?.txt
COPY $A ${D}
COPY "$S" /1
COPY ["$S", "${D}2"]
COPY 'a' "b" /3/
COPY $G ${NOPE}g[[]1].txt /4/
COPY a /q\uote
COPY b $D$A
"#,
        r#"Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","A=dir/f","D=/d/","S=sp ace","G=w?.txt"]
> ENV A=dir/f D=/d/ S=sp ace G=w?.txt
>> COPY dir/f /d/ # buildkit
>> COPY sp ace /1 # buildkit
>> COPY sp ace /d/2 # buildkit
>> COPY a b /3/ # buildkit
>> COPY w?.txt g[[]1].txt /4/ # buildkit
>> COPY a /quote # buildkit
>> COPY b /d/dir/f # buildkit
1: f 644 0:0 "S"
3: d 755 0:0
3/a: f 644 0:0 "A"
3/b: f 644 0:0 "B"
4: d 755 0:0
4/g[1].txt: f 644 0:0 "g1"
4/w1.txt: f 644 0:0 "w1"
4/w2.txt: f 644 0:0 "w2"
d: d 755 0:0
d/2: f 644 0:0 "S"
d/dir: d 755 0:0
d/dir/f: f 644 0:0 "B"
d/f: f 644 0:0 "F"
quote: f 644 0:0 "A"
"#,
    ),
    (
        "destinations below the working directory",
        r"WORKDIR w
COPY a .
COPY b ${NOPE}
COPY a ./x/
COPY a ../up/
COPY lnk ..
COPY a ../../../clamp
COPY d2/sub o/./n/../m/.
",
        r#"WorkingDir: "/w"
>> WORKDIR /w
>> COPY a . # buildkit
>> COPY b  # buildkit
>> COPY a ./x/ # buildkit
>> COPY a ../up/ # buildkit
>> COPY lnk .. # buildkit
>> COPY a ../../../clamp # buildkit
>> COPY d2/sub o/./n/../m/. # buildkit
clamp: f 644 0:0 "A"
lnk: f 644 0:0 "A"
up: d 755 0:0
up/a: f 644 0:0 "A"
w: d 755 0:0
w/a: f 644 0:0 "A"
w/b: f 644 0:0 "B"
w/o: d 755 0:0
w/o/m: d 755 0:0
w/o/m/k: f 644 0:0 "K"
w/x: d 755 0:0
w/x/a: f 644 0:0 "A"
"#,
    ),
    (
        "wildcards that match directories",
        r"FROM scratch
COPY d*/ /1/
COPY dlnk/* /2/
COPY d[i]r/s*/g /3
COPY *ir /4
",
        r#">> COPY d*/ /1/ # buildkit
>> COPY dlnk/* /2/ # buildkit
>> COPY d[i]r/s*/g /3 # buildkit
>> COPY *ir /4 # buildkit
1: d 755 0:0
1/.hidden: f 644 0:0 "H"
1/f: f 644 0:0 "F"
1/lnk: l 0:0 -> f
1/sub: d 700 0:0
1/sub/g: f 644 0:0 "G"
1/sub/k: f 644 0:0 "K"
2: d 755 0:0
2/.hidden: f 644 0:0 "H"
2/f: f 644 0:0 "F"
2/g: f 644 0:0 "G"
2/lnk: f 644 0:0 "F"
3: f 644 0:0 "G"
4: d 755 0:0
4/.hidden: f 644 0:0 "H"
4/f: f 644 0:0 "F"
4/lnk: l 0:0 -> f
4/sub: d 700 0:0
4/sub/g: f 644 0:0 "G"
"#,
    ),
    (
        "what another stage has",
        r"FROM busybox AS s
RUN mkdir -p /a/b && echo 1 > /a/b/f && ln /a/b/f /a/b/g && ln -s /a/b /l && ln -s /l /l2 && ln -s ../../../etc /a/b/esc && mknod /a/b/n c 1 3 && mkfifo /a/b/p && chown -R 5:6 /a && chmod 711 /a/b && chmod 4755 /a/b/f
FROM scratch
COPY --from=s /l /1
COPY --from=S l2/f /2
COPY --from=0 /l/esc/group /3
COPY --from=s --chown=7:8 /a /4
COPY --from=s /a/*/f /l/g /5/
",
        r#">> COPY /l /1 # buildkit
>> COPY l2/f /2 # buildkit
>> COPY /l/esc/group /3 # buildkit
>> COPY --chown=7:8 /a /4 # buildkit
>> COPY /a/*/f /l/g /5/ # buildkit
1: d 755 0:0
1/esc: l 5:6 -> ../../../etc
1/f: f 4755 5:6 "1\n"
1/g: f 4755 5:6 "1\n" = 1/f
1/n: c(1,3) 644 5:6
1/p: p 644 5:6
2: f 4755 5:6 "1\n"
3: f 644 0:0 96 sha256:810e70f20fe9290275a9bad16644ab713351c997be80da223c03be81b1642a45
4: d 755 7:8
4/b: d 711 7:8
4/b/esc: l 7:8 -> ../../../etc
4/b/f: f 4755 7:8 "1\n"
4/b/g: f 4755 7:8 "1\n" = 4/b/f
4/b/n: c(1,3) 644 7:8
4/b/p: p 644 7:8
5: d 755 0:0
5/f: f 4755 5:6 "1\n"
5/g: f 4755 5:6 "1\n"
"#,
    ),
    (
        "owners of what instructions create",
        r"USER www-data
WORKDIR /a/b
COPY a c/d
USER 5
WORKDIR /c/d
USER 5:6
WORKDIR /e
USER nosuch
WORKDIR /f
",
        r#"User: "nosuch"
WorkingDir: "/f"
> USER www-data
>> WORKDIR /a/b
>> COPY a c/d # buildkit
> USER 5
>> WORKDIR /c/d
> USER 5:6
>> WORKDIR /e
> USER nosuch
>> WORKDIR /f
a: d 755 33:33
a/b: d 755 33:33
a/b/c: d 755 0:0
a/b/c/d: f 644 0:0 "A"
c: d 755 5:5
c/d: d 755 5:5
e: d 755 5:6
f: d 755 0:0
"#,
    ),
    (
        "names in an archive's way",
        r"RUN mkdir -p /1/td/f /2 /3/td/l/x /4 /o /5/td && echo > /2/td && ln -s /o /4/td && chmod 711 /5/td && chown 1:1 /5/td && echo > /5/top
ADD t.dat /1
ADD t.dat /2
ADD t.dat /3
ADD t.dat /4
ADD t.dat /5
",
        r#">> RUN /bin/sh -c mkdir -p /1/td/f /2 /3/td/l/x /4 /o /5/td && echo > /2/td && ln -s /o /4/td && chmod 711 /5/td && chown 1:1 /5/td && echo > /5/top # buildkit
>> ADD t.dat /1 # buildkit
>> ADD t.dat /2 # buildkit
>> ADD t.dat /3 # buildkit
>> ADD t.dat /4 # buildkit
>> ADD t.dat /5 # buildkit
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
3: d 755 0:0
3/td: d 700 5:6
3/td/f: f 4755 7:8 "tf"
3/td/l: l 0:0 -> f
3/top: f 644 3:0 "top"
4: d 755 0:0
4/td: d 700 5:6
4/td/f: f 4755 7:8 "tf"
4/td/l: l 0:0 -> f
4/top: f 644 3:0 "top"
5: d 755 0:0
5/td: d 700 5:6
5/td/f: f 4755 7:8 "tf"
5/td/l: l 0:0 -> f
5/top: f 644 3:0 "top"
o: d 755 0:0
"#,
    ),
    (
        "archives and files together",
        r"RUN mkdir /r && chmod 711 /r && ln -s r /l
ADD t.dat a t.tgz hl /1/
ADD t.* /2/
ADD t.dat /l
ADD --chown=9 escape.tar b /3/
ADD --unpack=false t.dat /4/
ADD --unpack t.tgz /5
ADD --exclude=top --exclude=sub t.dat dir /6/
",
        r#">> RUN /bin/sh -c mkdir /r && chmod 711 /r && ln -s r /l # buildkit
>> ADD t.dat a t.tgz hl /1/ # buildkit
>> ADD t.* /2/ # buildkit
>> ADD t.dat /l # buildkit
>> ADD --chown=9 escape.tar b /3/ # buildkit
>> ADD t.dat /4/ # buildkit
>> ADD t.tgz /5 # buildkit
>> ADD t.dat dir /6/ # buildkit
1: d 755 0:0
1/a: f 644 0:0 "A"
1/one: f 644 0:0 "same"
1/td: d 700 5:6
1/td/f: f 4755 7:8 "tf"
1/td/l: l 0:0 -> f
1/top: f 644 3:0 "top"
1/two: f 644 0:0 "same" = 1/one
2: d 755 0:0
2/td: d 700 5:6
2/td/f: f 4755 7:8 "tf"
2/td/l: l 0:0 -> f
2/top: f 644 3:0 "top"
3: d 755 9:9
3/b: f 644 9:9 "B"
3/l: l 9:9 -> /
3/up: f 644 9:9 "up"
4: d 755 0:0
4/t.dat: f 644 0:0 4096 sha256:9885fc6cd9da100f1e17a8fb13c53904da50846047e55c2db63a62d1975045cc
5: d 755 0:0
5/td: d 700 5:6
5/td/f: f 4755 7:8 "tf"
5/td/l: l 0:0 -> f
5/top: f 644 3:0 "top"
6: d 755 0:0
6/.hidden: f 644 0:0 "H"
6/f: f 644 0:0 "F"
6/lnk: l 0:0 -> f
6/td: d 700 5:6
6/td/f: f 4755 7:8 "tf"
6/td/l: l 0:0 -> f
6/top: f 644 3:0 "top"
l: l 0:0 -> r
r: d 711 0:0
r/td: d 700 5:6
r/td/f: f 4755 7:8 "tf"
r/td/l: l 0:0 -> f
r/top: f 644 3:0 "top"
"#,
    ),
    (
        "exclusions and their exceptions",
        r"FROM scratch
COPY --exclude=* --exclude=!sub/g dir /1
COPY --exclude=sub --exclude=!sub/g dir /2
COPY --exclude=dir/sub --exclude=/.hidden dir /3
COPY --exclude=**/g --exclude=l* dir /4
COPY --exclude=w1.txt w*.txt /5/
COPY --exclude=a a b /6/
COPY --exclude=** dir /7
COPY --exclude=sub/ dir /8
",
        r#">> COPY dir /1 # buildkit
>> COPY dir /2 # buildkit
>> COPY dir /3 # buildkit
>> COPY dir /4 # buildkit
>> COPY w*.txt /5/ # buildkit
>> COPY a b /6/ # buildkit
>> COPY dir /7 # buildkit
>> COPY dir /8 # buildkit
1: d 755 0:0
1/sub: d 700 0:0
1/sub/g: f 644 0:0 "G"
2: d 755 0:0
2/.hidden: f 644 0:0 "H"
2/f: f 644 0:0 "F"
2/lnk: l 0:0 -> f
2/sub: d 700 0:0
2/sub/g: f 644 0:0 "G"
3: d 755 0:0
3/f: f 644 0:0 "F"
3/lnk: l 0:0 -> f
3/sub: d 700 0:0
3/sub/g: f 644 0:0 "G"
4: d 755 0:0
4/.hidden: f 644 0:0 "H"
4/f: f 644 0:0 "F"
4/sub: d 700 0:0
5: d 755 0:0
5/w2.txt: f 644 0:0 "w2"
6: d 755 0:0
6/a: f 644 0:0 "A"
6/b: f 644 0:0 "B"
7: d 755 0:0
8: d 755 0:0
8/.hidden: f 644 0:0 "H"
8/f: f 644 0:0 "F"
8/lnk: l 0:0 -> f
"#,
    ),
    (
        "parents, wildcards and pivots",
        r"FROM scratch
COPY --parents **/g /1/
COPY --parents ./dir/./**/? /2/
COPY --parents dir/sub/./ /3/
COPY --parents nomatch* a ../b /4/
COPY --parents d2 d*/sub/./k /5/
COPY --parents --exclude=**/.hidden --exclude=dir/sub dir /6/
COPY --parents=false dir/f /7/
COPY --parents --chown=1:2 --chmod=u=rwX,go= dir/sub/g /8/
",
        r#">> COPY --parents **/g /1/ # buildkit
>> COPY --parents ./dir/./**/? /2/ # buildkit
>> COPY --parents dir/sub/./ /3/ # buildkit
>> COPY --parents nomatch* a ../b /4/ # buildkit
>> COPY --parents d2 d*/sub/./k /5/ # buildkit
>> COPY --parents dir /6/ # buildkit
>> COPY dir/f /7/ # buildkit
>> COPY --parents --chown=1:2 --chmod=u=rwX,go= dir/sub/g /8/ # buildkit
1: d 755 0:0
1/dir: d 750 0:0
1/dir/sub: d 700 0:0
1/dir/sub/g: f 644 0:0 "G"
2: d 755 0:0
2/f: f 644 0:0 "F"
2/sub: d 700 0:0
2/sub/g: f 644 0:0 "G"
3: d 755 0:0
3/g: f 644 0:0 "G"
4: d 755 0:0
4/a: f 644 0:0 "A"
4/b: f 644 0:0 "B"
5: d 755 0:0
5/d2: d 755 0:0
5/d2/f: f 644 0:0 "F2"
5/d2/sub: d 711 0:0
5/d2/sub/k: f 644 0:0 "K"
5/k: f 644 0:0 "K"
6: d 755 0:0
6/dir: d 750 0:0
6/dir/f: f 644 0:0 "F"
6/dir/lnk: l 0:0 -> f
7: d 755 0:0
7/f: f 644 0:0 "F"
8: d 700 1:2
8/dir: d 700 1:2
8/dir/sub: d 700 1:2
8/dir/sub/g: f 600 1:2 "G"
"#,
    ),
    (
        "each argument sees those before it",
        r#"ARG A=1 B=$A C=${B}c
ARG D=${U:-$C} E="x y" F='$A'
RUN echo "$A,$B,$C,$D,$E,$F" > /x
"#,
        r#"> ARG A=1 B=1 C=1c
> ARG D=1c E=x y F=$A
>> RUN |6 A=1 B=1 C=1c D=1c E=x y F=$A /bin/sh -c echo "$A,$B,$C,$D,$E,$F" > /x # buildkit
x: f 644 0:0 "1,1,1c,1c,x y,$A\n"
"#,
    ),
];

#[test]
fn privileged_corners() {
    require_root!();
    check(CORNERS);
}
