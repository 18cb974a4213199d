//! The Dockerfile language: lines, variables, arguments, here-documents.

use tests::require_root;

use crate::check;

#[test]
fn privileged_lines() {
    require_root!();
    check(&[
        (
            "keywords in any case",
            r"run echo a > /a
EnV x=1
label A=b
",
            r#"Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","x=1"]
Labels: {"A":"b","from":"busybox"}
>> RUN /bin/sh -c echo a > /a # buildkit
> ENV x=1
> LABEL A=b
a: f 644 0:0 "a\n"
"#,
        ),
        (
            "comments and blank lines in a continued line",
            r##"   # indented
RUN echo 1 > /x \
# comment
   # indented comment

 && echo 2 >> /x # not a comment
ENV A=#x B="# y"
LABEL z=a#b
"##,
            r#"Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","A=#x","B=# y"]
Labels: {"from":"busybox","z":"a#b"}
>> RUN /bin/sh -c echo 1 > /x  && echo 2 >> /x # not a comment # buildkit
> ENV A=#x B=# y
> LABEL z=a#b
x: f 644 0:0 "1\n2\n"
"#,
        ),
        (
            "blanks after a backslash, and a lone one",
            "  ENV a=1 \\ \n    b=2 \\\t\n\\\n    c=3\nRUN echo 'a\\\\' \\\\\nCMD echo \\\n\n   end\nLABEL k=\"multi\\\nline\"\n",
            r#"Cmd: ["/bin/sh","-c","echo    end"]
Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","a=1","b=2","c=3"]
Labels: {"from":"busybox","k":"multiline"}
> ENV a=1 b=2 c=3
>> RUN /bin/sh -c echo 'a\\' \\ # buildkit
> CMD ["/bin/sh" "-c" "echo    end"]
> LABEL k=multiline
"#,
        ),
        (
            "a continuation at the end of the file",
            "ENV A=1 \\",
            r#"Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","A=1"]
> ENV A=1
"#,
        ),
        (
            "carriage returns",
            "ENV a=b \\\r\n  c=d\r\nRUN echo hi \\\r\n  there > /x\r\nLABEL l=\"v\"\r\n",
            r#"Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","a=b","c=d"]
Labels: {"from":"busybox","l":"v"}
> ENV a=b c=d
>> RUN /bin/sh -c echo hi   there > /x # buildkit
> LABEL l=v
x: f 644 0:0 "hi there\n"
"#,
        ),
        (
            "a directive after a comment is one more comment",
            r"# a comment
# escape=`
FROM busybox
ENV A=`x
CMD a \
 b
",
            r#"Cmd: ["/bin/sh","-c","a  b"]
Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","A=`x"]
> ENV A=`x
> CMD ["/bin/sh" "-c" "a  b"]
"#,
        ),
        (
            "the grave accent as escape",
            r#"# escape=`
FROM busybox
ENV A=1 `
  B=c:\d C=`$A D="x`"y"
CMD echo a `
  b
LABEL p=C:\foo\
"#,
            r#"Cmd: ["/bin/sh","-c","echo a   b"]
Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","A=1","B=c:\\d","C=$A","D=x\"y"]
Labels: {"from":"busybox","p":"C:\\foo\\"}
> ENV A=1 B=c:\d C=$A D=x"y
> CMD ["/bin/sh" "-c" "echo a   b"]
> LABEL p=C:\foo\
"#,
        ),
        (
            "spaces of a command are kept",
            "   RUN   echo   'a    b'  \\\n      > /x  \n\tCMD\techo  tab\n",
            r#"Cmd: ["/bin/sh","-c","echo  tab"]
>> RUN /bin/sh -c echo   'a    b'        > /x # buildkit
> CMD ["/bin/sh" "-c" "echo  tab"]
x: f 644 0:0 "a    b\n"
"#,
        ),
    ]);
}

#[test]
fn privileged_exec_forms() {
    require_root!();
    check(&[
        (
            "JSON escapes",
            r#"CMD ["a\tb", "\u0041", "c\"d", "é", "\/", "<&>"]
ENTRYPOINT ["\ud83d\ude00\ud800"]
"#,
            r#"Cmd: ["a\tb","A","c\"d","é","/","<&>"]
Entrypoint: ["😀�"]
> CMD ["a\tb" "A" "c\"d" "é" "/" "<&>"]
> ENTRYPOINT ["😀�"]
"#,
        ),
        (
            "JSON over several lines",
            r#"CMD ["a", \
  "b", \
# comment
  "c" ]
RUN ["sh", \
 "-c", "echo hi > /x"]
"#,
            r#"Cmd: ["a","b","c"]
> CMD ["a" "b" "c"]
>> RUN sh -c echo hi > /x # buildkit
x: f 644 0:0 "hi\n"
"#,
        ),
        (
            "what is no JSON is for the shell",
            r#"CMD ['a']
ENTRYPOINT ["echo"] x
"#,
            r#"Cmd: ["/bin/sh","-c","['a']"]
Entrypoint: ["/bin/sh","-c","[\"echo\"] x"]
> CMD ["/bin/sh" "-c" "['a']"]
> ENTRYPOINT ["/bin/sh" "-c" "[\"echo\"] x"]
"#,
        ),
        (
            "no shell, no variables",
            r#"ENV V=v
RUN ["sh", "-c", "echo $V $0 > /x", "$V"]
CMD ["$V"]
"#,
            r#"Cmd: ["$V"]
Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","V=v"]
> ENV V=v
>> RUN sh -c echo $V $0 > /x $V # buildkit
> CMD ["$V"]
x: f 644 0:0 "v $V\n"
"#,
        ),
        (
            "empty lists",
            r#"ENTRYPOINT ["a"]
CMD ["b"]
ENTRYPOINT []
CMD []
"#,
            r#"Cmd: []
> ENTRYPOINT ["a"]
> CMD ["b"]
> ENTRYPOINT []
> CMD []
"#,
        ),
    ]);
}

#[test]
fn privileged_variables() {
    require_root!();
    check(&[
        (
            "defaults and alternatives",
            r#"ENV A=a E=
ENV x1=${A} x2=${U:-d} x3=${E:-d} x4=${E-d} x5=${U-d} x6=${A:+p} x7=${E:+p} x8=${E+p} x9=${U+p} y1=${U:-${A}} y2="${U:-x y}" y3=${A:?no} y4=$A$A y5=$1x y6=$. y7=a$ y8=${A}b
"#,
            r#"Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","A=a","E=","x1=a","x2=d","x3=d","x4=","x5=d","x6=p","x7=","x8=p","x9=","y1=a","y2=x y","y3=a","y4=aa","y5=x","y6=$.","y7=a$","y8=ab"]
> ENV A=a E=
> ENV x1=a x2=d x3=d x4= x5=d x6=p x7= x8=p x9= y1=a y2=x y y3=a y4=aa y5=x y6=$. y7=a$ y8=ab
"#,
        ),
        (
            "quotes and escapes",
            r#"ENV A=a
ENV a=\$A b=\${A} c='$A' d="$A" e="'$A'" f='"$A"' g="\a" h="\\" i="\"" j=\a k=\\ l=a\ b m='\a'
"#,
            r#"Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","A=a","a=$A","b=${A}","c=$A","d=a","e='a'","f=\"$A\"","g=\\a","h=\\","i=\"","j=a","k=\\","l=a b","m=\\a"]
> ENV A=a
> ENV a=$A b=${A} c=$A d=a e='a' f="$A" g=\a h=\ i=" j=a k=\ l=a b m=\a
"#,
        ),
        (
            "patterns",
            r"ENV L=a/b/c.tar.gz
ENV a=${L#*/} b=${L##*/} c=${L%.*} d=${L%%.*} e=${L/b/X} f=${L//\//_} g=${L#a?} h=${L%z} i=${L##*}
",
            r#"Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","L=a/b/c.tar.gz","a=b/c.tar.gz","b=c.tar.gz","c=a/b/c.tar","d=a/b/c","e=a/X/c.tar.gz","f=a_b_c.tar.gz","g=b/c.tar.gz","h=a/b/c.tar.g","i="]
> ENV L=a/b/c.tar.gz
> ENV a=b/c.tar.gz b=c.tar.gz c=a/b/c.tar d=a/b/c e=a/X/c.tar.gz f=a_b_c.tar.gz g=b/c.tar.gz h=a/b/c.tar.g i=
"#,
        ),
        (
            "all pairs see the variables before the instruction",
            r"ENV abc=hello
ENV abc=bye def=$abc
ENV ghi=$abc
",
            r#"Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","abc=bye","def=hello","ghi=bye"]
> ENV abc=hello
> ENV abc=bye def=hello
> ENV ghi=bye
"#,
        ),
        (
            "the form without an equals sign",
            "ENV A  some value  with   spaces \nENV B \"quoted x\" y\nENV D $A x=y\nENV F \\\n  cont val\n",
            r#"Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","A=some value  with   spaces","B=quoted x y","D=some value  with   spaces x=y","F=cont val"]
> ENV A=some value  with   spaces
> ENV B=quoted x y
> ENV D=some value  with   spaces x=y
> ENV F=cont val
"#,
        ),
        (
            "names are expanded too",
            r#"ENV K=key
ENV $K=v ${K}2=w
LABEL $K=v "a $K"=x 'b $K'=y "c\$K"=z
"#,
            r#"Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","K=key","key=v","key2=w"]
Labels: {"a key":"x","b $K":"y","c$K":"z","from":"busybox","key":"v"}
> ENV K=key
> ENV key=v key2=w
> LABEL key=v a key=x b $K=y c$K=z
"#,
        ),
        (
            "a variable set anew keeps its place",
            r"ENV a=1 b=2
ENV c=3
ENV a=9 PATH=/x:$PATH
ENV b=
",
            r#"Env: ["PATH=/x:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","a=9","b=","c=3"]
> ENV a=1 b=2
> ENV c=3
> ENV a=9 PATH=/x:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
> ENV b=
"#,
        ),
        (
            "instructions that expand and that do not",
            r#"ENV D=/dd U=user S=SIGINT P=80 V=/vol
EXPOSE $P ${P}81/udp
LABEL $U="$U"
STOPSIGNAL $S
VOLUME $V ["$V"]
VOLUME ["${V}2"]
CMD echo $U
ENTRYPOINT ["$U"]
SHELL ["$U"]
HEALTHCHECK CMD echo $U
USER $U:${U}g
MAINTAINER $U
ONBUILD RUN $U
"#,
            r#"Cmd: ["/bin/sh","-c","echo $U"]
Entrypoint: ["$U"]
Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","D=/dd","U=user","S=SIGINT","P=80","V=/vol"]
ExposedPorts: {"80/tcp":{},"8081/udp":{}}
Healthcheck: {"Test":["CMD-SHELL","echo $U"]}
Labels: {"from":"busybox","user":"user"}
OnBuild: ["RUN $U"]
Shell: ["$U"]
StopSignal: "SIGINT"
User: "user:userg"
Volumes: {"/vol":{},"/vol2":{},"[/vol]":{}}
author: $U
> ENV D=/dd U=user S=SIGINT P=80 V=/vol
> EXPOSE [80/tcp 8081/udp]
> LABEL user=user
> STOPSIGNAL SIGINT
> VOLUME [/vol [/vol]]
> VOLUME [/vol2]
> CMD ["/bin/sh" "-c" "echo $U"]
> ENTRYPOINT ["$U"]
> SHELL [$U]
> HEALTHCHECK {Test:[CMD-SHELL echo $U] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}
> USER user:userg
> MAINTAINER $U
"#,
        ),
        (
            "ports of a variable",
            r#"ARG P="3000 4000/udp"
EXPOSE $P 22
EXPOSE 8000-8002/TCP 127.0.0.1:80:8080 90:9090/sctp
"#,
            r#"ExposedPorts: {"22/tcp":{},"3000/tcp":{},"4000/udp":{},"8000/tcp":{},"8001/tcp":{},"8002/tcp":{},"8080/tcp":{},"9090/sctp":{}}
> ARG P=3000 4000/udp
> EXPOSE [3000/tcp 4000/udp 22/tcp]
> EXPOSE [8000/tcp 8001/tcp 8002/tcp 8080/tcp 9090/sctp]
"#,
        ),
        (
            "labels",
            r#"LABEL a=b c="d e" f=g\ h "i j"=k 'l m'='n o' s="" t=
LABEL legacy form here
LABEL a=over x.y/z-1=a=b
"#,
            r#"Labels: {"a":"over","c":"d e","f":"g h","from":"busybox","i j":"k","l m":"n o","legacy":"form here","s":"","t":"","x.y/z-1":"a=b"}
> LABEL a=b c=d e f=g h i j=k l m=n o s= t=
> LABEL legacy=form here
> LABEL a=over x.y/z-1=a=b
"#,
        ),
    ]);
}

#[test]
fn privileged_arguments() {
    require_root!();
    check(&[
        (
            "global ones are for FROM until named in a stage",
            r#"ARG S=one
ARG T=t
ARG V=${T}x
FROM busybox AS one
RUN echo "[$S][$T]" > /1
FROM ${S}
ARG T
ARG V=own
RUN echo "[$S][$T][$V]" > /2
"#,
            r#">> RUN /bin/sh -c echo "[$S][$T]" > /1 # buildkit
> ARG T=t
> ARG V=own
>> RUN |2 T=t V=own /bin/sh -c echo "[$S][$T][$V]" > /2 # buildkit
1: f 644 0:0 "[][]\n"
2: f 644 0:0 "[][t][own]\n"
"#,
        ),
        (
            "those of a stage below are known, those of another are not",
            r#"FROM busybox AS p
ARG A=1
ENV E=2
FROM busybox AS s
RUN echo "[$A]" > /s
FROM p AS c
RUN echo "$A,$E" > /c
COPY --from=s /s /s
"#,
            r#"Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","E=2"]
> ARG A=1
> ENV E=2
>> RUN |1 A=1 /bin/sh -c echo "$A,$E" > /c # buildkit
>> COPY /s /s # buildkit
c: f 644 0:0 "1,2\n"
s: f 644 0:0 "[]\n"
"#,
        ),
        (
            "the last of ARG and ENV wins at run time",
            r"ENV X=env
ARG X=arg
RUN echo $X > /1
ARG Y=arg
ENV Y=env
RUN echo $Y > /2
ENV Z=$X$Y
",
            r#"Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","X=env","Y=env","Z=argenv"]
> ENV X=env
> ARG X=arg
>> RUN |1 X=arg /bin/sh -c echo $X > /1 # buildkit
> ARG Y=arg
> ENV Y=env
>> RUN |2 X=arg Y=env /bin/sh -c echo $Y > /2 # buildkit
> ENV Z=argenv
1: f 644 0:0 "arg\n"
2: f 644 0:0 "env\n"
"#,
        ),
        (
            "without a value, and declared again",
            r#"ARG A
ARG B=b C=
RUN echo "${A-unset},$B,${C-unset}" > /1
ARG B=c
ARG B
RUN echo $B > /2
"#,
            r#"> ARG A
> ARG B=b C=
>> RUN |3 A= B=b C= /bin/sh -c echo "${A-unset},$B,${C-unset}" > /1 # buildkit
> ARG B=c
> ARG B
>> RUN |3 A= B=c C= /bin/sh -c echo $B > /2 # buildkit
1: f 644 0:0 "unset,b,\n"
2: f 644 0:0 "c\n"
"#,
        ),
        (
            "of the platform, once declared",
            r#"RUN echo "[$TARGETPLATFORM]" > /0
ARG TARGETOS TARGETVARIANT=v9
RUN echo "$TARGETOS,$TARGETVARIANT" > /1
"#,
            r#">> RUN /bin/sh -c echo "[$TARGETPLATFORM]" > /0 # buildkit
> ARG TARGETOS=linux TARGETVARIANT=v9
>> RUN |2 TARGETOS=linux TARGETVARIANT=v9 /bin/sh -c echo "$TARGETOS,$TARGETVARIANT" > /1 # buildkit
0: f 644 0:0 "[]\n"
1: f 644 0:0 "linux,v9\n"
"#,
        ),
    ]);
}

#[test]
fn privileged_here_documents() {
    require_root!();
    check(&[
        (
            "of RUN",
            r"ENV X=x
RUN <<EOF
echo $X > /a
echo 'b' >> /a
EOF
RUN <<EOF sh
echo shell > /b
EOF
RUN cat <<A > /c && cat <<B >> /c
a
A
b
B
RUN 3<<IN cat <&3 > /d
in
IN
",
            r#"Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","X=x"]
> ENV X=x
>> RUN /bin/sh -c echo $X > /a
echo 'b' >> /a
 # buildkit
>> RUN /bin/sh -c <<EOF sh
echo shell > /b
EOF # buildkit
>> RUN /bin/sh -c cat <<A > /c && cat <<B >> /c
a
A
b
B # buildkit
>> RUN /bin/sh -c 3<<IN cat <&3 > /d
in
IN # buildkit
a: f 644 0:0 "x\nb\n"
b: f 644 0:0 "shell\n"
c: f 644 0:0 "a\nb\n"
d: f 644 0:0 "in\n"
"#,
        ),
        (
            "with an interpreter",
            "RUN <<EOT\n#!/bin/sh\necho $0 > /a\nEOT\nRUN <<-EOT\n\t#!/bin/sh\n\techo tab > /b\n\tEOT\n",
            r#">> RUN /bin/sh -c /dev/pipes/EOT # buildkit
>> RUN /bin/sh -c /dev/pipes/EOT # buildkit
a: f 644 0:0 "/dev/pipes/EOT\n"
b: f 644 0:0 "tab\n"
"#,
        ),
        (
            "of COPY",
            "ENV V=val\nCOPY <<EOF /a\nx $V \"$V\" '$V' \\$V \\\\ \\n\nEOF\nCOPY <<'EOF' /b\n$V \\$V\nEOF\nCOPY a <<f1 <<\"f2\" /d/\n1\nf1\n2$V\nf2\nCOPY <<-T /tab\n\t\tindented\n\t  mixed\n\tT\nCOPY --chmod=755 --chown=1:2 <<s /s/\nz\ns\n",
            r#"Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","V=val"]
> ENV V=val
>> COPY <<EOF /a # buildkit
>> COPY <<EOF /b # buildkit
>> COPY a <<f1 <<f2 /d/ # buildkit
>> COPY <<T /tab # buildkit
>> COPY --chown=1:2 --chmod=755 <<s /s/ # buildkit
a: f 644 0:0 "x val \"val\" 'val' $V \\ n\n"
b: f 644 0:0 "$V \\$V\n"
d: d 755 0:0
d/a: f 644 0:0 "A"
d/f1: f 644 0:0 "1\n"
d/f2: f 644 0:0 "2$V\n"
s: d 755 1:2
s/s: f 755 1:2 "z\n"
tab: f 644 0:0 "indented\n  mixed\n"
"#,
        ),
        (
            "what only looks like one",
            r#"RUN echo $((1<<3)) > /a; echo "<<EOF" >> /a
RUN ["sh", "-c", "echo '<<EOF' > /b"]
CMD <<EOF
"#,
            r#"Cmd: ["/bin/sh","-c","<<EOF"]
>> RUN /bin/sh -c echo $((1<<3)) > /a; echo "<<EOF" >> /a # buildkit
>> RUN sh -c echo '<<EOF' > /b # buildkit
> CMD ["/bin/sh" "-c" "<<EOF"]
a: f 644 0:0 "8\n<<EOF\n"
b: f 644 0:0 "<<EOF\n"
"#,
        ),
        (
            "in triggers",
            r"FROM busybox AS p
ONBUILD RUN <<E
echo x > /x
E
ONBUILD COPY <<F /f
x${A}y
F
FROM p
",
            r#">> RUN /bin/sh -c echo x > /x
 # buildkit
>> COPY <<F /f # buildkit
f: f 644 0:0 "xy\n"
x: f 644 0:0 "x\n"
"#,
        ),
    ]);
}
