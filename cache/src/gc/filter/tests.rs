//! What filters accept, want and refuse.

use std::time::Duration;

use oci::Timestamp;

use super::{Filter, Subject, any, duration};
use crate::gc::{Item, ItemId, Kind};

const NOW: i64 = 1_000_000;

fn item(kind: Kind) -> Item {
    Item {
        id: ItemId::Snapshot("3f2a77".to_owned()),
        parent: Some("aa11".to_owned()),
        uses: Some("bb22".to_owned()),
        size: 1,
        created: Timestamp::EPOCH,
        last_used: Timestamp::from_seconds(NOW - 3600),
        kind,
        description: "[2/3] RUN apt-get update, then more".to_owned(),
    }
}

fn wants(text: &str, item: &Item, in_use: bool, shared: bool) -> bool {
    let filter = Filter::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let again = Filter::parse(&filter.to_string()).unwrap();
    assert_eq!(filter, again, "{text}");
    filter.matches(&Subject { item, in_use, shared, now: Timestamp::from_seconds(NOW) })
}

#[test]
fn what_is_wanted() {
    let regular = item(Kind::Regular);
    for (text, expected) in [
        ("id", true),
        // A single `=` finds an id by a part of it; the others are as written.
        ("id=3f2", true),
        ("id=^f2", false),
        ("id==3f2", false),
        ("id==3f2a77", true),
        ("id!=3f2a77", false),
        ("id~=a7+$", true),
        ("parents", true),
        ("parents==aa11", true),
        ("parents=bb22", true),
        ("parents==cc", false),
        ("parents!=aa11", false),
        ("parents!=cc", true),
        ("parents~=^bb", true),
        ("description~=apt-get (update|install)", true),
        ("description=apt-get", false),
        ("description==\"[2/3] RUN apt-get update, then more\"", true),
        ("description~=\"update, \\w+ more$\"", true),
        ("type", true),
        ("type==regular", true),
        ("type = regular", true),
        ("type!=regular", false),
        ("type==exec.cachemount", false),
        ("type~=^(regular|internal)$", true),
        ("inuse", false),
        ("inuse=false", true),
        ("inuse!=true", true),
        ("mutable", false),
        ("immutable", true),
        ("shared", true),
        ("shared==true", true),
        ("private", false),
        ("private!=1", true),
        ("until=30m", true),
        ("until=2h", false),
        ("unused-for=3599", true),
        ("type==regular,shared,until=30m", true),
        ("type==regular , private", false),
        ("type!=internal,type~=reg", true),
    ] {
        assert_eq!(wants(text, &regular, false, true), expected, "{text}");
    }
    assert!(wants("inuse,private", &regular, true, false));
    assert!(wants("mutable,type==exec.cachemount", &item(Kind::CacheMount), false, false));
    let bare = Item { parent: None, uses: None, description: String::new(), ..regular };
    assert!(!wants("parents", &bare, false, false) && !wants("description", &bare, false, false));
    assert!(wants("parents!=aa", &bare, false, false));
}

#[test]
fn mistakes_are_told() {
    for (text, part) in [
        ("", "expected KEY, KEY=VALUE, KEY!=VALUE or KEY~=REGEX at \"\""),
        ("type==regular,", "at \"\"; a value with a comma stands in double quotes"),
        ("description~=a, b", "unknown filter key \"b\"; the keys are"),
        ("=x", "at \"=x\""),
        ("tpye==regular", "unknown filter key \"tpye\", did you mean \"type\"?; the keys are id,"),
        ("unused==3h", "did you mean \"unused-for\"?"),
        ("frobnicate", "unknown filter key \"frobnicate\"; the keys are"),
        ("Type==regular", "did you mean \"type\"?"),
        ("type==regualr", "unknown type \"regualr\", did you mean \"regular\"?; the types are"),
        ("type!=cachemount", "did you mean \"exec.cachemount\"?"),
        ("type==", "\"type\" needs a value, such as type==exec.cachemount"),
        ("type>x", "at \"type>x\""),
        ("id~=(", "\"(\" is not a regular expression: "),
        ("description~=a{999999999}", "is not a regular expression"),
        ("until", "\"until\" needs a value, such as until=24h"),
        ("until=", "expects a length of time such as 24h or 7d, not \"\""),
        ("until=yesterday", "not \"yesterday\""),
        ("until=-1h", "not \"-1h\""),
        ("until!=24h", "cannot be compared with \"!=\": write until=24h"),
        ("inuse~=t", "cannot be compared with \"~=\": write inuse or inuse=false"),
        ("shared=perhaps", "\"shared\" is true or false, not \"perhaps\""),
        ("description==\"a", "the quotes of \"\\\"a\" do not end where the value does"),
        ("description==\"a\"b", "do not end where the value does"),
        ("type==regular,type==internal", "\"type\" was given twice"),
        ("id=a,id=b", "\"id\" was given twice"),
        ("until=1h,unused-for=2h", "\"unused-for\" was given twice"),
        (&"x".repeat(5000), "at most 4096 bytes"),
    ] {
        let error = Filter::parse(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    let twice = Filter::all(["type==regular", "shared", "type=internal"]).unwrap_err();
    assert!(twice.to_string().contains("\"type\" was given twice"), "{twice}");
}

#[test]
fn one_of_all_and_any_of_several() {
    let cache = item(Kind::CacheMount);
    let now = Timestamp::from_seconds(NOW);
    let subject = Subject { item: &cache, in_use: false, shared: false, now };
    let filter = |text| Filter::parse(text).unwrap();
    assert!(any(&[], &subject) && Filter::default().matches(&subject));
    assert!(any(&[filter("type==regular"), filter("mutable")], &subject));
    assert!(!any(&[filter("type==regular"), filter("shared")], &subject));
    let both = Filter::all(["mutable", "type==exec.cachemount"]).unwrap();
    assert!(both.matches(&subject));
    assert_eq!(both.to_string(), "mutable,type==exec.cachemount");
    let (rest, age) = filter("until=1d,private").split_age();
    assert_eq!((rest.to_string().as_str(), age), ("private", Some(Duration::from_secs(86400))));
    assert_eq!(filter("id=a\\.b").to_string(), "id~=a\\.b");
    assert!(Filter::all([]).unwrap().is_empty());
}

#[test]
fn lengths_of_time() {
    let seconds = |text| duration(text).map(|d| d.as_secs());
    assert_eq!(seconds("90"), Some(90));
    assert_eq!(seconds("1h30m"), Some(5400));
    assert_eq!(seconds("24h0m0s"), Some(86400));
    assert_eq!(seconds("2weeks"), Some(1_209_600));
    assert_eq!((seconds(""), seconds("h"), seconds("1.5x")), (None, None, None));
}

proptest::proptest! {
    #[test]
    fn noise_never_panics(text in ".{0,60}") {
        if let Ok(filter) = Filter::parse(&text) {
            let cache = item(Kind::Regular);
            let now = Timestamp::from_seconds(NOW);
            let subject = Subject { item: &cache, in_use: true, shared: true, now };
            assert_eq!(Filter::parse(&filter.to_string()).unwrap(), filter);
            let _ = filter.matches(&subject);
        }
    }

    #[test]
    fn values_come_back(value in ".{1,40}") {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        let filter = Filter::parse(&format!("description==\"{quoted}\"")).unwrap();
        let found = Item { description: value, ..item(Kind::Regular) };
        let now = Timestamp::from_seconds(NOW);
        assert!(filter.matches(&Subject { item: &found, in_use: true, shared: true, now }));
        assert_eq!(Filter::parse(&filter.to_string()).unwrap(), filter);
    }
}
