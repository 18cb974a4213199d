//! YAML as far as specifications need it: mappings, sequences and scalars of one document, read
//! into JSON values in which every scalar is text. What makes a small file large (aliases) and
//! what makes it ambiguous (a key twice, several documents) is refused.

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Value};

/// How deep a specification may be nested; it takes seven.
const MAX_DEPTH: usize = 32;

/// A mapping or sequence that is not complete.
enum Open {
    Mapping(Map<String, Value>, Option<String>),
    Sequence(Vec<Value>),
}

/// Reads one document.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut done = None;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| error.to_string())?;
        let at = |reason: &str| format!("line {}: {reason}", span.start.line());
        let value = match event {
            Event::Alias(_) => return Err(at("aliases are not supported")),
            Event::Scalar(text, style, _, tag) => {
                check(tag.as_deref()).map_err(|reason| at(&reason))?;
                scalar(&text, style)
            }
            Event::SequenceStart(_, tag) => {
                check(tag.as_deref()).map_err(|reason| at(&reason))?;
                open.push(Open::Sequence(Vec::new()));
                if open.len() > MAX_DEPTH {
                    return Err(at("it is nested too deeply"));
                }
                continue;
            }
            Event::MappingStart(_, tag) => {
                check(tag.as_deref()).map_err(|reason| at(&reason))?;
                open.push(Open::Mapping(Map::new(), None));
                if open.len() > MAX_DEPTH {
                    return Err(at("it is nested too deeply"));
                }
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::Sequence(list)) => Value::Array(list),
                Some(Open::Mapping(map, _)) => Value::Object(map),
                None => return Err(at("something ends that did not begin")),
            },
            _ => continue,
        };
        match open.last_mut() {
            Some(inside) => add(inside, value).map_err(|reason| at(&reason))?,
            None if done.is_some() => return Err(at("there is more than one document")),
            None => done = Some(value),
        }
    }
    done.ok_or_else(|| "it is empty".to_owned())
}

fn add(inside: &mut Open, value: Value) -> Result<(), String> {
    match inside {
        Open::Sequence(list) => list.push(value),
        Open::Mapping(map, key) => match (key.take(), value) {
            (None, Value::String(name)) => {
                if map.contains_key(&name) {
                    return Err(format!("the key {name:?} is there twice"));
                }
                *key = Some(name);
            }
            (None, _) => return Err("a key is not text".to_owned()),
            (Some(name), value) => {
                map.insert(name, value);
            }
        },
    }
    Ok(())
}

/// Nothing, in the ways of the core schema, or text.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    match style {
        ScalarStyle::Plain if matches!(text, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
        _ => Value::String(text.to_owned()),
    }
}

fn check(tag: Option<&Tag>) -> Result<(), String> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => Err(format!("the tag {tag} is not supported")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn blocks_flows_and_scalars() {
        let text =
            "---\na: 0660\nb:\n- x: 'y: z'\n- [1, \"2\"]\nc: ~\nd: {e: true}\nf: |\n  one\n  two\n";
        let want = json!({
            "a": "0660", "b": [{"x": "y: z"}, ["1", "2"]], "c": null, "d": {"e": "true"},
            "f": "one\ntwo\n"
        });
        assert_eq!(parse(text), Ok(want));
        // What is JSON is YAML.
        assert_eq!(parse("{\"a\": [1, null]}"), Ok(json!({"a": ["1", null]})));
    }

    #[test]
    fn hostile_documents() {
        for (text, reason) in [
            ("", "empty"),
            ("a: &x [1]\nb: *x\n", "aliases"),
            ("a: 1\na: 2\n", "twice"),
            ("a: 1\n---\nb: 2\n", "more than one"),
            ("a: !file /etc/passwd\n", "tag"),
            ("? [a]\n: b\n", "not text"),
            ("a: [1\n", ""),
            ("a: \"x\n", ""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
        assert!(parse(&"[".repeat(10_000)).is_err());
        assert!(parse(&"- ".repeat(5_000)).is_err());
        assert!(parse(&"a: {".repeat(100)).unwrap_err().contains("nested"));
    }
}
