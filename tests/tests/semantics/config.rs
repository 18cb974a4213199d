//! Instructions that make the config, users and working directories.

use tests::require_root;

use crate::check;

#[test]
fn privileged_commands() {
    require_root!();
    check(&[
        (
            "ENTRYPOINT drops an inherited CMD",
            r#"FROM busybox AS a
CMD ["one"]
FROM a
ENTRYPOINT ["ep"]
"#,
            r#"Cmd: -
Entrypoint: ["ep"]
> CMD ["one"]
> ENTRYPOINT ["ep"]
"#,
        ),
        (
            "but not one of the same stage",
            r#"ENTRYPOINT ["first"]
CMD ["one"]
ENTRYPOINT ["ep"]
"#,
            r#"Cmd: ["one"]
Entrypoint: ["ep"]
> ENTRYPOINT ["first"]
> CMD ["one"]
> ENTRYPOINT ["ep"]
"#,
        ),
        (
            "SHELL holds for what follows and for children",
            r#"FROM busybox AS a
SHELL ["/bin/sh", "-ec"]
RUN echo x > /x
CMD echo hi
FROM a
RUN echo y > /y
SHELL ["/bin/sh","-xc"]
ENTRYPOINT other
HEALTHCHECK CMD chk
"#,
            r#"Cmd: -
Entrypoint: ["/bin/sh","-xc","other"]
Healthcheck: {"Test":["CMD-SHELL","chk"]}
Shell: ["/bin/sh","-xc"]
> SHELL [/bin/sh -ec]
>> RUN /bin/sh -ec echo x > /x # buildkit
> CMD ["/bin/sh" "-ec" "echo hi"]
>> RUN /bin/sh -ec echo y > /y # buildkit
> SHELL [/bin/sh -xc]
> ENTRYPOINT ["/bin/sh" "-xc" "other"]
> HEALTHCHECK {Test:[CMD-SHELL chk] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}
x: f 644 0:0 "x\n"
y: f 644 0:0 "y\n"
"#,
        ),
        (
            "the last CMD counts",
            r#"CMD a
CMD ["b", "c d"]
"#,
            r#"Cmd: ["b","c d"]
> CMD ["/bin/sh" "-c" "a"]
> CMD ["b" "c d"]
"#,
        ),
        (
            "health checks",
            r"HEALTHCHECK --interval=5s --timeout=3m --start-period=1h --start-interval=1500ms --retries=4 cmd curl  x || exit 1
",
            r#"Healthcheck: {"Test":["CMD-SHELL","curl  x || exit 1"],"Interval":5000000000,"Timeout":180000000000,"StartPeriod":3600000000000,"StartInterval":1500000000,"Retries":4}
> HEALTHCHECK {Test:[CMD-SHELL curl  x || exit 1] Interval:5s Timeout:3m0s StartPeriod:1h0m0s StartInterval:1.5s Retries:4}
"#,
        ),
        (
            "a health check in exec form",
            r#"HEALTHCHECK --interval=0s CMD ["a", "b c"]
"#,
            r#"Healthcheck: {"Test":["CMD","a","b c"]}
> HEALTHCHECK {Test:[CMD a b c] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}
"#,
        ),
        (
            "no health check",
            r"FROM busybox AS a
HEALTHCHECK CMD x
FROM a
HEALTHCHECK NONE
",
            r#"Healthcheck: {"Test":["NONE"]}
> HEALTHCHECK {Test:[CMD-SHELL x] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}
> HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}
"#,
        ),
    ]);
}

#[test]
fn privileged_triggers() {
    require_root!();
    check(&[
        (
            "are stored as written",
            r#"ONBUILD RUN echo a && \
   echo b # c
onbuild  ADD ["a","/x y"]
ONBUILD ENV  X=$OB  Y=2
"#,
            r#"OnBuild: ["RUN echo a &&    echo b # c","ADD [\"a\",\"/x y\"]","ENV  X=$OB  Y=2"]
"#,
        ),
        (
            "run once, in the child of a stage",
            r"FROM busybox AS p
ONBUILD RUN echo trigger >> /t
ONBUILD ENV T=1
FROM p AS c
RUN echo c >> /t
FROM c
RUN echo $T >> /t
",
            r#"Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","T=1"]
>> RUN /bin/sh -c echo trigger >> /t # buildkit
> ENV T=1
>> RUN /bin/sh -c echo c >> /t # buildkit
>> RUN /bin/sh -c echo $T >> /t # buildkit
t: f 644 0:0 "trigger\nc\n1\n"
"#,
        ),
        (
            "bring in stages of their own",
            r"FROM busybox AS src
RUN echo s > /s
FROM busybox AS p
ONBUILD COPY --from=src /s /got
FROM p
",
            r#">> COPY /s /got # buildkit
got: f 644 0:0 "s\n"
"#,
        ),
    ]);
}

#[test]
fn privileged_users_and_directories() {
    require_root!();
    check(&[
        (
            "WORKDIR is relative to the one before",
            r#"WORKDIR /a
WORKDIR b
WORKDIR ../c/
WORKDIR /x//y/../z
RUN pwd > p
WORKDIR /
WORKDIR "e f"
WORKDIR ..
"#,
            r#">> WORKDIR /a
>> WORKDIR /a/b
>> WORKDIR /a/c
>> WORKDIR /x/z
>> RUN /bin/sh -c pwd > p # buildkit
> WORKDIR /
>> WORKDIR /e f
> WORKDIR /
a: d 755 0:0
a/b: d 755 0:0
a/c: d 755 0:0
e f: d 755 0:0
x: d 755 0:0
x/z: d 755 0:0
x/z/p: f 644 0:0 "/x/z\n"
"#,
        ),
        (
            "WORKDIR leaves what is there, and belongs to USER",
            r"RUN mkdir -m 700 /w && touch /w/f
USER 1000
WORKDIR /w
WORKDIR /w/n/m
USER app
WORKDIR /v
USER app:33
WORKDIR /u
USER root
WORKDIR /t
",
            r#"User: "root"
WorkingDir: "/t"
>> RUN /bin/sh -c mkdir -m 700 /w && touch /w/f # buildkit
> USER 1000
>> WORKDIR /w
>> WORKDIR /w/n/m
> USER app
>> WORKDIR /v
> USER app:33
>> WORKDIR /u
> USER root
>> WORKDIR /t
t: d 755 0:0
u: d 755 1000:33
v: d 755 1000:1001
w: d 700 0:0
w/f: f 644 0:0 ""
w/n: d 755 1000:1000
w/n/m: d 755 1000:1000
"#,
        ),
        (
            "WORKDIR through symbolic links",
            r"RUN mkdir /real && ln -s /real /lk && ln -s ../../real/q /real/up
WORKDIR /lk/sub
RUN pwd > p
COPY a .
COPY b /lk/d2
COPY a ..
",
            r#"WorkingDir: "/lk/sub"
>> RUN /bin/sh -c mkdir /real && ln -s /real /lk && ln -s ../../real/q /real/up # buildkit
>> WORKDIR /lk/sub
>> RUN /bin/sh -c pwd > p # buildkit
>> COPY a . # buildkit
>> COPY b /lk/d2 # buildkit
>> COPY a .. # buildkit
lk: l 0:0 -> /real
real: d 755 0:0
real/a: f 644 0:0 "A"
real/d2: f 644 0:0 "B"
real/sub: d 755 0:0
real/sub/a: f 644 0:0 "A"
real/sub/p: f 644 0:0 "/real/sub\n"
real/up: l 0:0 -> ../../real/q
"#,
        ),
        (
            "COPY pays no heed to USER",
            r"USER 44:55
WORKDIR /w
COPY a ./d/
RUN touch mine
",
            r#"User: "44:55"
WorkingDir: "/w"
> USER 44:55
>> WORKDIR /w
>> COPY a ./d/ # buildkit
>> RUN /bin/sh -c touch mine # buildkit
w: d 755 44:55
w/d: d 755 0:0
w/d/a: f 644 0:0 "A"
w/mine: f 644 44:55 ""
"#,
        ),
        (
            "numbers without names",
            r"FROM scratch
USER 5
WORKDIR /z
USER 7:8
WORKDIR /v
USER root:root
WORKDIR /x
COPY --chown=root a /a
COPY --chown=9:root a /b
",
            r#"User: "root:root"
WorkingDir: "/x"
> USER 5
>> WORKDIR /z
> USER 7:8
>> WORKDIR /v
> USER root:root
>> WORKDIR /x
>> COPY --chown=root a /a # buildkit
>> COPY --chown=9:root a /b # buildkit
a: f 644 0:0 "A"
b: f 644 9:0 "A"
v: d 755 7:8
x: d 755 0:0
z: d 755 5:5
"#,
        ),
        (
            "volumes keep what is written below them",
            r#"VOLUME /a /b
VOLUME ["/c", "/d e"]
VOLUME rel /a
RUN mkdir /a && echo x > /a/f
"#,
            r#"Volumes: {"/a":{},"/b":{},"/c":{},"/d e":{},"rel":{}}
> VOLUME [/a /b]
> VOLUME [/c /d e]
> VOLUME [rel /a]
>> RUN /bin/sh -c mkdir /a && echo x > /a/f # buildkit
a: d 755 0:0
a/f: f 644 0:0 "x\n"
"#,
        ),
        (
            "who runs",
            r"RUN chmod 1777 /tmp
USER app
RUN id -u > /tmp/1; id -g >> /tmp/1; echo $HOME >> /tmp/1
USER 4242
RUN id -u > /tmp/2; id -g >> /tmp/2; echo $HOME >> /tmp/2
USER app:extra
RUN id -g > /tmp/3
ENV HOME=/h
RUN echo $HOME > /tmp/4
",
            r#"Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","HOME=/h"]
User: "app:extra"
>> RUN /bin/sh -c chmod 1777 /tmp # buildkit
> USER app
>> RUN /bin/sh -c id -u > /tmp/1; id -g >> /tmp/1; echo $HOME >> /tmp/1 # buildkit
> USER 4242
>> RUN /bin/sh -c id -u > /tmp/2; id -g >> /tmp/2; echo $HOME >> /tmp/2 # buildkit
> USER app:extra
>> RUN /bin/sh -c id -g > /tmp/3 # buildkit
> ENV HOME=/h
>> RUN /bin/sh -c echo $HOME > /tmp/4 # buildkit
tmp/1: f 644 1000:1001 "1000\n1001\n/home/app\n"
tmp/2: f 644 4242:0 "4242\n0\n/\n"
tmp/3: f 644 1000:2000 "2000\n"
tmp/4: f 644 1000:2000 "/h\n"
"#,
        ),
    ]);
}

#[test]
fn privileged_stages() {
    require_root!();
    check(&[
        (
            "owners and modes come from the stage, a new top directory does not",
            r"FROM busybox AS s
RUN mkdir -p /s/d && chown 100:200 /s /s/d && chmod 2750 /s/d && echo f > /s/f && chown 7:8 /s/f && chmod 4711 /s/f && ln -s f /s/l && ln /s/f /s/h && ln -s /s/d /dl
FROM scratch
COPY --from=s /s /x
COPY --from=s --chown=1:2 /s/f /s/l /y/
COPY --from=s /dl /z
",
            r#">> COPY /s /x # buildkit
>> COPY --chown=1:2 /s/f /s/l /y/ # buildkit
>> COPY /dl /z # buildkit
x: d 755 0:0
x/d: d 2750 100:200
x/f: f 4711 7:8 "f\n"
x/h: f 4711 7:8 "f\n" = x/f
x/l: l 0:0 -> f
y: d 755 1:2
y/f: f 4711 1:2 "f\n"
y/l: f 4711 1:2 "f\n"
z: d 755 0:0
"#,
        ),
        (
            "by number, and by name in any case",
            r"FROM busybox
RUN echo 0 > /z
FROM busybox AS One
RUN echo 1 > /z
FROM scratch
COPY --from=0 /z /0
COPY --from=1 /z /1
COPY --from=oNE /z /one
",
            r#">> COPY /z /0 # buildkit
>> COPY /z /1 # buildkit
>> COPY /z /one # buildkit
0: f 644 0:0 "0\n"
1: f 644 0:0 "1\n"
one: f 644 0:0 "1\n"
"#,
        ),
        (
            "what nobody needs is not built",
            r"FROM busybox AS bad
RUN false
FROM does.not/exist AS worse
RUN x
FROM busybox
RUN echo ok > /x
",
            r#">> RUN /bin/sh -c echo ok > /x # buildkit
x: f 644 0:0 "ok\n"
"#,
        ),
        (
            "an empty stage below",
            r"FROM scratch AS e
ENV A=1
FROM e
COPY a /b
",
            r#"Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","A=1"]
> ENV A=1
>> COPY a /b # buildkit
b: f 644 0:0 "A"
"#,
        ),
        (
            "config passes on but for triggers",
            r#"FROM busybox AS a
ENTRYPOINT ["e"]
CMD ["c"]
LABEL l=1
EXPOSE 1
USER 5:6
WORKDIR /w
STOPSIGNAL 9
ONBUILD LABEL o=1
MAINTAINER me
FROM a
LABEL m=2
EXPOSE 2
"#,
            r#"Cmd: ["c"]
Entrypoint: ["e"]
ExposedPorts: {"1/tcp":{},"2/tcp":{}}
Labels: {"from":"busybox","l":"1","m":"2","o":"1"}
StopSignal: "9"
User: "5:6"
WorkingDir: "/w"
author: me
> ENTRYPOINT ["e"]
> CMD ["c"]
> LABEL l=1
> EXPOSE [1/tcp]
> USER 5:6
>> WORKDIR /w
> STOPSIGNAL 9
> MAINTAINER me
> LABEL o=1
> LABEL m=2
> EXPOSE [2/tcp]
w: d 755 5:6
"#,
        ),
    ]);
}
