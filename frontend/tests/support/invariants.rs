//! What holds for every text, right or wrong. The fuzz targets check it too.

use frontend::{Diagnostic, LowerError, Lowered, Parsed, lower, parse};

use super::{Images, options};

/// Parses, prints and lowers a text, and checks what comes out.
pub(crate) fn check(text: &str) {
    let parsed = parse("Dockerfile", text);
    inside(text, &parsed.diagnostics);
    for instruction in &parsed.dockerfile.instructions {
        for span in [instruction.span, instruction.line_span, instruction.keyword.span] {
            let found = text.get(span.start as usize..span.end as usize);
            assert!(found.is_some(), "{instruction:?}");
        }
    }
    if !parsed.has_errors() {
        printed_is_the_same(&parsed);
    }
    let stages = parsed.dockerfile.stages().len();
    let first = (stages > 1).then(|| "0".to_owned());
    for target in [None, first.clone()].into_iter().take(1 + usize::from(first.is_some())) {
        let options = frontend::LowerOptions { target, ..options() };
        match lower(&parsed, &options, &Images::default()) {
            Ok(lowered) => whole(text, &lowered),
            Err(LowerError::Diagnostics(all)) => {
                inside(text, &all);
                assert!(all.iter().any(Diagnostic::is_error), "{all:?}");
            }
            Err(_) => {}
        }
    }
}

/// Remarks are about places in the text.
fn inside(text: &str, diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        let (start, end) = (diagnostic.span.start as usize, diagnostic.span.end as usize);
        assert!(start <= end && end <= text.len(), "{diagnostic:?}");
    }
}

fn printed_is_the_same(parsed: &Parsed) {
    let printed = parsed.dockerfile.to_string();
    let again = parse("Dockerfile", &printed);
    assert!(!again.has_errors(), "{printed:?}: {:?}", again.diagnostics);
    assert!(
        parsed.dockerfile.same_as(&again.dockerfile),
        "{printed:?}\n{:?}\n{:?}",
        parsed.dockerfile,
        again.dockerfile
    );
}

/// Every layer has a history entry, and every vertex stands in the text.
fn whole(text: &str, lowered: &Lowered) {
    inside(text, &lowered.warnings);
    assert_eq!(lowered.history.len(), lowered.config.history.len());
    let layers = lowered.config.history.iter().filter(|h| !h.empty_layer).count();
    let below = lowered.base.as_ref().map_or(0, |b| b.config.rootfs.diff_ids.len());
    assert_eq!(layers, lowered.layers.len() + below);
    for vertex in lowered.definition.vertices() {
        if let Some((file, span)) = vertex.meta.span {
            let text = &lowered.definition.source_map.files[file].text;
            assert!(span.start <= span.end && span.end as usize <= text.len(), "{vertex:?}");
        }
    }
}
