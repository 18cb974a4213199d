//! Specifications that are right, wrong and hostile.

use super::*;

const FULL: &str = r#"cdiVersion: "0.7.0"
kind: "vendor.com/device"
annotations:
  org.mobyproject.buildkit.device.autoallow: true
containerEdits:
  env: [ALL=1]
devices:
- name: 0
  annotations: {org.mobyproject.buildkit.device.class: class1}
  containerEdits:
    deviceNodes:
    - {path: /dev/card0, hostPath: /dev/null, type: c, major: 1, minor: 3, permissions: rw, uid: 5, gid: 0x10, fileMode: 0660}
    - path: /dev/other
      type:
    mounts:
    - hostPath: /usr/lib/x
      containerPath: /usr/lib/y
      options: [ro, nosuid, rbind]
      type: bind
    hooks:
    - hookName: createContainer
      path: /usr/bin/hook
      args: [hook, now]
      timeout: 3
    additionalGids: [44, "45"]
"#;

fn refused(change: impl Fn(&str) -> String) -> String {
    Spec::parse(&change(FULL), true).unwrap_err()
}

#[test]
fn everything_that_there_is() {
    let spec = Spec::parse(FULL, true).unwrap();
    assert_eq!(spec.annotations.values().next().map(String::as_str), Some("true"));
    let device = &spec.devices[0];
    assert_eq!(device.name, "0");
    let edits = &device.container_edits;
    let node = &edits.device_nodes[0];
    assert_eq!((node.major, node.minor, node.file_mode), (Some(1), Some(3), Some(0o660)));
    assert_eq!((node.uid, node.gid, node.kind.as_str()), (Some(5), Some(16), "c"));
    assert_eq!(edits.device_nodes[1].kind, "");
    assert_eq!(edits.mounts[0].options, ["ro", "nosuid", "rbind"]);
    assert_eq!(edits.additional_gids, [44, 45]);
    let json = r#"{"cdiVersion":"1.0.0","kind":"a/b","devices":[{"name":"x","containerEdits":
        {"env":["A=b"],"deviceNodes":null,"additionalGids":[7]}}]}"#;
    assert_eq!(Spec::parse(json, false).unwrap().devices[0].container_edits.additional_gids, [7]);
}

#[test]
fn what_is_refused() {
    for (from, to, reason) in [
        ("0.7.0", "0.6.0", "additionalGids needs version 0.7.0"),
        ("0.7.0", "9.0.0", "no version \"9.0.0\""),
        ("0.7.0", "0.7", "no version"),
        ("0.7.0", "0.7.x", "no version"),
        ("vendor.com/device", "device", "vendor/class"),
        ("name: 0", "name: ../x", "device name"),
        ("path: /dev/card0", "path: /dev/../etc/shadow", ".. in it"),
        ("path: /dev/card0", "path: dev/card0", "not an absolute path"),
        ("path: /dev/card0", "path: /", "root itself"),
        ("hostPath: /usr/lib/x", "hostPath: /usr/../../etc", ".. in it"),
        ("containerPath: /usr/lib/y", "containerPath: lib", "not an absolute path"),
        ("type: c", "type: x", "no type"),
        ("major: 1", "major: -1", "not a number"),
        ("major: 1", "major: 4294967296", "not a number"),
        ("permissions: rw", "permissions: rwx", "no permissions"),
        ("fileMode: 0660", "fileMode: 0100660", "permission bits"),
        ("fileMode: 0660", "fileMode: 0999", "not a number"),
        ("ALL=1", "=1", "not a variable"),
        ("ALL=1", "ALL", "not a variable"),
        ("createContainer", "createcontainer", "no hook"),
        ("path: /usr/bin/hook", "path: hook", "not an absolute path"),
        ("hostPath: /usr/lib/x", "source: /usr/lib/x", "unknown field"),
        ("kind:", "sort:", "unknown field"),
        ("uid: 5", "uid: [5]", ""),
    ] {
        let error = refused(|text| text.replacen(from, to, 1));
        assert!(error.contains(reason), "{from} → {to}: {error}");
    }
    let twice = refused(|text| format!("{text}- name: \"0\"\n  containerEdits: {{env: [A=b]}}\n"));
    assert!(twice.contains("there twice"), "{twice}");
    let empty = refused(|text| format!("{text}- name: z\n  containerEdits: {{}}\n"));
    assert!(empty.contains("no edits"), "{empty}");
    let json = r#"{"cdiVersion":"0.3.0","kind":"a/b","devices":[]}"#;
    assert!(Spec::parse(json, false).unwrap_err().contains("no devices"));
    let deep = "[".repeat(200_000);
    assert!(Spec::parse(&deep, false).is_err() && Spec::parse(&deep, true).is_err());
}

#[test]
fn too_many() {
    let device = |n: usize| format!("- {{name: d{n}, containerEdits: {{env: [A=b]}}}}\n");
    let many: String = (0..=MAX_DEVICES).map(device).collect();
    let text = format!("cdiVersion: 0.3.0\nkind: a/b\ndevices:\n{many}");
    assert!(Spec::parse(&text, true).unwrap_err().contains("more than"));
}

#[test]
fn integers() {
    for (text, value) in [("0", 0), ("10", 10), ("010", 8), ("0o10", 8), ("0x1F", 31)] {
        assert_eq!(integer(text), Some(value), "{text}");
    }
    for text in ["", "-1", "+1", "08", "0x", "1_0", " 1", "99999999999", "0x-1"] {
        assert_eq!(integer(text), None, "{text}");
    }
}
