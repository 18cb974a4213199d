//! The small sizes run, whatever time they take.

use benches::cases::Size;
use benches::part::{PARTS, Part};
use benches::{language, measure};

#[test]
fn privileged_every_case_runs() {
    tests::require_root!();
    let mut parts: Vec<Part> = PARTS.iter().map(|(_, make)| make(Size::Small)).collect();
    let found = measure::interleaved(&mut parts, 2);
    let table = measure::table(Size::Small, 2, &parts, &found);
    let mut lines = table.lines();
    for measurement in &found {
        assert_eq!(measurement.times.len(), 2, "{table}");
        assert!(lines.any(|line| line.trim_start().starts_with(&measurement.name)), "{table}");
    }
    let large = ["1,000 steps", "20,000", "100,000", "10 MB", "32 M"];
    assert!(!large.iter().any(|size| table.contains(size)), "told larger than it is: {table}");
}

#[test]
fn dockerfiles_of_every_shape_are_read() {
    let mut parts = [language::part(Size::Small)];
    let found = measure::interleaved(&mut parts, 2);
    assert!(found.iter().all(|m| m.times.len() == 2 && m.target.is_some()));
}
