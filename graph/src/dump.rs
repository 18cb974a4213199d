//! A definition as text, for tests and for people.

use std::fmt::Write;

use crate::{Definition, Freshness};

/// One line per vertex: its position, kind, inputs and name.
pub fn dump(definition: &Definition) -> String {
    let mut out = String::new();
    for (at, vertex) in definition.vertices().iter().enumerate() {
        let inputs: Vec<String> = vertex.inputs.iter().map(|i| format!("v{}", i.0)).collect();
        let flags = match vertex.meta.freshness {
            Freshness::Any => String::new(),
            Freshness::MaxAge(age) => format!(" max-age={}s", age.as_secs()),
            Freshness::Build => " ignore-cache".to_owned(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "v{at} {}({}){flags} {}",
            vertex.op.kind(),
            inputs.join(", "),
            vertex.meta.name
        );
    }
    out
}
