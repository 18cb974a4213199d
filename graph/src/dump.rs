//! A definition as text, for tests and for people.

use std::fmt::Write;

use crate::Definition;

/// One line per vertex: its position, kind, inputs and name.
pub fn dump(definition: &Definition) -> String {
    let mut out = String::new();
    for (at, vertex) in definition.vertices().iter().enumerate() {
        let inputs: Vec<String> = vertex.inputs.iter().map(|i| format!("v{}", i.0)).collect();
        let flags = if vertex.meta.ignore_cache { " ignore-cache" } else { "" };
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
